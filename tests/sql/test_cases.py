"""Our engine's answers to the cases are real Flink's, however rows are cut into ticks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit_sql.errors import SqlError
from tests.sql import canonical, corpus, engine

RECORDED: Final[dict[str, Any]] = json.loads(corpus.FINGERPRINTS.read_text(encoding="utf-8"))["cases"]
CASES: Final = {case.name: case for case in corpus.cases()}

DIFFERENT: Final[dict[str, str]] = {
    "q10_partitioned_files": "Flink leaves an empty file beside the others; its line is in the answer",
    "q12_windows_of_arrival": "Flink leaves windows of processing time open at the end; ours close",
    "aggregates_statistics": "DECIMAL variances are exact to about 15 digits",
    "cast_text_to_number": "Flink rounds 99999999.995 to a DECIMAL(10, 2) of 11 digits",
    "literals": "intervals are named by their families",
    "time_now": "the clock is the rows' arrival here, so that a replay repeats itself",
}
"""Where we answer otherwise, and why. Each must differ, so that a name that no longer belongs here is found."""

RUN: Final[dict[str, str]] = {
    "aggregates_any_every": "an approximate count of distinct values, by DuckDB's sketch",
    "cast_timestamp_to_time_before_1970": "Flink fails on an hour below zero",
    "greatest_of_decimals": "Flink fails on its own NullPointerException",
    "q13_lookup_join": "files are reference tables here",
}
"""What Flink refuses and we run, and why."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def differences(case: corpus.Case, data: Path, out: Path, rows_per_tick: int) -> list[str]:
    """What of our answer is not Flink's."""
    want = RECORDED[case.name]
    types = [column["type"].replace(" *ROWTIME*", "").replace(" *PROCTIME*", "") for column in want["columns"]]
    if case.results:
        lines = engine.write(case, data, out, rows_per_tick=rows_per_tick)
        same = canonical.fingerprint(lines, types) == (want["rows"], want["hash"])
        return [] if same else [f"{len(lines)} lines, Flink wrote {want['rows']}"]
    answer = engine.run(case, data, rows_per_tick=rows_per_tick)
    found = []
    if answer.types != types:
        found.append(f"types {answer.types}, Flink's are {types}")
    names = [column.name for column in answer.columns]
    if names != [column["name"] for column in want["columns"]]:
        found.append(f"names {names}")
    if canonical.fingerprint(answer.rows, types) != (want["rows"], want["hash"]):
        hashes = canonical.column_hashes(answer.rows, types)
        columns = [each["name"] for each, mine in zip(want["columns"], hashes, strict=True) if each["hash"] != mine]
        found.append(f"{len(answer.rows)} rows, Flink's are {want['rows']}; different columns: {columns}")
    return found


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.refused])
def test_an_answer_is_flinks_at_every_size_of_tick(
    name: str, cache: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Columns, types and rows. `--sql-ticks 1,1000,20000` tries several sizes."""
    case = CASES[name]
    case.prepare(cache, tmp_path / "data")
    for rows_per_tick in map(int, pytestconfig.getoption("--sql-ticks").split(",")):
        try:
            found = differences(case, tmp_path / "data", tmp_path / f"out{rows_per_tick}", rows_per_tick)
        except SqlError as error:
            found = [str(error)]
        if name in DIFFERENT:
            assert found, f"{name} is as Flink's now: take it out of DIFFERENT"
        else:
            assert not found


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.refused])
def test_what_flink_refuses_is_refused(name: str, cache: Path, tmp_path: Path) -> None:
    """By an error for whoever wrote it, never by a wrong row."""
    case = CASES[name]
    case.prepare(cache, tmp_path / "data")
    try:
        if case.results:
            engine.write(case, tmp_path / "data", tmp_path / "out")
        else:
            engine.run(case, tmp_path / "data")
    except SqlError:
        assert name not in RUN
    else:
        assert name in RUN, "Flink refuses it; we ran it"
