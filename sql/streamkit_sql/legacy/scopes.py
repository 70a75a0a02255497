"""What names mean in a query of SQL-1_0, and what they are called in its translation.

A relation has columns, and beside them ROWTIME, which `*` leaves out ("Timestamps and the ROWTIME Column"). Streams of
an input have APPROXIMATE_ARRIVAL_TIME in the same way.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streamkit_sql.errors import UnknownName
from streamkit_sql.language import tree
from streamkit_sql.types import SqlType

ROWTIME: Final = "ROWTIME"
ARRIVAL: Final = "APPROXIMATE_ARRIVAL_TIME"
WINDOW: Final = ("window_start", "window_end", "window_time")
"""What a window function adds; to the engine they are the same in capitals."""


@dataclass(frozen=True, slots=True)
class Column:
    """`sql` is its name in the translation. `time`: it is a time attribute there. `type` is None where only Flink's
    planner knows it."""

    name: str
    sql: str
    type: SqlType | None = None
    time: Literal["processing", "event"] | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    columns: tuple[Column, ...]
    is_reference: bool = False

    @property
    def visible(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.hidden)

    def find(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Source:
    """One table of a FROM. `alias` is what the script calls it; `column_of` gives the column's name there."""

    alias: str | None
    relation: Relation
    qualifier: str | None  # in the translation

    def name(self, column: Column) -> tree.Name:
        return tree.Name((column.sql,) if self.qualifier is None else (self.qualifier, column.sql))


@dataclass(frozen=True, slots=True)
class Found:
    """A column and the name it has; `rest` are fields inside it."""

    source: Source
    column: Column
    rest: tuple[str, ...]

    @property
    def name(self) -> tree.Name:
        return tree.Name((*self.source.name(self.column).parts, *self.rest))


@dataclass(frozen=True, slots=True)
class Scope:
    sources: tuple[Source, ...]

    def resolve(self, name: tree.Name) -> Found:
        """Raises UnknownName where nothing or more than one column has the name."""
        parts = name.parts
        if len(parts) > 1:
            for source in self.sources:
                if source.alias == parts[0]:
                    column = source.relation.find(parts[1])
                    if column is None:
                        known = [each.name for each in source.relation.columns]
                        raise UnknownName(f"{parts[0]!r} has no column {parts[1]!r}", name.place, near(parts[1], known))
                    return Found(source, column, parts[2:])
        found = [(source, column) for source in self.sources if (column := source.relation.find(parts[0])) is not None]
        if len(found) > 1:
            tables = " and ".join(str(source.alias) for source, _ in found)
            raise UnknownName(f"{parts[0]!r} is a column of {tables}", name.place, "Write which one is meant.")
        if not found:
            known = [column.name for source in self.sources for column in source.relation.columns]
            raise UnknownName(f"there is no column {'.'.join(parts)!r} here", name.place, near(parts[-1], known))
        return Found(*found[0], parts[1:])

    def knows(self, name: str) -> bool:
        return any(source.relation.find(name) is not None for source in self.sources)

    def star(self, qualifier: tuple[str, ...], at: tree.Node) -> list[tuple[Source, Column]]:
        """What `*` or `t.*` stands for."""
        chosen = [source for source in self.sources if not qualifier or source.alias == qualifier[-1]]
        if not chosen:
            raise UnknownName(f"there is no table {'.'.join(qualifier)!r} here", at.place)
        return [(source, column) for source in chosen for column in source.relation.visible]


def near(name: str, known: Iterable[str]) -> str:
    """A hint: names like this one; case matters, and is the usual mistake."""
    names = list(dict.fromkeys(known))
    same = [each for each in names if each.upper() == name.upper()]
    if same:
        return f'Names without quotes are in capitals; write "{same[0]}".'
    close = difflib.get_close_matches(name, names, 3, 0.6)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def inner_name(name: str, taken: Sequence[str] = ()) -> str:
    """The name of a column inside a translation: none that a window function adds, none that is taken."""
    unique, number = name, 0
    while unique.lower() in WINDOW or unique.lower() in {each.lower() for each in taken}:
        unique, number = f"{name}_{number}", number + 1
    return unique
