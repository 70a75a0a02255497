"""The process in which libjq runs: reads records, writes the keys that a query finds in each.

Run as a script with the directory of the package `jq`, limits, and the query. Standard input is a sequence of batches:
the number of records (4 bytes, big-endian), the length of each (4 bytes each), and the records. For each record a
line goes to standard output at once: `+` and a JSON object, or `-` and a JSON string that says why there is none. A
record that takes more time or memory than the limits ends the process: whoever reads counts the lines.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO


def main(directory: str, cpu_ms: int, memory_bytes: int, reply_bytes: int, query: str) -> None:
    sys.path.insert(0, directory)
    import jq

    program = jq.compile(query)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process, also in the middle of libjq
    source = sys.stdin.buffer
    while (records := _batch(source)) is not None:
        for record in records:
            signal.setitimer(signal.ITIMER_PROF, cpu_ms / 1000)
            line = _keys(program, record, reply_bytes)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _write(line)


def _batch(source: BinaryIO) -> list[bytes] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    (count,) = struct.unpack(">I", head)
    lengths = struct.unpack(f">{count}I", source.read(4 * count))
    return [source.read(length) for length in lengths]


def _keys(program: Any, record: bytes, reply_bytes: int) -> bytes:
    try:
        outputs = []
        for output in program.input_text(record.decode(errors="replace")):
            outputs.append(output)
            if len(outputs) > 1:
                break
    except ValueError as error:
        return b"-" + json.dumps(str(error)[:1000]).encode()
    if len(outputs) != 1 or not isinstance(outputs[0], dict):
        return b"-" + json.dumps("the query gives no object, or more than one").encode()
    line = b"+" + json.dumps(outputs[0]).encode()
    return line if len(line) <= reply_bytes else b"-" + json.dumps("the query gives too much").encode()


def _write(line: bytes) -> None:
    line += b"\n"
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    _, found, cpu, memory, reply, text = sys.argv
    main(found, int(cpu), int(memory), int(reply), text)
