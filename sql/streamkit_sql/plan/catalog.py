"""What names stand for in a session: tables, views, functions, settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streamkit_sql.errors import Place, UnknownName
from streamkit_sql.expressions.bound import FunctionRule, Settings, UserFunction
from streamkit_sql.language import tree
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.user_functions.bound import PythonCall


@dataclass(frozen=True, slots=True)
class View:
    """A query under a name; planned anew wherever it is used."""

    query: tree.Query
    columns: tuple[str, ...] = ()


@dataclass(slots=True)
class Catalog:
    """Of one session. Names are case-sensitive, those of functions are not."""

    tables: dict[str, TableDefinition] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    functions: dict[str, FunctionRule | UserFunction] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    called: dict[str, PythonCall] = field(default_factory=dict)
    """The functions of DuckDB's that queries planned so far may call, by name."""

    def find(self, name: tree.Name) -> TableDefinition | View:
        """UnknownName with near names. `default_catalog.default_database.t` is `t`."""
        key = name.parts[-1]
        if len(name.parts) == 1 or name.parts[:-1] in (("default_database",), ("default_catalog", "default_database")):
            found = self.tables.get(key) or self.views.get(key)
            if found is not None:
                return found
        raise UnknownName(
            f"there is no table {'.'.join(name.parts)!r}.", name.place, near(key, [*self.tables, *self.views])
        )

    def set_option(self, key: str, value: str) -> None:
        options = {**self.settings.options, key: value}
        zone = value if key == "table.local-time-zone" else self.settings.zone
        self.settings = replace(self.settings, options=options, zone=zone)


def near(name: str, known: Iterable[str]) -> str:
    """A hint: the names there are that look like this one, or all of a few."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 3, 0.6) or [each for each in names if each.lower() == name.lower()]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"There are: {', '.join(names)}." if 0 < len(names) <= 12 else ""


def require(place: Place, name: str, known: Mapping[str, object] | Iterable[str], what: str) -> None:
    """UnknownName where `name` is not among `known`."""
    names = list(known)
    if name not in names:
        raise UnknownName(f"there is no {what} {name!r}.", place, near(name, names))
