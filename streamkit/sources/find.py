"""Sources by their ARN."""

from __future__ import annotations

from streamkit import plugins
from streamkit.sources.source import Source
from streamkit.sources.stream_source import StreamSource
from streamkit.streams.service import Streams

GROUP = "streamkit.sources"


class Sources:
    """What can be read, by ARN."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def find(self, arn: str) -> Source:
        """UsageError where nothing reads such a source."""
        source = StreamSource.of(self._streams, arn)
        if source is not None:
            return source
        made: Source = plugins.load(GROUP, arn.split(":")[2] if arn.count(":") > 2 else arn)(arn)
        return made

    def exists(self, arn: str) -> bool:
        source = StreamSource.of(self._streams, arn)
        return source is not None and source.exists
