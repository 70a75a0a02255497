"""A script of SQL-1_0 as a script of Flink's SQL that does the same.

An in-application stream that is read becomes a view: its pumps' queries, cast to its columns, put together by UNION
ALL. One that nobody reads, or that an `Output` names, is a table that is inserted into; without an `Output` it is
printed. An input becomes a table of its stream, with ROWTIME as processing time, and the views PREFIX_001.. where its
columns are called or mapped otherwise than its records' fields.

What is not the same, for Flink's language has no words for it: there is no error stream, so that a row that cannot be
read, or a cast that fails, gives NULL instead of a row there; TOP_K_ITEMS_TUMBLING and COUNT_DISTINCT_ITEMS_TUMBLING
are exact; ROWTIME of a window that goes by arrival is the moment it closes. What has no exact translation is refused by
its name with its place: stagger windows, MONOTONIC over what is no time, windows of rows in joins, ORDER BY of anything
but ROWTIME, FAST_REGEX_LOG_PARSER, RANDOM_CUT_FOREST, HOTSPOTS.

Rules: the developer guide of Kinesis Data Analytics for SQL Applications and its SQL Reference, as each module says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streamkit_sql.errors import NotSupported, SqlError, SyntaxProblem, TypeProblem, UnknownName
from streamkit_sql.language import tree
from streamkit_sql.language.printer import to_flink
from streamkit_sql.legacy import records
from streamkit_sql.legacy.inputs import Input, Output, configured
from streamkit_sql.legacy.parser import CreatePump, CreateStream, parse
from streamkit_sql.legacy.queries import Queries
from streamkit_sql.legacy.scopes import ROWTIME, Column, Relation, inner_name, near
from streamkit_sql.legacy.tables import rowtime_column
from streamkit_sql.types import SqlType

_ERROR_STREAM: Final = "error_stream"
_UTC: Final = tree.SetOption("table.local-time-zone", "UTC")


def translate(text: str, inputs: Sequence[Input] = (), outputs: Sequence[Output] = ()) -> str:
    """The script in Flink's SQL, which `Session.run` plans. Raises SqlError; a place in it is one of `text`. What types
    go together is not asked here but by the planner, whose places are in the translation. With `outputs` only the
    streams they name are written."""
    return "\n\n".join(f"{to_flink(statement)};" for statement in statements_of(text, inputs, outputs)) + "\n"


def translate_file(path: Path) -> str:
    """The script in a file. FILE.json beside FILE.sql says what it reads and writes, as CreateApplication takes it."""
    configuration = path.with_suffix(".json")
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    if configuration.is_file():
        try:
            inputs, outputs = configured(json.loads(configuration.read_text(encoding="utf-8")))
        except ValueError as problem:
            raise SqlError(f"{configuration.name} is no JSON: {problem}") from None
    return translate(path.read_text(encoding="utf-8"), inputs, outputs)


def statements_of(text: str, inputs: Sequence[Input] = (), outputs: Sequence[Output] = ()) -> list[tree.Statement]:
    """The translation as trees, in the order they are to be run."""
    return _Script(inputs, outputs).translated(text)


@dataclass(slots=True)
class _Stream:
    """An in-application stream, its pumps, and the streams they read."""

    statement: CreateStream
    relation: Relation
    queries: list[tuple[CreatePump, tree.Query]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.statement.name.parts[-1]

    @property
    def targets(self) -> list[tuple[str, SqlType]]:
        """What pumps give, by the names that views have."""
        return [(column.sql, _typed(column)) for column in self.relation.visible]


class _Script:
    def __init__(self, inputs: Sequence[Input], outputs: Sequence[Output]) -> None:
        self._inputs = inputs
        self._outputs = {output.name: output for output in outputs}
        self._streams: dict[str, _Stream] = {}
        self._sources = {name: relation for each in inputs for name, relation in records.relations(each)}
        self._queries = Queries(self._relation)
        self._reads: list[str] = []
        """What the query that is being translated has read."""

    def translated(self, text: str) -> list[tree.Statement]:
        statements = parse(text)
        self._declare(each for each in statements if isinstance(each, CreateStream))
        plain = self._translate_pumps(statements)
        self._check_outputs()
        read = {name for stream in self._streams.values() for name in stream.reads} | set(self._reads)
        views = [self._view(stream) for stream in self._ordered() if stream.name in read]
        written = [stream for stream in self._streams.values() if self._is_written(stream, read)]
        made: list[tree.Statement] = [_UTC]
        for each in self._inputs:
            made += records.statements(each, by_arrival=self._queries.uses_arrival)
        made += views
        inserts: list[tree.Insert] = []
        for stream in written:
            is_view = stream.name in read
            name = tree.Name((f"{stream.name}_OUTPUT" if is_view else stream.name,))
            made.append(records.sink(name, stream.statement.columns, self._outputs.get(stream.name)))
            inserts += self._inserts(stream, name, is_view=is_view)
        if len(inserts) > 1:
            made.append(tree.StatementSet(tuple(inserts)))
        else:
            made += inserts
        return [*made, *plain]

    # -- what is there -----------------------------------------------------------------------------------------------

    def _declare(self, statements: Iterable[CreateStream]) -> None:
        for statement in statements:
            name = statement.name.parts[-1]
            if len(statement.name.parts) > 1:
                raise NotSupported("a stream in a schema", statement.name.place, "Names have one part.")
            if name in self._sources or (name in self._streams and not statement.or_replace):
                raise UnknownName(f"there is a stream {name!r} already", statement.name.place)
            self._streams[name] = _Stream(statement, _declared(statement))

    def _relation(self, name: tree.Name) -> Relation:
        """Of a stream that a query reads."""
        key = name.parts[-1]
        relation = self._sources.get(key)
        if relation is None and key in self._streams:
            self._reads.append(key)
            relation = self._streams[key].relation
        if relation is not None and len(name.parts) == 1:
            return relation
        if key.lower() == _ERROR_STREAM:
            hint = "Rows that cannot be read have NULL; compare with IS NULL."
            raise NotSupported("the error stream is not supported", name.place, hint)
        known = [*self._sources, *self._streams]
        hint = near(key, known)
        if not hint and not self._inputs:
            hint = "No input is given: what its columns are is said in FILE.json, as CreateApplication takes it."
        raise UnknownName(f"there is no stream {'.'.join(name.parts)!r}", name.place, hint)

    def _translate_pumps(self, statements: Sequence[object]) -> list[tree.Statement]:
        """Fills the streams; the queries outside of pumps."""
        pumps: dict[str, CreatePump] = {}
        plain: list[tree.QueryStatement] = []
        for statement in statements:
            if isinstance(statement, CreatePump):
                name = statement.name.parts[-1]
                if name in pumps and not statement.or_replace:
                    raise UnknownName(f"there is a pump {name!r} already", statement.name.place)
                pumps[name] = statement
            elif isinstance(statement, tree.QueryStatement):
                plain.append(statement)
        for pump in pumps.values():
            self._translate_pump(pump)
        self._reads = []
        return [tree.QueryStatement(self._queries.query(each.query)[0]) for each in plain]

    def _translate_pump(self, pump: CreatePump) -> None:
        target = pump.insert.target
        stream = self._streams.get(target.parts[-1])
        if stream is None:
            hint = near(target.parts[-1], self._streams) or "CREATE STREAM declares one."
            raise UnknownName(f"there is no stream {'.'.join(target.parts)!r} to insert into", target.place, hint)
        targets = dict(zip((each.name for each in stream.relation.visible), stream.targets, strict=True))
        names = pump.insert.columns or tuple(targets)
        for name in names:
            if name not in targets:
                hint = near(name, targets) if name != ROWTIME else "Rows have it from when they come."
                raise UnknownName(f"the stream {stream.name!r} has no column {name!r}", pump.insert.place, hint)
        self._reads = []
        wanted = [targets[name] for name in names]
        query, _ = self._queries.query(pump.insert.query, wanted, with_rowtime=True)
        missing = [target for name, target in targets.items() if name not in names]
        if pump.insert.columns and (missing or list(names) != list(targets)):
            query = _reordered(query, list(targets.values()), dict(missing))
        stream.queries.append((pump, query))
        stream.reads += self._reads

    def _check_outputs(self) -> None:
        for name in self._outputs:
            if name not in self._streams:
                raise UnknownName(f"there is no stream {name!r} for the output", hint=near(name, self._streams))

    def _is_written(self, stream: _Stream, read: set[str]) -> bool:
        return stream.name in self._outputs if self._outputs else stream.name not in read

    # -- views and tables --------------------------------------------------------------------------------------------

    def _ordered(self) -> list[_Stream]:
        """Streams behind those they are made of. Raises NotSupported where one is made of itself."""
        done: dict[str, _Stream] = {}
        waiting = list(self._streams.values())
        while waiting:
            ready = [each for each in waiting if all(name in done for name in each.reads)]
            if not ready:
                names = ", ".join(each.name for each in waiting)
                raise NotSupported(f"streams that feed themselves ({names})", waiting[0].statement.place)
            done |= {each.name: each for each in ready}
            waiting = [each for each in waiting if each.name not in done]
        return list(done.values())

    def _view(self, stream: _Stream) -> tree.CreateView:
        if not stream.queries:
            raise NotSupported(
                f"the stream {stream.name!r}, which no pump fills",
                stream.statement.place,
                "Leave it out, or add a pump.",
            )
        query = stream.queries[0][1]
        for _, each in stream.queries[1:]:
            query = tree.SetOperation("UNION", True, query, each)
        return tree.CreateView(tree.Name((stream.name,)), query)

    def _inserts(self, stream: _Stream, name: tree.Name, *, is_view: bool) -> list[tree.Insert]:
        if not is_view:
            return [tree.Insert(name, _without_rowtime(query)) for _, query in stream.queries]
        items = tuple(tree.SelectItem(tree.Name((column,))) for column, _ in stream.targets)
        return [tree.Insert(name, tree.Select(items, tree.TableName(tree.Name((stream.name,)))))]


def _typed(column: Column) -> SqlType:
    assert column.type is not None
    return column.type


def _declared(statement: CreateStream) -> Relation:
    columns: list[Column] = []
    taken = [ROWTIME]
    seen: dict[str, str] = {}
    for each in statement.columns:
        if each.name == ROWTIME:
            raise TypeProblem("every stream has ROWTIME already", each.place, "Give the column another name.")
        other = seen.setdefault(each.name.lower(), each.name)
        if len(seen) <= len(columns):
            what = "is there twice" if other == each.name else f"differs from {other!r} only by case"
            raise SyntaxProblem(f"the column {each.name!r} {what}", each.place)
        name = inner_name(each.name, taken)
        taken.append(name)
        columns.append(Column(each.name, name, each.type))
    return Relation((*columns, rowtime_column()))


def _without_rowtime(query: tree.Query) -> tree.Query:
    """A pump's query for a table, whose last column is ROWTIME's."""
    if isinstance(query, tree.SetOperation):
        left, right = _without_rowtime(query.left), _without_rowtime(query.right)
        return tree.SetOperation(query.kind, query.all, left, right)
    assert isinstance(query, tree.Select)
    *items, _ = query.items
    group_by = query.group_by
    if group_by is not None and not any(item.expression == records.WINDOW_TIME for item in items):
        group_by = tuple(each for each in group_by if each.expressions != (records.WINDOW_TIME,))
    return tree.Select(
        tuple(items), query.source, query.where, group_by, query.having, windows=query.windows
    )  # fmt: skip


def _reordered(query: tree.Query, columns: Sequence[tuple[str, SqlType]], missing: dict[str, SqlType]) -> tree.Query:
    """The columns in the stream's order; those that the pump does not give are NULL."""
    items = [
        tree.SelectItem(tree.Cast(tree.Literal_(None), of.with_null()), name)
        if name in missing
        else tree.SelectItem(tree.Name((name,)))
        for name, of in columns
    ]
    return tree.Select((*items, tree.SelectItem(tree.Name((ROWTIME,)))), tree.Subquery(query))
