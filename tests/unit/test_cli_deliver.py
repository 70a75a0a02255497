"""`streamkit deliver` and `streamkit deliveries`, against a server of their own: one line, and the files are there."""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import streamkit
from streamkit.cli.deliver import _size, _time
from streamkit.cli.main import main
from streamkit.testing.server import ServerProcess

PROGRAM = [sys.executable, "-m", "streamkit.cli.main"]
CLICKS = [
    {"id": number, "at": f"2026-01-{31 - number % 2}T0{number % 3}:30:00Z", "at_ms": 1_769_900_000_000 + number}
    for number in range(30)
]
CODE = """import base64, json

def handler(event, context):
    def changed(record):
        click = json.loads(base64.b64decode(record["data"]))
        data = base64.b64encode(json.dumps({"id": click["id"], "seen": True}).encode()).decode()
        return {"recordId": record["recordId"], "result": "Dropped" if click["id"] % 10 else "Ok", "data": data}
    return {"records": [changed(record) for record in event["records"]]}
"""


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def found_in(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


class Cli:
    """Runs commands against a server, in this process, in a directory of its own."""

    def __init__(self, endpoint: str, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.endpoint = endpoint
        self.path = path
        self._capfd = capfd

    def __call__(self, line: str) -> Ran:
        self._capfd.readouterr()
        status = main([*shlex.split(line), "--endpoint", self.endpoint])
        return Ran(status, *self._capfd.readouterr())

    def ok(self, line: str) -> Ran:
        ran = self(line)
        assert ran.status == 0, ran.err
        return ran

    def put(self, name: str, lines: bytes, *options: str) -> str:
        """Through a pipe, as people do."""
        arguments = [*PROGRAM, "deliveries", "--put", name, "--endpoint", self.endpoint, *options]
        return subprocess.run(arguments, input=lines, capture_output=True, timeout=30, check=True).stderr.decode()

    def files(self, place: str = "lake") -> list[str]:
        return sorted(str(path.relative_to(self.path / place)) for path in found_in(self.path / place))

    def lines(self, place: str = "lake") -> list[Any]:
        """Of all files, in no order."""
        found = []
        for path in found_in(self.path / place):
            data = path.read_bytes()
            found += (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
        return [json.loads(line) for line in found]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cli") / "data", allow_reset=True, durability="none") as process:
        yield process


@pytest.fixture
def cli(
    server: ServerProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    """With a stream of 30 clicks."""
    monkeypatch.chdir(tmp_path)
    server.reset()
    with streamkit.open_blocking(server.endpoint) as kit:
        kit.create_stream("clicks", shards=2)
        kit.put_many("clicks", [(str(click["id"]), json.dumps(click)) for click in CLICKS])
    return Cli(server.endpoint, tmp_path, capfd)


# -- deliver ---------------------------------------------------------------------------------------------------------


def test_one_line_makes_parquet_files_of_a_stream(cli: Cli) -> None:
    ran = cli.ok('deliver clicks --to ./lake --format parquet --columns "id bigint, at timestamp" --flush')
    assert ran.out == ""
    assert ran.err.splitlines() == [
        f"delivery clicks-to-lake made (stream clicks to {cli.path}/lake)",
        "everything that was put so far is delivered",
    ]
    table = ds.dataset(cli.path / "lake").to_table()
    assert table.schema.names == ["id", "at"]
    assert sorted(table["id"].to_pylist()) == [click["id"] for click in CLICKS]


def test_columns_are_found_where_none_are_given(cli: Cli) -> None:
    cli.ok("deliver clicks --to ./lake --format parquet --flush")
    table = ds.dataset(cli.path / "lake").to_table()
    assert sorted(table["id"].to_pylist()) == [click["id"] for click in CLICKS]
    assert set(table.schema.names) == {"id", "at", "at_ms"}


def test_done_a_second_time_it_changes_nothing(cli: Cli) -> None:
    line = "deliver clicks --to lake --hourly at --option errors=failed --size 1MB --interval 5m --manifest --json"
    assert cli.ok(line).object["outcome"] == "made"
    assert cli.ok(line).object == {"name": "clicks-to-lake", "outcome": "left alone", "changes": [], "note": ""}
    assert cli.ok("deliveries clicks-to-lake --json").object["version"] == 1


def test_other_settings_change_it_in_words_and_it_goes_on_from_where_it_was(cli: Cli) -> None:
    cli.ok("deliver clicks --to lake --compression GZIP --prefix a/ --flush")
    ran = cli.ok("deliver clicks --to lake --size 16MB --interval 500ms --partition-by '{id: .id}' --json --flush")
    assert ran.object["changes"] == [
        "compression GZIP to none",
        "prefix a/ to id=!{partitionKeyFromQuery:id}/",
        "partition_by none to {id: .id}",
        "size_mb none to 16",
        "interval_s none to 0.5",
    ]
    assert cli.ok("deliveries clicks-to-lake --json").object["version"] == 2
    assert sorted(each["id"] for each in cli.lines()) == [click["id"] for click in CLICKS]
    with streamkit.open_blocking(cli.endpoint) as kit:
        kit.put("clicks", '{"id": 100}', partition_key="k")
    cli.ok("deliveries --flush clicks-to-lake")
    assert [name for name in cli.files() if name.startswith("id=100/")]
    assert len(cli.lines()) == 31


def test_a_name_that_nobody_chose_does_not_turn_another_delivery_away(cli: Cli) -> None:
    cli.ok("deliver clicks --to lake")
    ran = cli("deliver clicks --to elsewhere/lake")
    assert ran.status == 2
    assert f"there is a delivery clicks-to-lake already, to {cli.path}/lake; give this one another name" in ran.err
    assert cli.ok("deliver clicks --to elsewhere/lake --name second --json").object["outcome"] == "made"
    ran = cli.ok("deliver clicks --to elsewhere/lake --name clicks-to-lake --json")
    assert ran.object["changes"] == [f"to {cli.path}/lake to {cli.path}/elsewhere/lake"]


@pytest.mark.parametrize(
    ("option", "folders"),
    [
        ("--hourly at", {f"day=2026-01-{day}/hour=0{hour}" for day in (30, 31) for hour in (0, 1, 2)}),
        ("--daily at", {"day=2026-01-30", "day=2026-01-31"}),
        ("--daily at_ms:ms", {"day=2026-01-31"}),
        ("--partition-by '{odd: (.id % 2 | tostring)}'", {"odd=0", "odd=1"}),
        ("--partition-by '{at: .at[8:10]}' --prefix 'p/!{partitionKeyFromQuery:at}/'", {"p/30", "p/31"}),
    ],
)
def test_files_are_in_folders_of_the_records_own_time_or_of_any_query(cli: Cli, option: str, folders: set[str]) -> None:
    cli.ok(f"deliver clicks --to lake {option} --flush")
    assert sorted(each["id"] for each in cli.lines()) == [click["id"] for click in CLICKS]
    assert {name.rpartition("/")[0] for name in cli.files()} == folders


def test_a_function_gets_the_records_first(cli: Cli) -> None:
    Path("app.py").write_text(CODE)
    cli.ok("functions create clean app.py --handler app.handler")
    cli.ok("deliver clicks --to lake --transform clean --interval 200ms --flush")
    assert sorted(each["id"] for each in cli.lines()) == [0, 10, 20]
    assert all(each["seen"] for each in cli.lines())
    assert cli.ok("deliveries clicks-to-lake --json").object["transform"] == "clean"


def test_a_table_of_delta_is_a_place_too(cli: Cli) -> None:
    from deltalake import DeltaTable

    cli.ok("deliver clicks --to delta+tables/clicks --flush")
    assert DeltaTable(str(cli.path / "tables" / "clicks")).to_pyarrow_table().num_rows == 30
    assert cli.ok("deliveries clicks-to-delta --json").object["format"] == "parquet"


def test_records_that_are_put_later_come_by_themselves(cli: Cli) -> None:
    cli.ok("deliver clicks --to lake --from latest --interval 0s")
    with streamkit.open_blocking(cli.endpoint) as kit:
        kit.put("clicks", '{"id": 100}', partition_key="k")
    cli.ok("deliveries --flush")
    assert [each["id"] for each in cli.lines()] == [100]
    ran = cli.ok("deliver clicks --to lake --interval 0s --json")
    assert (ran.object["outcome"], ran.object["note"]) == ("left alone", "start counts only when a delivery is made")


def test_what_failed_goes_where_errors_says(cli: Cli) -> None:
    with streamkit.open_blocking(cli.endpoint) as kit:
        kit.put("clicks", "no JSON", partition_key="k")
    cli.ok('deliver clicks --to lake --format parquet --columns "id bigint" --option errors=failed --flush')
    assert ds.dataset(cli.path / "lake").count_rows() == 30
    (name,) = cli.files("failed")
    assert name.startswith("_errors/format-conversion-failed/")
    assert cli.ok("deliveries clicks-to-lake --json").object["failed_records"] == 1


def test_settings_come_from_the_environment_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMKIT_FORMAT", "parquet")
    monkeypatch.setenv("STREAMKIT_SIZE", "32MB")
    monkeypatch.setenv("STREAMKIT_TO", "lake")
    cli.ok("deliver clicks --flush")
    assert ds.dataset(cli.path / "lake").count_rows() == 30
    assert cli.ok("deliveries clicks-to-lake --json").object["size_mb"] == 32
    monkeypatch.setenv("STREAMKIT_INTERVAL", "soon")
    assert "STREAMKIT_INTERVAL is 'soon', which will not do: 'soon' is no time" in cli("deliver clicks").err


def test_a_secret_is_shown_to_nobody_and_a_new_one_is_taken(cli: Cli) -> None:
    line = "deliver clicks --to http://127.0.0.1:9/p --interval 1h --name h --json --option access_key="
    assert cli.ok(f"{line}first").object["outcome"] == "made"
    assert cli.ok(f"{line}first").object["outcome"] == "left alone"
    assert "first" not in cli.ok("deliveries h --json").out
    assert cli.ok(f"{line}second").object["changes"] == ["secret options"]
    assert cli.ok(f"{line}second").object["outcome"] == "left alone"
    assert cli.ok("deliver clicks --to http://127.0.0.1:9/p --interval 1h --name h --json").object["changes"] == [
        "secret options"
    ]


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("deliver", 2, "say either the STREAM to deliver, or --direct NAME"),
        ("deliver clicks --direct audit --to lake", 2, "say either the STREAM to deliver, or --direct NAME"),
        ("deliver clicks", 2, "--to is needed: a directory, or a URL like s3://bucket/folder"),
        ("deliver --direct a --name b --to lake", 2, "--direct says the name already"),
        ("deliver cliks --to lake", 1, "there is no stream cliks; `streamkit list` lists those that are there, and "),
        ("deliver clicks --to lake --transform clean", 1, "there is no function clean; `streamkit functions` lists "),
        ("deliver clicks --to lake --hourly 'a b'", 2, "'a b' is no field with a record's time; one looks like time"),
        ("deliver clicks --to lake --hourly a --daily b", 2, "not allowed with argument"),
        ("deliver clicks --to lake --option endpoint", 2, "--option is 'endpoint'; one looks like endpoint=http"),
        ("deliver clicks --to lake --size 64XB", 2, "'64XB' is no size; one looks like 64MB"),
        ("deliver clicks --to lake --interval soon", 2, "'soon' is no time; one looks like 60s"),
        ("deliver clicks --to lake --from yesterday", 2, "'yesterday' is neither TRIM_HORIZON nor LATEST"),
        ("deliver clicks --to lake --columns id", 2, "'id' is no column; one is a name and a type, like id bigint"),
        ("deliver clicks --to gopher://h --name g", 2, "gopher://h is no place that streamkit delivers to: /a/direct"),
        ("deliver clicks --to lake --formt orc", 2, "did you mean --format?"),
        ("deliver clicks --to lake --name 'a b'", 2, "a b cannot be a delivery stream's name"),
        ("deliveries nothing", 1, "there is no delivery stream nothing; `streamkit deliveries` lists those"),
        ("deliveries --flush nothing", 1, "there is no delivery stream nothing; `streamkit deliveries` lists those"),
        ("deliveries --delete nothing", 1, "there is no delivery stream nothing; `streamkit deliveries` lists those"),
        ("deliveries a --delete b", 2, "--delete says the name already"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(cli: Cli, line: str, status: int, expected: str) -> None:
    ran = cli(line)
    assert (ran.status, ran.out) == (status, "")
    assert expected in ran.err
    assert "no deliveries" in cli.ok("deliveries").err


def test_all_mistakes_of_a_line_are_told_at_once(cli: Cli) -> None:
    options = '--format parquet --columns "a arry<int>" --partition-by "{a" --delimiter ";" --time-zone Mars'
    ran = cli(f"deliver clicks --to lake {options}")
    assert [line.split(" is ")[0].strip() for line in ran.err.splitlines()][:2] == [
        "streamkit deliver: --columns a",
        "--delimiter",
    ]
    assert "--partition-by is no query" in ran.err
    assert "time zone" in ran.err


def test_what_it_reads_cannot_be_changed(cli: Cli) -> None:
    cli.ok("create others")
    cli.ok("deliver clicks --to lake --name d")
    for line in ("deliver others --to lake --name d", "deliver --direct d --to lake"):
        ran = cli(line)
        assert ran.status == 2
        assert "delivery d reads stream clicks, and its source cannot be changed to " in ran.err
        assert "`streamkit deliveries --delete d`" in ran.err


@pytest.mark.parametrize(
    ("text", "bytes"),
    [("64MB", 64 << 20), ("64 MiB", 64 << 20), ("1.5k", 1536), ("1GB", 1 << 30), ("100", 100), ("7B", 7)],
)
def test_sizes_are_those_of_aws(text: str, bytes: int) -> None:
    assert _size(text) == bytes


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("60", 60), ("5m", 300), ("1.5h", 5400), ("250ms", 0.25)])
def test_times_have_units(text: str, seconds: float) -> None:
    assert _time(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "MB", "1e3s"])
def test_what_is_no_size_and_no_time_is_refused(text: str) -> None:
    for kind in (_size, _time):
        with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
            kind(text)


# -- direct puts -----------------------------------------------------------------------------------------------------


def test_lines_are_put_to_a_delivery_that_takes_direct_puts(cli: Cli) -> None:
    """More than a request has room for; each line a record, blank ones left out."""
    cli.ok("deliver --direct audit --to audit --compression GZIP --interval 1h")
    lines = b"".join(b'{"n": %d}\n\n' % number for number in range(1_234))
    assert cli.put("audit", lines) == "1,234 records put to audit\n"
    assert cli.put("audit", b'{"n": 1234}', "--flush").splitlines() == [
        "1 record put to audit",
        "audit has delivered everything that was put before",
    ]
    assert sorted(each["n"] for each in cli.lines("audit")) == [*range(1_235)]


def test_a_delivery_that_reads_a_stream_takes_no_puts(cli: Cli) -> None:
    cli.ok("deliver clicks --to lake")
    ran = cli("deliveries --put clicks-to-lake")
    assert (ran.status, "reads a stream: put to that, with `streamkit put`" in ran.err) == (2, True)


def test_the_delimiter_is_what_was_asked_for(cli: Cli) -> None:
    for name, options in (("lines", ""), ("bare", "--format records"), ("semicolons", "--delimiter ';'")):
        cli.ok(f"deliver --direct {name} --to {name} {options}")
        cli.put(name, b"a\nb\n", "--flush")
    names = ("lines", "bare", "semicolons")
    found = {name: [path.read_bytes() for path in found_in(cli.path / name)] for name in names}
    assert found == {"lines": [b"a\nb\n"], "bare": [b"ab"], "semicolons": [b"a;b;"]}


# -- deliveries ------------------------------------------------------------------------------------------------------


def test_deliveries_are_listed_with_what_they_did(cli: Cli) -> None:
    cli.ok("deliver clicks --to lake --format orc --columns 'id bigint' --name listed --flush")
    cli.ok("deliver --direct empty --to empty")
    head, empty, listed = cli.ok("deliveries").out.splitlines()
    assert head.split() == ["NAME", "SOURCE", "TO", "FORMAT", "STATUS", "DELIVERED", "FRESHNESS", "FAILED", "PENDING"]
    assert re.split(r"\s{2,}", empty) == [
        "empty", "direct puts", str(cli.path / "empty"), "json", "ACTIVE", "0", "-", "0", "0 bytes",
    ]  # fmt: skip
    assert re.split(r"\s{2,}", listed) == [
        "listed", "clicks", str(cli.path / "lake"), "orc", "ACTIVE", "30", "-", "0", "0 bytes",
    ]  # fmt: skip
    found = [json.loads(line) for line in cli.ok("deliveries --json").out.splitlines()]
    assert [each["name"] for each in found] == ["empty", "listed"]
    assert found[1]["columns"] == {"id": "bigint"}
    assert (found[1]["delivered_records"], found[1]["incoming_records"]) == (30, 30)
    shown = cli.ok("deliveries listed").out
    assert re.search(r"^columns +\{\"id\": \"bigint\"\}$", shown, re.MULTILINE)


def test_what_an_aws_tool_made_is_listed_too(cli: Cli) -> None:
    keys = {"aws_access_key_id": "000000000000", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    firehose = boto3.client("firehose", endpoint_url=cli.endpoint, **keys)
    try:
        bucket = {"BucketARN": "arn:aws:s3:::lake", "RoleARN": "arn:aws:iam::000000000000:role/r", "Prefix": "a/"}
        firehose.create_delivery_stream(
            DeliveryStreamName="s3", ExtendedS3DestinationConfiguration={**bucket, "CompressionFormat": "GZIP"}
        )
        firehose.create_delivery_stream(
            DeliveryStreamName="http",
            HttpEndpointDestinationConfiguration={
                "EndpointConfiguration": {"Url": "https://host/path"},
                "S3Configuration": bucket,
            },
        )
    finally:
        firehose.close()
    found = {each["name"]: each for each in map(json.loads, cli.ok("deliveries --json").out.splitlines())}
    assert (found["s3"]["to"], found["s3"]["format"]) == ("s3://lake/a/", "records, GZIP")
    assert (found["http"]["to"], found["http"]["format"]) == ("https://host/path", "-")
    assert found["s3"]["destination"]["Prefix"] == "a/"
    ran = cli.ok("deliver --direct s3 --to lake --json")  # what is said now counts
    assert (ran.object["outcome"], ran.object["changes"][0]) == ("changed", f"to none to {cli.path}/lake")
    assert cli.ok("deliveries s3 --json").object["to"] == str(cli.path / "lake")


def test_a_delivery_is_deleted_after_what_it_holds_is_delivered_if_that_is_asked_for(cli: Cli) -> None:
    cli.ok("deliver clicks --to kept --interval 1h")
    cli.ok("deliveries --delete clicks-to-kept --flush")
    assert len(cli.lines("kept")) == 30
    cli.ok("deliver clicks --to dropped --interval 1h")
    assert cli.ok("deliveries --delete clicks-to-dropped").err == (
        "delivery clicks-to-dropped is deleted; what it delivered is left alone\n"
    )
    assert not (cli.path / "dropped").exists()
    assert "no deliveries; `streamkit deliver STREAM --to ./lake` makes one" in cli.ok("deliveries").err


# -- the library -----------------------------------------------------------------------------------------------------


def test_a_program_says_it_as_the_command_does(cli: Cli) -> None:
    with streamkit.open_blocking(cli.endpoint) as kit:
        name = kit.deliver("clicks", "lake", format="parquet", columns={"id": "bigint"}, size_mb=1)
        kit.flush_deliveries(name)
        assert name == kit.deliver("clicks", Path("lake"), format="parquet", columns="id bigint", size_mb=1)
    assert sum(pq.read_metadata(path).num_rows for path in (cli.path / "lake").rglob("*.parquet")) == 30
    assert cli.ok("deliveries clicks-to-lake --json").object["version"] == 1


async def app_delivers(path: Path) -> None:
    async with streamkit.App(path / "data", durability="none") as app:
        await app.kit.create_stream("clicks")
        await app.kit.put_many("clicks", [("k", json.dumps(click)) for click in CLICKS])
        assert await app.kit.deliver("clicks", path / "lake", interval_s=3600) == "clicks-to-lake"
        with pytest.raises(streamkit.StreamkitError, match="there is no delivery stream other"):
            await app.kit.flush_deliveries("other")
        await app.kit.flush_deliveries()
        assert len(found_in(path / "lake")) == 1
        await app.kit.put("clicks", "{}", partition_key="k")
    async with streamkit.open(path / "data") as kit:
        with pytest.raises(
            streamkit.StreamkitError, match="nothing delivers from a data directory that is only opened"
        ):
            await kit.deliver("clicks", "lake")


def test_an_app_delivers_by_itself_and_what_it_holds_when_it_stops(tmp_path: Path) -> None:
    import asyncio

    asyncio.run(app_delivers(tmp_path))
    lines = [line for path in found_in(tmp_path / "lake") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line).get("id", 99) for line in lines) == [*range(30), 99]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"formt": "json"}, "formt is no setting; they are format, columns, "),
        ({"format": "orc", "columns": {"a": "what"}}, "columns.a is "),
        ({"time_zone": "Mars"}, "time zone is not supported"),
    ],
)
def test_a_program_that_is_wrong_is_told_before_anything_is_made(
    cli: Cli, settings: dict[str, Any], expected: str
) -> None:
    with streamkit.open_blocking(cli.endpoint) as kit, pytest.raises(streamkit.StreamkitError, match=expected):
        kit.deliver("clicks", "lake", **settings)
    assert "no deliveries" in cli.ok("deliveries").err
