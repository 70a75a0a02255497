"""Objects in a directory: the destination `files` (option: `path`), and the places where objects are.

An object appears at once and whole under its name, or not at all, and a name is given once: readers need no locks. The
staged file is linked into place, so that nothing is copied where both are on one file system. On another it is copied
to a hidden name beside the target and linked from there; on a file system without hard links it is renamed, after a
look whether the name is free (only there another writer's object of the very same moment may be replaced).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Protocol, TypeVar

from streamkit.delivery.destination import DeliveryFailed, Destination, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

THREADS: Final = 4  # of a place: what waits for a disk, which gains nothing from more at once
NAME_BYTES_MAX: Final = 255  # of one component: Linux, NAME_MAX
BLOCK_BYTES: Final = 1024 * 1024  # read and compared at once
DIRECTORIES_KNOWN_MAX: Final = 4_096  # remembered as durable; beyond it they are synced once more
HIDDEN: Final = ".streamkit-"  # begins the names of what is not there yet

# What `link` answers where it can never work: another file system, one without links, a file with too many.
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
_CODES: Final = {
    errno.ENOSPC: "NoSpace",
    errno.EDQUOT: "NoSpace",
    errno.EROFS: "ReadOnly",
    errno.EACCES: "AccessDenied",
    errno.EPERM: "AccessDenied",
    errno.ENOTDIR: "NotADirectory",
    errno.ENOENT: "NotFound",
}


_RENAMES: Final = threading.Lock()  # a look and a rename are one step, at least within this process


class Entry(NamedTuple):
    """An object in a listing."""

    key: str
    size_bytes: int
    modified_at_ms: int


class ObjectPlace(Protocol):
    """Where objects are: a directory, or a bucket, or what is below a prefix of it. `s3.open_place` opens one.

    All calls are made on the event loop, may overlap, and raise DeliveryFailed.
    """

    async def list(self, prefix: str = "") -> Sequence[Entry]:
        """Objects whose keys begin with this, by key. What is not there as a whole is not listed."""
        ...

    async def get_to_file(self, key: str, path: Path) -> None:
        """Writes an object to a local file, which is replaced; it is not synced."""
        ...

    async def put_from_file(
        self, key: str, path: Path, *, id: str = "", create: bool = True, may_be_there: bool = False
    ) -> None:
        """Returns when the object is there, whole and durable. The file must not change from now on, and may be the
        object afterwards (a link to it).

        `create`: the name must be free, or its object be this one: by its `id` where the place remembers ids, or with
        the same bytes if it `may_be_there`. Otherwise what has the name is replaced, at once.
        """
        ...

    async def delete(self, key: str) -> None:
        """Returns when there is no such object."""
        ...

    async def close(self) -> None: ...


class FilesPlace:
    """See `ObjectPlace`: a directory, which is made when it is needed. Keys are relative paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="streamkit-files")
        self._durable: set[Path] = set()  # directories whose own entries are synced

    async def list(self, prefix: str = "") -> Sequence[Entry]:
        return await self._run(f"{self.root} cannot be listed", lambda: self._list(prefix))

    async def get_to_file(self, key: str, path: Path) -> None:
        source = self._path(key)
        await self._run(f"{source} cannot be read", lambda: shutil.copyfile(source, path))

    async def put_from_file(
        self, key: str, path: Path, *, id: str = "", create: bool = True, may_be_there: bool = False
    ) -> None:
        target = self._path(key)
        put = self._create if create else self._replace
        tag = hashlib.md5(f"{key}\0{id}".encode(), usedforsecurity=False).hexdigest()
        await self._run(f"{target} cannot be written", lambda: put(target, path, tag, may_be_there))

    async def delete(self, key: str) -> None:
        path = self._path(key)

        def work() -> None:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync(path.parent)

        await self._run(f"{path} cannot be deleted", work)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, failed: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            _fail(failed, error)

    # -- on a thread -------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        """Raises DeliveryFailed for what must not or cannot be a path below the root."""
        parts = key.split("/")
        if not key or not parts[0]:
            _refuse(key, "it must be a relative path")
        if "\0" in key:
            _refuse(key, "it has a NUL")
        for part in parts:
            if part in ("", ".", ".."):
                _refuse(key, f"{part!r} is not a name")
            if part.startswith(HIDDEN):
                _refuse(key, f"names that begin with {HIDDEN} are of objects on their way")
            try:
                size = len(part.encode())
            except UnicodeEncodeError:
                _refuse(key, "it has half of a surrogate pair")
            if size > NAME_BYTES_MAX:
                _refuse(key, f"{part[:40]!r}... has {size} bytes, and a name may have {NAME_BYTES_MAX}")
        return self.root.joinpath(*parts)

    def _create(self, target: Path, source: Path, tag: str, may_be_there: bool) -> None:
        self._make(target.parent)
        _sync(source)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno == errno.EEXIST:
                self._accept(target, source, may_be_there)
            elif error.errno in _NO_LINKS:
                self._copy_into_place(target, source, tag, may_be_there)
            else:
                raise
        _sync(target.parent)

    def _copy_into_place(self, target: Path, source: Path, tag: str, may_be_there: bool) -> None:
        """For another file system. Never are two tries at work on one hidden file: each has its own, and takes away
        what an earlier one left; if that one is still going on, it finds its file missing and fails."""
        if may_be_there:
            for left in target.parent.glob(f"{HIDDEN}{tag}-*"):
                left.unlink(missing_ok=True)
        hidden = self._copy_beside(target, source, tag)
        try:
            try:
                os.link(hidden, target)
            except OSError as error:
                if error.errno == errno.EEXIST or (error.errno in _NO_LINKS and target.exists()):
                    self._accept(target, source, may_be_there)
                elif error.errno in _NO_LINKS:
                    self._rename_into_place(hidden, target)
                else:
                    raise
        finally:
            hidden.unlink(missing_ok=True)

    def _rename_into_place(self, hidden: Path, target: Path) -> None:
        with _RENAMES:
            if target.exists():
                raise OSError(errno.EBUSY, "another object of that name was put at the same moment", str(target))
            hidden.rename(target)

    def _replace(self, target: Path, source: Path, tag: str, may_be_there: bool) -> None:
        self._make(target.parent)
        hidden = self._copy_beside(target, source, tag)
        try:
            hidden.replace(target)
        finally:
            hidden.unlink(missing_ok=True)
        _sync(target.parent)

    def _copy_beside(self, target: Path, source: Path, tag: str) -> Path:
        """To a name that nobody else can have: what is linked into place must be this very file, whole."""
        descriptor, name = tempfile.mkstemp(prefix=f"{HIDDEN}{tag}-", dir=target.parent)
        hidden = Path(name)
        try:
            with open(descriptor, "wb") as writing, source.open("rb") as reading:
                shutil.copyfileobj(reading, writing, BLOCK_BYTES)
                writing.flush()
                os.fchmod(descriptor, stat.S_IMODE(source.stat().st_mode))
                os.fsync(descriptor)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        return hidden

    def _accept(self, target: Path, source: Path, may_be_there: bool) -> None:
        """The name is taken: by this very object, or the try ends here."""
        if not _is_same(target, source, by_bytes=may_be_there):
            message = f"another object of that name is there already: {target}"
            raise DeliveryFailed("Files.AlreadyExists", message, is_final=True)
        _sync(target)

    def _make(self, directory: Path) -> None:
        """Makes a directory and what it takes above it, durably: also where somebody else made it just now."""
        if directory in self._durable and directory.is_dir():
            return
        missing = []
        for each in (directory, *directory.parents):
            if each.is_dir() and (each in self._durable or not each.is_relative_to(self.root)):
                break
            missing.append(each)
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            if os.access(each.parent, os.R_OK):
                _sync(each.parent)
            if len(self._durable) >= DIRECTORIES_KNOWN_MAX:
                self._durable.clear()
            self._durable.add(each)

    def _list(self, prefix: str) -> Sequence[Entry]:
        start = self.root / prefix[: prefix.rfind("/") + 1]
        found = []
        for directory, _, names in os.walk(start):
            base = Path(directory)
            for name in names:
                path = base / name
                key = path.relative_to(self.root).as_posix()
                if name.startswith(HIDDEN) or not key.startswith(prefix):
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    found.append(Entry(key, status.st_size, status.st_mtime_ns // 1_000_000))
        return sorted(found)


def _is_same(one: Path, other: Path, *, by_bytes: bool) -> bool:
    found, expected = one.stat(), other.stat()
    if not stat.S_ISREG(found.st_mode):
        return False
    if (found.st_dev, found.st_ino) == (expected.st_dev, expected.st_ino):
        return True
    if not by_bytes or found.st_size != expected.st_size:
        return False
    with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
        while block := first.read(BLOCK_BYTES):
            if block != second.read(len(block)):
                return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(key: str, why: str) -> NoReturn:
    shown = key if len(key) <= NAME_BYTES_MAX else f"{key[:NAME_BYTES_MAX]}..."
    raise DeliveryFailed("Files.InvalidKey", f"{shown!r} cannot be the name of a file: {why}", is_final=True)


def _fail(failed: str, error: OSError) -> NoReturn:
    code = _CODES.get(error.errno or 0, "InputOutput")
    if error.errno == errno.EEXIST:  # of a directory that is to be made
        code = "NotADirectory"
    about = f" ({error.filename})" if error.filename and not error.filename2 else ""
    text = f"{failed}: {error.strerror or error}{about}"
    is_final = error.errno == errno.ENAMETOOLONG
    raise DeliveryFailed(f"Files.{code}", text, is_final=is_final) from error


class ObjectDestination:
    """See `Destination`: objects under their keys in a place. Exactly once, by the place's way to refuse a name."""

    takes: Takes = "objects"
    is_ordered = False

    def __init__(self, place: ObjectPlace, metric: str) -> None:
        self._place = place
        self.metric = metric
        self.failed_output_type = f"{metric.lower()}-failed"

    async def schema(self) -> pa.Schema | None:
        return None

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        await self._place.put_from_file(sealed.key, sealed.path, id=sealed.id, may_be_there=may_be_there)
        return ()

    async def close(self) -> None:
        await self._place.close()


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> Destination:
    return ObjectDestination(FilesPlace(path_of(spec)), "Files")


def path_of(spec: DestinationSpec) -> Path:
    """The directory that the options name. Raises UsageError."""
    path = spec.options.get("path")
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise UsageError("the destination `files` needs the option `path`, a directory")
    if unknown := sorted(spec.options.keys() - {"path"}):
        raise UsageError(f"the destination `files` has no option {unknown[0]!r}; it has `path`")
    return Path(path).absolute()
