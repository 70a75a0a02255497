"""Every command explains itself: what it does, an example that holds, every option."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import streamkit.cli
from streamkit.cli.main import COMMANDS, main

HELPERS = {"__init__", "common", "load_generator", "main", "rows"}


def parser_of(command: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamkit", exit_on_error=False, allow_abbrev=False)
    command.add_arguments(parser)
    return parser


def examples_of(command: ModuleType) -> list[list[str]]:
    """The words after `streamkit`, of each line of the example and each part of a pipe."""
    text = (command.__doc__ or "").partition("\nexample:\n")[2]
    lines = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    parts = [part.strip() for line in lines for part in re.split(r" \| (?=streamkit|jq)", line)]
    return [shlex.split(part)[1:] for part in parts if part.startswith("streamkit ")]


@pytest.fixture(params=[*COMMANDS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def command(name: str) -> ModuleType:
    return importlib.import_module(f"streamkit.cli.{name}")


def test_every_module_of_the_command_line_is_a_command_in_the_overview() -> None:
    directory = Path(streamkit.cli.__file__ or "").parent
    assert {path.stem for path in directory.glob("*.py")} - HELPERS == set(COMMANDS)


def test_a_command_says_in_one_sentence_what_it_does(command: ModuleType) -> None:
    first_line = (command.__doc__ or "").partition("\n\n")[0]
    assert re.match(r"[A-Z].*[.:]", first_line, re.DOTALL)


def test_a_command_shows_an_example_that_its_own_options_accept(name: str, command: ModuleType) -> None:
    examples = examples_of(command)
    assert examples, "no line of the example begins with streamkit"
    for words in examples:
        assert words[0] == name
        arguments = [word.replace("--from", "--from=-10m") for word in words[1:] if word != "-10m"]
        parser_of(command).parse_args(arguments)


def test_every_option_has_a_text_that_fits_its_kind(command: ModuleType) -> None:
    for action in parser_of(command)._actions:
        assert action.help, f"{action.option_strings or action.dest} has no help"
        assert action.help == action.help.strip()


def test_options_are_long_and_of_whole_words(command: ModuleType) -> None:
    options = [option for action in parser_of(command)._actions for option in action.option_strings]
    assert {option for option in options if not re.fullmatch(r"--[a-z][a-z0-9]*(-[a-z]+)*", option)} <= {"-h"}


def test_help_prints_the_description_with_the_example_and_exits_0(
    name: str, command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code in (0, None)
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: streamkit {name}")
    assert (command.__doc__ or "?").strip() in printed


def test_the_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, text in COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, text] for line in lines)
