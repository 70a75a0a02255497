"""Hash functions: hexadecimal digests of texts in UTF-8, or of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from streamkit_sql.errors import TypeProblem
from streamkit_sql.expressions.bound import Bound, FunctionCall, FunctionRule
from streamkit_sql.expressions.functions.signatures import checked, constant_int, null_if_any, over, takes
from streamkit_sql.types import char, varchar

_LENGTHS: Final = {"MD5": 32, "SHA1": 40, "SHA224": 56, "SHA256": 64, "SHA384": 96, "SHA512": 128}
_DUCKDB: Final = ("MD5", "SHA1", "SHA256")


def _digest(value: Bound, name: str) -> str:
    if name in _DUCKDB:
        return f"{name.lower()}({value.sql})"
    data = f"encode({value.sql})" if value.type.is_text else value.sql
    return f"flink_digest({data}, '{name.lower()}')"


def _hash(call: FunctionCall) -> Bound:
    (value,) = call.arguments
    return over(_digest(value, call.name), null_if_any(char(_LENGTHS[call.name]), value), value)


def _sha2(call: FunctionCall) -> Bound:
    value, bits = call.arguments
    of = null_if_any(varchar(128), *call.arguments)
    known = constant_int(bits)
    if known is not None:
        if f"SHA{known}" not in _LENGTHS or known == 1:
            raise TypeProblem(f"SHA2 has 224, 256, 384 and 512 bits, not {known}", call.place)
        return over(_digest(value, f"SHA{known}"), of, *call.arguments)
    data = f"encode({value.sql})" if value.type.is_text else value.sql
    return over(f"flink_digest({data}, 'sha' || {bits.sql})", of, *call.arguments)


_HASH: Final = checked(_hash, takes("CHARACTER"), takes("BINARY"))

RULES: Final[Mapping[str, FunctionRule]] = MappingProxyType(
    dict.fromkeys(_LENGTHS, _HASH)
    | {"SHA2": checked(_sha2, takes("CHARACTER", "ANY INTEGER"), takes("BINARY", "ANY INTEGER"))}
)
