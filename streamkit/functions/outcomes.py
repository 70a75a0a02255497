"""How asynchronous invocations end: outcomes of single attempts, and the documents that tell a destination of it.

Also AWS's recursion detection, which counts in the trace header how often a chain of invocations came by a function.
Pure: no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
import orjson

from streamkit.functions.destinations import Delivery
from streamkit.functions.state import LATEST
from streamkit.model.limits import LINEAGE_FUNCTIONS_MAX, LOOP_INVOCATIONS_MAX
from streamkit.model.names import FunctionArn
from streamkit.model.times import iso_ms, object_time

Condition = Literal["Success", "RetriesExhausted", "EventAgeExceeded", "ZeroReservedConcurrency"]

_RECORD_VERSION: Final = "1.0"
_LINEAGE: Final = "Lineage"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. Only `succeeded` and `failed` ran the function; only `failed` counts as an attempt of
    the few that there are. `looping`: recursion detection stopped it; it is not tried again.

    `payload` is what the function returned, or its error as a JSON object; `error_type` AWS's name of the error.
    """

    ending: Literal["succeeded", "failed", "throttled", "unavailable", "looping"]
    payload: bytes = b""
    executed_version: str = LATEST
    error_type: str = ""
    function_error: str = "Unhandled"


class LastResponse(msgspec.Struct, frozen=True):
    """What a record tells of the last attempt that ran the function."""

    executed_version: str
    function_error: str | None
    payload: str


@dataclass(frozen=True, slots=True)
class Ended:
    """All that the documents of an event's end are made of."""

    request_id: str
    arn: FunctionArn  # as invoked
    condition: Condition
    attempts: int
    payload: bytes
    response: LastResponse | None
    at_ms: int
    trace_header: str = ""


def record(ended: Ended, id: str) -> Delivery:
    """AWS's invocation record, for the destination of a success or a failure."""
    document: dict[str, Any] = {
        "version": _RECORD_VERSION,
        "timestamp": iso_ms(ended.at_ms),
        "requestContext": {
            "requestId": ended.request_id,
            "functionArn": str(ended.arn._replace(qualifier=ended.arn.qualifier or LATEST)),
            "condition": ended.condition,
            "approximateInvokeCount": ended.attempts,
        },
        "requestPayload": _json(ended.payload),
    }
    if ended.response is not None:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": ended.response.executed_version}
        if ended.response.function_error is not None:
            context["functionError"] = ended.response.function_error
        document["responseContext"] = context
        document["responsePayload"] = _json(ended.response.payload.encode())
    return Delivery(id, orjson.dumps(document), ended.request_id, _object_name(ended, id), _trace_attributes(ended))


def dead_letter(ended: Ended, id: str) -> Delivery:
    """The event itself, and AWS's three attributes, for the dead-letter target."""
    attributes = {"RequestID": ended.request_id}
    if ended.response is not None:
        attributes |= {"ErrorCode": "200", "ErrorMessage": _error_message(ended.response.payload)}
    attributes |= _trace_attributes(ended)
    return Delivery(id, ended.payload, ended.request_id, _object_name(ended, id), attributes)


def _trace_attributes(ended: Ended) -> dict[str, str]:
    return {"AWSTraceHeader": ended.trace_header} if ended.trace_header else {}


def _json(payload: bytes) -> Any:
    """The value as it was sent, byte for byte; what is no JSON (the caller lets none in) as text."""
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode(errors="replace")
    return orjson.Fragment(payload)


def _error_message(payload: str) -> str:
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload
    message = document.get("errorMessage") if isinstance(document, dict) else None
    return message if isinstance(message, str) else payload


def _object_name(ended: Ended, id: str) -> str:
    """As AWS names objects of asynchronous invocations; a UUID at the end, here the document's id."""
    return f"aws/lambda/async/{ended.arn.name}/{object_time(ended.at_ms)}-{id}"


# -- recursion -------------------------------------------------------------------------------------------------------


def pass_by(trace_header: str, arn: FunctionArn) -> tuple[str, int]:
    """The header that an invocation of this function is given, and how many invocations of it the chain then has had.

    The header's `Lineage` is AWS's first form: `hash:count` of each function, with `|` between, where the count of the
    first time is 0. SDKs inside a function send the header on with whatever they call. A caller who sends a header of
    its own making can only stop itself.
    """
    fields = [field.strip() for field in trace_header.split(";") if field.strip()]
    own = blake2b(str(arn._replace(qualifier=None)).encode(), digest_size=4).hexdigest()
    counts: dict[str, int] = {}
    for field in fields:
        name, _, value = field.partition("=")
        if name == _LINEAGE:
            counts = _lineage(value)
    others = [field for field in fields if field.partition("=")[0] != _LINEAGE]
    counts[own] = min(counts[own] + 1, LOOP_INVOCATIONS_MAX) if own in counts else 0
    while len(counts) > LINEAGE_FUNCTIONS_MAX:
        counts.pop(next(each for each in counts if each != own))
    lineage = "|".join(f"{each}:{count}" for each, count in counts.items())
    return ";".join([*others, f"{_LINEAGE}={lineage}"]), counts[own] + 1


def is_loop(invocations: int) -> bool:
    """Whether AWS would stop a chain that has come by the same function so often."""
    return invocations > LOOP_INVOCATIONS_MAX


def _lineage(value: str) -> dict[str, int]:
    """Empty where it is not of the form known here."""
    counts: dict[str, int] = {}
    for entry in value.split("|"):
        hash, _, count = entry.partition(":")
        if not (count.isascii() and count.isdecimal() and len(count) < 6):
            return {}
        counts[hash] = int(count)
    return counts
