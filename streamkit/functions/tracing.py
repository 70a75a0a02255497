"""Spans of OpenTelemetry: one for each invocation, and one for each batch that a mapping hands to a function.

    batch (consumer) ──▶ invocation (server) ──▶ what the handler makes of its trace header

Only where OpenTelemetry's own variables ask for traces (see `from_environment`) and its packages are installed: the
extra `otel`. They are loaded then and not before; without them nothing here is called.

Spans are joined by X-Ray trace headers, as on Lambda: the caller's is the parent of an invocation, and the handler gets
one that names the invocation's span. What current span a task happens to have does not matter, because environments,
and the tasks of mappings, outlive whatever they were made in.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from streamkit._version import __version__
from streamkit.model.errors import StreamkitError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanKind

_log = logging.getLogger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_ROOT: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_PARENT: Final = re.compile(r"[0-9a-f]{16}")
_OURS: Final = ("Root", "Parent", "Sampled")  # of a header's fields; the others are handed on as they are

_batch_header: ContextVar[str | None] = ContextVar("batch_header", default=None)


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What a mapping hands over. Sequence numbers are None for a window's final invocation, which has no records."""

    mapping_id: str
    function_arn: str
    stream_arn: str
    shard_id: str
    records: int
    attempt: int  # counted from 1, those that ended in a bisect too
    first_sequence_number: str | None
    last_sequence_number: str | None


class Tracing:
    """Makes spans with a provider, and shuts it down in the end. A span ends when its `with` block does; what leaves
    the block as an exception is its error."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace

        self._api = trace
        self._new_context = context.Context
        self._provider = provider
        self._tracer = provider.get_tracer("streamkit", __version__)

    def invocation(
        self, *, name: str, version: str, arn: str, request_id: str, trace_header: str | None
    ) -> InvocationSpan:
        """Without a header, the child of the batch it is for, if there is one; otherwise a trace of its own."""
        batch_header = _batch_header.get()
        if batch_header is not None:
            # Taken, so that an environment that is made for this invocation does not keep it for later ones.
            _batch_header.set(None)
        header = trace_header or batch_header
        attributes: dict[str, Any] = {
            "faas.name": name,
            "faas.version": version,
            "faas.invocation_id": request_id,
            "aws.lambda.invoked_arn": arn,
        }
        if batch_header is not None:
            attributes["faas.trigger"] = "pubsub"
        span = self._begin(name, self._api.SpanKind.SERVER, attributes, header)
        return InvocationSpan(self, span, header)

    def batch(self, facts: BatchFacts) -> BatchSpan:
        """A trace of its own. What is invoked in its `with` block is its child."""
        stream = facts.stream_arn.rpartition("/")[2]
        attributes: dict[str, Any] = {
            "messaging.system": "aws_kinesis",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": stream,
            "messaging.destination.partition.id": facts.shard_id,
            "messaging.batch.message_count": facts.records,
            "aws.lambda.resource_mapping.id": facts.mapping_id,
            "faas.invoked_name": facts.function_arn,
            "streamkit.batch.attempt": facts.attempt,
        }
        if facts.first_sequence_number is not None and facts.last_sequence_number is not None:
            attributes["streamkit.batch.first_sequence_number"] = facts.first_sequence_number
            attributes["streamkit.batch.last_sequence_number"] = facts.last_sequence_number
        span = self._begin(f"process {stream}", self._api.SpanKind.CONSUMER, attributes, None)
        return BatchSpan(self, span, None)

    async def close(self) -> None:
        """Returns when what was recorded has been exported, or given up: OTEL_EXPORTER_OTLP_TIMEOUT bounds that, 10 s
        unless it says otherwise."""
        await asyncio.to_thread(self._provider.shutdown)

    def fail(self, span: Span, error_type: str) -> None:
        span.set_attribute("error.type", error_type)
        span.set_status(self._api.StatusCode.ERROR)

    def _begin(self, name: str, kind: SpanKind, attributes: Mapping[str, Any], header: str | None) -> Span:
        return self._tracer.start_span(name, context=self._parent(header), kind=kind, attributes=attributes)

    def _parent(self, header: str | None) -> Context:
        """Empty where the header names no parent: then a sampler of ours decides."""
        fields = _fields(header)
        root, parent, sampled = (fields.get(name, "") for name in _OURS)
        match = _ROOT.fullmatch(root)
        empty = self._new_context()
        if match is None or not _PARENT.fullmatch(parent) or sampled not in ("0", "1"):
            return empty
        api = self._api
        flags = api.TraceFlags(api.TraceFlags.SAMPLED if sampled == "1" else api.TraceFlags.DEFAULT)
        found = api.SpanContext(int(match[1] + match[2], 16), int(parent, 16), is_remote=True, trace_flags=flags)
        return api.set_span_in_context(api.NonRecordingSpan(found), empty) if found.is_valid else empty


class _Span:
    """Ends when its `with` block does."""

    __slots__ = ("_span", "_tracing", "header")

    def __init__(self, tracing: Tracing, span: Span, header: str | None) -> None:
        self._tracing = tracing
        self._span = span
        self.header = _header_of(span, header)
        """The X-Ray trace header for what is done in it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.failed(error.code if isinstance(error, StreamkitError) else type(error).__name__)
        self._span.end()

    def failed(self, error_type: str) -> None:
        self._tracing.fail(self._span, error_type)


class InvocationSpan(_Span):
    """Of a function, from before concurrency is taken to its answer."""

    __slots__ = ()

    def answered(self, *, is_cold: bool, error_type: str) -> None:
        """`error_type` as AWS names it; empty where the handler returned."""
        self._span.set_attribute("faas.coldstart", is_cold)
        if error_type:
            self.failed(error_type)


class BatchSpan(_Span):
    """Of a batch, from its handing over to what became of it."""

    __slots__ = ("_token",)

    _token: Token[str | None]

    def __enter__(self) -> Self:
        self._token = _batch_header.set(self.header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _batch_header.reset(self._token)
        super().__exit__(kind, error, trace)

    def ended(self, outcome: str) -> None:
        """As the rules of retries call it: done, partial, failed, again."""
        self._span.set_attribute("streamkit.batch.outcome", outcome)
        if outcome != "done":
            self.failed(outcome)


def _fields(header: str | None) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in (header or "").split(";"))
    return {name: value for name, is_pair, value in pairs if is_pair}


def _header_of(span: Span, header: str | None) -> str:
    context = span.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    own = (
        f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={context.span_id:016x};Sampled={int(context.trace_flags.sampled)}"
    )
    others = (f"{name}={value}" for name, value in _fields(header).items() if name not in _OURS)
    return ";".join([own, *others])


def from_environment(environ: Mapping[str, str]) -> Tracing | None:
    """Tracing as OpenTelemetry's variables ask for it; None where they do not, or its packages are not installed.

    OTEL_TRACES_EXPORTER is a list of `otlp` and `console`; where only an OTLP endpoint is set, `otlp`. That one speaks
    http/protobuf. The resource is `streamkit` unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise.
    """
    has_endpoint = any(environ.get(name) for name in _ENDPOINTS)
    wanted = environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if has_endpoint else "")
    names = [name.strip() for name in wanted.split(",") if name.strip() not in ("", "none")]
    if not names or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        provider = _provider(environ)
        exporters = [_add_exporter(provider, name) for name in names]
    except ImportError as error:
        _log.warning("traces are asked for, but %s is not installed; the extra `otel` has it", error.name)
        return None
    return Tracing(provider) if any(exporters) else None


def _provider(environ: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    is_named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    own = {} if is_named else {"service.name": "streamkit", "service.version": __version__}
    return TracerProvider(resource=Resource.create(own))


def _add_exporter(provider: TracerProvider, name: str) -> bool:
    """Whether there is such a one."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporter: SpanExporter
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    elif name == "console":
        exporter = ConsoleSpanExporter()
    else:
        _log.warning("OTEL_TRACES_EXPORTER: there is no exporter %r here, only otlp and console", name)
        return False
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return True
