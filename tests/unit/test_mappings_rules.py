"""AWS's rules about mappings of streams, each with AWS's text."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.mappings import rules
from streamkit.mappings.state import MappingPending, MappingSettings, MappingState
from streamkit.model.errors import (
    InvalidParameterValue,
    NotImplementedHere,
    RequestError,
    ResourceConflict,
    ResourceInUse,
    ValidationError,
)
from streamkit.model.names import FunctionArn, Scope

SCOPE = Scope("000000000000", "us-east-1")
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
CONSUMER = f"{STREAM}/consumer/c:1700000000"
FUNCTION = FunctionArn(SCOPE, "f", None)
SETTINGS = MappingSettings(str(FUNCTION))
NOW_MS = 1_700_000_000_000

UNSUPPORTED = "Unsupported {} parameter for given event source mapping type."
OUT_OF_RANGE = "1 validation error detected: Value '{}' at '{}' failed to satisfy constraint: Member must have value {}"


def refused(error: type[RequestError], **members: Any) -> str:
    with pytest.raises(error) as caught:
        rules.with_changes(SETTINGS, members)
    return caught.value.message


# -- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arn", [STREAM, CONSUMER])
def test_streams_and_their_consumers_are_sources(arn: str) -> None:
    assert rules.require_source({"EventSourceArn": arn}) == arn


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"EventSourceArn": "arn:aws:s3:::bucket"},
        {"EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:shelf/s"},
        {"EventSourceArn": "s"},
    ],
)
def test_what_is_no_event_source_is_not_recognised(source: dict[str, str]) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        rules.require_source(source)
    assert caught.value.message == "Unrecognized event source."


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:q"}, "Amazon SQS"),
        ({"EventSourceArn": "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/1"}, "DynamoDB streams"),
        ({"EventSourceArn": "arn:aws:kafka:us-east-1:000000000000:cluster/c/1"}, "Amazon MSK"),
        ({"EventSourceArn": "arn:aws:mq:us-east-1:000000000000:broker:b"}, "Amazon MQ"),
        ({"EventSourceArn": "arn:aws:rds:us-east-1:000000000000:cluster:c"}, "Amazon DocumentDB"),
        ({"SelfManagedEventSource": {"Endpoints": {}}}, "self-managed Apache Kafka"),
    ],
)
def test_sources_that_are_not_there_yet_are_named(source: dict[str, Any], name: str) -> None:
    with pytest.raises(NotImplementedHere, match=f"no event source mappings for {name}.* Kinesis data streams"):
        rules.require_source(source)


def test_a_source_that_is_missing_is_named() -> None:
    assert rules.source_not_found(STREAM).message == f"Stream not found: {STREAM}"
    assert rules.source_not_found(CONSUMER).message == f"Consumer not found: {CONSUMER}"


# -- functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arn"),
    [
        ("f", "arn:aws:lambda:us-east-1:000000000000:function:f"),
        ("f:2", "arn:aws:lambda:us-east-1:000000000000:function:f:2"),
        ("123456789012:function:f:$LATEST", "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f:a", "arn:aws:lambda:eu-west-1:123456789012:function:f:a"),
    ],
)
def test_a_function_is_named_as_in_all_of_lambda(text: str, arn: str) -> None:
    assert str(rules.parse_function(text, SCOPE)) == arn


def test_what_names_no_function_does_not_exist() -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        rules.parse_function("no such name", SCOPE)
    assert caught.value.message == "Function does not exist"


def state(mapping_id: str, settings: MappingSettings, pending: MappingSettings | None = None) -> MappingState:
    change = None if pending is None else MappingPending(5, pending)
    return MappingState(mapping_id, *SCOPE, STREAM, "LATEST", settings, "Enabled", 1, 1, pending=change)


def test_a_second_mapping_of_source_and_function_is_refused_with_the_id_of_the_first() -> None:
    with pytest.raises(ResourceConflict) as caught:
        rules.require_unique([state("the-id", SETTINGS)], STREAM, FUNCTION)
    assert caught.value.message == (
        f'The event source arn (" {STREAM} ") and function (" f ") provided mapping already exists. Please update or '
        "delete the existing mapping with UUID the-id"
    )


def test_a_function_that_a_mapping_is_about_to_get_counts_as_its_own() -> None:
    other = msgspec.structs.replace(SETTINGS, function_arn=f"{FUNCTION}:2")
    rules.require_unique([state("a", other)], STREAM, FUNCTION)
    with pytest.raises(ResourceConflict):
        rules.require_unique([state("a", other, pending=SETTINGS)], STREAM, FUNCTION)


def test_other_qualifiers_and_other_sources_are_no_duplicates() -> None:
    rules.require_unique([state("a", SETTINGS)], STREAM, FUNCTION._replace(qualifier="2"))
    rules.require_unique([state("a", SETTINGS)], CONSUMER, FUNCTION)


# -- starting positions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (
            {},
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null.",
        ),
        (
            {"StartingPosition": "LATEST", "StartingPositionTimestamp": 5},
            "Timestamp only valid with StartingPosition AT_TIMESTAMP",
        ),
        (
            {"StartingPosition": "AT_TIMESTAMP"},
            "1 validation error detected: Value null at 'startingPositionTimestamp' failed to satisfy constraint: "
            "Member must not be null.",
        ),
        (
            {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": NOW_MS + 1},
            "StartingPositionTimestamp cannot be in the future.",
        ),
        (
            {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": -1},
            "Received Exception while reading from provided stream. class java.lang.Long can not be converted to a "
            "Timestamp",
        ),
    ],
)
def test_starting_positions_that_make_no_sense_are_refused(members: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        rules.require_starting_position(members, NOW_MS)
    assert caught.value.message == text


def test_a_starting_position_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        rules.require_starting_position({"StartingPosition": "MIDDLE"}, NOW_MS)
    assert caught.value.message == (
        "1 validation error detected: Value 'MIDDLE' at 'startingPosition' failed to satisfy constraint: Member must "
        "satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
    )


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"StartingPosition": "LATEST"}, ("LATEST", None)),
        ({"StartingPosition": "TRIM_HORIZON"}, ("TRIM_HORIZON", None)),
        ({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 0}, ("AT_TIMESTAMP", 0)),
        ({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": NOW_MS}, ("AT_TIMESTAMP", NOW_MS)),
    ],
)
def test_starting_positions_are_taken(members: dict[str, Any], expected: tuple[str, int | None]) -> None:
    assert rules.require_starting_position(members, NOW_MS) == expected


# -- settings --------------------------------------------------------------------------------------------------------


def test_defaults_are_aws_s_for_streams() -> None:
    assert rules.with_changes(SETTINGS, {}) == MappingSettings(
        str(FUNCTION),
        enabled=True,
        batch_records_max=100,
        batching_window_s=0,
        parallelization_factor=1,
        retries_max=-1,
        record_age_s_max=-1,
        bisects=False,
        reports_item_failures=False,
        tumbling_window_s=0,
    )


def test_all_that_is_given_is_taken() -> None:
    changed = rules.with_changes(
        SETTINGS,
        {
            "Enabled": False,
            "BatchSize": 5,
            "MaximumBatchingWindowInSeconds": 6,
            "ParallelizationFactor": 7,
            "MaximumRetryAttempts": 8,
            "MaximumRecordAgeInSeconds": 90,
            "BisectBatchOnFunctionError": True,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "FilterCriteria": {"Filters": [{"Pattern": '{"partitionKey": ["a"]}'}]},
            "DestinationConfig": {"OnFailure": {"Destination": STREAM}},
            "MetricsConfig": {"Metrics": ["EventCount"]},
            "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
        },
    )
    assert changed == MappingSettings(
        str(FUNCTION),
        enabled=False,
        batch_records_max=5,
        batching_window_s=6,
        parallelization_factor=7,
        retries_max=8,
        record_age_s_max=90,
        bisects=True,
        reports_item_failures=True,
        filters=['{"partitionKey": ["a"]}'],
        on_failure_arn=STREAM,
        metrics=["EventCount"],
        kms_key_arn="arn:aws:kms:us-east-1:000000000000:key/k",
    )


def test_what_is_not_given_stays_and_what_is_given_empty_goes() -> None:
    full = msgspec.structs.replace(
        SETTINGS,
        enabled=False,
        batch_records_max=5,
        reports_item_failures=True,
        filters=["{}"],
        on_failure_arn=STREAM,
        metrics=["EventCount"],
        kms_key_arn="k",
    )
    assert rules.with_changes(full, {}) == full
    emptied: dict[str, Any] = {
        "FunctionResponseTypes": [],
        "FilterCriteria": {"Filters": []},
        "DestinationConfig": {"OnFailure": {}},
        "MetricsConfig": {"Metrics": []},
        "KMSKeyArn": "",
    }
    bare = msgspec.structs.replace(SETTINGS, enabled=False, batch_records_max=5)
    assert rules.with_changes(full, emptied) == bare
    assert rules.with_changes(full, {**emptied, "FilterCriteria": {}, "DestinationConfig": {}}) == bare


RANGES = {
    "BatchSize": (1, 10_000),
    "MaximumBatchingWindowInSeconds": (0, 300),
    "ParallelizationFactor": (1, 10),
    "MaximumRetryAttempts": (-1, 10_000),
    "MaximumRecordAgeInSeconds": (-1, 604_800),
    "TumblingWindowInSeconds": (0, 900),
}


@pytest.mark.parametrize("member", RANGES)
def test_numbers_have_aws_s_ranges(member: str) -> None:
    least, most = RANGES[member]
    path = member[0].lower() + member[1:]
    for number in (least, most):
        assert rules.with_changes(SETTINGS, {member: number}) is not None
    too_small = OUT_OF_RANGE.format(least - 1, path, f"greater than or equal to {least}")
    too_large = OUT_OF_RANGE.format(most + 1, path, f"less than or equal to {most}")
    assert refused(ValidationError, **{member: least - 1}) == too_small
    assert refused(ValidationError, **{member: most + 1}) == too_large


def test_all_numbers_out_of_range_are_named_at_once() -> None:
    text = refused(ValidationError, BatchSize=0, ParallelizationFactor=11)
    assert text.startswith("2 validation errors detected: Value '0' at 'batchSize'")
    assert "; Value '11' at 'parallelizationFactor'" in text


@given(st.integers(-1, 604_800))
def test_a_record_age_is_endless_or_a_minute_at_least(age_s: int) -> None:
    if age_s == -1 or age_s >= 60:
        assert rules.with_changes(SETTINGS, {"MaximumRecordAgeInSeconds": age_s}).record_age_s_max == age_s
    else:
        assert refused(InvalidParameterValue, MaximumRecordAgeInSeconds=age_s) == (
            "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"
        )


def test_a_tumbling_window_and_lanes_exclude_one_another_also_over_two_changes() -> None:
    text = "ParallelizationFactor must be 1 when TumblingWindowInSeconds is set."
    assert refused(InvalidParameterValue, TumblingWindowInSeconds=1, ParallelizationFactor=2) == text
    windowed = rules.with_changes(SETTINGS, {"TumblingWindowInSeconds": 60, "ParallelizationFactor": 1})
    with pytest.raises(InvalidParameterValue, match="must be 1"):
        rules.with_changes(windowed, {"ParallelizationFactor": 2})
    assert rules.with_changes(windowed, {"ParallelizationFactor": 2, "TumblingWindowInSeconds": 0}) is not None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ScalingConfig", {"MaximumConcurrency": 2}),
        ("ProvisionedPollerConfig", {"MinimumPollers": 1}),
        ("SourceAccessConfigurations", [{"Type": "BASIC_AUTH", "URI": "arn"}]),
        ("Topics", ["t"]),
        ("Queues", ["q"]),
        ("AmazonManagedKafkaEventSourceConfig", {"ConsumerGroupId": "g"}),
        ("SelfManagedKafkaEventSourceConfig", {"ConsumerGroupId": "g"}),
        ("DocumentDBEventSourceConfig", {"DatabaseName": "d"}),
        ("LoggingConfig", {"SystemLogLevel": "INFO"}),
        ("MetricsConfig", {"Metrics": ["KafkaMetrics"]}),
        ("MetricsConfig", {"Metrics": ["EventCount", "ErrorCount"]}),
        ("DestinationConfig", {"OnSuccess": {"Destination": STREAM}}),
    ],
)
def test_what_streams_do_not_take_is_refused_by_name(member: str, value: Any) -> None:
    assert refused(InvalidParameterValue, **{member: value}) == UNSUPPORTED.format(member)


def test_what_streams_do_not_take_may_be_given_empty() -> None:
    assert rules.with_changes(SETTINGS, {"Topics": [], "ScalingConfig": {}}) == SETTINGS


def test_a_response_type_that_is_none_is_refused() -> None:
    assert refused(ValidationError, FunctionResponseTypes=["Other"]).startswith(
        "1 validation error detected: Value '[Other]' at 'functionResponseTypes' failed to satisfy constraint: "
    )


@pytest.mark.parametrize("pattern", ["[invalid", "", None, '{"data": "text"}', "[]", '{"a": 1}'])
def test_a_filter_that_is_no_pattern_is_refused(pattern: str | None) -> None:
    good = {"Pattern": '{"data": {"a": [1]}}'}
    text = refused(InvalidParameterValue, FilterCriteria={"Filters": [good, {"Pattern": pattern}]})
    assert text == "Invalid filter pattern definition."


def test_there_are_ten_filters_at_most() -> None:
    filters = [{"Pattern": f'{{"data": {{"a": [{number}]}}}}'} for number in range(11)]
    assert len(rules.with_changes(SETTINGS, {"FilterCriteria": {"Filters": filters[:10]}}).filters) == 10
    assert "at most 10 filters; 11 were given" in refused(InvalidParameterValue, FilterCriteria={"Filters": filters})


# -- updates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "begins"),
    [
        ("function_arn", "other", True),
        ("filters", ["{}"], True),
        ("batch_records_max", 1, True),
        ("bisects", True, True),
        ("parallelization_factor", 2, True),
        ("tumbling_window_s", 2, True),
        ("enabled", False, False),
        ("batching_window_s", 3, False),
        ("retries_max", 3, False),
        ("record_age_s_max", 60, False),
        ("reports_item_failures", True, False),
        ("on_failure_arn", STREAM, False),
        ("metrics", ["EventCount"], False),
        ("kms_key_arn", "k", False),
    ],
)
def test_retries_begin_anew_where_their_records_or_their_function_change(field: str, value: Any, begins: bool) -> None:
    changed = msgspec.structs.replace(SETTINGS, **{field: value})
    assert rules.begins_anew(SETTINGS, changed) is begins


def test_every_setting_is_known_to_begin_retries_anew_or_not() -> None:
    """So that a setting that is added is not forgotten in the test before this one."""
    assert len(MappingSettings.__struct_fields__) == 14


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (True, True, "Updating"),
        (False, False, "Updating"),
        (True, False, "Disabling"),
        (False, True, "Enabling"),
    ],
)
def test_a_change_is_called_by_what_it_does(before: bool, after: bool, status: str) -> None:
    def settings(enabled: bool) -> MappingSettings:
        return msgspec.structs.replace(SETTINGS, enabled=enabled)

    assert rules.status_until(settings(before), settings(after)) == status


def test_a_mapping_in_transition_takes_no_change() -> None:
    rules.require_settled(state("a", SETTINGS), "update")
    for verb in ("update", "delete"):
        with pytest.raises(ResourceInUse) as caught:
            rules.require_settled(state("a", SETTINGS, pending=SETTINGS), verb)
        assert caught.value.message == f"Cannot {verb} the event source mapping because it is in use."


# -- tags ------------------------------------------------------------------------------------------------------------


def test_there_are_fifty_tags_at_most() -> None:
    fifty = {str(number): "v" for number in range(50)}
    assert rules.with_tags({"0": "old"}, fifty) == fifty
    with pytest.raises(InvalidParameterValue) as caught:
        rules.with_tags(fifty, {"one more": ""})
    assert caught.value.message == "Number of tags exceeds resource tag limit."


def test_tagging_with_nothing_is_refused() -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        rules.require_tags({})
    assert caught.value.message == "An error occurred and the request cannot be processed."
