"""Code packages by their content: taken as zips or directories, kept packed and unpacked.

<directory>/<sha256>/      the package unpacked; files and directories cannot be written
<directory>/<sha256>.zip   as it was given; it is written last, so where it is, the directory is whole
<directory>/<other>        work that a crash interrupted; removed by `start`

The hash is of the zip. Equal packages are stored once; nobody counts who uses them: `retain` is told.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Final, Protocol, TypeVar

import pybase64

from streamkit.functions.state import CodeState
from streamkit.model.errors import InvalidParameterValue, RequestEntityTooLarge, StorageUnavailable
from streamkit.model.limits import CODE_FILES_MAX, CODE_UNPACKED_BYTES_MAX, CODE_ZIP_BYTES_MAX, MIB

T = TypeVar("T")

UNREADABLE: Final = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY: Final = "Uploaded file must be a non-empty zip"
TOO_LARGE: Final = f"Unzipped size must be smaller than {CODE_UNPACKED_BYTES_MAX} bytes"
ZIP_TOO_LARGE: Final = f"Zipped size must be smaller than {CODE_ZIP_BYTES_MAX} bytes"

_CHUNK_BYTES: Final = 1 * MIB
_PACKAGE: Final = re.compile(r"[0-9a-f]{64}")
# What tools leave in a directory and no function needs; the same code gives the same package with or without them.
_IGNORED_DIRECTORIES: Final = frozenset(
    ("__pycache__", ".git", ".hg", ".svn", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis")
)
_IGNORED_FILES: Final = re.compile(r".*\.py[co]|\.DS_Store")
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)  # of a zip; every entry's time, so that equal directories make equal zips
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression that Python cannot undo
    RuntimeError,  # encrypted
    UnicodeError,
    FileExistsError,  # a name that is a file and a directory
    NotADirectoryError,
    IsADirectoryError,
    ValueError,
)


class Run(Protocol):
    """Runs a blocking call away from the event loop: `asyncio.to_thread`. A simulation calls it at once."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


class CodeStore:
    """Packages are there, on disk, when a `put_` returns; a failed one leaves nothing.

    `lock` is held by who puts until a document names what was put, and by who retains: packages that nothing names yet
    would be removed.
    """

    def __init__(self, directory: Path, *, run: Run = asyncio.to_thread) -> None:
        self.lock = asyncio.Lock()
        self._directory = directory
        self._run = run
        self._counter = itertools.count()

    async def start(self) -> None:
        """Makes the directory, and removes what a crash left half done."""
        await self._run(self._clean)

    async def put_zip(self, data: bytes) -> CodeState:
        """Raises RequestEntityTooLarge or InvalidParameterValue, in AWS's words."""
        if len(data) > CODE_ZIP_BYTES_MAX:
            raise RequestEntityTooLarge(ZIP_TOO_LARGE)
        if not data:
            raise InvalidParameterValue(EMPTY)
        return await self._run(lambda: self._put(lambda path: _write(path, data)))

    async def put_path(self, path: Path) -> CodeState:
        """A copy of a directory as it is now, or of a zip file. The bound on the size of a zip is not for these."""
        return await self._run(lambda: self._put(lambda zipped: _snapshot(path, zipped)))

    def unpacked(self, code: CodeState) -> Path:
        return self._directory / code.sha256

    def zip_path(self, sha256: str) -> Path | None:
        """The zip of a package, or None if there is no such package."""
        if not _PACKAGE.fullmatch(sha256):
            return None
        path = self._directory / f"{sha256}.zip"
        return path if path.exists() else None

    async def read_zip(self, sha256: str) -> bytes | None:
        path = self.zip_path(sha256)
        return None if path is None else await self._run(path.read_bytes)

    def packages(self) -> set[str]:
        """The hashes of all packages that are there."""
        return {path.stem for path in self._directory.glob("*.zip")}

    async def retain(self, hashes: Collection[str]) -> None:
        """Removes all other packages."""
        await self._run(lambda: self._remove(self.packages() - set(hashes)))

    # -- on a thread -------------------------------------------------------------------------------------------------

    def _put(self, make_zip: Callable[[Path], None]) -> CodeState:
        work = self._directory / f"new-{os.getpid()}-{next(self._counter)}"
        try:
            work.mkdir(parents=True)
            zipped, unpacked = work / "zip", work / "unpacked"
            make_zip(zipped)
            unpacked.mkdir()
            unpacked_bytes = _unpack(zipped, unpacked)
            code = CodeState(_hash_of(zipped), zipped.stat().st_size, unpacked_bytes)
            if self.zip_path(code.sha256) is None:
                self._adopt(code, zipped, unpacked)
        except OSError as error:
            raise StorageUnavailable(f"The code could not be stored: {error.strerror or error}.") from error
        finally:
            _remove_tree(work)
        return code

    def _adopt(self, code: CodeState, zipped: Path, unpacked: Path) -> None:
        _sync_tree(unpacked)
        _sync(zipped)
        _remove_tree(self.unpacked(code))  # without its zip it may not be whole
        # A directory that cannot be written cannot be moved either, as its `..` changes: only what it holds is closed.
        unpacked.rename(self.unpacked(code))
        _close(self.unpacked(code))
        _sync(self._directory)
        zipped.chmod(0o444)
        zipped.rename(self._directory / f"{code.sha256}.zip")
        _sync(self._directory)

    def _clean(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        whole = self.packages()
        for path in self._directory.iterdir():
            name = path.name.removesuffix(".zip")
            if not _PACKAGE.fullmatch(name) or name not in whole:
                _remove_tree(path)

    def _remove(self, hashes: Collection[str]) -> None:
        for sha256 in hashes:
            (self._directory / f"{sha256}.zip").unlink(missing_ok=True)
            _remove_tree(self._directory / sha256)


def aws_hash(code: CodeState) -> str:
    """The hash as AWS writes it: base64."""
    return pybase64.b64encode_as_string(bytes.fromhex(code.sha256))


# -- zips ------------------------------------------------------------------------------------------------------------


def _unpack(zipped: Path, root: Path) -> int:
    """The bytes it takes unpacked: counted while they are written, as what a zip says of itself may be a lie."""
    try:
        with zipfile.ZipFile(zipped) as package:
            entries = package.infolist()
            if not any(not entry.is_dir() for entry in entries):
                raise InvalidParameterValue(EMPTY)
            if len(entries) > CODE_FILES_MAX:
                raise InvalidParameterValue(f"The package has {len(entries)} files; at most {CODE_FILES_MAX} can be.")
            return _unpack_entries(package, entries, root)
    except _BROKEN:
        raise InvalidParameterValue(UNREADABLE) from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise InvalidParameterValue(UNREADABLE) from None
        raise


def _unpack_entries(package: zipfile.ZipFile, entries: list[zipfile.ZipInfo], root: Path) -> int:
    links: list[tuple[Path, str]] = []
    unpacked_bytes = 0
    for entry in entries:
        path = _place(root, entry.filename)
        mode = entry.external_attr >> 16
        if entry.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            links.append((path, _target(package, entry)))
            continue
        path.unlink(missing_ok=True)  # a zip may have a name twice: the last one counts
        with package.open(entry) as source, path.open("xb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                unpacked_bytes += len(chunk)
                if unpacked_bytes > CODE_UNPACKED_BYTES_MAX:
                    raise InvalidParameterValue(TOO_LARGE)
                target.write(chunk)
        path.chmod(0o555 if mode & 0o111 else 0o444)
    _make_links(root, links)
    return unpacked_bytes


def _place(root: Path, name: str) -> Path:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise InvalidParameterValue(f"The package has a file outside of itself: {name[:200]}.")
    return root.joinpath(*parts)


def _target(package: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    with package.open(entry) as source:
        return source.read(os.pathconf("/", "PC_PATH_MAX")).decode()


def _make_links(root: Path, links: list[tuple[Path, str]]) -> None:
    """Made when all files are there, so that none is written through a link; where they lead is asked when all links
    are there, as they may lead over each other."""
    for path, target in links:
        if path.is_symlink() or path.is_file():
            path.unlink()
        path.symlink_to(target)
    real_root = root.resolve()
    for path, target in links:
        leads_to = Path(os.path.realpath(path))
        if target.startswith("/") or not leads_to.is_relative_to(real_root):
            raise InvalidParameterValue(f"The package has a link that leads out of it: {path.relative_to(root)}.")


def pack(directory: Path, zipped: Path | IO[bytes]) -> None:
    """The same files make the same zip. Links are kept as links. Raises OSError, InvalidParameterValue."""
    unpacked_bytes = 0
    with zipfile.ZipFile(zipped, "x", zipfile.ZIP_DEFLATED) as package:
        for path in files_of(directory):
            entry = zipfile.ZipInfo(path.relative_to(directory).as_posix(), _EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if path.is_symlink():
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                package.writestr(entry, str(path.readlink()))
                continue
            mode = path.stat().st_mode
            entry.external_attr = (stat.S_IFREG | (0o755 if mode & 0o111 else 0o644)) << 16
            with path.open("rb") as source, package.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(_CHUNK_BYTES):
                    unpacked_bytes += len(chunk)
                    if unpacked_bytes > CODE_UNPACKED_BYTES_MAX:
                        raise InvalidParameterValue(TOO_LARGE)
                    target.write(chunk)


def files_of(directory: Path) -> Iterator[Path]:
    """What of a directory belongs to a package, in an order of their own: that of their names."""
    for path in sorted(directory.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name not in _IGNORED_DIRECTORIES:
                yield from files_of(path)
        elif (path.is_file() or path.is_symlink()) and not _IGNORED_FILES.fullmatch(path.name):
            yield path


# -- files -----------------------------------------------------------------------------------------------------------


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _snapshot(path: Path, zipped: Path) -> None:
    if path.is_dir():
        pack(path, zipped)
    elif not path.is_file():
        raise InvalidParameterValue(f"{path} is neither a directory nor a zip file.")
    elif path.stat().st_size > CODE_UNPACKED_BYTES_MAX:
        raise InvalidParameterValue(TOO_LARGE)
    else:
        shutil.copyfile(path, zipped)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                _sync(path)
        _sync(Path(folder))


def _close(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        Path(folder).chmod(0o555)


def _remove_tree(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o755)
    shutil.rmtree(path, ignore_errors=not path.exists())
