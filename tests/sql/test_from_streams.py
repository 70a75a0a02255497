"""Cases whose answers do not depend on the order among shards are the same from a stream of several shards."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

import streamkit
from streamkit.kit.backend import Backend
from streamkit_sql.queries import compiled, tables_of
from streamkit_sql.runtime.driver import Driver
from streamkit_sql.runtime.duck import connect
from streamkit_sql.runtime.results import to_arrow
from streamkit_sql.session import Session
from streamkit_sql.tables.streams import StreamSource
from tests.sql import canonical, corpus, engine
from tests.sql.test_cases import DIFFERENT

RECORDED: Final[dict[str, Any]] = json.loads(corpus.FINGERPRINTS.read_text(encoding="utf-8"))["cases"]
SHARDS: Final = 4
ROWS_PER_TICK: Final = 997
QUICK: Final = ("window_t", "window_h", "window_s", "window_c", "group_by")
"""Parts of names of the cases that are run by default; `--sql-streams` runs all that fit."""


WAITED_MS: Final = {"orders": 2_000, "readings": 1_000, "nexmark": 4_000, "rates": 0}
"""How far behind the newest row the tables' watermarks are: rows that are not later than that are never late, also
where several shards are waited for."""
_BY_ARRIVAL: Final = re.compile(
    r"PROCTIME|_VALUE|ROW_NUMBER|RANK|LISTAGG|JSON_|ARRAY_AGG|COLLECT|LIMIT|OVER|CURRENT_WATERMARK", re.IGNORECASE
)


def fits() -> list[str]:
    """Windows and groups over one table of which no row is late, and for which the order of arrival is nothing."""
    found = []
    for case in corpus.cases():
        if case.refused or case.results or len(case.data) != 1 or case.name in DIFFERENT or "late" in case.name:
            continue
        if not case.name.startswith(("window_", "group_", "aggregates_", "q5", "q7", "q15")):
            continue
        kind, *settings = case.data[0].split()
        options = dict(each.split("=", 1) for each in settings)
        is_own = len(re.findall("WATERMARK FOR", case.script)) > (kind in WAITED_MS)
        waited_ms = 0 if is_own else WAITED_MS.get(kind, 0)
        if int(options.get("disorder_ms", "0")) <= waited_ms and not _BY_ARRIVAL.search(case.script):
            found.append(case.name)
    return found


async def answer(case: corpus.Case, data: Path, backend: Backend, stream: str) -> engine.Answer:
    """The case's answer, its table's rows read from the stream."""
    session = Session()
    *before, query = case.statements(data)
    for statement in before:
        session.run(statement)
    script = session.run(query)
    database = connect()
    try:
        program = compiled(session, script.outputs)
        sources = {
            name: StreamSource(backend, stream, "TRIM_HORIZON", is_bounded=True) for name in session.catalog.tables
        }
        tables = tables_of(session, program, database, backend, sources=sources)
        driver = Driver(program, database, tables, rows_per_tick=ROWS_PER_TICK)
        counted: Counter[Any] = Counter()
        columns = script.outputs[0].columns
        async for results in driver.run():
            for emitted in results:
                table = to_arrow(emitted.rows, columns)
                weights = table.column(table.num_columns - 1).to_pylist() if table.num_columns > len(columns) else None
                engine._count(counted, table.select(range(len(columns))).columns, columns, weights)
        rows = [engine._thawed(row) for row, count in counted.items() for _ in range(count)]
        return engine.Answer(columns, rows, True)
    finally:
        database.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--sql-streams")
        metafunc.parametrize("name", [name for name in fits() if is_all or any(part in name for part in QUICK)])


def test_an_answer_from_four_shards_is_flinks(name: str, cache: Path, tmp_path: Path) -> None:
    """Rows are spread over shards by a key of their own, and read side by side."""
    case = corpus.read_case(corpus.CASES / f"{name}.sql")
    case.prepare(cache, tmp_path / "data")
    (path,) = (tmp_path / "data").iterdir()
    lines = path.read_bytes().splitlines()

    async def run() -> engine.Answer:
        async with streamkit.open(tmp_path / "streams") as kit:
            await kit.create_stream("rows", shards=SHARDS)
            await kit.put_many("rows", [(str(place * 7 % 101), line) for place, line in enumerate(lines)])
            return await answer(case, tmp_path / "data", kit.backend, "rows")

    found = asyncio.run(run())
    want = RECORDED[name]
    types = [column["type"].replace(" *ROWTIME*", "").replace(" *PROCTIME*", "") for column in want["columns"]]
    assert canonical.fingerprint(found.rows, types) == (want["rows"], want["hash"])
