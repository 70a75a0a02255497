"""The public face: what users may rely on. A change here is a change for them, and belongs into the changelog."""

from __future__ import annotations

import inspect

import streamkit

PUBLIC = {
    "App": {"caught_up", "endpoint", "function", "invoke", "kit", "run"},
    "BlockingConsumer": {"behind_ms", "checkpoint", "stop"},
    "BlockingKit": {
        "consumer",
        "create_stream",
        "delete_stream",
        "deliver",
        "describe",
        "flush_deliveries",
        "merge_shards",
        "put",
        "put_many",
        "put_table",
        "split_shard",
        "streams",
        "update_shard_count",
    },
    "Consumer": {"checkpoint", "stop"},
    "FunctionFailed": {"code", "fields", "status"},
    "Kit": {
        "backend",
        "consumer",
        "create_stream",
        "delete_stream",
        "deliver",
        "describe",
        "flush_deliveries",
        "merge_shards",
        "put",
        "put_many",
        "put_table",
        "queries",
        "split_shard",
        "sql",
        "streams",
        "update_shard_count",
    },
    "Placement": {"sequence_number", "shard_id"},
    "Record": {"arrived_at_ms", "data", "partition_key", "sequence_number"},
    "RecordBatch": {
        "arrivals",
        "arrivals_ms",
        "arrived_at_ms",
        "cut_to",
        "data",
        "data_bytes",
        "data_offsets",
        "digests",
        "first_offset",
        "hash_keys",
        "key_offsets",
        "keys",
        "keys_bytes",
        "last_arrived_at_ms",
        "last_sequence_number",
        "next_offset",
        "offset",
        "offsets",
        "partition_keys",
        "records",
        "sequence_number",
        "sequence_numbers",
        "shard_created_s",
        "shard_id",
        "shard_index",
        "slice",
        "start",
        "stop",
        "to_arrow",
        "values",
    },
    "ShardInfo": {"first_hash_key", "index", "is_open", "last_hash_key", "parents", "shard_id"},
    "ServerUnreachable": {"code", "fields", "status"},
    "StreamInfo": {"arn", "created_at_ms", "mode", "name", "open_shards", "retention_hours", "shards", "status"},
    "StreamkitError": {"code", "fields", "status"},
    "__version__": None,
    "open": None,
    "open_blocking": None,
}


def members_of(name: str) -> set[str]:
    kind = getattr(streamkit, name)
    inherited = set(dir(tuple)) if issubclass(kind, tuple) else set(dir(Exception))
    return {each for each in dir(kind) if not each.startswith("_")} - inherited


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(streamkit.__all__) == set(PUBLIC)
    assert all(hasattr(streamkit, name) for name in PUBLIC)


def test_the_public_classes_have_these_members_and_no_others() -> None:
    found = {name: members_of(name) if members is not None else None for name, members in PUBLIC.items()}
    assert found == PUBLIC


def test_the_blocking_calls_take_what_the_awaited_ones_take() -> None:
    of_queries = {"backend", "queries", "sql"}  # results are awaited as they come
    names = {name for name in PUBLIC["Kit"] or () if name != "consumer"} - of_queries
    for name in names | {"consumer"}:
        awaited = inspect.signature(getattr(streamkit.Kit, name)).parameters
        blocking = inspect.signature(getattr(streamkit.BlockingKit, name)).parameters
        assert awaited == blocking, name
    assert inspect.signature(streamkit.open).parameters == inspect.signature(streamkit.open_blocking).parameters


def test_whoever_imports_streamkit_finds_its_types() -> None:
    package = inspect.getfile(streamkit).rpartition("/")[0]
    with open(f"{package}/py.typed") as marker:
        assert marker.read() == ""


def test_functions_in_python_are_declared_by_these_names() -> None:
    """What `from streamkit_sql import ..` gives, and nothing else of that package's."""
    import streamkit_sql

    assert set(streamkit_sql.__all__) == {
        "AggregateFunction",
        "FunctionContext",
        "Row",
        "ScalarFunction",
        "udaf",
        "udf",
    }
    assert all(hasattr(streamkit_sql, name) for name in streamkit_sql.__all__)
