"""libjq at arm's length: a query runs in a process of its own, with bounds on time and memory.

A query may never end (`repeat(.)`), and a record may make a good one take for ever; libjq can neither be interrupted
nor does it let go of the interpreter. So the process has a CPU timer for each record and a limit on its memory: what
passes either ends the process, the record fails, and the records after it go to another one.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from streamkit.delivery.processors.jq_values import NOT_JSON, Bad, Unsure, key_text
from streamkit.model.limits import JQ_ENDED_MAX, JQ_MEMORY_BYTES_MAX, JQ_RECORD_CPU_MS, JQ_REPLY_BYTES_MAX

TOO_MUCH: Final = "the query took too long, or too much memory"
NOT_INSTALLED: Final = "the query needs the package jq, which is not installed here"

Keys = dict[str, str | Bad]

_CHILD: Final = Path(__file__).with_name("jq_child.py")


class JqLibrary:
    """A query in libjq. Blocking; threads may share one, and wait for each other. The process begins with the first
    record and ends with this object."""

    def __init__(self, query: str, *, record_cpu_ms: int = JQ_RECORD_CPU_MS) -> None:
        self._query = query
        self._record_cpu_ms = record_cpu_ms
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = bool  # ends the process, also when this object goes
        self._is_json = msgspec.json.Decoder(msgspec.Raw).decode

    def keys(self, documents: Sequence[bytes]) -> list[Keys | Bad]:
        """For each record the keys that the query gives, or why it gives none."""
        replies: list[Keys | Bad | None] = [None if self._is_document(each) else Bad(NOT_JSON) for each in documents]
        open_places = [place for place, reply in enumerate(replies) if reply is None]
        ended = 0
        with self._lock:
            while open_places:
                if ended >= JQ_ENDED_MAX:
                    answered: list[Keys | Bad] = [Bad(TOO_MUCH)] * len(open_places)
                else:
                    answered = self._ask([documents[place] for place in open_places])
                    if len(answered) < len(open_places):
                        ended += 1
                        answered.append(Bad(TOO_MUCH if self._is_installed() else NOT_INSTALLED))
                for place, reply in zip(open_places, answered, strict=False):
                    replies[place] = reply
                open_places = open_places[len(answered) :]
        return [reply for reply in replies if reply is not None]

    def close(self) -> None:
        with self._lock:
            self._end()
            self._process = None

    def _is_document(self, record: bytes) -> bool:
        """One document, neither none nor several: libjq would take those one after the other."""
        try:
            self._is_json(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return True

    def _ask(self, documents: Sequence[bytes]) -> list[Keys | Bad]:
        """Fewer answers than records: the process ended at the record after them."""
        if self._process is None:
            if not self._is_installed():
                return []
            self._process = self._start()
            self._end = weakref.finalize(self, _end, self._process)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        answers: list[Keys | Bad] = []
        try:
            process.stdin.write(struct.pack(f">{len(documents) + 1}I", len(documents), *map(len, documents)))
            process.stdin.write(b"".join(documents))
            process.stdin.flush()
            while len(answers) < len(documents):
                line = process.stdout.readline()
                if not line.endswith(b"\n"):
                    break
                answers.append(_answer(line))
        except BrokenPipeError:
            pass
        if len(answers) < len(documents):
            self._end()
            self._process = None
        return answers

    def _start(self) -> subprocess.Popen[bytes]:
        spec = importlib.util.find_spec("jq")
        assert spec is not None
        assert spec.origin is not None
        limits = (self._record_cpu_ms, JQ_MEMORY_BYTES_MAX, JQ_REPLY_BYTES_MAX)
        return subprocess.Popen(
            [sys.executable, "-I", str(_CHILD), os.path.dirname(spec.origin), *map(str, limits), self._query],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"TZ": "UTC", "LC_ALL": "C"},
        )

    @staticmethod
    def _is_installed() -> bool:
        return importlib.util.find_spec("jq") is not None


def _answer(line: bytes) -> Keys | Bad:
    found = msgspec.json.decode(line[1:])
    if line[:1] == b"-":
        return Bad(str(found))
    return {name: _key(value) for name, value in found.items()}


def _key(value: object) -> str | Bad:
    try:
        return key_text(value)
    except Unsure:  # a number: as libjq wrote it
        return msgspec.json.encode(value).decode()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass
    process.wait()
