"""CloudWatch Logs: AWS's operations over `streamkit.functions.logs`, as far as readers of functions' logs need them.

Values come checked against the service model; what a function returns is encoded by it. Operations that are in the
model and not here are answered by name as not implemented.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from streamkit.api.codec import Decode, Json
from streamkit.api.gateway import Action, FastPath
from streamkit.api.service_model import ServiceModel
from streamkit.clock import Clock
from streamkit.functions import logs_patterns
from streamkit.functions.logs import FIRST_KEY, FunctionLogs, GroupDescription, Key, LogEvent, StreamDescription
from streamkit.model.errors import InvalidParameter, ResourceNotFound, ValidationError
from streamkit.model.limits import (
    LOG_DESCRIBE_MAX,
    LOG_EVENT_BYTES_MAX,
    LOG_EVENT_OVERHEAD_BYTES,
    LOG_EVENTS_PER_PAGE_MAX,
    LOG_EVENTS_PER_PUT_MAX,
    LOG_PUT_BYTES_MAX,
    LOG_PUT_FUTURE_MS_MAX,
    LOG_PUT_PAST_MS_MAX,
)
from streamkit.model.names import Scope

Values = dict[str, Any]
Operation = Callable[["Logs", Scope, Values], Awaitable[Mapping[str, Any]]]

_OPERATIONS: Final[dict[str, Operation]] = {}
_GROUP_ARN: Final = re.compile(r"arn:aws[^:]*:logs:([^:]*):([0-9]{12}):log-group:([^:*]+)(?::\*)?")
_BAD_TOKEN: Final = "The specified nextToken is invalid."
_RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
_NEXT_SEQUENCE_TOKEN: Final = "49039859598591519239494059485940594859405948594059485940"
"""AWS gives one and looks at none any more."""


class _LogsJson(Json):
    """AWS JSON 1.1, where what the model forbids is an InvalidParameterException."""

    def decoder(self, shape: str | None) -> Decode:
        inner = super().decoder(shape)

        def decode(body: bytes) -> dict[str, Any]:
            try:
                return inner(body)
            except ValidationError as error:
                raise InvalidParameter(error.message) from None

        return decode


def operation(name: str) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        _OPERATIONS[name] = function
        return function

    return register


class Logs:
    """See `streamkit.api.gateway.JsonService`."""

    def __init__(self, logs: FunctionLogs, clock: Clock) -> None:
        self.model = ServiceModel.load("logs", "2014-03-28", _LogsJson)
        self.logs = logs
        self.clock = clock

    @property
    def actions(self) -> Mapping[str, Action]:
        return {name: _bound(self, function) for name, function in _OPERATIONS.items()}

    @property
    def fast_paths(self) -> Mapping[str, FastPath]:
        return {}


def _bound(logs: Logs, function: Operation) -> Action:
    return lambda scope, given: function(logs, scope, given)


def _group_of(scope: Scope, given: Values) -> tuple[Scope, str]:
    """Which group is meant, by name or ARN; whether it exists is another question."""
    name, identifier = given.get("logGroupName"), given.get("logGroupIdentifier")
    if name is not None and identifier is not None:
        raise ValidationError("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
    if name is not None:
        return scope, name
    if identifier is None:
        raise InvalidParameter("Either logGroupName or logGroupIdentifier must be specified.")
    return _identified(scope, identifier)


def _identified(scope: Scope, identifier: str) -> tuple[Scope, str]:
    """A group's name, or its ARN with or without the ending `:*`."""
    if not identifier.startswith("arn:"):
        return scope, identifier
    match = _GROUP_ARN.fullmatch(identifier)
    if match is None:
        raise InvalidParameter(f"The ARN {identifier} is no log group's.")
    return Scope(match[2], match[1]), match[3]


def _group_arn(scope: Scope, name: str) -> str:
    return f"arn:aws:logs:{scope.region}:{scope.account}:log-group:{name}"


# -- groups ----------------------------------------------------------------------------------------------------------


@operation("CreateLogGroup")
async def create_log_group(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    logs.logs.create_group(scope, given["logGroupName"], tags=given.get("tags"))
    return {}


@operation("DeleteLogGroup")
async def delete_log_group(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    logs.logs.delete_group(scope, given["logGroupName"])
    return {}


@operation("DescribeLogGroups")
async def describe_log_groups(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    prefix, pattern = given.get("logGroupNamePrefix"), given.get("logGroupNamePattern")
    if prefix is not None and pattern is not None:
        raise InvalidParameter("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    names = logs.logs.groups(scope, prefix or "")
    if pattern:  # found anywhere in the name, in any case
        names = [name for name in names if pattern.lower() in name.lower()]
    if given.get("logGroupIdentifiers"):
        wanted = {_identified(scope, identifier) for identifier in given["logGroupIdentifiers"]}
        names = [name for name in names if (scope, name) in wanted]
    page, token = _page_of_names(names, given)
    described = [logs.logs.describe_group(scope, name) for name in page]
    return {"logGroups": [_group_fields(scope, group) for group in described], "nextToken": token}


def _group_fields(scope: Scope, group: GroupDescription) -> Mapping[str, Any]:
    arn = _group_arn(scope, group.name)
    return {
        "logGroupName": group.name,
        "creationTime": group.created_at_ms,
        "retentionInDays": group.retention_days,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "storedBytes": group.stored_bytes,
        "logGroupClass": "STANDARD",
        "deletionProtectionEnabled": False,
    }


@operation("PutRetentionPolicy")
async def put_retention_policy(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    days = given["retentionInDays"]
    if days not in _RETENTION_DAYS:
        allowed = ", ".join(map(str, _RETENTION_DAYS))
        raise InvalidParameter(
            f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{allowed}]"
        )
    logs.logs.set_retention(scope, given["logGroupName"], days)
    return {}


@operation("DeleteRetentionPolicy")
async def delete_retention_policy(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    logs.logs.set_retention(scope, given["logGroupName"], None)
    return {}


@operation("TagResource")
async def tag_resource(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, name = _identified(scope, given["resourceArn"])
    logs.logs.set_tags(at, name, {**logs.logs.describe_group(at, name).tags, **given["tags"]})
    return {}


@operation("UntagResource")
async def untag_resource(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, name = _identified(scope, given["resourceArn"])
    kept = {key: value for key, value in logs.logs.describe_group(at, name).tags.items() if key not in given["tagKeys"]}
    logs.logs.set_tags(at, name, kept)
    return {}


@operation("ListTagsForResource")
async def list_tags_for_resource(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, name = _identified(scope, given["resourceArn"])
    return {"tags": dict(logs.logs.describe_group(at, name).tags)}


# -- streams ---------------------------------------------------------------------------------------------------------


@operation("CreateLogStream")
async def create_log_stream(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    logs.logs.create_stream(scope, given["logGroupName"], given["logStreamName"])
    return {}


@operation("DeleteLogStream")
async def delete_log_stream(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    logs.logs.delete_stream(scope, given["logGroupName"], given["logStreamName"])
    return {}


@operation("DescribeLogStreams")
async def describe_log_streams(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, group = _group_of(scope, given)
    prefix = given.get("logStreamNamePrefix")
    by_time = given.get("orderBy") == "LastEventTime"
    if by_time and prefix is not None:
        raise InvalidParameter("Cannot order by LastEventTime with a logStreamNamePrefix.")
    streams = logs.logs.describe_streams(at, group, prefix or "")
    if by_time:
        streams.sort(key=lambda stream: (stream.last_event_ms or 0, stream.name))
    if given.get("descending"):
        streams.reverse()
    by_name = {stream.name: stream for stream in streams}
    page, token = _page_of_names(list(by_name), given)
    arn = _group_arn(at, group)
    return {"logStreams": [_stream_fields(arn, by_name[name]) for name in page], "nextToken": token}


def _stream_fields(group_arn: str, stream: StreamDescription) -> Mapping[str, Any]:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created_at_ms,
        "firstEventTimestamp": stream.first_event_ms,
        "lastEventTimestamp": stream.last_event_ms,
        "lastIngestionTime": stream.last_ingested_ms,
        "uploadSequenceToken": None if stream.last_event_ms is None else _NEXT_SEQUENCE_TOKEN,
        "arn": f"{group_arn}:log-stream:{stream.name}",
        "storedBytes": 0,  # AWS reports no more than this of a stream since 2019
    }


def _page_of_names(names: list[str], given: Values) -> tuple[list[str], str | None]:
    """A page of a list, whatever it is sorted by: the token is the last name that was given."""
    token = given.get("nextToken")
    if token is not None:
        if token not in names:
            raise InvalidParameter(_BAD_TOKEN)
        names = names[names.index(token) + 1 :]
    page = names[: given.get("limit", LOG_DESCRIBE_MAX)]
    return page, page[-1] if len(page) < len(names) else None


# -- events ----------------------------------------------------------------------------------------------------------


@operation("PutLogEvents")
async def put_log_events(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    events = [(event["timestamp"], event["message"].encode()) for event in given["logEvents"]]
    timestamps = [timestamp for timestamp, _ in events]
    if len(events) > LOG_EVENTS_PER_PUT_MAX or (
        sum(len(message) + LOG_EVENT_OVERHEAD_BYTES for _, message in events) > LOG_PUT_BYTES_MAX
    ):
        raise InvalidParameter(f"Upload too large: it must be at most {LOG_PUT_BYTES_MAX} bytes.")
    if any(len(message) + LOG_EVENT_OVERHEAD_BYTES > LOG_EVENT_BYTES_MAX for _, message in events):
        raise InvalidParameter(f"Log event too large: it must be at most {LOG_EVENT_BYTES_MAX} bytes.")
    if timestamps != sorted(timestamps):
        raise InvalidParameter("Log events in a single PutLogEvents request must be in chronological order.")
    now_ms = logs.clock.now_ms()
    group, stream = given["logGroupName"], given["logStreamName"]
    days = logs.logs.describe_group(scope, group).retention_days
    too_old = sum(timestamp < now_ms - LOG_PUT_PAST_MS_MAX for timestamp in timestamps)
    expired = 0 if days is None else sum(timestamp < now_ms - days * 86_400_000 for timestamp in timestamps)
    too_new = sum(timestamp > now_ms + LOG_PUT_FUTURE_MS_MAX for timestamp in timestamps)
    logs.logs.put(scope, group, stream, events[max(too_old, expired) : len(events) - too_new])
    rejected = {
        "tooOldLogEventEndIndex": too_old or None,
        "expiredLogEventEndIndex": expired or None,
        "tooNewLogEventStartIndex": len(events) - too_new if too_new else None,
    }
    return {
        "nextSequenceToken": _NEXT_SEQUENCE_TOKEN,
        "rejectedLogEventsInfo": rejected if any(value is not None for value in rejected.values()) else None,
    }


@operation("GetLogEvents")
async def get_log_events(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, group = _group_of(scope, given)
    stream = given["logStreamName"]
    if not logs.logs.has_stream(at, group, stream):
        raise ResourceNotFound("The specified log stream does not exist.")
    token = given.get("nextToken")
    side, seen = ("", None) if token is None else _read_token(token)
    events, _ = await logs.logs.events(
        at,
        group,
        streams=[stream],
        start_ms=given.get("startTime"),
        end_ms=given.get("endTime"),
        limit=given.get("limit", LOG_EVENTS_PER_PAGE_MAX),
        after=seen if side == "f" else None,
        before=seen if side == "b" else None,
        from_end=side == "b" or (side == "" and not given.get("startFromHead")),
    )
    # At an end the token stays what it was: that is how readers know that they are there.
    first, last = (events[0].key, events[-1].key) if events else (seen or FIRST_KEY, seen or FIRST_KEY)
    return {
        "events": [
            {"timestamp": event.timestamp_ms, "message": event.message, "ingestionTime": event.ingested_ms}
            for event in events
        ],
        "nextForwardToken": f"f/{last}/s",
        "nextBackwardToken": f"b/{first}/s",
    }


def _read_token(token: str) -> tuple[str, Key]:
    side, _, rest = token.partition("/")
    key = Key.parse(rest.removesuffix("/s"))
    if side not in ("f", "b") or key is None:
        raise InvalidParameter(_BAD_TOKEN)
    return side, key


@operation("FilterLogEvents")
async def filter_log_events(logs: Logs, scope: Scope, given: Values) -> Mapping[str, Any]:
    at, group = _group_of(scope, given)
    names, prefix = given.get("logStreamNames"), given.get("logStreamNamePrefix")
    if names is not None and prefix is not None:
        raise InvalidParameter("LogStreamNamePrefix and LogStreamNames are mutually exclusive parameters.")
    if names is not None and not all(logs.logs.has_stream(at, group, name) for name in names):
        raise ResourceNotFound("The specified log stream does not exist.")
    matches = logs_patterns.parse(given.get("filterPattern", ""))
    token = given.get("nextToken")
    after = None if token is None else Key.parse(token)
    if token is not None and after is None:
        raise InvalidParameter(_BAD_TOKEN)
    events, has_more = await logs.logs.events(
        at,
        group,
        streams=names,
        prefix=prefix,
        start_ms=given.get("startTime"),
        end_ms=given.get("endTime"),
        matches=matches,
        limit=given.get("limit", LOG_EVENTS_PER_PAGE_MAX),
        after=after,
    )
    return {
        "events": [_filtered_fields(event) for event in events],
        "searchedLogStreams": [],  # AWS fills it no more since 2019
        "nextToken": str(events[-1].key) if has_more else None,
    }


def _filtered_fields(event: LogEvent) -> Mapping[str, Any]:
    return {
        "logStreamName": event.stream,
        "timestamp": event.timestamp_ms,
        "message": event.message,
        "ingestionTime": event.ingested_ms,
        "eventId": str(event.key),
    }
