"""Deliveries as people write them: what a file can say, what a server is asked, and every fault with its place."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamkit.catalog import hive_types
from streamkit.cli import up
from streamkit.delivery.compile import compile_plan
from streamkit.delivery.plan import AppendDelimiter, MetadataExtraction, ParquetFormat, TextFormat, Transform
from streamkit.delivery.processors.jq_paths import check_query, parse
from streamkit.kit.delivery import (
    Delivery,
    Settings,
    by_time,
    changes_of,
    columns_of,
    default_name,
    faults_of,
    keys_of,
    place_of,
)
from streamkit.kit.delivery_client import Figures, figures_of
from streamkit.kit.pipeline import KEYS, Pipeline, load
from streamkit.model.errors import UsageError
from streamkit.model.limits import MIB
from streamkit.model.names import Scope

SCOPE = Scope("000000000000", "us-east-1")
EXAMPLE = Path(__file__).parents[1] / "examples" / "lake" / "pipeline.toml"
LAKE = '[delivery.lake]\nstream = "clicks"\nto = "lake"\n'


def loaded(directory: Path, text: str) -> Pipeline:
    (directory / "pipeline.toml").write_text(text)
    return load(directory / "pipeline.toml", SCOPE)


def faults(directory: Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        loaded(directory, text)
    _, first = re.split(r"(?: has \d+ faults:\n  |: )", str(caught.value), maxsplit=1)
    return first.split("\n  ")


def of(**keys: Any) -> Delivery:
    return Delivery(**{"name": "d", "to": "/lake", "stream": "clicks", **keys})


# -- what a file can say ---------------------------------------------------------------------------------------------


def test_the_example_is_a_pipeline_whose_plans_are_what_it_says() -> None:
    lake, audit = load(EXAMPLE, SCOPE).deliveries
    plan = compile_plan(lake.state(SCOPE))
    assert plan.destination.options["bucket"] == "lake"
    assert plan.naming.prefix == "day=!{partitionKeyFromQuery:day}/"
    assert plan.is_partitioned
    assert isinstance(plan.format, ParquetFormat)
    assert [type(each) for each in plan.processors] == [Transform, MetadataExtraction]
    plan = compile_plan(audit.state(SCOPE))
    assert plan.format == TextFormat("GZIP")
    assert plan.processors == (AppendDelimiter(b"\n"),)
    assert plan.buffering.size_bytes == 16 * MIB


def test_the_values_that_help_shows_are_the_defaults_of_a_server() -> None:
    text = (up.__doc__ or "").partition("[delivery.clicks-to-lake]")[2].partition("[delivery.audit]")[0]

    def shown(key: str) -> Any:
        found = re.search(rf"^  {key} = (\S+)", text, re.MULTILINE)
        assert found is not None, key
        return tomllib.loads(f"x = {found[1]}")["x"]

    plan = compile_plan(of().state(SCOPE))
    assert (shown("size_mb") * MIB, shown("interval_s") * 1000) == (
        plan.buffering.size_bytes,
        plan.buffering.interval_ms,
    )
    assert shown("error_prefix") == plan.naming.error_prefix
    assert (shown("time_zone"), shown("manifest")) == (plan.naming.time_zone, plan.manifest)
    assert shown("start") == of().start
    assert shown("compression") == compile_plan(of(format="parquet").state(SCOPE)).format.compression  # type: ignore[union-attr]
    assert shown("retry_s") * 1000 == compile_plan(of(to="https://h/p").state(SCOPE)).retry_ms
    assert compile_plan(of().state(SCOPE)).retry_ms is None


def test_what_programs_can_say_is_what_files_can_say() -> None:
    own = {"stream", "direct", "to"}
    assert set(Settings.__annotations__) | own == set(KEYS["delivery"])
    assert {each.name for each in fields(Delivery)} == set(KEYS["delivery"]) | {"name"}


def test_directories_are_relative_to_the_file_wherever_the_command_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    text = (
        f'{LAKE}options = {{ errors = "../failed", region = "lake" }}\n[delivery.t]\nstream = "s"\nto = "delta+a b"\n'
    )
    Path("project/pipeline.toml").write_text(text)
    lake, table = load(Path("project/pipeline.toml"), SCOPE).deliveries
    assert lake.to == str(tmp_path / "project" / "lake")
    assert lake.options == {"errors": str(tmp_path / "failed"), "region": "lake"}
    assert table.to == f"delta+file://{tmp_path}/project/a%20b"


@pytest.mark.parametrize("url", ["s3://bucket/folder", "file:///lake", "delta+s3://bucket/t", "https://host/path"])
def test_a_url_stays_as_it_is(url: str) -> None:
    assert place_of(url, Path("/somewhere")) == url


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("/data/lake", "clicks-to-lake"),
        ("file:///data/lake/", "clicks-to-lake"),
        ("s3://bucket/folder", "clicks-to-s3"),
        ("delta+file:///t", "clicks-to-delta"),
        ("https://host/p", "clicks-to-https"),
        ("/data/a lake!", "clicks-to-a-lake"),
        ("/", "clicks-to-files"),
    ],
)
def test_a_delivery_is_named_after_its_stream_and_where_it_goes(to: str, name: str) -> None:
    assert default_name("clicks", to) == name


def test_a_long_name_is_cut_to_what_firehose_takes() -> None:
    assert len(default_name("s" * 100, "/lake")) == 64


# -- columns ---------------------------------------------------------------------------------------------------------


def test_columns_are_a_table_or_the_text_of_a_create_table(tmp_path: Path) -> None:
    written = [
        '{ id = "bigint", tags = "array<string>", price = "decimal(10,2)", user = "struct<id:int,name:string>" }',
        '"id bigint, tags array<string>, `price` decimal(10,2),\\n user struct<id:int,name:string>"',
    ]
    for index, text in enumerate(written):
        (part,) = loaded(tmp_path, f'{LAKE}format = "parquet"\ncolumns = {text}').deliveries
        assert part.columns == (
            ("id", "bigint"),
            ("tags", "array<string>"),
            ("price", "decimal(10,2)"),
            ("user", "struct<id:int,name:string>"),
        ), index


TYPES = st.recursive(
    st.sampled_from(["bigint", "string", "double", "decimal(10,2)", "varchar(20)", "timestamp"]),
    lambda inner: st.one_of(
        inner.map(lambda each: f"array<{each}>"),
        inner.map(lambda each: f"map<string,{each}>"),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda each: f"struct<{','.join(f'm{at}:{type}' for at, type in enumerate(each))}>"
        ),
    ),
    max_leaves=5,
)
COLUMN_NAMES = st.text(st.characters(exclude_characters="`", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(st.dictionaries(COLUMN_NAMES, TYPES, min_size=1, max_size=6))
def test_columns_written_as_text_are_read_as_they_were(columns: dict[str, str]) -> None:
    assert all(hive_types.parse(type) for type in columns.values())
    assert columns_of(", ".join(f"`{name}` {type}" for name, type in columns.items())) == tuple(columns.items())


@given(st.text(max_size=30))
def test_any_text_is_columns_or_a_mistake(text: str) -> None:
    try:
        columns = columns_of(text)
    except UsageError:
        return
    assert columns
    assert all(name and type for name, type in columns)


# -- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["time", ".time", "meta.at", "at:s", "meta.at:ms"])
def test_partitions_by_time_are_queries_that_need_no_libjq(field: str) -> None:
    assert parse(by_time(field, "hour")) is not None
    assert check_query(by_time(field, "hour")) == ["day", "hour"]
    assert check_query(by_time(field, "day")) == ["day"]


@pytest.mark.parametrize("field", ["", "a b", "at:h", ".a[0]", '"a"'])
def test_what_is_no_field_is_a_mistake(field: str) -> None:
    with pytest.raises(UsageError, match="is no field with a record's time"):
        by_time(field, "day")


def test_a_query_alone_makes_folders_as_hive_has_them_and_a_prefix_says_otherwise() -> None:
    query = "{country: .geo.country, day: .time[0:10]}"
    plan = compile_plan(of(partition_by=query).state(SCOPE))
    assert plan.naming.prefix == "country=!{partitionKeyFromQuery:country}/day=!{partitionKeyFromQuery:day}/"
    prefix = "!{partitionKeyFromQuery:day}/!{partitionKeyFromQuery:country}/"
    assert compile_plan(of(partition_by=query, prefix=prefix).state(SCOPE)).naming.prefix == prefix


def test_a_function_may_give_the_keys_of_partitions() -> None:
    delivery = of(transform="clean", prefix="!{partitionKeyFromLambda:country}/")
    assert faults_of(delivery, SCOPE) == []
    assert compile_plan(delivery.state(SCOPE)).is_partitioned


# -- what a server is asked ------------------------------------------------------------------------------------------


def test_a_function_is_waited_for_no_longer_than_the_delivery_itself() -> None:
    def interval_ms(**keys: Any) -> int:
        transform = compile_plan(of(transform="clean:live", **keys).state(SCOPE)).transform
        assert transform is not None
        assert transform.function_arn == "arn:aws:lambda:us-east-1:000000000000:function:clean:live"
        return transform.interval_ms

    assert interval_ms() == 60_000
    assert interval_ms(interval_s=0.5) == 500
    assert interval_ms(interval_s=900) == 60_000


@pytest.mark.parametrize(
    ("text", "bytes"), [("\n", b"\n"), ("\\n", b"\n"), (";", b";"), ("\t", b"\t"), ("\r\n", b"\r\n")]
)
def test_a_delimiter_is_the_text_or_its_escape(text: str, bytes: bytes) -> None:
    assert faults_of(of(delimiter=text), SCOPE) == []
    assert compile_plan(of(delimiter=text).state(SCOPE)).processors == (AppendDelimiter(bytes),)


DELIVERIES = st.builds(
    of,
    format=st.sampled_from([None, "json", "records"]),
    compression=st.sampled_from([None, "GZIP", "ZSTD"]),
    prefix=st.sampled_from([None, "", "a/", "!{timestamp:yyyy}/"]),
    error_prefix=st.sampled_from([None, "e/!{firehose:error-output-type}/"]),
    transform=st.sampled_from([None, "clean", "clean:live"]),
    size_mb=st.sampled_from([None, 0.5, 64]),
    interval_s=st.sampled_from([None, 0, 0.25, 900]),
    time_zone=st.sampled_from([None, "Europe/Berlin"]),
    manifest=st.booleans(),
    delimiter=st.sampled_from([None, ";"]),
    retry_s=st.sampled_from([None, 0, 60]),
    extension=st.sampled_from([None, ".jsonl"]),
    options=st.sampled_from([{}, {"errors": "/failed"}, {"errors": "/other"}]),
)


@given(DELIVERIES)
def test_what_is_described_is_told_in_the_keys_it_was_written_in(delivery: Delivery) -> None:
    assert faults_of(delivery, SCOPE) == []
    found = keys_of(delivery.description(SCOPE))
    for key in set(KEYS["delivery"]) - {"stream", "direct", "start", "format", "columns"}:
        assert found[key] == getattr(delivery, key), key
    assert found["format"] == (delivery.format or "json")


@given(DELIVERIES, DELIVERIES)
def test_changes_name_exactly_the_keys_that_differ(before: Delivery, after: Delivery) -> None:
    assume(before.description(SCOPE) != after.description(SCOPE))
    old, new = keys_of(before.description(SCOPE)), keys_of(after.description(SCOPE))
    differ = {key for key in new if old[key] != new[key]} - {"transform_buffering"}
    changed = {text.partition(" ")[0] for text in changes_of(before.description(SCOPE), after.description(SCOPE))}
    assert changed - {"transform_buffering"} == differ


def test_a_secret_is_not_described_and_its_digest_tells_whether_it_changed() -> None:
    first, same, other = (of(options={"access_key": key, "region": "r"}) for key in ("a", "a", "b"))
    assert first.description(SCOPE)["Options"] == {"region": "r"}
    assert first.description(SCOPE) == other.description(SCOPE)
    assert first.secrets_digest(SCOPE) == same.secrets_digest(SCOPE) != other.secrets_digest(SCOPE)
    assert of(options={"region": "r"}).secrets_digest(SCOPE) == ""


def test_figures_are_added_up_by_delivery_stream() -> None:
    text = """# HELP streamkit_delivery_records_total Records delivered.
streamkit_delivery_records_total{delivery_stream="a",destination="S3"} 5
streamkit_delivery_records_total{delivery_stream="a",destination="Files"} 2
streamkit_delivery_failed_records_total{delivery_stream="a",error_type="x"} 1
streamkit_delivery_failed_records_total{delivery_stream="a",error_type="y"} 3
streamkit_delivery_freshness_seconds{delivery_stream="a",destination="S3"} 1.5
streamkit_delivery_staged_bytes{delivery_stream="b"} 1e3
streamkit_requests_total{delivery_stream="c"} 1
"""
    assert figures_of(text) == {
        "a": Figures(delivered_records=7, failed_records=4, freshness_s=1.5),
        "b": Figures(pending_bytes=1000),
    }


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[delivery.d]\nstream = "s"', "delivery.d lacks to"),
        ('[delivery.d]\nto = "lake"', 'delivery.d needs either stream = "..." or direct = true, and not both'),
        (f"{LAKE}direct = true", 'delivery.lake needs either stream = "..." or direct = true, and not both'),
        (f'{LAKE}formt = "orc"', "delivery.lake.formt is no key of a delivery; did you mean format?"),
        (f'{LAKE}format = "csv"', 'delivery.lake.format is "csv"; it has to be one of json, parquet, orc, records'),
        (f"{LAKE}size_mb = 0", "delivery.lake.size_mb is 0; it has to be a number above 0 to 1,024"),
        (f"{LAKE}size_mb = true", "delivery.lake.size_mb is true; it has to be a number above 0 to 1,024"),
        (f"{LAKE}interval_s = -1", "delivery.lake.interval_s is -1; it has to be a number from 0 to 86,400"),
        (f"{LAKE}retry_s = 7201", "delivery.lake.retry_s is 7201; it has to be a whole number from 0 to 7,200"),
        (f'{LAKE}start = "now"', 'delivery.lake.start is "now"; it has to be "TRIM_HORIZON" or "LATEST"'),
        (f"{LAKE}options = {{ a = [1] }}", "delivery.lake.options.a is [1]; it has to be a text"),
        (f"{LAKE}columns = 1", "delivery.lake.columns is 1; it has to be columns, like "),
        (f"{LAKE}columns = {{ a = 1 }}", "delivery.lake.columns.a is 1; it has to be a type of Hive's, "),
        (f'{LAKE}columns = "a"', 'delivery.lake.columns is "a"; it has to be columns, like '),
        (f'{LAKE}columns = "a int"', 'delivery.lake.columns are for format = "parquet" or "orc", and for tables'),
        (
            f'{LAKE}format = "orc"\ncolumns = {{ a = "arry<int>" }}',
            'delivery.lake.columns.a is "arry<int>", which is no type of Hive\'s: the type ',
        ),
        (
            f'{LAKE}format = "orc"\ncolumns = "a int, a int"',
            "delivery.lake will not do: Columns has a twice.",
        ),
        (f'{LAKE}partition_by = "{{a: "', "delivery.lake.partition_by is no query for partition keys, like "),
        (f'{LAKE}partition_by = "{{a: env}}"', "delivery.lake.partition_by is no query for partition keys, like "),
        (
            f'{LAKE}partition_by = "{{a: .a}}"\nprefix = "p/"',
            'delivery.lake.prefix has no partition key; write "p/a=!{partitionKeyFromQuery:a}/", or leave it out',
        ),
        (f'{LAKE}transform = "a b"', 'delivery.lake.transform is "a b"; it has to be the name of a function'),
        (f'{LAKE}prefix = "!{{timestamp:QQQQQQQ}}"', "delivery.lake will not do: "),
        (f'{LAKE}prefix = "!{{partitionKeyFromQuery:a}}/"', "delivery.lake will not do: "),
        (f'{LAKE}time_zone = "Mars"', "delivery.lake will not do: Provided custom time zone is not supported."),
        (f'{LAKE}compression = "LZ4"', "delivery.lake will not do: Compression LZ4 is none of "),
        (f'{LAKE}format = "parquet"\ndelimiter = ";"', 'delivery.lake.delimiter is for format = "json" or "records"'),
        ('[delivery.d]\nstream = "s"\nto = "gopher://h"', "delivery.d will not do: gopher://h is no place that "),
        ('[delivery.d]\nstream = "s"\nto = "delta+t"\nformat = "orc"', 'delivery.d.format is "orc", but the files of '),
        (
            '[delivery.d]\nstream = "s"\nto = "delta+t"\npartition_by = "{a: .a}"',
            'delivery.d.partition_by is for files; of a table say options = { partition_by = "COLUMN" }',
        ),
        ('[delivery.d]\nstream = "s"\nto = "https://h"\nformat = "orc"', "delivery.d will not do: https://h takes "),
        ('[delivery."a b"]\nstream = "s"\nto = "lake"', 'delivery."a b" cannot be a delivery stream\'s name: letters'),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_would_do(tmp_path: Path, text: str, expected: str) -> None:
    found = faults(tmp_path, text)
    assert found[0].startswith(expected)
    assert len(found) == 1


def test_all_faults_of_a_delivery_are_told_at_once(tmp_path: Path) -> None:
    text = f"""{LAKE}format = "orc"
columns = {{ a = "arry<int>", b = "what" }}
partition_by = "{{a: "
transform = "a b"
time_zone = "Mars"
compression = "GZIP"
"""
    found = faults(tmp_path, text)
    places = [each.split(" ")[0] for each in found]
    assert places == [
        "delivery.lake.columns.a",
        "delivery.lake.columns.b",
        "delivery.lake.transform",
        "delivery.lake.partition_by",
        "delivery.lake",
        "delivery.lake",
    ]
    assert "time zone" in found[4]
    assert "none of NONE, ZLIB" in found[5]
