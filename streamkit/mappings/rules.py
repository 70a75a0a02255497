"""AWS's rules about event source mappings of streams, with AWS's words. Pure: they look and raise.

`given` is a request of CreateEventSourceMapping or UpdateEventSourceMapping, by AWS's member names; a member that is
None was not given, timestamps are epoch milliseconds. Texts are AWS's answers, recorded by people who test against it;
where none is known, the text keeps their form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import msgspec

from streamkit.mappings.filters import FilterCriteria, InvalidFilter
from streamkit.mappings.state import MappingSettings, MappingState, Status
from streamkit.model.errors import (
    InvalidParameterValue,
    NotImplementedHere,
    ResourceConflict,
    ResourceInUse,
    ResourceNotFound,
    ValidationError,
)
from streamkit.model.limits import (
    MAPPING_BATCH_RECORDS_MAX,
    MAPPING_BATCHING_WINDOW_S_MAX,
    MAPPING_FILTERS_MAX,
    MAPPING_PARALLELIZATION_MAX,
    MAPPING_RECORD_AGE_S_MAX,
    MAPPING_RECORD_AGE_S_MIN,
    MAPPING_RETRIES_MAX,
    MAPPING_TAGS_MAX,
    MAPPING_TUMBLING_WINDOW_S_MAX,
)
from streamkit.model.names import ConsumerArn, FunctionArn, Scope, StreamArn
from streamkit.sources.source import StartingPosition

Given = Mapping[str, Any]

_NUMBERS: Final = {  # member: field, least, most
    "BatchSize": ("batch_records_max", 1, MAPPING_BATCH_RECORDS_MAX),
    "MaximumBatchingWindowInSeconds": ("batching_window_s", 0, MAPPING_BATCHING_WINDOW_S_MAX),
    "ParallelizationFactor": ("parallelization_factor", 1, MAPPING_PARALLELIZATION_MAX),
    "MaximumRecordAgeInSeconds": ("record_age_s_max", -1, MAPPING_RECORD_AGE_S_MAX),
    "MaximumRetryAttempts": ("retries_max", -1, MAPPING_RETRIES_MAX),
    "TumblingWindowInSeconds": ("tumbling_window_s", 0, MAPPING_TUMBLING_WINDOW_S_MAX),
}
_FOR_OTHER_SOURCES: Final = (
    "AmazonManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "LoggingConfig",
    "ProvisionedPollerConfig",
    "Queues",
    "ScalingConfig",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "Topics",
)
_SOURCES_TO_COME: Final = {
    "dynamodb": "DynamoDB streams",
    "kafka": "Amazon MSK",
    "mq": "Amazon MQ",
    "rds": "Amazon DocumentDB",
    "sqs": "Amazon SQS",
}
_METRICS: Final = ("EventCount",)  # the others are Kafka's
_REPORT: Final = "ReportBatchItemFailures"
_BEGIN_ANEW: Final = (  # what retries under way were made of
    "function_arn",
    "filters",
    "batch_records_max",
    "bisects",
    "parallelization_factor",
    "tumbling_window_s",
)


# -- sources and functions -------------------------------------------------------------------------------------------


def require_source(given: Given) -> str:
    """The ARN of a stream or of a registered consumer; whether it exists is another question."""
    if given.get("SelfManagedEventSource"):
        raise _not_yet("self-managed Apache Kafka")
    arn: str = given.get("EventSourceArn") or ""
    if StreamArn.parse(arn) is not None or ConsumerArn.parse(arn) is not None:
        return arn
    _, _, service, *_ = [*arn.split(":", 3), "", "", ""]
    if service in _SOURCES_TO_COME:
        raise _not_yet(f"{_SOURCES_TO_COME[service]} ({arn})")
    raise InvalidParameterValue("Unrecognized event source.")


def _not_yet(source: str) -> NotImplementedHere:
    return NotImplementedHere(
        f"streamkit has no event source mappings for {source} yet. It has them for Kinesis data streams "
        "(arn:aws:kinesis:REGION:ACCOUNT:stream/NAME) and their registered consumers."
    )


def source_not_found(arn: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"{'Stream' if StreamArn.parse(arn) else 'Consumer'} not found: {arn}")


def parse_function(text: str, scope: Scope) -> FunctionArn:
    """By name, partial ARN or ARN, each with or without a qualifier; whether it exists is another question."""
    arn = FunctionArn.parse(text, scope)
    if arn is None:
        raise function_does_not_exist()
    return arn


def function_does_not_exist() -> InvalidParameterValue:
    return InvalidParameterValue("Function does not exist")


def require_unique(mappings: Iterable[MappingState], source_arn: str, function: FunctionArn) -> None:
    """One mapping per source and function; a version or an alias is another function."""
    for state in mappings:
        pending = None if state.pending is None else state.pending.settings
        functions = {settings.function_arn for settings in (state.settings, pending) if settings is not None}
        if state.source_arn == source_arn and str(function) in functions:
            raise ResourceConflict(
                f'The event source arn (" {source_arn} ") and function (" {function.name} ") provided mapping already '
                f"exists. Please update or delete the existing mapping with UUID {state.id}"
            )


# -- where to begin --------------------------------------------------------------------------------------------------


def require_starting_position(given: Given, now_ms: int) -> tuple[StartingPosition, int | None]:
    """The position, and the instant for AT_TIMESTAMP."""
    position, at_ms = given.get("StartingPosition"), given.get("StartingPositionTimestamp")
    if position is None:
        raise _null("startingPosition")
    if position not in get_args(StartingPosition):
        raise ValidationError(
            f"1 validation error detected: Value '{position}' at 'startingPosition' failed to satisfy constraint: "
            "Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
        )
    if position != "AT_TIMESTAMP":
        if at_ms is not None:
            raise InvalidParameterValue("Timestamp only valid with StartingPosition AT_TIMESTAMP")
        return position, None
    if at_ms is None:
        raise _null("startingPositionTimestamp")
    if at_ms < 0:
        raise InvalidParameterValue(
            "Received Exception while reading from provided stream. class java.lang.Long can not be converted to a "
            "Timestamp"
        )
    if at_ms > now_ms:
        raise InvalidParameterValue("StartingPositionTimestamp cannot be in the future.")
    return position, at_ms


def _null(member: str) -> InvalidParameterValue:
    """AWS says this one as an invalid parameter value, in the words of a validation error."""
    return InvalidParameterValue(
        f"1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null."
    )


# -- settings --------------------------------------------------------------------------------------------------------


def with_changes(settings: MappingSettings, given: Given) -> MappingSettings:
    """The settings with what was given. Whether function and destination exist is another question.

    An empty destination, an empty KMS key and empty filters take away what was there.
    """
    for member in _FOR_OTHER_SOURCES:
        if given.get(member):
            raise _unsupported(member)
    changes: dict[str, Any] = _numbers(given)
    if (enabled := given.get("Enabled")) is not None:
        changes["enabled"] = enabled
    if (bisects := given.get("BisectBatchOnFunctionError")) is not None:
        changes["bisects"] = bisects
    if (types := given.get("FunctionResponseTypes")) is not None:
        changes["reports_item_failures"] = _reports_item_failures(types)
    if (criteria := given.get("FilterCriteria")) is not None:
        changes["filters"] = _patterns(criteria)
    if (destinations := given.get("DestinationConfig")) is not None:
        changes["on_failure_arn"] = _on_failure(destinations)
    if (metrics := given.get("MetricsConfig")) is not None:
        changes["metrics"] = _metrics(metrics)
    if (key := given.get("KMSKeyArn")) is not None:
        changes["kms_key_arn"] = key or None
    changed = msgspec.structs.replace(settings, **changes)
    if changed.tumbling_window_s and changed.parallelization_factor > 1:
        # The state of a window is one per shard, and lanes would each make their own.
        raise InvalidParameterValue("ParallelizationFactor must be 1 when TumblingWindowInSeconds is set.")
    return changed


def begins_anew(before: MappingSettings, after: MappingSettings) -> bool:
    """Whether retries under way no longer fit: other records, other batches, or somebody else to process them."""
    return any(getattr(before, field) != getattr(after, field) for field in _BEGIN_ANEW)


def status_until(before: MappingSettings, after: MappingSettings) -> Status:
    """What a mapping is called until an update takes effect."""
    if before.enabled == after.enabled:
        return "Updating"
    return "Enabling" if after.enabled else "Disabling"


def _numbers(given: Given) -> dict[str, int]:
    numbers = {field: given[member] for member, (field, _, _) in _NUMBERS.items() if given.get(member) is not None}
    faults = [
        f"Value '{numbers[field]}' at '{member[0].lower()}{member[1:]}' failed to satisfy constraint: Member must have "
        f"value {f'greater than or equal to {least}' if numbers[field] < least else f'less than or equal to {most}'}"
        for member, (field, least, most) in _NUMBERS.items()
        if field in numbers and not least <= numbers[field] <= most
    ]
    if faults:
        plural = "error" if len(faults) == 1 else "errors"
        raise ValidationError(f"{len(faults)} validation {plural} detected: {'; '.join(faults)}")
    if -1 < numbers.get("record_age_s_max", -1) < MAPPING_RECORD_AGE_S_MIN:
        raise InvalidParameterValue(
            f"MaximumRecordAgeInSeconds must be either -1 (forever) or between {MAPPING_RECORD_AGE_S_MIN} and "
            f"{MAPPING_RECORD_AGE_S_MAX} (inclusive)"
        )
    return numbers


def _reports_item_failures(types: list[str]) -> bool:
    if any(each != _REPORT for each in types):
        raise ValidationError(
            f"1 validation error detected: Value '[{', '.join(types)}]' at 'functionResponseTypes' failed to satisfy "
            f"constraint: Member must satisfy constraint: [Member must satisfy enum value set: [{_REPORT}], "
            "Member must not be null]"
        )
    return bool(types)


def _patterns(criteria: Given) -> list[str]:
    patterns = [each.get("Pattern") for each in criteria.get("Filters") or []]
    if len(patterns) > MAPPING_FILTERS_MAX:
        raise InvalidParameterValue(
            f"An event source mapping has at most {MAPPING_FILTERS_MAX} filters; {len(patterns)} were given."
        )
    try:
        if not all(patterns):  # AWS refuses an empty one, too
            raise InvalidParameterValue("Invalid filter pattern definition.")
        FilterCriteria.parse(patterns)
    except InvalidFilter as error:
        raise InvalidParameterValue("Invalid filter pattern definition.") from error
    return patterns


def _on_failure(destinations: Given) -> str | None:
    if destinations.get("OnSuccess"):
        raise _unsupported("DestinationConfig")
    return (destinations.get("OnFailure") or {}).get("Destination") or None


def _metrics(config: Given) -> list[str]:
    metrics = list(config.get("Metrics") or [])
    if any(metric not in _METRICS for metric in metrics):
        raise _unsupported("MetricsConfig")
    return metrics


def _unsupported(member: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"Unsupported {member} parameter for given event source mapping type.")


# -- states ----------------------------------------------------------------------------------------------------------


def not_found() -> ResourceNotFound:
    return ResourceNotFound("The resource you requested does not exist.")


def require_settled(state: MappingState, verb: str) -> None:
    """AWS takes no update and no deletion while a change is under way. `verb` is "update" or "delete"."""
    if state.pending is not None:
        raise ResourceInUse(f"Cannot {verb} the event source mapping because it is in use.")


# -- tags ------------------------------------------------------------------------------------------------------------


def arn_not_found(arn: str) -> ResourceNotFound:
    """Operations on tags name a mapping by its ARN, and say so."""
    return ResourceNotFound(f"Event source mapping not found: {arn}")


def with_tags(known: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """The tags with more added or changed."""
    tags = {**known, **more}
    if len(tags) > MAPPING_TAGS_MAX:
        raise InvalidParameterValue("Number of tags exceeds resource tag limit.")
    return tags


def require_tags(tags: Mapping[str, str]) -> None:
    if not tags:
        raise InvalidParameterValue("An error occurred and the request cannot be processed.")
