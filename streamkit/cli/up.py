"""Make the streams, functions, deliveries and mappings of a pipeline file, or change them to what it says.

Without --endpoint it serves a data directory as `streamkit serve` does, until Ctrl-C, and takes all of its options.
With --endpoint a running server is brought to what the file says. The whole file is checked before anything is done;
done a second time it changes nothing; and nothing is ever deleted: what is no longer in the file stays as it is. With
--reload it goes on: code that is saved is given to its function, and a file that is saved is done again.

example:
  streamkit up pipeline.toml --data ./data --reload
  streamkit up pipeline.toml --endpoint http://127.0.0.1:4566

the file:
  [stream.clicks]                  what is left out is left alone where the stream is there
  shards = 2                       1 where it is made
  retention_hours = 24             24 to 8,760

  [function.count]                 what is left out has its default
  code = "functions/count"         a directory, a .py file or a zip, relative to the file
  handler = "app.handler"          MODULE.FUNCTION
  runtime = "python3.11"           one of AWS's; default: this Python's
  timeout_s = 3                    1 to 900
  memory_mib = 128                 128 to 10,240
  variables = { LEVEL = "info" }   its environment variables
  layers = []                      ARNs of layer versions
  reserved_concurrency = 10        default: none reserved

  [mapping.clicks-to-count]        found again by stream and function: the name is for people
  stream = "clicks"
  function = "count"               or with a version or an alias: "count:live"
  start = "TRIM_HORIZON"           or "LATEST", or a time with an offset; counts only when it is made
  batch_size = 100                 1 to 10,000
  batching_window_s = 0            0 to 300
  parallelization_factor = 1       1 to 10
  retries_max = -1                 0 to 10,000; -1: as long as the record is kept
  record_age_s_max = -1            60 to 604,800; -1: any age
  bisect = false                   halve a batch that failed
  report_item_failures = false     the function says from which record on it failed
  tumbling_window_s = 0            0 to 900
  filters = [{ data = { type = ["sale"] } }]   or JSON text, where a pattern has null
  on_failure = "stream:failed"     or an ARN

  [delivery.clicks-to-lake]        what is left out has its default
  stream = "clicks"                what it delivers
  to = "lake"                      a directory, relative to the file; s3://bucket/folder, delta+DIR_OR_URL,
                                   iceberg+DIR_OR_URL, https://, splunk+https://, opensearch+https://
  format = "parquet"               json (a record a line), parquet, orc, or records (as they are); default: json
  columns = { id = "bigint", tags = "array<string>" }   Hive's types; default: found in the first records
  compression = "ZSTD"             of json GZIP, ZIP, SNAPPY, HADOOP_SNAPPY, ZSTD, default: none; of parquet ZSTD
                                   (its default), SNAPPY, GZIP; of orc SNAPPY (its default), ZLIB, ZSTD
  prefix = "day=!{partitionKeyFromQuery:day}/"   AWS's expressions; default: a folder for each of the query's
                                   keys, or without a query 2026/01/31/09/
  error_prefix = "_errors/!{firehose:error-output-type}/"
  partition_by = "{day: .time[0:10]}"   a jq query; a file for each value of its keys
  transform = "count"              a function that gets the records first, or with an alias: "count:live"
  size_mb = 64                     a file is written when so much is there,
  interval_s = 60                  or after this time
  start = "TRIM_HORIZON"           or "LATEST"; counts only when it is made
  time_zone = "UTC"                of times in prefixes
  manifest = false                 write lists of the files that were written together
  retry_s = 300                    how long an endpoint is tried; files are tried until it works
  extension = ".parquet"           default: that of the format
  options = { errors = "failed" }   the destination's own; errors: where goes what failed, a directory or s3://

  [delivery.audit]
  direct = true                    instead of a stream: records are put to the delivery stream itself
  to = "audit"
  delimiter = "\\n"                 what follows each record; default: a line end for json, nothing for records

Every option is also STREAMKIT_<OPTION> in the environment and a key in streamkit.toml.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamkit.cli import serve
from streamkit.cli.common import endpoint_of, print_json, say, scope_of
from streamkit.config import Config, boolean
from streamkit.kit.delivery_client import DeliveryClient
from streamkit.kit.lambda_client import InProcess, LambdaClient
from streamkit.kit.pipeline import FunctionPart, Pipeline, check_code, check_syntax, load
from streamkit.kit.provision import Done, Provisioner
from streamkit.model.errors import ResourceConflict, ServerError, ServerUnreachable, StreamkitError, UsageError
from streamkit.model.names import Scope

if TYPE_CHECKING:
    from streamkit.api.server import Server
    from streamkit.node import Node

RELOAD_POLL_S: Final = 1.0
_OF_BOTH: Final = ("account_id", "region", "log_level")  # options of a server that say something without one, too

Stamps = dict[Path, tuple[int, int, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the pipeline file, TOML")
    parser.add_argument("--endpoint", metavar="URL", help="a running server (default: serve a data directory)")
    parser.add_argument("--reload", action="store_true", default=None, help="follow what is saved: code, and the file")
    parser.add_argument("--json", action="store_true", default=None, help="print one JSON object for each part")
    serve.add_arguments(parser)


def run(options: argparse.Namespace, config: Config) -> int:
    scope = scope_of(options, config)
    pipeline = load(options.file, scope)
    printer = _print_json if config.value("json", options.json, boolean, False) else _print_line
    reloads = config.value("reload", options.reload, boolean, False)
    if not _serves(options, config):
        _refuse_options_of_a_server(options)
        return _change(pipeline, endpoint_of(options, config), scope, printer, reloads=reloads)
    return serve.run(options, config, _Guest(pipeline, scope, printer, reloads=reloads))


def _serves(options: argparse.Namespace, config: Config) -> bool:
    """Where a flag says which of the two is meant, no setting speaks against it."""
    if options.endpoint is not None:
        return False
    return options.data is not None or not config.value("endpoint", None, str, "")


def _refuse_options_of_a_server(options: argparse.Namespace) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    serve.add_arguments(parser)
    for action in parser._actions:
        if action.dest not in _OF_BOTH and getattr(options, action.dest) is not None:
            raise UsageError(
                f"{action.option_strings[0]} is for the server that `streamkit up` starts, and --endpoint says that "
                "one runs already: leave one of them out"
            )


def _print_line(done: Done) -> None:
    print(done.text, flush=True)


def _print_json(done: Done) -> None:
    print_json(
        {"kind": done.kind, "name": done.name, "outcome": done.outcome, "changes": done.changes, "note": done.note}
    )
    sys.stdout.flush()  # the server goes on, and a reader waits


# -- a running server ------------------------------------------------------------------------------------------------


def _change(pipeline: Pipeline, endpoint: str, scope: Scope, printer: Callable[[Done], None], *, reloads: bool) -> int:
    from streamkit.kit.remote import RemoteBackend

    async def change() -> None:
        reloader = _Reloader(pipeline, scope, printer)
        backend = RemoteBackend(endpoint, scope)
        async with LambdaClient(endpoint, scope) as functions, DeliveryClient(endpoint, scope) as deliveries:
            try:
                provisioner = Provisioner(backend, functions, deliveries, scope, printer)
                await provisioner.check(pipeline)
                await provisioner.make(pipeline)
                if reloads:
                    await reloader.run(provisioner)
            finally:
                await backend.close()

    try:
        asyncio.run(change())
    except KeyboardInterrupt:
        if not reloads:  # else it is how it is meant to end
            raise
    return 0


# -- a server of this process ----------------------------------------------------------------------------------------


class _Guest:
    """See `streamkit.cli.serve.Guest`. Functions get their code before anything runs them; deliveries and mappings come
    when all runs."""

    def __init__(self, pipeline: Pipeline, scope: Scope, printer: Callable[[Done], None], *, reloads: bool) -> None:
        self._pipeline = pipeline
        self._scope = scope
        self._printer = printer
        self._reloader = _Reloader(pipeline, scope, printer) if reloads else None
        self._provisioner: Provisioner | None = None

    async def prepare(self, node: Node) -> None:
        from streamkit.kit.embedded import EmbeddedBackend

        backend = EmbeddedBackend.over(node.directory, self._scope)
        await backend.start()
        inside = InProcess(node, self._scope)
        functions, deliveries = LambdaClient(inside, self._scope), DeliveryClient(inside, self._scope)
        self._provisioner = Provisioner(backend, functions, deliveries, self._scope, self._printer)
        await self._provisioner.check(self._pipeline)
        await self._provisioner.make_streams(self._pipeline)
        await self._provisioner.make_functions(self._pipeline)

    async def attend(self, server: Server) -> None:
        assert self._provisioner is not None, "a server is prepared before it is attended to"
        await self._provisioner.make_deliveries(self._pipeline)
        await self._provisioner.make_mappings(self._pipeline)
        if self._reloader is not None:
            await self._reloader.run(self._provisioner)


# -- reloading -------------------------------------------------------------------------------------------------------


class _Reloader:
    """Gives functions their code when it was changed, and does the file again when that was. What was changed since
    this was made counts."""

    def __init__(self, pipeline: Pipeline, scope: Scope, printer: Callable[[Done], None]) -> None:
        self._path = pipeline.path
        self._scope = scope
        self._printer = printer
        self._functions = pipeline.functions
        self._file = stamps_of(pipeline.path)
        self._stamps = {part.name: stamps_of(part.code) for part in pipeline.functions}
        self._told: dict[str, str] = {}

    async def run(self, provisioner: Provisioner) -> None:
        """For ever."""
        provisioner.on_done = self._print_done
        functions = ", ".join(part.name for part in self._functions)
        say(f"watching {f'the code of {functions}, and ' if functions else ''}{self._path}")
        while True:
            await asyncio.sleep(RELOAD_POLL_S)
            await self._look_at_file(provisioner)
            for part in self._functions:
                await self._look(part, provisioner)

    def _print_done(self, done: Done) -> None:
        """What is left alone was told the first time."""
        if done.outcome != "left alone":
            self._printer(done)

    async def _look_at_file(self, provisioner: Provisioner) -> None:
        stamps = await asyncio.to_thread(stamps_of, self._path)
        if stamps == self._file or not stamps:
            return
        try:
            pipeline = await asyncio.to_thread(load, self._path, self._scope)
            code = {part.name: await asyncio.to_thread(stamps_of, part.code) for part in pipeline.functions}
            await provisioner.check(pipeline)
            await provisioner.make(pipeline)
        except StreamkitError as error:
            self._tell(str(self._path), f"the file is not done: {error}")
            if isinstance(error, ServerError | ServerUnreachable | ResourceConflict):
                return  # to try again
        else:
            self._told.pop(str(self._path), None)
            self._functions, self._stamps = pipeline.functions, code
        self._file = stamps

    async def _look(self, part: FunctionPart, provisioner: Provisioner) -> None:
        stamps = await asyncio.to_thread(stamps_of, part.code)
        known = self._stamps[part.name]
        if stamps == known or not stamps:  # none: it is being replaced
            return
        try:
            changed = [path for path, stamp in stamps.items() if known.get(path) != stamp and path.suffix == ".py"]
            if part.runtime.startswith("python"):
                await asyncio.to_thread(check_syntax, changed)
            await asyncio.to_thread(check_code, part)
            updated = await provisioner.give_code(part)
        except StreamkitError as error:
            self._tell(part.name, f"function {part.name} keeps its code: {error}")
            if isinstance(error, ServerError | ServerUnreachable | ResourceConflict):
                return  # to try again
        else:
            self._told.pop(part.name, None)
            if updated:
                say(f"function {part.name} changed: code")
        self._stamps[part.name] = stamps

    def _tell(self, what: str, text: str) -> None:
        """Once, though it may be tried every second."""
        if self._told.get(what) != text:
            say(text)
        self._told[what] = text


def stamps_of(path: Path) -> Stamps:
    """By file: what differs when it was saved since. Empty where there is nothing."""
    from streamkit.functions.code import files_of

    stamps: Stamps = {}
    try:
        for file in files_of(path) if path.is_dir() else (path,):
            status = file.stat() if file.exists() else file.lstat()  # a link may lead nowhere
            stamps[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:  # a file went while its directory was read: the next look sees what there is
        return {}
    return stamps
