"""Java's `String.format` and `Double.toString`, of the values that Flink hands to them."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

_SPEC: Final = re.compile(r"%(?:(\d+)\$)?([-#+ 0,(<]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")
_BITS: Final = {"1": 8, "2": 16, "4": 32, "8": 64}
_ROUNDED: Final = "efg"


class _WrongFormatError(Exception):
    """What Java throws; Flink gives NULL for it."""


def double_text(value: float) -> str:
    """Plain from 0.001 to below ten million, else with an exponent."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = repr(value) if abs(value) >= 1e-4 or value == 0 else format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    whole = "".join(map(str, digits)).rstrip("0") or "0"
    power = int(exponent) + len(digits) - 1
    return f"{'-' if sign else ''}{whole[0]}.{whole[1:] or '0'}E{power}"


def printf(form: str, tags: str, values: list[str | None]) -> str | None:
    """`tags` has a letter for each value's type: 1, 2, 4, 8 whole numbers by their bytes, f and d, b, t timestamps, o
    all that only prints. NULL where Java refuses."""
    try:
        return _formatted(form, tags, values)
    except (_WrongFormatError, ValueError):
        return None


def _formatted(form: str, tags: str, values: list[str | None]) -> str:
    result, at, following, last = [], 0, 0, -1
    while at < len(form):
        percent = form.find("%", at)
        if percent < 0:
            result.append(form[at:])
            break
        result.append(form[at:percent])
        spec = _SPEC.match(form, percent)
        if spec is None:
            raise _WrongFormatError(form[percent:])
        at = spec.end()
        place, flags, width, precision, conversion = spec.groups()
        if conversion in "%n":
            result.append(_padded("%", flags, width) if conversion == "%" else "\n")
            continue
        if "<" in flags:
            index = last
        elif place:
            index = int(place) - 1
        else:
            index, following = following, following + 1
        if not 0 <= index < len(values):
            raise _WrongFormatError("a value is missing")
        last = index
        text = _one(values[index], tags[index], flags, width, precision, conversion)
        result.append(text.upper() if conversion.isupper() else text)
    return "".join(result)


def _padded(text: str, flags: str, width: str | None) -> str:
    if "-" in flags and width is None:
        raise _WrongFormatError("no width")
    return text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0))


def _one(value: str | None, tag: str, flags: str, width: str | None, precision: str | None, conversion: str) -> str:
    kind = conversion.lower()
    if kind == "s" or kind == "b" or (value is None and kind in "dxoefgc"):
        if kind == "b":
            text = "false" if value is None else value if tag == "b" else "true"
        else:
            text = "null" if value is None else _shown(value, tag)
        return _padded(text if precision is None else text[: int(precision)], flags, width)
    if value is None:
        return _padded("null", flags, width)
    if kind == "c" and tag in "124":
        return _padded(chr(int(value)), flags, width)
    if kind == "h" and tag in "124":
        return _padded(f"{int(value) & 0xFFFFFFFF:x}", flags, width)
    if kind in "xo" and tag in _BITS and precision is None:
        number = int(value) & ((1 << _BITS[tag]) - 1)
        text = f"{number:{'x' if kind == 'x' else 'o'}}"
        prefix = ("0x" if kind == "x" else "0") if "#" in flags else ""
        return _signed(prefix + text, False, flags.replace("+", "").replace(" ", ""), width)
    if kind == "d" and conversion == "d" and tag in _BITS and precision is None:
        number = int(value)
        digits = f"{abs(number):,}" if "," in flags else str(abs(number))
        return _signed(digits, number < 0, flags, width)
    if kind in _ROUNDED and conversion != "F" and tag in "fd":
        return _rounded(float(value), kind, flags, width, precision)
    raise _WrongFormatError(f"%{conversion}")


def _shown(value: str, tag: str) -> str:
    if tag in "fd":
        return double_text(float(value))
    if tag == "t":  # TimestampData prints as LocalDateTime: the fraction in groups of three
        whole, _, fraction = value.partition(".")
        groups = re.sub(r"(?:000){1,3}$", "", fraction)
        whole = whole.removesuffix(":00") if not groups else whole
        return f"{whole}.{groups}" if groups else whole
    return value


def _signed(digits: str, is_negative: bool, flags: str, width: str | None) -> str:
    before = (
        "("
        if is_negative and "(" in flags
        else "-"
        if is_negative
        else "+"
        if "+" in flags
        else " "
        if " " in flags
        else ""
    )
    after = ")" if before == "(" else ""
    if "0" in flags:
        if width is None:
            raise _WrongFormatError("no width")
        digits = digits.rjust(int(width) - len(before) - len(after), "0")
    return _padded(before + digits + after, flags, width)


def _rounded(value: float, kind: str, flags: str, width: str | None, precision: str | None) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        text = "NaN" if value != value else "Infinity"
        return _signed(text, value < 0, flags.replace("0", ""), width)
    places = 6 if precision is None else int(precision)
    exact = Decimal(repr(abs(value)))
    if kind == "g":
        significant = max(places, 1)
        if exact == 0 or Decimal("1e-4") <= exact < Decimal(10) ** significant:
            kind, places = "f", max(significant - (exact.adjusted() + 1 if exact else 1), 0)
        else:
            kind, places = "e", significant - 1
    if kind == "f":
        text = format(exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP), ",f" if "," in flags else "f")
        return _signed(text, value < 0, flags, width)
    if exact == 0:
        text = format(Decimal(0).quantize(Decimal(1).scaleb(-places)), "f") + "e+00"
        return _signed(text, value < 0, flags, width)
    power = exact.adjusted()
    mantissa = exact.scaleb(-power).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    if mantissa >= 10:
        power += 1
        mantissa = exact.scaleb(-power).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    text = f"{mantissa:f}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return _signed(text, value < 0, flags, width)
