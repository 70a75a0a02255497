"""The cases of the SQL tests: each a script that runs unchanged on Flink, with the data that it reads.

A case is a file in `cases/` (what Flink refuses is in `cases/refused/`). Its head says what it is:

    -- title: Bids of each auction in a window of ten seconds
    -- data: nexmark events=20000 seed=7 disorder_ms=3000
    -- result: totals, names          (only where the script writes: the tables whose files are the answer)
    -- key: id                        (only where Flink updates rows without saying what they were)
    -- empty: why                     (only where Flink answers no row, and is right)

`-- data: KIND ...` stands for a file `${DATA}/KIND.json` (or .csv) made by `datasets.py`, and for the CREATE statements
of `cases/tables/KIND.sql`, which come before the case's own. The last statement is the query; where there is a
`result`, the script writes to files under `${OUT}/NAME` instead, and the answer is their lines.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sql import datasets

HERE = Path(__file__).parent
CASES = HERE / "cases"
REFUSED = CASES / "refused"
TABLES = CASES / "tables"
FINGERPRINTS = HERE / "fingerprints.json"

_HEAD = re.compile(r"^-- (\w+): (.*)$")
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|`[^`]*`|;|[^-/'`;]+|.", re.DOTALL)
_BLOCK = re.compile(r"\s*EXECUTE\s+STATEMENT\s+SET\b", re.IGNORECASE)
_BLOCK_END = re.compile(r"\bEND\s*$", re.IGNORECASE)


def statements_of(script: str) -> list[str]:
    """The statements of a script, without their semicolons; a statement set is one, comments stay inside."""
    found: list[str] = []
    pieces: list[str] = []
    bare: list[str] = []
    for token in _TOKEN.findall(script):
        is_comment = token.startswith(("--", "/*"))
        text = "".join(bare)
        if token == ";" and not (_BLOCK.match(text) and not _BLOCK_END.search(text)):
            if text.strip():
                found.append("".join(pieces).strip())
            pieces, bare = [], []
            continue
        pieces.append(token)
        if not is_comment:
            bare.append(token)
    if "".join(bare).strip():
        found.append("".join(pieces).strip())
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """One script and the data it reads. `data` are the lines as written, `results` the tables it writes to."""

    name: str
    title: str
    data: tuple[str, ...]
    results: tuple[str, ...]
    key: tuple[str, ...]
    script: str
    refused: bool
    empty: bool

    def prepare(self, cache: Path, folder: Path) -> dict[str, str]:
        """Puts the data files into `folder` (made once, kept in `cache`); answers their names and SHA-256."""
        folder.mkdir(parents=True, exist_ok=True)
        sums = {}
        for line in self.data:
            made = _made(line, cache)
            target = folder / f"{line.split()[0]}{made.suffix}"
            target.unlink(missing_ok=True)
            os.link(made, target)
            sums[target.name] = hashlib.sha256(made.read_bytes()).hexdigest()
        return sums

    def statements(self, data: Path, out: Path | None = None) -> list[str]:
        """The statements over the data in that folder, writing under `out`; the last is what is asked."""
        text = self.script.replace("${DATA}", str(data))
        if out is not None:
            text = text.replace("${OUT}", str(out))
        return statements_of(text)


def _made(line: str, cache: Path) -> Path:
    kind, *settings = line.split()
    makers = [(HERE / name).read_bytes() for name in ("datasets.py", "nexmark.py")]  # a new maker makes new files
    key = hashlib.sha256(b"".join([line.encode(), *makers])).hexdigest()[:16]
    path = cache / f"{kind}-{key}{datasets.SUFFIXES.get(kind, '.json')}"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        options = dict(setting.split("=", 1) for setting in settings)
        part.write_bytes(datasets.make(kind, options))
        part.rename(path)
    return path


def read_case(path: Path) -> Case:
    """The case in this file."""
    text = path.read_text(encoding="utf-8")
    heads: dict[str, list[str]] = {}
    for row in text.splitlines():
        if not (head := _HEAD.match(row)):
            break
        heads.setdefault(head[1], []).append(head[2].strip())
    assert heads.get("title"), f"{path}: begins with `-- title: ...`"
    data = tuple(heads.get("data", ()))
    tables = [TABLES / f"{line.split()[0]}.sql" for line in data]
    script = "\n".join([*(table.read_text(encoding="utf-8") for table in tables if table.exists()), text])
    results, key = (
        tuple(name.strip() for line in heads.get(head, ()) for name in line.split(",")) for head in ("result", "key")
    )
    return Case(path.stem, heads["title"][0], data, results, key, script, path.parent == REFUSED, "empty" in heads)


def cases() -> Iterator[Case]:
    """All cases, those that Flink refuses last, each group by name."""
    for folder in (CASES, REFUSED):
        for path in sorted(folder.glob("*.sql")):
            yield read_case(path)
