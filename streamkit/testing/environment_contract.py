"""What every kind of execution environment must do, as tests: one class to inherit from.

    class TestMyEnvironments(EnvironmentContract):
        @pytest.fixture
        def make_environments(self, tmp_path: Path) -> MakeEnvironments:
            return lambda: MyEnvironments(tmp_path)

`EnvironmentContract` has what holds for all kinds, also where code runs in this very process;
`isolated_environment_contract` adds what takes a process of its own.
`BatchContract` and `StreamingContract` are mixed in where a kind takes typed batches or streams responses.

Each test promises something that `streamkit.functions.environments.port` says, or that AWS's runtime for Python does.
Environments run on a real event loop, with real processes and in real time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar, Final

import pytest

from streamkit.clock import SystemClock
from streamkit.functions.environments.port import Answer, Buffer, Environment, Environments, Init, Invocation, Spec
from streamkit.model.batch import RecordBatch
from streamkit.model.limits import MIB
from streamkit.testing.clock import START_MS

MakeEnvironments = Callable[[], Environments]
"""Called on the running event loop."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

RESPONSE_TOO_LARGE: Final = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
_PATIENCE_S: Final = 60.0
SOON_S: Final = 5.0  # what must happen by itself, on a busy machine
TRACE: Final = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def write_code(directory: Path, files: Mapping[str, str]) -> Path:
    """A code package, or a layer: texts by their paths in it."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return directory


def make_spec(code: Path | None, **changes: Any) -> Spec:
    """A function of 128 MiB and three seconds, AWS's defaults, whose handler is `handler.handler`."""
    settings: dict[str, Any] = {
        "function_name": "tested",
        "version": "$LATEST",
        "arn": "arn:aws:lambda:eu-central-1:123456789012:function:tested",
        "account": "123456789012",
        "region": "eu-central-1",
        "runtime": "python3.11",
        "handler": "handler.handler",
        "code": code,
        "source": None,
        "layers": (),
        "variables": {},
        "timeout_ms": 3_000,
        "memory_mib": 128,
        "tmp_mib": 512,
        "log_group": "/aws/lambda/tested",
        "log_stream": "2024/01/02/[$LATEST]0123456789abcdef0123456789abcdef",
        "role": "arn:aws:iam::123456789012:role/tested",
    }
    return Spec(**settings | changes)


@dataclass
class Running:
    """An environment that was started, and what it logged: one entry per call of its sink."""

    environment: Environment
    spec: Spec
    init: Init
    pieces: list[bytes] = field(default_factory=list)

    @property
    def log(self) -> bytes:
        return b"".join(self.pieces)

    async def invoke(self, event: object = None, **changes: Any) -> Answer:
        return await self.environment.invoke(invocation_of(self.spec, json.dumps(event).encode(), **changes))

    async def result(self, event: object = None, **changes: Any) -> Any:
        """What the handler returned; it must not fail."""
        answer = await self.invoke(event, **changes)
        assert (answer.ending, answer.error_type) == ("answered", ""), answer.payload
        return json.loads(answer.payload)


_numbers: Final = itertools.count(1)


def invocation_of(spec: Spec, *payload: Buffer, **changes: Any) -> Invocation:
    timeout_ms = changes.get("timeout_ms", spec.timeout_ms)
    settings: dict[str, Any] = {
        "request_id": f"6bc28136-57f9-4e61-8bc5-{next(_numbers):012d}",
        "payload": payload or None,
        "deadline_ms": SystemClock().now_ms() + timeout_ms,
        "arn": f"{spec.arn}:$LATEST",
        "trace_id": TRACE,
        "timeout_ms": timeout_ms,
    }
    return Invocation(**settings | changes)


class Stage:
    """Starts environments of handlers given as source text, and stops all of them."""

    def __init__(self, environments: Environments, directory: Path) -> None:
        self.environments = environments
        self.directory = directory
        self._numbers = itertools.count()
        self._made: list[Environment] = []

    def spec(self, source: str, files: Mapping[str, str] | None = None, **changes: Any) -> Spec:
        code = self.directory / f"code-{next(self._numbers)}"
        return make_spec(write_code(code, {"handler.py": source, **(files or {})}), **changes)

    def layer(self, files: Mapping[str, str]) -> Path:
        return write_code(self.directory / f"layer-{next(self._numbers)}", files)

    def make(self, spec: Spec, pieces: list[bytes] | None = None) -> Environment:
        environment = self.environments.make(spec, (pieces if pieces is not None else []).append)
        self._made.append(environment)
        return environment

    async def start_spec(self, spec: Spec) -> Running:
        pieces: list[bytes] = []
        environment = self.make(spec, pieces)
        return Running(environment, spec, await environment.start(), pieces)

    async def start_failing(self, source: str, **changes: Any) -> Running:
        """INIT must fail."""
        running = await self.start_spec(self.spec(source, **changes))
        assert running.init.error is not None
        assert running.environment.is_lost
        return running

    async def start(self, source: str, files: Mapping[str, str] | None = None, **changes: Any) -> Running:
        """INIT must succeed."""
        running = await self.start_spec(self.spec(source, files, **changes))
        assert running.init.error is None, running.init.error
        assert not running.environment.is_lost
        return running

    async def stop(self) -> None:
        for environment in self._made:
            await environment.stop()


Scenario = Callable[[Stage], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]

COUNTER: Final = """
    count = 0

    def handler(event, context):
        global count
        count += 1
        return count
"""

ECHO: Final = """
    def handler(event, context):
        return event
"""


class EnvironmentContract:
    """Inherit, and override `make_environments`."""

    init_timeout_s: ClassVar[float] = 10.0
    """How long INIT may take. AWS's bound; a kind that can be made with a shorter one saves the test's time."""

    @pytest.fixture
    def make_environments(self) -> MakeEnvironments:
        raise NotImplementedError("say how your environments are made")

    @pytest.fixture
    def loop_factory(self) -> LoopFactory | None:
        """Override to run on another event loop than asyncio's."""
        return None

    @pytest.fixture
    def run(self, make_environments: MakeEnvironments, loop_factory: LoopFactory | None, tmp_path: Path) -> Run:
        """Plays a scenario; whatever it started is stopped after it."""
        return lambda scenario: _run(make_environments, loop_factory, tmp_path, scenario)

    # -- the life of an environment ----------------------------------------------------------------------------------

    def test_init_runs_the_code_once_and_tells_how_long_it_took(self, run: Run) -> None:
        """Top-level code runs in `start`, before any invocation, and is not run again."""

        async def scenario(stage: Stage) -> None:
            slow = "import time; time.sleep(0.3); print('imported')\ndef handler(event, context): return 1"
            running = await stage.start(slow)
            assert 300 <= running.init.duration_ms < 300 + 1000 * SOON_S
            assert running.log.count(b"imported\n") == 1
            assert [await running.result() for _ in range(3)] == [1, 1, 1]
            assert running.log.count(b"imported\n") == 1

        run(scenario)

    def test_globals_survive_warm_invocations_and_a_cold_start_makes_new_ones(self, run: Run) -> None:
        """Also of the modules that the handler's module imports."""

        async def scenario(stage: Stage) -> None:
            source = """
                import helper

                def handler(event, context):
                    helper.seen.append(event)
                    return helper.seen
            """
            spec = stage.spec(source, {"helper.py": "seen = []"})
            first = await stage.start_spec(spec)
            assert await first.result("a") == ["a"]
            assert await first.result("b") == ["a", "b"]
            second = await stage.start_spec(spec)
            assert await second.result("c") == ["c"]
            assert await first.result("d") == ["a", "b", "d"]

        run(scenario)

    def test_handlers_of_several_environments_run_at_the_same_time(self, run: Run) -> None:
        """A handler that blocks holds up neither the others nor the event loop."""

        async def scenario(stage: Stage) -> None:
            spec = stage.spec("import time\ndef handler(event, context): time.sleep(1)")
            running = [await stage.start_spec(spec) for _ in range(4)]
            started = time.perf_counter()
            waiting = asyncio.gather(*(each.invoke() for each in running))
            beats = 0
            while not waiting.done():
                await asyncio.sleep(0.05)
                beats += 1
            assert {answer.ending for answer in await waiting} == {"answered"}
            assert time.perf_counter() - started < 2.5
            assert beats > 10

        run(scenario)

    def test_an_answer_tells_how_long_the_handler_took_and_the_memory_it_used(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("import time\ndef handler(event, context): time.sleep(0.3)")
            answer = await running.invoke()
            assert 300 <= answer.duration_ms < 300 + 1000 * SOON_S
            assert answer.max_memory_mib > 0

        run(scenario)

    def test_stopping_ends_an_environment_for_good_and_can_be_repeated(self, run: Run) -> None:
        """Started or not."""

        async def scenario(stage: Stage) -> None:
            running = await stage.start(COUNTER)
            assert await running.result() == 1
            await running.environment.stop()
            assert running.environment.is_lost
            await running.environment.stop()
            never_started = stage.make(stage.spec(COUNTER))
            await never_started.stop()
            await never_started.stop()

        run(scenario)

    def test_an_invocation_whose_caller_gave_up_takes_its_environment_along(self, run: Run) -> None:
        """Its answer must not be taken for the next one's."""

        async def scenario(stage: Stage) -> None:
            running = await stage.start("import time\ndef handler(event, context): time.sleep(0.5)")
            waiting = asyncio.ensure_future(running.invoke())
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert running.environment.is_lost

        run(scenario)

    def test_a_frozen_environment_is_thawed_by_its_next_invocation(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(COUNTER)
            running.environment.freeze()
            assert await running.result() == 1
            running.environment.freeze()
            running.environment.freeze()
            assert not running.environment.is_lost
            assert await running.result() == 2
            running.environment.freeze()

        run(scenario)

    # -- events and results ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            "",
            'schlüssel \u2028 \U0001f600 \x00 " \\ ',
            0.1,
            -1.5e300,
            2**53 + 1,
            -(2**63),
            2**64,
            10**40,
            [],
            {},
            {"": [{"a": [[[None]]]}], "ü": {"1": 1.0}},
        ],
    )
    def test_json_goes_in_and_out_unchanged(self, run: Run, value: object) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): return {'got': event, 'seen': repr(event)}")
            assert await running.result(value) == {"got": value, "seen": repr(value)}

        run(scenario)

    def test_a_handler_that_returns_nothing_answers_null(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): pass")
            assert (await running.invoke()).payload == b"null"

        run(scenario)

    def test_an_event_may_come_in_pieces_of_any_kind_of_buffer(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(ECHO)
            text = '{"Records": [1, "ü", 3]}'.encode()
            pieces: list[Buffer] = [
                text[:1],
                bytearray(text[1:15]),
                b"",
                memoryview(text)[15:16],
                memoryview(text)[16:],
            ]
            answer = await running.environment.invoke(invocation_of(running.spec, *pieces))
            assert json.loads(answer.payload) == {"Records": [1, "ü", 3]}

        run(scenario)

    @pytest.mark.parametrize(
        ("expression", "text"),
        [
            ("(1, 2)", "[1, 2]"),
            ("{1: 'int', None: 'none', True: 'bool', 1.5: 'float'}", '{"1": "bool", "null": "none", "1.5": "float"}'),
            ("Decimal('1.10')", "1.10"),
            ("float('nan')", "NaN"),
            ("namedtuple('Point', 'x y')(1, 2)", '{"x": 1, "y": 2}'),
            ("b'raw bytes'", "raw bytes"),
        ],
    )
    def test_results_become_json_as_awss_runtime_makes_it(self, run: Run, expression: str, text: str) -> None:
        """Which is what simplejson makes of them; spaces do not count."""

        async def scenario(stage: Stage) -> None:
            head = "from collections import namedtuple\nfrom decimal import Decimal\n"
            running = await stage.start(f"{head}def handler(event, context): return {expression}")
            answer = await running.invoke()
            assert answer.ending == "answered"
            if text.startswith(("{", "[")):
                assert json.loads(answer.payload, parse_float=Decimal) == json.loads(text, parse_float=Decimal)
            else:
                assert answer.payload.decode() == text

        run(scenario)

    @pytest.mark.parametrize(
        ("expression", "reason"),
        [
            ("object", "Object of type type is not JSON serializable"),
            ("{1, 2}", "Object of type set is not JSON serializable"),
            ("datetime.datetime(2024, 1, 2)", "Object of type datetime is not JSON serializable"),
            ("uuid.UUID(int=1)", "Object of type UUID is not JSON serializable"),
            ("Point(1)", "Object of type Point is not JSON serializable"),
            ("[{'nested': b'bytes', 'more': {2}}]", "Object of type set is not JSON serializable"),
        ],
    )
    def test_what_is_not_json_is_an_error_of_awss_name(self, run: Run, expression: str, reason: str) -> None:
        """The environment stays."""

        async def scenario(stage: Stage) -> None:
            source = f"""
                import dataclasses, datetime, uuid

                @dataclasses.dataclass
                class Point:
                    x: int

                def handler(event, context):
                    return 1 if event else {expression}
            """
            running = await stage.start(source)
            answer = await running.invoke()
            error = json.loads(answer.payload)
            assert (answer.ending, answer.error_type) == ("failed", "Runtime.MarshalError")
            assert list(error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
            assert error["errorType"] == "Runtime.MarshalError"
            assert error["errorMessage"] == f"Unable to marshal response: {reason}"
            assert error["stackTrace"] == []
            assert await running.result(1) == 1

        run(scenario)

    def test_six_mebibytes_go_in_and_out(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(ECHO, memory_mib=512, timeout_ms=20_000)
            event = "x" * (6 * MIB - 2)
            assert await running.result(event) == event

        run(scenario)

    def test_a_larger_response_is_an_error_of_awss_name(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = "def handler(event, context): return 'x' * event"
            running = await stage.start(source, memory_mib=512, timeout_ms=20_000)
            largest = 6 * MIB + 100
            assert len(await running.result(largest - 2)) == largest - 2
            answer = await running.invoke(largest - 1)
            assert (answer.ending, answer.error_type) == ("failed", "Function.ResponseSizeTooLarge")
            expected = {"errorMessage": RESPONSE_TOO_LARGE, "errorType": "Function.ResponseSizeTooLarge"}
            assert json.loads(answer.payload) == expected

        run(scenario)

    # -- errors ------------------------------------------------------------------------------------------------------

    def test_an_exception_becomes_awss_error_object(self, run: Run) -> None:
        """Its members come in AWS's order; the stack trace has the function's frames only; the environment stays."""

        async def scenario(stage: Stage) -> None:
            source = """
                class Refused(Exception):
                    pass

                def deeper(event):
                    raise Refused(f"no {event}")

                def handler(event, context):
                    if event:
                        deeper(event)
                    return "fine"
            """
            running = await stage.start(source)
            answer = await running.invoke("thänks", request_id="8286a188-ba32-4475-8077-530cd35c09a9")
            error = json.loads(answer.payload)
            assert (answer.ending, answer.error_type) == ("failed", "Refused")
            assert list(error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
            assert error["errorMessage"] == "no thänks"
            assert error["errorType"] == "Refused"
            assert error["requestId"] == "8286a188-ba32-4475-8077-530cd35c09a9"
            outer, inner = error["stackTrace"]
            frame = r'  File "[^"]*handler\.py", line %d, in %s\n    %s\n'
            assert re.fullmatch(frame % (10, "handler", re.escape("deeper(event)")), outer)
            assert re.fullmatch(frame % (6, "deeper", re.escape('raise Refused(f"no {event}")')), inner)
            assert await running.result() == "fine"

        run(scenario)

    def test_an_exception_without_a_text_has_an_empty_message(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start("def handler(event, context): raise ValueError")
            error = json.loads((await running.invoke()).payload)
            assert (error["errorMessage"], error["errorType"]) == ("", "ValueError")

        run(scenario)

    @pytest.mark.parametrize(
        ("source", "handler", "error_type", "message"),
        [
            (
                "import absent_package",
                "handler.handler",
                "Runtime.ImportModuleError",
                "Unable to import module 'handler': No module named 'absent_package'",
            ),
            ("", "handler.main", "Runtime.HandlerNotFound", "Handler 'main' missing on module 'handler'"),
            (
                "",
                "absent.main",
                "Runtime.ImportModuleError",
                "Unable to import module 'absent': No module named 'absent'",
            ),
            (
                "",
                "nodot",
                "Runtime.MalformedHandlerName",
                "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)",
            ),
            (
                "",
                "sys.exit",
                "Runtime.BuiltInModuleConflict",
                "Cannot use built-in module sys as a handler module",
            ),
        ],
    )
    def test_code_that_cannot_be_loaded_fails_init_with_awss_error(
        self, run: Run, source: str, handler: str, error_type: str, message: str
    ) -> None:
        async def scenario(stage: Stage) -> None:
            init = (await stage.start_failing(source, handler=handler)).init
            expected = {"errorMessage": message, "errorType": error_type, "requestId": "", "stackTrace": []}
            assert (init.ending, init.error_type) == ("failed", error_type)
            assert json.loads(init.error or b"") == expected

        run(scenario)

    def test_a_syntax_error_fails_init_and_says_where_it_is(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            init = (await stage.start_failing("def handler(event, context)\n    return 1")).init
            error = json.loads(init.error or b"")
            assert init.error_type == error["errorType"] == "Runtime.UserCodeSyntaxError"
            assert error["errorMessage"] == "Syntax error in module 'handler': expected ':' (handler.py, line 1)"
            (line,) = error["stackTrace"]
            assert re.fullmatch(r'  File "[^"]*handler\.py" Line 1\n    def handler\(event, context\)\n', line)

        run(scenario)

    def test_an_exception_in_the_modules_code_fails_init_as_it_is(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            init = (await stage.start_failing("table = {}['TABLE']")).init
            error = json.loads(init.error or b"")
            assert init.error_type == error["errorType"] == "KeyError"
            assert error["errorMessage"] == "'TABLE'"
            assert error["requestId"] == ""
            assert any('handler.py", line 1, in <module>' in line for line in error["stackTrace"])

        run(scenario)

    def test_handlers_in_packages_are_named_with_dots_or_slashes(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            files = {"app/__init__.py": "", "app/main.py": "from . import __name__ as name\ndef run(e, c): return name"}
            for handler in ("app.main.run", "app/main.run"):
                assert await (await stage.start("", files, handler=handler)).result() == "app"

        run(scenario)

    def test_a_handler_that_exits_answers_that_the_runtime_exited(self, run: Run) -> None:
        """With AWS's texts for a status of zero and for others."""

        async def scenario(stage: Stage) -> None:
            for status, reason in ((0, "without providing a reason"), (3, "with error: exit status 3")):
                running = await stage.start("import sys\ndef handler(event, context): sys.exit(event)")
                answer = await running.invoke(status, request_id="8286a188-ba32-4475-8077-530cd35c09a9")
                assert_exited(answer, f"RequestId: 8286a188-ba32-4475-8077-530cd35c09a9 Error: Runtime exited {reason}")
                assert running.environment.is_lost

        run(scenario)

    def test_code_that_exits_while_it_is_imported_fails_init(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            init = (await stage.start_failing("import sys; sys.exit(3)")).init
            error = json.loads(init.error or b"")
            assert (init.ending, init.error_type) == ("exited", "Runtime.ExitError")
            assert error["errorType"] == "Runtime.ExitError"
            assert error["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")

        run(scenario)

    # -- deadlines ---------------------------------------------------------------------------------------------------

    def test_an_invocation_past_its_deadline_is_answered_with_awss_timeout(self, run: Run) -> None:
        """At once, and the environment is lost."""

        async def scenario(stage: Stage) -> None:
            running = await stage.start("import time\ndef handler(event, context): time.sleep(4)")
            started = time.perf_counter()
            answer = await running.invoke(timeout_ms=700, request_id="8286a188-ba32-4475-8077-530cd35c09a9")
            assert 0.7 <= time.perf_counter() - started < 3
            assert (answer.ending, answer.error_type) == ("timeout", "Sandbox.Timedout")
            assert json.loads(answer.payload) == {
                "errorType": "Sandbox.Timedout",
                "errorMessage": (
                    "RequestId: 8286a188-ba32-4475-8077-530cd35c09a9 Error: Task timed out after 0.70 seconds"
                ),
            }
            assert answer.duration_ms >= 700
            assert running.environment.is_lost
            await running.environment.stop()

        run(scenario)

    def test_what_was_printed_before_the_deadline_is_logged(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = "import time\ndef handler(event, context): print('so far'); time.sleep(4)"
            running = await stage.start(source)
            assert (await running.invoke(timeout_ms=500)).ending == "timeout"
            assert b"so far\n" in running.log

        run(scenario)

    def test_init_that_takes_too_long_is_ended(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            started = time.perf_counter()
            init = (await stage.start_failing(f"import time; time.sleep({self.init_timeout_s + 1})")).init
            assert time.perf_counter() - started >= self.init_timeout_s
            assert (init.ending, init.error_type) == ("timeout", "Sandbox.Timedout")
            assert json.loads(init.error or b"")["errorType"] == "Sandbox.Timedout"

        run(scenario)

    # -- the context -------------------------------------------------------------------------------------------------

    def test_the_context_is_awss_attribute_by_attribute(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same public names with the same values, down to how they are printed, with and without what a mobile
        client sends."""
        from awslambdaric.lambda_context import LambdaContext  # type: ignore[import-untyped]

        describe = """
            def describe(value):
                names = sorted(name for name in dir(value) if not name.startswith("_"))
                return {name: "called" if callable(getattr(value, name)) else repr(getattr(value, name))
                        for name in names}
        """
        handler = """
            def handler(event, context):
                client = context.client_context
                parts = [context, context.identity, client, getattr(client, "client", None)]
                kinds = [type(part).__name__ for part in parts]
                return [kinds, [describe(part) for part in parts[:2]], repr(context), context.w3c(), vars_of(context)]

            def vars_of(context):
                return sorted(name for name in vars(context) if not name.startswith("_"))
        """
        client = {
            "client": {"installation_id": "i", "app_title": "t", "app_version_name": "v"},
            "custom": {"key": "välue"},
            "env": {"locale": "de"},
            "w3c": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "other": "x"},
        }
        identity = {"cognitoIdentityId": "id-1", "cognitoIdentityPoolId": "pool-1"}

        async def scenario(stage: Stage) -> None:
            running = await stage.start(dedent(describe) + dedent(handler))
            spec = running.spec
            for name, value in awss_variables(spec).items():
                monkeypatch.setenv(name, value)
            here: dict[str, Any] = {}
            exec(dedent(describe) + dedent(handler), here)
            for client_context, cognito in ((None, None), (client, identity)):
                sent = invocation_of(spec, b"{}")
                sent.client_context = json.dumps(client_context) if client_context else None
                sent.cognito_identity = json.dumps(cognito) if cognito else None
                copy = json.loads(json.dumps(client_context))
                wanted = LambdaContext(sent.request_id, copy, cognito, sent.deadline_ms, sent.arn)
                answer = await running.environment.invoke(sent)
                assert answer.ending == "answered", answer.payload
                assert json.loads(answer.payload) == json.loads(json.dumps(here["handler"]({}, wanted)))

        run(scenario)

    def test_the_remaining_time_counts_down_to_the_deadline(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                import time

                def handler(event, context):
                    before = context.get_remaining_time_in_millis()
                    time.sleep(0.2)
                    return before, context.get_remaining_time_in_millis()
            """
            before, after = await (await stage.start(source)).result()
            assert 1000 < before <= 3000
            assert 150 <= before - after < 1000

        run(scenario)

    def test_a_client_context_that_is_not_json_is_an_error_of_awss_name(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(ECHO)
            answer = await running.invoke(1, client_context="{")
            assert (answer.ending, answer.error_type) == ("failed", "Runtime.LambdaContextUnmarshalError")
            assert json.loads(answer.payload)["errorMessage"].startswith("Unable to parse Client Context JSON: ")
            assert await running.result(1) == 1

        run(scenario)

    # -- output ------------------------------------------------------------------------------------------------------

    def test_output_is_logged_in_order_and_whole_before_the_answer(self, run: Run) -> None:
        """A line without an end too."""

        async def scenario(stage: Stage) -> None:
            source = """
                import sys

                def handler(event, context):
                    print("one", event)
                    sys.stdout.write("t")
                    sys.stdout.write("wo\\n")
                    print("drei ü", end="")
            """
            running = await stage.start(source)
            for number in range(3):
                before = len(running.log)
                assert await running.result(number) is None
                assert running.log[before:] == f"one {number}\ntwo\ndrei ü".encode()

        run(scenario)

    def test_the_sink_gets_whole_lines(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                import sys

                def handler(event, context):
                    for word in ("a", "b", "c\\n") * 50:
                        sys.stdout.write(word)
                        sys.stdout.flush()
            """
            running = await stage.start(source)
            await running.invoke()
            assert running.log == b"abc\n" * 50
            assert all(piece.endswith(b"\n") for piece in running.pieces)

        run(scenario)

    def test_a_flood_of_output_is_logged_whole(self, run: Run) -> None:
        """Many lines, and one of a mebibyte."""

        async def scenario(stage: Stage) -> None:
            source = """
                def handler(event, context):
                    for number in range(20_000):
                        print("line", number)
                    print("x" * 2 ** 20)
            """
            running = await stage.start(source, timeout_ms=30_000)
            await running.result()
            lines = running.log.decode().splitlines()
            assert lines[:-1] == [f"line {number}" for number in range(20_000)]
            assert lines[-1] == "x" * 2**20

        run(scenario)

    # -- code --------------------------------------------------------------------------------------------------------

    def test_layers_are_merged_in_order_under_the_functions_own_code(self, run: Run) -> None:
        """A later layer hides what earlier ones have; the function's code hides both; AWS's two directories count."""

        async def scenario(stage: Stage) -> None:
            first = stage.layer(
                {
                    "python/in_first.py": "value = 'first'",
                    "python/in_both.py": "value = 'first'",
                    "python/in_all.py": "value = 'first'",
                    "python/lib/python3.11/site-packages/sited.py": "value = 'site'",
                }
            )
            second = stage.layer({"python/in_both.py": "value = 'second'", "python/in_all.py": "value = 'second'"})
            source = """
                import in_first, in_both, in_all, sited

                def handler(event, context):
                    return [in_first.value, in_both.value, in_all.value, sited.value]
            """
            spec = stage.spec(source, {"in_all.py": "value = 'code'"}, layers=(first, second))
            assert await (await stage.start_spec(spec)).result() == ["first", "second", "code", "site"]

        run(scenario)

    def test_a_package_of_a_layer_is_found_by_functions_with_that_layer_only(self, run: Run) -> None:
        """Whatever other functions have imported before."""

        async def scenario(stage: Stage) -> None:
            layer = stage.layer(
                {"python/numerics/__init__.py": "from .core import pi", "python/numerics/core.py": "pi = 3"}
            )
            source = "import numerics\ndef handler(event, context): return numerics.pi"
            assert await (await stage.start(source, layers=(layer,))).result() == 3
            failed = await stage.start_failing(source)
            assert failed.init.error_type == "Runtime.ImportModuleError"
            other = await stage.start(source, {"numerics.py": "pi = 4"})
            assert await other.result() == 4

        run(scenario)


class BatchContract:
    """Mixed in where handlers can take record batches."""

    def test_a_typed_batch_is_handed_to_the_handler_as_it_is(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            source = """
                def handler(batch, context):
                    return [[record.partition_key, record.data.decode()] for record in batch.records()]
            """
            running = await stage.start(source)
            for values in ([b"1"], [b"", b"zwei", b"3" * 100_000]):
                expected = [["key", value.decode()] for value in values]
                answer = await running.environment.invoke(invocation_of(running.spec, batch=make_batch(values)))
                assert answer.ending == "answered", answer.payload
                assert json.loads(answer.payload) == expected

        run(scenario)


class StreamingContract:
    """Mixed in where a handler can answer piece by piece."""

    streaming_source: ClassVar[str] = """
        import time

        def handler(event, context):
            for number in range(event):
                yield f"piece {number}".encode()
                time.sleep(0.1)
    """
    """A handler that answers with `event` pieces, with pauses between."""

    def test_pieces_of_a_streamed_response_come_when_they_are_made(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(self.streaming_source)
            got: list[bytes] = []
            came: list[float] = []

            def on_chunk(piece: bytes) -> None:
                got.append(piece)
                came.append(time.perf_counter())

            answer = await running.invoke(5, on_chunk=on_chunk)
            assert (answer.ending, answer.payload) == ("answered", b"")
            assert b"".join(got) == b"".join(b"piece %d" % number for number in range(5))
            assert came[-1] - came[0] >= 0.3
            assert (await running.invoke(1, on_chunk=got.append)).ending == "answered"

        run(scenario)

    def test_a_streamed_response_nobody_takes_piece_by_piece_is_joined(self, run: Run) -> None:
        async def scenario(stage: Stage) -> None:
            running = await stage.start(self.streaming_source)
            assert (await running.invoke(2)).payload == b"piece 0piece 1"

        run(scenario)


# -- how it is done --------------------------------------------------------------------------------------------------


def make_batch(values: Sequence[bytes]) -> RecordBatch:
    """Records of one shard, all with the partition key `key`."""
    count = len(values)
    key_offsets = array("i", range(0, 3 * count + 1, 3))
    data_offsets = array("i", itertools.accumulate(map(len, values), initial=0))
    columns = (memoryview(key_offsets), memoryview(b"key" * count), memoryview(data_offsets))
    return RecordBatch(0, 1_600_000_000, 0, 0, count, START_MS, *columns, memoryview(b"".join(values)))


@asynccontextmanager
async def _staged(make_environments: MakeEnvironments, directory: Path) -> AsyncIterator[Stage]:
    environments = make_environments()
    stage = Stage(environments, directory)
    try:
        yield stage
    finally:
        await stage.stop()
        await environments.close()


def _run(
    make_environments: MakeEnvironments, loop_factory: LoopFactory | None, directory: Path, scenario: Scenario
) -> None:
    async def main() -> None:
        async with asyncio.timeout(_PATIENCE_S), _staged(make_environments, directory) as stage:
            await scenario(stage)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def awss_variables(spec: Spec) -> dict[str, str]:
    """Those that the context is made of."""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": spec.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": spec.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mib),
        "AWS_LAMBDA_LOG_GROUP_NAME": spec.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": spec.log_stream,
    }


def assert_exited(answer: Answer, message: str) -> None:
    assert (answer.ending, answer.error_type) == ("exited", "Runtime.ExitError")
    assert json.loads(answer.payload) == {"errorType": "Runtime.ExitError", "errorMessage": message}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


def is_alive(pid: int | None) -> bool:
    """A process that ended and was not waited for by its parent counts as gone."""
    assert pid is not None
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
