"""What names mean inside a SELECT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamkit_sql.errors import TypeProblem, UnknownName
from streamkit_sql.expressions.bound import Bound, Column, combine
from streamkit_sql.language import tree
from streamkit_sql.plan.catalog import near
from streamkit_sql.types import Kind, quoted, text_literal

Bind = Callable[[tree.Expression], Bound]


def reference(column: Column) -> Bound:
    """A column as an expression."""
    return Bound(quoted(column.name), column.type, frozenset([column.name]), column.time)


@dataclass(frozen=True, slots=True)
class Item:
    """One table in FROM: what can be named of it, in order. `leaves` are fields of rows that the relation below has as
    columns of their own, so that a scan need not decode whole rows."""

    alias: str | None
    columns: tuple[tuple[str, Bound], ...]
    leaves: dict[tuple[str, ...], Bound] = field(default_factory=dict)

    def find(self, path: Sequence[str]) -> Bound | None:
        """A column, or a field inside one."""
        for stop in range(len(path), 1, -1):
            leaf = self.leaves.get(tuple(path[:stop]))
            if leaf is not None:
                return field_of(leaf, path[stop:])
        for name, bound in self.columns:
            if name == path[0]:
                return field_of(bound, path[1:])
        return None

    def has(self, name: str) -> bool:
        return any(each == name for each, _ in self.columns)


def field_of(bound: Bound, path: Sequence[str], place: tree.Node | None = None) -> Bound:
    """A field inside a row; NULL where the row is."""
    for name in path:
        if bound.type.kind is not Kind.ROW:
            raise TypeProblem(f"{name!r} is asked of a {bound.type}, which has no fields.", *_at(place))
        found = next((each for each in bound.type.fields if each.name == name), None)
        if found is None:
            hint = near(name, [each.name for each in bound.type.fields])
            raise UnknownName(f"the row has no field {name!r}.", *_at(place), hint=hint)
        of = found.type.with_null(found.type.nullable or bound.type.nullable)
        bound = combine(f"struct_extract({bound.sql}, {text_literal(name)})", of, bound)
    return bound


def _at(node: tree.Node | None) -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class TableScope:
    """The tables of a FROM. `outer` is that of the query around, for subqueries that refer to it."""

    items: tuple[Item, ...]
    outer: TableScope | None = None

    def resolve(self, name: tree.Name) -> Bound:
        found = self._find(name)
        if found is not None:
            return found
        raise self._unknown(name)

    def replace(self, node: tree.Expression, bind: Bind) -> Bound | None:
        return None

    def _find(self, name: tree.Name) -> Bound | None:
        parts = name.parts
        if len(parts) > 1:
            for item in self.items:
                if item.alias == parts[0]:
                    found = item.find(parts[1:])
                    if found is not None:
                        return found
        owners = [item for item in self.items if item.has(parts[0])]
        if len(owners) > 1:
            tables = " and ".join(str(item.alias) for item in owners)
            raise UnknownName(f"{parts[0]!r} is a column of {tables}.", name.place, "Write which one is meant.")
        return owners[0].find(parts) if owners else None

    def _unknown(self, name: tree.Name) -> UnknownName:
        parts = name.parts
        known = [column for item in self.items for column, _ in item.columns]
        if len(parts) > 1:
            item = next((item for item in self.items if item.alias == parts[0]), None)
            if item is None:
                aliases = [item.alias for item in self.items if item.alias]
                hint = near(parts[0], [*aliases, *known])
                return UnknownName(f"there is no table or column {parts[0]!r} here.", name.place, hint)
            known = [column for column, _ in item.columns]
            hint = near(parts[1], known)
            return UnknownName(f"{parts[0]!r} has no column {parts[1]!r}.", name.place, hint)
        return UnknownName(f"there is no column {parts[0]!r} here.", name.place, near(parts[0], known))

    def star(self, qualifier: tuple[str, ...], node: tree.Node) -> list[tuple[str, Bound]]:
        """What `*` or `t.*` stands for."""
        if not qualifier:
            return [column for item in self.items for column in item.columns]
        for item in self.items:
            if item.alias == qualifier[-1]:
                return list(item.columns)
        bound = self._find(tree.Name(qualifier, place=node.place))
        if bound is not None and bound.type.kind is Kind.ROW:
            return [(each.name, field_of(bound, [each.name])) for each in bound.type.fields]
        raise UnknownName(f"there is no table {'.'.join(qualifier)!r} here.", node.place)
