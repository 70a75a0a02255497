"""What a course on AWS Lambda shows its class, done with boto3 on a server: the demos run as they are.

Cold starts and what they cost, versions and aliases, environment variables and layers, concurrency, and the ways in
which an invocation ends badly.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.wire.cloud import Cloud, Invoked, eventually, function_arn
from tests.wire.lambda_code import layer_of, zip_of

SLOW_START = """
import time
time.sleep(0.3)  # connects to a database
calls = 0

def handler(event, context):
    global calls
    calls += 1
    return calls
"""
WHO = """
import os, time
me = os.urandom(8).hex()

def handler(event, context):
    time.sleep((event or {}).get("sleep_s", 0))
    return me
"""


def says(text: str) -> str:
    return f"def handler(event, context):\n    return {text!r}\n"


def figure(log: str, name: str) -> float:
    """Of the REPORT line."""
    match = re.search(rf"\t{name}: ([\d.]+) m?s?", log.replace("REPORT ", "\t"))
    assert match is not None, log
    return float(match[1])


def together(cloud: Cloud, name: str, count: int, event: Any) -> list[Invoked]:
    """Invocations that are all under way at the same time."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: cloud.invoke(name, event), range(count)))


# -- cold starts -----------------------------------------------------------------------------------------------------


def test_code_outside_the_handler_is_paid_for_once_per_cold_start(cloud: Cloud) -> None:
    """The connection is made in INIT: the first caller waits for it, and only that REPORT has an Init Duration."""
    cloud.create("f", SLOW_START)
    began = time.monotonic()
    cold = cloud.invoke("f", LogType="Tail")
    cold_s = time.monotonic() - began
    assert cold.value == 1
    assert cold_s >= 0.3
    assert figure(cold.log, "Init Duration") >= 300
    assert figure(cold.log, "Billed Duration") >= 300
    assert figure(cold.log, "Duration") < 200, "INIT is not part of the handler's time"
    for number in (2, 3, 4):
        warm = cloud.invoke("f", LogType="Tail")
        assert warm.value == number, "globals are kept between invocations"
        assert not warm.is_cold
        assert figure(warm.log, "Billed Duration") < 200
    assert cloud.log_of("f").count("INIT_START") == 1


def test_new_code_or_configuration_is_a_cold_start_again(cloud: Cloud) -> None:
    cloud.create("f", SLOW_START)
    assert [cloud.value("f"), cloud.value("f")] == [1, 2]
    cloud.update("f", SLOW_START + "# changed\n")
    again = cloud.invoke("f", LogType="Tail")
    assert (again.value, again.is_cold) == (1, True)
    cloud.functions.update_function_configuration(FunctionName="f", Environment={"Variables": {"STAGE": "test"}})
    cloud.wait_until_updated("f")
    again = cloud.invoke("f", LogType="Tail")
    assert (again.value, again.is_cold) == (1, True)


# -- versions and aliases --------------------------------------------------------------------------------------------


def test_a_published_version_stays_what_it_was(cloud: Cloud) -> None:
    cloud.create("f", says("one"))
    assert cloud.publish("f") == "1"
    cloud.update("f", says("two"))
    assert cloud.publish("f") == "2"
    cloud.update("f", says("three"))
    answers = {qualifier: cloud.invoke("f", Qualifier=qualifier) for qualifier in ("1", "2", "$LATEST")}
    assert {name: answer.value for name, answer in answers.items()} == {"1": "one", "2": "two", "$LATEST": "three"}
    assert all(answer.version == name for name, answer in answers.items())
    assert cloud.value("f") == "three"
    assert cloud.value(function_arn("f") + ":1") == "one"


def test_an_alias_is_what_callers_keep_while_versions_change(cloud: Cloud) -> None:
    code = "def handler(event, context):\n    return [context.function_version, context.invoked_function_arn]\n"
    cloud.create("f", code)
    cloud.publish("f")
    cloud.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    assert cloud.value("f", Qualifier="live") == ["1", function_arn("f") + ":live"]
    with pytest.raises(ClientError) as missing:
        cloud.invoke("f", Qualifier="test")
    assert missing.value.response["Error"]["Code"] == "ResourceNotFoundException"


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_weighted_alias_draws_a_version_for_each_call(cloud: Cloud, share: float) -> None:
    """The count of the weighted version lies within eight standard deviations of its expectation: a fair draw fails
    this once in 10^14 runs (Chernoff gives 2 * exp(-2 * 600 * (8 * 0.5 / 600 ** 0.5) ** 2), for a half)."""
    count = 600
    cloud.create("f", says("one"))
    cloud.publish("f")
    cloud.update("f", says("two"))
    cloud.publish("f")
    weights = {"AdditionalVersionWeights": {"2": share}}
    cloud.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig=weights)
    drawn = [cloud.invoke("f", Qualifier="live") for _ in range(count)]
    assert {(answer.version, answer.value) for answer in drawn} == {("1", "one"), ("2", "two")}
    twos = sum(answer.version == "2" for answer in drawn)
    assert abs(twos - count * share) < 8 * (count * share * (1 - share)) ** 0.5
    runs = [len(list(group)) for _, group in itertools.groupby(answer.version for answer in drawn)]
    assert len(set(runs)) > 1, "a draw is no rota"


def test_an_alias_moves_to_another_version_without_a_failed_call(cloud: Cloud) -> None:
    """Callers call all the time. Who began after the move was answered sees the new version; nobody sees an error."""
    cloud.create("f", says("one"))
    cloud.publish("f")
    cloud.update("f", says("two"))
    cloud.publish("f")
    cloud.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    calls: list[tuple[float, float, Invoked]] = []
    ending = threading.Event()

    def caller() -> None:
        while not ending.is_set():
            began = time.monotonic()
            answer = cloud.invoke("f", Qualifier="live")
            calls.append((began, time.monotonic(), answer))

    with ThreadPoolExecutor(4) as threads:
        callers = [threads.submit(caller) for _ in range(4)]
        eventually(lambda: len(calls) >= 40)
        asked_at = time.monotonic()
        cloud.functions.update_alias(FunctionName="f", Name="live", FunctionVersion="2")
        moved_at = time.monotonic()
        enough = len(calls) + 100
        eventually(lambda: len(calls) >= enough)
        ending.set()
    for each in callers:
        each.result()
    assert {answer.error for _, _, answer in calls} == {None}
    before = {answer.value for _, ended, answer in calls if ended < asked_at}
    after = {answer.value for began, _, answer in calls if began > moved_at}
    assert (before, after) == ({"one"}, {"two"})
    assert all({"1": "one", "2": "two"}[str(answer.version)] == answer.value for _, _, answer in calls)


# -- environment variables and layers --------------------------------------------------------------------------------


def test_variables_are_read_from_the_environment(cloud: Cloud) -> None:
    code = "import os\ndef handler(event, context):\n    return os.environ.get('TABLE')\n"
    cloud.create("f", code, variables={"TABLE": "orders-dev"})
    cloud.publish("f")
    assert cloud.value("f") == "orders-dev"
    cloud.functions.update_function_configuration(FunctionName="f", Environment={"Variables": {"TABLE": "orders"}})
    cloud.wait_until_updated("f")
    assert cloud.value("f") == "orders"
    assert cloud.value("f", Qualifier="1") == "orders-dev", "a version keeps its configuration, too"


def test_numpy_is_there_with_a_layer_and_not_without_it(cloud: Cloud) -> None:
    """The layer has the packages of the test's own numpy; the runtime has none of it."""
    code = "import numpy\ndef handler(event, context):\n    return int(numpy.arange(event).sum())\n"
    layer = layer_of("numpy")
    cloud.create("f", code, MemorySize=512)
    failed = cloud.invoke("f", 5)
    assert failed.error == "Unhandled"
    assert failed.value["errorType"] == "Runtime.ImportModuleError"
    assert failed.value["errorMessage"] == "Unable to import module 'app': No module named 'numpy'"
    made = cloud.functions.publish_layer_version(LayerName="numpy", Content={"ZipFile": layer})
    cloud.functions.update_function_configuration(FunctionName="f", Layers=[made["LayerVersionArn"]])
    cloud.wait_until_updated("f")
    assert cloud.value("f", 5) == 10
    cloud.functions.update_function_configuration(FunctionName="f", Layers=[])
    cloud.wait_until_updated("f")
    assert cloud.invoke("f", 5).error == "Unhandled"


def test_a_function_sees_its_own_files_before_those_of_layers(cloud: Cloud) -> None:
    layers = [
        cloud.functions.publish_layer_version(
            LayerName=name, Content={"ZipFile": zip_of({"python/shared.py": f"NAME = {name!r}\n"})}
        )["LayerVersionArn"]
        for name in ("first", "second")
    ]
    code = "import shared\ndef handler(event, context):\n    return shared.NAME\n"
    cloud.create("f", code, Layers=layers)
    assert cloud.value("f") == "second", "layers are merged in their order"
    cloud.create("g", zip_of({"app.py": code, "shared.py": "NAME = 'own'\n"}), Layers=layers)
    assert cloud.value("g") == "own"


# -- concurrency -----------------------------------------------------------------------------------------------------


def test_concurrent_calls_each_get_an_environment_and_later_ones_use_them_again(cloud: Cloud) -> None:
    cloud.create("f", WHO)
    cold_starts = cloud.metric("streamkit_cold_starts_total", function="f")
    at_once = [answer.value for answer in together(cloud, "f", 5, {"sleep_s": 0.4})]
    assert len(set(at_once)) == 5
    one_by_one = {cloud.value("f") for _ in range(5)}
    assert len(one_by_one) == 1
    assert one_by_one < set(at_once)
    assert cloud.log_of("f").count("INIT_START") == 5
    assert cloud.metric("streamkit_cold_starts_total", function="f") - cold_starts == 5


def test_reserved_concurrency_refuses_what_is_beyond_it(cloud: Cloud) -> None:
    cloud.create("f", WHO)
    cloud.functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    throttles = cloud.metric("streamkit_invocation_throttles_total", function="f")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(cloud.invoke, "f", {"sleep_s": 0.5})
        eventually(lambda: cloud.metric("streamkit_concurrent_invocations", function="f") == 1)
        with pytest.raises(ClientError) as refused:
            cloud.invoke("f")
        assert running.result().error is None
    response = refused.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert cloud.metric("streamkit_invocation_throttles_total", function="f") - throttles == 1
    assert cloud.invoke("f").error is None, "the next one finds it free"
    cloud.functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        cloud.invoke("f")
    cloud.functions.delete_function_concurrency(FunctionName="f")
    assert {answer.error for answer in together(cloud, "f", 3, {"sleep_s": 0.1})} == {None}


def test_provisioned_concurrency_is_warm_at_the_first_call(cloud: Cloud) -> None:
    code = SLOW_START.replace("return calls", "return __import__('os').environ['AWS_LAMBDA_INITIALIZATION_TYPE']")
    cloud.create("f", code)
    cloud.publish("f")
    cloud.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    cloud.functions.put_provisioned_concurrency_config(
        FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=2
    )

    def status() -> Any:
        return cloud.functions.get_provisioned_concurrency_config(FunctionName="f", Qualifier="live")

    eventually(lambda: status()["Status"] == "READY")
    assert status()["AvailableProvisionedConcurrentExecutions"] == 2
    began = time.monotonic()
    first = cloud.invoke("f", Qualifier="live", LogType="Tail")
    assert time.monotonic() - began < 0.25, "INIT takes 0.3 s"
    assert first.value == "provisioned-concurrency"
    assert not first.is_cold
    assert figure(first.log, "Billed Duration") < 200
    beyond = cloud.invoke("f", LogType="Tail")  # $LATEST has none
    assert (beyond.value, beyond.is_cold) == ("on-demand", True)


# -- bad ends --------------------------------------------------------------------------------------------------------


def test_a_function_that_takes_too_long_is_ended_and_starts_anew(cloud: Cloud) -> None:
    code = WHO.replace("time.sleep", "print('working', flush=True)\n    time.sleep")
    cloud.create("f", code, Timeout=1)
    me = cloud.value("f")
    began = time.monotonic()
    late = cloud.invoke("f", {"sleep_s": 30}, LogType="Tail")
    assert 1 <= time.monotonic() - began < 3
    assert (late.status, late.error) == (200, "Unhandled")
    assert late.value == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {late.request_id} Error: Task timed out after 1.00 seconds",
    }
    assert "working\n" in late.log
    assert f"{late.request_id} Task timed out after 1.00 seconds\n" in late.log
    assert "\tStatus: timeout" in late.log
    assert cloud.value("f") not in (None, me), "another environment"


def test_a_function_that_takes_too_much_memory_is_killed(cloud: Cloud) -> None:
    code = "def handler(event, context):\n    return len(b'x' * (event << 20))\n"
    cloud.create("f", code, MemorySize=128, Timeout=20)
    assert cloud.value("f", 20) == 20 << 20
    killed = cloud.invoke("f", 300, LogType="Tail")
    assert killed.error == "Unhandled"
    assert killed.value == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {killed.request_id} Error: Runtime exited with error: signal: killed",
    }
    assert "\tStatus: error\tError Type: Runtime.OutOfMemory" in killed.log
    assert figure(killed.log, "Max Memory Used") >= 128
    assert cloud.value("f", 20) == 20 << 20


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("sys.exit(0)", "Runtime exited without providing a reason"),
        ("sys.exit(3)", "Runtime exited with error: exit status 3"),
        ("os._exit(127)", "Runtime exited with error: exit status 127"),
        ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
    ],
)
def test_a_handler_that_ends_the_process_gets_awss_words(cloud: Cloud, end: str, reason: str) -> None:
    cloud.create("f", f"import os, sys\ndef handler(event, context):\n    return event and {end}\n")
    ended = cloud.invoke("f", True, LogType="Tail")
    assert (ended.status, ended.error) == (200, "Unhandled")
    assert ended.value == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {ended.request_id} Error: {reason}",
    }
    assert "\tStatus: error\tError Type: Runtime.ExitError" in ended.log
    assert cloud.value("f", False) is False


def test_an_exception_is_the_answer_and_the_environment_goes_on(cloud: Cloud) -> None:
    code = "calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls / event\n"
    cloud.create("f", code)
    errors = cloud.metric("streamkit_invocation_errors_total", function="f")
    failed = cloud.invoke("f", 0)
    assert (failed.status, failed.error, failed.version) == (200, "Unhandled", "$LATEST")
    assert list(failed.value) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert failed.value["errorMessage"] == "division by zero"
    assert failed.value["errorType"] == "ZeroDivisionError"
    assert failed.value["requestId"] == failed.request_id
    assert "return calls / event" in failed.value["stackTrace"][-1]
    assert cloud.value("f", 1) == 2.0
    assert cloud.metric("streamkit_invocation_errors_total", function="f") - errors == 1


def test_code_that_cannot_be_loaded_fails_each_call_until_it_is_mended(cloud: Cloud) -> None:
    cloud.create("f", "raise RuntimeError('no database')\n")
    outcomes = Counter(
        (failed.error, failed.value["errorType"], failed.value["errorMessage"])
        for failed in (cloud.invoke("f") for _ in range(3))
    )
    assert outcomes == {("Unhandled", "RuntimeError", "no database"): 3}
    cloud.update("f", says("mended"))
    assert cloud.value("f") == "mended"


def test_provisioned_environments_of_broken_code_are_not_started_over_and_over(cloud: Cloud) -> None:
    cloud.create("f", "raise RuntimeError('no database')\n", Publish=True)
    cloud.functions.put_provisioned_concurrency_config(
        FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=1
    )
    eventually(lambda: "INIT_START" in cloud.log_of("f"))
    time.sleep(0.5)
    assert cloud.log_of("f").count("INIT_START") == 1
    status = cloud.functions.get_provisioned_concurrency_config(FunctionName="f", Qualifier="1")["Status"]
    assert status == "IN_PROGRESS"
