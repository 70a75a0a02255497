"""Splunk, through its HTTP Event Collector with indexer acknowledgement ("About HTTP Event Collector Indexer
Acknowledgment", Splunk Enterprise; "Splunk data delivery errors", Amazon Data Firehose developer guide).

At least once. Data is delivered when Splunk acknowledges that it is indexed. Where the answer to the data, or the
acknowledgement, is lost or late, the data is sent again and may be indexed twice; Splunk knows nothing that would tell
the two apart. Parts of an object that were acknowledged are not sent again by this process.

The options, as AWS's members say: `url` (HECEndpoint), `token`, `type` (Raw or Event), `ack_timeout_ms`; ours:
`ca_file`. Where the URL has no path, the usual ones are added: `/services/collector/raw`, `/event`, `/ack`.

Raw: the records one after the other, with nothing between them. Event: the same, and each must be one or more of
Splunk's event objects, since one that is not would make Splunk refuse all after it; those are refused alone.

Not known of AWS: which path, channel and interval of asking it uses; whether it looks into events.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from streamkit.delivery.destination import DeliveryFailed, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.model.limits import (
    SPLUNK_ACK_POLL_MS_MAX,
    SPLUNK_ACK_POLL_MS_MIN,
    SPLUNK_ACK_TIMEOUT_MS_MAX,
    SPLUNK_ACK_TIMEOUT_MS_MIN,
    SPLUNK_ANSWER_BYTES_MAX,
    SPLUNK_BODY_BYTES_MAX,
    SPLUNK_REQUEST_TIMEOUT_MS,
)
from streamkit_connectors.records import (
    Answer,
    Body,
    Client,
    Kind,
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

_OPTIONS: Final = ("ack_timeout_ms", "ca_file", "token", "type", "url")
_RECORDS_MAX: Final = 1 << 31  # of a request: Splunk has no bound

# AWS's texts ("Splunk data delivery errors"). IndexerBusy is not in that list, but is what Firehose says of code 9.
_TEXTS: Final = {
    "Splunk.ProxyWithoutStickySessions": "If you have a proxy (ELB or other) between Kinesis Data Firehose and the HEC "
    "node, you must enable sticky sessions to support HEC ACKs.",
    "Splunk.DisabledToken": "The HEC token is disabled. Enable the token to allow data delivery to Splunk.",
    "Splunk.InvalidToken": "The HEC token is invalid. Update Kinesis Data Firehose with a valid HEC token.",
    "Splunk.InvalidDataFormat": "The data is not formatted correctly.",
    "Splunk.InvalidIndex": "The HEC token or input is configured with an invalid index. Check your index configuration "
    "and try again.",
    "Splunk.ServerError": "Data delivery to Splunk failed due to a server error from the HEC node.",
    "Splunk.IndexerBusy": "The HEC node is busy.",
    "Splunk.DisabledAck": "Indexer acknowledgement is disabled for the HEC token. Enable indexer acknowledgement and "
    "try again.",
    "Splunk.AckTimeout": "Did not receive an acknowledgement from HEC before the HEC acknowledgement timeout expired. "
    "Despite the acknowledgement timeout, it's possible the data was indexed successfully in Splunk.",
    "Splunk.ConnectionTimeout": "The connection to Splunk timed out. This might be a transient error and the request "
    "will be retried.",
    "Splunk.InvalidEndpoint": "Could not connect to the HEC endpoint. Make sure that the HEC endpoint URL is valid and "
    "reachable.",
    "Splunk.ConnectionClosed": "Unable to send data to Splunk due to a connection failure. This might be a transient "
    "error.",
    "Splunk.SSLUnverified": "Could not connect to the HEC endpoint. The host does not match the certificate provided "
    "by the peer. Make sure that the certificate and the host are valid.",
    "Splunk.SSLHandshake": "Could not connect to the HEC endpoint. Make sure that the certificate and the host are "
    "valid.",
}
_UNANSWERED: Final[Mapping[Kind, str]] = {
    "connect": "Splunk.InvalidEndpoint",
    "tls": "Splunk.SSLHandshake",
    "tls_name": "Splunk.SSLUnverified",
    "timeout": "Splunk.ConnectionTimeout",
    "reset": "Splunk.ConnectionClosed",
}
# "Possible error codes" of "Troubleshoot HTTP Event Collector"; those not named are server errors.
_CODES: Final = {
    1: "Splunk.DisabledToken",
    2: "Splunk.InvalidToken",  # token is required
    3: "Splunk.InvalidToken",  # invalid authorization
    4: "Splunk.InvalidToken",
    5: "Splunk.InvalidDataFormat",  # no data
    6: "Splunk.InvalidDataFormat",
    7: "Splunk.InvalidIndex",
    9: "Splunk.IndexerBusy",
    11: "Splunk.ProxyWithoutStickySessions",  # invalid data channel: another node than the one that made it
    12: "Splunk.InvalidDataFormat",  # event field is required
    13: "Splunk.InvalidDataFormat",  # event field cannot be blank
    14: "Splunk.DisabledAck",
    15: "Splunk.InvalidDataFormat",  # error in handling indexed fields
}
# No other try can go better. DisabledAck too: the data is indexed by then, and would be again each time.
_FINAL: Final = frozenset({"Splunk.InvalidDataFormat", "Splunk.DisabledAck"})


class _Reply(msgspec.Struct, rename={"ack_id": "ackId", "invalid_event_number": "invalid-event-number"}):
    text: str = ""
    code: int | None = None
    ack_id: int | None = None
    invalid_event_number: int | None = None


class _Acks(msgspec.Struct):
    acks: dict[str, bool]


class _Event(msgspec.Struct):
    event: msgspec.Raw


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_scan: Final = json.JSONDecoder().raw_decode
_spaces: Final = re.compile(r"[ \t\r\n]*")


class Splunk:
    """See `streamkit.delivery.destination.Destination`, and the module."""

    takes: Takes = "records"
    is_ordered = False
    failed_output_type = "splunk-failed"
    metric = "Splunk"

    def __init__(
        self,
        spec: DestinationSpec,
        surroundings: Surroundings,
        *,
        body_bytes_max: int = SPLUNK_BODY_BYTES_MAX,
        ack_timeout_ms: int | None = None,
    ) -> None:
        options = spec.options
        known_options(options, _OPTIONS, "splunk")
        url = url_of(options, "splunk")
        kind = text_option(options, "type", "Raw")
        if kind not in ("Raw", "Event"):
            raise UsageError(f"the option type must be Raw or Event, not {kind!r}")
        self._is_event = kind == "Event"
        token = text_option(options, "token")
        if not token:
            raise UsageError("splunk needs the option token")
        self._authorization = header_value(f"Splunk {token}", "token")
        base = re.sub(r"(/services/collector(/raw|/event)?)?/?$", "", url.path) + "/services/collector"
        query = f"?{url.query}" if url.query else ""
        self._data_target = f"{base}/{kind.lower()}{query}"
        self._ack_target = f"{base}/ack{query}"
        self._ack_timeout_ms = _ack_timeout(options) if ack_timeout_ms is None else ack_timeout_ms
        self._clock = surroundings.clock
        self._client = Client(url, clock=surroundings.clock, ca_file=options.get("ca_file"))
        self._memory = Memory()
        self._body_bytes_max = body_bytes_max

    async def schema(self) -> pa.Schema | None:
        return None

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        """One request after the other, each until it is acknowledged. Refuses what Splunk finds badly formatted."""
        parts, bad = await self._client.run(lambda: self._look(sealed))
        known = self._memory.of(sealed)
        for each in bad:
            known.refused[each.row] = each
            known.settled[each.row] = 1
        return await deliver_parts(sealed, parts, self._memory, lambda part: self._send(sealed, part))

    async def close(self) -> None:
        await self._client.close()

    def _look(self, sealed: Sealed) -> tuple[list[Part], list[Refused]]:
        parts = list(cut(sealed.path, _cost, bytes_max=self._body_bytes_max, records_max=_RECORDS_MAX))
        return parts, list(bad_events(sealed, parts)) if self._is_event else []

    async def _send(self, sealed: Sealed, part: Part) -> None:
        refused = self._memory.of(sealed).refused
        body = await self._client.run(lambda: list(_chunks(sealed, part, refused)))
        if not any(body):
            return  # Splunk takes no request without data
        channel = str(uuid.UUID(sealed.delivery_id))
        answer = await self._post(self._data_target, channel, body, {})
        await self._acknowledged(channel, _ack_id(answer), _sticky(answer))

    async def _acknowledged(self, channel: str, ack_id: int, cookies: Mapping[str, str]) -> None:
        """Returns when Splunk says that it has indexed the data. Until time is over, a failure to ask is no failure to
        deliver. Raises DeliveryFailed."""
        failure = _failure("Splunk.AckTimeout")
        is_over = asyncio.Event()
        timer = self._clock.call_later(self._ack_timeout_ms, is_over.set)
        wait_ms = SPLUNK_ACK_POLL_MS_MIN
        try:
            while not is_over.is_set():
                try:
                    if await self._is_acknowledged(channel, ack_id, cookies):
                        return
                    failure = _failure("Splunk.AckTimeout")
                except DeliveryFailed as error:
                    if error.is_final:
                        raise
                    failure = error
                await self._clock.sleep(min(wait_ms, self._ack_timeout_ms))
                wait_ms = min(2 * wait_ms, SPLUNK_ACK_POLL_MS_MAX)
        finally:
            timer.cancel()
        raise failure

    async def _is_acknowledged(self, channel: str, ack_id: int, cookies: Mapping[str, str]) -> bool:
        answer = await self._post(self._ack_target, channel, [msgspec.json.encode({"acks": [ack_id]})], cookies)
        try:
            return msgspec.json.decode(answer.body, type=_Acks).acks.get(str(ack_id), False)
        except (ValueError, RecursionError) as error:
            raise _failure("Splunk.ProxyWithoutStickySessions", f"{answer.excerpt!r} is no answer: {error}") from error

    async def _post(self, target: str, channel: str, body: Sequence[bytes], more: Mapping[str, str]) -> Answer:
        headers = {
            "Authorization": self._authorization,
            "X-Splunk-Request-Channel": channel,
            "Content-Type": "application/json" if self._is_event or target == self._ack_target else "text/plain",
            **more,
        }
        try:
            answer = await self._client.post(
                target,
                headers,
                lambda: Body(body, sum(map(len, body))),
                answer_bytes_max=SPLUNK_ANSWER_BYTES_MAX,
                timeout_ms=SPLUNK_REQUEST_TIMEOUT_MS,
            )
        except Unanswered as error:
            raise _failure(_UNANSWERED.get(error.kind, "Splunk.ServerError"), error.message) from error
        if answer.status != 200:
            raise _refusal(answer)
        return answer


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> Splunk:
    """The entry point. Raises UsageError for options that cannot be right."""
    return Splunk(spec, surroundings)


# -- records ----------------------------------------------------------------------------------------------------------


def _cost(batch: pa.RecordBatch) -> pa.Int64Array:
    return pc.binary_length(batch.column(0)).cast(pa.int64())


def _chunks(sealed: Sealed, part: Part, refused: Mapping[int, Refused]) -> Iterator[bytes]:
    row = part.first
    for batch in slices(sealed.path, part):
        rows = range(row, row + batch.num_rows)
        left_out = refused.keys() & rows
        if left_out:
            batch = batch.filter(pa.array([each not in left_out for each in rows]))
        yield b"".join(batch.column(0).to_pylist())
        row = rows.stop


def bad_events(sealed: Sealed, parts: Sequence[Part]) -> Iterator[Refused]:
    """Records that are not event objects, one or more, each with an event."""
    for part in parts:
        row = part.first
        for batch in slices(sealed.path, part):
            for data in batch.column(0).to_pylist():
                if not _is_event(data) and not _are_events(data):
                    yield Refused(row, "Splunk.InvalidDataFormat", _TEXTS["Splunk.InvalidDataFormat"])
                row += 1


def _is_event(data: bytes) -> bool:
    """Whether it is one event object, as nearly all are."""
    try:
        return bytes(_decode_event(data).event) not in (b"null", b'""')
    except (ValueError, RecursionError):
        return False


def _are_events(data: bytes) -> bool:
    try:
        text = data.decode()
        place = _end_of_spaces(text, 0)
        while place < len(text):
            event, place = _scan(text, place)
            if not isinstance(event, dict) or event.get("event") in (None, ""):
                return False
            place = _end_of_spaces(text, place)
    except (ValueError, RecursionError):
        return False
    return True  # also of white space: it takes nothing from the others


def _end_of_spaces(text: str, place: int) -> int:
    found = _spaces.match(text, place)
    assert found is not None
    return found.end()


# -- answers ----------------------------------------------------------------------------------------------------------


def _failure(code: str, detail: str = "") -> DeliveryFailed:
    return DeliveryFailed(code, f"{_TEXTS[code]} {detail}".rstrip(), is_final=code in _FINAL)


def _reply(answer: Answer) -> _Reply:
    try:
        return msgspec.json.decode(answer.body, type=_Reply)
    except (ValueError, RecursionError):
        return _Reply()


def _refusal(answer: Answer) -> DeliveryFailed:
    code = _CODES.get(_reply(answer).code or 0, "Splunk.ServerError")
    return _failure(code, f"{answer.status}: {answer.excerpt}")


def _ack_id(answer: Answer) -> int:
    """Splunk gives one where acknowledgement is on for the token."""
    reply = _reply(answer)
    if reply.ack_id is None:
        if reply.code == 0:
            raise _failure("Splunk.DisabledAck")
        raise _failure("Splunk.ServerError", f"{answer.status}: {answer.excerpt}")
    return reply.ack_id


def _sticky(answer: Answer) -> dict[str, str]:
    """What keeps a load balancer at the node that knows the acknowledgement."""
    cookies = "; ".join(cookie for cookie in answer.cookies if cookie)
    return {"Cookie": cookies} if cookies else {}


def _ack_timeout(options: Mapping[str, Any]) -> int:
    timeout_ms = options.get("ack_timeout_ms", SPLUNK_ACK_TIMEOUT_MS_MIN)
    bounds = f"{SPLUNK_ACK_TIMEOUT_MS_MIN} to {SPLUNK_ACK_TIMEOUT_MS_MAX}"
    if not isinstance(timeout_ms, int) or not SPLUNK_ACK_TIMEOUT_MS_MIN <= timeout_ms <= SPLUNK_ACK_TIMEOUT_MS_MAX:
        raise UsageError(f"the option ack_timeout_ms must be {bounds}, not {timeout_ms!r}")
    return timeout_ms
