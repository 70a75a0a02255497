"""An application that is stopped and started again, also with another script: no row is lost, none is there twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import streamkit
from streamkit.kit.kit import Kit
from streamkit.model.errors import UsageError
from streamkit_sql.application import Application

Work = Callable[[Kit], Awaitable[None]]


def rows_in(folder: Path) -> list[int]:
    paths = sorted(folder.rglob("*")) if folder.exists() else []
    return sorted(json.loads(line)["n"] for path in paths if path.is_file() for line in path.read_text().splitlines())


def table(stream: str, start: str) -> str:
    options = f"'connector' = 'kinesis', 'stream' = '{stream}', 'format' = 'json', 'scan.stream.initpos' = '{start}'"
    return f"CREATE TABLE {stream} (n BIGINT) WITH ({options});\n"


def sink(folder: Path, name: str = "o") -> str:
    path = folder / name
    return f"CREATE TABLE {name} (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json');\n"


async def put(kit: Kit, stream: str, *numbers: int) -> None:
    await kit.put_many(stream, [(f"k{number}", json.dumps({"n": number})) for number in numbers])


async def run(kit: Kit, text: str, state: Path, *, until: Callable[[Application], bool]) -> None:
    """Until a condition holds that is looked at after a commit."""
    stop = asyncio.Event()
    application = Application(kit.backend, text, state)
    running = asyncio.ensure_future(application.run(stop))
    for _ in range(1_000):
        if running.done() or (application.checkpoint_ms is not None and until(application)):
            break
        await asyncio.sleep(0.02)
    stop.set()
    await running


def has_begun(application: Application) -> bool:
    return application.checkpoint_ms is not None


def story(tmp_path: Path, tell: Work, *streams: str) -> None:
    async def whole() -> None:
        async with streamkit.open(tmp_path / "data") as kit:
            for stream in streams:
                await kit.create_stream(stream)
            await tell(kit)

    asyncio.run(whole())


def test_from_the_newest_on_means_from_when_it_first_ran(tmp_path: Path) -> None:
    """What comes while it is stopped is read by the next run, though it had read nothing before; so are shards that
    came to be meanwhile."""
    script = table("a", "LATEST") + sink(tmp_path) + "INSERT INTO o SELECT n FROM a;"

    async def tell(kit: Kit) -> None:
        await put(kit, "a", 0)
        await run(kit, script, tmp_path / "state", until=has_begun)
        await put(kit, "a", 1, 2)
        await kit.update_shard_count("a", 2)
        await put(kit, "a", *range(3, 9))
        await run(kit, script, tmp_path / "state", until=lambda each: len(rows_in(tmp_path / "o")) == 8)

    story(tmp_path, tell, "a")
    assert rows_in(tmp_path / "o") == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_script_that_reads_another_stream_begins_where_its_table_says(tmp_path: Path) -> None:
    first = table("a", "TRIM_HORIZON") + sink(tmp_path) + "INSERT INTO o SELECT n FROM a;"
    second = table("b", "TRIM_HORIZON") + sink(tmp_path) + "INSERT INTO o SELECT n FROM b;"

    async def tell(kit: Kit) -> None:
        await put(kit, "a", 1, 2, 3)
        await put(kit, "b", 11, 12)
        await run(kit, first, tmp_path / "state", until=lambda each: len(rows_in(tmp_path / "o")) == 3)
        await run(kit, second, tmp_path / "state", until=lambda each: len(rows_in(tmp_path / "o")) == 5)

    story(tmp_path, tell, "a", "b")
    assert rows_in(tmp_path / "o") == [1, 2, 3, 11, 12]


def test_state_serves_no_query_over_another_stream(tmp_path: Path) -> None:
    def counts(stream: str) -> str:
        return table(stream, "TRIM_HORIZON") + (
            f"CREATE TABLE t (n BIGINT) WITH ('connector' = 'live');\nINSERT INTO t SELECT COUNT(*) FROM {stream};"
        )

    async def tell(kit: Kit) -> None:
        await put(kit, "a", 1)
        await run(kit, counts("a"), tmp_path / "state", until=has_begun)
        with pytest.raises(UsageError, match="another plan"):
            await run(kit, counts("b"), tmp_path / "state", until=has_begun)

    story(tmp_path, tell, "a", "b")


def test_several_inserts_into_one_table_lose_none_of_their_rows(tmp_path: Path) -> None:
    """They are committed together: their files must not have one name."""
    script = (
        table("a", "TRIM_HORIZON")
        + sink(tmp_path)
        + "INSERT INTO o SELECT n FROM a WHERE n < 3; INSERT INTO o SELECT n + 100 FROM a;"
    )

    async def tell(kit: Kit) -> None:
        await put(kit, "a", 1, 2, 3, 4)
        await run(kit, script, tmp_path / "state", until=lambda each: len(rows_in(tmp_path / "o")) >= 6)

    story(tmp_path, tell, "a")
    assert rows_in(tmp_path / "o") == [1, 2, 101, 102, 103, 104]


def test_results_that_wait_go_to_their_own_table_whatever_the_script_adds_before_it(tmp_path: Path) -> None:
    """The target is away while results are committed: here its path is a file."""
    old = table("a", "TRIM_HORIZON") + sink(tmp_path) + "INSERT INTO o SELECT n FROM a;"
    new = old.replace("INSERT", sink(tmp_path, "p") + "INSERT INTO p SELECT n + 100 FROM a WHERE n > 2;\nINSERT")
    gone = table("a", "TRIM_HORIZON") + sink(tmp_path, "p") + "INSERT INTO p SELECT n FROM a;"

    async def tell(kit: Kit) -> None:
        await put(kit, "a", 1, 2)
        (tmp_path / "o").write_text("in the way")
        with pytest.raises(OSError):  # noqa: PT011
            await run(kit, old, tmp_path / "state", until=lambda each: False)
        (tmp_path / "o").unlink()
        with pytest.raises(UsageError, match="'o'"):
            await run(kit, gone, tmp_path / "state", until=lambda each: False)
        await put(kit, "a", 3)
        await run(kit, new, tmp_path / "state", until=lambda each: len(rows_in(tmp_path / "o")) == 3)

    story(tmp_path, tell, "a")
    assert rows_in(tmp_path / "o") == [1, 2, 3]
    assert rows_in(tmp_path / "p") == [103]
