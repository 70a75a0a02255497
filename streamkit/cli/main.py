"""`streamkit`: finds the command, parses its options, runs it."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import os
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

from streamkit._version import __version__
from streamkit.config import Config
from streamkit.model.errors import StreamkitError, UsageError

# In the order of the help page. Only the module of the command that is called is imported.
COMMANDS: Final = {
    "serve": "serve a data directory as Kinesis",
    "create": "create a stream",
    "list": "list streams",
    "describe": "show a stream and its shards",
    "delete": "delete a stream and its records",
    "put": "put a record, or each line of standard input",
    "load": "put the rows of a JSON-lines or CSV file",
    "tail": "print records as they arrive",
    "reshard": "split or merge shards, or change their number",
    "up": "make the streams, functions, deliveries and mappings of a file",
    "functions": "list, make and change functions",
    "invoke": "run a function once",
    "logs": "print what functions logged",
    "mappings": "list, make and change what ties streams to functions",
    "deliver": "deliver a stream to files, a table or an endpoint",
    "deliveries": "list deliveries, flush, delete and put to them",
    "lake": "look after delivered files: merge small ones",
    "verify": "check a data directory, every byte",
    "bench": "measure an endpoint",
    "version": "print the version",
}
_TIME_AGO: Final = re.compile(r"-\d+[smhd]")


class _Parser(argparse.ArgumentParser):
    """A mistake is an error like any other, and says what was probably meant."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0] if "unrecognized" in message else ""
        hint = _did_you_mean(unknown.partition("=")[0], _options_of(self))
        raise UsageError(f"{message}{hint}; `{self.prog} --help` shows how it is used")


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Those of its verbs, too: what a verb does not know, its command complains of."""
    options: list[str] = []
    for action in parser._actions:
        options += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            options += [option for verb in action.choices.values() for option in _options_of(verb)]
    return options


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
        status = _run(name, rest)
        sys.stdout.flush()  # here, where a reader that has gone is expected
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


def _run(name: str, arguments: list[str]) -> int:
    command = _command(name)
    parser = _Parser(
        prog=f"streamkit {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    # argparse leaves words behind options alone, unless it is asked: `sql run --json FILE`.
    parse = parser.parse_intermixed_args if getattr(command, "WORDS_ANYWHERE", False) else parser.parse_args
    options = parse(_with_times_ago(arguments))
    status: int = command.run(options, Config.load(os.environ, Path.cwd()))
    return status


def _with_times_ago(arguments: list[str]) -> list[str]:
    """`--from -10m` as `--from=-10m`: argparse would take `-10m` for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and _TIME_AGO.fullmatch(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _command(name: str) -> ModuleType:
    if name in COMMANDS:
        return importlib.import_module(f"streamkit.cli.{name}")
    more = entry_points(group="streamkit.commands")
    if name in more.names:
        module: ModuleType = more[name].load()
        return module
    hint = _did_you_mean(name, [*COMMANDS, *more.names])
    raise UsageError(f"there is no command {name!r}{hint}; `streamkit --help` lists them")


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1) if word else []
    return f"; did you mean {near[0]}?" if near else ""


def _overview() -> str:
    lines = [f"streamkit {__version__}: Kinesis-style streams in one process", "", "usage: streamkit COMMAND [options]"]
    lines.append("")
    installed = {each.name: _summary(each) for each in sorted(entry_points(group="streamkit.commands"))}
    lines += [f"  {name:<14}{text}" for name, text in {**COMMANDS, **installed}.items()]
    return "\n".join([*lines, "", "`streamkit COMMAND --help` shows a command's options and an example."])


def _summary(command: EntryPoint) -> str:
    """What an installed command says of itself first, read and not imported: a page of help loads no engine."""
    try:
        spec = find_spec(command.module)
        source = b"" if spec is None or spec.origin is None else Path(spec.origin).read_bytes()
        said = ast.get_docstring(ast.parse(source)) or ""
    except (ImportError, OSError, SyntaxError):
        return f"of {command.value}, which cannot be read"
    first = said.partition("\n")[0].partition(":")[0].rstrip(".")
    return first[:1].lower() + first[1:]


if __name__ == "__main__":
    sys.exit(main())
