"""How pyiceberg reads and writes files here: durable ones on this machine, objects through our own client.

pyarrow's files of this machine are not synced and are seen while they are written: a commit in the catalog must not
outlive, in a crash of the machine, the files it names. Its S3 client tries again for half a minute before it tells of
an error, and puts over what is there; ours gives a name once, and who delivers tries again."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Awaitable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from streamkit.clock import SystemClock
from streamkit.delivery.destination import Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit_connectors.files import ObjectPlace
from streamkit_connectors.s3 import open_place
from streamkit_connectors.tables import WholeFile

T = TypeVar("T")

_SCHEMES: Final = ("s3", "s3a", "s3n")
_SETTINGS: Final = {
    "endpoint": "s3.endpoint",
    "region": "s3.region",
    "access_key_id": "s3.access-key-id",
    "secret_access_key": "s3.secret-access-key",
    "session_token": "s3.session-token",
}


def store_properties(store: Mapping[str, str]) -> dict[str, str]:
    """pyiceberg's names for the settings of an object store."""
    return {name: store[ours] for ours, name in _SETTINGS.items() if store.get(ours)}


class SyncedFile(PyArrowFile):
    """On this machine."""

    def create(self, overwrite: bool = False) -> Any:
        path = Path(self._path)
        if not overwrite and path.exists():
            raise FileExistsError(f"{path} is there already")
        return WholeFile(path, replaces=overwrite)


class BucketFile(InputFile, OutputFile):
    """An object; it is read as a whole, into a file that has no name."""

    def __init__(self, location: str, place: ObjectPlace, key: str) -> None:
        super().__init__(location)
        self._place = place
        self._key = key

    def __len__(self) -> int:
        entries = asyncio.run(_result(self._place.list(self._key)))
        for each in entries:
            if each.key == self._key:
                return each.size_bytes
        raise FileNotFoundError(self.location)

    def exists(self) -> bool:
        try:
            len(self)
        except FileNotFoundError:
            return False
        return True

    def open(self, seekable: bool = True) -> Any:
        with tempfile.NamedTemporaryFile(prefix="streamkit-iceberg-") as file:
            asyncio.run(self._place.get_to_file(self._key, Path(file.name)))
            return open(file.name, "rb")

    def create(self, overwrite: bool = False) -> Any:
        """Put when it is closed. Its name is its id: whoever puts the same name means the same content."""
        return _Upload(self._place, self._key, replaces=overwrite)

    def to_input_file(self) -> BucketFile:
        return self


class _Upload(io.FileIO):
    def __init__(self, place: ObjectPlace, key: str, *, replaces: bool) -> None:
        self._place = place
        self._key = key
        self._replaces = replaces
        self._file = tempfile.NamedTemporaryFile(prefix="streamkit-iceberg-")  # noqa: SIM115 closed when it is put
        super().__init__(self._file.name, "w")

    def write(self, data: Any, /) -> int:
        """All of it: a plain file may take less."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        return done

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        try:
            put = self._place.put_from_file(
                self._key, Path(self._file.name), id=self._key, create=not self._replaces, may_be_there=True
            )
            asyncio.run(_result(put))
        finally:
            self._file.close()

    def __del__(self) -> None:
        if not self.closed:  # it was abandoned: what is there is not whole
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            super().close()
            self._file.close()


async def _result(work: Awaitable[T]) -> T:
    return await work


class LakeFileIO(PyArrowFileIO):
    """pyiceberg's `py-io-impl`. All of it blocks, on threads without an event loop."""

    def new_input(self, location: str) -> Any:
        return self._bucket_file(location) or super().new_input(location)

    def new_output(self, location: str) -> Any:
        if (found := self._bucket_file(location)) is not None:
            return found
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return SyncedFile(location, path, self.fs_by_scheme(scheme, netloc))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        name = location if isinstance(location, str) else location.location
        found = self._bucket_file(name)
        if found is None:
            super().delete(location)
        else:
            asyncio.run(_result(found._place.delete(found._key)))

    def _bucket_file(self, location: str) -> BucketFile | None:
        scheme, _, rest = location.partition("://")
        if scheme not in _SCHEMES:
            return None
        bucket, _, key = rest.partition("/")
        settings = {ours: str(self.properties[name]) for ours, name in _SETTINGS.items() if self.properties.get(name)}
        region = settings.setdefault("region", "us-east-1")
        if "endpoint" not in settings:  # AWS's, with the credentials that its tools find
            settings["endpoint"] = f"https://s3.{region}.amazonaws.com"
        surroundings = Surroundings(SystemClock(), Path(), region, settings)
        return BucketFile(location, open_place(DestinationSpec("s3", {"bucket": bucket}), surroundings), key)
