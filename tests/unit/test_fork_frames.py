"""What a server and its worker say to each other: everything comes out as it went in, and garbage is refused."""

from __future__ import annotations

import enum
import itertools
import json
import math
import re
from array import array
from collections import OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from streamkit.functions.environments import frames, runtime
from streamkit.functions.environments.image import Image, Images
from streamkit.model.batch import RecordBatch
from streamkit.model.limits import RESPONSE_BYTES_MAX
from streamkit.testing.clock import START_MS


@st.composite
def batches(draw: st.DrawFn) -> RecordBatch:
    """Windows on longer columns, with and without hash keys and arrival times."""
    records = draw(st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=20)), min_size=1, max_size=12))
    start = draw(st.integers(0, len(records)))
    stop = draw(st.integers(start, len(records)))
    keys = [key.encode() for key, _ in records]
    values = [value for _, value in records]
    arrivals = array("q", (START_MS + 7 * number for number in range(len(records))))
    return RecordBatch(
        draw(st.integers(0, 2**31 - 1)),
        1_600_000_000,
        draw(st.integers(0, 2**40)),
        start,
        stop,
        arrivals[stop - 1] if stop else START_MS,
        memoryview(array("i", itertools.accumulate(map(len, keys), initial=0))),
        memoryview(b"".join(keys)),
        memoryview(array("i", itertools.accumulate(map(len, values), initial=0))),
        memoryview(b"".join(values)),
        memoryview(bytes(range(16)) * len(records)) if draw(st.booleans()) else None,
        memoryview(arrivals) if draw(st.booleans()) else None,
    )


@given(batches())
def test_a_batch_arrives_with_the_same_records(batch: RecordBatch) -> None:
    """Whatever window of whatever columns it is: the same records, numbers and keys."""
    meta, pieces = frames.columns_of(batch)
    payload = memoryview(bytearray(b"".join(pieces)))
    arrived = frames.batch_of(RecordBatch, json.loads(json.dumps(meta)), payload)
    assert list(arrived.records()) == list(batch.records())
    assert arrived.digests() == batch.digests()
    assert (arrived.shard_id, arrived.first_offset, arrived.next_offset) == (
        batch.shard_id,
        batch.first_offset,
        batch.next_offset,
    )


@given(
    st.sampled_from([frames.ANSWERED, frames.FAILED, frames.CHUNK]),
    st.integers(1, 2**40),
    st.integers(0, 2**34),
    st.binary(max_size=400),
    st.integers(0, frames.PAYLOAD_BYTES_MAX),
)
def test_an_answers_header_is_read_as_it_was_written(
    kind: int, number: int, resident_kib: int, name: bytes, payload_bytes: int
) -> None:
    """For the request it answers; long names of errors are cut."""
    assume(number % frames.NUMBERS)
    text = frames.answer_header(
        kind, number=number, max_resident_kib=resident_kib, error_name=name, payload_bytes=payload_bytes
    )
    header = frames.read_answer_header(text, number)
    assert (header.kind, header.payload_bytes) == (kind, payload_bytes)
    assert header.max_resident_kib == min(resident_kib, 2**32 - 1)
    assert text[frames.HEADER_BYTES :] == name[:255]
    assert header.frame_bytes == len(text) + payload_bytes


@given(st.binary(min_size=frames.HEADER_BYTES, max_size=frames.HEADER_BYTES), st.integers(0, 2**20))
@example(frames.ANSWER.pack(frames.ANSWERED, 0, 1, 0, 2**32 - 1), 1)
@example(frames.ANSWER.pack(frames.READY, 0, 1, 0, 0), 1)
@example(frames.ANSWER.pack(frames.ANSWERED, 0, 0, 0, 0), 0)
def test_a_header_is_believed_only_where_it_answers_the_request(garbage: bytes, number: int) -> None:
    """Right kind, right number, bounded size; anything else is `Malformed`."""
    kind, _, answers, _, payload_bytes = frames.ANSWER.unpack(garbage)
    kinds = (frames.ANSWERED, frames.FAILED, frames.CHUNK) if number else (frames.READY, frames.INIT_FAILED)
    fits = kind in kinds and answers == number % frames.NUMBERS and payload_bytes <= frames.PAYLOAD_BYTES_MAX
    if fits:
        assert frames.read_answer_header(garbage, number).payload_bytes == payload_bytes
    else:
        with pytest.raises(frames.Malformed):
            frames.read_answer_header(garbage, number)


# -- events and results ----------------------------------------------------------------------------------------------

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values, st.booleans())
@example({"n": 10**30}, False)
@example([-(10**19), 1], True)
@example(10**25, False)
@example("\ud800", False)
def test_an_event_is_what_pythons_json_makes_of_it(value: Any, is_spaced: bool) -> None:
    """Also integers of any length, which the quicker parser would make floats of; and half of a surrogate pair."""
    text = json.dumps(value, separators=None if is_spaced else (",", ":")).encode()
    loaded = runtime.load_event(memoryview(text))
    assert loaded == value
    assert repr(loaded) == repr(json.loads(text))


@given(values, st.sampled_from(["python3.11", "python3.13"]))
def test_a_result_is_encoded_as_awss_runtime_does(value: Any, version: str) -> None:
    """Byte for byte, as simplejson does with AWS's settings: escapes up to Python 3.11, characters from 3.12 on."""
    simplejson = pytest.importorskip("simplejson")
    wanted = simplejson.dumps(value, use_decimal=False, allow_nan=True, ensure_ascii=version == "python3.11")
    try:
        expected = wanted.encode()
    except UnicodeEncodeError:
        with pytest.raises(runtime.Fault):
            runtime.make_marshal(version)(value)
    else:
        assert runtime.make_marshal(version)(value) == expected


class Text(str):
    __slots__ = ()


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1.10"),
        {"a": [Decimal("NaN"), Decimal("-Infinity"), Decimal(10) ** 30, Decimal("1e-9")]},
        {Text("key"): Text('quote " \u00fc')},
        {1: (1, 2), None: math.inf, False: {1.5: 1, 10**30: {}}},
        [b"bytes", {b"k": b"\xc3\xbc"}],
        [Level.HIGH, {"level": Level.HIGH}, Point(1), OrderedDict(b=1, a=Point(2))],
        [b"\xff"],
        {(1, 2): 3},
        {Decimal(1): 2, "x": Text()},
        [object()],
        {"set": {1}},
        [Text("\u2028\U0001f600")],
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)),
)
@pytest.mark.parametrize("version", ["python3.11", "python3.13"])
def test_results_of_unusual_types_are_encoded_or_refused_as_by_awss_runtime(
    value: Any, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marshaller = pytest.importorskip("awslambdaric.lambda_runtime_marshaller")
    monkeypatch.setenv("AWS_EXECUTION_ENV", f"AWS_Lambda_{version}")
    expected, refused = b"", None
    try:
        expected = marshaller.LambdaMarshaller().marshal_response(value)[0].encode()
    except marshaller.FaultException as error:
        refused = (error.exception_type, error.msg)
    if refused is None:
        assert runtime.make_marshal(version)(value) == expected
        return
    with pytest.raises(runtime.Fault) as caught:
        runtime.make_marshal(version)(value)
    assert (caught.value.error_type, caught.value.message) == refused


def test_a_result_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(runtime.Fault) as caught:
        runtime.make_marshal("python3.11")(endless)
    assert caught.value.error_type == "Runtime.MarshalError"


def test_a_response_may_have_the_largest_size_and_no_more() -> None:
    marshal = runtime.make_marshal("python3.11")
    assert len(marshal("x" * (RESPONSE_BYTES_MAX - 2))) == RESPONSE_BYTES_MAX
    with pytest.raises(runtime.ResponseTooLarge):
        marshal("x" * (RESPONSE_BYTES_MAX - 1))


# -- images ----------------------------------------------------------------------------------------------------------

SDK = ("boto3", "botocore", "botocore.session", "urllib3")


def prepared(images: Images[str], name: str, modules: tuple[str, ...], kind: object = "event") -> Image[str]:
    image = Image(name, kind, modules)
    images.add(image)
    images.prepared(image, modules)
    return image


def test_an_image_is_for_functions_that_import_what_it_has_loaded() -> None:
    """Not for one that brings its own copy of a package, nor one of another kind, nor one never seen."""
    images = Images[str](4, lambda image: None)
    assert images.learn("first", "event", SDK)
    image = prepared(images, "sdk", SDK)
    assert images.choose("first", "event") is image
    assert not images.learn("same", "event", SDK)
    assert images.choose("same", "event") is image
    own_urllib3 = tuple(name for name in SDK if name != "urllib3")
    assert images.learn("own urllib3", "event", own_urllib3)
    assert images.choose("own urllib3", "event") is None
    assert images.learn("library", "library", SDK)
    assert images.choose("library", "library") is None
    assert images.choose("never seen", "event") is None


def test_images_are_few_and_the_one_used_least_recently_goes_first() -> None:
    retired: list[str] = []
    images = Images[str](2, lambda image: retired.append(image.zygote))
    for name in ("a", "b"):
        images.learn(name, "event", (name,))
        prepared(images, name, (name,))
    assert images.choose("a", "event") is not None
    prepared(images, "c", ("c",))
    assert retired == ["b"]


def test_an_image_without_environments_goes_before_one_with_some() -> None:
    retired: list[str] = []
    images = Images[str](2, lambda image: retired.append(image.zygote))
    prepared(images, "busy", ("busy",)).environments = 1
    prepared(images, "idle", ("idle",))
    prepared(images, "new", ("new",))
    assert retired == ["idle"]


def test_what_could_not_be_prepared_is_not_tried_again() -> None:
    """Such as a library that starts a thread when it is imported."""
    images = Images[str](4, lambda image: None)
    assert images.learn("f", "event", ("threaded",))
    image = Image("z", "event", ("threaded",))
    images.add(image)
    images.prepared(image, ())
    assert not images.learn("f", "event", ("threaded",))
    assert images.choose("f", "event") is None
