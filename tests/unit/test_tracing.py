"""Spans: what they say, whose children they are, and that nothing is loaded where nobody asks for them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from streamkit.functions.state import Configuration
from streamkit.functions.tracing import Tracing, from_environment
from streamkit.model.errors import TooManyRequests
from streamkit.model.names import FunctionArn, Scope, StreamArn
from streamkit.node import Node

SCOPE = Scope("000000000000", "us-east-1")
ROLE = "arn:aws:iam::000000000000:role/r"
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30
HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        await asyncio.wait_for(work(), TIMEOUT_S)

    asyncio.run(within())


class Recorded:
    """Spans in the order in which they ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.spans
        return span


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert span.context is not None
    assert parent.context is not None
    is_parent = span.parent is not None and span.parent.span_id == parent.context.span_id
    return is_parent and span.context.trace_id == parent.context.trace_id


@asynccontextmanager
async def opened(path: Path, tracing: Tracing | None) -> AsyncIterator[Node]:
    node = Node(path, tracing=tracing)
    await node.start()
    try:
        yield node
    finally:
        await node.close()


async def make(node: Node, name: str, handler: Callable[[Any, Any], Any] | str, **more: Any) -> FunctionArn:
    """A function of this process, or of `tests.unit.app_functions` in a process of its own."""
    if isinstance(handler, str):
        more = {"source": f"tests.unit.app_functions:{handler}", "environment": "fork", **more}
    else:
        more = {"source": node.functions.inline.register(name, handler), "environment": "inline", **more}
    await node.functions.registry.create(SCOPE, name, Configuration("python3.11", "app.handler", ROLE, **more))
    return FunctionArn(SCOPE, name, None)


async def feed(node: Node, name: str, records: Sequence[bytes], **given: Any) -> None:
    """A mapping from a new stream with these records; returns when they are resolved."""
    stream = await node.streams.create(StreamArn(SCOPE, "clicks"), shards_count=1)
    await stream.ready()
    names = {"EventSourceArn": str(stream.state.arn), "FunctionName": name, "StartingPosition": "TRIM_HORIZON"}
    put = stream.put([b"k"] * len(records), [*records])
    await put.groups()
    await node.mappings.registry.create(SCOPE, {**names, **given})
    await node.mappings.caught_up()


# -- invocations -----------------------------------------------------------------------------------------------------


def test_an_invocations_span_names_the_function_and_tells_a_cold_start(tmp_path: Path) -> None:
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            arn = await make(node, "greet", lambda event, context: "hello")
            results = [await node.functions.invocations.invoke(arn, [b"{}"]) for _ in range(2)]
        assert [attributes(span)["faas.coldstart"] for span in recorded.spans] == [True, False]
        for span, result in zip(recorded.spans, results, strict=True):
            assert (span.name, span.kind, span.parent) == ("greet", SpanKind.SERVER, None)
            assert span.status.status_code == StatusCode.UNSET
            assert attributes(span) == {
                "faas.name": "greet",
                "faas.version": "$LATEST",
                "faas.invocation_id": result.request_id,
                "faas.coldstart": attributes(span)["faas.coldstart"],
                "aws.lambda.invoked_arn": "arn:aws:lambda:us-east-1:000000000000:function:greet",
            }

    run(work)


def test_the_callers_trace_header_is_the_parent_and_the_handler_gets_the_spans(tmp_path: Path) -> None:
    """So that spans the handler makes are children of the invocation's; other fields are handed on."""
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            arn = await make(node, "f", "trace_header")
            invoke = node.functions.invocations.invoke
            result = await invoke(arn, [b"{}"], trace_id=f"{HEADER};Lineage=1:a:0")
        context, parent = recorded.only.context, recorded.only.parent
        assert context is not None
        assert parent is not None
        assert f"{parent.trace_id:032x} {parent.span_id:016x}" == "5759e988bd862e3fe1be46a994272793 53995c3f42cd8ad8"
        assert parent.is_remote
        root = "Root=1-5759e988-bd862e3fe1be46a994272793"
        assert result.payload.decode() == f'"{root};Parent={context.span_id:016x};Sampled=1;Lineage=1:a:0"'

    run(work)


def test_what_its_caller_does_not_sample_is_not_recorded(tmp_path: Path) -> None:
    """And the handler is told so, in the same trace."""
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            arn = await make(node, "f", "trace_header")
            header = HEADER.replace("Sampled=1", "Sampled=0")
            result = await node.functions.invocations.invoke(arn, [b"{}"], trace_id=header)
        assert result.payload.startswith(b'"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=')
        assert result.payload.endswith(b';Sampled=0"')
        assert not recorded.spans

    run(work)


def invocation_span(header: str | None) -> tuple[ReadableSpan | None, str]:
    """A span by itself, and the header for what is done in it."""
    recorded = Recorded()
    with recorded.tracing.invocation(name="f", version="1", arn="a", request_id="r", trace_header=header) as span:
        pass
    return (recorded.spans[0] if recorded.spans else None), span.header


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.text("abc:=-0", max_size=9))
def test_every_header_of_x_ray_is_understood(trace_id: int, parent_id: int, lineage: str) -> None:
    """Fields may come in any order, and those that are not known are kept."""
    text = f"{trace_id:032x}"
    root = f"Root=1-{text[:8]}-{text[8:]}"
    span, header = invocation_span(f"Sampled=1; Lineage={lineage};{root};Parent={parent_id:016x}")
    assert span is not None
    assert span.parent is not None
    assert span.context is not None
    assert (span.parent.trace_id, span.parent.span_id, span.context.trace_id) == (trace_id, parent_id, trace_id)
    assert header == f"{root};Parent={span.context.span_id:016x};Sampled=1;Lineage={lineage}"


@given(st.one_of(st.none(), st.text(), st.text("Rot=1-5759e988;Parent= Smpld?", max_size=90)))
def test_a_header_that_is_none_begins_a_trace_of_its_own(header: str | None) -> None:
    span, _ = invocation_span(header)
    assert span is not None
    assert span.parent is None


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace(";Sampled=1", ""),
        HEADER.replace("Sampled=1", "Sampled=?"),
        HEADER.replace("Parent=53995c3f42cd8ad8;", ""),
        HEADER.replace("53995c3f42cd8ad8", "53995c3f42cd8ad"),
        HEADER.replace("53995c3f42cd8ad8", "0" * 16),
        HEADER.replace("Root=1-", "Root=2-"),
        HEADER.replace("Root=1-5759e988-bd862e3fe1be46a994272793", f"Root=1-{'0' * 8}-{'0' * 24}"),
    ],
)
def test_a_header_without_a_whole_parent_leaves_it_to_our_sampler(header: str) -> None:
    """As X-Ray's "undecided" does."""
    span, own = invocation_span(header)
    assert span is not None
    assert span.parent is None
    assert own.endswith(";Sampled=1")


def test_a_failed_invocations_span_has_the_errors_type(tmp_path: Path) -> None:
    """Of what the handler raised, of a timeout, and of an invocation that was refused."""
    recorded = Recorded()
    released = threading.Event()

    def fail(event: Any, context: Any) -> None:
        raise KeyError("missing")

    def hang(event: Any, context: Any) -> None:
        released.wait(TIMEOUT_S)

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            invoke = node.functions.invocations.invoke
            await invoke(await make(node, "fail", fail), [b"{}"])
            await invoke(await make(node, "hang", hang, timeout_s=1), [b"{}"])
            refused = await make(node, "refused", fail)
            await node.functions.registry.settings.reserve(SCOPE, "refused", 0)
            with pytest.raises(TooManyRequests) as error:
                await invoke(refused, [b"{}"])
            released.set()
        found = {span.name: attributes(span)["error.type"] for span in recorded.spans}
        assert found == {"fail": "KeyError", "hang": "Sandbox.Timedout", "refused": error.value.code}
        assert {span.status.status_code for span in recorded.spans} == {StatusCode.ERROR}

    run(work)


def test_an_event_that_was_accepted_has_a_span_when_it_is_run(tmp_path: Path) -> None:
    """Although nobody gave it a trace header."""
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            arn = await make(node, "f", lambda event, context: None)
            request_id = await node.functions.accept(arn, b"{}")
            while not recorded.spans:  # noqa: ASYNC110 the queue runs it when it comes to it
                await asyncio.sleep(0.01)
        assert attributes(recorded.only)["faas.invocation_id"] == request_id

    run(work)


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batchs_span_names_mapping_shard_and_records_and_is_the_invocations_parent(tmp_path: Path) -> None:
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            await make(node, "f", lambda event, context: None)
            await feed(node, "f", [b"1", b"2", b"3"])
            (mapping,) = node.mappings.registry.all()
        invocation, batch = recorded.spans
        assert is_child(invocation, batch)
        assert attributes(invocation)["faas.trigger"] == "pubsub"
        assert (batch.name, batch.kind, batch.parent) == ("process clicks", SpanKind.CONSUMER, None)
        found = dict(attributes(batch))
        first, last = (int(found.pop(f"streamkit.batch.{which}_sequence_number")) for which in ("first", "last"))
        assert 0 < first < last
        assert found == {
            "messaging.system": "aws_kinesis",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "clicks",
            "messaging.destination.partition.id": "shardId-000000000000",
            "messaging.batch.message_count": 3,
            "aws.lambda.resource_mapping.id": mapping.id,
            "faas.invoked_name": "arn:aws:lambda:us-east-1:000000000000:function:f",
            "streamkit.batch.attempt": 1,
            "streamkit.batch.outcome": "done",
        }

    run(work)


def test_each_attempt_at_a_batch_has_a_span_that_says_what_became_of_it(tmp_path: Path) -> None:
    """A failed one is an error; the one that succeeds is none."""
    recorded = Recorded()
    failures = iter([True, True])

    def flaky(event: Any, context: Any) -> None:
        if next(failures, False):
            raise RuntimeError

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            await make(node, "f", flaky)
            await feed(node, "f", [b"1"])
        batches = [span for span in recorded.spans if span.kind == SpanKind.CONSUMER]
        told = [
            (attributes(span)["streamkit.batch.attempt"], attributes(span)["streamkit.batch.outcome"])
            for span in batches
        ]
        assert told == [(1, "failed"), (2, "failed"), (3, "done")]
        assert [span.status.status_code for span in batches] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]

    run(work)


def test_the_final_invocation_of_a_window_is_a_batch_without_records(tmp_path: Path) -> None:
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            await make(node, "f", lambda event, context: {"state": {}})
            await feed(node, "f", [b"1"], TumblingWindowInSeconds=1)
            batches: list[ReadableSpan] = []
            while len(batches) < 2:
                await asyncio.sleep(0.01)
                batches = [span for span in recorded.spans if span.kind == SpanKind.CONSUMER]
        assert [attributes(span)["messaging.batch.message_count"] for span in batches] == [1, 0]
        assert "streamkit.batch.first_sequence_number" not in attributes(batches[1])

    run(work)


def test_what_a_handler_invokes_is_not_taken_for_its_batchs(tmp_path: Path) -> None:
    """Its environment was made while a batch was under way, and serves others after it."""
    recorded = Recorded()

    async def work() -> None:
        async with opened(tmp_path / "data", recorded.tracing) as node:
            inner = await make(node, "inner", lambda event, context: None)

            async def outer(event: Any, context: Any) -> None:
                await node.functions.invocations.invoke(inner, [b"{}"])

            await make(node, "outer", outer)
            await feed(node, "outer", [b"1", b"2", b"3"], BatchSize=1)
        spans = {name: [span for span in recorded.spans if span.name == name] for name in ("inner", "outer")}
        assert [span.parent for span in spans["inner"]] == [None] * 3
        batches = [span for span in recorded.spans if span.kind == SpanKind.CONSUMER]
        assert all(map(is_child, spans["outer"], batches))

    run(work)


# -- what OpenTelemetry's variables ask for --------------------------------------------------------------------------


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A program that takes spans over http/protobuf, as an OpenTelemetry collector does."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def test_spans_are_with_the_collector_when_a_node_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint is all that has to be said."""

    async def work() -> None:
        with collector() as (endpoint, received):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
            async with opened(tmp_path / "data", None) as node:
                await make(node, "f", lambda event, context: None)
                await feed(node, "f", [b"1"])
            (resource,) = [each for request in received for each in request.resource_spans]
        names = {each.key: each.value.string_value for each in resource.resource.attributes}
        assert names["service.name"] == "streamkit"
        assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["f", "process clicks"]

    run(work)


def test_a_collector_that_is_not_there_does_not_keep_a_node_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried for as long as OpenTelemetry's own timeout says."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")

    async def work() -> None:
        async with opened(tmp_path / "data", None) as node:
            arn = await make(node, "f", lambda event, context: 1)
            assert (await node.functions.invocations.invoke(arn, [b"{}"])).payload == b"1"
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 5

    run(work)
    assert "export" in caplog.text


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SERVICE_NAME": "mine"},
    ],
)
def test_nothing_is_traced_unless_the_variables_ask_for_it(environ: dict[str, str]) -> None:
    assert from_environment(environ) is None


def test_an_exporter_that_is_not_known_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Others in the list are used."""
    assert from_environment({"OTEL_TRACES_EXPORTER": "zipkin"}) is None
    assert "no exporter 'zipkin' here, only otlp and console" in caplog.text
    tracing = from_environment({"OTEL_TRACES_EXPORTER": "zipkin, console"})
    assert tracing is not None
    asyncio.run(tracing.close())


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With the extra that has them; the server runs without traces."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with caplog.at_level(logging.WARNING):
        assert from_environment({"OTEL_TRACES_EXPORTER": "console"}) is None
    assert "opentelemetry.sdk.resources is not installed; the extra `otel` has it" in caplog.text


def test_without_tracing_nothing_of_opentelemetry_is_loaded(tmp_path: Path) -> None:
    """Not by an app that runs functions, either."""
    code = """
import asyncio, sys
import streamkit
app = streamkit.App(sys.argv[1])
app.function(stream="s", name="f")(lambda event, context: None)
async def main():
    async with app:
        await app.kit.put("s", "x", partition_key="k")
        await app.caught_up()
asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=TIMEOUT_S, env={"PATH": ""})
    assert (ran.stdout, ran.stderr) == (b"[]\n", b"")
