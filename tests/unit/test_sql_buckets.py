"""Tables whose files are objects of a bucket, in a store on loopback."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamkit_sql.errors import SqlError, UnknownName
from streamkit_sql.queries import References, run_bounded
from streamkit_sql.session import Session
from streamkit_sql.tables.places import settings
from tests.wire.object_store import ACCESS_KEY, REGION, SECRET_KEY, ObjectStore, object_store


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as made:
        made.make_bucket("lake")
        yield made


@pytest.fixture
def environment(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return store


def parquet(rows: dict[str, list[Any]], *, group: int = 10) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(rows), out, row_group_size=group)
    return out.getvalue()


def session_over(path: str, format_: str, columns: str = "id BIGINT, name STRING") -> Session:
    session = Session()
    session.run(f"CREATE TABLE t ({columns}) WITH ('connector'='filesystem','path'='{path}','format'='{format_}')")
    return session


def rows_of(session: Session, query: str, *, rows_per_tick: int = 7) -> list[tuple[Any, ...]]:
    async def collected() -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        async for emitted in run_bounded(session, session.run(query).outputs, rows_per_tick=rows_per_tick):
            found += zip(*(column.to_pylist() for column in emitted.rows.columns), strict=True)
        return found

    return asyncio.run(collected())


def test_objects_are_read_in_the_order_of_their_keys(environment: ObjectStore) -> None:
    """JSON and Parquet, row group by row group; hidden objects are left out."""
    numbers = list(range(25))
    with environment.client() as client:
        client.put_object(Bucket="lake", Key="lines/b.json", Body=b'{"id":3,"name":"c"}')
        client.put_object(Bucket="lake", Key="lines/a.json", Body=b'{"id":1,"name":"a"}\n{"id":2,"name":"b"}\n')
        client.put_object(Bucket="lake", Key="lines/_hidden/x.json", Body=b"x")
        client.put_object(
            Bucket="lake", Key="rows/year=2026/p.parquet", Body=parquet({"id": numbers, "name": ["n"] * 25})
        )
    lines = session_over("s3://lake/lines", "json")
    assert rows_of(lines, "SELECT id, name FROM t") == [(1, "a"), (2, "b"), (3, "c")]
    assert rows_of(session_over("s3a://lake/rows/", "parquet"), "SELECT id FROM t") == [(each,) for each in numbers]
    assert rows_of(session_over("s3://lake/lines/b.json", "json"), "SELECT name FROM t") == [("c",)]


def test_a_reference_table_is_read_again_when_its_objects_have_changed(environment: ObjectStore) -> None:
    """And only then: the same rows are the same object."""
    with environment.client() as client:
        client.put_object(Bucket="lake", Key="names/1.parquet", Body=parquet({"id": [1], "name": ["one"]}))
        session = session_over("s3://lake/names", "parquet")
        references = References(session)
        first = references.lookup("t", ("id", "name"))
        assert first.to_pylist() == [{"id": 1, "name": "one"}]
        assert references.lookup("t", ("id", "name")) is first
        client.put_object(Bucket="lake", Key="names/2.parquet", Body=parquet({"id": [2], "name": ["two"]}))
        assert references.lookup("t", ("id", "name")).num_rows == 2
        client.put_object(Bucket="lake", Key="names/1.parquet", Body=parquet({"id": [1], "name": ["another"]}))
        assert references.lookup("t", ("id", "name"))["name"].to_pylist() == ["another", "two"]


def test_what_is_not_there_is_said(environment: ObjectStore) -> None:
    """Without an object, and without a bucket."""
    with pytest.raises(UnknownName, match="no file 's3://lake/nothing'"):
        rows_of(session_over("s3://lake/nothing", "json"), "SELECT * FROM t")
    with pytest.raises(SqlError, match="t"):
        rows_of(session_over("s3://nobody/nothing", "json"), "SELECT * FROM t")


def test_the_store_is_the_one_the_environment_names() -> None:
    """S3's own address before the general one; an endpoint without a key is asked unsigned."""
    assert settings({}) == {}
    named = settings({"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "http://b:2/"})
    assert named == {"scheme": "http", "endpoint_override": "b:2", "region": "us-east-1", "anonymous": True}
    keyed = settings({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "eu-west-1"})
    assert keyed == {"region": "eu-west-1", "access_key": "k", "secret_key": "s"}
