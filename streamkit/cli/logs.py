"""Print what functions logged, and with --follow go on as they log more.

Lines come in the order of their times, over all environments of a function. Ctrl-C ends it. --filter takes a filter
pattern of CloudWatch Logs: a word, "a phrase", ?one ?of ?these, -without, { $.level = "error" }.

example:
  streamkit logs count --since 10m
  streamkit logs count --follow --filter ERROR
  streamkit logs count --json | jq -r .message
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any, Final

from streamkit.cli.common import add_endpoint, open_functions, print_json, time_ago, time_text
from streamkit.config import Config, boolean
from streamkit.kit.lambda_client import LambdaClient
from streamkit.model.errors import ResourceNotFound

POLL_S: Final = 0.25
LOOK_BACK_MS: Final = 2_000  # a server shows lines at once: only a clock that is set back makes later ones older
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="FUNCTION", help="the function; one that is deleted may still have logs")
    add("--follow", action="store_true", default=None, help="go on with new lines as they come")
    add(
        "--since",
        type=time_ago,
        metavar="AGO",
        help="how far back: 10m (s, m, h or d) (default: all that is kept; with --follow from now on)",
    )
    add("--filter", metavar="PATTERN", help="only events that match")
    add("--json", action="store_true", default=None, help="one JSON object a line: timestamp, stream, message")
    add_endpoint(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    follow = config.value("follow", options.follow, boolean, False)
    as_json = config.value("json", options.json, boolean, False)
    pattern = config.value("filter", options.filter, str, "")
    since = config.value("since", options.since, _since, None)

    async def print_all() -> None:
        async with open_functions(options, config) as functions:
            source = _Source(functions, await _group_of(functions, options.name), pattern or None)
            if not follow:
                async for events in source.pages(_epoch_ms(since)):
                    _print(events, as_json=as_json)
                return
            async for events in _followed(source, since):
                _print(events, as_json=as_json)

    try:
        asyncio.run(print_all())
    except KeyboardInterrupt:
        if not follow:
            raise
    return 0


def _since(text: str) -> datetime | None:
    try:
        return time_ago(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from None


def _epoch_ms(at: datetime | None) -> int:
    return 0 if at is None else round(at.timestamp() * 1000)


async def _group_of(functions: LambdaClient, name: str) -> str:
    """Where a function logs to. Raises ResourceNotFound where there is neither function nor log."""
    default = f"/aws/lambda/{name}"
    try:
        found = await functions.call("GetFunctionConfiguration", {"FunctionName": name})
    except ResourceNotFound as error:
        groups = await functions.logs("DescribeLogGroups", {"logGroupNamePrefix": default})
        if not any(group["logGroupName"] == default for group in groups["logGroups"]):
            raise ResourceNotFound(f"{error}; `streamkit functions` lists those that are there") from None
        return default
    group: str = found["LoggingConfig"]["LogGroup"]
    return group


class _Source:
    """The events of a log group that match a pattern."""

    def __init__(self, functions: LambdaClient, group: str, pattern: str | None) -> None:
        self._functions = functions
        self._values = {"logGroupName": group, "filterPattern": pattern}

    async def pages(self, start_ms: int) -> AsyncIterator[list[dict[str, Any]]]:
        """All that are there, in order. None of a function that has not logged yet."""
        token: str | None = None
        while True:
            values = {**self._values, "startTime": start_ms, "nextToken": token}
            try:
                page = await self._functions.logs("FilterLogEvents", values)
            except ResourceNotFound:  # the group comes with the first line
                return
            yield page["events"]
            token = page.get("nextToken")
            if not token:
                return


class Cursor:
    """Which events of a growing log were seen: it is read from `start_ms` on again and again, and `new` says what of
    that is new.

    No event twice; none left out whose time is at most LOOK_BACK_MS before that of one that was seen earlier.
    """

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self._seen: dict[str, int] = {}
        self._newest_ms = start_ms + LOOK_BACK_MS

    def new(self, events: Iterable[dict[str, Any]], now_ms: int) -> list[dict[str, Any]]:
        found = [event for event in events if event["eventId"] not in self._seen]
        for event in found:
            self._seen[event["eventId"]] = event["timestamp"]
            self._newest_ms = max(self._newest_ms, event["timestamp"])
        # Not past now: an event may be put with a time to come, and what is logged until then is older.
        start_ms = max(self.start_ms, min(self._newest_ms, now_ms) - LOOK_BACK_MS)
        if start_ms > self.start_ms:
            self.start_ms = start_ms
            self._seen = {event_id: at_ms for event_id, at_ms in self._seen.items() if at_ms >= start_ms}
        return found


async def _followed(source: _Source, since: datetime | None) -> AsyncIterator[list[dict[str, Any]]]:
    """New events as they come, for ever; without `since` those from now on."""
    now_ms = _now_ms()
    cursor = Cursor(now_ms - LOOK_BACK_MS if since is None else _epoch_ms(since))
    if since is None:
        async for events in source.pages(cursor.start_ms):
            cursor.new(events, now_ms)
    while True:
        async for events in source.pages(cursor.start_ms):
            yield cursor.new(events, _now_ms())
        await asyncio.sleep(POLL_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _print(events: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    is_terminal = sys.stdout.isatty()
    for event in events:
        message = event["message"].rstrip("\n")
        if as_json:
            print_json(
                {"timestamp": time_text(event["timestamp"]), "stream": event["logStreamName"], "message": message}
            )
            continue
        message = message.replace("\r", "\n")  # so AWS's runtime ends the lines within one event
        print(f"{_DIM}{time_text(event['timestamp'])}{_PLAIN} {message}" if is_terminal else message)
    sys.stdout.flush()
