"""The commands on functions, mappings and logs, against a server of their own."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamkit
from streamkit.cli.logs import LOOK_BACK_MS, Cursor
from streamkit.cli.main import main
from streamkit.testing.server import ServerProcess

PROGRAM = [sys.executable, "-m", "streamkit.cli.main"]
CODE = """import base64, os, sys

def handler(event, context):
    for record in event.get("Records", ()):
        print("record", base64.b64decode(record["kinesis"]["data"]).decode())
    print("level", os.environ.get("LEVEL"))
    return {"event": event, "version": context.function_version}

def fails(event, context):
    raise ValueError("on purpose")
"""


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def object(self) -> dict[str, Any]:
        (found,) = self.objects
        return found


class Cli:
    """Runs commands against a server, in this process."""

    def __init__(self, endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
        self.endpoint = endpoint
        self._capfd = capfd

    def __call__(self, line: str) -> Ran:
        self._capfd.readouterr()
        status = main([*shlex.split(line), "--endpoint", self.endpoint])
        return Ran(status, *self._capfd.readouterr())

    def ok(self, line: str) -> Ran:
        ran = self(line)
        assert ran.status == 0, ran.err
        return ran


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("cli") / "data", allow_reset=True, durability="none") as process:
        yield process


@pytest.fixture
def cli(
    server: ServerProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    """In a directory with the code of a function."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(CODE)
    (tmp_path / "app.py").write_text(CODE)
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as package:
        package.writestr("app.py", CODE)
    server.reset()
    return Cli(server.endpoint, capfd)


@pytest.fixture
def count(cli: Cli) -> Cli:
    """With a function `count`."""
    cli.ok("functions create count code --handler app.handler --env LEVEL=info --timeout 30")
    return cli


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < ends_at, "it did not come about within 15 s"
        time.sleep(0.05)


# -- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["functions", "mappings"])
def test_every_option_of_every_verb_is_long_and_explained(name: str) -> None:
    module: ModuleType = importlib.import_module(f"streamkit.cli.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    (verbs,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    assert {*verbs.choices} >= {"list", "create", "update", "describe", "delete"}
    assert {*verbs.choices} == {*module._VERBS}
    for verb in verbs.choices.values():
        for action in verb._actions:
            assert action.help
            for option in action.option_strings:
                assert re.fullmatch(r"-h|--[a-z]+(-[a-z]+)*", option)


def test_an_unknown_verb_or_option_of_a_verb_is_a_mistake_of_use(cli: Cli) -> None:
    ran = cli("functions creat count")
    assert ran.status == 2
    assert "invalid choice: 'creat'" in ran.err
    ran = cli("functions create count code --handlr app.handler")
    assert ran.status == 2
    assert "did you mean --handler?" in ran.err


# -- invoke ----------------------------------------------------------------------------------------------------------


def test_invoke_prints_what_the_function_returned(count: Cli) -> None:
    assert count.ok("invoke count '{\"n\": 1}'").object == {"event": {"n": 1}, "version": "$LATEST"}
    assert count.ok("invoke count").object["event"] == {}


def test_invoke_takes_an_event_from_a_file_or_from_standard_input(count: Cli, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"from": "file"}')
    assert count.ok("invoke count --file event.json").object["event"] == {"from": "file"}
    arguments = [*PROGRAM, "invoke", "count", "-", "--endpoint", count.endpoint]
    done = subprocess.run(arguments, input=b'{"from": "pipe"}', capture_output=True, timeout=30, check=True)
    assert json.loads(done.stdout)["event"] == {"from": "pipe"}


def test_invoke_of_a_function_that_fails_exits_1_with_the_error_on_standard_error(count: Cli) -> None:
    count.ok("functions update count --handler app.fails")
    ran = count("invoke count")
    assert (ran.status, ran.out) == (1, "")
    error = json.loads(ran.err)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "on purpose")
    ran = count("invoke count --json")
    assert ran.status == 1
    assert ran.object["error"]["errorType"] == "ValueError"


def test_invoke_shows_the_log_on_standard_error_and_keeps_the_result_clean(count: Cli) -> None:
    ran = count.ok("invoke count --tail")
    assert json.loads(ran.out)["event"] == {}
    assert [line.split()[0] for line in ran.err.splitlines()] == ["START", "level", "END", "REPORT"]


def test_invoke_asynchronously_prints_the_request_id_and_does_not_wait(count: Cli) -> None:
    request_id = count.ok("invoke count --async").out.strip()
    wait_until(lambda: f"END RequestId: {request_id}" in count.ok("logs count").out)
    assert set(count.ok("invoke count --async --json").object) == {"request_id"}


def test_invoke_runs_the_version_or_the_alias_that_is_asked_for(count: Cli) -> None:
    assert count.ok("functions publish count").out == "1\n"
    count.ok("functions alias count live 1")
    assert count.ok("invoke count --qualifier live").object["version"] == "1"
    assert count.ok("invoke count:1").object["version"] == "1"
    ran = count.ok("invoke count --qualifier 1 --json").object
    assert (ran["version"], ran["result"]["version"]) == ("1", "1")


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("invoke other", 1, "streamkit invoke: ResourceNotFoundException: Function not found: "),
        ("invoke count '{'", 2, "streamkit invoke: the event is no JSON: "),
        ("invoke count --file nothing.json", 2, "streamkit invoke: nothing.json cannot be read: No such file"),
        ("invoke count --async --tail", 2, "streamkit invoke: --tail shows the log of what was waited for"),
        ("logs other", 1, "streamkit logs: ResourceNotFoundException: Function not found: "),
        ("logs count --since yesterday", 2, "streamkit logs: argument --since: 'yesterday' is no time ago; "),
        ("functions create other code", 2, "streamkit functions: --handler is needed: MODULE.FUNCTION"),
        ("functions create other nothing --handler a.b", 2, "streamkit functions: nothing cannot be read: No such"),
        ("functions create other event.txt --handler a.b", 2, "streamkit functions: event.txt is neither a directory"),
        ("functions create count code --handler a.b", 1, "streamkit functions: ResourceConflictException: "),
        ("functions update count", 2, "streamkit functions: nothing to change was given"),
        ("functions update other --timeout 3", 1, "streamkit functions: ResourceNotFoundException: "),
        ("functions alias count live 1 --weight x", 2, "streamkit functions: --weight is 'x'; one looks like 2=0.1"),
        ("functions delete other --yes", 1, "streamkit functions: ResourceNotFoundException: "),
        ("mappings create other s", 1, "streamkit mappings: ResourceNotFoundException: Function not found: "),
        ("mappings create count other", 1, "streamkit mappings: InvalidParameterValueException: Stream not found: "),
        ("mappings create count s --filter x", 2, "streamkit mappings: --filter is 'x'; at "),
        ("mappings create count s --from soon", 2, "streamkit mappings: argument --from: 'soon' is none of"),
        ("mappings disable count", 1, "streamkit mappings: ResourceNotFoundException: there is no mapping to function"),
        ("mappings update count", 2, "streamkit mappings: nothing to change was given"),
    ],
)
def test_what_cannot_be_is_refused_in_words(count: Cli, tmp_path: Path, line: str, status: int, expected: str) -> None:
    (tmp_path / "event.txt").write_text("x")
    ran = count(line)
    assert ran.err.startswith(expected), ran.err
    assert (ran.status, ran.out) == (status, "")


# -- functions -------------------------------------------------------------------------------------------------------


def test_functions_are_made_of_a_directory_a_file_or_a_zip(cli: Cli) -> None:
    for name, path in (("a", "code"), ("b", "app.py"), ("c", "code.zip")):
        cli.ok(f"functions create {name} {path} --handler app.handler")
        assert cli.ok(f"invoke {name}").object["event"] == {}
    listed = cli.ok("functions --json").objects
    assert [each["name"] for each in listed] == ["a", "b", "c"]
    assert cli.ok("functions list --json").objects == listed
    head, *rows = cli.ok("functions").out.splitlines()
    assert head.split() == ["NAME", "RUNTIME", "HANDLER", "TIMEOUT", "MEMORY", "CODE", "MODIFIED"]
    assert len(rows) == 3


def test_a_function_has_the_settings_it_was_made_with(cli: Cli) -> None:
    cli.ok(
        "functions create f code --handler app.handler --timeout 7 --memory 256 --env AA=1 --env BB=x=y "
        "--description text --concurrency 5"
    )
    found = cli.ok("functions describe f --json").object
    assert (found["timeout_s"], found["memory_mib"], found["description"]) == (7, 256, "text")
    assert found["variables"] == {"AA": "1", "BB": "x=y"}
    assert found["reserved_concurrency"] == 5
    assert re.search(r"^timeout_s +7$", cli.ok("functions describe f").out, re.MULTILINE)


def test_an_update_changes_what_is_given_and_nothing_else(count: Cli, tmp_path: Path) -> None:
    before = count.ok("functions describe count --json").object
    count.ok("functions update count --memory 256 --env NEW=1 --env LEVEL --concurrency 3")
    after = count.ok("functions describe count --json").object
    changed = {key for key in after if after[key] != before[key]} - {"modified_at"}
    assert changed == {"memory_mib", "variables", "reserved_concurrency"}
    assert after["variables"] == {"NEW": "1"}
    count.ok("functions update count --concurrency -1")
    assert count.ok("functions describe count --json").object["reserved_concurrency"] is None
    (tmp_path / "code" / "app.py").write_text("def handler(event, context):\n    return 'new'\n")
    count.ok("functions update count code")
    assert count.ok("invoke count").out == '"new"\n'


def test_an_alias_is_made_moved_weighted_and_deleted(count: Cli) -> None:
    count.ok("functions publish count")
    count.ok("functions update count --memory 256")
    assert count.ok("functions publish count --json").object["version"] == "2"
    assert count.ok("functions alias count live 1 --json").object["versions"] == {"1": 1.0}
    assert count.ok("functions alias count live 2 --weight 1=0.25 --json").object["versions"] == {"2": 0.75, "1": 0.25}
    assert count.ok("functions alias count live").out.splitlines()[1].split() == ["live", "2", "(75%),", "1", "(25%)"]
    assert [each["name"] for each in count.ok("functions alias count --json").objects] == ["live"]
    found = count.ok("functions describe count --json").object
    assert (found["versions"], found["aliases"]) == (["1", "2"], {"live": {"2": 0.75, "1": 0.25}})
    count.ok("functions alias count live --delete")
    assert count("functions alias count live").status == 1


def test_a_version_is_deleted_alone_and_a_function_as_a_whole(count: Cli) -> None:
    count.ok("functions publish count")
    count.ok("functions delete count --qualifier 1 --yes")
    assert count.ok("functions describe count --json").object["versions"] == []
    count.ok("functions delete count --yes")
    ran = count.ok("functions")
    assert ran.out == ""
    assert "no functions; `streamkit functions create" in ran.err


def test_settings_may_come_from_the_environment(count: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMKIT_TIMEOUT", "9")
    monkeypatch.setenv("STREAMKIT_JSON", "true")
    count.ok("functions update count --memory 300")
    found = count.ok("functions describe count").object
    assert (found["timeout_s"], found["memory_mib"]) == (9, 300)


def test_functions_of_another_account_are_others(count: Cli) -> None:
    assert count.ok("functions list --json --account-id 111111111111").out == ""
    assert count.ok("functions --account-id 111111111111 list --json").out == ""


# -- mappings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mapped(count: Cli) -> Cli:
    """With a stream `clicks` that feeds `count`, and a stream `failed`."""
    with streamkit.open_blocking(count.endpoint) as kit:
        kit.create_stream("clicks")
        kit.create_stream("failed")
        kit.put("clicks", "first", partition_key="k")
    count.ok(
        "mappings create count clicks --batch-size 7 --batching-window 0 --retries 2 --record-age 600 --bisect "
        "--report-item-failures --on-failure failed"
    )
    return count


def test_a_mapping_has_the_settings_it_was_made_with_and_runs(mapped: Cli) -> None:
    found = mapped.ok("mappings describe count clicks --json").object
    assert (found["stream"], found["function"], found["state"], found["start"]) == (
        "clicks",
        "count",
        "Enabled",
        "TRIM_HORIZON",
    )
    assert (found["batch_size"], found["retries_max"], found["record_age_s_max"]) == (7, 2, 600)
    assert (found["bisect"], found["report_item_failures"], found["filters"]) == (True, True, [])
    assert found["on_failure"].endswith(":stream/failed")
    wait_until(lambda: "record first" in mapped.ok("logs count").out)
    assert re.search(r"^batch_size +7$", mapped.ok("mappings describe count").out, re.MULTILINE)


def test_an_update_of_a_mapping_changes_what_is_given(mapped: Cli) -> None:
    before = mapped.ok("mappings describe count --json").object
    mapped.ok("""mappings update count --no-bisect --filter '{"data": {"x": [1]}}' --on-failure none""")
    after = mapped.ok(f"mappings describe {before['uuid']} --json").object
    assert {key for key in after if after[key] != before[key]} - {"modified_at", "last_result"} == {
        "bisect",
        "filters",
        "on_failure",
    }
    assert after["filters"] == [{"data": {"x": [1]}}]
    mapped.ok("mappings update count clicks --filter none")
    assert mapped.ok("mappings describe count --json").object["filters"] == []


def test_a_mapping_that_is_disabled_goes_on_where_it_stopped(mapped: Cli) -> None:
    wait_until(lambda: "record first" in mapped.ok("logs count").out)
    mapped.ok("mappings disable count")
    with streamkit.open_blocking(mapped.endpoint) as kit:
        kit.put("clicks", "second", partition_key="k")
    assert mapped.ok("mappings --json").object["state"] == "Disabled"
    mapped.ok("mappings enable count clicks")
    wait_until(lambda: "record second" in mapped.ok("logs count").out)
    assert mapped.ok("logs count").out.count("record first") == 1


def test_mappings_are_listed_by_function_and_by_stream(mapped: Cli) -> None:
    mapped.ok("functions create other code --handler app.handler")
    mapped.ok("mappings create other clicks --from LATEST --disabled")
    mapped.ok("mappings create count failed --from -10m")
    pairs = [(each["function"], each["stream"]) for each in mapped.ok("mappings --json").objects]
    assert sorted(pairs) == [("count", "clicks"), ("count", "failed"), ("other", "clicks")]
    assert [each["function"] for each in mapped.ok("mappings --stream failed --json").objects] == ["count"]
    assert [each["stream"] for each in mapped.ok("mappings list --function other --json").objects] == ["clicks"]
    ran = mapped("mappings describe count")
    assert ran.status == 2
    assert "function count has 2 mappings, of clicks (" in ran.err
    assert mapped.ok("mappings describe other --json").object["state"] == "Disabled"
    at = mapped.ok("mappings describe count failed --json").object["start"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", at)


def test_a_deleted_mapping_is_gone(mapped: Cli) -> None:
    mapped.ok("mappings delete count clicks --yes")
    ran = mapped.ok("mappings")
    assert ran.out == ""
    assert "no mappings; `streamkit mappings create" in ran.err


# -- logs ------------------------------------------------------------------------------------------------------------


def test_logs_print_what_matches_and_not_what_is_older(count: Cli) -> None:
    assert count.ok("logs count").out == ""
    count.ok("invoke count")
    lines = count.ok("logs count --since 1m").out.splitlines()
    assert [line.split()[0] for line in lines] == ["INIT_START", "START", "level", "END", "REPORT"]
    (event,) = count.ok("logs count --filter level --json").objects
    assert event["message"] == "level info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", event["timestamp"])
    assert "[$LATEST]" in event["stream"]
    time.sleep(1.1)
    assert count.ok("logs count --since 1s").out == ""


def test_a_deleted_functions_logs_are_still_there(count: Cli) -> None:
    count.ok("invoke count")
    count.ok("functions delete count --yes")
    assert "level info" in count.ok("logs count").out


def test_followed_logs_have_every_line_once_and_ctrl_c_ends_them(count: Cli) -> None:
    count.ok("invoke count '{}'")
    arguments = [*PROGRAM, "logs", "count", "--follow", "--since", "10m", "--filter", "level"]
    follow = subprocess.Popen(
        [*arguments, "--json", "--endpoint", count.endpoint], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for _ in range(40):
        count.ok("invoke count")
        time.sleep(0.02)
    time.sleep(1)
    follow.send_signal(signal.SIGINT)
    out, err = follow.communicate(timeout=10)
    assert (follow.returncode, err) == (0, b"")
    assert len(out.splitlines()) == 41


def test_followed_logs_begin_now_and_wait_for_a_function_that_has_not_run(count: Cli) -> None:
    arguments = [*PROGRAM, "logs", "count", "--follow", "--endpoint", count.endpoint]
    follow = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert follow.stdout is not None
    time.sleep(1.5)
    count.ok("invoke count")
    assert follow.stdout.readline().startswith(b"INIT_START")
    follow.send_signal(signal.SIGINT)
    follow.communicate(timeout=10)
    again = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    time.sleep(1.5)
    count.ok("invoke count")
    assert again.stdout is not None
    assert again.stdout.readline().startswith(b"START")
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=10)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, LOOK_BACK_MS), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 5_000),
)
def test_followed_logs_have_each_event_once(steps: list[tuple[int, int, bool]], ahead_ms: int) -> None:
    """Events may be shown late, by as much as the look-back; and the reader's clock may differ from the server's."""
    now_ms = 1_000_000
    shown: list[dict[str, Any]] = []
    newest_ms = now_ms
    cursor = Cursor(now_ms)
    found = []
    for number, (passed_ms, late_ms, is_polled) in enumerate(steps):
        now_ms += passed_ms
        at_ms = max(1_000_000, now_ms - late_ms, newest_ms - LOOK_BACK_MS)
        newest_ms = max(newest_ms, at_ms)
        shown.append({"eventId": str(number), "timestamp": at_ms})
        if is_polled or number == len(steps) - 1:
            page = sorted(
                (each for each in shown if each["timestamp"] >= cursor.start_ms), key=lambda e: e["timestamp"]
            )
            found += cursor.new(page, now_ms + ahead_ms)
    assert sorted(int(each["eventId"]) for each in found) == [*range(len(steps))]


def test_an_event_put_with_a_time_to_come_hides_no_other() -> None:
    cursor = Cursor(0)
    future = {"eventId": "a", "timestamp": 60_000}
    assert cursor.new([future], 10_000) == [future]
    assert cursor.start_ms == 10_000 - LOOK_BACK_MS
    now = {"eventId": "b", "timestamp": 10_100}
    assert cursor.new([now, future], 10_200) == [now]
