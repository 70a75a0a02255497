"""Asks Flink's format classes again what tests/sql/format_answers.json has recorded, and writes the answers into it.

    .venv-flink/bin/python tests/sql/flink/format_answers.py

Needs a Java compiler beside the Java that Flink runs on. What is asked is in the file itself: `values` for each type of
`accepted`, and the keys of the groups of lines and documents.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ANSWERS = HERE.parent / "format_answers.json"
PAIR = "a INT, b STRING"


def ask(questions: list[tuple[str, str, str]]) -> list[str | None]:
    """Rows as texts, None where Flink fails, of (way, fields, payload)."""
    pyflink = import_module("pyflink")  # in another environment than the type checker's

    jars = ":".join(str(jar) for jar in sorted((Path(str(pyflink.__file__)).parent / "lib").glob("*.jar")))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["javac", "-cp", jars, "-d", folder, HERE / "FormatAnswers.java"], check=True)
        lines = "".join("\t".join(question) + "\n" for question in questions)
        command = ["java", "-cp", f"{folder}:{jars}", "FormatAnswers"]
        done = subprocess.run(command, input=lines.encode(), capture_output=True, check=True)
    answers = done.stdout.decode().splitlines()
    assert len(answers) == len(questions)
    return [json.loads('"' + answer[1:].replace('"', '\\"') + '"') if answer[0] == "=" else None for answer in answers]


def inner(row: str | None) -> str | None:
    """A row without its brackets."""
    return None if row is None or not row.startswith("(") else row[1:-3]


def main() -> None:
    recorded: dict[str, Any] = json.loads(ANSWERS.read_text(encoding="utf-8"))
    for way, group in recorded.items():
        if way in ("json SQL", "json ISO-8601", "csv"):
            pairs = [(of, value) for of in group["accepted"] for value in group["values"]]
            payloads = [value if way == "csv" else f'{{"a":{value}}}' for _, value in pairs]
            answers = ask([(way, f"a {of}", payload) for (of, _), payload in zip(pairs, payloads, strict=True)])
            group["accepted"] = {of: {} for of in group["accepted"]}
            for (of, value), answer in zip(pairs, answers, strict=True):
                if answer is not None:
                    group["accepted"][of][value] = inner(answer)
        elif way == "json documents":
            answers = ask([("json SQL", "a INT, b INT", document) for document in group])
            recorded[way] = dict(zip(group, answers, strict=True))
        elif way != "about":
            asked = "csv ignoring errors" if way.endswith("errors") else "csv"
            answers = ask([(asked, PAIR, line) for line in group])
            recorded[way] = dict(zip(group, map(inner, answers), strict=True))
    ANSWERS.write_text(json.dumps(recorded, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
