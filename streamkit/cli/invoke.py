"""Run a function once with an event, and print what it returned.

If the function failed, its error object goes to standard error, and the exit status is 1.

example:
  streamkit invoke count '{"Records": []}'
  streamkit invoke count --file event.json --tail
  echo '{"n": 1}' | streamkit invoke count -
  streamkit invoke count '{}' --async
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TextIO

import orjson

from streamkit.cli.common import add_endpoint, open_functions, print_json
from streamkit.config import Config, boolean
from streamkit.kit.lambda_client import Invoked
from streamkit.model.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="FUNCTION", help="its name, perhaps with a version or an alias: count:live")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("event", nargs="?", metavar="EVENT_JSON", help="the event, or - for standard input (default: {})")
    what.add_argument("--file", type=Path, help="the event is in this file")
    add("--qualifier", help="the version or the alias to run (default: $LATEST)")
    add("--async", dest="asynchronous", action="store_true", default=None, help="do not wait; print the request id")
    add("--tail", action="store_true", default=None, help="print the end of its log to standard error")
    add("--json", action="store_true", default=None, help="print one JSON object with result, version and request id")
    add_endpoint(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    payload = _event(options, config)
    asynchronous = config.value("async", options.asynchronous, boolean, False)
    wants_tail = config.value("tail", options.tail, boolean, False)
    qualifier = config.value("qualifier", options.qualifier, str, "")
    if asynchronous and wants_tail:
        raise UsageError("--tail shows the log of what was waited for; with --async use `streamkit logs --follow`")

    async def invoke() -> Invoked:
        async with open_functions(options, config) as functions:
            return await functions.invoke(
                options.name,
                payload,
                qualifier=qualifier or None,
                asynchronously=asynchronous,
                wants_tail=wants_tail,
            )

    invoked = asyncio.run(invoke())
    if wants_tail:
        _write(sys.stderr, invoked.log_tail)
    as_json = config.value("json", options.json, boolean, False)
    if as_json:
        print_json(_fields(invoked, asynchronous=asynchronous))
    elif asynchronous:
        print(invoked.request_id)
    elif invoked.error is None:
        _write(sys.stdout, invoked.payload)
    if invoked.error is not None:
        _write(sys.stderr, invoked.payload)
        return 1
    return 0


def _event(options: argparse.Namespace, config: Config) -> bytes:
    path = config.value("file", options.file, Path, Path()) if options.event is None else Path()
    if path != Path():
        try:
            payload, where = path.read_bytes(), str(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    elif options.event == "-":
        payload, where = sys.stdin.buffer.read(), "standard input"
    else:
        payload, where = (options.event or "{}").encode(), "the event"
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where} is no JSON: {error}") from None
    return payload


def _fields(invoked: Invoked, *, asynchronous: bool) -> dict[str, object]:
    fields: dict[str, object] = {"request_id": invoked.request_id}
    if not asynchronous:
        fields["version"] = invoked.version
        fields["result" if invoked.error is None else "error"] = _value(invoked.payload)
    return fields


def _value(payload: bytes) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:  # a runtime of another language may return anything
        return payload.decode(errors="replace")


def _write(stream: TextIO, data: bytes) -> None:
    """Bytes as they are, on a line of their own."""
    stream.flush()
    stream.buffer.write(data if data.endswith(b"\n") else data + b"\n")
    stream.flush()
