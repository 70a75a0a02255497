"""Logs of functions: what is written is read back in order, bounded, and filtered as CloudWatch Logs does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.functions.logs import FunctionLogs, Key, LogEvent, stream_name
from streamkit.functions.logs_patterns import parse
from streamkit.model.errors import InvalidParameter, LimitExceeded, ResourceAlreadyExists, ResourceNotFound
from streamkit.model.limits import (
    HOUR_MS,
    LOG_BURST_BYTES,
    LOG_BYTES_PER_S,
    LOG_EVENT_BYTES_MAX,
    LOG_FILES_OPEN_MAX,
    LOG_FLUSH_MS,
    LOG_PAGE_BYTES_MAX,
    MIB,
)
from streamkit.model.names import Scope
from streamkit.testing.clock import START_MS, VirtualClock, run

T = TypeVar("T")

SCOPE = Scope("000000000000", "us-east-1")
GROUP = "/aws/lambda/f"
Main = Callable[[FunctionLogs, VirtualClock], Coroutine[Any, Any, T]]


def in_time(path: Path, main: Main[T], *, group_bytes_max: int = 64 * MIB, start_ms: int = START_MS) -> T:
    """Runs a program over logs in virtual time, and closes them."""

    async def whole(clock: VirtualClock, rng: random.Random) -> T:
        logs = FunctionLogs(path, clock, group_bytes_max=group_bytes_max)
        try:
            return await main(logs, clock)
        finally:
            logs.close()

    return run(whole, seed=1, start_ms=start_ms)


async def read(logs: FunctionLogs, **options: Any) -> list[str]:
    return [event.message for event in await read_events(logs, **options)]


async def read_events(logs: FunctionLogs, **options: Any) -> list[LogEvent]:
    """All pages."""
    found: list[LogEvent] = []
    more = True
    after: Key | None = None
    while more:
        events, more = await logs.events(SCOPE, GROUP, **{"limit": 10_000, "after": after, **options})
        assert events or not more
        found += events
        after = found[-1].key if found else None
    return found


def segments(path: Path) -> list[Path]:
    return sorted(path.rglob("*.log"))


def open_files(path: Path) -> int:
    return sum(str(path) in str(link.resolve()) for link in Path("/proc/self/fd").iterdir())


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


# -- writing and reading ---------------------------------------------------------------------------------------------


def test_what_was_written_is_read_at_once(tmp_path: Path) -> None:
    """A reader does not wait for the flush: lines are events, with their ends."""

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        writer.write(b"START\nEND\nREPORT\n")
        writer.event(b"Traceback\n  one\n")
        writer.write(b"one\rtwo\nno end")
        assert await read(logs) == ["START\n", "END\n", "REPORT\n", "Traceback\n  one\n", "one\rtwo\n", "no end"]
        assert {event.timestamp_ms for event in await read_events(logs)} == {clock.now_ms()}

    in_time(tmp_path, main)


def test_lines_reach_the_operating_system_soon(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, GROUP, "s").write(b"hello\n")
        await clock.sleep(LOG_FLUSH_MS + 1)
        (segment,) = segments(tmp_path)
        assert b"hello\n" in segment.read_bytes()

    in_time(tmp_path, main)


def test_logs_survive_a_restart(tmp_path: Path) -> None:
    async def write(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, GROUP, "s").write(b"before\n")
        logs.create_group(SCOPE, "other", tags={"a": "b"})
        logs.set_retention(SCOPE, "other", 7)
        logs.create_stream(SCOPE, GROUP, "empty")

    async def again(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, GROUP, "s").write(b"after\n")
        assert await read(logs) == ["before\n", "after\n"]
        assert [stream.name for stream in logs.describe_streams(SCOPE, GROUP)] == ["empty", "s"]
        assert logs.groups(SCOPE) == [GROUP, "other"]
        other = logs.describe_group(SCOPE, "other")
        assert (other.retention_days, dict(other.tags)) == (7, {"a": "b"})

    in_time(tmp_path, write)
    in_time(tmp_path, again, start_ms=START_MS + 1000)


@given(cut=st.integers(0, 400), flip=st.none() | st.integers(0, 400))
def test_damage_costs_what_follows_it_in_its_segment_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int | None
) -> None:
    """What lies before it is read, and writing goes on; what was cut off does not come back."""
    path = tmp_path_factory.mktemp("logs")
    written = [f"line {number}\n" for number in range(10)]
    seen: list[str] = []

    async def write(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        for line in written:
            writer.write(line.encode())
            logs.flush()
            await clock.sleep(1)

    async def again(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, GROUP, "s").write(b"after!\n")  # as long as the others: what follows would fit again
        found = await read(logs)
        assert found[:-1] == written[: len(found) - 1]
        assert found[-1] == "after!\n"
        seen.extend(found)
        if flip is None and cut == 0:
            assert len(found) == 11

    in_time(path, write)
    (segment,) = path.rglob("*.log")
    data = bytearray(segment.read_bytes())
    data = data[: max(0, len(data) - cut)]
    if flip is not None and flip < len(data):
        data[-flip - 1] ^= 0x10
    segment.write_bytes(data)
    in_time(path, again, start_ms=START_MS + 1000)
    assert in_time(path, lambda logs, clock: read(logs)) == seen


@given(
    events=st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), max_size=80),
    limit=st.integers(1, 7),
    span=st.tuples(st.integers(0, 6), st.integers(3, 13)),
    chosen=st.none() | st.sets(st.sampled_from("abc"), min_size=1),
)
def test_pages_are_all_events_of_the_span_by_time(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[int, str]],
    limit: int,
    span: tuple[int, int],
    chosen: set[str] | None,
) -> None:
    """Forward and backward, whatever order they came in, over segments; equal times stay as they came."""
    path = tmp_path_factory.mktemp("logs")

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.create_group(SCOPE, GROUP)
        for stream in "abc":
            logs.create_stream(SCOPE, GROUP, stream)
        wanted = []
        for number, (at_ms, stream) in enumerate(events):
            message = f"{number} {'x' * 100}"
            logs.put(SCOPE, GROUP, stream, [(at_ms, message.encode())])
            if span[0] <= at_ms < span[1] and (chosen is None or stream in chosen):
                wanted.append((at_ms, number, message))
        wanted.sort()
        options: dict[str, Any] = {"start_ms": span[0], "end_ms": span[1], "limit": limit}
        if chosen is not None:
            options["streams"] = sorted(chosen)
        assert await read(logs, **options) == [message for _, _, message in wanted]
        backward: list[str] = []
        before: Key | None = None
        more = True
        while more:
            page, more = await logs.events(SCOPE, GROUP, **options, before=before, from_end=True)
            backward[:0] = [event.message for event in page]
            before = page[0].key if page else None
        assert backward == [message for _, _, message in wanted]

    in_time(path, main, group_bytes_max=16 * 1024)


def test_a_page_is_bounded_in_bytes(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        for _ in range(30):
            writer.write(b"x" * 100_000 + b"\n")
        page, more = await logs.events(SCOPE, GROUP, limit=10_000)
        assert more
        assert 900_000 < sum(len(event.message) for event in page) <= LOG_PAGE_BYTES_MAX
        assert len(await read(logs)) == 30

    in_time(tmp_path, main)


def test_a_very_long_line_is_several_events(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, GROUP, "s").write(b"y" * (2 * LOG_EVENT_BYTES_MAX + 5))
        assert [len(message) for message in await read(logs)] == [LOG_EVENT_BYTES_MAX, LOG_EVENT_BYTES_MAX, 5]

    in_time(tmp_path, main)


def test_keys_are_their_text() -> None:
    key = Key(1_700_000_000_000, 3, 12345, 6)
    assert len(str(key)) == 56
    assert Key.parse(str(key)) == key
    assert Key.parse("1" * 55) is None
    assert Key.parse("x" * 56) is None


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_a_handler_that_prints_a_gigabyte_fills_neither_disk_nor_memory(tmp_path: Path) -> None:
    """What passes its rate is dropped, and a line says how much."""

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        chunk = (b"z" * 99 + b"\n") * 1_000
        for _ in range(10_000):
            writer.write(chunk)
        logs.flush()
        assert size_of(tmp_path) < LOG_BURST_BYTES + MIB
        last = (await logs.events(SCOPE, GROUP, limit=1, from_end=True))[0][0].message
        dropped = int(last.split()[0].replace(",", ""))
        assert last.startswith(f"{dropped:,} bytes dropped")
        stored = logs.describe_group(SCOPE, GROUP).stored_bytes - len(last)
        assert dropped + stored == 10_000 * len(chunk)
        await clock.sleep(1_000)
        writer.write(b"a" * (LOG_BYTES_PER_S - 200))
        assert "dropped" not in (await logs.events(SCOPE, GROUP, limit=1, from_end=True))[0][0].message

    in_time(tmp_path, main)


def test_a_group_keeps_what_came_last(tmp_path: Path) -> None:
    """Its size is bounded; the oldest go, and streams of which nothing is left are gone too."""

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        for number in range(1_000):
            logs.open(SCOPE, GROUP, f"s{number // 100}").write(f"{number} {'w' * 1_000}\n".encode())
            await clock.sleep(LOG_FLUSH_MS + 1)
        assert size_of(tmp_path) <= 256 * 1024 * 1.1
        numbers = [int(message.split()[0]) for message in await read(logs)]
        assert 150 < len(numbers) < 300
        assert numbers == list(range(1_000 - len(numbers), 1_000))
        names = [stream.name for stream in logs.describe_streams(SCOPE, GROUP)]
        assert names == sorted({f"s{number // 100}" for number in numbers})

    in_time(tmp_path, main, group_bytes_max=256 * 1024)


def test_many_groups_hold_few_files_open(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        for turn in range(2):
            for number in range(LOG_FILES_OPEN_MAX + 50):
                logs.open(SCOPE, f"g{number}", "s").write(b"%d\n" % turn)
            logs.flush()
        assert open_files(tmp_path) <= LOG_FILES_OPEN_MAX
        events, _ = await logs.events(SCOPE, "g0", limit=10)
        assert [event.message for event in events] == ["0\n", "1\n"]

    in_time(tmp_path, main)


def test_retention_hides_and_removes_what_is_older(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        writer.write(b"old\n")
        await clock.sleep(25 * HOUR_MS)
        writer.write(b"new\n")
        assert await read(logs) == ["old\n", "new\n"]
        logs.set_retention(SCOPE, GROUP, 1)
        assert await read(logs) == ["new\n"]
        for _ in range(200):
            writer.write(b"v" * 1_000 + b"\n")
            logs.flush()
        assert any(b"old\n" in segment.read_bytes() for segment in segments(tmp_path))
        await clock.sleep(25 * HOUR_MS)
        writer.write(b"newest\n")
        logs.flush()
        for _ in range(70):
            writer.write(b"v" * 1_000 + b"\n")
            logs.flush()
        assert all(b"old\n" not in segment.read_bytes() for segment in segments(tmp_path))
        assert (await read(logs))[0] == "newest\n"

    in_time(tmp_path, main, group_bytes_max=1024 * 1024)


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    """Writing never fails; what was lost is counted."""

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        writer.write(b"one\n")
        logs.flush()
        (segment,) = segments(tmp_path)
        logs.close()  # its file is opened anew by the next write, and cannot be
        segment.rename(tmp_path / "away")
        segment.mkdir()
        writer.write(b"lost\n")
        logs.flush()
        assert logs.dropped_bytes == 5
        segment.rmdir()
        (tmp_path / "away").rename(segment)
        writer.write(b"two\n")
        assert await read(logs) == ["one\n", "two\n"]

    in_time(tmp_path, main)


# -- groups and streams ----------------------------------------------------------------------------------------------


def test_groups_and_streams_are_made_once_and_found_by_name(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        with pytest.raises(ResourceNotFound, match="specified log group does not exist"):
            await logs.events(SCOPE, GROUP, limit=1)
        logs.create_group(SCOPE, GROUP)
        with pytest.raises(ResourceAlreadyExists, match="The specified log group already exists"):
            logs.create_group(SCOPE, GROUP)
        with pytest.raises(ResourceNotFound, match="specified log stream does not exist"):
            logs.put(SCOPE, GROUP, "s", [(1, b"x")])
        logs.create_stream(SCOPE, GROUP, "s")
        with pytest.raises(ResourceAlreadyExists, match="The specified log stream already exists"):
            logs.create_stream(SCOPE, GROUP, "s")
        other = Scope("111111111111", "us-east-1")
        logs.create_group(other, GROUP)
        logs.open(other, GROUP, "s").write(b"theirs\n")
        assert await read(logs) == []
        assert logs.groups(SCOPE, "/aws/x") == []

    in_time(tmp_path, main)


def test_names_that_differ_only_in_signs_are_different_groups(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        names = ["a/b", "a.b", "a#b", "a" * 512, "a" * 511 + "b"]
        for name in names:
            logs.open(SCOPE, name, "s").write(name.encode())
        for name in names:
            events, _ = await logs.events(SCOPE, name, limit=5)
            assert [event.message for event in events] == [name]

    in_time(tmp_path, main)


def test_a_stream_is_described_by_its_events(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        made_ms = clock.now_ms()
        writer.write(b"12345")
        await clock.sleep(5_000)
        writer.write(b"678")
        logs.create_stream(SCOPE, GROUP, "t")
        stream, empty = logs.describe_streams(SCOPE, GROUP)
        assert (stream.first_event_ms, stream.last_event_ms) == (made_ms, made_ms + 5_000)
        assert (stream.last_ingested_ms, stream.stored_bytes) == (made_ms + 5_000, 8)
        assert made_ms <= stream.created_at_ms <= made_ms + LOG_FLUSH_MS
        assert (empty.first_event_ms, empty.last_event_ms, empty.stored_bytes) == (None, None, 0)

    in_time(tmp_path, main)


def test_what_is_deleted_is_gone_and_stays_so(tmp_path: Path) -> None:
    """Also after a restart, and where a name is used again; open writers go on with a new group."""

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, GROUP, "s").write(b"old\n")
        logs.open(SCOPE, GROUP, "t").write(b"kept\n")
        logs.delete_stream(SCOPE, GROUP, "s")
        assert await read(logs) == ["kept\n"]
        logs.open(SCOPE, GROUP, "s").write(b"new\n")
        assert await read(logs) == ["kept\n", "new\n"]
        writer = logs.open(SCOPE, "gone", "s")
        writer.write(b"old\n")
        logs.delete_group(SCOPE, "gone")
        writer.write(b"fresh\n")
        events, _ = await logs.events(SCOPE, "gone", limit=9)
        assert [event.message for event in events] == ["fresh\n"]

    async def again(logs: FunctionLogs, clock: VirtualClock) -> None:
        assert await read(logs) == ["kept\n", "new\n"]

    in_time(tmp_path, main)
    in_time(tmp_path, again)


def test_all_groups_can_be_deleted_at_once(tmp_path: Path) -> None:
    """Also those that nobody has read since the start."""

    async def write(logs: FunctionLogs, clock: VirtualClock) -> None:
        for name in "ab":
            logs.open(SCOPE, name, "s").write(b"x\n")

    async def delete(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.open(SCOPE, "c", "s").write(b"x\n")
        logs.delete_all()
        assert logs.groups(SCOPE) == []

    in_time(tmp_path, write)
    in_time(tmp_path, delete)
    assert not list(tmp_path.iterdir())


def test_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.functions.logs.LOG_GROUPS_MAX", 2)

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        logs.create_group(SCOPE, "a")
        logs.create_group(SCOPE, "b")
        with pytest.raises(LimitExceeded, match="Resource limit exceeded"):
            logs.create_group(SCOPE, "c")
        logs.open(SCOPE, "c", "s").write(b"12345")
        logs.flush()
        assert logs.dropped_bytes == 5

    in_time(tmp_path, main)


def test_streams_are_named_as_aws_names_them() -> None:
    name = stream_name(1_704_164_645_000, "$LATEST", random.Random(1).getrandbits)
    assert name.startswith("2024/01/02/[$LATEST]")
    assert len(name) == len("2024/01/02/[$LATEST]") + 32


# -- following -------------------------------------------------------------------------------------------------------


def test_a_follower_sees_each_event_once_in_order(tmp_path: Path) -> None:
    """From the moment on in which it began, over segments; it ends with the group."""

    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        writer = logs.open(SCOPE, GROUP, "s")
        writer.write(b"before\n")
        seen: list[str] = []

        async def follow() -> None:
            async for event in logs.follow(SCOPE, GROUP):
                seen.append(event.message)  # noqa: PERF401 - looked at while it goes on

        task = asyncio.ensure_future(follow())
        await clock.sleep(0)
        written = []
        for number in range(300):
            written.append(f"{number} {'u' * 300}\n")
            writer.write(written[-1].encode())
            await clock.sleep(70)
        await clock.sleep(1_000)
        assert seen == written
        logs.delete_group(SCOPE, GROUP)
        await asyncio.wait_for(task, 1)

    in_time(tmp_path, main, group_bytes_max=256 * 1024)


def test_a_follower_may_begin_in_the_past_and_choose(tmp_path: Path) -> None:
    async def main(logs: FunctionLogs, clock: VirtualClock) -> None:
        for stream in "ab":
            logs.open(SCOPE, GROUP, stream).write(b"ERROR %b\nINFO\n" % stream.encode())
        seen: list[str] = []

        async def follow() -> None:
            async for event in logs.follow(SCOPE, GROUP, start_ms=0, prefix="a", matches=parse("ERROR")):
                seen.append(event.message)  # noqa: PERF401

        task = asyncio.ensure_future(follow())
        await clock.sleep(10)
        assert seen == ["ERROR a\n"]
        logs.close()
        await asyncio.wait_for(task, 1)

    in_time(tmp_path, main)


# -- patterns --------------------------------------------------------------------------------------------------------

JSON = '{"level": "ERROR", "n": 7, "user": null, "ok": true, "items": [{"id": 1}, {"id": 2}], "a b": "x", "s": "5"}'
LINE = '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "message", "is_found"),
    [
        ("", "anything", True),
        ("ERROR", "an ERROR here", True),
        ("error", "an ERROR here", False),
        ("ERROR here", "here an ERROR", True),
        ("ERROR there", "an ERROR here", False),
        ('"ERROR here"', "an ERROR here", True),
        ('"here ERROR"', "an ERROR here", False),
        ('"say \\"hi\\""', 'they say "hi"', True),
        ("-ERROR", "fine", True),
        ("ERROR -timeout", "ERROR timeout", False),
        ('-"two words"', "two words", False),
        ("?ERROR ?WARN", "a WARN", True),
        ("?ERROR ?WARN", "an INFO", False),
        ("?ERROR INFO", "an INFO", True),
        ('{ $.level = "ERROR" }', JSON, True),
        ("{ $.level = ERROR }", JSON, True),
        ('{ $.level = "ERR*" }', JSON, True),
        ('{ $.level = "*RR*" }', JSON, True),
        ('{ $.level = "*X*" }', JSON, False),
        ('{ $.level = "error" }', JSON, False),
        ('{ $.level != "INFO" }', JSON, True),
        ('{ $.missing != "INFO" }', JSON, False),
        ("{ $.n = 7 }", JSON, True),
        ("{ $.n = 7.0 }", JSON, True),
        ("{ $.n > 6 && $.n <= 7 }", JSON, True),
        ("{ $.n < 7 || $.level = ERROR && $.n >= 8 }", JSON, False),
        ("{ ($.n < 7 || $.level = ERROR) && $.n >= 7 }", JSON, True),
        ("{ $.s > 4 }", JSON, True),
        ("{ $.level > 4 }", JSON, False),
        ("{ $.user IS NULL }", JSON, True),
        ("{ $.level IS NULL }", JSON, False),
        ("{ $.ok IS TRUE }", JSON, True),
        ("{ $.ok is false }", JSON, False),
        ("{ $.missing NOT EXISTS }", JSON, True),
        ("{ $.user NOT EXISTS }", JSON, False),
        ("{ $.items[1].id = 2 }", JSON, True),
        ("{ $.items[2].id = 2 }", JSON, False),
        ("{ $.items[*].id = 2 }", JSON, True),
        ("{ $['a b'] = x }", JSON, True),
        ('{ $["a b"] = x }', JSON, True),
        ("{ $.level = ERROR }", "no json", False),
        ("{ $.level = ERROR }", "{broken", False),
        ("{ $.level = ERROR }", "[1]", False),
        ("[ip, id, user, time, request, status, size]", LINE, True),
        ("[ip, id, user, time, request, status]", LINE, False),
        ("[ip, id, user, time, request = *index*, status = 4*, size > 1000]", LINE, True),
        ("[ip, id, user, time, request, status = 5*, size]", LINE, False),
        ("[ip, ..., status = 404, size]", LINE, True),
        ("[..., status = 404, size]", LINE, True),
        ("[ip, ...]", LINE, True),
        ("[ip, ..., status = 404 || status = 500, size]", LINE, True),
        ("[ip != 127.0.0.1, ...]", LINE, False),
        ('[a, b = "two words"]', 'x "two words"', True),
    ],
)
def test_a_pattern_finds_what_cloudwatch_finds(pattern: str, message: str, is_found: bool) -> None:
    matches = parse(pattern)
    assert (matches is None or matches(message)) is is_found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("%ERR.*%", "regular expressions are not supported by streamkit"),
        ("{ $.a = %x% }", "regular expressions are not supported by streamkit"),
        ('"open', "a quotation mark is not closed"),
        ("{ $.a }", "it ends too early"),
        ("{ a = 1 }", "'a' is no selector"),
        ("{ $.a = 1 && }", "it ends too early"),
        ("{ ($.a = 1 }", "a parenthesis is not closed"),
        ("{ $.a > x }", "'x' is no number"),
        ("{ $.a IS 5 }", "'5' is none of NULL, TRUE, FALSE"),
        ("{ $.a = 1 $.b = 2 }", "unexpected"),
        ("[..., a, ...]", "more than one ellipsis"),
        ("[a b]", "an operator is missing"),
    ],
)
def test_what_cannot_be_a_pattern_is_refused_by_name(pattern: str, why: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse(pattern)
    assert why in refused.value.message


@given(st.text(alphabet='{}[]$.%"?- &|=<>!()*,ab1\\', max_size=40), st.text(max_size=20))
def test_every_text_is_a_pattern_or_refused(pattern: str, message: str) -> None:
    """Nothing else is raised, neither by the pattern nor by what it is tried on."""
    try:
        matches = parse(pattern)
    except InvalidParameter:
        return
    if matches is not None:
        assert matches(message) in (True, False)


def test_stars_take_no_more_time_than_the_message_is_long() -> None:
    """A pattern is a stranger's; on a message of a megabyte it must not be able to block the server."""
    matches = parse('{ $.a = "' + "*a" * 300 + '*b" }')
    assert matches is not None
    assert not matches('{"a": "' + "a" * 1_000_000 + '"}')
