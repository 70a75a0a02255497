"""Errors on the wire, as AWS's JSON services write them, and the ids of requests."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import orjson
import pybase64

from streamkit.model.errors import SerializationError, StreamkitError, UnknownOperation


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
