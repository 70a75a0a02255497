"""The destination `redshift` against a real PostgreSQL, and the commands that Redshift itself would be given."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.delivery.destination import DeliveryFailed, Sealed, Surroundings
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit.testing.clock import ManualClock
from streamkit.testing.destination_contract import sealed_of
from streamkit_connectors import redshift
from streamkit_connectors.redshift import RedshiftDestination, names_of
from tests.wire.postgres import Postgres, postgres

_NUMBERS: Final = itertools.count(1)
ROLE: Final = "arn:aws:iam::123456789012:role/loader"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


class Table:
    """A table of three columns, whose schema and name must be quoted."""

    def __init__(self, server: Postgres, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.number = next(_NUMBERS)
        self.name = f'"Sch ""{self.number}"."T; x"'
        self.execute(f'CREATE SCHEMA "Sch ""{self.number}"')
        self.execute(f'CREATE TABLE {self.name} (id BIGINT PRIMARY KEY, text TEXT, "Was; Late" BOOLEAN)')

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with self.server.connect() as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return sorted(self.execute(f"SELECT * FROM {self.name}"))

    def open(self, **options: Any) -> RedshiftDestination:
        basis = {
            "jdbc_url": f"jdbc:{self.server.url}",
            "table": self.name,
            "copy_form": "stdin",
            "deliveries_table": f"seen_{self.number}",
            "bucket": "staging",
        }
        spec = DestinationSpec("redshift", {**basis, **options})
        opened = redshift.open_destination(spec, Surroundings(ManualClock(), self.directory))
        assert isinstance(opened, RedshiftDestination)
        return opened

    def staged(self, content: bytes, number: int = 1) -> Sealed:
        path = self.directory / f"staged {number}"
        path.write_bytes(content)
        return sealed_of(path, 1, key=f"2023/11/it's {number}", number=number)


@pytest.fixture
def table(server: Postgres, tmp_path: Path) -> Table:
    return Table(server, tmp_path)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 60)

    asyncio.run(bounded())


def fails(destination: RedshiftDestination, sealed: Sealed) -> DeliveryFailed:
    async def scenario() -> None:
        await destination.deliver(sealed, may_be_there=True)

    with pytest.raises(DeliveryFailed) as caught:
        run(scenario)
    return caught.value


# -- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["as it is", "GZIP"])
@pytest.mark.parametrize(
    ("options", "columns", "content"),
    [
        ("(FORMAT csv)", None, b'1,"one, or so",t\n2,two,f\n'),
        ("csv delimiter '|' gzip;", 'text, ID, "Was; Late"', b"one, or so|1|t\ntwo|2|f\n"),
        ("DELIMITER '~'", ["id", "text", "Was; Late"], b"1~one, or so~t\n2~two~f\n"),
        ("JSON 'auto'", None,
         b'{"id":1,"text":"one, or so","Was; Late":true}\n{"Was; Late":false,"text":"two","id":2}'),
        ("format as json 'auto' GZIP", ["text", "id", "Was; Late"],
         b'{"text":"one, or so","id":1,"Was; Late":true,"more":[1]}\n\n{"Was; Late":false,"text":"two","id":2}\n'),
    ],
)  # fmt: skip
def test_an_object_is_loaded_as_the_options_say(
    table: Table, options: str, columns: Any, content: bytes, packed: Callable[[bytes], bytes]
) -> None:
    """Unpacked on its way; and it stays in the bucket, as Firehose leaves it there."""
    sealed = table.staged(packed(content))

    async def scenario() -> None:
        destination = table.open(copy_options=options, columns=columns)
        await destination.deliver(sealed, may_be_there=False)
        await destination.deliver(sealed, may_be_there=True)
        await destination.close()

    run(scenario)
    assert table.rows == [(1, "one, or so", True), (2, "two", False)]
    assert (table.directory / "staging" / sealed.key).read_bytes() == sealed.path.read_bytes()


def test_json_members_that_are_missing_are_null(table: Table) -> None:
    sealed = table.staged(b'{"id":1}\n{"id":2,"text":null}\n')

    async def scenario() -> None:
        await table.open(copy_options="json 'auto'").deliver(sealed, may_be_there=False)

    run(scenario)
    assert table.rows == [(1, None, None), (2, None, None)]


def test_a_command_of_ones_own_is_filled_in_and_quoted(table: Table) -> None:
    """Also where it reads the object itself."""
    sealed = table.staged(b"7,seven\n")
    select = "SELECT {key} || ' ' || {url} || ' ' || {manifest_url} || ' {}'"

    async def scenario() -> None:
        insert = table.open(copy_form="INSERT INTO {table} {columns} " + select, columns="text", deliveries_table="")
        with pytest.raises(DeliveryFailed, match="null value in column"):  # `id` is not given
            await insert.deliver(sealed, may_be_there=False)
        insert = table.open(copy_form="INSERT INTO {table} {columns} SELECT {options}, " + select[7:],
                            columns="id, text", copy_options="5")  # fmt: skip
        await insert.deliver(sealed, may_be_there=False)
        await insert.deliver(sealed, may_be_there=True)
        copy = table.open(copy_form="COPY {table} (id, text) FROM STDIN CSV", deliveries_table=f"more_{table.number}")
        await copy.deliver(sealed, may_be_there=False)

    run(scenario)
    key = sealed.key
    assert table.rows == [
        (5, f"{key} s3://staging/{key} s3://staging/manifests/{key} {{}}", None),
        (7, "seven", None),
    ]


def test_ids_are_remembered_for_as_many_objects_as_can_be_under_way(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redshift, "DELIVERIES_KEPT", 3)
    monkeypatch.setattr(redshift, "DELIVERIES_CHECKED_EVERY", 4)

    async def scenario() -> None:
        destination = table.open(copy_options="(FORMAT csv)", columns="id")
        for number in range(1, 9):
            await destination.deliver(table.staged(b"%d\n" % number, number), may_be_there=False)

    run(scenario)
    assert table.execute(f"SELECT number FROM seen_{table.number} ORDER BY 1") == [(5,), (6,), (7,), (8,)]
    assert [row[0] for row in table.rows] == list(range(1, 9))


def test_what_was_given_up_is_listed_for_somebody_to_load_it_later(table: Table) -> None:
    sealed = table.staged(b"no number\n")
    s3 = {"bucket": "staging", "prefix": "below"}
    destination = table.open(copy_options="(FORMAT csv)", s3=s3, bucket=None)
    assert fails(destination, sealed).is_final

    async def scenario() -> None:
        await destination.skipped(sealed)
        await destination.skipped(sealed)

    run(scenario)
    manifest = json.loads((table.directory / "staging/below/errors/manifests" / sealed.key).read_bytes())
    assert manifest == {"entries": [{"url": f"s3://staging/below/{sealed.key}", "mandatory": True}]}


# -- failing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "content", "code", "is_final"),
    [
        ({}, b"1,one,t\nno number,two,f\n", "DataLoadFailed", True),
        ({}, b"1,one,t\n1,two,f\n", "DataLoadFailed", True),
        ({}, b"1,one,t,too many\n", "DataLoadFailed", True),
        ({}, b"1,\xff\xfe,t\n", "DataLoadFailed", True),
        ({"copy_options": "JSON 'auto'"}, b'{"id":1}\n{"id":', "DataLoadFailed", True),
        ({"copy_options": "JSON 'auto'"}, b'{"id":1,"text":"\\u0000"}', "DataLoadFailed", True),
        ({"copy_options": "JSON 'auto'"}, b'{"id":1}{"id":2}', "DataLoadFailed", True),
        ({"columns": "id, nowhere"}, b"1,one\n", "ColumnNotFound", False),
        ({"table": "no_such_table"}, b"1,one,t\n", "TableNotFound", False),
        ({"copy_options": "CSV NONSENSE"}, b"1,one,t\n", "SyntaxError", True),
        ({"copy_form": "redshift", "role_arn": ROLE}, b"1,one,t\n", "SyntaxError", True),
    ],
)
def test_a_load_that_fails_says_how_loads_nothing_and_remembers_nothing(
    table: Table, options: dict[str, Any], content: bytes, code: str, is_final: bool
) -> None:
    """What is mended is then loaded by the same id."""
    failed = fails(table.open(**{"copy_options": "(FORMAT csv)", **options}), table.staged(content))
    assert (failed.error_code, failed.is_final) == (f"Redshift.{code}", is_final)
    assert failed.message
    assert table.rows == []
    assert table.execute(f"SELECT * FROM seen_{table.number}") == []


def test_a_server_that_goes_away_in_the_middle_is_tried_again(table: Table) -> None:
    """Nothing of the load is there, and the next try loads all of it."""
    lines = b"".join(b"%d,%s,t\n" % (number, b"x" * 1_000) for number in range(20_000))
    sealed = table.staged(lines)
    destination = table.open(copy_options="(FORMAT csv)")

    async def scenario() -> None:
        loading = asyncio.ensure_future(destination.deliver(sealed, may_be_there=False))
        while not await asyncio.to_thread(
            table.execute, "SELECT 1 FROM pg_stat_progress_copy WHERE tuples_processed > 10"
        ):
            assert not loading.done()
        table.server.stop()
        with pytest.raises(DeliveryFailed) as caught:
            await loading
        assert caught.value.error_code in ("Redshift.ConnectionFailed", "Redshift.InternalError")
        assert not caught.value.is_final
        table.server.start()
        assert table.rows == []
        await destination.deliver(sealed, may_be_there=True)

    run(scenario)
    assert len(table.rows) == 20_000


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("jdbc:redshift://127.0.0.1:9/dev", "ConnectionFailed"),
        ("jdbc:redshift://no-such-host.invalid:5439/dev", "ConnectionFailed"),
        ("postgresql://streamkit@127.0.0.1:{port}/nowhere", "DatabaseNotFound"),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", "AuthenticationFailed"),
    ],
)
def test_a_server_that_cannot_be_had_is_tried_again_and_told(table: Table, url: str, code: str) -> None:
    failed = fails(table.open(jdbc_url=url.format(port=table.server.port)), table.staged(b""))
    assert (failed.error_code, failed.is_final) == (f"Redshift.{code}", False)


# -- the command -----------------------------------------------------------------------------------------------------


def command_of(**options: Any) -> str:
    basis = {"jdbc_url": "jdbc:redshift://host:5439/dev", "bucket": "staging", "table": "clicks"}
    surroundings = Surroundings(ManualClock(), Path("unused"))
    opened = redshift.open_destination(DestinationSpec("redshift", {**basis, **options}), surroundings)
    assert isinstance(opened, RedshiftDestination)
    sealed = Sealed("d", 1, "i", "2023/it's", Path("staged"), 1, 1, (), 0)
    return opened._command(sealed).as_string()


def test_redshift_is_given_the_command_that_firehose_gives_it() -> None:
    assert command_of(role_arn=ROLE, copy_options="JSON 'auto' gzip;", compression="GZIP") == (
        "COPY \"clicks\"  FROM 's3://staging/manifests/2023/it''s' "
        f"CREDENTIALS 'aws_iam_role={ROLE}' MANIFEST JSON 'auto' gzip"
    )
    keys = {"access_key_id": "AKIA", "secret_access_key": "it's", "endpoint": "https://s3.eu-central-1.amazonaws.com"}
    named = {"table": 'Public."Cl icks"', "columns": 'ID, "Text"', "compression": "GZIP"}
    assert command_of(s3=keys, **named) == (
        'COPY "public"."Cl icks" ("id", "Text") FROM \'s3://staging/manifests/2023/it\'\'s\' '
        "CREDENTIALS 'aws_access_key_id=AKIA;aws_secret_access_key=it''s' MANIFEST GZIP"
    )


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("jdbc:redshift://host:5439/dev", "'s3://staging/manifests/2023/it''s'"),
        ("jdbc:postgresql://one.abc.eu-west-1.redshift.amazonaws.com:5439/dev", "'s3://staging/manifests/2023/it''s'"),
        ("jdbc:postgresql://localhost/dev", "STDIN"),
        ("postgresql://localhost/dev", "STDIN"),
    ],
)
def test_whether_it_is_redshift_is_told_by_its_address(url: str, source: str) -> None:
    assert f" FROM {source} " in command_of(jdbc_url=url)


def test_settings_of_the_process_win_over_a_document_made_for_aws(table: Table) -> None:
    sealed = table.staged(b"1,one,t\n")
    options = {
        "jdbc_url": "jdbc:redshift://one.abc.eu-west-1.redshift.amazonaws.com:5439/dev",
        "table": table.name,
        "bucket": "staging",
        "copy_options": "CSV GZIP",
        "compression": "GZIP",
        "s3_prefix": "clicks/",
    }
    settings = {"redshift": {"jdbc_url": table.server.url, "deliveries_table": ""}}

    async def scenario() -> None:
        surroundings = Surroundings(ManualClock(), table.directory, settings=settings)
        destination = redshift.open_destination(DestinationSpec("redshift", options), surroundings)
        await destination.deliver(sealed, may_be_there=False)

    run(scenario)
    assert table.rows == [(1, "one", True)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"table": ""}, "needs the option `table`"),
        ({"jdbc_url": ""}, "needs the option `jdbc_url`"),
        ({"table": "clicks; DROP TABLE clicks"}, "is left over"),
        ({"table": 'clicks" x'}, "is left over"),
        ({"table": "1clicks"}, "is not the name of a table"),
        ({"table": "a..b"}, "is not the name of a table"),
        ({"table": '""'}, "is not the name of a table"),
        ({"columns": "id, text) FROM STDIN"}, "is left over"),
        ({"columns": "id,"}, "is not the name of a column"),
        ({"deliveries_table": "a b"}, "is left over"),
        ({"copy_options": "csv; DROP TABLE clicks"}, "a part of one command"),
        ({"copy_options": "csv -- "}, "a part of one command"),
        ({"copy_options": "csv /* "}, "a part of one command"),
        ({"copy_options": "delimiter '"}, "a part of one command"),
        ({"copy_form": "COPY {table} FROM {nowhere}"}, "{nowhere}, which nothing is put in for"),
        ({"copy_form": "COPY {table}; DELETE FROM {table}"}, "a part of one command"),
        ({"jdbc_url": "jdbc:mysql://user:hidden@host/dev"}, r"mysql://user:\*\*\*@host/dev"),
        ({"jdbc_url": "jdbc:redshift://host:port/dev?nonsense=1"}, "cannot be understood"),
        ({"bucket": ""}, "it needs the option `bucket`"),
        ({"tabel": "clicks"}, "has no option 'tabel'"),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_anything_happens(options: Any, text: str) -> None:
    """Names that would end the command among them; passwords are not repeated."""
    with pytest.raises(UsageError, match=text) as caught:
        command_of(**options)
    assert "hidden" not in caught.value.message


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_name_can_be_said_in_quotes(names: list[str]) -> None:
    for separator in ".,":
        text = f" {separator} ".join('"' + name.replace('"', '""') + '"' for name in names)
        assert names_of(text, separator, "column") == names


@given(st.text())
def test_what_is_not_quoted_is_a_plain_word_or_refused(text: str) -> None:
    try:
        (name,) = names_of(text, ".", "table")
    except (UsageError, ValueError):
        return
    assert name == text.strip().lower() or text.strip() == '"' + name.replace('"', '""') + '"'


def test_the_real_server_takes_a_quoted_name_for_what_it_is(table: Table) -> None:
    """Nothing in a name does anything."""
    name = "x\"; DROP TABLE nothing; -- '"
    quoted = '"' + name.replace('"', '""') + '"'
    table.execute(f"CREATE TABLE {quoted} (id INT)")

    async def scenario() -> None:
        destination = table.open(table=quoted, copy_options="(FORMAT csv)", deliveries_table=f'"{table.number}; ""x"')
        await destination.deliver(table.staged(b"1\n"), may_be_there=False)
        await destination.deliver(table.staged(b"1\n"), may_be_there=True)

    run(scenario)
    assert table.execute(f"SELECT * FROM {quoted}") == [(1,)]
