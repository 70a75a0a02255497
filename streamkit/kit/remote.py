"""The library over a running server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from streamkit.api import protocol
from streamkit.kit.backend import Placement, Reading, StreamInfo, info_of, placements
from streamkit.kit.http_client import Answer, HttpClient
from streamkit.model import errors
from streamkit.model.hashkey import digest_of
from streamkit.model.limits import FRAME_COLUMNS_BYTES_MAX, FRAME_RECORDS_MAX, WAIT_MS_MAX
from streamkit.model.names import Scope
from streamkit.streams.routing import columns_of

if TYPE_CHECKING:
    import pyarrow as pa

    from streamkit.kit.delivery_client import DeliveryClient

T = TypeVar("T")

_BY_CODE: Final = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.RequestError)
}


class RemoteBackend:
    """See `streamkit.kit.backend.Backend`. The scope is sent as an unsigned credential, as local servers accept it."""

    def __init__(self, endpoint: str, scope: Scope) -> None:
        self._http = HttpClient(endpoint, timeout_s=60 + WAIT_MS_MAX / 1000)
        self._scope = scope
        self._deliveries: DeliveryClient | None = None
        self._headers = {
            "Authorization": (
                f"AWS4-HMAC-SHA256 Credential={scope.account}/20260101/{scope.region}/kinesis/aws4_request, "
                "SignedHeaders=host, Signature=0"
            ),
            "X-Amz-Date": "20260101T000000Z",
            "Content-Type": "application/x-amz-json-1.1",
        }

    async def start(self) -> None:
        """Nothing is connected before the first call."""

    async def close(self) -> None:
        await self._http.close()
        if self._deliveries is not None:
            await self._deliveries.close()

    async def call(self, operation: str, values: Mapping[str, Any]) -> dict[str, Any]:
        headers = {**self._headers, "X-Amz-Target": f"Kinesis_20131202.{operation}"}
        answer = await self._http.request("POST", "/", headers, [msgspec.json.encode(values)])
        found: dict[str, Any] = _decoded(answer, dict[str, Any])
        return found

    def deliveries(self) -> DeliveryClient:
        from streamkit.kit.delivery_client import DeliveryClient

        if self._deliveries is None:
            self._deliveries = DeliveryClient(self._http.endpoint, self._scope)
        return self._deliveries

    async def stream_names(self) -> list[str]:
        names: list[str] = []
        request: dict[str, Any] = {"Limit": 1000}
        while request:
            page = await self.call("ListStreams", request)
            names += page["StreamNames"]
            request = {"Limit": 1000, "NextToken": page["NextToken"]} if page["HasMoreStreams"] else {}
        return names

    async def describe(self, stream: str) -> StreamInfo:
        return await info_of(self, stream)

    async def put(
        self, stream: str, keys: Sequence[bytes], values: Sequence[bytes], hash_keys: Sequence[bytes | None] | None
    ) -> list[Placement | None]:
        found: list[Placement | None] = []
        for start, stop in _parts(keys, values):
            digests = None
            if hash_keys is not None:
                digests = [each or digest_of(key) for each, key in zip(hash_keys, keys, strict=True)][start:stop]
            answer = await self._put(stream, protocol.encode_rows(keys[start:stop], values[start:stop], digests))
            found += placements(answer.groups, answer.places, answer.refused)
        return found

    async def put_table(self, stream: str, keys: pa.Array, data: pa.Array) -> int:
        for window in columns_of(keys, data).windows(FRAME_RECORDS_MAX, FRAME_COLUMNS_BYTES_MAX):
            await self._put(stream, protocol.encode_columns(window), "&by=columns")
        return len(keys)

    async def read(
        self, stream: str, offsets: Mapping[int, int], *, records_max: int, bytes_max: int, wait_ms: int
    ) -> Reading:
        request = protocol.ReadRequest(stream, dict(offsets), records_max, bytes_max, min(wait_ms, WAIT_MS_MAX))
        answer = await self._post(protocol.READ_PATH, request)
        head, batches = protocol.decode_read(answer.body)
        return Reading(batches, head.ended, head.behind_ms)

    async def seek(self, stream: str, shard_index: int, at_ms: int | None) -> int:
        answer = await self._post(protocol.SEEK_PATH, protocol.SeekRequest(stream, shard_index, at_ms))
        return _decoded(answer, int)

    async def load_checkpoints(self, stream: str, consumer: str) -> dict[int, str]:
        answer = await self._post(protocol.CHECKPOINTS_PATH, protocol.CheckpointsRequest(stream, consumer))
        return _decoded(answer, dict[int, str])

    async def save_checkpoints(self, stream: str, consumer: str, shards: Mapping[int, str]) -> None:
        await self._post(protocol.CHECKPOINTS_PATH, protocol.CheckpointsRequest(stream, consumer, dict(shards)))

    async def _put(self, stream: str, body: Sequence[bytes], more: str = "") -> protocol.PutAnswer:
        path = f"{protocol.PUT_PATH}?stream={quote(stream)}{more}"
        answer = await self._http.request("POST", path, self._headers, body)
        return _decoded(answer, protocol.PutAnswer)

    async def _post(self, path: str, request: msgspec.Struct) -> Answer:
        answer = await self._http.request("POST", path, self._headers, [msgspec.json.encode(request)])
        if answer.status != 200:
            raise _error_of(answer)
        return answer


def _decoded(answer: Answer, kind: type[T]) -> T:
    if answer.status != 200:
        raise _error_of(answer)
    return msgspec.json.decode(answer.body or b"{}", type=kind)


def _error_of(answer: Answer) -> errors.StreamkitError:
    """The server's error as the class it was raised as."""
    try:
        fields = msgspec.json.decode(answer.body, type=dict[str, Any])
    except msgspec.DecodeError:
        fields = {}
    code = str(fields.get("__type", "")).rpartition("#")[2]
    message = str(fields.get("message", fields.get("Message", f"the server answered {answer.status}")))
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    return errors.ServerError(message)


def _parts(keys: Sequence[bytes], values: Sequence[bytes]) -> list[tuple[int, int]]:
    """Cuts a put so that each part is answered with places and fits a request."""
    parts = []
    start = size = 0
    for row, (key, value) in enumerate(zip(keys, values, strict=True)):
        size += len(key) + len(value)
        if row > start and (size > FRAME_COLUMNS_BYTES_MAX or row - start == protocol.ROWS_MAX):
            parts.append((start, row))
            start, size = row, len(key) + len(value)
    return [*parts, (start, len(keys))]
