"""`streamkit up`: boto3 finds what a pipeline file says, the second time nothing changes, and saved code runs."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import streamkit
from streamkit.testing.server import ServerProcess
from tests.wire.clients import ACCOUNT, REGION

UP = [sys.executable, "-m", "streamkit.cli.main", "up"]
CODE = """import base64

def handler(event, context):
    for record in event.get("Records", ()):
        print("record", base64.b64decode(record["kinesis"]["data"]).decode())
    return "first"
"""
PIPELINE = """
[stream.clicks]
shards = 2
retention_hours = 48

[stream.failed]

[function.count]
code = "functions/count"
handler = "app.handler"
timeout_s = 30
memory_mib = 256
variables = { LEVEL = "info" }
reserved_concurrency = 10

[mapping.clicks-to-count]
stream = "clicks"
function = "count"
batch_size = 50
retries_max = 2
record_age_s_max = 3600
bisect = true
report_item_failures = true
filters = [{ data = { type = ["sale"] } }]
on_failure = "stream:failed"
"""
SALE = '{"type": "sale"}'


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def outcomes(self) -> list[tuple[str, str, str]]:
        found = [json.loads(line) for line in self.out.splitlines()]
        return [(each["kind"], each["name"], each["outcome"]) for each in found]


class Project:
    """A directory with a pipeline file and code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "pipeline.toml"
        self.code = path / "functions" / "count" / "app.py"
        self.code.parent.mkdir(parents=True)
        self.code.write_text(CODE)
        self.file.write_text(PIPELINE)

    def replace(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def up(self, *options: str) -> Ran:
        done = subprocess.run([*UP, str(self.file), *options], capture_output=True, timeout=60, text=True)
        return Ran(done.returncode, done.stdout, done.stderr)


class Running:
    """`streamkit up` that goes on, with the lines that it prints."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [*UP, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))

    def line(self, pattern: str, timeout_s: float = 20) -> re.Match[str]:
        """The next line that has it."""
        ends_at = time.monotonic() + timeout_s
        while True:
            line = self._queue.get(timeout=max(0.01, ends_at - time.monotonic()))
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def end(self) -> int:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(*arguments, cwd=project.path))
        return running[-1]

    yield begin
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
        if each.process.stdout is not None:
            each.process.stdout.close()


@pytest.fixture
def server(start_streamkit: Any, request: pytest.FixtureRequest) -> ServerProcess:
    made: ServerProcess = start_streamkit(**getattr(request, "param", {}))
    return made


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def invoked(endpoint: str) -> Any:
    return json.load(client("lambda", endpoint).invoke(FunctionName="count")["Payload"])


def logged(endpoint: str) -> str:
    try:
        events = client("logs", endpoint).filter_log_events(logGroupName="/aws/lambda/count")["events"]
    except ClientError:
        return ""
    return "".join(event["message"] for event in events)


def eventually(is_so: Callable[[], bool], timeout_s: float = 20) -> None:
    ends_at = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < ends_at, f"it did not come about within {timeout_s:g} s"
        time.sleep(0.05)


MADE = [
    ("stream", "clicks", "made"),
    ("stream", "failed", "made"),
    ("function", "count", "made"),
    ("mapping", "clicks-to-count", "made"),
]
LEFT_ALONE = [(kind, name, "left alone") for kind, name, _ in MADE]


# -- a running server ------------------------------------------------------------------------------------------------


def test_what_the_file_says_is_what_boto3_finds(server: ServerProcess, project: Project) -> None:
    ran = project.up("--endpoint", server.endpoint, "--json")
    assert (ran.status, ran.outcomes) == (0, MADE)
    stream = client("kinesis", server.endpoint).describe_stream_summary(StreamName="clicks")["StreamDescriptionSummary"]
    assert (stream["OpenShardCount"], stream["RetentionPeriodHours"]) == (2, 48)
    functions = client("lambda", server.endpoint)
    found = functions.get_function(FunctionName="count")
    configuration = found["Configuration"]
    assert (configuration["Handler"], configuration["Timeout"], configuration["MemorySize"]) == ("app.handler", 30, 256)
    assert configuration["Environment"] == {"Variables": {"LEVEL": "info"}}
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 10}
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    assert mapping["State"] == "Enabled"
    assert (mapping["BatchSize"], mapping["MaximumRetryAttempts"], mapping["MaximumRecordAgeInSeconds"]) == (
        50,
        2,
        3600,
    )
    assert mapping["BisectBatchOnFunctionError"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert [json.loads(each["Pattern"]) for each in mapping["FilterCriteria"]["Filters"]] == [
        {"data": {"type": ["sale"]}}
    ]
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"].endswith(":stream/failed")
    with streamkit.open_blocking(server.endpoint) as kit:
        kit.put("clicks", SALE, partition_key="k")
    eventually(lambda: f"record {SALE}" in logged(server.endpoint))


@pytest.mark.parametrize("server", [{}, {"transition_delay_ms": 300}], indirect=True, ids=["at once", "transitions"])
def test_the_second_time_nothing_changes(server: ServerProcess, project: Project) -> None:
    assert project.up("--endpoint", server.endpoint, "--json").outcomes == MADE
    functions = client("lambda", server.endpoint)

    def states() -> list[Any]:
        mappings = functions.list_event_source_mappings()["EventSourceMappings"]
        found = functions.get_function_configuration(FunctionName="count")
        return [found["RevisionId"], found["LastModified"], *(each["LastModified"] for each in mappings)]

    before = states()
    again = project.up("--endpoint", server.endpoint, "--json")
    assert (again.status, again.outcomes) == (0, LEFT_ALONE)
    assert states() == before


def test_what_changed_in_the_file_is_changed_and_told(server: ServerProcess, project: Project) -> None:
    project.up("--endpoint", server.endpoint)
    project.replace("shards = 2\nretention_hours = 48", "shards = 5\nretention_hours = 30")
    project.replace("timeout_s = 30", "timeout_s = 31")
    project.replace('variables = { LEVEL = "info" }\nreserved_concurrency = 10\n', "")
    project.replace("batch_size = 50\n", "")
    project.replace("bisect = true\n", "")
    project.replace('on_failure = "stream:failed"\n', 'start = "LATEST"\n')
    project.code.write_text(CODE.replace("first", "second"))
    ran = project.up("--endpoint", server.endpoint)
    assert ran.out.splitlines() == [
        "stream clicks changed: retention_hours 48 to 30, shards 2 to 5",
        "stream failed left alone",
        "function count changed: code, timeout_s 30 to 31, variables, reserved_concurrency 10 to none",
        "mapping clicks-to-count changed: batch_size 50 to 100, bisect true to false, on_failure "
        "(start counts only when a mapping is made)",
    ]
    assert invoked(server.endpoint) == "second"
    with streamkit.open_blocking(server.endpoint) as kit:
        assert len(kit.describe("clicks").open_shards) == 5
    project.replace("shards = 5\nretention_hours = 30", "")  # of a stream, what is not said is as it is
    assert project.up("--endpoint", server.endpoint, "--json").outcomes == LEFT_ALONE


def test_what_the_file_does_not_say_is_left_alone(server: ServerProcess, project: Project) -> None:
    """Nothing is deleted: neither what was in the file before, nor what was never in it."""
    project.up("--endpoint", server.endpoint)
    functions = client("lambda", server.endpoint)
    functions.update_function_configuration(FunctionName="count", Description="by hand")
    functions.publish_version(FunctionName="count")
    with streamkit.open_blocking(server.endpoint) as kit:
        kit.create_stream("other")
    project.file.write_text('[stream.failed]\n[function.count]\ncode = "functions/count"\nhandler = "app.handler"\n')
    assert project.up("--endpoint", server.endpoint).status == 0
    with streamkit.open_blocking(server.endpoint) as kit:
        assert kit.streams() == ["clicks", "failed", "other"]
    assert len(functions.list_event_source_mappings()["EventSourceMappings"]) == 1
    assert functions.get_function_configuration(FunctionName="count")["Description"] == "by hand"


def test_a_disabled_mapping_stays_disabled(server: ServerProcess, project: Project) -> None:
    project.up("--endpoint", server.endpoint)
    functions = client("lambda", server.endpoint)
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    assert project.up("--endpoint", server.endpoint).out.splitlines()[-1] == (
        "mapping clicks-to-count left alone (it is disabled)"
    )
    assert functions.get_event_source_mapping(UUID=mapping["UUID"])["State"] == "Disabled"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'stream = "clicks"',
            'stream = "cliks"',
            'mapping.clicks-to-count.stream is "cliks", which is neither in the ',
        ),
        ('function = "count"', 'function = "coutn"', 'function is "coutn", which is neither in the file nor on the '),
        ('function = "count"', 'function = "count:live"', "count has no version or alias live yet; "),
        ('"stream:failed"', '"stream:gone"', 'mapping.clicks-to-count.on_failure is "gone", which is neither '),
        (
            "timeout_s",
            f'layers = ["arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1"]\ntimeout_s',
            f"function.count.layers[0] is arn:aws:lambda:{REGION}:{ACCOUNT}:layer:none:1, which is not there",
        ),
        (
            "batch_size",
            "batch_sise",
            "mapping.clicks-to-count.batch_sise is no key of a mapping; did you mean batch_size?",
        ),
        ("[stream.failed]", "[streams.failed]", "streams is no kind of section; did you mean [stream.NAME]?"),
    ],
)
def test_a_file_with_a_fault_changes_nothing(
    server: ServerProcess, project: Project, old: str, new: str, expected: str
) -> None:
    project.replace(old, new)
    ran = project.up("--endpoint", server.endpoint)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"streamkit up: {project.file}")
    assert expected in ran.err
    with streamkit.open_blocking(server.endpoint) as kit:
        assert kit.streams() == []


def test_a_mapping_may_use_an_alias_and_what_only_the_server_has(server: ServerProcess, project: Project) -> None:
    project.up("--endpoint", server.endpoint)
    functions = client("lambda", server.endpoint)
    functions.publish_version(FunctionName="count")
    functions.create_alias(FunctionName="count", Name="live", FunctionVersion="1")
    project.file.write_text('[mapping.m]\nstream = "failed"\nfunction = "count:live"\nstart = 2026-01-31T09:00:00Z\n')
    assert project.up("--endpoint", server.endpoint, "--json").outcomes == [("mapping", "m", "made")]
    assert project.up("--endpoint", server.endpoint, "--json").outcomes == [("mapping", "m", "left alone")]
    mappings = functions.list_event_source_mappings(FunctionName="count:live")["EventSourceMappings"]
    assert [each["StartingPosition"] for each in mappings] == ["AT_TIMESTAMP"]


def test_options_of_a_server_and_an_endpoint_exclude_each_other(project: Project) -> None:
    ran = project.up("--endpoint", "http://127.0.0.1:1", "--port", "0")
    assert ran.status == 2
    assert "--port is for the server that `streamkit up` starts, and --endpoint says that one runs already" in ran.err
    ran = project.up("--endpoint", "http://127.0.0.1:1")
    assert ran.status == 1
    assert "no server answers at http://127.0.0.1:1" in ran.err


def test_saved_code_is_given_to_a_running_server(
    server: ServerProcess, project: Project, start: Callable[..., Running]
) -> None:
    running = start("pipeline.toml", "--endpoint", server.endpoint, "--reload")
    running.line("watching the code of count")
    assert invoked(server.endpoint) == "first"
    project.code.write_text(CODE.replace("first", "second"))
    running.line("^function count changed: code$")
    assert invoked(server.endpoint) == "second"
    assert running.end() == 0


# -- a server of its own ---------------------------------------------------------------------------------------------


def endpoint_of(running: Running) -> str:
    return running.line(r"^streamkit serves .* at (\S+)$")[1]


def test_it_serves_a_directory_and_the_functions_run(project: Project, start: Callable[..., Running]) -> None:
    """The directory is relative to where it is run, as is `serve`'s."""
    running = start("pipeline.toml", "--data", "data", "--port", "0")
    endpoint = endpoint_of(running)
    running.line("^mapping clicks-to-count made")
    made = [line for line in running.lines if line.startswith(("stream ", "function "))]
    assert made == ["stream clicks made (2 shards)", "stream failed made (1 shard)", "function count made"]
    with streamkit.open_blocking(endpoint) as kit:
        kit.put("clicks", SALE, partition_key="k")
    eventually(lambda: f"record {SALE}" in logged(endpoint))
    assert running.end() == 0


def test_started_again_it_changes_nothing_and_goes_on_where_it_stopped(
    project: Project, start: Callable[..., Running]
) -> None:
    first = start("pipeline.toml", "--data", "data", "--port", "0")
    endpoint = endpoint_of(first)
    first.line("^mapping clicks-to-count made")
    with streamkit.open_blocking(endpoint) as kit:
        kit.put("clicks", SALE, partition_key="k")
    eventually(lambda: f"record {SALE}" in logged(endpoint))
    assert first.end() == 0
    project.code.write_text(CODE.replace('"record"', '"new code got"'))
    again = start("pipeline.toml", "--data", "data", "--port", "0")
    again.line("^function count changed: code$")
    endpoint = endpoint_of(again)
    again.line("^mapping clicks-to-count left alone$")
    assert {"stream clicks left alone", "stream failed left alone"} <= set(again.lines)
    with streamkit.open_blocking(endpoint) as kit:
        kit.put("clicks", SALE, partition_key="k")
    eventually(lambda: f"new code got {SALE}" in logged(endpoint))
    assert logged(endpoint).count(SALE) == 2
    assert again.end() == 0


def test_saved_code_runs_and_a_fault_of_syntax_is_told_and_stops_nothing(
    project: Project, start: Callable[..., Running]
) -> None:
    running = start("pipeline.toml", "--data", "data", "--port", "0", "--reload")
    endpoint = endpoint_of(running)
    running.line("watching the code of count")
    assert invoked(endpoint) == "first"
    project.code.write_text("def handler(event, context)\n    return 'broken'\n")
    running.line(r"^function count keeps its code: .*functions/count/app\.py:1: ")
    assert invoked(endpoint) == "first"
    project.code.write_text(CODE.replace("first", "second"))
    running.line("^function count changed: code$")
    assert invoked(endpoint) == "second"
    (project.code.parent / "helper.py").write_text("x = (\n")
    running.line(r"^function count keeps its code: .*helper\.py:1: ")
    (project.code.parent / "helper.py").write_text("VALUE = 'third'\n")
    project.code.write_text("from helper import VALUE\n\ndef handler(event, context):\n    return VALUE\n")
    running.line("^function count changed: code$")
    eventually(lambda: invoked(endpoint) == "third")
    assert running.end() == 0


def test_a_file_with_a_fault_starts_nothing(project: Project) -> None:
    project.replace("batch_size", "batch_sise")
    ran = project.up("--data", str(project.path / "data"), "--port", "0")
    assert ran.status == 2
    assert not (project.path / "data").exists()
    project.replace("batch_sise", "batch_size")
    project.replace('stream = "clicks"', 'stream = "cliks"')
    ran = project.up("--data", str(project.path / "data"), "--port", "0")
    assert ran.status == 2
    assert 'mapping.clicks-to-count.stream is "cliks"' in ran.err
    assert "Traceback" not in ran.err


def test_what_the_server_alone_refuses_stops_it_with_its_words(project: Project) -> None:
    """An on-failure destination of a service that is not here."""
    project.replace('"stream:failed"', f'"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"')
    ran = project.up("--data", str(project.path / "data"), "--port", "0")
    assert ran.status == 1
    assert re.search(r"^streamkit up: InvalidParameterValueException: .", ran.err, re.MULTILINE)
    assert "Traceback" not in ran.err


def test_a_server_that_verifies_signatures_over_tls_is_brought_up_too(
    project: Project, start: Callable[..., Running]
) -> None:
    """What is done before and beside serving needs neither a signature nor a certificate."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run(
            [*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=project.path, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    options = [
        "--auth",
        "verified",
        "--access-key",
        "me:secret",
        "--tls",
        "--tls-cert",
        "cert.pem",
        "--tls-key",
        "key.pem",
    ]
    running = start("pipeline.toml", "--data", "data", "--port", "0", *options)
    endpoint = endpoint_of(running)
    running.line("^mapping clicks-to-count made")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(f"{endpoint}/health", timeout=10, context=trusting) as answer:
        assert json.load(answer)["mappings"] == 1
    assert running.end() == 0
