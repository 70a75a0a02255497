"""What an INTERVAL literal says, in milliseconds or months."""

from __future__ import annotations

import re
from typing import Final

from streamkit_sql.errors import Place, SyntaxProblem
from streamkit_sql.language import tree
from streamkit_sql.limits import INTERVAL_DIGITS_MAX, INTERVAL_MS_DIGITS_MAX

SECOND_MS: Final = 1_000
_MS: Final = {
    "WEEK": 7 * 86_400_000,
    "DAY": 86_400_000,
    "HOUR": 3_600_000,
    "MINUTE": 60_000,
    "SECOND": SECOND_MS,
}
_MONTHS: Final = {"YEAR": 12, "QUARTER": 3, "MONTH": 1}
_BELOW: Final = {"MONTH": 12, "HOUR": 24, "MINUTE": 60, "SECOND": 60}
"""What a field that is not the first has to be less than."""
_FIELDS: Final = ("DAY", "HOUR", "MINUTE", "SECOND")
_BEFORE: Final = {"MONTH": "-", "HOUR": " +", "MINUTE": ":", "SECOND": ":"}


def fields_of(unit: str) -> tuple[str, ...]:
    """`DAY TO MINUTE`: DAY, HOUR, MINUTE."""
    first, _, last = unit.partition(" TO ")
    if not last:
        return (first,)
    if first == "YEAR":
        return ("YEAR", "MONTH")
    return _FIELDS[_FIELDS.index(first) : _FIELDS.index(last) + 1]


def interval(
    text: str, unit: str, place: Place, *, negative: bool = False, digits: int = INTERVAL_DIGITS_MAX
) -> tree.IntervalLiteral:
    """Raises SyntaxProblem where the text is none of the unit, or its first field has more digits than it may have.
    Digits below a millisecond are dropped."""
    fields = fields_of(unit)
    pattern = rf"([+-]?)(\d{{1,{INTERVAL_DIGITS_MAX}}})"
    for field in fields[1:]:
        pattern += rf"{_BEFORE[field]}(\d{{1,2}})"
    if fields[-1] == "SECOND":
        pattern += r"(?:\.(\d{1,9}))?"
    # What Python takes for digits is more than 0 to 9.
    found = re.fullmatch(pattern, text.strip(), re.ASCII)
    if found is None:
        raise SyntaxProblem(f"'{text[:40]}' is no interval of {unit}", place, f"Such as {_example(fields)}.")
    groups = found.groups()
    numbers = [int(group) for group in groups[1 : len(fields) + 1]]
    if numbers[0] >= 10**digits:
        first = fields[0]
        most = INTERVAL_DIGITS_MAX if first in _MONTHS else INTERVAL_MS_DIGITS_MAX
        needed = len(str(numbers[0]))
        hint = f"Write {first}({needed})." if needed <= most else "Write it in a larger unit."
        raise SyntaxProblem(f"{numbers[0]} has more digits than {first}({digits}) takes", place, hint)
    for field, number in zip(fields[1:], numbers[1:], strict=True):
        if number >= _BELOW[field]:
            raise SyntaxProblem(f"{number} is too much for the {field} of an interval", place)
    is_negative = negative != (groups[0] == "-")
    shown = ("-" if is_negative else "") + text.strip().lstrip("+-")
    sign = -1 if is_negative else 1
    if fields[0] in _MONTHS:
        months = sum(number * _MONTHS[field] for field, number in zip(fields, numbers, strict=True))
        return tree.IntervalLiteral(shown, unit, None, sign * months, place=place)
    milliseconds = sum(number * _MS[field] for field, number in zip(fields, numbers, strict=True))
    if fields[-1] == "SECOND" and groups[-1]:
        milliseconds += int(groups[-1][:3].ljust(3, "0"))
    return tree.IntervalLiteral(shown, unit, sign * milliseconds, None, place=place)


def _example(fields: tuple[str, ...]) -> str:
    text = "5"
    for field in fields[1:]:
        text += _BEFORE[field].removesuffix("+") + ("06" if field != "MONTH" else "6")
    unit = fields[0] if len(fields) == 1 else f"{fields[0]} TO {fields[-1]}"
    return f"INTERVAL '{text}' {unit}"
