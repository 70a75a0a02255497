"""What tells about types: TYPEOF. COALESCE, NULLIF, IF and their like are the binder's, being forms of CASE."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.functions.signatures import checked, takes
from streamkit_sql.types import STRING, text_literal


def _type_of(call: FunctionCall) -> Bound:
    """With TRUE behind it the form that can be read again, in which STRING is VARCHAR of its length."""
    of = str(call.arguments[0].type)
    if len(call.arguments) > 1:
        forced = call.arguments[1]
        if not forced.is_constant or forced.value is None:
            raise TypeProblem("TYPEOF's second argument is TRUE or FALSE", call.place)
        if forced.value:
            of = of.replace("STRING", "VARCHAR(2147483647)").replace("BYTES", "VARBINARY(2147483647)")
    return Bound(text_literal(of), STRING, is_constant=True, value=of)


RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    {"TYPEOF": checked(_type_of, takes("ANY", "BOOLEAN", optional=1))}
)
