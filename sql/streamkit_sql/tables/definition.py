"""A table as CREATE TABLE says it: columns, watermark, key, options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported, Place, TypeProblem, UnknownName
from streamkit_sql.expressions.bound import Bound, Column
from streamkit_sql.language import tree
from streamkit_sql.tables import options as table_options
from streamkit_sql.types import (
    BIGINT,
    STRING,
    TIMESTAMPS,
    Field,
    Kind,
    SqlType,
    timestamp_ltz,
    varchar,
)

if TYPE_CHECKING:
    from streamkit_sql.plan.planner import Planner

_NAME = varchar(128, nullable=False)
METADATA: Final[Mapping[str, Mapping[str, SqlType]]] = {
    "kinesis": {
        "timestamp": timestamp_ltz(3, nullable=False),
        "shard-id": _NAME,
        "sequence-number": _NAME,
        "partition-key": STRING.with_null(False),  # ours
    },
    "filesystem": {
        "file.path": STRING.with_null(False),
        "file.name": STRING.with_null(False),
        "file.size": BIGINT.with_null(False),
        "file.modification-time": timestamp_ltz(3, nullable=False),
    },
    "datagen": {},
    "live": {},
}
"""What can be read beside the rows, by connector: Flink's keys and types."""
READABLE: Final = ("filesystem", "kinesis", "datagen", "live", "streamkit-errors")


@dataclass(frozen=True, slots=True)
class BoundTable:
    """A table's expressions bound in a session. `watermark` is the expression's value, a timestamp."""

    columns: tuple[Column, ...]
    computed: Mapping[str, Bound]
    watermark: Bound | None
    watermark_column: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDefinition:
    """`columns` are in the order they were written. `options` are as written, keys and all."""

    name: str
    columns: tuple[tree.PhysicalColumn | tree.ComputedColumn | tree.MetadataColumn, ...]
    connector: str
    format: str | None
    options: Mapping[str, str]
    watermark: tree.Watermark | None = None
    primary_key: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    comment: str = ""
    place: Place = field(default=Place(), compare=False)

    @classmethod
    def from_create(cls, create: tree.CreateTable, like: TableDefinition | None = None) -> TableDefinition:
        """Raises SqlError for options and columns that do not fit. `like` is the table its LIKE names; its columns of
        AS SELECT are the caller's to add."""
        if create.like is not None:
            assert like is not None
            create = _merged(create, like)
        name = create.name.parts[-1]
        options = dict(create.options)
        connector, format_ = table_options.check(name, options, create.place)
        made = cls(
            name=name, columns=create.columns, connector=connector, format=format_,
            options=MappingProxyType(options), watermark=create.watermark, primary_key=create.primary_key,
            partitioned_by=create.partitioned_by, comment=create.comment, place=create.place,
        )  # fmt: skip
        made._check()
        return made

    def with_options(self, options: Sequence[tuple[str, str]]) -> TableDefinition:
        """As `/*+ OPTIONS(..) */` changes it."""
        merged = {**self.options, **dict(options)}
        connector, format_ = table_options.check(self.name, merged, self.place)
        return replace(self, options=MappingProxyType(merged), connector=connector, format=format_)

    def to_create(self) -> tree.CreateTable:
        """The statement that declares it."""
        return tree.CreateTable(
            name=tree.Name((self.name,)),
            columns=self.columns,
            options=tuple(self.options.items()),
            watermark=self.watermark,
            primary_key=self.primary_key,
            partitioned_by=self.partitioned_by,
            comment=self.comment,
        )

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def physical(self) -> tuple[Field, ...]:
        """What a row of the source has; a metadata column that is not VIRTUAL is only written."""
        return tuple(Field(each.name, each.type) for each in self.columns if isinstance(each, tree.PhysicalColumn))

    @property
    def metadata(self) -> Mapping[str, tree.MetadataColumn]:
        return {each.name: each for each in self.columns if isinstance(each, tree.MetadataColumn)}

    @property
    def written(self) -> tuple[Field, ...]:
        """What INSERT INTO gives: all but computed and virtual columns."""
        return tuple(
            Field(each.name, each.type)
            for each in self.columns
            if isinstance(each, tree.PhysicalColumn) or (isinstance(each, tree.MetadataColumn) and not each.virtual)
        )

    @property
    def format_options(self) -> Mapping[str, str]:
        """Those of the format, without its prefix."""
        prefix = f"{self.format}."
        return {key[len(prefix) :]: value for key, value in self.options.items() if key.startswith(prefix)}

    @property
    def idle_timeout_ms(self) -> int | None:
        text = self.options.get("scan.watermark.idle-timeout")
        return (table_options.duration_ms(text) or None) if text is not None else None

    @property
    def is_readable(self) -> bool:
        return self.connector in READABLE

    @property
    def is_bounded(self) -> bool:
        """Whether its rows end by themselves."""
        if self.connector == "filesystem":
            return "source.monitor-interval" not in self.options
        if self.connector == "live":
            return True
        if self.connector == "datagen":
            ends = [key for key in self.options if key.startswith("fields.") and key.endswith(".end")]
            return "number-of-rows" in self.options or bool(ends)
        return False

    # -- binding -----------------------------------------------------------------------------------------------------

    def relation_columns(self, planner: Planner) -> tuple[Column, ...]:
        """Columns as a query sees them, time attributes marked."""
        return self.bind(planner).columns

    def bind(self, planner: Planner) -> BoundTable:
        """Raises TypeProblem and UnknownName at the place of an expression. A computed column sees physical and
        metadata columns; the watermark sees all."""
        from streamkit_sql.plan.scopes import Item, TableScope, reference

        plain = [Column(each.name, each.type) for each in self.columns if not isinstance(each, tree.ComputedColumn)]
        leaves = {
            path: reference(Column(".".join(path), of))
            for each in plain
            for path, of in _leaves((each.name,), each.type)
        }
        seen = [(column.name, reference(column)) for column in plain]
        scope = TableScope((Item(self.name, tuple(seen), leaves),))
        computed = {
            each.name: planner.bind(each.expression, scope)
            for each in self.columns
            if isinstance(each, tree.ComputedColumn)
        }
        columns = [
            Column(each.name, computed[each.name].type, computed[each.name].time)
            if isinstance(each, tree.ComputedColumn)
            else Column(each.name, each.type)
            for each in self.columns
        ]
        if self.watermark is None:
            return BoundTable(tuple(columns), computed, None, None)
        return self._with_watermark(planner, columns, computed, leaves)

    def _with_watermark(
        self,
        planner: Planner,
        columns: list[Column],
        computed: Mapping[str, Bound],
        leaves: dict[tuple[str, ...], Bound],
    ) -> BoundTable:
        from streamkit_sql.plan.scopes import Item, TableScope, reference

        assert self.watermark is not None
        place = self.watermark.place
        name = ".".join(self.watermark.column)
        index = next((i for i, column in enumerate(columns) if column.name == name), None)
        if index is None:
            if len(self.watermark.column) > 1:
                raise NotSupported(
                    "a watermark is of a column, not of a field inside one.", place, "Add a computed column."
                )
            hint = table_options.near(name, [column.name for column in columns])
            raise UnknownName(f"the watermark is for {name!r}, which is no column.", place, hint)
        of = columns[index].type
        if of.kind not in TIMESTAMPS or of.precision > 3:
            hint = "Add a computed column: CAST(.. AS TIMESTAMP(3)), or TO_TIMESTAMP_LTZ(.., 3)."
            raise TypeProblem(
                f"a watermark is for a TIMESTAMP(3) or TIMESTAMP_LTZ(3); {name!r} is a {of}.", place, hint
            )
        seen = tuple((column.name, reference(column)) for column in columns)
        bound = planner.bind(self.watermark.expression, TableScope((Item(self.name, seen, leaves),)))
        if bound.type.kind not in TIMESTAMPS:
            raise TypeProblem(f"a watermark is a timestamp; this is a {bound.type}.", place)
        columns[index] = replace(columns[index], time="event")
        return BoundTable(tuple(columns), computed, bound, name)

    # -- checks ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        _check_case([Field(column.name, STRING) for column in self.columns], self.place)
        names: set[str] = set()
        for column in self.columns:
            if column.name in names:
                raise TypeProblem(f"the column {column.name!r} is there twice.", column.place)
            names.add(column.name)
            if not isinstance(column, tree.ComputedColumn):
                _check_case([Field(column.name, column.type)], column.place)
            if isinstance(column, tree.MetadataColumn):
                self._check_metadata(column)
        for what, keys in (("primary key", self.primary_key), ("PARTITIONED BY", self.partitioned_by)):
            for key in keys:
                if key not in names:
                    hint = table_options.near(key, sorted(names))
                    raise UnknownName(
                        f"the {what} of {self.name!r} names {key!r}, which is no column.", self.place, hint
                    )
        if self.format == "raw" and len(self.physical) != 1:
            raise TypeProblem(f"the raw format has one column; {self.name!r} has {len(self.physical)}.", self.place)
        if not self.physical and self.connector in READABLE:
            raise TypeProblem(f"{self.name!r} has no column that is in its rows.", self.place)

    def _check_metadata(self, column: tree.MetadataColumn) -> None:
        key = column.key or column.name
        known = METADATA.get(self.connector, {})
        if key not in known and column.virtual:
            hint = f"There are: {', '.join(known)}." if known else "It has none."
            raise UnknownName(f"the connector {self.connector!r} has no metadata {key!r}.", column.place, hint)
        if key in known and not castable(known[key], column.type):
            raise TypeProblem(f"{key!r} is a {known[key]}; it cannot be read as {column.type}.", column.place)


def _check_case(fields: Sequence[Field], place: Place) -> None:
    """DuckDB's names do not differ by case: what Flink tells apart would be one here."""
    seen: dict[str, str] = {}
    for each in fields:
        other = seen.setdefault(each.name.lower(), each.name)
        if other != each.name:
            raise NotSupported(f"the names {other!r} and {each.name!r} differ only by case.", place)
        of: SqlType | None = each.type
        while of is not None:
            _check_case(of.fields, place)
            of = of.element


def castable(of: SqlType, to: SqlType) -> bool:
    """Whether metadata of this type can be declared as that one: itself, as a text, or another timestamp or integer."""
    return (
        to.is_text
        or of.kind is to.kind
        or (of.is_timestamp and (to.is_timestamp or to.kind is Kind.BIGINT))
        or (of.is_integer and to.is_integer)
    )


def _leaves(path: tuple[str, ...], of: SqlType) -> Iterator[tuple[tuple[str, ...], SqlType]]:
    """The fields inside a row, at all depths; as `plan.sources` names them."""
    if of.kind is Kind.ROW:
        for each in of.fields:
            inner = (*path, each.name)
            type_ = each.type.with_null(each.type.nullable or of.nullable)
            yield inner, type_
            yield from _leaves(inner, type_)


_PARTS: Final = ("CONSTRAINTS", "GENERATED", "METADATA", "OPTIONS", "PARTITIONS", "WATERMARKS")


def _merged(create: tree.CreateTable, like: TableDefinition) -> tree.CreateTable:
    """LIKE: by default all is included, and own options and watermark overwrite (Flink: INCLUDING ALL OVERWRITING
    OPTIONS)."""
    how = dict.fromkeys(_PARTS, "INCLUDING")
    for word, part in create.like_options:
        for each in _PARTS if part == "ALL" else (part,):
            how[each] = word
    takes = {part for part, word in how.items() if word != "EXCLUDING"}
    columns = [
        column
        for column in like.columns
        if isinstance(column, tree.PhysicalColumn)
        or (isinstance(column, tree.ComputedColumn) and "GENERATED" in takes)
        or (isinstance(column, tree.MetadataColumn) and "METADATA" in takes)
    ]
    own = {column.name for column in create.columns}
    return replace(
        create,
        like=None,
        like_options=(),
        columns=(*(column for column in columns if column.name not in own), *create.columns),
        options=tuple({**(like.options if "OPTIONS" in takes else {}), **dict(create.options)}.items()),
        watermark=create.watermark or (like.watermark if "WATERMARKS" in takes else None),
        primary_key=create.primary_key or (like.primary_key if "CONSTRAINTS" in takes else ()),
        partitioned_by=create.partitioned_by or (like.partitioned_by if "PARTITIONS" in takes else ()),
    )
