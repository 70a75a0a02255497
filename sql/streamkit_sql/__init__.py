"""SQL over live streams: Flink's language, planned here, run on DuckDB.

Read in the order of a script's way: `language` (text to tree), `types` and `expressions` (tree to exact DuckDB
expressions), `tables` (what is read and written), `plan` (queries to operators), `runtime` (ticks of records through
operators, state, checkpoints). `user_functions` are functions in Python, which this module has the declarations for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkit_sql.user_functions.declared import (
        AggregateFunction,
        FunctionContext,
        Row,
        ScalarFunction,
        udaf,
        udf,
    )

__all__ = ["AggregateFunction", "FunctionContext", "Row", "ScalarFunction", "udaf", "udf"]


def __getattr__(name: str) -> Any:
    """Imported when they are asked for: most who import a part of this package declare no function."""
    if name in __all__:
        from streamkit_sql.user_functions import declared

        return getattr(declared, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
