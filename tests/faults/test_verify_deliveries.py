"""`verify` and deliveries: what is sealed, buffered or read and is not as it was written is found, with its file."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import streamkit
from streamkit.cli.main import main
from streamkit.testing.server import ServerProcess
from tests.wire.cloud import eventually, open_cloud


class Told(NamedTuple):
    status: int
    lines: list[dict[str, Any]]

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def damage(self) -> dict[str, Any]:
        (found,) = self.kinds("damage")
        return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a server that was killed while nobody took what it had sealed: a partition is full and sealed,
    another is in a spool file."""
    data = tmp_path_factory.mktemp("verify") / "data"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with ServerProcess(data, s3_endpoint=f"http://127.0.0.1:{port}", s3_access_key="k:s") as server:
            with streamkit.open_blocking(server.endpoint) as kit, open_cloud(server.endpoint) as cloud:
                kit.create_stream("clicks")
                kit.deliver(
                    "clicks",
                    "s3://bucket/x",
                    name="lake",
                    prefix="!{partitionKeyFromQuery:kind}/",
                    error_prefix="errors/",
                    partition_by="{kind: .kind}",
                    size_mb=0.002,
                    interval_s=900,
                )
                small = [("k", json.dumps({"kind": "small", "id": each})) for each in range(5)]
                large = [("k", json.dumps({"kind": "large", "text": "x" * 4_000}))]
                kit.put_many("clicks", [*small, *large])
                eventually(lambda: cloud.metric("streamkit_delivery_staged_bytes", delivery_stream="lake") > 0)
            server.kill()
        yield data


@pytest.fixture
def data(killed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "data"))


def verify(data: Path, capfd: pytest.CaptureFixture[str]) -> Told:
    capfd.readouterr()
    status = main(["verify", str(data), "--json"])
    return Told(status, [json.loads(line) for line in capfd.readouterr().out.splitlines()])


def only(data: Path, folder: str) -> Path:
    (found,) = data.glob(f"delivery/*/{folder}/*")
    return found


def changed(data: Path, table: str, **members: Any) -> None:
    """Members of the one document of a table."""
    db = sqlite3.connect(data / "control.sqlite")
    (document,) = db.execute(f"select document from {table}").fetchone()
    db.execute(f"update {table} set document = ?", (json.dumps({**json.loads(document), **members}).encode(),))
    db.commit()
    db.close()


def overwritten(data: Path, table: str, content: bytes) -> None:
    db = sqlite3.connect(data / "control.sqlite")
    db.execute(f"update {table} set document = ?", (content,))
    db.commit()
    db.close()


def progress_of(data: Path) -> dict[str, Any]:
    db = sqlite3.connect(data / "control.sqlite")
    (document,) = db.execute("select document from delivery_progress").fetchone()
    db.close()
    found: dict[str, Any] = json.loads(document)
    return found


def test_what_a_kill_leaves_is_whole(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = verify(data, capfd)
    assert told.status == 0
    (delivery,) = told.kinds("delivery")
    assert (delivery["name"], delivery["sealed"], delivery["buffers"]) == ("lake", 1, 1)
    assert delivery["bytes"] == only(data, "staged").stat().st_size
    assert delivery["is_whole"]
    assert not told.kinds("damage")
    main(["verify", str(data)])
    assert "delivery stream lake (000000000000, us-east-1): 1 object to deliver" in capfd.readouterr().out


@pytest.mark.parametrize("folder", ["staged", "spool"])
def test_a_file_that_is_missing_is_told_with_the_records_that_were_in_it(
    data: Path, capfd: pytest.CaptureFixture[str], folder: str
) -> None:
    path = only(data, folder)
    path.unlink()
    told = verify(data, capfd)
    assert told.status == 1
    assert told.damage["path"] == str(path)
    assert "it is missing" in told.damage["why"]
    assert "shardId-000000000000" in told.damage["why"]


def test_a_sealed_object_of_another_size_is_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = only(data, "staged")
    path.write_bytes(path.read_bytes()[:-1])
    told = verify(data, capfd)
    assert told.status == 1
    assert told.damage["path"] == str(path)
    assert "was sealed with" in told.damage["why"]


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_spool_file_that_was_cut_is_damage(data: Path, capfd: pytest.CaptureFixture[str], kept: int) -> None:
    path = only(data, "spool")
    path.write_bytes(path.read_bytes()[:kept])
    told = verify(data, capfd)
    assert told.status == 1
    assert told.damage["path"] == str(path)
    assert "cannot be read" in told.damage["why"]


def test_a_spool_file_whose_index_points_elsewhere_is_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = only(data, "spool")
    content = path.read_bytes()
    path.write_bytes(content[:-32] + struct.pack("<QQ", 8, 20) + content[-16:])
    told = verify(data, capfd)
    assert told.status == 1
    assert "cannot be read" in told.damage["why"]


def test_a_buffer_whose_rows_are_not_all_there_is_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (buffer,) = progress_of(data)["buffers"]
    changed(data, "delivery_progress", buffers=[{**buffer, "records_count": buffer["records_count"] + 1}])
    told = verify(data, capfd)
    assert told.status == 1
    assert f"has {buffer['records_count']} rows" in told.damage["why"]


def test_a_position_beyond_the_end_of_the_stream_is_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its log lost its end: what is put there next has offsets that were delivered before."""
    (end,) = progress_of(data)["positions"].values()
    changed(data, "delivery_progress", positions={"0": end + 1})
    told = verify(data, capfd)
    assert told.status == 1
    assert f"to record {end + 1}, and it ends before record {end}" in told.damage["why"]
    changed(data, "delivery_progress", positions={"0": end, "7": 0})
    assert "shardId-000000000007, which clicks does not have" in verify(data, capfd).damage["why"]


def test_positions_in_a_stream_that_was_made_anew_are_no_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its offsets are others, and it is read from its first record."""
    changed(data, "delivery_progress", positions={"0": 1_000}, incarnation="f" * 32)
    assert verify(data, capfd).status == 0


def test_numbers_that_would_be_given_twice_are_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changed(data, "delivery_progress", next_number=1)
    assert "gives number 1 next" in verify(data, capfd).damage["why"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"positions": 7}'])
@pytest.mark.parametrize(("table", "why"), [("delivery_streams", "no server starts"), ("delivery_progress", "how far")])
def test_a_document_that_cannot_be_read_is_damage(
    data: Path, capfd: pytest.CaptureFixture[str], table: str, why: str, content: bytes
) -> None:
    overwritten(data, table, content)
    told = verify(data, capfd)
    assert told.status == 1
    assert told.damage["path"] == str(data / "control.sqlite")
    assert why in told.damage["why"]


def test_a_document_without_what_the_destination_needs_is_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changed(data, "delivery_streams", document={})
    told = verify(data, capfd)
    assert told.status == 1
    assert "delivery stream lake has a document that lacks what it needs" in told.damage["why"]


def test_what_a_crash_leaves_is_told_and_is_no_damage(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Files that no document names, and directories of delivery streams that are gone."""
    for folder in ("staged", "spool"):
        (only(data, folder).parent / "999").write_bytes(b"left")
    (data / "delivery" / ("e" * 32)).mkdir()
    told = verify(data, capfd)
    assert told.status == 0
    assert len(told.kinds("note")) == 3
