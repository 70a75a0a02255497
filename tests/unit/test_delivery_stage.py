"""A delivery stream's directory: what was written is read, what nobody names is removed, what is full loses nothing."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.delivery.stage import Stage
from streamkit.delivery.state import SpoolPiece


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path / "delivery" / "id")
    made.open((), ())
    return made


def text(*values: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(list(values), pa.binary())], ["data"])


def table(*values: int) -> pa.RecordBatch:
    kind = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.int64()))])
    structs = pa.array([{"a": each, "b": [each] * 2} for each in values], kind)
    return pa.RecordBatch.from_arrays([pa.array(values, pa.int64()), structs], ["id", "nested"])


def rows(stage: Stage, spool: int, index: int) -> list[Any]:
    return [row for batch in stage.read_spool(SpoolPiece(spool, index)) for row in batch.to_pylist()]


GROUPS = st.lists(
    st.one_of(
        st.lists(st.lists(st.binary(max_size=20), max_size=4).map(lambda each: text(*each)), min_size=1, max_size=4),
        st.lists(
            st.lists(st.integers(-(2**40), 2**40), max_size=4).map(lambda each: table(*each)), min_size=1, max_size=4
        ),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@given(groups=GROUPS, data=st.data())
def test_each_piece_of_a_spool_file_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[pa.RecordBatch]], data: st.DataObject
) -> None:
    """In any order, whatever the columns of its neighbours; windows on larger columns write only themselves."""
    stage = Stage(tmp_path_factory.mktemp("stage") / "id")
    stage.open((), ())
    cut = [[batch.slice(data.draw(st.integers(0, len(batch)))) for batch in group] for group in groups]
    stage.write_spool(1, cut)
    stage.sync()
    for index in data.draw(st.permutations(range(len(cut)))):
        assert rows(stage, 1, index) == [row for batch in cut[index] for row in batch.to_pylist()]
    stage.destroy()


def test_what_nobody_names_is_removed_at_the_start(stage: Stage, tmp_path: Path) -> None:
    """Files that a crash left; those that are named stay."""
    for number in (1, 2, 11):
        stage.staged(number).write_bytes(b"x")
        stage.write_spool(number, [[text(b"y")]])
    stage.staged(3).with_name("3.tmp").write_bytes(b"z")
    stage.open({2}, {11})
    folder = tmp_path / "delivery" / "id"
    assert [path.name for path in sorted((folder / "staged").iterdir())] == ["2"]
    assert [path.name for path in sorted((folder / "spool").iterdir())] == ["11"]
    assert rows(stage, 11, 0) == [{"data": b"y"}]


def test_a_spool_file_that_could_not_be_written_is_written_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try leaves half a file; the second replaces it."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("streamkit.delivery.stage.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            stage.write_spool(1, [[text(b"a" * 10_000)], [text(b"b")]])
    stage.write_spool(1, [[text(b"c")]])
    assert rows(stage, 1, 0) == [{"data": b"c"}]


def test_removing_twice_is_no_error(stage: Stage) -> None:
    """A try that failed after it removed the file comes again."""
    stage.staged(1).write_bytes(b"x")
    stage.remove_staged(1)
    stage.remove_staged(1)
    stage.remove_spools({7})


@pytest.fixture
def writer(stage: Stage) -> Iterator[None]:
    """A thread that was cut off, and still writes."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                stage.staged(number).write_bytes(b"x" * 1_000)
            except FileNotFoundError:
                return

    thread = threading.Thread(target=write)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("writer")
def test_what_a_thread_still_writes_does_not_keep_a_directory(stage: Stage, tmp_path: Path) -> None:
    """A delivery stream is deleted while its objects are being encoded."""
    stage.destroy()
    assert not (tmp_path / "delivery" / "id").exists()
    stage.destroy()
