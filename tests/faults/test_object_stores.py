"""Stores and disks that fail in the middle of a delivery: after another try the object is there once and whole."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import random
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from streamkit.delivery.destination import DeliveryFailed, Destination, Sealed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.testing.clock import ManualClock
from streamkit.testing.destination_contract import deliver_stubbornly, sealed_of
from streamkit_connectors import files, s3
from tests.wire.object_store import Fault, FaultProxy, ObjectStore, fault_proxy, object_store

_BUCKETS: Final = itertools.count()
TIMEOUT_MS: Final = 400


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture
def proxy(store: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(store) as started:
        yield started


class Bucket(NamedTuple):
    """A bucket of the store, and how to reach it through the proxy."""

    name: str
    store: ObjectStore
    proxy: FaultProxy

    def open(self) -> Destination:
        spec = DestinationSpec("s3", {"bucket": self.name, "timeout_ms": TIMEOUT_MS})
        settings = self.store.settings_at(self.proxy.endpoint)
        return s3.open_destination(spec, Surroundings(ManualClock(), Path("unused"), object_store=settings))


@pytest.fixture
def bucket(store: ObjectStore, proxy: FaultProxy) -> Bucket:
    made = Bucket(f"faulty-{next(_BUCKETS)}", store, proxy)
    store.make_bucket(made.name)
    return made


def staged(directory: Path, content: bytes, *, key: str = "a/key", number: int = 1) -> Sealed:
    path = directory / f"staged-{number}"
    path.write_bytes(content)
    return sealed_of(path, 1, key=key, number=number)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 60)

    asyncio.run(bounded())


# -- an object store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 11, 200_000])
@pytest.mark.parametrize(
    ("fault", "code", "is_there"),
    [
        ("cut", "S3.ConnectionFailed", False),
        ("stall", "S3.RequestTimeout", False),
        ("lose", "S3.ConnectionFailed", True),
        ("slow down", "S3.SlowDown", False),
        ("fail", "S3.InternalError", False),
        ("deny", "S3.AccessDenied", False),
        ("conflict", "S3.ConditionalRequestConflict", False),
    ],
)
def test_a_fault_is_told_by_its_code_and_the_next_try_leaves_the_object_there_once(
    bucket: Bucket, tmp_path: Path, fault: Fault, code: str, is_there: bool, size: int
) -> None:
    """Also where the first try had put it, and only the answer was lost: it is not written a second time."""
    sealed = staged(tmp_path, bytes(size))

    async def scenario() -> None:
        destination = bucket.open()
        bucket.proxy.then(fault)
        with pytest.raises(DeliveryFailed) as caught:
            await destination.deliver(sealed, may_be_there=False)
        assert (caught.value.error_code, caught.value.is_final) == (code, False)
        assert f"s3://{bucket.name}/a/key" in caught.value.message
        assert (bucket.store.objects(bucket.name) != {}) == is_there
        await destination.deliver(sealed, may_be_there=True)

    run(scenario)
    assert bucket.store.objects(bucket.name) == {"a/key": bytes(size)}
    assert bucket.store.versions(bucket.name) == {"a/key": 1}


@pytest.mark.parametrize("fault", ["cut", "lose", "stall", "slow down"])
def test_a_fault_while_the_taken_name_is_looked_at_is_only_one_more_failure(
    bucket: Bucket, tmp_path: Path, fault: Fault
) -> None:
    """The try after a lost answer asks whose object it is; that question can fail too."""
    sealed = staged(tmp_path, b"content")

    async def scenario() -> None:
        destination = bucket.open()
        bucket.proxy.then("lose", "pass", fault)
        for may_be_there in (False, True):
            with pytest.raises(DeliveryFailed) as caught:
                await destination.deliver(sealed, may_be_there=may_be_there)
            assert not caught.value.is_final
        await destination.deliver(sealed, may_be_there=True)

    run(scenario)
    assert bucket.store.versions(bucket.name) == {"a/key": 1}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_many_deliveries_each_object_is_written_once(
    bucket: Bucket, tmp_path: Path, seed: int
) -> None:
    """Faults by chance, several deliveries at a time, each tried until it works."""
    rng = random.Random(seed)
    faults: list[Fault] = ["pass", "pass", "cut", "lose", "lose", "slow down", "conflict", "fail"]
    sealed = [staged(tmp_path, b"%d" % each * 1_000, key=f"key/{each}", number=each) for each in range(40)]
    bucket.proxy.then(*rng.choices(faults, k=150))

    async def scenario() -> None:
        destinations = [bucket.open(), bucket.open()]
        await asyncio.gather(*(deliver_stubbornly(rng.choice(destinations), each) for each in sealed))

    run(scenario)
    assert bucket.store.objects(bucket.name) == {each.key: each.path.read_bytes() for each in sealed}
    assert set(bucket.store.versions(bucket.name).values()) == {1}
    assert {fault for _, fault in bucket.proxy.seen} == set(faults)


def test_a_bucket_may_be_made_after_the_first_try(store: ObjectStore, proxy: FaultProxy, tmp_path: Path) -> None:
    bucket = Bucket(f"late-{next(_BUCKETS)}", store, proxy)
    sealed = staged(tmp_path, b"content")

    async def scenario() -> None:
        destination = bucket.open()
        for may_be_there in (False, True):
            with pytest.raises(DeliveryFailed, match="bucket does not exist") as caught:
                await destination.deliver(sealed, may_be_there=may_be_there)
            assert (caught.value.error_code, caught.value.is_final) == ("S3.NoSuchBucket", False)
        await asyncio.to_thread(store.make_bucket, bucket.name)
        await destination.deliver(sealed, may_be_there=True)

    run(scenario)
    assert store.objects(bucket.name) == {"a/key": b"content"}


@pytest.mark.parametrize("is_as_long", [False, True])
def test_an_object_that_another_program_put_there_is_left_alone(
    bucket: Bucket, tmp_path: Path, is_as_long: bool
) -> None:
    """It bears no id, and is not taken for ours, whatever its size."""
    theirs = b"theirs!" if is_as_long else b"something else"
    with bucket.store.client() as client:
        client.put_object(Bucket=bucket.name, Key="a/key", Body=theirs)
    sealed = staged(tmp_path, b"content")

    async def scenario() -> None:
        with pytest.raises(DeliveryFailed, match="another writer") as caught:
            await bucket.open().deliver(sealed, may_be_there=True)
        assert (caught.value.error_code, caught.value.is_final) == ("S3.AlreadyExists", True)

    run(scenario)
    assert bucket.store.objects(bucket.name) == {"a/key": theirs}


def test_a_store_without_conditions_is_noticed_once_and_served_all_the_same(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Then names are checked before they are put: nothing of others is replaced, lost answers double nothing."""
    bucket.proxy.otherwise = "no conditions"
    sealed = [staged(tmp_path, b"content %d" % each, key=f"key/{each}", number=each) for each in range(4)]
    with bucket.store.client() as client:
        client.put_object(Bucket=bucket.name, Key="key/3", Body=b"theirs")

    async def scenario() -> None:
        destination = bucket.open()
        await destination.deliver(sealed[0], may_be_there=False)
        await destination.deliver(sealed[1], may_be_there=False)
        bucket.proxy.then("pass", "lose")  # the look, and the put
        with pytest.raises(DeliveryFailed):
            await destination.deliver(sealed[2], may_be_there=False)
        await destination.deliver(sealed[2], may_be_there=True)
        with pytest.raises(DeliveryFailed) as caught:
            await destination.deliver(sealed[3], may_be_there=False)
        assert caught.value.is_final

    with caplog.at_level(logging.WARNING, "streamkit_connectors"):
        run(scenario)
    assert [record.getMessage() for record in caplog.records] == [
        "the object store takes no conditions: names are checked before they are put"
    ]
    expected = {each.key: each.path.read_bytes() for each in sealed[:3]}
    assert bucket.store.objects(bucket.name) == expected | {"key/3": b"theirs"}
    assert set(bucket.store.versions(bucket.name).values()) == {1}


@pytest.mark.parametrize("fault", ["cut", "lose"])
@pytest.mark.parametrize("place", range(5))
def test_an_upload_in_parts_that_fails_anywhere_is_completed_by_the_next(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, place: int
) -> None:
    """At the look, the beginning, a part or the end of it."""
    monkeypatch.setattr(s3, "SINGLE_PUT_BYTES_MAX", 1_000_000)
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024 * 1024)
    sealed = staged(tmp_path, random.Random(place).randbytes(6 * 1024 * 1024))

    async def scenario() -> None:
        destination = bucket.open()
        before: list[Fault] = ["pass"] * place
        bucket.proxy.then(*before, fault)
        with pytest.raises(DeliveryFailed) as caught:
            await destination.deliver(sealed, may_be_there=False)
        assert not caught.value.is_final
        await deliver_stubbornly(destination, sealed)
        await destination.deliver(sealed, may_be_there=True)

    run(scenario)
    assert bucket.store.objects(bucket.name) == {"a/key": sealed.path.read_bytes()}
    assert bucket.store.versions(bucket.name) == {"a/key": 1}
    metadata = bucket.store.head(bucket.name, "a/key")["Metadata"]
    assert metadata == {"streamkit-object": sealed.id}


# -- a directory -----------------------------------------------------------------------------------------------------

CALLS: Final = ("mkdir", "open", "fsync", "link", "unlink", "rename")


class Died(BaseException):
    """The process is gone: nothing runs after it."""


@dataclass
class BadDisk:
    """Fails at one call of the operating system, and where the process died, at each one after it."""

    fails_at: int
    error: int | None  # None: the process dies there
    has_links: bool
    count: int = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.error is None and self.count >= self.fails_at:
                raise Died
            if self.count == self.fails_at and self.error is not None:
                raise OSError(self.error, os.strerror(self.error), str(arguments[0]))
            if name == "link" and not self.has_links and "staged" in str(arguments[0]):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(arguments[0]), None, str(arguments[1]))
            return call(*arguments, **options)

        return wrapped


@pytest.mark.parametrize("has_links", [True, False], ids=["linked", "copied"])
@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EIO, errno.EROFS, None], ids=["full", "broken", "read only", "died"]
)
def test_a_disk_that_fails_at_any_call_leaves_a_whole_object_or_none(
    tmp_path: Path, error: int | None, has_links: bool
) -> None:
    """The next try completes it, takes what the failed one found for what it is, and tidies up after it."""
    codes = {errno.ENOSPC: "Files.NoSpace", errno.EIO: "Files.InputOutput", errno.EROFS: "Files.ReadOnly"}
    sealed = staged(tmp_path, bytes(range(256)) * 20_000)
    for fails_at in itertools.count(1):
        root = tmp_path / f"lake {fails_at}"
        disk = BadDisk(fails_at, error, has_links)

        def try_once(root: Path, disk: BadDisk, *, may_be_there: bool) -> None:
            place = files.FilesPlace(root)

            async def scenario() -> None:
                destination = files.ObjectDestination(place, "Files")
                try:
                    await destination.deliver(sealed, may_be_there=may_be_there)
                finally:
                    await destination.close()

            with pytest.MonkeyPatch.context() as patch:
                disk.install(patch)
                run(scenario)

        outcome = None
        try:
            try_once(root, disk, may_be_there=False)
        except (DeliveryFailed, Died) as failed:
            outcome = failed
        if disk.count < fails_at:
            break  # past the last call
        if error is None:
            assert isinstance(outcome, Died)
        else:
            assert isinstance(outcome, DeliveryFailed)
            assert (outcome.error_code, outcome.is_final) == (codes[error], False)
        found = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(files.HIDDEN)]
        assert [path.read_bytes() for path in found] in ([], [sealed.path.read_bytes()])
        try_once(root, BadDisk(0, errno.EIO, has_links), may_be_there=True)
        assert [path for path in root.rglob("*") if path.is_file()] == [root / "a/key"]
        assert (root / "a/key").read_bytes() == sealed.path.read_bytes()
    assert fails_at > 5


@pytest.mark.parametrize("has_links", [True, False], ids=["linked", "copied"])
def test_what_is_delivered_outlives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    """The bytes are synced before the name is given, the name after it, and each directory that was made in its own.
    A process that finds all of it there cannot know whether that was done, and does it again."""
    events: list[tuple[str, Path]] = []
    sync, make, link = os.fsync, os.mkdir, os.link

    def fsync(descriptor: int) -> None:
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def mkdir(path: Path, *arguments: Any) -> None:
        make(path, *arguments)
        events.append(("mkdir", Path(path)))

    def linked(source: Path, target: Path) -> None:
        if not has_links and "staged" in str(source):
            raise OSError(errno.EXDEV, "across file systems")
        link(source, target)
        events.append(("link", Path(source)))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "link", linked)
    sealed = staged(tmp_path, b"content", key="a/b/key")
    root = tmp_path / "not" / "yet"

    async def deliver(may_be_there: bool) -> None:
        destination = files.ObjectDestination(files.FilesPlace(root), "Files")
        await destination.deliver(sealed, may_be_there=may_be_there)
        await destination.close()

    run(lambda: deliver(False))
    made = [path for kind, path in events if kind == "mkdir"]
    assert made == [tmp_path / "not", root, root / "a", root / "a/b"]
    for path in made:
        assert ("sync", path.parent) in events[events.index(("mkdir", path)) :]
    (at,) = [number for number, (kind, _) in enumerate(events) if kind == "link"]
    assert ("sync", events[at][1]) in events[:at]
    assert ("sync", root / "a/b") in events[at:]

    events.clear()
    run(lambda: deliver(True))
    again = {root / "a/b/key", root / "a/b", root / "a", root, root.parent}
    assert again <= {path for kind, path in events if kind == "sync"}


def test_a_try_whose_file_was_taken_away_by_the_next_gives_nobody_elses_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try was cancelled and goes on; the second is in the middle of its copy when the first comes to link."""
    sealed = staged(tmp_path, bytes(range(256)) * 1_000)
    target = tmp_path / "lake/a/key"
    copied, may_link, half_copied, may_go_on = (threading.Event() for _ in range(4))
    link, copy = os.link, shutil.copyfileobj
    copies = itertools.count(1)

    def linked(source: Path, to: Path) -> None:
        if "staged" in str(source):
            raise OSError(errno.EXDEV, "across file systems")
        if not copied.is_set():
            copied.set()
            assert may_link.wait(20)
        link(source, to)

    def copyfileobj(reading: Any, writing: Any, size: int) -> None:
        if next(copies) == 2:
            writing.write(reading.read(1_000))
            writing.flush()
            half_copied.set()
            assert may_go_on.wait(20)
        copy(reading, writing, size)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(shutil, "copyfileobj", copyfileobj)

    async def scenario() -> None:
        places = [files.FilesPlace(tmp_path / "lake") for _ in range(2)]
        first = asyncio.ensure_future(places[0].put_from_file("a/key", sealed.path, id=sealed.id))
        assert await asyncio.to_thread(copied.wait, 20)
        second = asyncio.ensure_future(places[1].put_from_file("a/key", sealed.path, id=sealed.id, may_be_there=True))
        assert await asyncio.to_thread(half_copied.wait, 20)
        may_link.set()
        with pytest.raises(DeliveryFailed) as caught:
            await first
        assert not caught.value.is_final
        assert not target.exists()
        may_go_on.set()
        await second

    run(scenario)
    assert target.read_bytes() == sealed.path.read_bytes()


def test_without_hard_links_two_writers_of_this_process_do_not_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look whether a name is free and the rename are one step."""
    rename = os.rename
    renames = threading.Semaphore(0)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here", str(source), None, str(target))

    def slow(source: Path, target: Path) -> None:
        renames.release()
        if renames.acquire(timeout=0.3):
            renames.acquire(timeout=0.3)  # until the other one comes here too, if it can
        rename(source, target)

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "rename", slow)
    sealed = [staged(tmp_path, b"%d" % number * 9, key="the/key", number=number) for number in range(2)]

    async def scenario() -> None:
        destinations = [files.ObjectDestination(files.FilesPlace(tmp_path / "lake"), "Files") for _ in sealed]
        tries = [each.deliver(what, may_be_there=False) for each, what in zip(destinations, sealed, strict=True)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        (won,) = [number for number, outcome in enumerate(outcomes) if outcome == ()]
        assert isinstance(outcomes[1 - won], DeliveryFailed)
        assert (tmp_path / "lake/the/key").read_bytes() == b"%d" % won * 9

    run(scenario)


def test_a_directory_that_goes_away_and_a_file_in_its_place_are_told_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    sealed = [staged(tmp_path, b"content", key=f"a/{each}", number=each) for each in range(3)]

    async def scenario() -> None:
        spec = DestinationSpec("files", {"path": str(root)})
        destination = files.open_destination(spec, Surroundings(ManualClock(), tmp_path))
        await destination.deliver(sealed[0], may_be_there=False)
        (root / "a/0").unlink()
        (root / "a").rmdir()
        (root / "a").write_bytes(b"a file")
        with pytest.raises(DeliveryFailed, match=r"lake/a/1 cannot be written: .*exists") as caught:
            await destination.deliver(sealed[1], may_be_there=False)
        assert (caught.value.error_code, caught.value.is_final) == ("Files.NotADirectory", False)
        (root / "a").unlink()
        root.rmdir()
        await destination.deliver(sealed[1], may_be_there=True)
        (root / "a/2").mkdir()
        with pytest.raises(DeliveryFailed, match="another object of that name") as caught:
            await destination.deliver(sealed[2], may_be_there=True)
        assert caught.value.is_final

    run(scenario)
    assert (root / "a/1").read_bytes() == b"content"


def test_a_staged_file_that_is_gone_is_told_by_its_name(bucket: Bucket, tmp_path: Path) -> None:
    """In a directory as in a bucket; it is the engine's to see to it."""
    sealed = staged(tmp_path, b"content")
    sealed.path.unlink()

    async def scenario() -> None:
        spec = DestinationSpec("files", {"path": str(tmp_path / "lake")})
        for destination in (bucket.open(), files.open_destination(spec, Surroundings(ManualClock(), tmp_path))):
            with pytest.raises(DeliveryFailed, match="staged-1"):
                await destination.deliver(sealed, may_be_there=False)

    run(scenario)
    assert bucket.store.objects(bucket.name) == {}
