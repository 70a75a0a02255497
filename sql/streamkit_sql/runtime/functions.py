"""Python functions that expressions' texts call, registered in a database where a query needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from streamkit_sql.expressions import exact
from streamkit_sql.expressions.functions import python_functions

if TYPE_CHECKING:
    import duckdb

_NAME = re.compile(r"\bflink_[a-z0-9_]+")


def install(database: duckdb.DuckDBPyConnection, texts: Iterable[str]) -> None:
    """Registers what the texts name; nothing, and at no cost, for most queries. Once per database."""
    named = {name for text in texts for name in _NAME.findall(text)}
    known = named & python_functions.FUNCTIONS.keys()
    if known:
        python_functions.install(database, sorted(known))
    if named - known:
        exact.install(database)
