"""Promises of errors on the wire, and of request ids."""

from __future__ import annotations

import base64
import random
import re

import orjson
import pytest

from streamkit.api.errors import RequestIds, error_answer
from streamkit.model import errors


def test_an_error_has_its_aws_code_and_its_message() -> None:
    status, body = error_answer(errors.ResourceNotFound("Stream a under account 000000000000 not found."))
    assert status == 400
    assert body == b'{"__type":"ResourceNotFoundException","message":"Stream a under account 000000000000 not found."}'


def test_a_serialization_error_writes_its_message_with_a_capital_letter() -> None:
    status, body = error_answer(errors.SerializationError("Expected null"))
    assert status == 400
    assert orjson.loads(body) == {"__type": "SerializationException", "Message": "Expected null"}


def test_a_serialization_error_without_a_text_has_no_message_at_all() -> None:
    assert error_answer(errors.SerializationError("")).body == b'{"__type":"SerializationException"}'


def test_an_unknown_operation_has_no_message() -> None:
    assert error_answer(errors.UnknownOperation("Nope")) == (400, b'{"__type":"UnknownOperationException"}')


@pytest.mark.parametrize(
    "error",
    [
        KeyError("secret"),
        AssertionError("secret"),
        ValueError("secret"),
    ],
)
def test_our_own_mistakes_tell_the_client_nothing(error: Exception) -> None:
    assert error_answer(error) == (500, b'{"__type":"InternalFailure"}')


def test_damage_is_told_with_its_place_and_the_way_on() -> None:
    status, body = error_answer(errors.DamagedLog("data/streams/1.seg", 12, "checksum", 7))
    assert status == 500
    text = "data/streams/1.seg is damaged at byte 12: checksum; reading can go on at offset 7"
    assert orjson.loads(body) == {"__type": "InternalFailure", "message": text}


def test_a_disk_that_refuses_is_said_to_be_unavailable() -> None:
    status, body = error_answer(errors.StorageUnavailable("No space left on device"))
    assert status == 503
    assert orjson.loads(body) == {"__type": "ServiceUnavailable", "message": "No space left on device"}


def test_request_ids_look_like_those_of_aws() -> None:
    request_id, extended_id = RequestIds(random.Random(7)).next()
    assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", request_id)
    assert len(base64.b64decode(extended_id, validate=True)) == 72


def test_request_ids_do_not_repeat_and_come_again_from_the_same_seed() -> None:
    first, again = RequestIds(random.Random(7)), RequestIds(random.Random(7))
    ids = [first.next() for _ in range(1_000)]
    assert ids == [again.next() for _ in range(1_000)]
    assert len({request_id for request_id, _ in ids}) == 1_000
