"""`streamkit`: finds the command, parses its options, runs it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from streamkit._version import __version__
from streamkit.config import Config
from streamkit.model.errors import StreamkitError, UsageError

# In the order of the help page. Only the module of the command that is called is imported.
COMMANDS: Final = {
    "serve": "serve a data directory as Kinesis",
    "create": "create a stream",
    "list": "list streams",
    "describe": "show a stream and its shards",
    "put": "put a record, or each line of standard input",
    "load": "put the rows of a JSON-lines or CSV file",
    "tail": "print records as they arrive",
    "reshard": "split or merge shards, or change their number",
    "verify": "check a data directory, every byte",
    "bench": "measure an endpoint",
    "version": "print the version",
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        name = "version"
    try:
        command = _command(name)
        parser = argparse.ArgumentParser(
            prog=f"streamkit {name}",
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(parser)
        options = parser.parse_args(rest)
        status: int = command.run(options, Config.load(os.environ, Path.cwd()))
    except UsageError as error:
        print(f"streamkit {name}: {error}", file=sys.stderr)
        return 2
    except StreamkitError as error:
        print(f"streamkit {name}: {error.code}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def _command(name: str) -> ModuleType:
    if name in COMMANDS:
        return importlib.import_module(f"streamkit.cli.{name}")
    more = entry_points(group="streamkit.commands")
    if name in more.names:
        module: ModuleType = more[name].load()
        return module
    raise UsageError(f"there is no command {name!r}; `streamkit --help` lists them")


def _overview() -> str:
    lines = [f"streamkit {__version__}: Kinesis-style streams in one process", "", "usage: streamkit COMMAND [options]"]
    lines.append("")
    lines += [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", "`streamkit COMMAND --help` shows a command's options and an example."])


if __name__ == "__main__":
    sys.exit(main())
