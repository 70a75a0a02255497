"""Record destinations `arn:aws:s3:::bucket[/prefix]`: objects are files, `<data>/buckets/<bucket>/<key>`.

Local folders stand for buckets until an S3 endpoint is configured; a bucket is made when it is first written to. A
document is known by its object's name: a file that is there is not written again.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Final

from streamkit.functions.destinations import Delivery, RecordDestination
from streamkit.model.errors import InvalidParameterValue, StorageUnavailable
from streamkit.shards.files import DiskFiles

_ARN: Final = re.compile(r"arn:aws[^:]*:s3:::([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_PARTS: Final = ".parts"  # files being written; no bucket's name begins with a dot


class BucketFiles:
    """Finds the destinations of a data directory's buckets: `resolve` is given to `RecordDestinations` for `s3`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def resolve(self, arn: str) -> RecordDestination:
        """Raises InvalidParameterValue."""
        match = _ARN.fullmatch(arn)
        if match is None or ".." in match[1]:
            raise InvalidParameterValue(f"The destination ARN {arn} is invalid.")
        prefix = (match[2] or "").strip("/")
        if prefix:
            _require_key(prefix)
        return _BucketFolder(self._directory, match[1], prefix)


class _BucketFolder:
    """See `streamkit.functions.destinations.RecordDestination`."""

    def __init__(self, directory: Path, bucket: str, prefix: str) -> None:
        self._directory = directory
        self._bucket = bucket
        self._prefix = prefix

    async def position(self) -> str | None:
        return None

    async def deliver(self, delivery: Delivery, *, since: str | None = None, may_be_there: bool = False) -> None:
        """The file is there wholly or not at all, also after a crash. Raises StorageUnavailable, and
        InvalidParameterValue where the name cannot be a file's."""
        name = delivery.object_name or delivery.id
        key = f"{self._prefix}/{name}" if self._prefix else name
        _require_key(key)
        try:
            await asyncio.to_thread(self._write, key, delivery)
        except OSError as error:
            raise StorageUnavailable(f"{self._bucket}/{key} could not be written: {error}.") from error

    def _write(self, key: str, delivery: Delivery) -> None:
        files = DiskFiles()
        path = self._directory / self._bucket / key
        if path.is_file():
            return
        files.make_directory(path.parent)
        parts = self._directory / _PARTS
        files.make_directory(parts)
        part = parts / re.sub(r"[^A-Za-z0-9-]", "_", delivery.id)
        try:
            with part.open("wb") as file:
                file.write(delivery.body)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)  # unlike a rename it never replaces what is there
            except FileExistsError:
                pass
        finally:
            part.unlink(missing_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _require_key(key: str) -> None:
    """A key must be the path of a file below its bucket."""
    names = key.split("/")
    if "\0" in key or any(name in ("", ".", "..") or len(name.encode()) > 255 for name in names):
        raise InvalidParameterValue(
            f"The object name {key[:200]!r} cannot be a file's: each part between slashes must be of 1 to 255 bytes "
            "and neither . nor ..; choose another prefix."
        )
