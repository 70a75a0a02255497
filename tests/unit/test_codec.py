"""Promises of the codec: AWS's order and texts for what is refused, and the same values as botocore for the rest."""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Mapping
from typing import Any

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.api.codec import Json, Member, Shape, format_timestamp, java_matcher, json_seconds, parse_timestamp
from streamkit.api.service_model import ServiceModel
from streamkit.model.errors import SerializationError, ValidationError
from streamkit.model.limits import ECHO_CHARACTERS_MAX, JSON_DEPTH_MAX

KINESIS = ServiceModel.load("kinesis", "2013-12-02")
BOTOCORE = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("kinesis", "service-2"), "kinesis")


def decode(operation: str, document: Any) -> dict[str, Any]:
    return KINESIS.operations[operation].decode(orjson.dumps(document))


def serialization_text(operation: str, document: Any) -> str:
    with pytest.raises(SerializationError) as refused:
        decode(operation, document)
    return refused.value.message


def validation_text(operation: str, document: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        decode(operation, document)
    return refused.value.message


def one_violation(value: str, path: str, constraint: str) -> str:
    return f"1 validation error detected: {value} at '{path}' failed to satisfy constraint: {constraint}"


# -- values ----------------------------------------------------------------------------------------------------------


def test_members_come_with_the_names_of_the_model_and_with_their_types() -> None:
    record = {"StreamName": "s", "PartitionKey": "ü", "Data": "aGVsbG8=", "DryRun": True}
    assert decode("PutRecord", record) == {"StreamName": "s", "PartitionKey": "ü", "Data": b"hello", "DryRun": True}


def test_unknown_members_are_ignored_and_null_is_absence() -> None:
    assert decode("ListStreams", {"Limit": None, "Unheard": {"of": [1]}, "NextToken": "t"}) == {"NextToken": "t"}


def test_an_operation_is_fine_with_an_empty_object() -> None:
    assert decode("DescribeLimits", {}) == {}
    assert Json({}).decoder(None)(b'{"a": 1}') == {}


def test_fractions_are_cut_off_integers() -> None:
    assert decode("ListStreams", {"Limit": 7.9}) == {"Limit": 7}


@pytest.mark.parametrize("limit", [10_001, 1 << 31, (1 << 32) + 1, 1 << 63, 1e300])
def test_a_number_that_does_not_fit_stays_too_large(limit: float) -> None:
    assert "Member must have value less than or equal to 10000" in validation_text("ListStreams", {"Limit": limit})


def test_without_a_maximum_it_is_the_largest_number_of_its_type() -> None:
    period = {"StreamName": "s", "RetentionPeriodHours": (1 << 32) + 24}
    assert decode("IncreaseStreamRetentionPeriod", period)["RetentionPeriodHours"] == (1 << 31) - 1


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("YES", True), ("1", True), ("False", False), ("n", False)]
)
def test_a_boolean_may_be_named_in_a_string(text: str, value: bool) -> None:
    assert decode("DeleteStream", {"EnforceConsumerDeletion": text}) == {"EnforceConsumerDeletion": value}


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (b"1459799926.480", 1459799926480),
        (b"1441215410.867", 1441215410867),
        (b"1.441215410867E9", 1441215410867),
        (b"1515322000", 1515322000000),
        (b"0.0019", 1),
        (b"-1.5", -1500),
        (b"1e300", (1 << 63) - 1),
        (b"-1e300", -(1 << 63)),
        (b"18446744073709551615", (1 << 63) - 1),
    ],
)
def test_timestamps_are_milliseconds_without_rounding_up(seconds: bytes, milliseconds: int) -> None:
    body = b'{"StreamCreationTimestamp": ' + seconds + b"}"
    assert KINESIS.operations["ListShards"].decode(body) == {"StreamCreationTimestamp": milliseconds}


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_a_timestamp_written_by_us_is_read_as_the_same_millisecond(epoch_ms: int) -> None:
    body = b'{"StreamCreationTimestamp": ' + json_seconds(epoch_ms).encode() + b"}"
    assert KINESIS.operations["ListShards"].decode(body) == {"StreamCreationTimestamp": epoch_ms}


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (1441215410867, "1.441215410867E9"),
        (1468346745000, "1.468346745E9"),
        (10_000_000_000, "1.0E7"),
        (9_999_999_999, "9999999.999"),
        (1, "0.001"),
        (0, "0.0"),
        (-1500, "-1.5"),
    ],
)
def test_timestamps_are_printed_as_java_prints_doubles(epoch_ms: int, text: str) -> None:
    assert json_seconds(epoch_ms) == text


# -- SerializationException ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"hello", b"{", b"{}x", b"null", b"1", b'"x"', b'{"Limit": 1,}', b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_refused_without_a_text(body: bytes) -> None:
    with pytest.raises(SerializationError) as refused:
        KINESIS.operations["ListStreams"].decode(body)
    assert refused.value.message == ""


LIST, STRUCTURE = "Start of list found where not expected", "Start of structure or map found where not expected."


@pytest.mark.parametrize(
    ("operation", "document", "text"),
    [
        ("ListStreams", [], LIST),
        ("PutRecord", {"PartitionKey": 23}, "NUMBER_VALUE can not be converted to a String"),
        ("PutRecord", {"PartitionKey": 1.5}, "NUMBER_VALUE can not be converted to a String"),
        ("PutRecord", {"PartitionKey": True}, "TRUE_VALUE can not be converted to a String"),
        ("PutRecord", {"PartitionKey": False}, "FALSE_VALUE can not be converted to a String"),
        ("PutRecord", {"PartitionKey": []}, LIST),
        ("PutRecord", {"PartitionKey": {}}, STRUCTURE),
        ("ListStreams", {"Limit": "1"}, "STRING_VALUE can not be converted to an Integer"),
        ("ListStreams", {"Limit": True}, "TRUE_VALUE can not be converted to an Integer"),
        ("ListStreams", {"Limit": [1]}, LIST),
        ("DeleteStream", {"EnforceConsumerDeletion": 1}, "NUMBER_VALUE can not be converted to a Boolean"),
        ("DeleteStream", {"EnforceConsumerDeletion": "so"}, "STRING_VALUE can not be converted to an Boolean"),
        ("PutRecord", {"Data": 5}, "NUMBER_VALUE can not be converted to a Blob"),
        ("PutRecord", {"Data": {}}, STRUCTURE),
        ("PutRecords", {"Records": "x"}, "Expected list or null"),
        ("PutRecords", {"Records": {}}, STRUCTURE),
        ("PutRecords", {"Records": [1]}, "Expected null"),
        ("PutRecords", {"Records": [[]]}, LIST),
        ("AddTagsToStream", {"Tags": "x"}, "Expected map or null"),
        ("AddTagsToStream", {"Tags": []}, LIST),
        ("AddTagsToStream", {"Tags": {"a": 1}}, "NUMBER_VALUE can not be converted to a String"),
        ("GetShardIterator", {"Timestamp": "1515"}, "STRING_VALUE can not be converted to milliseconds since epoch"),
    ],
)
def test_a_wrong_json_type_is_named_as_aws_names_it(operation: str, document: Any, text: str) -> None:
    assert serialization_text(operation, document) == text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("23456", "Base64 encoded length is expected a multiple of 4 bytes but found: 5"),
        ("=+/=", "Invalid Base64 character: '='"),
        ("YW\n=", "Invalid Base64 character: '\n'"),
        ("ééé=", "Invalid Base64 character: 'é'"),
        ("+/+=", "Invalid last non-pad Base64 character dectected"),
        ("YR==", "Invalid last non-pad Base64 character dectected"),
        ("====", "Invalid last non-pad Base64 character dectected"),
    ],
)
def test_what_is_no_base64_is_refused_with_the_reason(data: str, why: str) -> None:
    assert serialization_text("PutRecord", {"Data": data}) == f"'{data}' can not be converted to a Blob: {why}"


@given(st.text(alphabet="AQgw/+=", max_size=12))
def test_base64_has_one_spelling_for_each_value(text: str) -> None:
    try:
        data = decode("PutRecord", {"Data": text})["Data"]
    except SerializationError:
        return
    assert base64.b64encode(data).decode() == text


def test_the_first_wrong_value_of_the_document_is_the_one_reported() -> None:
    assert serialization_text("PutRecord", {"Data": 1, "PartitionKey": []}).startswith("NUMBER_VALUE")
    assert serialization_text("PutRecord", {"PartitionKey": [], "Data": 1}) == LIST


def test_a_wrong_type_is_reported_before_any_broken_constraint() -> None:
    assert serialization_text("ListStreams", {"NextToken": "", "Limit": "1"}).startswith("STRING_VALUE")


def nested(depth: int) -> Any:
    document: Any = {}
    for level in range(depth - 2):
        document = {"a": document} if level % 2 else [document]
    return {"Ignored": document}


def test_deep_nesting_is_refused_also_where_it_would_be_ignored() -> None:
    assert decode("ListStreams", nested(JSON_DEPTH_MAX)) == {}
    assert str(JSON_DEPTH_MAX) in serialization_text("ListStreams", nested(JSON_DEPTH_MAX + 1))


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_very_deep_nesting_is_no_more_than_an_error(depth: int) -> None:
    with pytest.raises(SerializationError):
        KINESIS.operations["ListStreams"].decode(b'{"a":' * depth + b"1" + b"}" * depth)


def test_a_shape_that_contains_itself_is_read_and_checked_at_each_level() -> None:
    shapes = {
        "Tree": Shape("structure", {"Name": Member("Name"), "Left": Member("Tree")}, ("Name",)),
        "Name": Shape("string", max=3),
    }
    wire = Json(shapes)
    tree = {"Name": "a", "Left": {"Name": "b", "Left": {"Name": "c"}}}
    assert wire.decoder("Tree")(orjson.dumps(tree)) == tree
    assert orjson.loads(wire.encoder("Tree")(tree)) == tree
    with pytest.raises(ValidationError, match=re.escape("Value null at 'left.left.name'")):
        wire.decoder("Tree")(b'{"Name": "a", "Left": {"Name": "b", "Left": {}}}')


def test_a_list_that_contains_itself_is_checked_at_each_level() -> None:
    shapes = {
        "Input": Shape("structure", {"Nodes": Member("Nodes")}),
        "Nodes": Shape("list", member=Member("Node"), max=1),
        "Node": Shape("structure", {"Nodes": Member("Nodes")}),
    }
    with pytest.raises(ValidationError, match=re.escape("at 'nodes.1.member.nodes' failed")):
        Json(shapes).decoder("Input")(b'{"Nodes": [{"Nodes": [{}, {}]}]}')


# -- ValidationException ---------------------------------------------------------------------------------------------

ENUM_SCALING = "Member must satisfy enum value set: [UNIFORM_SCALING]"


@pytest.mark.parametrize(
    ("operation", "document", "text"),
    [
        (
            "GetRecords",
            {},
            one_violation("Value null", "shardIterator", "Member must not be null"),
        ),
        (
            "GetRecords",
            {"ShardIterator": "a" * 513},
            one_violation(f"Value '{'a' * 513}'", "shardIterator", "Member must have length less than or equal to 512"),
        ),
        (
            "GetRecords",
            {"ShardIterator": "a", "Limit": 0},
            one_violation("Value '0'", "limit", "Member must have value greater than or equal to 1"),
        ),
        (
            "DescribeStream",
            {"StreamName": "a b"},
            one_violation(
                "Value 'a b'", "streamName", "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
            ),
        ),
        (
            "UpdateShardCount",
            {"TargetShardCount": 1, "ScalingType": "BIG"},
            one_violation("Value 'BIG'", "scalingType", ENUM_SCALING),
        ),
        (
            "PutRecords",
            {"Records": [{"Data": "", "PartitionKey": "a"}, {"Data": "", "PartitionKey": ""}]},
            one_violation(
                "Value ''", "records.2.member.partitionKey", "Member must have length greater than or equal to 1"
            ),
        ),
        (
            "PutRecords",
            {"Records": [{"PartitionKey": "a"}]},
            one_violation("Value null", "records.1.member.data", "Member must not be null"),
        ),
        (
            "PutRecords",
            {"Records": [None]},
            one_violation("Value null", "records.1.member", "Member must not be null"),
        ),
        (
            "ListShards",
            {"ShardFilter": {}},
            one_violation("Value null", "shardFilter.type", "Member must not be null"),
        ),
        (
            "AddTagsToStream",
            {"Tags": {}},
            one_violation("Value '{}'", "tags", "Member must have length greater than or equal to 1"),
        ),
        (
            "AddTagsToStream",
            {"Tags": {"a": "1", "": "2"}},
            one_violation(
                "Value '{a=1, =2}'",
                "tags",
                "Map keys must satisfy constraint: [Member must have length less than or equal to 128, "
                "Member must have length greater than or equal to 1]",
            ),
        ),
        (
            "AddTagsToStream",
            {"Tags": {"a": "b" * 257}},
            one_violation(
                f"Value '{{a={'b' * 257}}}'",
                "tags",
                "Map value must satisfy constraint: [Member must have length less than or equal to 256, "
                "Member must have length greater than or equal to 0]",
            ),
        ),
        (
            "AddTagsToStream",
            {"Tags": {"a": None}},
            one_violation("Value null", "tags.a.member", "Member must not be null"),
        ),
        (
            "RemoveTagsFromStream",
            {"TagKeys": ["a", "", "b"]},
            one_violation(
                "Value '[a, , b]'",
                "tagKeys",
                "Member must satisfy constraint: [Member must have length less than or equal to 128, "
                "Member must have length greater than or equal to 1]",
            ),
        ),
    ],
)
def test_a_broken_constraint_is_named_as_aws_names_it(operation: str, document: Any, text: str) -> None:
    assert validation_text(operation, document) == text


def test_a_blob_and_what_holds_one_is_not_shown() -> None:
    record = {"Data": base64.b64encode(bytes(10_485_761)).decode(), "PartitionKey": "a"}
    too_long = "failed to satisfy constraint: Member must have length less than or equal to 10485760"
    assert validation_text("PutRecord", record) == f"1 validation error detected: Value at 'data' {too_long}"
    many = [{"Data": "", "PartitionKey": "a"}] * 501
    assert validation_text("PutRecords", {"Records": many}) == (
        "1 validation error detected: Value at 'records' failed to satisfy constraint: "
        "Member must have length less than or equal to 500"
    )


def test_all_broken_constraints_come_in_one_text_the_pattern_before_the_length() -> None:
    assert validation_text("PutRecord", {"StreamName": "", "PartitionKey": "", "Data": "", "ExplicitHashKey": ""}) == (
        "4 validation errors detected: "
        "Value '' at 'streamName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "
        "Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1; "
        "Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1; "
        "Value '' at 'explicitHashKey' failed to satisfy constraint: "
        r"Member must satisfy regular expression pattern: ^(0|([1-9]\d{0,38}))$"
    )


def test_no_more_than_ten_broken_constraints_are_reported() -> None:
    text = validation_text("PutRecords", {"Records": [{"PartitionKey": "a"}] * 500})
    assert text.startswith("10 validation errors detected: ")
    assert text.endswith("Value null at 'records.10.member.data' failed to satisfy constraint: Member must not be null")


def test_structures_are_shown_as_java_shows_them() -> None:
    shapes = {
        "Input": Shape("structure", {"KeySchema": Member("KeySchema")}),
        "KeySchema": Shape("list", member=Member("KeySchemaElement"), max=1),
        "KeySchemaElement": Shape("structure", {"AttributeName": Member("Name"), "KeyType": Member("Name")}),
        "Name": Shape("string"),
    }
    with pytest.raises(ValidationError, match=re.escape("Value '[KeySchemaElement(attributeName=pk, keyType=null), ")):
        Json(shapes).decoder("Input")(b'{"KeySchema": [{"AttributeName": "pk"}, {}]}')


def test_a_pattern_must_match_the_whole_text_in_ascii_digits() -> None:
    for hash_key in ("1\n", "1 ", "x1", "1٣", "01"):
        assert "pattern" in validation_text("PutRecord", {"Data": "", "ExplicitHashKey": hash_key})


def test_a_huge_value_is_neither_matched_nor_echoed_whole() -> None:
    text = validation_text("DescribeStream", {"StreamARN": ":kinesis:" * 1_000_000})
    assert text.endswith("Member must have length less than or equal to 2048")
    assert len(text) < ECHO_CHARACTERS_MAX + 200


# -- against botocore, and against anything --------------------------------------------------------------------------

ASCII = st.characters(min_codepoint=32, max_codepoint=126)
INSTANTS = st.integers(min_value=0, max_value=4_000_000_000)


def values_of(name: str, *, constrained: bool) -> st.SearchStrategy[Any]:
    """Values that a shape allows. Timestamps are whole seconds: botocore sends no finer ones."""
    shape = KINESIS.shapes[name]
    low = int(shape.min) if constrained and shape.min is not None else 0
    if shape.type == "structure":
        members = {
            each: values_of(member.shape, constrained=constrained)
            for each, member in shape.members.items()
            if not KINESIS.shapes[member.shape].eventstream
        }
        required = {each: members[each] for each in shape.required if each in members}
        optional = {each: members[each] for each in members if each not in required}
        return st.fixed_dictionaries(required, optional=optional)
    if shape.type == "list":
        assert shape.member is not None
        return st.lists(values_of(shape.member.shape, constrained=constrained), min_size=low, max_size=low + 2)
    if shape.type == "map":
        assert shape.key is not None
        assert shape.value is not None
        keys, held = (values_of(each.shape, constrained=constrained) for each in (shape.key, shape.value))
        return st.dictionaries(keys, held, min_size=low, max_size=low + 2)
    if shape.type == "string":
        return texts_of(shape) if constrained else st.text(max_size=8)
    if shape.type == "integer":
        return st.integers(low, min(int(shape.max or 1 << 31), (1 << 31) - 1))
    scalars: Mapping[str, st.SearchStrategy[Any]] = {
        "blob": st.binary(max_size=64),
        "boolean": st.booleans(),
        "long": st.integers(low, (1 << 63) - 1),
        "timestamp": INSTANTS.map(lambda second: datetime.datetime.fromtimestamp(second, datetime.UTC)),
    }
    return scalars[shape.type]


def texts_of(shape: Shape) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    low, high = int(shape.min or 0), int(shape.max or 64)
    if shape.pattern is None:
        return st.text(min_size=low, max_size=min(high, low + 16))
    matching = st.from_regex(re.compile(shape.pattern, re.ASCII), fullmatch=True, alphabet=ASCII)
    return matching.filter(lambda text: low <= len(text) <= high)


def in_milliseconds(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {key: in_milliseconds(item) for key, item in value.items()}
    return [in_milliseconds(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", KINESIS.operations)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_botocore_sends_is_what_we_read(name: str, data: st.DataObject) -> None:
    operation = KINESIS.operations[name]
    if operation.input_shape is None:
        return
    values = data.draw(values_of(operation.input_shape, constrained=True))
    serializer = botocore.serialize.create_serializer("json", include_validation=False)
    body = serializer.serialize_to_request(values, BOTOCORE.operation_model(name))["body"]
    assert operation.decode(body) == in_milliseconds(values)


@pytest.mark.parametrize("name", KINESIS.operations)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_we_answer_is_what_botocore_reads(name: str, data: st.DataObject) -> None:
    operation = KINESIS.operations[name]
    if operation.output_shape is None:
        assert operation.encode({}) == b""
        return
    values = in_milliseconds(data.draw(values_of(operation.output_shape, constrained=False)))
    parser = botocore.parsers.create_parser("json")
    output_shape = BOTOCORE.operation_model(name).output_shape
    if any(KINESIS.shapes[each.shape].eventstream for each in KINESIS.shapes[operation.output_shape].members.values()):
        assert orjson.loads(operation.encode(values)) == values  # the events themselves are not JSON
        return
    response = {"status_code": 200, "headers": {}, "body": operation.encode(values)}
    answer = parser.parse(response, output_shape)
    del answer["ResponseMetadata"]
    assert in_milliseconds(answer) == values


def test_none_is_left_out_of_an_answer_and_memory_views_are_data() -> None:
    record = {"Data": memoryview(b"hello"), "PartitionKey": "a", "SequenceNumber": "1", "EncryptionType": None}
    assert KINESIS.operations["GetRecords"].encode({"Records": [record], "NextShardIterator": None}) == (
        b'{"Records":[{"Data":"aGVsbG8=","PartitionKey":"a","SequenceNumber":"1"}]}'
    )


def test_the_events_of_an_event_stream_are_written_like_answers() -> None:
    event = {"Records": [], "ContinuationSequenceNumber": "1", "MillisBehindLatest": 0}
    assert orjson.loads(KINESIS.wire.encoder("SubscribeToShardEvent")(event)) == event


def test_a_member_the_model_does_not_have_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="PutRecordOutput has no member ShardID"):
        KINESIS.operations["PutRecord"].encode({"ShardID": "shardId-000000000000"})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda held: st.lists(held, max_size=4) | st.dictionaries(st.text(), held, max_size=4),
    max_leaves=12,
)
MEMBER_NAMES = st.sampled_from(sorted({name for shape in KINESIS.shapes.values() for name in shape.members}))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINESIS.operations)), JSON_VALUES | st.dictionaries(MEMBER_NAMES, JSON_VALUES))
def test_any_json_document_is_read_or_refused(name: str, document: Any) -> None:
    try:
        assert isinstance(decode(name, document), dict)
    except (SerializationError, ValidationError):
        pass


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINESIS.operations)), st.data())
def test_a_valid_request_with_one_member_exchanged_is_read_or_refused(name: str, data: st.DataObject) -> None:
    shape_name = KINESIS.operations[name].input_shape
    if shape_name is None:
        return
    shape = KINESIS.shapes[shape_name]
    document = {each: data.draw(JSON_VALUES) for each in shape.members}
    try:
        assert decode(name, document).keys() <= shape.members.keys()
    except (SerializationError, ValidationError):
        pass


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        KINESIS.operations["PutRecord"].decode(body)
    except (SerializationError, ValidationError):
        pass


# -- names and timestamps of a member's own ---------------------------------------------------------------------------


def test_a_member_may_have_another_name_on_the_wire() -> None:
    shapes = {"Input": Shape("structure", {"Name": Member("Name", location_name="name")}), "Name": Shape("string")}
    wire = Json(shapes)
    assert wire.decoder("Input")(b'{"name": "a", "Name": "b"}') == {"Name": "a"}
    assert wire.encoder("Input")({"Name": "a"}) == b'{"name":"a"}'


def test_a_timestamp_is_written_as_the_model_says_and_read_in_any_way() -> None:
    shapes = {
        "Input": Shape("structure", {"At": Member("Dated"), "Own": Member("Time", timestamp_format="rfc822")}),
        "Dated": Shape("timestamp", timestamp_format="iso8601"),
        "Time": Shape("timestamp"),
    }
    wire = Json(shapes)
    body = b'{"At":"2026-01-02T03:04:05.678Z","Own":"Fri, 02 Jan 2026 03:04:05 GMT"}'
    values = {"At": 1767323045678, "Own": 1767323045000}
    assert wire.encoder("Input")(values) == body
    assert wire.decoder("Input")(body) == values
    assert wire.decoder("Input")(b'{"At": 1767323045.678, "Own": "1767323045"}') == values


@given(st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999))
def test_a_timestamp_in_text_is_read_as_it_was_written(epoch_ms: int) -> None:
    assert parse_timestamp(format_timestamp(epoch_ms, "iso8601")) == epoch_ms
    if epoch_ms >= 0:
        assert parse_timestamp(format_timestamp(epoch_ms, "rfc822")) == epoch_ms // 1000 * 1000
        assert parse_timestamp(format_timestamp(epoch_ms, "unixTimestamp")) == epoch_ms


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "20260102T030405Zx", "Fri, 99 Jan 2026"])
def test_text_that_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(SerializationError, match="can not be converted to a timestamp"):
        parse_timestamp(text)


@pytest.mark.parametrize("text", ["9" * 400, "1e999999999"])
def test_a_timestamp_that_does_not_fit_is_the_last_one(text: str) -> None:
    assert parse_timestamp(text) == (1 << 63) - 1


# -- Java's patterns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "version"), [("kinesis", "2013-12-02"), ("lambda", "2015-03-31"), ("logs", "2014-03-28")]
)
def test_every_pattern_of_the_models_can_be_translated(service: str, version: str) -> None:
    model = ServiceModel.load(service, version)
    for shape in model.shapes.values():
        if shape.pattern is not None:
            java_matcher(shape.pattern)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (
            r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*",
            ["", "aZ09 _-@", "üñ漢字", "\u2028\u00a0", "Ⅷ²", "\U0001d400"],
            ["&", "€", "a\x00", "😀", "e\u0301"],
        ),
        (r"\p{Lu}+", ["ABC", "Ä"], ["a", "ä", "1"]),
        (r"\pL", ["a", "漢"], ["1", "ab"]),
        (r"\P{L}+", ["12 €", "😀"], ["a", "1a"]),
        (r"[^\p{L}]+", ["12 €"], ["a", "漢"]),
        (r"[\P{L}a]+", ["1a", "€"], ["b", "漢"]),
        (r"\p{IsN}\p{Sc}", ["1€", "²$"], ["€1"]),
        (r"\p{Alpha}\p{Punct}\p{XDigit}", ["a!F"], ["ä!F"]),
        (r"\\p{3}", ["\\ppp"], ["p"]),
        (r"[\w-_]*", ["a-_"], ["+"]),
        (r"[\d-]+", ["1-2"], ["a"]),
        (r"a.c", ["abc", "a\tc"], ["a\nc", "a\rc", "a\u2028c", "a\x85c"]),
        (r"[.]\.", [".."], ["a."]),
        (r"[\u0020-\uD7FF\uD800\uDC00-\uDBFF\uDFFF]+", ["a漢", "😀"], ["\n"]),
        (r"[\s\S]+", ["a\n漢"], [""]),
        (r"a$", ["a"], ["a\n", "b"]),
    ],
)
def test_a_pattern_matches_what_java_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = java_matcher(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in others if matches(text)] == []


@pytest.mark.parametrize(
    "pattern",
    [r"\p{Greek}", r"\p{Xx}", r"\p{}", r"[a-z&&[^b]]", r"[a[bc]]", r"[\p{L}ü]", r"[\p{L}\u00fc]", r"\h", "(", "[a"],
)
def test_a_pattern_that_cannot_be_translated_is_refused(pattern: str) -> None:
    with pytest.raises((ValueError, re.error)):
        java_matcher(pattern)
