"""What users of the library hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from streamkit import plugins
from streamkit.kit.backend import Backend, Placement, StreamInfo
from streamkit.kit.consumer import BATCH_RECORDS_MAX, Consumer, Start
from streamkit.model.errors import ResourceInUse, ResourceNotFound, ThroughputExceeded, UsageError
from streamkit.model.hashkey import HASH_KEY_MAX
from streamkit.model.limits import PARTITION_KEY_CHARACTERS_MAX
from streamkit.model.names import Scope
from streamkit.shards.disk import Durability

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkit.kit.delivery import Settings

DEFAULT_ACCOUNT: Final = "000000000000"
DEFAULT_REGION: Final = "us-east-1"
_POLL_S: Final = 0.02  # while a stream is being made or changed


def open(
    where: str | Path,
    *,
    account: str = DEFAULT_ACCOUNT,
    region: str = DEFAULT_REGION,
    durability: Durability = "fsync",
) -> Kit:
    """A kit over a data directory, or over the server at an http(s) URL. Use it with `async with`.

    A directory is made if it is missing and belongs to this process while it is open: another one gets
    DataDirectoryInUse. `durability` says when a put returns (see `streamkit serve --help`); a server has its own.
    """
    scope = Scope(account, region)
    if isinstance(where, str) and where.startswith(("http://", "https://")):
        from streamkit.kit.remote import RemoteBackend

        return Kit(RemoteBackend(where, scope))
    from streamkit.kit.embedded import EmbeddedBackend

    return Kit(EmbeddedBackend(Path(where), scope, durability=durability))


class Kit:
    """Streams, wherever they are. Every call raises a StreamkitError that says what is wrong and what to do."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __aenter__(self) -> Self:
        await self._backend.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._backend.close()

    # -- streams -----------------------------------------------------------------------------------------------------

    async def create_stream(
        self,
        name: str,
        *,
        shards: int = 1,
        retention_hours: int = 24,
        tags: Mapping[str, str] | None = None,
        exist_ok: bool = False,
    ) -> StreamInfo:
        """Makes a stream and returns when records can be put. With `exist_ok`, one that is there is left as it is."""
        request: dict[str, Any] = {"StreamName": name, "ShardCount": shards}
        if tags:
            request["Tags"] = dict(tags)
        try:
            await self._backend.call("CreateStream", request)
        except ResourceInUse:
            if not exist_ok:
                raise
            return await self._active(name)
        info = await self._active(name)
        if retention_hours != info.retention_hours:
            values = {"StreamName": name, "RetentionPeriodHours": retention_hours}
            await self._backend.call("IncreaseStreamRetentionPeriod", values)
            info = await self._active(name)
        return info

    async def delete_stream(self, name: str) -> None:
        """Deletes the stream, its records and checkpoints; returns when its name is free."""
        await self._backend.call("DeleteStream", {"StreamName": name, "EnforceConsumerDeletion": True})
        try:
            while True:
                await self._backend.describe(name)
                await asyncio.sleep(_POLL_S)
        except ResourceNotFound:
            return

    async def streams(self) -> list[str]:
        """The names of the account's streams in the region, in order."""
        return await self._backend.stream_names()

    async def describe(self, stream: str) -> StreamInfo:
        return await self._backend.describe(stream)

    async def split_shard(self, stream: str, shard: int, *, at_hash_key: int | None = None) -> StreamInfo:
        """Splits a shard at a hash key, in the middle by default; returns the stream with its new shards."""
        if at_hash_key is None:
            found = next((each for each in (await self.describe(stream)).shards if each.index == shard), None)
            if found is None:
                raise UsageError(f"stream {stream!r} has no shard {shard}")
            at_hash_key = (found.first_hash_key + found.last_hash_key + 1) // 2
        values = {"StreamName": stream, "ShardToSplit": str(shard), "NewStartingHashKey": str(at_hash_key)}
        await self._backend.call("SplitShard", values)
        return await self._active(stream)

    async def merge_shards(self, stream: str, lower: int, upper: int) -> StreamInfo:
        """Merges two shards whose hash key ranges are neighbours, the lower one first."""
        values = {"StreamName": stream, "ShardToMerge": str(lower), "AdjacentShardToMerge": str(upper)}
        await self._backend.call("MergeShards", values)
        return await self._active(stream)

    async def update_shard_count(self, stream: str, target: int) -> StreamInfo:
        """Makes the open shards `target` equal ones: at most double as many, at least half."""
        values = {"StreamName": stream, "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}
        await self._backend.call("UpdateShardCount", values)
        return await self._active(stream)

    # -- puts --------------------------------------------------------------------------------------------------------

    async def put(
        self, stream: str, data: bytes | str, *, partition_key: str, explicit_hash_key: int | None = None
    ) -> Placement:
        """Puts one record; returns when it is durable."""
        hash_keys = None if explicit_hash_key is None else [_digest(explicit_hash_key)]
        placed = await self._backend.put(stream, [_key(partition_key)], [_data(data)], hash_keys)
        return _all_taken(placed)[0]

    async def put_many(self, stream: str, records: Iterable[tuple[str, bytes | str]]) -> list[Placement]:
        """Puts records, given as partition key and data; returns where they went when all are durable.

        In a data directory this is one commit: all or nothing. Over a server, each 4,096 records or 8 MiB are.
        """
        pairs = list(records)
        if not pairs:
            return []
        keys = [_key(key) for key, _ in pairs]
        return _all_taken(await self._backend.put(stream, keys, [_data(data) for _, data in pairs], None))

    async def put_table(
        self, stream: str, table: pa.Table | pa.RecordBatch, *, key: str = "partition_key", data: str = "data"
    ) -> int:
        """Puts the rows of an Arrow table: a column of partition keys, and one of data (binary or string), without
        nulls. Returns their number when all are durable.

        Rows stay columns all the way, about ten times as fast as `put_many`. Each 65,536 rows or 16 MiB (over a server
        8 MiB) are one commit: after an error, the table may be stored up to such a boundary.
        """
        import pyarrow as pa

        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        keys, values = (_binary(table, name, what) for name, what in ((key, "partition keys"), (data, "data")))
        _check_keys(keys)
        count = 0
        for batch in pa.table({"keys": keys, "data": values}).to_batches():
            count += await self._backend.put_table(stream, batch["keys"], batch["data"])
        return count

    # -- reads -------------------------------------------------------------------------------------------------------

    def consumer(
        self,
        stream: str,
        name: str,
        *,
        start: Start = "TRIM_HORIZON",
        batch_records_max: int = BATCH_RECORDS_MAX,
        follow: bool = True,
    ) -> Consumer:
        """A reader of all shards that goes on where the consumer of this name stopped; see `Consumer`.

        `start` counts only where the name has no checkpoint yet. With `follow=False` the iteration ends at the tip.
        """
        return Consumer(self._backend, stream, name, start=start, batch_records_max=batch_records_max, follow=follow)

    # -- deliveries --------------------------------------------------------------------------------------------------

    async def deliver(
        self, stream: str, to: str | Path, *, name: str | None = None, **settings: Unpack[Settings]
    ) -> str:
        """Has a stream's records delivered, from now on until the delivery stream is deleted; returns its name. Done
        again it changes nothing, or what is another now: what is not said has its default.

        `to` is a directory or a URL, as for `streamkit deliver`; `settings` are its options, with `columns` as a
        mapping of names to Hive's types, and `size_mb` and `interval_s` for when a file is written. Without `name` it
        is called `clicks-to-lake`. Needs a server or an App.
        """
        from streamkit.kit.delivery import delivery_of

        deliveries = self._backend.deliveries()
        delivery = delivery_of(stream, to, name, settings)
        await deliveries.deliver(delivery, is_named=name is not None)
        return delivery.name

    async def flush_deliveries(self, name: str | None = None) -> None:
        """Returns when everything that was put before is delivered, by one delivery stream or by all of the server."""
        await self._backend.deliveries().flush(name)

    # -- SQL ---------------------------------------------------------------------------------------------------------

    async def sql(self, text: str, *, start: str | int | None = None, follow: bool = True) -> Any:
        """A query in Flink's SQL over the streams: iterate over what this returns to get rows as Arrow tables.

            async for rows in await kit.sql("SELECT page, COUNT(*) FROM clicks GROUP BY page", follow=False):
                print(rows.table)

        A stream is a table of its name; its columns are discovered from its records. `start` is TRIM_HORIZON, LATEST
        or epoch milliseconds. Without `follow` the query ends at the streams' present end, and `to_arrow`,
        `to_pandas` and `to_polars` of what this returns give all rows at once. Results are not remembered: another
        call begins anew. Raises SqlError with the line and column of what is wrong.
        """
        return await self.queries().query(text, start=start, follow=follow)

    @property
    def backend(self) -> Backend:
        """What the kit is over; for extensions."""
        return self._backend

    def queries(self) -> Any:
        """A SQL session over the streams, which remembers the tables and views that its scripts make."""
        return plugins.load("streamkit.sql", "queries")(self._backend)

    async def _active(self, name: str) -> StreamInfo:
        while True:  # a server's change can only be asked for
            info = await self._backend.describe(name)
            if info.status == "ACTIVE":
                return info
            await asyncio.sleep(_POLL_S)


def _key(text: str) -> bytes:
    if not 1 <= len(text) <= PARTITION_KEY_CHARACTERS_MAX:
        raise UsageError(
            f"a partition key has 1 to {PARTITION_KEY_CHARACTERS_MAX} characters; this one has {len(text)}"
        )
    return text.encode()


def _data(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def _digest(hash_key: int) -> bytes:
    if not 0 <= hash_key <= HASH_KEY_MAX:
        raise UsageError(f"an explicit hash key lies between 0 and 2^128 - 1; this one is {hash_key}")
    return hash_key.to_bytes(16, "big")


def _all_taken(placed: Sequence[Placement | None]) -> list[Placement]:
    taken = [each for each in placed if each is not None]
    if len(taken) < len(placed):
        refused = len(placed) - len(taken)
        raise ThroughputExceeded(
            f"{refused} of {len(placed)} records were over their shard's limit and were not stored; the others were"
        )
    return taken


def _binary(table: pa.Table, name: str, what: str) -> pa.ChunkedArray:
    import pyarrow as pa

    if name not in table.column_names:
        raise UsageError(f"the table has no column {name!r} for the {what}; it has {', '.join(table.column_names)}")
    column = table[name]
    if column.null_count:
        raise UsageError(f"column {name!r} has {column.null_count} nulls; {what} are needed in every row")
    try:
        return column.cast(pa.binary())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise UsageError(f"column {name!r} is {column.type}; {what} are binary or string") from None


def _check_keys(keys: pa.ChunkedArray) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        lengths = pc.min_max(pc.utf8_length(keys.cast(pa.string())))
    except pa.ArrowInvalid:
        raise UsageError("a partition key is not UTF-8") from None
    if len(keys) and not 1 <= lengths["min"].as_py() <= lengths["max"].as_py() <= PARTITION_KEY_CHARACTERS_MAX:
        raise UsageError(
            f"a partition key has 1 to {PARTITION_KEY_CHARACTERS_MAX} characters; the column has "
            f"{lengths['min'].as_py()} to {lengths['max'].as_py()}"
        )
