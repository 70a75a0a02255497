"""streamkit: Kinesis-style streams in one process, as a library and as a server.

    async with streamkit.open("./data") as kit:
        await kit.create_stream("clicks", shards=2, exist_ok=True)
        await kit.put("clicks", b"hello", partition_key="user-1")
        async for batch in kit.consumer("clicks", "counter", follow=False):
            print(batch.shard_id, len(batch))

`streamkit.open` takes a data directory or the URL of a running server; the calls are the same. `open_blocking` is the
same without `await`. Names that are not listed here may move.
"""

from streamkit._version import __version__
from streamkit.kit.backend import Placement, ShardInfo, StreamInfo
from streamkit.kit.blocking import BlockingConsumer, BlockingKit, open_blocking
from streamkit.kit.consumer import Consumer
from streamkit.kit.kit import Kit, open
from streamkit.model.batch import Record, RecordBatch
from streamkit.model.errors import ServerUnreachable, StreamkitError

__all__ = [
    "BlockingConsumer",
    "BlockingKit",
    "Consumer",
    "Kit",
    "Placement",
    "Record",
    "RecordBatch",
    "ServerUnreachable",
    "ShardInfo",
    "StreamInfo",
    "StreamkitError",
    "__version__",
    "open",
    "open_blocking",
]
