"""streamkit: Kinesis-style streams in one process, as a library and as a server.

    async with streamkit.open("./data") as kit:
        await kit.create_stream("clicks", shards=2, exist_ok=True)
        await kit.put("clicks", b"hello", partition_key="user-1")
        async for batch in kit.consumer("clicks", "counter", follow=False):
            print(batch.shard_id, len(batch))

`streamkit.open` takes a data directory or the URL of a running server; the calls are the same. `open_blocking` is the
same without `await`. An `App` runs plain functions that read streams. Names that are not listed here may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamkit._version import __version__
from streamkit.kit.backend import Placement, ShardInfo, StreamInfo
from streamkit.kit.blocking import BlockingConsumer, BlockingKit, open_blocking
from streamkit.kit.consumer import Consumer
from streamkit.kit.kit import Kit, open
from streamkit.model.batch import Record, RecordBatch
from streamkit.model.errors import ServerUnreachable, StreamkitError

if TYPE_CHECKING:
    from streamkit.kit.app import App, FunctionFailed

__all__ = [
    "App",
    "BlockingConsumer",
    "BlockingKit",
    "Consumer",
    "FunctionFailed",
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


def __getattr__(name: str) -> Any:
    """An app brings the whole server with it: 100 ms that commands and readers do not wait for."""
    if name in ("App", "FunctionFailed"):
        from streamkit.kit import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
