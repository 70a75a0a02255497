"""A Lambda transform: events by columns, replies checked, failures by AWS's codes.

What a function gets and gives is in the Firehose developer guide ("Transform source data", "Required parameters for
data transformation", "Understand partitioning keys") and in Lambda's ("Process Amazon Data Firehose records"). Record
ids are the sequence number and six digits for the record's number in its aggregate, as AWS's are, and stay the same
over retries, unlike the invocation's id. Codes and texts of failures are those of the guide's table of invocation
errors ("Monitor Amazon Data Firehose using CloudWatch Logs"), and, where that leaves it open which one an odd reply
gets, as third parties captured them:

- not called, or X-Amz-Function-Error: again, up to the plan's retries; then all records of the batch fail. Where the
  function ran into its own timeout, that is told as Lambda.FunctionTimedOut (seen in error buckets).
- a reply without usable records: not again; no record came back, so each fails with `Lambda.MissingRecordId`.
- an unknown result, or data that is no base64: not again; all records of the batch fail with `Lambda.FunctionError`.
- an id that was not sent is ignored; one that comes twice fails its record, as does `Ok` without data.

How long AWS waits between tries is not known.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pybase64

from streamkit.clock import Clock
from streamkit.delivery import plan as plans
from streamkit.delivery.processor import Offload, Processed
from streamkit.delivery.processors import Invoke, Invoked
from streamkit.delivery.processors.columns import binary
from streamkit.delivery.processors.jq_values import NULL_OR_EMPTY, Bad, key_text
from streamkit.delivery.processors.metadata import with_keys
from streamkit.delivery.rows import Failed, Rows
from streamkit.model import sequence
from streamkit.model.errors import (
    AccessDenied,
    RequestTooLarge,
    ResourceNotFound,
    ServerError,
    StreamkitError,
    TooManyRequests,
)
from streamkit.model.limits import (
    INVOCATION_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    TRANSFORM_BATCHES_MAX,
    TRANSFORM_RETRY_MS_MAX,
    TRANSFORM_RETRY_MS_MIN,
    TRANSFORM_TIMEOUT_MS,
)
from streamkit.model.names import shard_id

OUTPUT_TYPE: Final = "processing-failed"
FROM_LAMBDA: Final = "partitionKeyFromLambda:"

Error = tuple[str, str]

FUNCTION_ERROR: Final = (
    "Lambda.FunctionError",
    "The Lambda function was successfully invoked but it returned an error result.",
)
BAD_OUTPUT: Final = (
    "Lambda.FunctionError",
    "Check your function and make sure the output is in required format. In addition to that, make sure the processed"
    " records contain valid result status of Dropped, Ok, or ProcessingFailed",
)
NOT_JSON: Final = (
    "Lambda.JsonProcessingException",
    "There was an error parsing returned records from the Lambda function. Ensure that the returned records follow the"
    " status model required by Firehose.",
)
MISSING_ID: Final = (
    "Lambda.MissingRecordId",
    "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids.",
)
DUPLICATED_ID: Final = (
    "Lambda.DuplicatedRecordId",
    "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record Id"
    " for each record.",
)
NO_DATA: Final = (
    "Lambda.InvalidReturnFormat",
    "The data field cannot be null when the SourceType is DirectPut or KinesisStreamAsSource and processing result is"
    " Ok. The value field cannot be null when the SourceType is MSKAsSource and processing result is Ok.",
)
PROCESSING_FAILED: Final = ("Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record")
TIMED_OUT: Final = (
    "Lambda.FunctionTimedOut",
    "The Lambda function invocation timed out. Increase the Timeout setting in the Lambda function.",
)
_RAN_OUT_OF_TIME: Final = re.compile(rb'Task timed out after [0-9.]+ seconds"')  # and no stack: the platform says so
_NOT_CALLED: Final[Mapping[type[StreamkitError], Error]] = {
    AccessDenied: (
        "Lambda.InvokeAccessDenied",
        "Access was denied. Ensure that the access policy allows access to the Lambda function.",
    ),
    ResourceNotFound: (
        "Lambda.ResourceNotFound",
        "The Lambda function does not exist. Use a different function that does exist.",
    ),
    TooManyRequests: (
        "Lambda.InvokeLimitExceeded",
        "The Lambda function invocation limit is exceeded. Increase the concurrent execution limit.",
    ),
    ServerError: (
        "Lambda.InternalServerError",
        "Amazon Data Firehose encountered InternalServerError when calling the Lambda service.",
    ),
}

_LAMBDA_KEY: Final = re.compile(r"!\{partitionKeyFromLambda:([^}]*)\}")


# -- events -----------------------------------------------------------------------------------------------------------

_ENVELOPE_BYTES: Final = 384  # of a record in an event at most, beside its data and partition key
_HEAD_BYTES: Final = 1_024  # of an event, beside its records
_ESCAPED_BYTES: Final = 6  # of a character that JSON has to escape
_NEEDS_ESCAPE: Final = re.compile(r'[\x00-\x1f"\\]')


class EventBuilder:
    """Events of one delivery stream. Records from a Kinesis stream tell where they are from, others do not."""

    def __init__(self, *, delivery_arn: str, source_arn: str | None, region: str) -> None:
        head: dict[str, str] = {"deliveryStreamArn": delivery_arn}
        if source_arn is not None:
            head["sourceKinesisStreamArn"] = source_arn
        head["region"] = region
        self._head = orjson.dumps(head)[1:-1]
        self._is_kinesis = source_arn is not None

    def pieces(self, invocation_id: str, records: bytes) -> list[bytes]:
        """An event in pieces, to be sent one after the other."""
        return [b'{"invocationId":"%b",%b,"records":[' % (invocation_id.encode(), self._head), records, b"]}"]

    def records(self, rows: Rows) -> tuple[list[str], bytes]:
        """The records' ids, and their part of an event."""
        shards, arrivals, subs = rows.shard.to_pylist(), rows.arrived_ms.to_pylist(), rows.sub.to_pylist()
        numbers = _numbers(rows, shards, arrivals)
        if any(subs):
            ids = [f"{number}{sub:06}" for number, sub in zip(numbers, subs, strict=True)]
        else:
            ids = [number + "000000" for number in numbers]
        data = map(pybase64.b64encode_as_string, rows.data.to_pylist())
        if not self._is_kinesis:
            texts = [
                f'{{"recordId":"{id}","approximateArrivalTimestamp":{arrived},"data":"{value}"}}'
                for id, arrived, value in zip(ids, arrivals, data, strict=True)
            ]
        else:
            texts = [
                f'{{"recordId":"{id}","approximateArrivalTimestamp":{arrived},"data":"{value}","kinesisRecordMetadata"'
                f':{{"sequenceNumber":"{number}","subsequenceNumber":{sub},"partitionKey":{key},"shardId":"{shard}",'
                f'"approximateArrivalTimestamp":{arrived}}}}}'
                for id, arrived, value, number, sub, key, shard in zip(
                    ids, arrivals, data, numbers, subs, _keys(rows), map(shard_id, shards), strict=True
                )
            ]
        return ids, ",".join(texts).encode()

    def batches(self, rows: Rows, size_bytes: int) -> list[tuple[int, int]]:
        """Where to cut the rows, so that each part has no more than `size_bytes` of data and its event fits into an
        invocation; a record that is larger than that is alone."""
        sizes = pc.binary_length(rows.data).to_pylist()
        keys = [0] * len(rows) if rows.partition_key is None else pc.binary_length(rows.partition_key).to_pylist()
        cuts: list[tuple[int, int]] = []
        start = data_bytes = 0
        event_bytes = _HEAD_BYTES
        for place, (size, key) in enumerate(zip(sizes, keys, strict=True)):
            in_event = (size + 2) // 3 * 4 + _ENVELOPE_BYTES + _ESCAPED_BYTES * key
            if place > start and (data_bytes + size > size_bytes or event_bytes + in_event > INVOCATION_BYTES_MAX):
                cuts.append((start, place))
                start, data_bytes, event_bytes = place, 0, _HEAD_BYTES
            data_bytes += size
            event_bytes += in_event
        return [*cuts, (start, len(sizes))]


def _numbers(rows: Rows, shards: Sequence[int], arrivals: Sequence[int]) -> list[str]:
    """Sequence numbers: `sequence.number_of`, of which only the last two terms differ within a shard."""
    firsts = {shard: sequence.number_of(rows.created_s[shard], shard, 0, 0) for shard in set(shards)}
    step, second = sequence.OFFSET_STEP, sequence.number_of(0, 0, 0, 1_000) - sequence.number_of(0, 0, 0, 0)
    return [
        str(firsts[shard] + offset * step + arrived // 1000 * second)
        for shard, offset, arrived in zip(shards, rows.offset.to_pylist(), arrivals, strict=True)
    ]


def _keys(rows: Rows) -> list[str]:
    """Partition keys as JSON strings, quotes included."""
    if rows.partition_key is None:
        return ['""'] * len(rows)
    keys = rows.partition_key.cast(pa.string(), safe=False).to_pylist()
    if _NEEDS_ESCAPE.search("".join(keys)) is None:
        return [f'"{key}"' for key in keys]
    return [orjson.dumps(key).decode() for key in keys]


# -- replies ----------------------------------------------------------------------------------------------------------


class _Metadata(msgspec.Struct, gc=False):
    partitionKeys: Any = None


class _Record(msgspec.Struct, gc=False):
    recordId: str
    result: str
    data: bytes | None = None  # base64
    metadata: _Metadata | None = None


class _Reply(msgspec.Struct):
    records: list[_Record]


_reply: Final = msgspec.json.Decoder(_Reply).decode
_OK: Final = "Ok"
_RESULTS: Final = frozenset([_OK, "Dropped", "ProcessingFailed"])


class ReplyError(Exception):
    """A reply that fails all records of its batch."""

    def __init__(self, error: Error) -> None:
        super().__init__(error[1])
        self.error = error


@dataclass(slots=True)
class Outcome:
    """What a reply says, by the places of records in their batch."""

    ok: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)  # of those that are ok
    keys: list[Any] = field(default_factory=list)  # their partition keys, as the function gave them
    failed: list[int] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)

    def fail(self, place: int, error: Error) -> None:
        self.failed.append(place)
        self.errors.append(error)


def read_reply(payload: bytes, ids: Sequence[str]) -> Outcome:
    """Raises ReplyError."""
    try:
        records = _reply(payload).records
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        records = _odd_records(payload)
    if not {record.result for record in records} <= _RESULTS:
        raise ReplyError(BAD_OUTPUT)
    outcome = Outcome()
    returned = [record.recordId for record in records]
    if returned != ids:
        return _out_of_order(records, ids)
    for place, record in enumerate(records):
        _take(outcome, place, record)
    return outcome


def _out_of_order(records: Sequence[_Record], ids: Sequence[str]) -> Outcome:
    by_id: dict[str, _Record | None] = {}
    for record in records:
        by_id[record.recordId] = None if record.recordId in by_id else record
    outcome = Outcome()
    for place, id in enumerate(ids):
        if id not in by_id:
            outcome.fail(place, MISSING_ID)
        elif (found := by_id[id]) is None:
            outcome.fail(place, DUPLICATED_ID)
        else:
            _take(outcome, place, found)
    return outcome


def _take(outcome: Outcome, place: int, record: _Record) -> None:
    if record.result == _OK:
        if record.data is None:
            outcome.fail(place, NO_DATA)
        else:
            outcome.ok.append(place)
            outcome.data.append(record.data)
            outcome.keys.append(None if record.metadata is None else record.metadata.partitionKeys)
    elif record.result == "ProcessingFailed":
        outcome.fail(place, PROCESSING_FAILED)


def _odd_records(payload: bytes) -> list[_Record]:
    """Of a reply that is not what it should be: what can be used of it."""
    try:
        whole = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ReplyError(NOT_JSON) from None
    entries = whole.get("records") if isinstance(whole, dict) else None
    found: list[_Record] = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("recordId"), str):
            metadata = entry.get("metadata")
            entry["metadata"] = metadata if isinstance(metadata, dict) else None
            try:
                found.append(msgspec.convert(entry, _Record))
            except msgspec.ValidationError:
                raise ReplyError(BAD_OUTPUT) from None
    return found


# -- the step ---------------------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    outcome: Outcome | Error  # an error is one of all records
    attempts: int


class Transform:
    """A `processor.Step`. Rows that the function dropped are in neither result; the others stay in order. A chunk that
    is larger than the plan's buffer goes in several invocations, some of them at the same time."""

    def __init__(
        self,
        transform: plans.Transform,
        plan: plans.DeliveryPlan,
        *,
        invoke: Invoke,
        clock: Clock,
        random: Random,
        region: str,
        offload: Offload,
    ) -> None:
        self._plan = transform
        self._invoke = invoke
        self._clock = clock
        self._random = random
        self._offload = offload
        self._events = EventBuilder(delivery_arn=plan.arn, source_arn=plan.source_arn, region=region)
        self._key_names = list(dict.fromkeys(_LAMBDA_KEY.findall(plan.naming.prefix))) if plan.is_partitioned else []

    async def process(self, rows: Rows) -> Processed:
        if not len(rows):
            return Processed(rows)
        places = asyncio.Semaphore(TRANSFORM_BATCHES_MAX)
        batches = [rows.slice(*cut) for cut in self._events.batches(rows, self._plan.size_bytes)]

        async def transform(batch: Rows) -> Processed:
            async with places:
                return await self._transform(batch)

        tasks = [asyncio.ensure_future(transform(batch)) for batch in batches]
        try:
            done = [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
        kept = [each.rows for each in done if len(each.rows)]  # a batch of which nothing is left has no keys
        failed = [failed for each in done for failed in each.failed]
        return Processed(_joined(kept) if kept else done[0].rows, failed)

    async def _transform(self, rows: Rows) -> Processed:
        ids, records = await self._offload(lambda: self._events.records(rows))
        answer = await self._ask(ids, records)
        return await self._offload(lambda: self._result(rows, answer))

    def _result(self, rows: Rows, answer: _Answer) -> Processed:
        outcome = answer.outcome
        members = {"lambdaARN": self._plan.function_arn}
        if not isinstance(outcome, Outcome):
            errors = [outcome] * len(rows)
            return Processed(rows.slice(0, 0), [Failed(rows, OUTPUT_TYPE, errors, answer.attempts, members)])
        failed: list[Failed] = []
        if outcome.failed:
            taken = rows.take(pa.array(outcome.failed, pa.int64()))
            failed.append(Failed(taken, OUTPUT_TYPE, outcome.errors, answer.attempts, members))
        kept = rows if len(outcome.ok) == len(rows) else rows.take(pa.array(outcome.ok, pa.int64()))
        kept = kept.with_data(binary(outcome.data))
        if not self._key_names:
            return Processed(kept, failed)
        columns: dict[str, list[str | Bad | None]]
        columns = {FROM_LAMBDA + name: [_key(keys, name) for keys in outcome.keys] for name in self._key_names}
        kept, without_keys = with_keys(kept, columns)
        return Processed(kept, [*failed, *without_keys])

    async def _ask(self, ids: Sequence[str], records: bytes) -> _Answer:
        """Tries until there is a reply, or no more tries."""
        delay_ms = TRANSFORM_RETRY_MS_MIN
        attempt = 1
        while True:
            error, may_retry = FUNCTION_ERROR, True
            try:
                invoked = await self._invoke_in_time(records)
                if invoked.function_error is None and len(invoked.payload) <= RESPONSE_BYTES_MAX:
                    return _Answer(await self._offload(lambda: read_reply(invoked.payload, ids)), attempt)  # noqa: B023
                if invoked.function_error is not None and _has_timed_out(invoked.payload):
                    error = TIMED_OUT
            except ReplyError as reply:
                error, may_retry = reply.error, False
            except TimeoutError:
                error = TIMED_OUT
            except StreamkitError as refused:
                error, may_retry = _not_called(refused), not isinstance(refused, RequestTooLarge)
            if not may_retry or attempt > self._plan.retries:
                return _Answer(error, attempt)
            await self._clock.sleep(delay_ms)
            delay_ms = min(2 * delay_ms, TRANSFORM_RETRY_MS_MAX)
            attempt += 1

    async def _invoke_in_time(self, records: bytes) -> Invoked:
        """Each try has an id of its own. Raises TimeoutError where AWS stops waiting."""
        invocation_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        event = self._events.pieces(invocation_id, records)
        call = asyncio.ensure_future(self._invoke(self._plan.function_arn, event))
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            call.cancel()

        timer = self._clock.call_later(TRANSFORM_TIMEOUT_MS, give_up)
        try:
            return await call
        except asyncio.CancelledError:
            if is_late:
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
            call.cancel()


def _has_timed_out(payload: bytes) -> bool:
    return _RAN_OUT_OF_TIME.search(payload) is not None and b'"stackTrace"' not in payload


def _not_called(refused: StreamkitError) -> Error:
    for kind, error in _NOT_CALLED.items():
        if isinstance(refused, kind):
            return error
    return f"Lambda.{refused.code}", refused.message


def _key(keys: Any, name: str) -> str | Bad:
    value = keys.get(name) if isinstance(keys, dict) else None
    return Bad(NULL_OR_EMPTY) if value is None else key_text(value)


def _joined(parts: Sequence[Rows]) -> Rows:
    first = parts[0]
    if len(parts) == 1:
        return first
    return Rows(
        pa.concat_arrays([part.data for part in parts]),
        pa.concat_arrays([part.arrived_ms for part in parts]),
        pa.concat_arrays([part.shard for part in parts]),
        pa.concat_arrays([part.offset for part in parts]),
        pa.concat_arrays([part.sub for part in parts]),
        first.created_s,
        _concat([part.partition_key for part in parts]),
        {name: pa.concat_arrays([part.keys[name] for part in parts]) for name in first.keys},
        _concat([part.raw for part in parts]),
    )


def _concat(columns: Sequence[pa.Array | None]) -> pa.Array | None:
    return None if columns[0] is None else pa.concat_arrays(columns)
