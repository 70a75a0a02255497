"""Delivery streams of a server, or of a node of this process, by the names and members of Firehose's API.

`ensure` is what the command line, pipeline files and programs do with a `Delivery`: made where it is not there, changed
where it is another, else left alone.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

import orjson

from streamkit.kit.delivery import Delivery, changes_of, faults_of
from streamkit.kit.http_client import HttpClient
from streamkit.kit.lambda_client import FIREHOSE, LambdaClient, Transport, decoded, headers_of
from streamkit.model.errors import ResourceInUse, ResourceNotFound, ServiceUnavailable, UsageError
from streamkit.model.limits import FIREHOSE_BATCH_BYTES_MAX, FIREHOSE_BATCH_RECORDS_MAX, FIREHOSE_RECORD_BYTES_MAX
from streamkit.model.names import Scope, StreamArn

Values = Mapping[str, Any]
Outcome = Literal["made", "changed", "left alone"]

FLUSH_PATH: Final = "/_streamkit/deliveries/flush"
FLUSH_TIMEOUT_S: Final = 3_600.0  # a server delivers what it has, and a transform may take its five minutes each time
_SECRETS_TAG: Final = "streamkit-secrets"
_POLL_S: Final = 0.02  # while a delivery stream is being made or deleted
_PUT_RETRY_S: Final = 0.05  # doubles each time
_PUT_TRIES_MAX: Final = 10
_PAGE: Final = 1_000
_SAMPLE: Final = re.compile(r"(streamkit_delivery_\w+)\{(.*)\} (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Ensured(NamedTuple):
    """`changes`: what of it was changed, in words."""

    outcome: Outcome
    changes: tuple[str, ...] = ()
    note: str = ""


class Figures(NamedTuple):
    """What a server counted of a delivery stream since it was started. `freshness_s` is the age of the oldest record
    that is not delivered, `pending_bytes` what is sealed and not delivered."""

    delivered_records: int = 0
    failed_records: int = 0
    incoming_records: int = 0
    delivered_bytes: int = 0
    pending_bytes: int = 0
    freshness_s: float = 0.0


_FIGURES: Final = {
    "streamkit_delivery_records_total": "delivered_records",
    "streamkit_delivery_failed_records_total": "failed_records",
    "streamkit_delivery_incoming_records_total": "incoming_records",
    "streamkit_delivery_bytes_total": "delivered_bytes",
    "streamkit_delivery_staged_bytes": "pending_bytes",
    "streamkit_delivery_freshness_seconds": "freshness_s",
}


class DeliveryClient:
    """Calls of one account and region. Each raises a StreamkitError; those of the server arrive as the same classes."""

    def __init__(self, transport: str | Transport, scope: Scope) -> None:
        """`transport` may be an endpoint's URL."""
        self._transport = HttpClient(transport, timeout_s=FLUSH_TIMEOUT_S) if isinstance(transport, str) else transport
        self._scope = scope

    async def __aenter__(self) -> DeliveryClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    async def call(self, operation: str, values: Values) -> dict[str, Any]:
        """An operation of Firehose's API. Blobs are base64 and times seconds, as they are on the wire."""
        headers = {
            **headers_of(self._scope, "firehose"),
            "X-Amz-Target": f"{FIREHOSE}.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        return decoded(await self._transport.request("POST", "/", headers, [orjson.dumps(values)]))

    # -- looking -----------------------------------------------------------------------------------------------------

    def functions(self) -> LambdaClient:
        """Those of the same server, over the same connections."""
        return LambdaClient(self._transport, self._scope)

    async def names(self) -> list[str]:
        """In order."""
        found: list[str] = []
        while True:
            after = {"ExclusiveStartDeliveryStreamName": found[-1]} if found else {}
            page = await self.call("ListDeliveryStreams", {"Limit": _PAGE, **after})
            found += page["DeliveryStreamNames"]
            if not page["HasMoreDeliveryStreams"]:
                return found

    async def describe(self, name: str) -> dict[str, Any]:
        """AWS's DeliveryStreamDescription. Raises ResourceNotFound."""
        try:
            answer = await self.call("DescribeDeliveryStream", {"DeliveryStreamName": name})
        except ResourceNotFound:
            raise ResourceNotFound(
                f"there is no delivery stream {name}; `streamkit deliveries` lists those that are there"
            ) from None
        found: dict[str, Any] = answer["DeliveryStreamDescription"]
        return found

    async def all(self) -> list[dict[str, Any]]:
        """Descriptions by name; what is deleted meanwhile is left out."""
        found = []
        for name in await self.names():
            try:
                found.append(await self.describe(name))
            except ResourceNotFound:
                continue
        return found

    async def settled(self, name: str) -> dict[str, Any] | None:
        """The delivery stream when no change of it is under way; None if it is not there then."""
        while True:
            try:
                found = await self.describe(name)
            except ResourceNotFound:
                return None
            if found["DeliveryStreamStatus"] not in ("CREATING", "DELETING"):
                return found
            await asyncio.sleep(_POLL_S)

    async def figures(self) -> dict[str, Figures]:
        """By name, of a server. Names are counted together whose account and region differ."""
        answer = await self._transport.request("GET", "/metrics", {})
        return figures_of(answer.body.decode())

    # -- making and changing -----------------------------------------------------------------------------------------

    def require_same_source(self, delivery: Delivery, found: Mapping[str, Any]) -> None:
        """Raises UsageError where it reads something else: AWS's API cannot change that."""
        known = source_of(found)
        wanted = None if delivery.stream is None else str(StreamArn(self._scope, delivery.stream))
        if known != wanted:
            of = "takes direct puts" if known is None else f"reads stream {known.partition('/')[2]}"
            raise UsageError(
                f"delivery {delivery.name} {of}, and its source cannot be changed to {delivery.source}; give this one "
                f"another name, or delete that one: `streamkit deliveries --delete {delivery.name}`"
            )

    async def require_same_place(self, delivery: Delivery) -> None:
        """For a name that nobody chose. Raises UsageError where another delivery has it, so that none is turned away
        from where it goes to by chance."""
        found = await self.settled(delivery.name)
        if found is None:
            return
        known = found["Destinations"][0].get("StreamkitDestinationDescription", {}).get("Url", "somewhere else")
        if known != delivery.to:
            raise UsageError(
                f"there is a delivery {delivery.name} already, to {known}; give this one another name, or name it "
                f"{delivery.name} to change that one"
            )

    async def deliver(self, delivery: Delivery, *, is_named: bool) -> Ensured:
        """As `ensure`, of a delivery that nobody has looked at. Raises UsageError with everything that is wrong with
        it; not `is_named`: also where another one has its name."""
        faults = faults_of(delivery, self._scope)
        if faults:
            texts = [f"{'.'.join(place) or delivery.name} {text}" for place, text in faults]
            raise UsageError("; ".join(texts))
        if not is_named:
            await self.require_same_place(delivery)
        return await self.ensure(delivery)

    async def ensure(self, delivery: Delivery) -> Ensured:
        """Brings a delivery stream to what it shall be; returns when that is in effect. Where it begins to read counts
        only when it is made. What is not there is made anew, what is delivered already is not looked at."""
        while True:
            found = await self.settled(delivery.name)
            if found is not None:
                return await self._change(delivery, found)
            try:
                await self._make(delivery)
            except ResourceInUse:  # somebody was faster
                continue
            return Ensured("made", note=f"{delivery.source} to {delivery.to}")

    async def _make(self, delivery: Delivery) -> None:
        request = delivery.request(self._scope)
        if digest := delivery.secrets_digest(self._scope):
            request["Tags"] = [{"Key": _SECRETS_TAG, "Value": digest}]
        await self.call("CreateDeliveryStream", request)
        await self.settled(delivery.name)

    async def _change(self, delivery: Delivery, found: Mapping[str, Any]) -> Ensured:
        self.require_same_source(delivery, found)
        destination = found["Destinations"][0]
        known = destination.get("StreamkitDestinationDescription", {})
        wanted = delivery.description(self._scope)
        known_start, known = known.get("From", "TRIM_HORIZON"), {k: v for k, v in known.items() if k != "From"}
        changes = [] if known == wanted else changes_of(known, wanted)
        digest = delivery.secrets_digest(self._scope)
        by_name = {"DeliveryStreamName": delivery.name}
        if digest != await self._secrets_digest(delivery.name):
            changes.append("secret options")
        if changes:
            await self.call(
                "UpdateDestination",
                {
                    **by_name,
                    "CurrentDeliveryStreamVersionId": found["VersionId"],
                    "DestinationId": destination["DestinationId"],
                    "StreamkitDestinationUpdate": {**delivery.configuration(self._scope), "Replace": True},
                },
            )
            if digest:
                tags = [{"Key": _SECRETS_TAG, "Value": digest}]
                await self.call("TagDeliveryStream", {**by_name, "Tags": tags})
            else:
                await self.call("UntagDeliveryStream", {**by_name, "TagKeys": [_SECRETS_TAG]})
        is_elsewhere = delivery.stream is not None and known and known_start != delivery.start
        note = "start counts only when a delivery is made" if is_elsewhere else ""
        return Ensured("changed" if changes else "left alone", tuple(changes), note)

    async def _secrets_digest(self, name: str) -> str:
        """Of the options that a server does not show, as they were given last."""
        tags = await self.call("ListTagsForDeliveryStream", {"DeliveryStreamName": name})
        return next((each.get("Value", "") for each in tags["Tags"] if each["Key"] == _SECRETS_TAG), "")

    async def delete(self, name: str) -> None:
        """With what it holds and did not deliver; returns when its name is free. Raises ResourceNotFound."""
        await self.describe(name)
        await self.call("DeleteDeliveryStream", {"DeliveryStreamName": name})
        await self.settled(name)

    # -- records -----------------------------------------------------------------------------------------------------

    async def put_batch(self, name: str, records: Iterable[bytes]) -> int:
        """Puts records to a delivery stream that takes direct puts; returns their number when all are on disk, in as
        many requests as it takes. What a server has no room for yet is put again, after others. Raises UsageError for
        a record that is too large, ServiceUnavailable where there is no room for long; then those before are put."""
        count, size = 0, 0
        batch: list[bytes] = []
        for record in records:
            if len(record) > FIREHOSE_RECORD_BYTES_MAX:
                raise UsageError(
                    f"record {count + len(batch) + 1} has {len(record):,} bytes; at most {FIREHOSE_RECORD_BYTES_MAX:,} "
                    "are accepted"
                )
            if len(batch) == FIREHOSE_BATCH_RECORDS_MAX or size + len(record) > FIREHOSE_BATCH_BYTES_MAX:
                count += await self._put(name, batch)
                batch, size = [], 0
            batch.append(record)
            size += len(record)
        return count + (await self._put(name, batch) if batch else 0)

    async def _put(self, name: str, batch: Sequence[bytes]) -> int:
        left = list(batch)
        for attempt in range(_PUT_TRIES_MAX):
            if attempt:
                await asyncio.sleep(_PUT_RETRY_S * 2**attempt)
            records = [{"Data": b64encode(record).decode()} for record in left]
            answer = await self.call("PutRecordBatch", {"DeliveryStreamName": name, "Records": records})
            entries = answer["RequestResponses"]
            left = [record for record, entry in zip(left, entries, strict=True) if "ErrorCode" in entry]
            if not left:
                return len(batch)
        raise ServiceUnavailable(
            f"delivery {name} has no room for {len(left)} of {len(batch)} records; try again later"
        )

    async def flush(self, name: str | None = None) -> None:
        """Returns when everything that was put before is delivered: of one delivery stream, or of all of a server.
        Raises ResourceNotFound."""
        path = FLUSH_PATH
        if name is not None:
            await self.describe(name)
            path += f"/{quote(name, safe='')}"
        decoded(await self._transport.request("POST", path, headers_of(self._scope, "firehose")))


def source_of(found: Mapping[str, Any]) -> str | None:
    """The ARN of the stream that a described delivery stream reads; None: it takes direct puts."""
    source = found.get("Source", {}).get("KinesisStreamSourceDescription")
    return None if source is None else str(source["KinesisStreamARN"])


def figures_of(text: str) -> dict[str, Figures]:
    """From the text of /metrics. Counts are added up over destinations and error types, ages are the greatest."""
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        field = _FIGURES.get(name)
        of = dict(_LABEL.findall(labels)).get("delivery_stream")
        if field is None or of is None:
            continue
        figures = found.setdefault(of, {})
        known = figures.get(field, 0.0)
        figures[field] = max(known, float(value)) if field == "freshness_s" else known + float(value)
    return {
        name: Figures(
            freshness_s=figures.pop("freshness_s", 0.0), **{field: int(count) for field, count in figures.items()}
        )
        for name, figures in found.items()
    }
