"""Failure records: what an on-failure destination gets of records that were given up, in AWS's words.

(AWS Lambda developer guide, "Retain discarded batch records for a Kinesis data stream event source".)
"""

from __future__ import annotations

from typing import Any

import orjson

from streamkit.mappings.outcome import Failure
from streamkit.mappings.state import LaneProgress, Seal
from streamkit.model.names import shard_id
from streamkit.model.times import iso_ms, object_time


def failure_body(
    failure: Failure,
    *,
    id: str,
    now_ms: int,
    function_arn: str,
    stream_arn: str,
    shard_index: int,
    payload: bytes | None,
) -> str:
    """The document, JSON. `payload`: the whole event, for destinations that take it (S3)."""
    context: dict[str, Any] = {
        "requestId": id,
        "functionArn": function_arn,
        "condition": failure.condition,
        "approximateInvokeCount": max(failure.invocations, 1),  # AWS says 1 also of records that were never tried
    }
    document: dict[str, Any] = {"requestContext": context}
    if failure.response is not None:
        document["responseContext"] = {
            "statusCode": failure.response.status,
            "executedVersion": failure.response.version,
            "functionError": failure.response.function_error,
        }
    document |= {
        "version": "1.0",
        "timestamp": iso_ms(now_ms),
        "KinesisBatchInfo": _batch_info(failure, stream_arn, shard_index),
    }
    if payload is not None:
        document["payload"] = payload.decode()
    return orjson.dumps(document).decode()


def _batch_info(failure: Failure, stream_arn: str, shard_index: int) -> dict[str, Any]:
    batch = failure.batch
    info: dict[str, Any] = {"shardId": shard_id(shard_index)}
    if batch is not None:
        last = len(batch) - 1
        info |= {
            "startSequenceNumber": batch.sequence_number(0),
            "endSequenceNumber": batch.sequence_number(last),
            "approximateArrivalOfFirstRecord": iso_ms(batch.arrived_at_ms(0)),
            "approximateArrivalOfLastRecord": iso_ms(batch.arrived_at_ms(last)),
        }
    return info | {"batchSize": 0 if batch is None else len(batch), "streamArn": stream_arn}


def object_name(mapping_id: str, shard_index: int, now_ms: int, id: str) -> str:
    """Where an S3 destination keeps the document: AWS's layout."""
    return f"aws/lambda/{mapping_id}/{shard_id(shard_index)}/{object_time(now_ms)}-{id}"


def without(lane: LaneProgress, seal: Seal) -> LaneProgress:
    """A lane's progress once the sealed records count as resolved. They are always the first unresolved ones."""
    if seal.last < seal.first:  # a window's final invocation
        return LaneProgress(lane.next_offset, lane.slices)
    slices = [
        slice_
        if slice_.first > seal.last
        else type(slice_)(seal.last + 1, slice_.last, slice_.attempts, slice_.invocations)
        for slice_ in lane.slices
        if slice_.last > seal.last
    ]
    return LaneProgress(max(lane.next_offset, seal.last + 1), slices, lane.window)
