"""Where a table's files are: a path of this machine, or a bucket of S3 or of a store that speaks its protocol.

A bucket is written `s3://bucket/folder` (`s3a://` and `s3n://` as well). Which store that is, and who asks, is what
AWS's own tools go by: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or `AWS_DEFAULT_REGION`, and the
credentials of the environment, a profile or a role. An endpoint without a key in the environment is asked unsigned.

Files whose name, or whose folder's name, begins with `.` or `_` are hidden, as Flink's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from streamkit_sql.errors import SqlError
from streamkit_sql.tables.definition import TableDefinition

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

S3_SCHEMES: Final = ("s3", "s3a", "s3n")
_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):(//)?")
_CONNECT_TIMEOUT_S: Final = 5.0
_REQUEST_TIMEOUT_S: Final = 30.0
_HIDDEN: Final = (".", "_")


@dataclass(frozen=True, slots=True)
class File:
    """`name` is below the table's path, `path` whole. Two of the same size and time are taken to be the same."""

    name: str
    path: str
    size_bytes: int
    modified_ns: int


class FilePlace(Protocol):
    """Where files are found. What fails there is a SqlError."""

    def is_there(self) -> bool:
        """Whether there is anything at the path."""
        ...

    def files(self) -> list[File]:
        """In the order of their names."""
        ...

    def open(self, file: File) -> Any:
        """Its bytes, as a file that can seek."""
        ...


def place_of(table: TableDefinition) -> FilePlace:
    """Where `path` is. SqlError for a scheme that there is no way to."""
    text = table.options["path"]
    match = _SCHEME.match(text)
    if match and match[1].lower() in S3_SCHEMES:
        bucket, _, key = text[match.end() :].partition("/")
        if not bucket:
            raise SqlError(f"the path {text!r} names no bucket.", table.place, "Write s3://bucket/folder.")
        return Bucket(table, bucket, key.strip("/"))
    return Disk(path_of(table))


def path_of(table: TableDefinition) -> Path:
    """`path` as a local one; SqlError for what is not on this machine."""
    text = table.options["path"]
    match = _SCHEME.match(text)
    if match and match[1] != "file":
        hint = "Give a path, or file:///.., or s3://bucket/folder for what is read."
        raise SqlError(f"the path {text!r} is not on this machine.", table.place, hint)
    return Path(text[match.end() :] if match else text)


class Disk:
    """This machine's files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_there(self) -> bool:
        return self._path.exists()

    def files(self) -> list[File]:
        if self._path.is_file():
            return [_of(self._path.name, self._path)]
        found = []
        for folder, folders, names in os.walk(self._path):
            folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
            for name in names:
                if not name.startswith(_HIDDEN):
                    path = Path(folder, name)
                    found.append(_of(path.relative_to(self._path).as_posix(), path))
        return sorted(found, key=lambda file: file.name)

    def open(self, file: File) -> Any:
        return Path(file.path).open("rb")


def _of(name: str, path: Path) -> File:
    found = path.stat()
    return File(name, str(path), found.st_size, found.st_mtime_ns)


class Bucket:
    """The objects at or below a key."""

    def __init__(self, table: TableDefinition, bucket: str, key: str) -> None:
        self._table = table
        self._root = f"{bucket}/{key}" if key else bucket
        self._store = _store(**settings(os.environ))

    def is_there(self) -> bool:
        return bool(self.files())

    def files(self) -> list[File]:
        from pyarrow.fs import FileSelector, FileType

        try:
            root = self._store.get_file_info(self._root)
            if root.type is FileType.File:
                found = [root]
            else:
                found = self._store.get_file_info(FileSelector(self._root, allow_not_found=True, recursive=True))
        except OSError as problem:
            raise self._failed(problem) from problem
        files = []
        for each in found:
            name = each.path[len(self._root) + 1 :] or each.base_name
            is_hidden = any(part.startswith(_HIDDEN) for part in name.split("/"))
            if each.type is FileType.File and not is_hidden:
                files.append(File(name, f"s3://{each.path}", each.size or 0, each.mtime_ns or 0))
        return sorted(files, key=lambda file: file.name)

    def open(self, file: File) -> Any:
        try:
            return self._store.open_input_file(file.path.removeprefix("s3://"))
        except OSError as problem:
            raise self._failed(problem) from problem

    def _failed(self, problem: OSError) -> SqlError:
        text = str(problem).split(" Detail")[0].split("\n")[0]
        hint = "The store and the key are those of the environment: AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID."
        return SqlError(
            f"table {self._table.name!r} cannot be read from s3://{self._root}: {text}.", self._table.place, hint
        )


def settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the environment says of the store."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    found: dict[str, Any] = {"region": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")}
    if endpoint:
        found["scheme"], _, found["endpoint_override"] = endpoint.rstrip("/").rpartition("://")
        found["scheme"] = found["scheme"] or "https"
        found["region"] = found["region"] or "us-east-1"
        found["anonymous"] = not (environment.get("AWS_ACCESS_KEY_ID") or environment.get("AWS_PROFILE"))
    if environment.get("AWS_ACCESS_KEY_ID"):
        found["access_key"] = environment["AWS_ACCESS_KEY_ID"]
        found["secret_key"] = environment.get("AWS_SECRET_ACCESS_KEY", "")
        found["session_token"] = environment.get("AWS_SESSION_TOKEN")
    return {key: value for key, value in found.items() if value is not None}


@lru_cache(maxsize=8)
def _store(**options: Any) -> S3FileSystem:
    """One for each way to ask: making it looks for credentials."""
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(connect_timeout=_CONNECT_TIMEOUT_S, request_timeout=_REQUEST_TIMEOUT_S, **options)
