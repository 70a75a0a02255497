"""Asks real Flink every case of the corpus and writes its answers to `fingerprints.json`.

    .venv-flink/bin/python tests/sql/flink/record.py                 all cases
    .venv-flink/bin/python tests/sql/flink/record.py tumble q5       those whose names contain one of the words
    .venv-flink/bin/python tests/sql/flink/record.py --check ...     write nothing, tell what differs
    .venv-flink/bin/python tests/sql/flink/record.py --rows DIR ...  all rows too, canonical and sorted, DIR/CASE.txt

Cases run in streaming mode at parallelism 1 in one process. Watermarks are made after every row
(`pipeline.auto-watermark-interval` = 0), so which rows are late depends on the data alone; the end of a file closes all
windows. What a query answers is its changelog, applied: the rows that are left at the end.

A case in `cases/refused/` must be refused and any other must not; where that is not so the exit code is 1, and
`--move` puts the file where Flink says it belongs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tests.sql import canonical, corpus  # noqa: E402

SHOWN = 5
PARALLEL_SLOTS = 4
_SET = re.compile(r"(?:\s*--[^\n]*\n)*\s*SET\s+'([^']+)'\s*=\s*'([^']*)'\s*$", re.IGNORECASE)
_STATEMENT_SET = re.compile(r"(?:\s*--[^\n]*\n)*\s*EXECUTE\b", re.IGNORECASE)
_CHANGES = re.compile(r"changelogMode=\[([^\]]*)\]")
_CAUSE = re.compile(r"^(?:Caused by: |: )?(?:[a-z]\w*\.)+([A-Z][\w$]*)(?:: (.*))?$", re.MULTILINE)

SETTINGS = {
    "parallelism.default": "1",
    "pipeline.auto-watermark-interval": "0 ms",
    "table.local-time-zone": "UTC",
    "restart-strategy.type": "disable",
}


def _value(value: Any) -> object:
    """The Python value of what RowText.java wrote."""
    if not isinstance(value, list):
        return value
    tag, *rest = value
    match tag:
        case "row":
            return {str(place): _value(inner) for place, inner in enumerate(rest)}
        case "array":
            return [_value(inner) for inner in rest]
        case "map":
            return [(_value(key), _value(inner)) for key, inner in rest]
    text = rest[0]
    match tag:
        case "double":
            return float(text)
        case "float":
            return struct.unpack("f", struct.pack("f", float(text)))[0]
        case "decimal":
            return Decimal(text)
        case "timestamp":
            return datetime.datetime.fromisoformat(text)
        case "instant":
            return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
        case "date":
            return datetime.date.fromisoformat(text)
        case "time":
            return datetime.time.fromisoformat(text)
        case "seconds":
            return datetime.timedelta(milliseconds=int(Decimal(text) * 1000))
        case "months":
            return {"months": int(text)}
        case "bytes":
            return bytes.fromhex(text)
    raise TypeError(f"no Python value for Flink's {tag}: {text}")


class RefusedError(Exception):
    """Flink does not take a statement: `when` is plan or run, the message is Flink's."""

    def __init__(self, when: str, message: str) -> None:
        super().__init__(message)
        self.when = when


def _message(error: Exception) -> str:
    """What Flink means by this: the innermost cause that says something."""
    causes: list[tuple[str, str]] = _CAUSE.findall(str(error))
    name, message = causes[-1] if causes else ("", str(error).strip().splitlines()[0])
    return re.sub(r"(/[\w.-]+){2,}/", ".../", message or name).removesuffix(" The physical plan is:")[:400]


class Flink:
    """One Java process with one small cluster in it, for all cases."""

    def __init__(self) -> None:
        from pyflink.java_gateway import get_gateway  # type: ignore[import-not-found]
        from pyflink.version import __version__  # type: ignore[import-not-found]

        self.version: str = __version__
        self._gateway = get_gateway()
        java = self._gateway.jvm
        settings = java.org.apache.flink.configuration.Configuration()
        settings.setString("rest.port", "0")
        settings.setString("rest.address", "localhost")
        settings.setString("taskmanager.numberOfTaskSlots", str(PARALLEL_SLOTS))
        builder = java.org.apache.flink.runtime.minicluster.MiniClusterConfiguration.Builder()
        builder.setConfiguration(settings).setNumTaskManagers(1).setNumSlotsPerTaskManager(PARALLEL_SLOTS)
        self._cluster = java.org.apache.flink.runtime.minicluster.MiniCluster(builder.build())
        self._cluster.start()
        self._address = self._cluster.getRestAddress().get()
        code = (Path(__file__).parent / "RowText.java").read_text(encoding="utf-8")
        compile_class = java.org.apache.flink.table.runtime.generated.CompileUtils.compile
        compiled = compile_class(java.Thread.currentThread().getContextClassLoader(), "RowText", code)
        no_types = self._gateway.new_array(java.Class, 0)
        self._dump = compiled.getDeclaredConstructor(no_types).newInstance(self._gateway.new_array(java.Object, 0))

    def session(self) -> Any:
        """A new TableEnvironment, which knows no table yet."""
        from pyflink.common import Configuration  # type: ignore[import-not-found]
        from pyflink.table import EnvironmentSettings, TableEnvironment  # type: ignore[import-not-found]

        settings = Configuration()
        for key, value in SETTINGS.items():
            settings.set_string(key, value)
        settings.set_string("execution.target", "remote")
        settings.set_string("rest.address", self._address.getHost())
        settings.set_string("rest.port", str(self._address.getPort()))
        settings.set_string("python.files", str(Path(__file__).parent / "functions.py"))
        settings.set_string("python.executable", sys.executable)
        settings.set_string("python.client.executable", sys.executable)
        builder = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(settings)
        return TableEnvironment.create(builder.build())

    def rows(self, result: Any) -> list[tuple[str, list[object]]]:
        """All changes of a query's result, in order."""
        with contextlib.closing(result._j_table_result.collect()) as iterator:
            text = self._dump.apply(iterator)
        changes = map(json.loads, text.rstrip("\n").split("\n") if text else ())
        return [(kind, [_value(value) for value in values]) for kind, *values in changes]

    def close(self) -> None:
        """Ends the cluster and the Java process."""
        self._cluster.close()
        self._gateway.shutdown()


def applied(
    changes: Sequence[tuple[str, list[object]]], columns: Sequence[tuple[str, str]], key: Sequence[str] = ()
) -> list[tuple[str, list[object]]]:
    """The rows (text, values) that are left when all changes were applied; a change must find what it takes away.

    Where Flink updates without saying what it takes away, the columns of the key must be known.
    """
    texts = canonical.row_texts([row for _, row in changes], [flink_type for _, flink_type in columns])
    kinds = Counter(kind for kind, _ in changes)
    if kinds["+U"] != kinds["-U"]:
        names = [name for name, _ in columns]
        assert key, "updates by key; say `-- key:`"
        places = [names.index(name) for name in key]
        assert not kinds["-D"]
        by_key = {
            repr([row[place] for place in places]): (text, row) for (_, row), text in zip(changes, texts, strict=True)
        }
        return list(by_key.values())
    left: Counter[str] = Counter()
    values: dict[str, list[object]] = {}
    for (kind, row), text in zip(changes, texts, strict=True):
        left[text] += 1 if kind in ("+I", "+U") else -1
        assert left[text] >= 0, f"{kind} of a row that is not there: {text}"
        values[text] = row
    return [(text, values[text]) for text, count in left.items() for _ in range(count)]


def columns_of(result: Any) -> list[tuple[str, str]]:
    """The names and the Flink types of the columns of a TableResult or a Table."""
    schema = (result._j_table if hasattr(result, "_j_table") else result._j_table_result).getResolvedSchema()
    columns = schema.getColumns()
    return [
        (columns.get(place).getName(), columns.get(place).getDataType().getLogicalType().asSummaryString())
        for place in range(columns.size())
    ]


def lines_of(out: Path, tables: Sequence[str]) -> list[list[object]]:
    """The lines of the files that a script wrote, each with its table's name."""
    return [
        [table, line]
        for table in tables
        for path in sorted((out / table).rglob("*"))
        if path.is_file() and not path.name.endswith(".crc")
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    ]


def ask(flink: Flink, case: corpus.Case, data: Path, out: Path) -> tuple[list[tuple[str, str]], str | None, Any]:
    """The columns, the plan (None of a statement that has none) and the changes of a case's answer."""
    session = flink.session()
    *before, last = case.statements(data, out)
    plan: list[str] = []
    when = "plan"
    try:
        for statement in before:
            if setting := _SET.match(statement):
                session.get_config().set(*setting.groups())
            else:
                session.execute_sql(statement)
        if not _STATEMENT_SET.match(last):
            plan = explained(session, last)
        result = session.execute_sql(last)
        when = "run"
        if case.results:
            result.wait()
            changes = [("+I", row) for row in lines_of(out, case.results)]
            return [("table", "STRING"), ("line", "STRING")], None, changes
        return columns_of(result), plan[0] if plan else None, flink.rows(result)
    except Exception as error:
        if "py4j" not in type(error).__module__ and "pyflink" not in type(error).__module__:
            raise
        raise RefusedError(when, _message(error)) from error


def explained(session: Any, statement: str) -> list[str]:
    """The changes that a query's last step makes: I, or I,UB,UA,D. Raises where Flink cannot plan it."""
    from pyflink.table import ExplainDetail

    return _CHANGES.findall(session.explain_sql(statement, ExplainDetail.CHANGELOG_MODE))


def record(flink: Flink, case: corpus.Case, cache: Path, scratch: Path, rows_to: Path | None) -> dict[str, object]:
    """The entry of a case in fingerprints.json."""
    sums = case.prepare(cache, scratch / case.name / "data")
    entry: dict[str, object] = {"title": case.title, "data": list(case.data), "data_sha256": sums}
    try:
        columns, changes_made, changes = ask(flink, case, scratch / case.name / "data", scratch / case.name / "out")
    except RefusedError as refusal:
        return entry | {"refused": {"when": refusal.when, "message": str(refusal)}}
    types = [flink_type for _, flink_type in columns]
    left = sorted(applied(changes, columns, case.key), key=lambda pair: pair[0])
    texts = [text for text, _ in left]
    hashes = canonical.column_hashes([row for _, row in left], types)
    if rows_to is not None:
        rows_to.mkdir(parents=True, exist_ok=True)
        (rows_to / f"{case.name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return entry | {
        "columns": [
            {"name": name, "type": flink_type, "hash": column_hash}
            for (name, flink_type), column_hash in zip(columns, hashes, strict=True)
        ],
        "changes": changes_made,
        "append_only": all(kind == "+I" for kind, _ in changes),
        "rows": len(texts),
        "hash": canonical.hash_of(texts),
        "first": texts[:SHOWN],
    }


def chosen(words: Sequence[str]) -> list[corpus.Case]:
    """The cases whose names contain one of the words; all of no words."""
    return [case for case in corpus.cases() if not words or any(word in case.name for word in words)]


def main() -> int:
    """Records, checks or shows; the exit code is 1 where an answer is not what the corpus says."""
    parser = argparse.ArgumentParser(description="asks Flink the cases of tests/sql/cases")
    parser.add_argument("words", nargs="*", help="parts of names of cases (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    parser.add_argument("--rows", type=Path, help="a folder for all rows of each answer")
    parser.add_argument("--move", action="store_true", help="move files that Flink refuses to cases/refused, and back")
    options = parser.parse_args()
    known = json.loads(corpus.FINGERPRINTS.read_text("utf-8")) if corpus.FINGERPRINTS.exists() else {"cases": {}}
    recorded: dict[str, Any] = {}
    flink = Flink()
    wrong = 0
    cache = Path(tempfile.gettempdir()) / "streamkit-sql-data"
    with tempfile.TemporaryDirectory(prefix="streamkit-flink-") as scratch, contextlib.closing(flink):
        for case in chosen(options.words):
            began = time.monotonic()
            entry = record(flink, case, cache, Path(scratch), options.rows)
            recorded[case.name] = entry
            wrong += told(case, entry, known["cases"].get(case.name), time.monotonic() - began, options)
    if not options.check:
        names = {case.name for case in corpus.cases()}
        merged = {name: entry for name, entry in (known["cases"] | recorded).items() if name in names}
        written = {"flink": flink.version, "settings": SETTINGS, "cases": dict(sorted(merged.items()))}
        corpus.FINGERPRINTS.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if wrong else 0


def told(case: corpus.Case, entry: dict[str, Any], before: object, seconds: float, options: argparse.Namespace) -> int:
    """Prints a line about a case; answers 1 where something is not as it should be."""
    refusal = entry.get("refused")
    said = f"refused ({refusal['when']}): {refusal['message']}" if refusal else f"{entry['rows']} rows"
    marks = []
    if bool(refusal) != case.refused:
        marks.append("IN THE WRONG FOLDER")
        if options.move:
            source = (corpus.REFUSED if case.refused else corpus.CASES) / f"{case.name}.sql"
            corpus.REFUSED.mkdir(exist_ok=True)
            source.rename((corpus.REFUSED if refusal else corpus.CASES) / source.name)
    if options.check and before != entry:
        marks.append("DIFFERS FROM WHAT IS RECORDED")
    if not refusal and (entry["rows"] == 0) != case.empty:
        marks.append("EMPTY")
    print(f"{seconds:6.2f} s  {case.name}: {said}", *marks, flush=True)
    return 1 if marks else 0


if __name__ == "__main__":
    sys.exit(main())
