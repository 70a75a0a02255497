"""The house's rules, checked over the tree: what reviewers would otherwise have to say again and again."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LINES_MAX: Final = 950

# Loaded by the module that needs them, when it is needed: `serve` answers within a second of being started.
HEAVY: Final = frozenset({"aiokafka", "boto3", "botocore", "duckdb", "numpy", "pandas", "pyarrow", "rich"})
# Imported as a whole when the first delivery stream starts; that a server does not do so is another test.
LATE: Final = {"streamkit/delivery/": {"pyarrow"}, "connectors/": HEAVY}

# Time, randomness and sleeping are passed in (see streamkit.clock), so that tests run in virtual time and repeat by
# a seed. `random.Random(seed)` is what is passed, and may be named anywhere.
BANNED_CALLS: Final = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "uuid": {"uuid1", "uuid4"},
    "os": {"urandom"},
    "secrets": None,
    "random": None,
}
ALLOWED_NAMES: Final = {"random": {"Random"}}
# The edges that hand the real thing in, each with why.
EDGES: Final = {
    "streamkit/clock.py": "is the clock",
    "streamkit/cli/": "a command is run by a person, in real time",
    "streamkit/node.py": "opens a real directory, with ids nobody can guess",
    "streamkit/streams/directory.py": "opens a real directory, with the machine's randomness for its secret",
    "streamkit/testing/server.py": "waits for a real process",
}

PATHS_OF_A_MACHINE: Final = re.compile(r"(?<![\w.])/(?:work|root|tmp/\w+)\b")
INDEX_HOSTS: Final = re.compile("|".join([r"pypi\.(?:org|python)", r"python" + r"hosted", r"files\.python"]))
TEXT_SUFFIXES: Final = {"", ".cfg", ".csv", ".ini", ".json", ".md", ".py", ".sql", ".toml", ".txt", ".yml", ".yaml"}


@cache
def files() -> tuple[Path, ...]:
    """What belongs to the project: as git sees it, and by hand where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        left_out = re.compile(r"(^|/)(\.\w[^/]*|__pycache__|build|dist|[^/]*\.egg-info)/")
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if name.startswith(".ci/") or not left_out.search(name)]
    else:
        names = [name for name in listed.split("\0") if name]
    return tuple(path for name in sorted(names) if (path := ROOT / name).is_file())


def texts() -> list[Path]:
    return [path for path in files() if path.suffix in TEXT_SUFFIXES and path.name != Path(__file__).name]


def modules() -> list[Path]:
    return [path for path in python_files() if path.relative_to(ROOT).parts[0] in ("streamkit", "connectors")]


def python_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_the_tree_is_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in files()}
    assert {"pyproject.toml", "README.md", ".ci/run", "streamkit/clock.py"} <= names
    assert not [name for name in names if name.startswith(".venv/")]


# -- time, randomness, imports ---------------------------------------------------------------------------------------


def banned_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    def is_banned(owner: str, name: str) -> bool:
        if owner not in BANNED_CALLS or name in ALLOWED_NAMES.get(owner, ()):
            return False
        names = BANNED_CALLS[owner]
        return names is None or name in names

    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    passed_in = {  # uses of a parameter that has a module's name, as in `def f(random: random.Random)`
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*function.args.args, *function.args.kwonlyargs)
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and node.id == argument.arg
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if isinstance(node.value, ast.Name) and owner not in imported:
                continue
            if id(node.value) in passed_in:
                continue
            if isinstance(node.value, ast.Attribute) and owner not in ("datetime", "date"):
                continue
            if is_banned(owner, node.attr):
                yield node.lineno, f"{owner}.{node.attr}"
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if is_banned(node.module or "", alias.name):
                    yield node.lineno, f"from {node.module} import {alias.name}"


def test_time_and_randomness_are_passed_in() -> None:
    found = [
        f"{place(path, line)}: {what}"
        for path in modules()
        if not str(path.relative_to(ROOT)).startswith(tuple(EDGES))
        for line, what in banned_uses(tree_of(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "is_banned"),
    [
        ("import time\ntime.time()", True),
        ("import time\nnow = time.monotonic", True),
        ("from time import time_ns", True),
        ("from datetime import datetime\ndatetime.now()", True),
        ("import datetime\ndatetime.datetime.now()", True),
        ("import random\nrandom.choice([1])", True),
        ("from random import choice", True),
        ("import random\nrandom.Random(1).choice([1])", False),
        ("import time\ntime.perf_counter()", False),
        ("import time\ntime.gmtime(0)", False),
        ("import random\ndef f(random: random.Random): random.random()", False),
    ],
)
def test_the_rule_on_time_and_randomness_sees_its_cases(text: str, is_banned: bool) -> None:
    assert bool(list(banned_uses(ast.parse(text)))) == is_banned


def imports_at_load(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Imports that run when the module is imported: not those in functions, nor for type checkers alone."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_at_load(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef | ast.For | ast.While):
            for name in ("body", "orelse", "finalbody"):
                yield from imports_at_load(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from imports_at_load(handler.body)


def late(path: Path) -> frozenset[str]:
    """What a module may import at once."""
    name = str(path.relative_to(ROOT))
    return frozenset().union(*(packages for folder, packages in LATE.items() if name.startswith(folder)))


def test_heavy_packages_are_imported_where_they_are_needed() -> None:
    found = [
        f"{place(path, line)}: {name}"
        for path in modules()
        for line, name in imports_at_load(tree_of(path).body)
        if name.partition(".")[0] in HEAVY - late(path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", ["streamkit", "streamkit.cli.main", "streamkit.cli.serve", "streamkit.api.server"])
def test_loading_the_product_loads_no_heavy_package(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT, timeout=60)
    assert HEAVY.isdisjoint(json.loads(done.stdout))


# -- files -----------------------------------------------------------------------------------------------------------


def test_no_file_is_too_long_to_be_read() -> None:
    counts = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    assert not {name: count for name, count in counts.items() if count > LINES_MAX}


def test_no_file_names_a_package_index_or_a_path_of_a_machine() -> None:
    found = [
        f"{place(path, number)}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PATHS_OF_A_MACHINE.search(line) or INDEX_HOSTS.search(line)
    ]
    assert not found, "\n".join(found)


def test_nothing_tells_to_install_somebody_elses_package() -> None:
    """The name `streamkit` on the public index is not ours."""
    command = re.compile(r"pip3? install (?:-\S+ )*['\"]?streamkit\b(?!-local)")
    found = [str(path.relative_to(ROOT)) for path in texts() if command.search(path.read_text())]
    assert not found


def test_versions_are_pinned_one_a_line_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line)]
    assert not odd
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert names == sorted(set(names))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    missing = {re.split(r"[<>=!~;\[ ]", requirement)[0].lower() for requirement in wanted} - set(names)
    assert not missing


# -- modules ---------------------------------------------------------------------------------------------------------


def test_every_module_says_what_it_is() -> None:
    found = [str(path.relative_to(ROOT)) for path in python_files() if not ast.get_docstring(tree_of(path))]
    assert not [name for name in found if name != "streamkit/_version.py"]


def test_annotations_are_not_evaluated_at_import() -> None:
    """So that a name needed by types alone is imported for type checkers alone."""
    found = [str(path.relative_to(ROOT)) for path in modules() if has_annotated_functions(path) and not defers(path)]
    assert not found


def has_annotated_functions(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree_of(path)))


def defers(path: Path) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in tree_of(path).body
    )


def test_every_limit_is_enforced_somewhere() -> None:
    home = ROOT / "streamkit/model/limits.py"
    limits = [
        node.target.id
        for node in tree_of(home).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for path in modules()
        if path != home
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert limits
    assert not [name for name in limits if name not in used]
