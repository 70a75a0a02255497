"""Objects loaded into a table of Redshift, or of a PostgreSQL: the destination `redshift`.

As Firehose does it: the object is staged in S3, then a COPY command loads it, over a PostgreSQL connection.

Options: `jdbc_url` (`jdbc:redshift://host:port/database`, `jdbc:postgresql://...`, `postgresql://...`), `user`,
`password`, `table` (maybe `schema.table`), `columns` (a list, or names with commas between), `copy_options` (AWS's
CopyOptions, the rest of the command), `compression`, `role_arn`, `s3` (the options of the destination `s3`; for its
`bucket` alone also the option `bucket`), `copy_form`, `deliveries_table`, `statement_timeout_ms`. Table and columns are
names, and quoted as such; the options are a part of the command, and may not end it. What the process itself says of
them (`redshift` in `Surroundings.settings`) wins, so that a document made for AWS can load into another database.

`copy_form` is (by default the first where the host or the URL is Redshift's, the second elsewhere)
- `redshift`: COPY table (columns) FROM 's3://bucket/manifests/KEY' CREDENTIALS '...' MANIFEST options. A manifest, as
  Firehose has one: what stands after FROM is a prefix otherwise, and might load another object too. For objects in GZIP
  the option GZIP is added where it is missing; whether Firehose does so is not known, but nothing else could be read.
- `stdin`: COPY table (columns) FROM STDIN options, and the object's bytes, without their gzip or zstd. That works with
  any PostgreSQL; S3 may be left out. `JSON 'auto'` means what it does in Redshift, for one document a line: members go
  to the columns of their names.
- any other text: the command itself, with {table}, {columns} (in parentheses, or nothing), {url}, {manifest_url},
  {credentials}, {options}, {bucket} and {key}, quoted where they stand for texts; a FROM STDIN in it is given bytes.

Exactly once: in one transaction with the COPY, the object's id goes into the table `streamkit_deliveries` (made where
it is missing), and an object whose id is there is not loaded again. With `deliveries_table` empty it is at least once,
as with AWS. Ids are kept for as many objects as could be under way.

Errors have the names of Firehose's (developer guide, "Monitor using CloudWatch Logs"; from memory). What the data or
the command are to blame for is final; what an administrator can mend is tried again. `skipped` writes down what was
given up, as a manifest that a person can load later (developer guide, "Handle data delivery failures"). How Firehose
names these manifests is not known; here it is `errors/manifests/` and the object's key.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from streamkit.delivery.destination import DeliveryFailed, Destination, Refused, Sealed, Surroundings, Takes
from streamkit.delivery.plan import DestinationSpec
from streamkit.model.errors import UsageError
from streamkit_connectors.files import ObjectPlace
from streamkit_connectors.s3 import open_place

if TYPE_CHECKING:
    import pyarrow as pa

Connection = psycopg.Connection[tuple[Any, ...]]

THREADS: Final = 2  # of a destination: loads of one table wait for each other in Redshift anyway
CONNECT_TIMEOUT_S: Final = 10
SILENCE_TIMEOUT_MS: Final = 60_000  # of the network, with something sent and not acknowledged
STATEMENT_TIMEOUT_MS: Final = 30 * 60_000  # Redshift itself looks for S3 for 15 to 30 minutes
BLOCK_BYTES: Final = 1024 * 1024  # sent at once
DELIVERIES_KEPT: Final = 10_000  # ids of a delivery stream: far more objects than are ever under way
DELIVERIES_CHECKED_EVERY: Final = 1_000  # objects, between two looks for ids that are not needed any more

_REQUIRED: Final = frozenset({"jdbc_url", "table"})
_OPTIONAL: Final = frozenset({"user", "password", "columns", "copy_options", "copy_form", "role_arn", "s3", "bucket"})
# The prefix is in the keys already.
_OURS: Final = frozenset({"deliveries_table", "statement_timeout_ms", "compression", "s3_prefix"})
_NAME: Final = re.compile(r'\s*(?:"((?:[^"\0]|"")+)"|([^\W\d][\w$]*))\s*')
_JSON_AUTO: Final = re.compile(r"^\s*(?:format\s+)?(?:as\s+)?json\s+(?:as\s+)?'auto(?: ignorecase)?'", re.IGNORECASE)
_COMPRESSIONS: Final = re.compile(r"\b(?:gzip|zstd)\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")

# By SQLSTATE, or its class; True where another try cannot go better.
_STATES: Final[Mapping[str, tuple[str, bool]]] = {
    "28": ("AuthenticationFailed", False),
    "3D": ("DatabaseNotFound", False),
    "42P01": ("TableNotFound", False),
    "3F": ("TableNotFound", False),
    "42703": ("ColumnNotFound", False),
    "42501": ("InsufficientPrivilege", False),
    "42": ("SyntaxError", True),
    "22": ("DataLoadFailed", True),
    "23": ("DataLoadFailed", True),
    "25006": ("ReadOnlyCluster", False),
    "53": ("DiskFull", False),
}
_REFUSALS: Final = (
    (re.compile(r'database "[^"]*" does not exist'), "DatabaseNotFound"),
    (re.compile(r'authentication failed|role "[^"]*" does not exist|no pg_hba.conf entry'), "AuthenticationFailed"),
)
# Redshift tells most of what fails in a COPY as an internal error, in words.
_TEXTS: Final = (
    (re.compile(r"stl_load_errors|sys_load_error_detail|Load into table .* failed", re.IGNORECASE), "DataLoadFailed"),
    (re.compile(r"S3ServiceException.*Access\s*Denied", re.IGNORECASE | re.DOTALL), "S3BucketAccessDenied"),
    (re.compile(r"S3ServiceException.*(?:NoSuchKey|does not exist)", re.IGNORECASE | re.DOTALL), "MissingS3File"),
)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Load:
    """What a COPY command is made of. `columns` empty: all of the table, in its order."""

    conninfo: str
    table: sql.Identifier
    columns: tuple[str, ...]
    options: str
    form: str
    credentials: str
    deliveries: sql.Identifier | None
    statement_timeout_ms: int

    @property
    def reads_stdin(self) -> bool:
        return self.form == "stdin" or bool(re.search(r"\bfrom\s+stdin\b", self.form, re.IGNORECASE))

    @property
    def needs_manifest(self) -> bool:
        return self.form == "redshift" or "{manifest_url}" in self.form


class RedshiftDestination:
    """See `Destination`, and the module."""

    takes: Takes = "objects"
    is_ordered = False
    failed_output_type = "redshift-failed"
    metric = "Redshift"

    def __init__(self, load: Load, place: ObjectPlace | None, root: str, surroundings: Surroundings) -> None:
        self._load = load
        self._place = place
        self._root = root  # s3://bucket, and the folder in it
        self._clock = surroundings.clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="streamkit-redshift")
        self._has_deliveries = False

    async def schema(self) -> pa.Schema | None:
        return None

    async def deliver(self, sealed: Sealed, *, may_be_there: bool) -> Sequence[Refused]:
        if self._place is not None:
            await self._place.put_from_file(sealed.key, sealed.path, id=sealed.id, may_be_there=may_be_there)
            if self._load.needs_manifest:
                await self._put_manifest(f"manifests/{sealed.key}", sealed)
        delivered_at_ms = self._clock.now_ms()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, lambda: self._deliver(sealed, delivered_at_ms))
        return ()

    async def skipped(self, sealed: Sealed) -> None:
        """Notes that an object was given up, for somebody to load it by hand. Raises DeliveryFailed."""
        if self._place is not None:
            await self._put_manifest(f"errors/manifests/{sealed.key}", sealed)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._place is not None:
            await self._place.close()

    async def _put_manifest(self, key: str, sealed: Sealed) -> None:
        assert self._place is not None
        content = {"entries": [{"url": f"{self._root}/{sealed.key}", "mandatory": True}]}
        with tempfile.TemporaryDirectory(prefix="streamkit-") as directory:
            path = Path(directory) / "manifest"
            path.write_text(json.dumps(content))
            await self._place.put_from_file(key, path, id=sealed.id, may_be_there=True)

    # -- on a thread -------------------------------------------------------------------------------------------------

    def _deliver(self, sealed: Sealed, delivered_at_ms: int) -> None:
        load = self._load
        with _errors(), psycopg.connect(load.conninfo, prepare_threshold=None, autocommit=True) as connection:
            connection.execute(sql.SQL("SET statement_timeout TO {}").format(load.statement_timeout_ms))
            if load.deliveries is not None and not self._has_deliveries:
                _make_deliveries(connection, load.deliveries)
                self._has_deliveries = True
            with connection.transaction():
                if load.deliveries is not None:
                    values = (sealed.id, sealed.delivery_id, sealed.number, delivered_at_ms)
                    # Where ids are unique, an insert waits for another try of the same object that is under way.
                    if not _remember(connection, load.deliveries, values, is_unique=load.form == "stdin"):
                        return
                    if not sealed.number % DELIVERIES_CHECKED_EVERY:
                        _forget(connection, load.deliveries, sealed)
                self._copy(connection, sealed)

    def _copy(self, connection: Connection, sealed: Sealed) -> None:
        load = self._load
        if load.form == "stdin" and _JSON_AUTO.match(load.options):
            _copy_json(connection, load, sealed.path)
        elif load.reads_stdin:
            _send(connection, self._command(sealed), sealed.path)
        else:
            connection.execute(self._command(sealed))

    def _command(self, sealed: Sealed) -> sql.Composed:
        load = self._load
        form, options = load.form, load.options
        if form == "redshift":
            form = "COPY {table} {columns} FROM {manifest_url} {credentials} MANIFEST {options}"
        elif form == "stdin":
            form, options = "COPY {table} {columns} FROM STDIN {options}", _COMPRESSIONS.sub("", options)
        values: dict[str, sql.Composable] = {
            "table": load.table,
            "columns": _in_parentheses(load.columns),
            "url": sql.Literal(f"{self._root}/{sealed.key}"),
            "manifest_url": sql.Literal(f"{self._root}/manifests/{sealed.key}"),
            "credentials": sql.SQL("CREDENTIALS {}").format(load.credentials) if load.credentials else sql.SQL(""),
            "options": sql.SQL(options),
            "bucket": sql.Literal(self._root.split("/")[2] if self._root else ""),
            "key": sql.Literal(sealed.key),
        }
        pieces = re.split(r"\{(\w+)\}", form)
        composed = [values[piece] if place % 2 else sql.SQL(piece) for place, piece in enumerate(pieces)]
        return sql.Composed(composed)


def _in_parentheses(columns: Sequence[str]) -> sql.Composable:
    """A list of columns; nothing where none are named."""
    if not columns:
        return sql.SQL("")
    return sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))


def _make_deliveries(connection: Connection, table: sql.Identifier) -> None:
    statement = sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} (id CHAR(36) NOT NULL PRIMARY KEY, delivery_id CHAR(32) NOT NULL, "
        "number BIGINT NOT NULL, delivered_at_ms BIGINT NOT NULL)"
    )
    try:
        connection.execute(statement.format(table))
    except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
        pass  # somebody made it at the same moment, which PostgreSQL does not look for


def _remember(
    connection: Connection, table: sql.Identifier, values: tuple[str, str, int, int], *, is_unique: bool
) -> bool:
    """False where the id is there already. Until the transaction ends, nobody else can remember this id."""
    insert = sql.SQL("INSERT INTO {} (id, delivery_id, number, delivered_at_ms) VALUES (%s, %s, %s, %s)").format(table)
    if is_unique:
        return connection.execute(insert + sql.SQL(" ON CONFLICT DO NOTHING"), values).rowcount == 1
    # Redshift keeps primary keys for the planner, and enforces none.
    connection.execute(sql.SQL("LOCK TABLE {}").format(table))
    if connection.execute(sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(table), values[:1]).fetchone():
        return False
    connection.execute(insert, values)
    return True


def _forget(connection: Connection, table: sql.Identifier, sealed: Sealed) -> None:
    statement = sql.SQL("DELETE FROM {} WHERE delivery_id = %s AND number < %s").format(table)
    connection.execute(statement, (sealed.delivery_id, sealed.number - DELIVERIES_KEPT))


def _copy_json(connection: Connection, load: Load, path: Path) -> None:
    """Each line a document, and its members the columns of their names: through a table that the transaction drops."""
    connection.execute("CREATE TEMP TABLE streamkit_lines (line TEXT) ON COMMIT DROP")
    # Neither character can be in JSON as it is.
    command = sql.SQL("COPY streamkit_lines FROM STDIN (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')")
    _send(connection, sql.Composed([command]), path)
    values: list[sql.Composable] = [sql.Identifier("r", column) for column in load.columns]
    statement = sql.SQL(
        "INSERT INTO {table} {into} SELECT {columns} FROM streamkit_lines, "
        "jsonb_populate_record(NULL::{table}, line::jsonb) AS r WHERE line IS NOT NULL"
    ).format(
        table=load.table,
        into=_in_parentheses(load.columns),
        columns=sql.SQL(", ").join(values or [sql.SQL("r.*")]),
    )
    connection.execute(statement)


def _send(connection: Connection, command: sql.Composed, path: Path) -> None:
    with _decompressed(path) as file, connection.cursor() as cursor, cursor.copy(command) as copy:
        while block := file.read(BLOCK_BYTES):
            copy.write(block)


@contextmanager
def _decompressed(path: Path) -> Iterator[_Readable]:
    """Firehose's formats for Redshift are none and GZIP; zstd is ours. Told by how the file begins."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        elif start == b"\x28\xb5\x2f\xfd":
            import pyarrow as pa

            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
                yield stream
        else:
            yield file


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        state, text = error.sqlstate or "", str(error).strip()
        code, is_final = _STATES.get(state) or _STATES.get(state[:2]) or ("InternalError", False)
        if not state or state.startswith("08"):
            # What the server said while connecting comes without a state.
            code = next((found for pattern, found in _REFUSALS if pattern.search(text)), "ConnectionFailed")
        elif code == "InternalError":
            code = next((found for pattern, found in _TEXTS if pattern.search(text)), code)
            is_final = code == "DataLoadFailed"
        raise DeliveryFailed(f"Redshift.{code}", text or type(error).__name__, is_final=is_final) from error
    except (OSError, EOFError) as error:  # of the staged file
        raise DeliveryFailed("Redshift.InputOutput", f"the object cannot be read: {error}") from error


# -- opening ---------------------------------------------------------------------------------------------------------


def open_destination(spec: DestinationSpec, surroundings: Surroundings) -> Destination:
    settings = surroundings.settings.get("redshift", {})
    options = {**spec.options, **settings}
    if "@" in str(settings.get("jdbc_url", "")):  # who is known elsewhere need not be known there
        options |= {"user": settings.get("user", ""), "password": settings.get("password", "")}
    every = _REQUIRED | _OPTIONAL | _OURS
    if unknown := sorted(options.keys() - every):
        known = ", ".join(sorted(every))
        raise UsageError(f"the destination `redshift` has no option {unknown[0]!r}; it has {known}")
    if missing := sorted(name for name in _REQUIRED if not options.get(name)):
        raise UsageError(f"the destination `redshift` needs the option `{missing[0]}`")
    bucket = dict(options.get("s3") or {})
    if options.get("bucket"):
        bucket["bucket"] = options["bucket"]
    load = _load_of(options, bucket, surroundings)
    if not bucket and not load.reads_stdin:
        raise UsageError("the destination `redshift` loads from S3: it needs the option `bucket`, or `s3`")
    if not bucket:
        return RedshiftDestination(load, None, "", surroundings)
    place = open_place(DestinationSpec("s3", bucket), surroundings)
    root = f"s3://{bucket['bucket']}/{bucket.get('prefix') or ''}".rstrip("/")
    return RedshiftDestination(load, place, root, surroundings)


def _load_of(options: Mapping[str, Any], bucket: Mapping[str, Any], surroundings: Surroundings) -> Load:
    columns = options.get("columns") or ()
    is_redshift = re.search(r"^(?:jdbc:)?redshift:|\.redshift(?:-serverless)?\.", str(options["jdbc_url"]))
    form = str(options.get("copy_form") or ("redshift" if is_redshift else "stdin"))
    copy_options = str(options.get("copy_options") or "").strip().removesuffix(";").rstrip()
    for text, what in ((copy_options, "copy_options"), (form, "copy_form")):
        bare = _QUOTED.sub("", text)
        if re.search(r";|--|/\*|['\"]|\0", bare):
            raise UsageError(f"the {what} {text!r} must be a part of one command: no `;`, no comment, no open quote")
    if form == "redshift" and options.get("compression") == "GZIP" and not _COMPRESSIONS.search(copy_options):
        copy_options = f"{copy_options} GZIP".lstrip()
    if form not in ("redshift", "stdin"):
        known = {"table", "columns", "url", "manifest_url", "credentials", "options", "bucket", "key"}
        if unknown := set(re.findall(r"\{(\w+)\}", form)) - known:
            raise UsageError(f"the copy_form has {{{min(unknown)}}}, which nothing is put in for")
    deliveries = options.get("deliveries_table", "streamkit_deliveries")
    return Load(
        conninfo=_conninfo(options),
        table=sql.Identifier(*names_of(str(options.get("table") or ""), ".", "table")),
        columns=tuple(names_of(columns, ",", "column") if isinstance(columns, str) and columns.strip() else columns),
        options=copy_options,
        form=form,
        credentials=_credentials(options, {**surroundings.object_store, **bucket}),
        deliveries=sql.Identifier(*names_of(deliveries, ".", "table")) if deliveries else None,
        statement_timeout_ms=int(options.get("statement_timeout_ms", STATEMENT_TIMEOUT_MS)),
    )


def names_of(text: str, separator: str, what: str) -> list[str]:
    """The names in `schema.table` or `a, "B c"`: folded to lower case unless quoted, as PostgreSQL and Redshift do.
    Raises UsageError for what is no name."""
    names, at = [], 0
    while True:
        found = _NAME.match(text, at)
        if found is None:
            raise UsageError(
                f'{text!r} is not the name of a {what}; one that is no plain word must be quoted, as "1 a"'
            )
        names.append(found[1].replace('""', '"') if found[1] is not None else found[2].lower())
        if found.end() == len(text):
            return names
        if text[found.end()] != separator:
            raise UsageError(f"{text!r} is not the name of a {what}: {text[found.end() :]!r} is left over")
        at = found.end() + 1


def _conninfo(options: Mapping[str, Any]) -> str:
    url = str(options.get("jdbc_url") or "")
    found = re.fullmatch(r"(?:jdbc:)?(?:redshift|postgres(?:ql)?)://(.*)", url)
    if found is None:
        raise UsageError(
            f"the option `jdbc_url` is like jdbc:redshift://host:5439/database or postgresql://host/database; "
            f"{_without_password(url)!r} is not"
        )
    given = {name: str(options[key]) for key, name in (("user", "user"), ("password", "password")) if options.get(key)}
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": SILENCE_TIMEOUT_MS,
        "keepalives_idle": SILENCE_TIMEOUT_MS // 1000,
        "client_encoding": "utf8",
        "application_name": "streamkit",
    }
    try:
        asked = conninfo_to_dict(f"postgresql://{found[1]}")
        return make_conninfo("", **{**settings, **asked, **given})
    except psycopg.Error as error:
        raise UsageError(f"the option `jdbc_url` {_without_password(url)!r} cannot be understood: {error}") from error


def _without_password(url: str) -> str:
    return re.sub(r"://([^:/@]*):[^@/]*@", r"://\1:***@", url)


def _credentials(options: Mapping[str, Any], store: Mapping[str, Any]) -> str:
    """As COPY wants them: a role, or the keys that the object was put with."""
    if options.get("role_arn"):
        return f"aws_iam_role={options['role_arn']}"
    if not store.get("access_key_id"):
        return ""
    parts = [
        f"aws_access_key_id={store['access_key_id']}",
        f"aws_secret_access_key={store.get('secret_access_key', '')}",
    ]
    if store.get("session_token"):
        parts.append(f"token={store['session_token']}")
    return ";".join(parts)
