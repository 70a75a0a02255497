"""Streams and registered consumers as sources: the log is read directly, and tells of new records."""

from __future__ import annotations

from collections.abc import Callable

from streamkit.model.errors import ResourceNotFound
from streamkit.model.names import ConsumerArn, StreamArn
from streamkit.sources.source import ShardRead, SourceShard, StartingPosition
from streamkit.streams.service import Streams
from streamkit.streams.stream import Stream


class StreamSource:
    """See `streamkit.sources.source.Source`."""

    def __init__(self, streams: Streams, arn: StreamArn | ConsumerArn) -> None:
        self._streams = streams
        self._consumer = arn if isinstance(arn, ConsumerArn) else None
        self._name = arn.stream if isinstance(arn, ConsumerArn) else arn
        self.arn = str(arn)
        self.stream_arn = str(self._name)

    @classmethod
    def of(cls, streams: Streams, arn: str) -> StreamSource | None:
        """None where the ARN is neither a stream's nor a consumer's."""
        parsed = ConsumerArn.parse(arn) or StreamArn.parse(arn)
        return None if parsed is None else cls(streams, parsed)

    @property
    def exists(self) -> bool:
        try:
            self._stream()
        except ResourceNotFound:
            return False
        return True

    async def ready(self) -> None:
        await self._stream().ready()

    @property
    def incarnation(self) -> str:
        return self._stream().state.id

    @property
    def horizon_ms(self) -> int:
        return self._stream().horizon_ms

    def shards(self) -> list[SourceShard]:
        stream = self._stream()
        return [
            SourceShard(
                shard.index,
                tuple(parent for parent in (shard.parent, shard.adjacent_parent) if parent is not None),
                shard.is_open,
            )
            for shard in stream.state.shards
            if not stream.has_expired(shard)
        ]

    async def seek(self, shard_index: int, position: StartingPosition, at_ms: int | None) -> int:
        stream = self._stream()
        if position == "LATEST":
            return await stream.seek(shard_index, None)
        if position == "AT_TIMESTAMP":
            assert at_ms is not None
            return await stream.seek(shard_index, at_ms)
        await stream.ready()
        return await stream.first_offset(shard_index)

    async def read(self, shard_index: int, offset: int, *, records_max: int, bytes_max: int) -> ShardRead:
        stream = self._stream()
        await stream.ready()
        shard = stream.shard(shard_index)
        if shard is None:  # closed, and all its records have left the retention
            return ShardRead([], None)
        is_fanned_out = self._consumer is not None
        read = await stream.read(
            shard, offset, records_max=records_max, bytes_max=bytes_max, is_fanned_out=is_fanned_out
        )
        return ShardRead(read.batches, read.next_offset)

    def watch(self, callback: Callable[[int | None], None]) -> Callable[[], None]:
        stream = self._stream()
        unwatch_log = stream.log.watch(callback)
        unwatch_changes = stream.watch_changes(lambda: callback(None))

        def unwatch() -> None:
            unwatch_log()
            unwatch_changes()

        return unwatch

    def _stream(self) -> Stream:
        stream = self._streams.find(*self._name)
        if self._consumer is not None and not any(
            consumer.name == self._consumer.name and consumer.created_at_ms // 1000 == self._consumer.created_s
            for consumer in stream.state.consumers.values()
        ):
            raise ResourceNotFound(f"Consumer {self._consumer} not found.")
        return stream
