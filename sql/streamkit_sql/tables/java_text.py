"""Values as Java reads them from texts: what Flink's formats accept, to the last odd form.

Each function takes a text and raises ValueError with the reason. Rules: `Integer.parseInt`, `Double.parseDouble`,
`new BigDecimal(String)`, and `java.time`'s formatters as Flink's `TimeFormats` builds them; what they accept was asked
of Flink 2.3's own classes (tests/unit/test_sql_formats.py has the answers).
"""

from __future__ import annotations

import base64
import re
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Final

_BITS: Final = {8: "TINYINT", 16: "SMALLINT", 32: "INT", 64: "BIGINT"}
WIDE = Context(prec=200, rounding=ROUND_HALF_UP)
_TRIMMED: Final = "".join(map(chr, range(33)))  # String.trim()
_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DOUBLE = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[fFdD]?|([+-]?(?:NaN|Infinity))")
_HEX_DOUBLE = re.compile(r"([+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?")
_DATE = r"([+-]?[0-9]{4,10})-([0-9]{2})-([0-9]{2})"
_CLOCK = r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{0,9}))?"
_ISO_CLOCK = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{0,9}))?)?"
_ONLY_DATE = re.compile(_DATE)
_LOOSE_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_ISO_TIME = re.compile(_ISO_CLOCK)
_ONLY_CLOCK = re.compile(_CLOCK)
_TIMESTAMPS: Final = {
    ("SQL", False): (re.compile(f"{_DATE} {_CLOCK}"), False),
    ("SQL", True): (re.compile(f"{_DATE} {_CLOCK}Z"), False),
    ("ISO-8601", False): (re.compile(f"{_DATE}[Tt]{_ISO_CLOCK}"), True),
    ("ISO-8601", True): (re.compile(f"{_DATE}T{_ISO_CLOCK}Z"), False),
}
_BASE64 = re.compile(
    r"(?:[\x00-\x20]*[A-Za-z0-9+/]{4})*(?:[\x00-\x20]*[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=))?[\x00-\x20]*"
)


def trim(text: str) -> str:
    return text.strip(_TRIMMED)


def integer(text: str, bits: int) -> int:
    text = trim(text)
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is no {_BITS[bits]}")
    return in_range(int(text), bits)


def in_range(value: int, bits: int) -> int:
    top = 1 << (bits - 1)
    if not -top <= value < top:
        raise ValueError(f"{value} is out of the range of {_BITS[bits]}")
    return value


def double(text: str) -> float:
    text = trim(text)
    if match := _DOUBLE.fullmatch(text):
        return float(match[1] or match[2])
    if match := _HEX_DOUBLE.fullmatch(text):
        return float.fromhex(match[1])
    raise ValueError(f"{text!r} is no number")


def boolean(text: str) -> bool:
    """Never fails: what is not `true` is false."""
    return trim(text).lower() == "true"


def exact_decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is no DECIMAL")
    return Decimal(text)


def fit_decimal(value: Decimal, precision: int, scale: int) -> Decimal | None:
    """Rounded half up to the scale; None where it has more digits than the type, as Flink makes it NULL."""
    try:
        rounded = value.quantize(Decimal(1).scaleb(-scale), context=WIDE)
    except InvalidOperation:
        return None
    return rounded if len(rounded.as_tuple().digits) <= precision or not rounded else None


def bytes_of(text: str) -> bytes:
    """Base64 with its padding; blanks are allowed between groups of four, as Jackson reads it."""
    if not _BASE64.fullmatch(text):
        raise ValueError("the text is not Base64")
    return base64.b64decode(re.sub(r"[\x00-\x20]", "", text))


# -- times -----------------------------------------------------------------------------------------------------------


def days_of(year: int, month: int, day: int) -> int:
    """Since 1970-01-01 in the proleptic Gregorian calendar, for any year."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _days(year_text: str, month_text: str, day_text: str, *, strict: bool) -> int:
    digits = len(year_text.lstrip("+-"))
    if (year_text[0] == "+") != (digits > 4) and year_text[0] != "-":
        raise ValueError(f"{year_text!r} is no year")
    year, month, day = int(year_text), int(month_text), int(day_text)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"{year_text}-{month_text}-{day_text} is no date")
    last = _month_days(year, month)
    if day > last and strict:
        raise ValueError(f"{year_text}-{month_text}-{day_text} is no date")
    return days_of(year, month, min(day, last))


def _nanos(hour: str, minute: str, second: str | None, fraction: str | None, *, strict: bool) -> int:
    h, m, s = int(hour), int(minute), int(second or 0)
    nanos = int((fraction or "").ljust(9, "0"))
    is_midnight = h == 24 and not (m or s or nanos) and not strict
    if m > 59 or s > 59 or (h > 23 and not is_midnight):
        raise ValueError("the time of day is out of range")
    return ((h * 60 + m) * 60 + s) * 1_000_000_000 + nanos


def date_days(text: str) -> int:
    match = _ONLY_DATE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no date like 2026-01-31")
    return _days(match[1], match[2], match[3], strict=True)


def sql_date_days(text: str) -> int:
    """`java.sql.Date.valueOf`, as the CSV format reads dates: 2026-1-5, and February 30 is in March."""
    match = _LOOSE_DATE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no date like 2026-01-31")
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"{text!r} is no date")
    return days_of(year, month, 1) + day - 1


def local_time_ms(text: str) -> int:
    """`LocalTime.parse`, as the CSV format reads times: seconds may be left out."""
    match = _ISO_TIME.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no time like 08:09:10")
    return _nanos(match[1], match[2], match[3], match[4], strict=True) // 1_000_000


def time_ms(text: str) -> int:
    match = _ONLY_CLOCK.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no time like 08:09:10")
    return _nanos(match[1], match[2], match[3], match[4], strict=False) // 1_000_000 % 86_400_000


def timestamp_ns(text: str, standard: str, *, has_zone: bool) -> int:
    """Since 1970. `standard` is `json.timestamp-format.standard`; with `has_zone` the text ends in Z."""
    pattern, strict = _TIMESTAMPS[standard, has_zone]
    match = pattern.fullmatch(text)
    if not match:
        example = f"2026-01-31{' ' if standard == 'SQL' else 'T'}08:09:10{'Z' if has_zone else ''}"
        raise ValueError(f"{text!r} is no timestamp like {example}")
    days = _days(match[1], match[2], match[3], strict=strict)
    return days * 86_400_000_000_000 + _nanos(match[4], match[5], match[6], match[7], strict=strict)


def timestamp_stored(nanos: int, precision: int) -> int:
    """As a column of this precision keeps it: us, or ns beyond six digits, cut to its digits."""
    step = int(10 ** (9 - precision))
    cut = nanos // step * step
    value = cut if precision > 6 else cut // 1000
    if not -(1 << 63) < value < 1 << 63:
        raise ValueError("the timestamp is out of range")
    return value


def date_text(days: int) -> str:
    """`ISO_LOCAL_DATE`: years beyond 9999 have a sign, too."""
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    year = year_of_era + era * 400 + (month <= 2)
    sign = "+" if year > 9999 else "-" if year < 0 else ""
    return f"{sign}{abs(year):04}-{month:02}-{of_year - (153 * shifted + 2) // 5 + 1:02}"


def timestamp_text(nanos: int, separator: str) -> str:
    days, rest = divmod(nanos, 86_400_000_000_000)
    seconds, fraction = divmod(rest, 1_000_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{date_text(days)}{separator}{clock}{digits}"


# -- numbers as Java writes them -------------------------------------------------------------------------------------


def double_text(value: float) -> str:
    """As `Double.toString` of Java 19 and later, with the fewest digits: `1.0`, `1.0E7`, `1.5E-4`, `NaN`."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0") or "0"
    magnitude = len(digits) + exponent - 1 if value else 0  # of the first digit
    head = "-" if sign else ""
    if 0.001 <= abs(value) < 10_000_000 or not value:
        if magnitude < 0:
            return f"{head}0.{'0' * (-magnitude - 1)}{text}"
        whole = text[: magnitude + 1].ljust(magnitude + 1, "0")
        return f"{head}{whole}.{text[magnitude + 1 :] or '0'}"
    return f"{head}{text[0]}.{text[1:] or '0'}E{magnitude}"
