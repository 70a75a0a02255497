"""The demo's live leaderboard: SQL over the stream while flights come in, held against the same figures from the lake.

For every hour, the ten carriers with the longest mean delay of the three hours before it. A place is known when the
watermark has passed its window: two days of flights later, so the last two days are still open when the demo ends.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import streamkit
from tests.examples.flights.lake import BUCKET

WAIT_S_MAX: Final = 20
OPEN_FOR: Final = datetime.timedelta(days=2)

QUERY: Final = """
CREATE TABLE departures (
  `time` STRING, carrier STRING, dep_delay INT,
  ts AS TO_TIMESTAMP(SUBSTRING(`time`, 1, 19), 'yyyy-MM-dd''T''HH:mm:ss'),
  WATERMARK FOR ts AS ts - INTERVAL '2' DAY
) WITH (
  'connector' = 'kinesis', 'stream' = '{stream}', 'scan.stream.initpos' = 'TRIM_HORIZON',
  'format' = 'json', 'json.ignore-parse-errors' = 'true'
);
CREATE VIEW delays AS
SELECT window_start, window_end, carrier, COUNT(*) AS flights, SUM(dep_delay) AS minutes
FROM TABLE(HOP(TABLE departures, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '3' HOUR))
WHERE dep_delay IS NOT NULL
GROUP BY window_start, window_end, carrier;
SELECT window_end, place, carrier, flights, minutes FROM (
  SELECT *, ROW_NUMBER() OVER (
    PARTITION BY window_start, window_end
    ORDER BY CAST(minutes AS DOUBLE) / flights DESC, carrier) AS place
  FROM delays)
WHERE place <= 10;
"""


class Place(NamedTuple):
    """`until` is New York's clock; `place` counts from 1."""

    until: datetime.datetime
    place: int
    carrier: str
    flights: int
    minutes: int


class Watcher:
    """Gathers places as windows close."""

    def __init__(self, endpoint: str, stream: str) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self.places: list[Place] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        async with streamkit.open(self._endpoint) as kit:
            async for rows in await kit.sql(QUERY.format(stream=self._stream)):
                self.places += [Place(*row.values()) for row in rows.table.to_pylist()]

    async def until(self, count: int) -> None:
        """Returns when so many places are known, or after a while."""
        for _ in range(WAIT_S_MAX * 20):
            if len(self.places) >= count:
                return
            await asyncio.sleep(0.05)


def closed_until(shards: Mapping[str, Sequence[bytes]]) -> datetime.datetime:
    """How far the watermark is: two days behind the newest flight of the shard that is behind the others."""
    times = [max(_time(record) for record in records) for records in shards.values() if records]
    return min(times) - OPEN_FOR


def _time(record: bytes) -> datetime.datetime:
    return datetime.datetime.fromisoformat(json.loads(record)["time"][:19])


def places_in_lake(data: Path, until: datetime.datetime) -> list[Place]:
    """The same from the Parquet files, by DuckDB and another text."""
    import duckdb

    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        rows: list[Any] = db.execute(
            """
            with hours as (
              select date_trunc('hour', "time"::timestamp - interval 5 hour) + interval 1 hour * (1 + ahead) as until,
                carrier, count(*) as flights, sum(dep_delay) as minutes
              from read_parquet(?), range(3) as hops(ahead)
              group by all
            )
            select until, row_number() over (partition by until order by minutes::double / flights desc, carrier)
              as place, carrier, flights, minutes::bigint
            from hours where until <= ? qualify place <= 10 order by 1, 2
            """,
            [f"{data}/buckets/{BUCKET}/departed/**/*.parquet", until],
        ).fetchall()
    return [Place(*row) for row in rows]


def faults(seen: Sequence[Place], wanted: Sequence[Place]) -> list[str]:
    """What the live places have wrong, in words."""
    found = []
    if missing := len(set(wanted) - set(seen)):
        found.append(f"{missing} places of the lake's figures were not told")
    if more := len(set(seen) - set(wanted)):
        found.append(f"{more} places are not the lake's")
    if len(seen) != len(set(seen)):
        found.append("places were told twice")
    return found
