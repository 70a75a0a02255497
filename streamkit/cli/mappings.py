"""List the mappings that tie streams to functions, make and change them.

A mapping is named by its UUID, or by its function and stream; the function is enough where it has only one.

example:
  streamkit mappings
  streamkit mappings create count clicks --batch-size 500 --on-failure failed --filter '{"data": {"type": ["sale"]}}'
  streamkit mappings create count clicks --from -10m
  streamkit mappings update count clicks --retries 3 --bisect
  streamkit mappings disable count
  streamkit mappings describe count --json | jq -r .last_result
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from streamkit.cli.common import (
    add_endpoint,
    is_meant,
    open_functions,
    print_json,
    print_table,
    say,
    scope_of,
    starting_position,
    time_text,
    verb_parsers,
)
from streamkit.config import Config, boolean
from streamkit.kit.consumer import Start
from streamkit.kit.lambda_client import LambdaClient
from streamkit.model.errors import ResourceNotFound, UsageError
from streamkit.model.names import FunctionArn, Scope, StreamArn

Given = Mapping[str, Any]

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBERS: Final = {  # option: member of the API
    "batch_size": "BatchSize",
    "batching_window": "MaximumBatchingWindowInSeconds",
    "parallelization_factor": "ParallelizationFactor",
    "retries": "MaximumRetryAttempts",
    "record_age": "MaximumRecordAgeInSeconds",
    "tumbling_window": "TumblingWindowInSeconds",
}
_NO_MORE: Final = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", default=None, help="print JSON, one object a line")
    parser.add_argument("--function", help="list only those of this function")
    parser.add_argument("--stream", help="list only those of this stream")
    add_endpoint(parser)
    verb = verb_parsers(parser, "mappings")
    add = verb("list", "list mappings (this is what is done without a verb)").add_argument
    add("--function", default=argparse.SUPPRESS, help="only those of this function")
    add("--stream", default=argparse.SUPPRESS, help="only those of this stream")
    create = verb("create", "tie a stream to a function")
    create.add_argument("function", metavar="FUNCTION", help="its name, perhaps with a version or an alias: count:live")
    create.add_argument("stream", metavar="STREAM", help="its name, or the ARN of a registered consumer")
    create.add_argument(
        "--from",
        dest="start",
        type=starting_position,
        metavar="WHERE",
        help="where to begin: TRIM_HORIZON, LATEST, -10m (s, m, h, d ago) or a time like 2026-01-31T09:00 "
        "(default: TRIM_HORIZON)",
    )
    create.add_argument("--disabled", action="store_true", help="do not run it yet")
    _add_settings(create.add_argument)
    _add_settings(_named(verb("update", "change a mapping; what is not given stays as it is")).add_argument)
    _named(verb("enable", "go on where it stopped"))
    _named(verb("disable", "stop after the batches under way, and remember where"))
    _named(verb("describe", "show a mapping"))
    _named(verb("delete", "delete a mapping, and how far it came")).add_argument(
        "--yes", action="store_true", help="do not ask"
    )


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("mapping", metavar="MAPPING", help="its UUID, or its function")
    parser.add_argument("stream", nargs="?", metavar="STREAM", help="its stream, if the function has several mappings")
    return parser


def _add_settings(add: Callable[..., object]) -> None:
    add("--batch-size", type=int, metavar="N", help="most records in a batch, 1 to 10000 (default: 100)")
    add("--batching-window", type=int, metavar="SECONDS", help="how long a batch may gather, 0 to 300 (default: 0)")
    add("--parallelization-factor", type=int, metavar="N", help="batches of a shard at once, 1 to 10 (default: 1)")
    add("--retries", type=int, metavar="N", help="of a batch that failed, 0 to 10000; -1 without end (default: -1)")
    add("--record-age", type=int, metavar="SECONDS", help="leave out older records; -1 for any age (default: -1)")
    add("--bisect", action=argparse.BooleanOptionalAction, help="halve a batch that failed (default: no)")
    add(
        "--report-item-failures",
        action=argparse.BooleanOptionalAction,
        help="the function says from which record on it failed (default: no)",
    )
    add("--tumbling-window", type=int, metavar="SECONDS", help="1 to 900; 0 for none (default: 0)")
    add("--filter", action="append", metavar="JSON", help="a pattern; several are ORed; none for no filter")
    add("--on-failure", metavar="STREAM_OR_ARN", help="where what failed for good is told; none for nowhere")


def run(options: argparse.Namespace, config: Config) -> int:
    verb = options.verb or "list"

    async def do() -> int:
        async with open_functions(options, config) as functions:
            return await _VERBS[verb](functions, options, config)

    return asyncio.run(do())


# -- looking ---------------------------------------------------------------------------------------------------------


async def _list(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    found = await _found(functions, options.function, options.stream, scope_of(options, config))
    if _is_json(options, config):
        for each in found:
            print_json(_fields(each))
    elif found:
        rows = [
            (
                _name_of(each["EventSourceArn"], "/"),
                _name_of(each["FunctionArn"], ":function:"),
                each["State"],
                each["LastProcessingResult"],
                each["UUID"],
            )
            for each in found
        ]
        print_table(("STREAM", "FUNCTION", "STATE", "LAST RESULT", "UUID"), rows)
    else:
        say("no mappings; `streamkit mappings create FUNCTION STREAM` makes one")
    return 0


async def _describe(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    _show(await _one(functions, options, config), options, config)
    return 0


def _show(found: Given, options: argparse.Namespace, config: Config) -> None:
    fields = _fields(found)
    if _is_json(options, config):
        print_json(fields)
        return
    for key, value in fields.items():
        if value not in (None, []):
            shown = json.dumps(value) if isinstance(value, bool | list) else value
            print(f"{key:<24}{shown}")


def _fields(found: Given) -> dict[str, Any]:
    at_s = found.get("StartingPositionTimestamp")
    return {
        "uuid": found["UUID"],
        "stream": _name_of(found["EventSourceArn"], "/"),
        "stream_arn": found["EventSourceArn"],
        "function": _name_of(found["FunctionArn"], ":function:"),
        "function_arn": found["FunctionArn"],
        "state": found["State"],
        "last_result": found["LastProcessingResult"],
        "start": found["StartingPosition"] if at_s is None else time_text(round(at_s * 1000)),
        "batch_size": found["BatchSize"],
        "batching_window_s": found["MaximumBatchingWindowInSeconds"],
        "parallelization_factor": found["ParallelizationFactor"],
        "retries_max": found["MaximumRetryAttempts"],
        "record_age_s_max": found["MaximumRecordAgeInSeconds"],
        "bisect": found["BisectBatchOnFunctionError"],
        "report_item_failures": bool(found["FunctionResponseTypes"]),
        "tumbling_window_s": found["TumblingWindowInSeconds"],
        "filters": [json.loads(each["Pattern"]) for each in found.get("FilterCriteria", {}).get("Filters", [])],
        "on_failure": found["DestinationConfig"].get("OnFailure", {}).get("Destination"),
        "modified_at": time_text(round(found["LastModified"] * 1000)),
    }


def _name_of(arn: str, mark: str) -> str:
    """`clicks` of a stream's ARN, `count:live` of a function's."""
    return arn.partition(mark)[2] or arn


def _is_json(options: argparse.Namespace, config: Config) -> bool:
    as_json: bool = config.value("json", options.json, boolean, False)
    return as_json


async def _found(
    functions: LambdaClient, function: str | None, stream: str | None, scope: Scope
) -> list[dict[str, Any]]:
    """Those of a function, whatever the qualifier unless one is given, and of a stream."""
    values = {"EventSourceArn": None if stream is None else _source_arn(stream, scope)}
    found = await functions.all("ListEventSourceMappings", "EventSourceMappings", values)
    if function is None:
        return found
    wanted = _function_arn(function, scope)
    arns = [(FunctionArn.parse(each["FunctionArn"]), each) for each in found]
    return [
        each
        for arn, each in arns
        if arn is not None and (arn == wanted or (wanted.qualifier is None and arn._replace(qualifier=None) == wanted))
    ]


async def _one(functions: LambdaClient, options: argparse.Namespace, config: Config) -> dict[str, Any]:
    """The mapping that is meant, when no change of it is under way. Raises ResourceNotFound, UsageError."""
    mapping, stream = options.mapping, options.stream
    if _UUID.fullmatch(mapping) and stream is None:
        uuid = mapping
    else:
        found = await _found(functions, mapping, stream, scope_of(options, config))
        of_stream = f" of stream {stream}" if stream else ""
        if not found:
            raise ResourceNotFound(
                f"there is no mapping{of_stream} to function {mapping}; `streamkit mappings` lists those that are there"
            )
        if len(found) > 1:
            streams = ", ".join(f"{_name_of(each['EventSourceArn'], '/')} ({each['UUID']})" for each in found)
            raise UsageError(f"function {mapping} has {len(found)} mappings{of_stream}, of {streams}; say which")
        uuid = found[0]["UUID"]
    settled = await functions.settled_mapping(uuid)
    if settled is None:
        raise ResourceNotFound(f"there is no mapping {uuid}; `streamkit mappings` lists those that are there")
    return settled


def _source_arn(stream: str, scope: Scope) -> str:
    return stream if stream.startswith("arn:") else str(StreamArn(scope, stream))


def _function_arn(text: str, scope: Scope) -> FunctionArn:
    arn = FunctionArn.parse(text, scope)
    if arn is None:
        raise UsageError(f"{text!r} is neither the UUID of a mapping nor the name or the ARN of a function")
    return arn


# -- making and changing ---------------------------------------------------------------------------------------------


async def _create(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    scope = scope_of(options, config)
    start: Start = config.value("from", options.start, _position, "TRIM_HORIZON")
    values = {
        "EventSourceArn": _source_arn(options.stream, scope),
        "FunctionName": options.function,
        "StartingPosition": start,
        "Enabled": not options.disabled,
        **_settings(options, config),
    }
    if isinstance(start, datetime):
        values |= {"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": start.astimezone(UTC).timestamp()}
    arn = _function_arn(options.function, scope)  # AWS's own answer does not say which function is not there
    await functions.call("GetFunctionConfiguration", {"FunctionName": arn.name, "Qualifier": arn.qualifier})
    made = await functions.call("CreateEventSourceMapping", values)
    found = await functions.settled_mapping(made["UUID"])
    _print_changed(found or made, "made", options, config)
    return 0


def _position(text: str) -> Start:
    try:
        return starting_position(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from None


async def _update(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    settings = _settings(options, config)
    if not settings:
        raise UsageError("nothing to change was given; `streamkit mappings update --help` lists what there is")
    return await _change(functions, options, config, settings)


async def _enable(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    return await _change(functions, options, config, {"Enabled": True})


async def _disable(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    return await _change(functions, options, config, {"Enabled": False})


async def _change(functions: LambdaClient, options: argparse.Namespace, config: Config, values: Given) -> int:
    before = await _one(functions, options, config)
    changed = await functions.call("UpdateEventSourceMapping", {"UUID": before["UUID"], **values})
    found = await functions.settled_mapping(before["UUID"])
    _print_changed(found or changed, "changed", options, config)
    return 0


async def _delete(functions: LambdaClient, options: argparse.Namespace, config: Config) -> int:
    found = await _one(functions, options, config)
    what = f"the mapping of {_name_of(found['EventSourceArn'], '/')} to {_name_of(found['FunctionArn'], ':function:')}"
    if sys.stdin.isatty() and not options.yes and not is_meant(f"{what}, and how far it came"):
        say("nothing was deleted")
        return 1
    await functions.call("DeleteEventSourceMapping", {"UUID": found["UUID"]})
    await functions.settled_mapping(found["UUID"])
    say(f"{what} is deleted")
    return 0


def _settings(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    """What was given, by member."""
    settings: dict[str, Any] = {}
    for option, member in _NUMBERS.items():
        number: int | None = config.value(option, getattr(options, option), int, None)
        if number is not None:
            settings[member] = number
    bisects: bool | None = config.value("bisect", options.bisect, boolean, None)
    if bisects is not None:
        settings["BisectBatchOnFunctionError"] = bisects
    reports: bool | None = config.value("report_item_failures", options.report_item_failures, boolean, None)
    if reports is not None:
        settings["FunctionResponseTypes"] = ["ReportBatchItemFailures"] if reports else []
    if options.filter:
        patterns = [] if options.filter == [_NO_MORE] else options.filter
        settings["FilterCriteria"] = {"Filters": [{"Pattern": _checked(pattern)} for pattern in patterns]}
    target: str | None = config.value("on_failure", options.on_failure, str, None)
    if target is not None:
        arn = {} if target == _NO_MORE else {"Destination": _source_arn(target, scope_of(options, config))}
        settings["DestinationConfig"] = {"OnFailure": arn}
    return settings


def _checked(pattern: str) -> str:
    """A filter that will do, or an error that says where it will not."""
    from streamkit.mappings.filters import FilterCriteria, InvalidFilter

    try:
        FilterCriteria.parse([pattern])
    except InvalidFilter as error:
        raise UsageError(f"--filter is {pattern!r}; at {error.where}: {error.why}") from None
    return pattern


def _print_changed(found: Given, what: str, options: argparse.Namespace, config: Config) -> None:
    if _is_json(options, config):
        print_json(_fields(found))
        return
    stream, function = _name_of(found["EventSourceArn"], "/"), _name_of(found["FunctionArn"], ":function:")
    say(f"the mapping of {stream} to {function} is {what}, and {found['State']}: {found['UUID']}")


_VERBS: Final[Mapping[str, Callable[[LambdaClient, argparse.Namespace, Config], Awaitable[int]]]] = {
    "list": _list,
    "create": _create,
    "update": _update,
    "enable": _enable,
    "disable": _disable,
    "describe": _describe,
    "delete": _delete,
}
