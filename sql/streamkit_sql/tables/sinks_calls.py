"""Rows for delivery streams and functions: both at least once.

A delivery stream is Flink's `firehose` connector ("Amazon Kinesis Data Firehose SQL Connector": `delivery-stream`), a
record a row. `lambda` is ours: rows go to a function in batches, in the event and with the answer that Kinesis Data
Analytics has for it ("Using a Lambda function as output"): records that are not answered with `Ok` are given again,
with a higher `retryHint`, until they are. A record's id is the same however often it is given, also after a crash.

Neither can be asked what it has, so after a crash the records of the last commit may come twice.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from streamkit.model.errors import ServiceUnavailable, ThroughputExceeded
from streamkit.model.limits import FIREHOSE_BATCH_RECORDS_MAX
from streamkit_sql.limits import FUNCTION_BATCH_BYTES_MAX, FUNCTION_BATCH_RECORDS_MAX, SINK_RETRY_S, SINK_RETRY_S_MAX
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.tables.encode import encoder_of

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkit.kit.backend import Backend
    from streamkit_sql.tables.sinks import Payload

_log = logging.getLogger(__name__)


class _CallSink:
    """One record a row, without a key."""

    def __init__(self, table: TableDefinition, backend: Backend) -> None:
        self._table = table
        self._backend = backend
        self._encoder = encoder_of(table)

    def payloads(self, rows: pa.Table) -> list[Payload]:
        from streamkit_sql.tables.sinks import Payload

        return [Payload("", each) for each in self._encoder.encode(rows).to_pylist()]

    async def target(self) -> Any:
        return None


class DeliverySink(_CallSink):
    """Direct puts. Where there is no room they wait for it."""

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None:
        name = self._table.options["delivery-stream"]
        client = self._backend.deliveries()
        for start in range(0, len(payloads), FIREHOSE_BATCH_RECORDS_MAX):
            records = [each.data for each in payloads[start : start + FIREHOSE_BATCH_RECORDS_MAX]]
            delay_s = SINK_RETRY_S
            while True:
                try:
                    await client.put_batch(name, records)
                    break
                except (ServiceUnavailable, ThroughputExceeded) as error:
                    _log.warning("delivery stream %s takes no records now: %s", name, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, SINK_RETRY_S_MAX)


class FunctionSink(_CallSink):
    """Invocations one after the other, in the order of the rows; a batch whose records fail holds those behind it."""

    async def write(self, checkpoint: int, payloads: Sequence[Payload], target: Any, *, again: bool) -> None:
        records = [(f"{checkpoint:012d}{index:08d}", each.data) for index, each in enumerate(payloads)]
        for number, batch in enumerate(_batches(records)):
            await self._deliver(f"{self._table.name}-{checkpoint}-{number}", batch)

    async def _deliver(self, invocation: str, batch: Sequence[tuple[str, bytes]]) -> None:
        delay_s, hint, left = SINK_RETRY_S, 0, list(batch)
        while True:
            taken = await self._invoke(invocation, left, hint)
            left = [each for each in left if each[0] not in taken]
            if not left:
                return
            await asyncio.sleep(delay_s)
            delay_s, hint = min(delay_s * 2, SINK_RETRY_S_MAX), hint + 1

    async def _invoke(self, invocation: str, records: Sequence[tuple[str, bytes]], hint: int) -> set[str]:
        """The ids of the records that were taken."""
        function = self._table.options["function"]
        event = {
            "invocationId": invocation,
            "applicationArn": "",
            "records": [
                {
                    "recordId": name,
                    "lambdaDeliveryRecordMetadata": {"retryHint": hint},
                    "data": b64encode(data).decode(),
                }
                for name, data in records
            ],
        }
        try:
            answer = await self._backend.deliveries().functions().invoke(function, msgspec.json.encode(event))
        except (ServiceUnavailable, ThroughputExceeded) as error:
            _log.warning("function %s cannot be invoked now: %s", function, error)
            return set()
        if answer.error is not None:
            _log.warning("function %s failed: %s", function, answer.payload[:1_000].decode(errors="replace"))
            return set()
        taken = _taken(answer.payload)
        if len(taken) < len(records):
            _log.warning("function %s did not take %d of %d records", function, len(records) - len(taken), len(records))
        return taken


def _taken(payload: bytes) -> set[str]:
    try:
        answer = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return set()
    records = answer.get("records") if isinstance(answer, Mapping) else None
    if not isinstance(records, list):
        return set()
    return {str(each.get("recordId")) for each in records if isinstance(each, Mapping) and each.get("result") == "Ok"}


def _batches(records: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for name, data in records:
        if batch and (len(batch) == FUNCTION_BATCH_RECORDS_MAX or size + len(data) > FUNCTION_BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append((name, data))
        size += len(data)
    if batch:
        yield batch
