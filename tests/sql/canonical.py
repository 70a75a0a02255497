"""One text for a row of results, and one hash for a set of rows, whatever engine they come from.

Values are Python's as pyarrow's `to_pylist` gives them. A text is made so that two values have the same one only where
a user of SQL would call them equal and of one type:

- NULL `NULL`; BOOLEAN `true`; integers `7`; DECIMAL plain with its scale `7.50`; strings in JSON's quotes
- DOUBLE to 12 significant digits and FLOAT to 6, always with a point or an exponent (`7.0`): the order in which an
  engine adds is its own, and so are the last digits. Negative zero is zero
- bytes `x'00ff'`; DATE `2026-01-31`; TIME `08:00:00.5`; TIMESTAMP `2026-01-31T08:00:00.123`, one with a zone in UTC
  and with `Z`; both to the microsecond, without zeros at the end of the fraction; an interval in seconds `PT90.5S`
- ROW (a dict) by position `(1, 2)`, as the names of nested fields are an engine's own where a query gives none
- ARRAY (a list) `[1, 2]`; MAP and MULTISET (a list of pairs) `[k=v, k=v]` in the order of their texts
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

HASH_BYTES = 16
_HASH_RANGE = 1 << (8 * HASH_BYTES)
DOUBLE_DIGITS = 12
FLOAT_DIGITS = 6


def _float_text(value: float, digits: int) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value + 0.0:.{digits}g}"
    return text if "." in text or "e" in text else text + ".0"


def _time_text(value: datetime.time) -> str:
    text = value.isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".")


def _datetime_text(value: datetime.datetime) -> str:
    if value.tzinfo is None:
        return f"{value.date().isoformat()}T{_time_text(value.time())}"
    value = value.astimezone(datetime.UTC)
    return f"{value.date().isoformat()}T{_time_text(value.time())}Z"


def value_text(value: object, float_digits: int = DOUBLE_DIGITS) -> str:
    """The text of one value; `float_digits` is how many digits of a float count (also of one inside rows and lists)."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float_text(value, float_digits)
        case Decimal():
            return format(value, "f")
        case str():
            return json.dumps(value, ensure_ascii=False)
        case bytes() | bytearray() | memoryview():
            return f"x'{bytes(value).hex()}'"
        case datetime.datetime():
            return _datetime_text(value)
        case datetime.date():
            return value.isoformat()
        case datetime.time():
            return _time_text(value)
        case datetime.timedelta():
            seconds = value // datetime.timedelta(microseconds=1) / 1_000_000
            return f"PT{seconds:.6f}".rstrip("0").rstrip(".") + "S"
        case dict():
            return "(" + ", ".join(value_text(inner, float_digits) for inner in value.values()) + ")"
        case list() if value and all(isinstance(pair, tuple) for pair in value):
            pairs = sorted(f"{value_text(key)}={value_text(inner, float_digits)}" for key, inner in value)
            return "[" + ", ".join(pairs) + "]"
        case list():
            return "[" + ", ".join(value_text(inner, float_digits) for inner in value) + "]"
    raise TypeError(f"no canonical text for a {type(value).__name__}: {value!r}")


def text_of_type(flink_type: str) -> Callable[[object], str]:
    """What makes the text of a column of this Flink type, as `fingerprints.json` names it."""
    digits = FLOAT_DIGITS if flink_type.removesuffix(" NOT NULL") == "FLOAT" else DOUBLE_DIGITS
    return lambda value: value_text(value, digits)


def row_texts(rows: Iterable[Sequence[object]], types: Sequence[str]) -> list[str]:
    """The canonical text of each row, its columns in order, `1 | "a" | NULL`. `types` are Flink's, one a column."""
    makers = [text_of_type(flink_type) for flink_type in types]
    return [" | ".join([make(value) for make, value in zip(makers, row, strict=True)]) for row in rows]


def hash_of(texts: Iterable[str]) -> str:
    """A hash of these texts that does not depend on their order, but does on how often each occurs."""
    total = 0
    for text in texts:
        total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest(), "big")
    return f"{total % _HASH_RANGE:0{2 * HASH_BYTES}x}"


def fingerprint(rows: Iterable[Sequence[object]], types: Sequence[str]) -> tuple[int, str]:
    """How many rows there are, and the hash of them all, in whatever order they come."""
    texts = row_texts(rows, types)
    return len(texts), hash_of(texts)


def column_hashes(rows: Sequence[Sequence[object]], types: Sequence[str]) -> list[str]:
    """The hash of each column by itself: where two sets of rows differ, which columns are to blame."""
    return [hash_of(text_of_type(flink_type)(row[place]) for row in rows) for place, flink_type in enumerate(types)]
