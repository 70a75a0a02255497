"""Whatever is written as a script or comes as a payload: an error that says where, or rows; never a crash."""

from __future__ import annotations

import asyncio
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit_sql.errors import SqlError, ValueProblem
from streamkit_sql.queries import run_bounded
from streamkit_sql.session import Session
from tests.sql import corpus, datasets

_TOKEN = re.compile(r"\s+|--[^\n]*|'(?:[^']|'')*'|`[^`]*`|\w+|<>|<=|>=|\|\||.", re.DOTALL)
_ROWS = 20


@cache
def scripts() -> list[corpus.Case]:
    """Cases with a query over data that is quickly made."""
    return [case for case in corpus.cases() if not case.results and not any("nexmark" in line for line in case.data)]


@cache
def words() -> list[str]:
    """What stands in scripts: to be put where it does not belong."""
    found = {token for case in scripts() for token in _TOKEN.findall(case.script) if not token.startswith("--")}
    return sorted(found)


def run(statements: list[str]) -> int:
    """How many rows a script gives."""

    async def counted() -> int:
        session = Session()
        count = 0
        for statement in statements:
            script = session.run(statement)
            if script.outputs and script.outputs[0].target is None:
                async for emitted in run_bounded(session, script.outputs):
                    count += emitted.rows.num_rows
        return count

    return asyncio.run(counted())


def problem_of(statements: list[str]) -> tuple[SqlError | None, int]:
    """What is said of a script, or how many rows it gives; anything else that is raised is a fault of ours."""
    try:
        return None, run(statements)
    except SqlError as problem:
        return problem, 0


def few(path: Path) -> None:
    """Leaves the first lines of each file."""
    for each in path.iterdir():
        lines = each.read_bytes().splitlines(keepends=True)[:_ROWS]
        each.unlink()  # it may be a link
        each.write_bytes(b"".join(lines))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2**16), seed=st.integers(0, 2**32), changes=st.integers(1, 3))
def test_a_script_that_was_damaged_says_where_or_runs(folders: Path, place: int, seed: int, changes: int) -> None:
    """Tokens left out, doubled, put elsewhere, or taken from other scripts."""
    case = scripts()[place % len(scripts())]
    data = folders / case.name
    if not data.exists():
        case.prepare(folders / "cache", data)
        few(data)
    *before, query = case.statements(data)
    draw = random.Random(seed)
    tokens = [token for token in _TOKEN.findall(query) if not token.startswith("--")]
    for _ in range(changes):
        at = draw.randrange(len(tokens))
        match draw.randrange(4):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, tokens[at])
            case 2:
                other = draw.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                tokens[at] = draw.choice(words())
        tokens = tokens or ["SELECT"]
    problem = problem_of([*before, "".join(tokens)])[0]
    # A value has no place in the script; everything else that is wrong has one.
    assert problem is None or isinstance(problem, ValueProblem) or str(problem).startswith("line ")


def _damaged(line: bytes, draw: random.Random) -> bytes:
    data = bytearray(line)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(4):
            case 0:
                del data[at : at + draw.randint(1, 5)]
            case 1:
                data[at:at] = draw.choice([b"{", b"]", b'"', b"null", b"1e999", b"\\ud800", b"\xff", b"-", b"0", b","])
            case 2:
                data[at : at + 1] = draw.randbytes(1)
            case _:
                other = draw.randrange(len(data) + 1)
                data[at:at] = data[other : other + draw.randint(1, 30)]
    return bytes(data).replace(b"\n", b" ")


@pytest.mark.parametrize("option", ["", ", 'json.ignore-parse-errors' = 'true'"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_payload_that_was_damaged_is_rows_or_an_error_of_its_row(folders: Path, option: str, seed: int) -> None:
    """With 'ignore-parse-errors' it is always rows, at most as many as there were payloads, if no time is needed."""
    draw = random.Random(seed)
    table = (corpus.TABLES / "orders.sql").read_text(encoding="utf-8")
    lines = datasets.make("orders", {"rows": "5"}).splitlines()
    damaged = [_damaged(line, draw) for line in lines]
    path = folders / "payloads.json"
    path.write_bytes(b"\n".join(damaged))
    create = table.replace("${DATA}/orders.json", str(path)).replace("'json')", f"'json'{option})")
    if option:
        create = re.sub(r",\s*WATERMARK FOR [^\n]*", "", create)
    statements: list[Any] = [*corpus.statements_of(create), "SELECT * FROM orders"]
    problem, count = problem_of(statements)
    assert count <= len(lines)
    assert problem is None or not option
