"""An HTTP endpoint that speaks Firehose's protocol ("Understand HTTP endpoint delivery request and response
specifications", Amazon Data Firehose developer guide).

At least once. A request whose answer was lost, or that was under way when this process died, is sent again, and the
endpoint gets its records twice; both requests have the same `X-Amz-Firehose-Request-Id`, which nothing else ever has,
so that an endpoint that remembers ids takes each record once. A request id stands for the same records at each try;
`timestamp` in the body is of the try. Parts of an object that were acknowledged are not sent again by this process.

The options, as AWS's members say: `url`, `access_key`, `common_attributes` (a mapping), `content_encoding` (GZIP or
NONE), `name`; ours: `source_arn`, the delivery stream's ARN for `X-Amz-Firehose-Source-Arn`, and `ca_file`, a file of
certificates to trust instead of the machine's.

Unlike AWS: http is taken for this machine, and any port; records of more than 1,000 KiB are sent. Not known of AWS,
and so not checked: whether further members of an answer are refused ("unexpected fields").
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64encode

from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    HTTP_ENDPOINT_ACCESS_KEY_BYTES_MAX,
    HTTP_ENDPOINT_ANSWER_BYTES_MAX,
    HTTP_ENDPOINT_ATTRIBUTES_MAX,
    HTTP_ENDPOINT_BODY_BYTES_MAX,
    HTTP_ENDPOINT_RECORDS_MAX,
    HTTP_ENDPOINT_TIMEOUT_MS,
    HTTP_ENDPOINT_URL_CHARACTERS_MAX,
)
from streamkit_connectors.records import (
    Answer,
    Body,
    Client,
    Memory,
    Part,
    Unanswered,
    cut,
    deliver_parts,
    header_value,
    known_options,
    slices,
    text_option,
    url_of,
)

_OPTIONS: Final = ("access_key", "ca_file", "common_attributes", "content_encoding", "name", "source_arn", "url")
_TOO_LARGE: Final = 413  # "considered as a permanent failure"; all other statuses are tried again

_OPENS: Final = b'{"data":"'
_BETWEEN: Final = b'"},{"data":"'
_CLOSES: Final = b'"}]}'
_RECORD_COST_BYTES: Final = len(_BETWEEN)
_HEAD_BYTES: Final = 100  # no less than what stands before and after the records

# "HTTPS endpoint data delivery errors", with their texts. SSLHandshakeFailure is of "Troubleshoot HTTP endpoints".
_ERRORS: Final = {
    "connect": (
        "HttpEndpoint.ConnectionFailed",
        "Unable to connect to the destination endpoint. Contact the owner of the endpoint to resolve this issue.",
    ),
    "reset": (
        "HttpEndpoint.ConnectionReset",
        "Unable to maintain connection with the endpoint. Contact the owner of the endpoint to resolve this issue.",
    ),
    "timeout": (
        "HttpEndpoint.RequestTimeout",
        "The delivery timed out before a response was received and will be retried.",
    ),
    "too_large": (
        "HttpEndpoint.ResponseTooLarge",
        "The response received from the endpoint is too large. Contact the owner of the endpoint to resolve this "
        "issue.",
    ),
    "tls": (
        "HttpEndpoint.SSLHandshakeFailure",
        "An SSL handshake could not be successfully completed with the configured endpoint.",
    ),
}
_INVALID: Final = (
    "HttpEndpoint.InvalidResponseFromDestination",
    "The response received from the specified endpoint is invalid. Contact the owner of the endpoint to resolve the "
    "issue.",
)


class _Reply(msgspec.Struct, rename="camel"):
    request_id: str
    timestamp: int | float


class HttpEndpoint:
    """See `streamkit.delivery.destination.Destination`, and the module."""

    takes: Takes = "records"
    is_ordered = False
    failed_output_type = "http-endpoint-failed"
    metric = "HttpEndpoint"

    def __init__(
        self,
        spec: DestinationSpec,
        surroundings: Surroundings,
        *,
        body_bytes_max: int = HTTP_ENDPOINT_BODY_BYTES_MAX,
        timeout_ms: int = HTTP_ENDPOINT_TIMEOUT_MS,
    ) -> None:
        options = spec.options
        known_options(options, _OPTIONS, "http")
        url = url_of(options, "http")
        if len(url.geturl()) > HTTP_ENDPOINT_URL_CHARACTERS_MAX:
            raise UsageError(f"the URL of an HTTP endpoint has at most {HTTP_ENDPOINT_URL_CHARACTERS_MAX} characters")
        self._target = url._replace(scheme="", netloc="", path=url.path or "/").geturl()
        self._is_compressed = _is_compressed(options)
        self._headers = _headers(options, is_compressed=self._is_compressed)
        self._clock = surroundings.clock
        self._client = Client(url, clock=surroundings.clock, ca_file=options.get("ca_file"))
        self._memory = Memory()
        self._body_bytes_max = body_bytes_max
        self._timeout_ms = timeout_ms

    async def schema(self) -> pa.Schema | None:
        return None

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        """One request after the other. Records are refused where their request is too large for the endpoint (413):
        AWS drops such a batch, here it goes to the error output."""
        parts = await self._client.run(lambda: list(self._parts(sealed)))
        return await deliver_parts(sealed, parts, self._memory, lambda part: self._send(sealed, part))

    async def close(self) -> None:
        await self._client.close()

    def _parts(self, sealed: Sealed) -> Iterator[Part]:
        return cut(
            sealed.path, cost, bytes_max=self._body_bytes_max - _HEAD_BYTES, records_max=HTTP_ENDPOINT_RECORDS_MAX
        )

    async def _send(self, sealed: Sealed, part: Part) -> None:
        identity = request_id(sealed, part)
        now_ms = self._clock.now_ms()
        try:
            answer = await self._client.post(
                self._target,
                {**self._headers, "X-Amz-Firehose-Request-Id": identity},
                lambda: self._body(sealed, part, identity, now_ms),
                answer_bytes_max=HTTP_ENDPOINT_ANSWER_BYTES_MAX,
                timeout_ms=self._timeout_ms,
            )
        except Unanswered as error:
            code, text = _ERRORS.get("tls" if error.kind == "tls_name" else error.kind, _INVALID)
            raise DeliveryFailed(code, f"{text} {error.message}") from error
        check(answer, identity)

    def _body(self, sealed: Sealed, part: Part, identity: str, now_ms: int) -> Body:
        head = b'{"requestId":"%s","timestamp":%d,"records":[' % (identity.encode(), now_ms)
        chunks = body_chunks(head, (batch.column(0) for batch in slices(sealed.path, part)))
        if self._is_compressed:
            compressed = list(gzipped(chunks))
            return Body(compressed, sum(map(len, compressed)))
        return Body(chunks, len(head) + len(_OPENS) + part.cost_bytes - _RECORD_COST_BYTES + len(_CLOSES))


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> HttpEndpoint:
    """The entry point. Raises UsageError for options that cannot be right."""
    return HttpEndpoint(spec, surroundings)


def request_id(sealed: Sealed, part: Part) -> str:
    """The object's id where it is one request; otherwise made of it and the rows that the request has, so that an id
    means the same records also when the bounds of a request have changed in between."""
    if part.count == sealed.records_count:
        return sealed.id
    return str(uuid.uuid5(uuid.UUID(sealed.id), f"{part.first}+{part.count}"))


# -- the request ------------------------------------------------------------------------------------------------------


def cost(batch: pa.RecordBatch) -> pa.Int64Array:
    """What each record takes in the body: base64, and the object around it."""
    lengths = pc.binary_length(batch.column(0)).cast(pa.int64())
    groups = pc.divide(pc.add(lengths, 2), 3)
    return pc.add(pc.multiply(groups, 4), _RECORD_COST_BYTES)


def body_chunks(head: bytes, columns: Iterable[pa.BinaryArray]) -> Iterator[bytes]:
    """The body, a chunk for each column."""
    opening = head + _OPENS
    for data in columns:
        yield opening + _BETWEEN.join(map(b64encode, data.to_pylist()))
        opening = _BETWEEN
    yield _CLOSES


def gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """With isal, where it is installed: four times as fast as zlib at its fastest."""
    compressor: Any
    try:
        from isal import isal_zlib
    except ImportError:
        compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    else:
        compressor = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()


# -- the answer -------------------------------------------------------------------------------------------------------


def check(answer: Answer, identity: str) -> None:
    """Only a status of 200 with all that the specification asks for is success. Raises DeliveryFailed."""
    if answer.status != 200:
        text = f"The following response was received from the endpoint destination. {answer.status}: {answer.excerpt}"
        raise DeliveryFailed("HttpEndpoint.DestinationException", text, is_final=answer.status == _TOO_LARGE)
    wrong = _what_is_wrong(answer, identity)
    if wrong:
        code, text = _INVALID
        received = f"Raw response received: {answer.status} {answer.excerpt}"
        raise DeliveryFailed(code, f"{text} Response for request {identity} {wrong}. {received}")


def _what_is_wrong(answer: Answer, identity: str) -> str:
    if answer.media_type != "application/json":
        return "has no content-type: application/json header"
    if "content-encoding" in answer.headers:
        return "has a content-encoding"
    if "content-length" not in answer.headers:
        return "has no content-length header"
    try:
        reply = msgspec.json.decode(answer.body, type=_Reply)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        return f"is not recognized as valid JSON or has unexpected fields ({error})"
    return "" if reply.request_id == identity else f"has the requestId {reply.request_id[:100]!r}, which does not match"


# -- options ----------------------------------------------------------------------------------------------------------


def _is_compressed(options: Mapping[str, Any]) -> bool:
    encoding = text_option(options, "content_encoding", "NONE")
    if encoding not in ("GZIP", "NONE"):
        raise UsageError(f"the option content_encoding must be GZIP or NONE, not {encoding!r}")
    return encoding == "GZIP"


def _headers(options: Mapping[str, Any], *, is_compressed: bool) -> dict[str, str]:
    headers = {"X-Amz-Firehose-Protocol-Version": "1.0", "Content-Type": "application/json"}
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    source_arn = text_option(options, "source_arn")
    if source_arn:
        headers["X-Amz-Firehose-Source-Arn"] = header_value(source_arn, "source_arn")
    access_key = text_option(options, "access_key")
    if len(access_key.encode()) > HTTP_ENDPOINT_ACCESS_KEY_BYTES_MAX:
        raise UsageError(f"the option access_key has at most {HTTP_ENDPOINT_ACCESS_KEY_BYTES_MAX} bytes")
    if access_key:
        headers["X-Amz-Firehose-Access-Key"] = header_value(access_key, "access_key")
    attributes = options.get("common_attributes") or {}
    if not isinstance(attributes, Mapping) or not all(
        isinstance(each, str) for each in (*attributes, *attributes.values())
    ):
        raise UsageError("the option common_attributes must be a mapping of texts to texts")
    if len(attributes) > HTTP_ENDPOINT_ATTRIBUTES_MAX:
        raise UsageError(f"the option common_attributes has at most {HTTP_ENDPOINT_ATTRIBUTES_MAX} attributes")
    common = json.dumps({"commonAttributes": dict(attributes)}, separators=(",", ":"))  # in ASCII, as headers are
    headers["X-Amz-Firehose-Common-Attributes"] = header_value(common, "common_attributes")
    return headers
