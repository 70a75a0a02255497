"""The server's side of streamkit's own protocol; see `streamkit.api.protocol`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from streamkit.api import protocol
from streamkit.api.gateway import Route
from streamkit.api.http import Request, Response
from streamkit.api.sigv4 import Authenticator, scope_of
from streamkit.model import sequence
from streamkit.model.errors import InvalidArgument, SerializationError
from streamkit.model.limits import BODY_BYTES_MAX, WAIT_MS_MAX
from streamkit.model.names import Scope
from streamkit.streams.service import Streams
from streamkit.streams.stream import Stream

T = TypeVar("T")


class Native:
    def __init__(self, streams: Streams, authenticator: Authenticator, default_scope: Scope) -> None:
        self._streams = streams
        self._authenticator = authenticator
        self._default_scope = default_scope

    @property
    def routes(self) -> Mapping[tuple[str, str], Route]:
        return {
            ("POST", protocol.PUT_PATH): self.put,
            ("POST", protocol.READ_PATH): self.read,
            ("POST", protocol.SEEK_PATH): self.seek,
            ("POST", protocol.CHECKPOINTS_PATH): self.checkpoints,
        }

    async def put(self, request: Request) -> Response:
        query = dict(parse_qsl(request.query))
        stream = self._stream(request, query.get("stream", ""))
        batch = protocol.decode_put(request.body)
        await stream.ready()
        if query.get("by") == "columns":
            return _json(protocol.PutAnswer(await stream.put_table(*protocol.key_and_data(batch))))
        stream.require_record_sizes([*map(len, batch.values())])
        put = stream.put(
            [key.encode() for key in batch.partition_keys()], list(map(bytes, batch.values())), batch.digests()
        )
        return _json(protocol.PutAnswer(len(put.places), await put.groups(), put.places, [*put.refused]))

    async def read(self, request: Request) -> Response:
        given = _decoded(request, protocol.ReadRequest)
        found = await self._stream(request, given.stream).read_any(
            given.offsets,
            records_max=max(given.records_max, 1),
            bytes_max=min(max(given.bytes_max, 1), BODY_BYTES_MAX),
            wait_ms=min(given.wait_ms, WAIT_MS_MAX),
        )
        head = protocol.ReadHead(found.ended, found.behind_ms)
        return Response(200, protocol.encode_read(head, found.batches), b"application/octet-stream")

    async def seek(self, request: Request) -> Response:
        given = _decoded(request, protocol.SeekRequest)
        return _json(await self._stream(request, given.stream).seek(given.shard, given.at_ms))

    async def checkpoints(self, request: Request) -> Response:
        given = _decoded(request, protocol.CheckpointsRequest)
        stream = self._stream(request, given.stream).state.id
        if given.save is not None:
            for number in given.save.values():
                if sequence.parse(number) is None:
                    raise InvalidArgument(f"{number!r} is no sequence number of this server.")
            await self._streams.checkpoints.save(given.consumer, stream, given.save)
        return _json(self._streams.checkpoints.load(given.consumer, stream))

    def _stream(self, request: Request, name: str) -> Stream:
        credential = self._authenticator.authenticate(request)
        return self._streams.find(scope_of(credential, *self._default_scope), name)


def _decoded(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except msgspec.DecodeError as error:
        raise SerializationError(f"The body is no {kind.__name__}: {error}.") from None


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value), b"application/json")
