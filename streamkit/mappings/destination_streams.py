"""A stream of ours as a destination: each document becomes a record. AWS has no such destination; here it is the one
that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamkit.functions.destinations import Delivery, Resolve
from streamkit.model.errors import DamagedLog, InvalidParameterValue, ResourceNotFound
from streamkit.model.limits import DESTINATION_LOOK_BYTES_MAX, FRAME_RECORDS_MAX
from streamkit.model.names import StreamArn
from streamkit.streams.service import Streams
from streamkit.streams.stream import Stream


class _Position(msgspec.Struct, frozen=True):
    """The next offset of each shard that was open. `stream`: its incarnation, whose offsets they are."""

    stream: str
    shards: Mapping[int, int]


def stream_destinations(streams: Streams) -> Resolve:
    """What `RecordDestinations` is given for the service `kinesis`."""

    def resolve(arn: str) -> StreamDestination:
        parsed = StreamArn.parse(arn)
        if parsed is None:
            raise InvalidParameterValue(f"The destination ARN {arn} is invalid.")
        try:
            streams.find(*parsed)
        except ResourceNotFound:
            raise InvalidParameterValue(f"The destination ARN {arn} is invalid. Stream not found: {arn}") from None
        return StreamDestination(streams, parsed)

    return resolve


class StreamDestination:
    """See `streamkit.functions.destinations.RecordDestination`.

    Raises ResourceNotFound while the stream is not there, ThroughputExceeded where its limits are enforced and
    reached. A document is found again by its bytes, in whichever shard it is: the shards may have been split or merged
    since. Exactly once needs a stream with durability `fsync`: one that can lose its end may also give offsets anew.
    """

    def __init__(self, streams: Streams, arn: StreamArn) -> None:
        self._streams = streams
        self._arn = arn

    async def position(self) -> str:
        stream = await self._ready()
        open_shards = (shard.index for shard in stream.state.open_shards)
        ends = {index: stream.log.bounds(index).next_offset for index in open_shards}
        return msgspec.json.encode(_Position(stream.state.id, ends)).decode()

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        stream = await self._ready()
        stream.require_record_sizes([len(delivery.body)])
        if may_be_there:
            await stream.settled()  # an earlier try that nobody waited for may be on its way to the disk
            if await _holds(stream, delivery.body, _starts(stream, since)):
                return
            stream = await self._ready()  # meanwhile it may have been resharded, or deleted
        _, appended = stream.put_one(delivery.key.encode(), delivery.body)
        await appended.wait()

    async def _ready(self) -> Stream:
        stream = self._streams.find(*self._arn)
        await stream.ready()
        return stream


def _starts(stream: Stream, since: str | None) -> dict[int, int]:
    """Where to look: offsets by shard. Everywhere, if the position is unknown or another incarnation's."""
    position = None if since is None else msgspec.json.decode(since, type=_Position)
    if position is None or position.stream != stream.state.id:
        return {shard.index: 0 for shard in stream.state.shards}
    # Indexes grow, and the newest shard is open: one that is not in the position was closed by then, or came later.
    newest = max(position.shards)
    return {
        shard.index: position.shards.get(shard.index, 0)
        for shard in stream.state.shards
        if shard.index in position.shards or shard.index > newest
    }


async def _holds(stream: Stream, body: bytes, starts: Mapping[int, int]) -> bool:
    """Whether one of the shards has such a record. Limits on reading are the readers', and not used up by this."""
    for index, offset in starts.items():
        end = stream.log.bounds(index).next_offset
        while offset < end:
            try:
                batches = await stream.log.read(
                    index, offset, records_max=FRAME_RECORDS_MAX, bytes_max=DESTINATION_LOOK_BYTES_MAX
                )
            except DamagedLog as error:
                # Nobody can read what is in the damaged part: it counts as not there.
                if error.next_offset is None:
                    break
                offset = error.next_offset
                continue
            if not batches:
                break
            if any(value == body for batch in batches for value in batch.values()):
                return True
            offset = batches[-1].next_offset
    return False
