"""The command line: what goes to which stream, exit statuses, and what Ctrl-C and a closed pipe do."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import streamkit
from streamkit.cli.common import size_text, whole_lines
from streamkit.cli.load_generator import Outcome, kinesis_request, run_for
from streamkit.cli.main import main
from streamkit.testing.server import ServerProcess

PROGRAM = [sys.executable, "-m", "streamkit.cli.main"]


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Runs commands in one place: in this process, or where their input matters as a program."""

    def __init__(self, target: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
        self.target = [*target]
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Ran:
        self._capfd.readouterr()
        status = main([*arguments, *self.target])
        return Ran(status, *self._capfd.readouterr())

    def piped(self, content: bytes, *arguments: str) -> Ran:
        done = subprocess.run([*PROGRAM, *arguments, *self.target], input=content, capture_output=True, timeout=20)
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def records(self, stream: str) -> list[dict[str, Any]]:
        return self("tail", stream, "--no-follow", "--json").objects


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cli") / "data", allow_reset=True) as process:
        yield process


@pytest.fixture(params=["endpoint", "data"])
def cli(
    request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.chdir(tmp_path)
    if request.param == "data":
        return Cli(["--data", str(tmp_path / "data")], capfd)
    process: ServerProcess = request.getfixturevalue("server")
    process.reset()
    return Cli(["--endpoint", process.endpoint], capfd)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a stream of 20,000 records: more than a pipe holds."""
    with streamkit.open_blocking(tmp_path / "data") as kit:
        kit.create_stream("s")
        kit.put_many("s", [("k", f"record {n}") for n in range(20_000)])
    return tmp_path / "data"


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_created_listed_described_and_deleted(cli: Cli) -> None:
    assert cli("create", "clicks", "--shards", "2", "--retention-hours", "48") == Ran(
        0, "", "stream clicks is ACTIVE with 2 shards\n"
    )
    (listed,) = cli("list", "--json").objects
    assert (listed["name"], listed["status"], listed["open_shards"], listed["retention_hours"]) == (
        "clicks",
        "ACTIVE",
        2,
        48,
    )
    (described,) = cli("describe", "clicks", "--json").objects
    assert described["arn"] == "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"
    assert [shard["shard_id"] for shard in described["shards"]] == ["shardId-000000000000", "shardId-000000000001"]
    assert int(described["shards"][1]["first_hash_key"]) == 1 << 127
    assert cli("delete", "clicks", "--yes") == Ran(0, "", "stream clicks is deleted\n")
    assert cli("list") == Ran(0, "", "no streams; `streamkit create NAME` makes one\n")


def test_a_stream_that_is_there_is_an_error_unless_it_may_be(cli: Cli) -> None:
    cli("create", "s")
    assert cli("create", "s").status == 1
    again = cli("create", "s", "--shards", "7", "--if-missing")
    assert again == Ran(0, "", "stream s is there already\n")
    assert len(cli("describe", "s", "--json").objects[0]["shards"]) == 1


def test_tables_for_people_are_aligned_and_hold_what_json_does(cli: Cli) -> None:
    cli("create", "a-long-name")
    cli("create", "b", "--shards", "3")
    head, first, second = cli("list").out.splitlines()
    column = head.index("STATUS")
    assert first[:column].rstrip() == "a-long-name"
    assert first[column:].startswith("ACTIVE")
    assert second[column:].startswith("ACTIVE")
    described = cli("describe", "b").out
    assert len(re.findall(r"^shardId-\d{12} +open +- +\d+ +\d+$", described, re.MULTILINE)) == 3


def test_resharding_prints_the_new_layout(cli: Cli) -> None:
    cli("create", "s")
    split = cli("reshard", "s", "--split", "shardId-000000000000", "--at", "0x10", "--json").objects[0]["shards"]
    assert [(shard["is_open"], shard["parents"], shard["first_hash_key"]) for shard in split] == [
        (False, [], "0"),
        (True, ["shardId-000000000000"], "0"),
        (True, ["shardId-000000000000"], "16"),
    ]
    merged = cli("reshard", "s", "--merge", "2", "1")  # in whichever order
    assert re.search(r"shardId-000000000003 +open +1, 2 ", merged.out)
    scaled = cli("reshard", "s", "--to", "2", "--json").objects[0]
    assert scaled["open_shards"] == 2
    assert cli("reshard", "s", "--to", "2", "--at", "5").status == 2
    assert cli("reshard", "s", "--split", "77").status == 2


def test_a_stream_that_is_not_there_is_an_error_of_every_command(cli: Cli) -> None:
    cli("create", "other")
    for arguments in (
        ["describe", "nope"],
        ["delete", "nope", "--yes"],
        ["put", "nope", "--key", "k", "--text", "x"],
        ["tail", "nope", "--no-follow"],
        ["reshard", "nope", "--to", "2"],
    ):
        ran = cli(*arguments)
        assert (ran.status, ran.out) == (1, ""), arguments
        assert re.fullmatch(
            rf"streamkit {arguments[0]}: ResourceNotFoundException: Stream nope .* not found.*\n", ran.err
        )


# -- put and tail ----------------------------------------------------------------------------------------------------


def test_a_put_prints_where_the_record_is_and_tail_prints_the_record(cli: Cli) -> None:
    cli("create", "s", "--shards", "2")
    shard, number = cli("put", "s", "--key", "schlüssel", "--text", "größe").out.split()
    (record,) = cli.records("s")
    assert (record["shard_id"], record["sequence_number"]) == (shard, number)
    assert (record["partition_key"], record["data"]) == ("schlüssel", "größe")
    arrived_at = datetime.fromisoformat(record["arrived_at"])
    assert abs((datetime.now(UTC) - arrived_at).total_seconds()) < 20
    assert cli("tail", "s", "--no-follow") == Ran(0, "größe\n", "")


def test_each_line_of_standard_input_is_a_record(cli: Cli) -> None:
    cli("create", "s")
    ran = cli.piped(b"one\r\ntwo\n\nthree", "put", "s", "--key", "k", "--json")
    assert ran.status == 0
    assert [placed["sequence_number"] for placed in ran.objects] == [
        record["sequence_number"] for record in cli.records("s")
    ]
    assert [record["data"] for record in cli.records("s")] == ["one", "two", "three"]


def test_a_file_is_one_record_and_what_is_not_text_is_printed_as_base64(cli: Cli, tmp_path: Path) -> None:
    cli("create", "s", "--shards", "2")
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    ran = cli("put", "s", "--key", "k", "--file", "picture", "--explicit-hash-key", str(2**128 - 1))
    assert ran.out.startswith("shardId-000000000001 ")
    (record,) = cli.records("s")
    assert "data" not in record
    assert b64decode(record["data_base64"]) == bytes(range(256))
    assert cli("put", "s", "--key", "k", "--file", "missing").status == 2


def test_tail_reads_what_it_is_asked_for(cli: Cli) -> None:
    cli("create", "s", "--shards", "2")
    top = str(2**128 - 1)
    for text in ("0", "1", "2"):
        cli("put", "s", "--key", "k", "--text", f"low {text}", "--explicit-hash-key", "0")
        cli("put", "s", "--key", "k", "--text", f"high {text}", "--explicit-hash-key", top)

    def tail(*arguments: str) -> list[str]:
        return sorted(cli("tail", "s", "--no-follow", *arguments).out.splitlines())

    everything = ["high 0", "high 1", "high 2", "low 0", "low 1", "low 2"]
    assert tail() == tail("--from", "-10m") == tail("--from", "trim-horizon") == everything
    assert tail("--shard", "1") == tail("--shard", "shardId-000000000001") == everything[:3]
    assert len(tail("--limit", "4")) == 4
    assert tail("--from", "latest") == tail("--from", "2100-01-01T00:00:00Z") == []
    assert tail("--from", "2020-01-01", "--shard", "0", "1") == everything


def test_tail_refuses_what_cannot_be(cli: Cli) -> None:
    cli("create", "s")
    for arguments, hint in (
        (["--shard", "7"], "has no shardId-000000000007; it has shardId-000000000000"),
        (["--shard", "x"], "'x' is no shard"),
        (["--from", "yesterday"], "'yesterday' is none of latest, trim-horizon"),
        (["--limit", "0"], "--limit is 0"),
    ):
        ran = cli("tail", "s", *arguments)
        assert (ran.status, ran.out, hint in ran.err) == (2, "", True), ran


# -- load ------------------------------------------------------------------------------------------------------------


def test_json_lines_are_stored_as_they_are_under_the_field_that_is_the_key(cli: Cli, tmp_path: Path) -> None:
    lines = [json.dumps({"n": n, "user": f"u{n % 7}", "text": "ä" * (n % 5)}, ensure_ascii=False) for n in range(5000)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    ran = cli("load", "in.jsonl", "--stream", "s", "--key", "user", "--create", "--shards", "3")
    assert ran.status == 0
    assert re.match(r"5,000 records \(.* kB\) stored in .* s, .* a second\n", ran.err)
    records = cli.records("s")
    assert sorted(record["data"] for record in records) == sorted(lines)
    assert all(record["partition_key"] == json.loads(record["data"])["user"] for record in records)
    for user in range(7):
        mine = [json.loads(each["data"])["n"] for each in records if each["partition_key"] == f"u{user}"]
        assert mine == list(range(user, 5000, 7))


def test_a_csv_row_becomes_a_json_object_and_the_first_column_is_the_key(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'\xef\xbb\xbfuser,text\r\nu1,"a ""b"", c\nsecond line"\r\n\r\nu2,\xc3\xa4\r\n')
    assert cli("load", "in.csv", "--stream", "s", "--create").status == 0
    records = cli.records("s")
    assert [record["partition_key"] for record in records] == ["u1", "u2"]
    assert [json.loads(record["data"]) for record in records] == [
        {"user": "u1", "text": 'a "b", c\nsecond line'},
        {"user": "u2", "text": "ä"},
    ]


def test_files_may_be_gzipped_and_come_from_standard_input(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"n\n1\n2\n"))
    assert cli("load", "in.csv.gz", "--stream", "s", "--create").status == 0
    assert cli.piped(gzip.compress(b'{"n":3}\n{"n":4.5}'), "load", "-", "--stream", "s").status == 0
    assert cli.piped(b"n\n6\n", "load", "-", "--stream", "s", "--format", "csv").status == 0
    records = cli.records("s")
    assert [record["partition_key"] for record in records] == ["1", "2", "3", "4.5", "6"]
    assert cli.piped(b"", "load", "-", "--stream", "s").status == 0


JSON_FAULTS = {
    b"{": "it is no JSON",
    b'{"user":"a"} {}': "it is no JSON",
    b"[1]": "it is no JSON object: [1]",
    b'{"name":"a","n":1}': "it has no field 'user' for the partition key; it has 'name', 'n'",
    b'{"user":null}': "field 'user', the partition key, is neither text nor a number",
    b'{"user":""}': "'user' has 0 characters; a partition key has 1 to 256",
    b'{"user":"' + b"x" * 257 + b'"}': "'user' has 257 characters",
    b'{"user":"\xff"}': "byte 10 of the line is not UTF-8",
    b'{"user":"a","n":"\xff"}': "byte 18 of the line is not UTF-8",
}
CSV_FAULTS = {
    b"a": "it has 1 fields, the header 2",
    b"a,b,c": "it has 3 fields, the header 2",
    b",b": "'user' has 0 characters",
    b"a,\xff": "it is not UTF-8",
}
FAULTS = [(b'{"user":"a"}\n\n', fault, b'\n{"user":"b"}\n', why, 3) for fault, why in JSON_FAULTS.items()]
FAULTS += [(b"user,n\na,1\n", fault, b"\nb,2\n", why, 3) for fault, why in CSV_FAULTS.items()]


@pytest.mark.parametrize(("before", "fault", "after", "why", "line"), FAULTS)
def test_a_broken_line_stops_with_its_number_and_what_is_before_it_is_stored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], before: bytes, fault: bytes, after: bytes, why: str, line: int
) -> None:
    path = tmp_path / ("in.csv" if before.startswith(b"user") else "in.jsonl")
    path.write_bytes(before + fault + after)
    cli = Cli(["--data", str(tmp_path / "data")], capfd)
    stopped = cli("load", str(path), "--stream", "s", "--create")
    assert (stopped.status, stopped.out) == (1, "")
    assert f"streamkit load: {path}:{line}: {why}" in stopped.err
    assert "1 record (" in stopped.err
    assert len(cli.records("s")) == 1
    skipped = cli("load", str(path), "--stream", "t", "--create", "--skip-broken")
    assert skipped.status == 0
    assert f"left out {path}:{line}: {why}" in skipped.err
    assert "2 records (" in skipped.err
    assert "1 broken line left out" in skipped.err
    assert len(cli.records("t")) == 2


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"", "in.csv", ":1: the file is empty; a CSV file begins with the names of its columns"),
        (b"a,a\n1,2\n", "in.csv", ":1: the columns need names, each its own: it has 'a'"),
        (b"a,b\n1,2\n", "in.csv", ":1: there is no column 'user' for the partition key; it has 'a', 'b'"),
        (b'{"user":"a"}\n' + b"x" * (15 << 20), "in.jsonl", ":2: the line is longer than 10,485,760 bytes"),
        (gzip.compress(b'{"user":"a"}\n')[:-6], "in.jsonl.gz", " cannot be read to its end: "),
    ],
    ids=["empty", "columns alike", "no such column", "endless line", "gzip cut off"],
)
def test_a_file_that_cannot_be_loaded_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, name: str, why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    ran = Cli(["--data", str(tmp_path / "data")], capfd)(
        "load", str(path), "--stream", "s", "--key", "user", "--create"
    )
    assert (ran.status, ran.out) == (1, "")
    assert f"streamkit load: {path}{why}" in ran.err


def test_loading_counts_only_what_is_stored_when_the_stream_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"user":"a"}\n{"user":"b","x":"' + b"x" * (1 << 20) + b'"}\n')
    cli = Cli(["--data", str(tmp_path / "data")], capfd)
    ran = cli("load", str(path), "--stream", "s", "--create")
    assert ran.status == 1
    assert "less than or equal to 1048576" in ran.err
    assert "0 records (0 bytes) stored" in ran.err
    assert cli.records("s") == []
    assert cli("load", str(tmp_path / "missing"), "--stream", "s").status == 2


def test_lines_are_the_same_however_the_source_is_cut() -> None:
    content = b"".join(b"%d" % n * (n % 9) + b"\n" for n in range(200)) + b"the end"

    class Source:
        def __init__(self, size: int) -> None:
            self.rest, self.size = content, size

        def read(self, size: int, /) -> bytes:
            part, self.rest = self.rest[: self.size], self.rest[self.size :]
            return part

    for size in (1, 2, 3, 10, 64, 5000):
        blocks = list(whole_lines(Source(size), 1 << 20, 1000))
        assert b"".join(blocks) == content
        assert all(block.endswith(b"\n") for block in blocks[:-1])


# -- verify ----------------------------------------------------------------------------------------------------------


def verify(data: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    capfd.readouterr()
    return Ran(main(["verify", str(data), *arguments]), *capfd.readouterr())


def test_verify_tells_a_whole_directory_from_a_damaged_one(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = verify(data, capfd)
    assert whole.status == 0
    assert re.fullmatch(
        r"s \(000000000000, us-east-1\): 1 shard, 1 segment, 20,000 records, .* kB, 0 checkpoints: whole\n", whole.out
    )
    (path,) = data.glob("streams/*/*.seg")
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    damaged = verify(data, capfd)
    assert damaged.status == 1
    first, second, *_ = damaged.out.splitlines()
    assert first.endswith(": DAMAGED")
    assert re.fullmatch(rf"damage: {re.escape(str(path))} at byte \d+: the checksum does not match .*", second)
    stream, damage, *_ = verify(data, capfd, "--json").objects
    assert (stream["kind"], stream["is_whole"], damage["kind"], damage["path"]) == (
        "stream",
        False,
        "damage",
        str(path),
    )
    assert 0 <= damage["position"] <= 1000


def test_verify_refuses_a_directory_in_use_and_one_that_is_none(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with streamkit.open_blocking(data):
        ran = verify(data, capfd)
        assert (ran.status, ran.out) == (2, "")
        assert f"{data} is in use by process {os.getpid()}" in ran.err
    assert verify(data / "streams" / "x", capfd).status == 2


# -- usage -----------------------------------------------------------------------------------------------------------


def test_the_overview_lists_commands_that_other_packages_bring(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "  sql           query streams with Flink's SQL\n" in capfd.readouterr().out


def test_without_a_command_the_overview_is_printed_and_the_status_is_2(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: streamkit COMMAND [options]" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["lod"], "there is no command 'lod'; did you mean load?; `streamkit --help` lists them"),
        (["frobnicate"], "there is no command 'frobnicate'; `streamkit --help` lists them"),
        (["create", "s", "--shrads", "2"], "--shrads 2; did you mean --shards?; `streamkit create --help`"),
        (["create"], "the following arguments are required: NAME; `streamkit create --help` shows how it is used"),
        (["create", "s", "--shards", "many"], "argument --shards: invalid int value: 'many'"),
        (["create", "s", "--retention-hours", "1"], "--retention-hours is 1; records are kept between 24 and 8760"),
        (["list", "--data", "missing"], "missing is no data directory; `streamkit create NAME --data missing` makes"),
        (["list", "--data", "x", "--endpoint", "y"], "not allowed with argument"),
        (["list", "--endpoint", "localhost:4566"], "'localhost:4566'; one looks like http://127.0.0.1:4566"),
        (["list", "--account-id", "12"], "--account-id is '12'; an AWS account has 12 digits"),
        (["put", "s", "--key", "k", "--explicit-hash-key", "x"], "'x' is no hash key"),
    ],
)
def test_wrong_use_ends_with_status_2_and_a_hint(
    arguments: list[str],
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"streamkit {arguments[0]}: ")
    assert hint in printed.err
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_a_failure_with_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--endpoint", "http://127.0.0.1:9"]) == 1
    assert "no server answers at http://127.0.0.1:9" in capfd.readouterr().err


def test_the_endpoint_comes_from_the_flag_then_the_environment_then_the_file(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = "http://127.0.0.1:9"
    (tmp_path / "streamkit.toml").write_text(f'endpoint = "{server.endpoint}"\ndata = "elsewhere"\n')
    assert main(["list"]) == 0
    monkeypatch.setenv("STREAMKIT_ENDPOINT", nowhere)
    assert main(["list"]) == 1
    assert main(["list", "--endpoint", server.endpoint]) == 0
    assert nowhere in capfd.readouterr().err


def test_accounts_and_regions_have_streams_of_their_own(cli: Cli) -> None:
    cli("create", "s", "--account-id", "111111111111", "--region", "eu-west-1")
    assert cli("list").out == ""
    (found,) = cli("list", "--account-id", "111111111111", "--region", "eu-west-1", "--json").objects
    assert found["name"] == "s"


def test_sizes_are_written_for_people() -> None:
    sizes = [0, 999, 1000, 45_500_000, 999_960, 7_000_000_000_000_000]
    assert list(map(size_text, sizes)) == ["0 bytes", "999 bytes", "1.0 kB", "45.5 MB", "1.0 MB", "7000.0 TB"]


# -- pipes, terminals and Ctrl-C: as programs ------------------------------------------------------------------------


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Output into pipes, buffered as it is for users; Ctrl-C as a terminal gives it, also where whoever started these
    tests ignores it, as a shell makes its background jobs do."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def heed_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen([*PROGRAM, *arguments], env=environment, preexec_fn=heed_ctrl_c, **pipes)


def ended(process: subprocess.Popen[bytes], within_s: float = 10) -> Ran:
    out, err = process.communicate(timeout=within_s)
    return Ran(process.returncode, (out or b"").decode(), (err or b"").decode())


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """The next line of its output, which must come."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 10)
    assert ready, "nothing was printed within 10 s"
    return process.stdout.readline()


def test_a_reader_that_goes_away_ends_a_command_quietly(data: Path) -> None:
    for arguments in (["tail", "s", "--no-follow"], ["tail", "s", "--from", "trim-horizon", "--json"]):
        process = start(*arguments, "--data", str(data))
        assert b"record 0" in line_of(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_reader_that_never_was_ends_a_command_quietly(data: Path) -> None:
    """What is printed is so little that it is written only at the end."""
    read, write = os.pipe()
    os.close(read)
    ran = ended(start("list", "--data", str(data), stdout=write))
    os.close(write)
    assert ran == Ran(0, "", "")


def test_a_pipe_into_head_works_as_in_any_shell(data: Path) -> None:
    script = f"{' '.join(PROGRAM)} tail s --no-follow --data {data} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=20)
    assert (done.stdout, done.stderr) == (b"record 0\n0\n", b"")


def test_ctrl_c_ends_tail_with_status_0_and_without_a_word(server: ServerProcess) -> None:
    server.reset()
    with streamkit.open_blocking(server.endpoint) as kit:
        kit.create_stream("s")
        kit.put("s", "there", partition_key="k")
        tail = start("tail", "s", "--from", "trim-horizon", "--endpoint", server.endpoint)
        assert line_of(tail) == b"there\n"
        kit.put("s", "new", partition_key="k")
        assert line_of(tail) == b"new\n"
    tail.send_signal(signal.SIGINT)
    assert ended(tail) == Ran(0, "", "")


def test_ctrl_c_ends_load_and_what_it_counts_is_stored(data: Path) -> None:
    load = start("load", "-", "--stream", "s", "--data", str(data), stdin=subprocess.PIPE)
    assert load.stdin is not None
    load.stdin.write(b'{"n":1}\n{"n":2}\n{"n":')
    load.stdin.flush()
    (segment,) = data.glob("streams/*/*.seg")
    size = segment.stat().st_size
    wait_until(lambda: segment.stat().st_size > size)
    time.sleep(0.1)  # it reads on
    load.send_signal(signal.SIGINT)
    ran = ended(load)
    assert ran.status == 130
    assert re.search(r"^2 records \(14 bytes\) stored", ran.err, re.MULTILINE)
    with streamkit.open_blocking(data) as kit:
        batches = list(kit.consumer("s", "c", follow=False))
    assert [bytes(value) for value in batches[-1].values()][-2:] == [b'{"n":1}', b'{"n":2}']


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends_at, "it did not come about within 10 s"
        time.sleep(0.01)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`streamkit serve` and its endpoint."""
    process = start("serve", "--data", str(tmp_path / "served"), "--port", "0")
    assert process.stderr is not None
    endpoint = ""
    while not endpoint:
        line = process.stderr.readline().decode()
        assert line, "the server ended"
        endpoint = "".join(re.findall(r"^streamkit serves .* at (\S+)$", line, re.MULTILINE))
    yield process, endpoint
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_ctrl_c_stops_the_server_with_status_0(serving: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    process, endpoint = serving
    with streamkit.open_blocking(endpoint) as kit:
        kit.create_stream("s")
        kit.put("s", "acknowledged", partition_key="k")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    with streamkit.open_blocking(tmp_path / "served") as kit:
        (batch,) = kit.consumer("s", "c", follow=False)
    assert [bytes(value) for value in batch.values()] == [b"acknowledged"]


def test_a_second_ctrl_c_stops_the_server_though_a_request_is_under_way(
    serving: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    process, endpoint = serving
    with streamkit.open_blocking(endpoint) as kit:
        kit.create_stream("s")
        kit.put("s", "acknowledged", partition_key="k")
    tail = start("tail", "s", "--from", "trim-horizon", "--endpoint", endpoint)
    assert line_of(tail) == b"acknowledged\n"
    time.sleep(0.3)  # the next read waits for records
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    if process.poll() is None:  # a server that answers the waiting read at once needs no second one
        process.send_signal(signal.SIGINT)
    process.wait(3)
    assert ended(tail).status == 1
    with streamkit.open_blocking(tmp_path / "served") as kit:
        (batch,) = kit.consumer("s", "c", follow=False)
    assert [bytes(value) for value in batch.values()] == [b"acknowledged"]


class Terminal:
    """A command whose standard streams, those that are named, are a terminal."""

    def __init__(self, *arguments: str, **streams: Any) -> None:
        self._mine, theirs = pty.openpty()
        named = {name: theirs if value is True else value for name, value in streams.items()}
        self.process = start(*arguments, **named)
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._mine, text.encode())

    def printed(self) -> str:
        """All that appeared on it until the command ended."""
        parts = []
        try:
            while part := os.read(self._mine, 65_536):
                parts.append(part)
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(self._mine)
        return b"".join(parts).decode()


def test_on_a_terminal_a_stream_is_deleted_only_if_it_is_meant(data: Path) -> None:
    for answer, status, there in (("n\n", 1, ["s"]), ("\n", 1, ["s"]), ("yes\n", 0, [])):
        terminal = Terminal("delete", "s", "--data", str(data), stdin=True)
        terminal.type(answer)
        ran = ended(terminal.process)
        terminal.printed()
        assert ran.status == status
        assert "Delete stream s with all its records? [y/N]" in ran.err
        with streamkit.open_blocking(data) as kit:
            assert kit.streams() == there


def test_on_a_terminal_load_draws_a_bar_and_elsewhere_a_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"n":1}\n' * 1000)
    load = ["load", str(tmp_path / "in.jsonl"), "--stream", "s", "--data", str(data)]
    terminal = Terminal(*load, stderr=True)
    drawn = terminal.printed()
    assert ended(terminal.process).status == 0
    assert "1,000 records, " in drawn
    assert "8.0/8.0 kB" in drawn
    plain = ended(start(*load))
    assert len(plain.err.splitlines()) == 1
    assert "\x1b" not in plain.err


def test_on_a_terminal_tail_shows_key_and_time_and_in_a_pipe_only_data(data: Path) -> None:
    tail = ["tail", "s", "--no-follow", "--limit", "1", "--data", str(data)]
    terminal = Terminal(*tail, stdout=True)
    shown = terminal.printed()
    assert ended(terminal.process).status == 0
    assert re.fullmatch(r"\x1b\[2m\d{4}-\d\d-\d\dT[\d:.]+Z k\x1b\[0m record 0\r\n", shown)
    assert ended(start(*tail)).out == "record 0\n"


def test_heavy_packages_are_imported_only_where_they_are_needed() -> None:
    program = (
        "import sys; from streamkit.cli.main import main; main(['version']); "
        "import streamkit.cli.list, streamkit.cli.tail; "
        "print(sorted({'rich', 'pyarrow', 'botocore', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20, check=True)
    assert done.stdout.splitlines()[-1] == b"[]"


# -- bench -----------------------------------------------------------------------------------------------------------


def test_bench_measures_two_endpoints_in_turns_and_leaves_no_stream_behind(
    server: ServerProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--endpoint", server.endpoint, "--against", server.endpoint, "--seconds", "0.1", "--rounds", "1"]
    cases = ["put-record", "put-records-100"]
    assert main(["bench", "--json", *options, *(word for case in cases for word in ("--case", case))]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["case"] for line in lines] == cases
    assert all(line["value"] > 0 and line["against"] > 0 and line["errors"] == 0 for line in lines)
    with streamkit.open_blocking(server.endpoint) as kit:
        assert not [name for name in kit.streams() if name.startswith("bench-")]


def test_bench_goes_on_where_an_endpoint_closes_after_each_answer(capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        asked.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    async def measured() -> Outcome:
        closing = await asyncio.start_server(answer, "127.0.0.1", 0)
        endpoint = f"http://127.0.0.1:{closing.sockets[0].getsockname()[1]}"
        async with closing:
            return await run_for(endpoint, [kinesis_request("x", "ListStreams", b"{}")], 2, 0.1)

    outcome = asyncio.run(measured())
    assert outcome.requests_count == len(asked) > 2
    assert outcome.errors_count == 0
