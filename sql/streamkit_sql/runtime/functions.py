"""Python functions that expressions' texts call, registered in a database where a query needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from streamkit_sql.expressions import exact
from streamkit_sql.expressions.functions import python_functions

if TYPE_CHECKING:
    import duckdb

    from streamkit_sql.user_functions.bound import PythonCall

_NAME = re.compile(r"\bflink_[a-z0-9_]+")


def install(
    database: duckdb.DuckDBPyConnection, texts: Iterable[str], called: Mapping[str, PythonCall] = MappingProxyType({})
) -> None:
    """Registers what the texts name, functions of users (`called`) among it; nothing, and at no cost, for most queries.
    Once per database."""
    texts = list(texts)
    if called:
        from streamkit_sql.runtime import python_calls

        python_calls.install(database, texts, called)
    named = {name for text in texts for name in _NAME.findall(text)}
    known = named & python_functions.FUNCTIONS.keys()
    if known:
        python_functions.install(database, sorted(known))
    if named - known:
        exact.install(database)
