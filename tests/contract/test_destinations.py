"""Every destination of ours that takes objects keeps the port's promises."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.clock import Clock
from streamkit.delivery.destination import Destination, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.testing.destination_contract import (
    DestinationContract,
    Document,
    Harness,
    ObjectDestinationContract,
    ObjectHarness,
)
from streamkit_connectors import files, redshift, s3
from tests.wire.object_store import FaultProxy, ObjectStore, fault_proxy, object_store
from tests.wire.postgres import Postgres, postgres

_BUCKETS: Final = itertools.count()


class FolderHarness(ObjectHarness):
    """A directory, read as anybody reads one: hidden names are not looked at."""

    impossible_keys: Sequence[str] = (
        "",
        "/absolute",
        "a/../b",
        "..",
        "a//b",
        "a/./b",
        "nul\0",
        "n" * 256,
        "ü" * 128,
        "\ud800",
    )

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, clock: Clock) -> Destination:
        spec = DestinationSpec("files", {"path": str(self.root)})
        return files.open_destination(spec, Surroundings(clock, self.root.parent))

    async def objects(self) -> Mapping[str, bytes]:
        found = {}
        for path in self.root.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                found[str(path.relative_to(self.root))] = path.read_bytes()
        return found

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """A file is where the directory was."""
        away = self.root.with_name("away")
        if self.root.exists():
            self.root.rename(away)
        self.root.parent.mkdir(parents=True, exist_ok=True)
        self.root.write_bytes(b"")
        try:
            yield
        finally:
            self.root.unlink()
            if away.exists():
                away.rename(self.root)


class TestFiles(ObjectDestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FolderHarness:
        return FolderHarness(tmp_path / "lake" / "nobody made it yet")


class TestFilesOnAnotherFileSystem(ObjectDestinationContract):
    """Where the staged file cannot be linked to: every object is copied."""

    @pytest.fixture
    def harness(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderHarness:
        forbid_links(monkeypatch, "staged by the kit")
        return FolderHarness(tmp_path / "lake")


class TestFilesWithoutHardLinks(ObjectDestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderHarness:
        forbid_links(monkeypatch, "")
        return FolderHarness(tmp_path / "lake")


class BucketFolderHarness(FolderHarness):
    impossible_keys = ("", "/", "a/../b", "..", "nul\0", "n" * 256)

    def open(self, clock: Clock) -> Destination:
        spec = DestinationSpec("s3", {"bucket": self.root.name})
        return s3.open_destination(spec, Surroundings(clock, self.root.parent))


class TestS3OnFolders(ObjectDestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FolderHarness:
        return BucketFolderHarness(tmp_path / "buckets" / "a-bucket")


class S3Harness(ObjectHarness):
    """A folder of a bucket of moto's, behind a proxy that fails on demand; read by boto3."""

    _PREFIX: Final = "größe/year=2023"
    impossible_keys = ("", "/", "a/../b", "..", "nul\0", "n" * 1025, "\ud800")

    def __init__(self, store: ObjectStore, proxy: FaultProxy) -> None:
        self._store = store
        self._proxy = proxy
        self._bucket = f"bucket-{next(_BUCKETS)}"
        store.make_bucket(self._bucket)

    def open(self, clock: Clock) -> Destination:
        spec = DestinationSpec("s3", {"bucket": self._bucket, "prefix": self._PREFIX})
        settings = self._store.settings_at(self._proxy.endpoint)
        return s3.open_destination(spec, Surroundings(clock, Path("unused"), object_store=settings))

    async def objects(self) -> Mapping[str, bytes]:
        found = self._store.objects(self._bucket)
        folder = f"{self._PREFIX}/"
        assert all(key.startswith(folder) for key in found)
        return {key.removeprefix(folder): content for key, content in found.items()}

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._proxy.otherwise = "cut"
        try:
            yield
        finally:
            self._proxy.otherwise = "pass"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture
def proxy(store: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(store) as started:
        yield started


class TestS3(ObjectDestinationContract):
    @pytest.fixture
    def harness(self, store: ObjectStore, proxy: FaultProxy) -> S3Harness:
        return S3Harness(store, proxy)


class RedshiftHarness(Harness):
    """A table of a real PostgreSQL, loaded from standard input; staged in a bucket that is a folder."""

    def __init__(self, server: Postgres, buckets: Path, **options: Any) -> None:
        self._server = server
        self._buckets = buckets
        self._table = f"flights_{next(_BUCKETS)}"
        self._options = options
        with server.connect() as connection:
            connection.execute(f"CREATE TABLE {self._table} (id BIGINT, text TEXT)")

    def open(self, clock: Clock) -> Destination:
        options = {"jdbc_url": self._server.url, "table": self._table, "bucket": "staging", "copy_form": "stdin"}
        surroundings = Surroundings(clock, self._buckets)
        return redshift.open_destination(DestinationSpec("redshift", {**options, **self._options}), surroundings)

    async def read_back(self) -> Sequence[Document]:
        with self._server.connect() as connection:
            found = connection.execute(f"SELECT id, text FROM {self._table}").fetchall()
        return [Document(*row) for row in found]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


class TestRedshift(DestinationContract):
    @pytest.fixture
    def harness(self, server: Postgres, tmp_path: Path) -> RedshiftHarness:
        return RedshiftHarness(server, tmp_path, copy_options="JSON 'auto'", deliveries_table=f"seen_{next(_BUCKETS)}")


class TestRedshiftAtLeastOnce(DestinationContract):
    """Without the table that remembers deliveries, and without staging."""

    @pytest.fixture
    def harness(self, server: Postgres, tmp_path: Path) -> RedshiftHarness:
        harness = RedshiftHarness(
            server, tmp_path, copy_options="JSON 'auto'", columns="text, id", deliveries_table="", bucket=""
        )
        harness.exactly_once = False
        return harness


def forbid_links(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Hard links of what has this in its path fail, as across file systems."""
    import errno
    import os

    link = os.link

    def refuse(src: Path, dst: Path) -> None:
        if source in str(src):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(src), None, str(dst))
        link(src, dst)

    monkeypatch.setattr(os, "link", refuse)
