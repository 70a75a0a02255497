"""The README is run: its sessions against a real server, its programs, its table of operations.

Each `console` block is a session: commands after `$`, and what they print. A `python` block is a program, and the
`text` block after it is what it prints. What differs from run to run (sequence numbers, instants, rates) is masked on
both sides.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from streamkit.api.kinesis import _OPERATIONS
from streamkit.api.service_model import ServiceModel
from streamkit.testing.server import ServerProcess

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
PORT: Final = "4566"
TIMEOUT_S: Final = 60

MASKS: Final = (
    (re.compile(r"\b\d{56}\b"), "<sequence number>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<instant>"),
    (re.compile(r"\d+\.\d s, [\d,]+ a second"), "<time and rate>"),
)


class Block(NamedTuple):
    language: str
    text: str


class Step(NamedTuple):
    command: str
    output: str


def blocks() -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]


def steps(text: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output)


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, where a session may leave things."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """A user's after `. .venv/bin/activate`, without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STREAMKIT_"))}
    bin_folder = str(Path(sys.executable).parent)
    return {**kept, "PATH": f"{bin_folder}:{os.environ['PATH']}", "AWS_EC2_METADATA_DISABLED": "true"}


def test_the_sessions_print_what_the_readme_says(place: Path, environment: dict[str, str]) -> None:
    (serving, *others) = [list(steps(block.text)) for block in blocks() if block.language == "console"]
    (serve,) = serving
    arguments = shlex.split(serve.command)
    assert arguments == ["streamkit", "serve", "--data", "./data"]
    with ServerProcess(place / "data") as server:
        port = server.port
        announced = server.log.read_text().replace(f"{place}/", "").replace(str(port), PORT)
        assert announced.startswith(serve.output)
        environment["STREAMKIT_ENDPOINT"] = server.endpoint
        for session in others:
            check_session(session, place, environment, port)
        check_programs(place, environment, port)


def check_session(session: list[Step], place: Path, environment: dict[str, str], port: int) -> None:
    """One shell for the whole session, so that what it exports stays."""
    mark = "-- next --"
    script = "".join(f"{{ {step.command}\n}} 2>&1\necho '{mark}'\n" for step in session).replace(PORT, str(port))
    printed = output_of(["bash", "-c", script], place, environment).split(f"{mark}\n")
    for step, output in zip(session, printed[:-1], strict=True):
        output = output.replace(f"{place}/", "/home/ann/")
        assert masked(output).replace(str(port), PORT) == masked(step.output), f"$ {step.command}"


def check_programs(place: Path, environment: dict[str, str], port: int) -> None:
    found = blocks()
    programs = [
        (program.text, text.text)
        for program, text in pairwise(found)
        if (program.language, text.language) == ("python", "text")
    ]
    assert len(programs) == sum(block.language == "python" for block in found)
    environment |= dict(re.findall(r"\b(AWS_(?!ENDPOINT)\w+)=(\S+)", README))
    for program, expected in programs:
        assert output_of([sys.executable, "-c", program.replace(PORT, str(port))], place, environment) == expected
        if "./orders-data" in program:  # "the calls are the same"
            remote = program.replace('"./orders-data"', f'"http://127.0.0.1:{port}"')
            printed = output_of([sys.executable, "-c", remote], place, environment)
            assert sorted(printed.splitlines()) == sorted(expected.splitlines())


def output_of(command: list[str], place: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
    )
    printed = done.stdout.decode()
    assert done.returncode == 0, printed
    return printed


def test_the_table_of_operations_is_the_truth() -> None:
    rows = [line.split("|")[2:4] for line in README.splitlines() if re.match(r"\| [a-z]+ \|.*`[A-Z][a-zA-Z]+`", line)]
    yes, later = (sorted(name for row in rows for name in re.findall(r"`(\w+)`", row[column])) for column in (0, 1))
    model = ServiceModel.load("kinesis", "2013-12-02")
    there = {*_OPERATIONS, *(name for name in model.operations if name.endswith(("Channel", "Channels")))}
    assert yes == sorted(there)
    assert later == sorted(set(model.operations) - there)


def test_the_changelog_counts_the_operations_rightly() -> None:
    assert f"{len(_OPERATIONS)} operations" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
