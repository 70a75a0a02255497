"""What the destination `s3` leaves in a bucket, as boto3 sees it, and the places that compaction works on."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from streamkit.delivery.destination import DeliveryFailed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.testing.clock import ManualClock
from streamkit.testing.destination_contract import sealed_of
from streamkit_connectors import files, s3
from streamkit_connectors.files import ObjectPlace
from tests.wire.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore, fault_proxy, object_store

_BUCKETS: Final = itertools.count()


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture
def bucket(store: ObjectStore) -> str:
    name = f"lake-{next(_BUCKETS)}"
    store.make_bucket(name)
    return name


def surroundings(settings: Mapping[str, str] | None = None, buckets: Path = Path("unused")) -> Surroundings:
    return Surroundings(ManualClock(), buckets, object_store=settings or {})


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 60)

    asyncio.run(bounded())


# -- what is in the bucket -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_in_parts", [False, True])
def test_objects_have_the_content_type_of_firehose_and_tell_their_id(
    store: ObjectStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in_parts: bool
) -> None:
    """And no content encoding: who asks for a GZIP object gets it as it is."""
    if is_in_parts:
        monkeypatch.setattr(s3, "SINGLE_PUT_BYTES_MAX", 10)
    path = tmp_path / "staged"
    path.write_bytes(gzip.compress(b"records" * 100))
    sealed = sealed_of(path, 100, key="2023/11/14/22/clicks.gz")

    async def scenario() -> None:
        spec = DestinationSpec("s3", {"bucket": bucket})
        await s3.open_destination(spec, surroundings(store.settings)).deliver(sealed, may_be_there=False)

    run(scenario)
    head = store.head(bucket, sealed.key)
    assert head["ContentType"] == "application/octet-stream"
    assert "ContentEncoding" not in head
    assert head["Metadata"] == {"streamkit-object": sealed.id}
    assert gzip.decompress(store.objects(bucket)[sealed.key]) == b"records" * 100


def test_only_one_request_is_made_for_an_object(store: ObjectStore, bucket: str, tmp_path: Path) -> None:
    """A conditional put, whose bytes are signed: nothing is looked up before it."""
    path = tmp_path / "staged"
    path.write_bytes(b"content")

    async def scenario(endpoint: str) -> None:
        spec = DestinationSpec("s3", {"bucket": bucket})
        destination = s3.open_destination(spec, surroundings(store.settings_at(endpoint)))
        await destination.deliver(sealed_of(path, 1, key="a/key"), may_be_there=True)

    with fault_proxy(store) as proxy:
        run(lambda: scenario(proxy.endpoint))
        assert proxy.seen == [(f"PUT /{bucket}/a/key HTTP/1.1", "pass")]


def test_empty_segments_of_a_key_are_left_out_as_the_module_says(
    store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    """In a bucket, and where the bucket is a folder."""
    path = tmp_path / "staged"
    path.write_bytes(b"content")

    async def scenario() -> None:
        spec = DestinationSpec("s3", {"bucket": bucket, "prefix": "/below//this/"})
        for around in (surroundings(store.settings), surroundings(buckets=tmp_path)):
            destination = s3.open_destination(spec, around)
            await destination.deliver(sealed_of(path, 1, key="//a///b"), may_be_there=False)
            await destination.deliver(sealed_of(path, 1, key="/a/b"), may_be_there=True)

    run(scenario)
    assert store.objects(bucket) == {"below/this/a/b": b"content"}
    assert (tmp_path / bucket / "below/this/a/b").read_bytes() == b"content"


def test_variables_of_the_environment_do_not_lead_elsewhere(
    store: ObjectStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_ENDPOINT_URL is often streamkit's own address, and a session token belongs to other keys."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "somebody's")
    monkeypatch.setenv("AWS_BUCKET", "somebodys")
    path = tmp_path / "staged"
    path.write_bytes(b"content")

    async def scenario(endpoint: str) -> None:
        spec = DestinationSpec("s3", {"bucket": bucket})
        destination = s3.open_destination(spec, surroundings(store.settings_at(endpoint)))
        await destination.deliver(sealed_of(path, 1, key="a/key"), may_be_there=False)

    with fault_proxy(store) as proxy:
        run(lambda: scenario(proxy.endpoint))
        (headers,) = proxy.headers
    assert f"Credential={ACCESS_KEY}/" in headers["authorization"]
    assert "x-amz-security-token" not in headers
    assert store.objects(bucket) == {"a/key": b"content"}


def test_errors_tell_no_secrets(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "staged"
    path.write_bytes(b"content")

    async def scenario() -> None:
        spec = DestinationSpec("s3", {"bucket": "nobody-made-this"})
        destination = s3.open_destination(spec, surroundings(store.settings))
        with pytest.raises(DeliveryFailed) as caught:
            await destination.deliver(sealed_of(path, 1, key="a/key"), may_be_there=False)
        assert caught.value.message == (
            "s3://nobody-made-this/a/key was not written: 404 Not Found: The specified bucket does not exist"
        )
        assert SECRET_KEY not in str(caught.value.__cause__)

    run(scenario)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "needs the option `bucket`"),
        ({"bucket": "../etc"}, "'../etc' is none"),
        ({"bucket": "a..b"}, "'a..b' is none"),
        ({"bucket": "UPPER"}, "'UPPER' is none"),
        ({"bucket": 7}, "7 is none"),
        ({"bucket": "fine", "prefix": "a/../.."}, "which are not names"),
        ({"bucket": "fine", "buckett": 1}, "has no option 'buckett'"),
        ({"bucket": "fine", "timeout_ms": 0}, "number of milliseconds"),
        ({"bucket": "fine", "endpoint": "no address"}, "is a URL of `http:`"),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_anything_happens(options: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        s3.open_destination(DestinationSpec("s3", options), surroundings())


@pytest.mark.parametrize("options", [{}, {"path": ""}, {"path": 7}, {"path": "a", "pathh": "b"}])
def test_a_directory_must_be_named(options: Any) -> None:
    with pytest.raises(UsageError, match="the destination `files`"):
        files.open_destination(DestinationSpec("files", options), surroundings())


# -- places ----------------------------------------------------------------------------------------------------------

Places = Callable[[str], ObjectPlace]


@pytest.fixture(params=["s3", "s3 as a folder", "s3 below a prefix", "file", "path"])
def place(request: pytest.FixtureRequest, store: ObjectStore, bucket: str, tmp_path: Path) -> ObjectPlace:
    around = surroundings(store.settings)
    return {
        "s3": lambda: s3.open_place(f"s3://{bucket}", around),
        "s3 as a folder": lambda: s3.open_place(f"s3://{bucket}/a/b", surroundings(buckets=tmp_path)),
        "s3 below a prefix": lambda: s3.open_place(f"s3://{bucket}/größe/a b/", around),
        "file": lambda: s3.open_place(f"file://{tmp_path}/lake%20one", around),
        "path": lambda: s3.open_place(str(tmp_path / "lake"), around),
    }[request.param]()


def test_a_place_lists_what_is_put_there_by_any_part_of_its_key(place: ObjectPlace, tmp_path: Path) -> None:
    """With sizes and times; objects that are on their way are not listed."""
    keys = ["day=1/a.parquet", "day=1/b.parquet", "day=10/a.parquet", "day=2/größe.parquet", "top"]

    async def scenario() -> None:
        assert list(await place.list()) == []
        assert list(await place.list("no/such")) == []
        for number, key in enumerate(reversed(keys)):
            path = tmp_path / f"{number}"
            path.write_bytes(bytes(number))
            await place.put_from_file(key, path, id=str(number))
        (tmp_path / "lake" / f"{files.HIDDEN}half").write_bytes(b"") if (tmp_path / "lake").exists() else None
        found = await place.list()
        assert [(entry.key, entry.size_bytes) for entry in found] == list(zip(keys, [4, 3, 2, 1, 0], strict=True))
        assert len({entry.modified_at_ms // 600_000 for entry in found}) <= 2
        assert found[0].modified_at_ms > 1_700_000_000_000
        for prefix in ("day=1", "day=1/", "day=1/b", "d", "top", "day=2/g", "x", "day=1/a.parquet/"):
            listed = [entry.key for entry in await place.list(prefix)]
            assert listed == [key for key in keys if key.startswith(prefix)], prefix
        await place.close()

    run(scenario)


def test_a_place_gives_back_what_was_put_and_replaces_it_only_when_asked_to(place: ObjectPlace, tmp_path: Path) -> None:
    one, other, read = tmp_path / "one", tmp_path / "other", tmp_path / "read"
    one.write_bytes(bytes(range(256)) * 40_000)
    other.write_bytes(b"other")

    async def scenario() -> None:
        await place.put_from_file("a/key", one, id="1")
        await place.get_to_file("a/key", read)
        assert read.read_bytes() == one.read_bytes()
        await place.put_from_file("a/key", one, id="1", may_be_there=True)
        with pytest.raises(DeliveryFailed) as caught:
            await place.put_from_file("a/key", other, id="2")
        assert caught.value.is_final
        await place.put_from_file("a/key", other, id="2", create=False)
        await place.put_from_file("a/new", other, id="2", create=False)
        for key in ("a/key", "a/new"):
            await place.get_to_file(key, read)
            assert read.read_bytes() == b"other"
        assert one.read_bytes() == bytes(range(256)) * 40_000
        await place.close()

    run(scenario)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(place: ObjectPlace, tmp_path: Path) -> None:
    path = tmp_path / "staged"
    path.write_bytes(b"content")

    async def scenario() -> None:
        await place.put_from_file("a/key", path, id="1")
        for key in ("a/key", "a/key", "no/such/key"):
            await place.delete(key)
        assert list(await place.list()) == []
        with pytest.raises(DeliveryFailed) as caught:
            await place.get_to_file("a/key", tmp_path / "read")
        assert caught.value.error_code in ("S3.NoSuchKey", "Files.NotFound")
        await place.put_from_file("a/key", path, id="2")
        await place.close()

    run(scenario)


@pytest.mark.parametrize("where", ["http://host/bucket", "s3://", "ftp://x", ""])
def test_a_place_is_a_path_or_a_url_of_what_holds_objects(where: str) -> None:
    with pytest.raises(UsageError):
        s3.open_place(where, surroundings())
    with pytest.raises(UsageError, match="neither"):
        s3.open_place(DestinationSpec("splunk", {}), surroundings())


def test_a_bucket_that_is_missing_is_told_by_every_call(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "staged"
    path.write_bytes(b"content")

    async def scenario() -> None:
        place = s3.open_place("s3://nobody-made-this/a", surroundings(store.settings))
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: place.list("x"),
            lambda: place.put_from_file("k", path, id="1"),
            lambda: place.get_to_file("k", tmp_path / "read"),
            lambda: place.delete("k"),
        ]
        for call in calls:
            with pytest.raises(DeliveryFailed) as caught:
                await call()
            assert caught.value.error_code in ("S3.NoSuchBucket", "S3.NoSuchKey")
            assert not caught.value.is_final

    run(scenario)
