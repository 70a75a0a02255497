"""Asks real Flink what scalar and aggregate expressions are: type and value of each, or why not.

    .venv-flink/bin/python tests/sql/flink/ask.py QUESTIONS.json ANSWERS.json

QUESTIONS: {"columns": {"i": "INT", ..}, "rows": [[1, ..], ..], "expressions": ["i + 1", ..], "settings": {..}}. Rows
are read from a file, so that nothing is folded while planning; values are as Flink's JSON format reads them. ANSWERS: a
list of {"expression", "type", "values"}, a value for each row, as RowText.java writes it; {"expression", "error"} where
Flink refuses or fails. An aggregate is asked over all rows: {"aggregates": ["SUM(i)", ..]}.

    .venv-flink/bin/python tests/sql/flink/ask.py --again tests/sql/expressions.json

asks all of a recorded file again ({"sets": [{questions .., "answers": [..]}]}) and writes the answers into it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.sql.flink.record import Flink, _message, columns_of

GROUP = 40


def run(flink: Flink, session: Any, expressions: list[str]) -> list[dict[str, object]]:
    """Several expressions in one job; those that fail are found by halves."""
    listed = ", ".join(f"{text} AS c{place}" for place, text in enumerate(expressions))
    try:
        result = session.execute_sql(f"SELECT {listed} FROM t")
        types = [each for _, each in columns_of(result)]
        with_kinds = flink._dump.apply(result._j_table_result.collect())
    except Exception as error:
        if len(expressions) == 1:
            return [{"expression": expressions[0], "error": _message(error)}]
        half = len(expressions) // 2
        return run(flink, session, expressions[:half]) + run(flink, session, expressions[half:])
    rows = [json.loads(line)[1:] for line in with_kinds.splitlines()]
    return [
        {"expression": text, "type": types[place], "values": [row[place] for row in rows]}
        for place, text in enumerate(expressions)
    ]


def ask(questions: dict[str, Any], flink: Flink | None = None) -> list[dict[str, object]]:
    """Answers in the order of the questions, aggregates last."""
    own = flink or Flink()
    with tempfile.TemporaryDirectory() as folder:
        names = list(questions["columns"])
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in questions["rows"]]
        (Path(folder) / "rows.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
        session = own.session()
        for key, value in questions.get("settings", {}).items():
            session.get_config().set(key, value)
        columns = ", ".join(f"`{name}` {of}" for name, of in questions["columns"].items())
        session.execute_sql(
            f"CREATE TABLE t ({columns}) WITH "
            f"('connector' = 'filesystem', 'path' = '{folder}/rows.json', 'format' = 'json')"
        )
        found: list[dict[str, object]] = []
        for asked in (questions.get("expressions", []), questions.get("aggregates", [])):
            for start in range(0, len(asked), GROUP):
                answers = run(own, session, asked[start : start + GROUP])
                for answer in answers:
                    if asked is not questions.get("expressions") and "values" in answer:
                        answer["values"] = answer["values"][-1:]  # type: ignore[index]  # the last of a changelog
                found += answers
    if flink is None:
        own.close()
    return found


def lines_of(answers: list[dict[str, object]]) -> str:
    """A JSON list with one answer a line."""
    return "[" + ",\n".join(json.dumps(each, ensure_ascii=False) for each in answers) + "]"


def again(path: Path) -> None:
    """Records anew what a file has asked before."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    flink = Flink()
    for each in recorded["sets"]:
        expressions = [answer["expression"] for answer in each["answers"]]
        each["answers"] = ask(each | {each["kind"]: expressions}, flink)
    recorded["flink"] = flink.version
    flink.close()
    write(path, recorded)


def write(path: Path, recorded: dict[str, Any]) -> None:
    """One answer a line, so that a difference shows which."""
    sets = []
    for each in recorded["sets"]:
        head = json.dumps({key: value for key, value in each.items() if key != "answers"}, ensure_ascii=False)
        sets.append(f'{head[:-1]}, "answers": {lines_of(each["answers"])}}}')
    text = f'{{"flink": {json.dumps(recorded["flink"])}, "sets": [\n' + ",\n".join(sets) + "]}\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--again":
        again(Path(sys.argv[2]))
    else:
        answers = ask(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
        # Not to stdout: Java prints code there that it could not compile.
        Path(sys.argv[2]).write_text(lines_of(answers) + "\n", encoding="utf-8")
