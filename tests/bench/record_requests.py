"""How fast requests are made of records: `.venv/bin/python tests/bench/record_requests.py`.

CPU time of one thread, from a sealed file on disk to the bytes of the requests, without sending them. Each figure is
the best of several rounds. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import orjson

from streamkit.delivery.destination import Sealed
from streamkit.delivery.records_format import read_records
from streamkit.model.limits import (
    HTTP_ENDPOINT_BODY_BYTES_MAX,
    HTTP_ENDPOINT_RECORDS_MAX,
    MIB,
    OPENSEARCH_BODY_BYTES_MAX,
    OPENSEARCH_RECORDS_MAX,
    SPLUNK_BODY_BYTES_MAX,
)
from streamkit_connectors.http import body_chunks, cost, gzipped
from streamkit_connectors.opensearch import Naming
from streamkit_connectors.records import cut, slices
from streamkit_connectors.splunk import bad_events
from tests.wire.record_endpoints import seal

RECORD_BYTES: Final = 280


def records_of(count: int) -> list[bytes]:
    rng = random.Random(7)
    found = []
    for index in range(count):
        record = {
            "id": f"{index:012d}",
            "kind": rng.choice(["order", "refund", "visit"]),
            "price": rng.randrange(10_000) / 100,
            "user": {"name": f"user-{rng.randrange(5_000)}", "plan": rng.choice(["gold", "silver", "none"])},
            "event": f"{rng.getrandbits(256):064x}",
        }
        bare = orjson.dumps(record)
        found.append(bare[:-1] + b',"note":"' + b"n" * (RECORD_BYTES - len(bare) - 10) + b'"}')
    return found


def http(sealed: Sealed) -> Iterator[bytes]:
    bounds = {"bytes_max": HTTP_ENDPOINT_BODY_BYTES_MAX, "records_max": HTTP_ENDPOINT_RECORDS_MAX}
    for part in cut(sealed.path, cost, **bounds):
        yield from body_chunks(b"{", (batch.column(0) for batch in slices(sealed.path, part)))


def opensearch(sealed: Sealed, **options: str) -> Iterator[bytes]:
    naming = Naming.of({"index": "logs", **options})
    bounds = {"bytes_max": OPENSEARCH_BODY_BYTES_MAX, "records_max": OPENSEARCH_RECORDS_MAX}
    for part in cut(sealed.path, cost, **bounds):
        documents, _ = naming.documents(sealed, part)
        yield b"".join(documents.lines)


def splunk_raw(sealed: Sealed) -> Iterator[bytes]:
    for part in cut(sealed.path, cost, bytes_max=SPLUNK_BODY_BYTES_MAX, records_max=1 << 31):
        yield b"".join(data for batch in slices(sealed.path, part) for data in batch.column(0).to_pylist())


def splunk_event(sealed: Sealed) -> Iterator[bytes]:
    parts = list(cut(sealed.path, cost, bytes_max=SPLUNK_BODY_BYTES_MAX, records_max=1 << 31))
    assert not list(bad_events(sealed, parts))
    yield from splunk_raw(sealed)


CASES: Final[dict[str, Callable[[Sealed], Iterator[bytes]]]] = {
    "reading the sealed file alone": lambda sealed: (b"" for _ in read_records(sealed.path)),
    "HTTP endpoint": http,
    "HTTP endpoint, GZIP": lambda sealed: gzipped(http(sealed)),
    "Splunk, Raw": splunk_raw,
    "Splunk, Event (each is looked at)": splunk_event,
    "OpenSearch, with ids": opensearch,
    "OpenSearch, without ids": lambda sealed: opensearch(sealed, id_format="NO_DOCUMENT_ID"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    records = records_of(arguments.records)
    size_bytes = sum(map(len, records))
    with tempfile.TemporaryDirectory() as directory:
        plain = seal(Path(directory), records)
        feeds = seal(Path(directory), [record + b"\n" for record in records], number=2)
        print(f"{len(records)} records of {size_bytes / len(records):.0f} B; sealed: {plain.size_bytes / MIB:.1f} MiB")
        for name, make in CASES.items():
            show(name, make, plain, size_bytes, arguments.rounds)
        show("OpenSearch, with ids and line feeds", opensearch, feeds, size_bytes, arguments.rounds)


def show(name: str, make: Callable[[Sealed], Iterator[bytes]], sealed: Sealed, size_bytes: int, rounds: int) -> None:
    best_s = float("inf")
    for _ in range(rounds):
        began_s = time.process_time()
        for _ in make(sealed):
            pass
        best_s = min(best_s, time.process_time() - began_s)
    rate = f"{size_bytes / best_s / 1e6:8.0f} MB/s"
    print(f"{name:40}{rate}{best_s / sealed.records_count * 1e6:8.2f} us a record")


if __name__ == "__main__":
    main()
