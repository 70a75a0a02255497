"""Errors on the wire, as AWS's JSON and REST-JSON services write them, and the ids of requests."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson
import pybase64

from streamkit.api.codec import Shape
from streamkit.model.errors import (
    AccessDenied,
    IncompleteSignature,
    MissingAuthentication,
    SerializationError,
    SignatureMismatch,
    StreamkitError,
    UnknownOperation,
    UnrecognizedClient,
)

# AWS: Kinesis answers 400 where nobody can tell who asks, Lambda 403.
_FORBIDDEN: Final = (MissingAuthentication, IncompleteSignature, SignatureMismatch, UnrecognizedClient)
_CAPITAL: Final = (AccessDenied, SerializationError)  # AWS writes the message of these with a capital letter
_OWN_FAULT: Final = "An error occurred and the request cannot be processed."


class ErrorAnswer(NamedTuple):
    status: int
    body: bytes


def error_answer(error: BaseException) -> ErrorAnswer:
    """What a client of a JSON service gets to see of an error; of what is our own fault, nothing: log it before."""
    status, fields = error_fields(error)
    return ErrorAnswer(status, orjson.dumps(fields))


def error_fields(error: BaseException) -> tuple[int, dict[str, str]]:
    """The status and the members of an error, whatever the wire format writes them in."""
    if not isinstance(error, StreamkitError):
        return 500, {"__type": StreamkitError.code}
    fields = {"__type": error.code}
    if isinstance(error, SerializationError):
        # AWS writes this one's member with a capital letter, and leaves it out where it has nothing to say.
        if error.message:
            fields["Message"] = error.message
    elif not isinstance(error, UnknownOperation):
        fields["message"] = error.message
    return error.status, fields


class RestErrorAnswer(NamedTuple):
    status: int
    code: str
    members: Mapping[str, Any]  # by the names of `shape`, where there is one
    shape: Shape | None


def rest_error_answer(error: BaseException, errors: Mapping[str, Shape]) -> RestErrorAnswer:
    """An error as the answer of a REST service: status and members are what the model's shape of its code says.

    An error that is not in the model has a message alone. Where the model has an error for the service's own faults
    (Lambda: ServiceException), it stands for all of them that have no code of their own.
    """
    known = error if isinstance(error, StreamkitError) else StreamkitError(_OWN_FAULT)
    code, status = known.code, 403 if isinstance(known, _FORBIDDEN) else known.status
    if code == StreamkitError.code:
        code = next((each for each, shape in errors.items() if shape.fault and _status(shape) == 500), code)
    shape = errors.get(code)
    if shape is None:
        name = "Message" if isinstance(known, _CAPITAL) else "message"
        return RestErrorAnswer(status, code, {name: known.message}, None)
    status = _status(shape) or status
    return RestErrorAnswer(status, code, error_members(known.message, status, known.fields, shape), shape)


def error_members(message: str, status: int, fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """An error's members by the names of its shape: the message's name and whether there is a type vary in a model."""
    given = {"Type": "User" if status < 500 else "Service", "message": message, "Message": message, **fields}
    return {name: given[name] for name in shape.members if name in given}


def _status(shape: Shape) -> int | None:
    return None if shape.error is None else shape.error.http_status_code


class RequestIds:
    """Makes the ids of requests: a random beginning for each server, and a count. No secrets."""

    def __init__(self, source: random.Random) -> None:
        digits = f"{source.getrandbits(80):020x}"
        self._start = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:]}-".encode()
        self._extended_start = pybase64.b64encode(source.randbytes(60))
        self._counts = itertools.count(source.getrandbits(40))

    def next(self) -> tuple[bytes, bytes]:
        """The values of x-amzn-RequestId (in the form of a UUID) and of x-amz-id-2 (base64 of 72 bytes)."""
        count = next(self._counts)
        return b"%b%012x" % (self._start, count), self._extended_start + b"%016x" % count
