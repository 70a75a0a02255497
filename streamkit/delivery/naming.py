"""What objects are called: prefixes with expressions, compiled once, and the names that come of them.

    key = evaluated prefix + <stream>-<version>-<yyyy-MM-dd-HH-mm-ss>-<uuid><extension>

Rules, with where each comes from ("Custom prefixes for Amazon S3 objects" and "Amazon S3 object name format" of the
Firehose developer guide are *guide*; what people saw AWS do is *seen*):

- A prefix without expressions gets `yyyy/MM/dd/HH/` appended, and no slash before it: `legacy` becomes
  `legacy2026/07/13/14/` (seen). A prefix with any expression gets nothing appended (seen; the guide says so only of
  timestamps).
- All times are the arrival of the object's oldest record, in CustomTimeZone, in prefix and suffix (guide).
- `!{timestamp:...}` takes Java's DateTimeFormatter patterns. The letters that AWS refuses are those Java 17 refuses
  (seen, all 52 of them), so this follows Java 17, in the locale en-US: weeks begin on Sunday.
- Errors go below `<ErrorOutputPrefix>` where that has expressions. Where it has none, or there is none at all, they go
  below `<prefix><error-output-type>/yyyy/MM/dd/HH/`, of ErrorOutputPrefix or else of Prefix (guide and seen; which of
  the two prefixes is meant is not known where ErrorOutputPrefix has no expressions).
- FileExtension replaces the format's extension (seen). Objects with error documents keep their own: not known.
- A naming that `is_key` (channels) has nothing appended: its key is evaluated prefix + `-<uuid><extension>`.
- An evaluated prefix has at most 512 characters (guide); this is checked as far as it is known beforehand. A key has at
  most 1,024 bytes, which is S3's rule: what AWS does with a longer one is not known. See `too_long`.
- Partition values are taken as they are, slashes too (not known, but `2024/05` is what one would want). What could not
  be a path of files, or would leave the prefix, is percent-encoded: control characters, slashes with nothing on one of
  their sides, and segments that are `.` or `..`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from itertools import count
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streamkit.delivery.plan import Naming
from streamkit.model.errors import InvalidArgument
from streamkit.model.limits import OBJECT_KEY_BYTES_MAX, OBJECT_PREFIX_CHARACTERS_MAX

QUERY: Final = "partitionKeyFromQuery"
LAMBDA: Final = "partitionKeyFromLambda"

_NAMESPACES: Final = frozenset({"firehose", "timestamp", QUERY, LAMBDA})
_EXPRESSION: Final = re.compile(r"!\{([^{}:]+):([^{}]+)\}")
_HOURLY: Final = "yyyy/MM/dd/HH/"
_SUFFIX: Final = "yyyy-MM-dd-HH-mm-ss"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALPHANUMERICS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARACTERS: Final = 11

_CONSTRAINT: Final = "The supplied prefix(es) do not satisfy the following constraint: "


class _Moment(NamedTuple):
    """What the expressions of one name are evaluated with."""

    at: datetime
    partition: Mapping[str, str]
    error_type: str | None
    random_text: Callable[[], str]


_Piece = Callable[[_Moment], str]
_Field = Callable[[datetime], str]


class Namer:
    """The names of a delivery stream's objects. Raises InvalidArgument for a naming that `check_prefixes` refuses by
    itself: bad expressions, an unknown time zone."""

    def __init__(self, naming: Naming, *, stream: str, version: int) -> None:
        self._zone = _zone(naming.time_zone)
        self._stem = f"{stream}-{version}-"
        self._extension = naming.extension if naming.is_key else naming.extension or None
        self._is_key = naming.is_key
        self._suffix = _formatter(_SUFFIX)
        prefix = _parsed(naming.prefix, "Prefix", naming.time_zone)
        self._is_partitioned = prefix.is_partitioned
        self._prefix = _pieces(prefix)
        if not prefix.expressions and not naming.is_key:
            self._prefix += _hourly()
        error_prefix = _parsed(naming.error_prefix, "ErrorOutputPrefix", naming.time_zone)
        self._error_prefix = _pieces(error_prefix)
        if not error_prefix.expressions:
            if not naming.error_prefix and not prefix.expressions and not naming.is_key:
                self._error_prefix = _pieces(prefix)
            self._error_prefix += [_error_folder, *_hourly()]

    def key(
        self,
        *,
        arrived_at_ms: int,
        id: str,
        extension: str,
        partition: Mapping[str, str],
        error_type: str | None,
        random_text: Callable[[], str],
    ) -> str:
        """The name of one object; the same arguments give the same name.

        `arrived_at_ms` of its oldest record, `id` a UUID, `extension` of its format. `partition` has the values of all
        keys the prefix names (`partitionKeyFromQuery:day`). `error_type` None: of records that were delivered;
        otherwise what `!{firehose:error-output-type}` gives. `random_text` is called for each random-string.
        """
        moment = _Moment(
            (_EPOCH + timedelta(milliseconds=arrived_at_ms)).astimezone(self._zone), partition, error_type, random_text
        )
        prefix = "".join(piece(moment) for piece in (self._prefix if error_type is None else self._error_prefix))
        suffix = f"{self._stem}{_text(self._suffix, moment.at)}-{id}"
        if error_type is None:
            if self._is_partitioned:
                prefix = _within_bounds(prefix)
            if self._is_key:
                suffix = f"-{id}"
            extension = extension if self._extension is None else self._extension
        return prefix + suffix + extension


def too_long(key: str) -> bool:
    """Whether S3 would refuse the key for its length. Only partition values can make it so: their records belong in the
    error output."""
    return len(key.encode()) > OBJECT_KEY_BYTES_MAX


def object_id(delivery_id: str, number: int) -> str:
    """The UUID of an object: always the same for an incarnation of a delivery stream (32 hex digits) and a number."""
    return str(uuid.uuid5(uuid.UUID(hex=delivery_id), str(number)))


def random_text(id: str) -> Callable[[], str]:
    """What `!{firehose:random-string}` gives: 11 letters and digits, others at each call, and again the same ones for
    the same id."""
    counter = count()

    def draw() -> str:
        number = int.from_bytes(hashlib.sha256(f"{id}/{next(counter)}".encode()).digest(), "big")
        characters = []
        for _ in range(_RANDOM_CHARACTERS):
            number, digit = divmod(number, len(_ALPHANUMERICS))
            characters.append(_ALPHANUMERICS[digit])
        return "".join(characters)

    return draw


# -- checks -----------------------------------------------------------------------------------------------------------


def check_prefixes(naming: Naming, *, is_partitioned: bool, keys: Collection[str]) -> None:
    """Raises InvalidArgument for prefixes that AWS refuses, with its texts.

    `keys` are the partition keys that processors give (`partitionKeyFromQuery:day`). Which ones a function gives is not
    known before: any key of `partitionKeyFromLambda` stands for all of them.

    Not refused here although AWS does: zones and their synonyms that are not on its list (`Asia/Kolkata`). Refused here
    although AWS takes them: long and generic names of zones (`zzzz`, `v`) other than UTC's, and padding (`p`).
    """
    _zone(naming.time_zone)
    prefix = _parsed(naming.prefix, "Prefix", naming.time_zone)
    error_prefix = _parsed(naming.error_prefix, "ErrorOutputPrefix", naming.time_zone)
    if ("firehose", "error-output-type") in prefix.expressions:
        raise _unsatisfied("Prefix must not contain any occurrence of !{firehose:error-output-type}")
    if prefix.expressions and not naming.error_prefix:
        raise _unsatisfied("ErrorOutputPrefix cannot be null or empty when Prefix contains expressions")
    if error_prefix.is_partitioned:
        raise InvalidArgument("Dynamic Partitioning Namespaces can't be part of an error prefix expression")
    if error_prefix.expressions and ("firehose", "error-output-type") not in error_prefix.expressions:
        raise _unsatisfied("ErrorOutputPrefix must contain at least one occurrence of !{firehose:error-output-type}")
    for parsed, name in ((prefix, "prefix"), (error_prefix, "ErrorOutputPrefix")):
        if _length_min(parsed) > OBJECT_PREFIX_CHARACTERS_MAX:
            limit = OBJECT_PREFIX_CHARACTERS_MAX
            raise _unsatisfied(f"Length of evaluated {name} cannot be greater than {limit}")
    _check_partitions(prefix, is_partitioned, keys)


def check_file_names(naming: Naming) -> None:
    """Where objects are files: raises InvalidArgument for a prefix under which no file can be, whatever the time and
    the partition. (S3 has no such names; a folder does.)"""
    for name, prefix in (("Prefix", naming.prefix), ("ErrorOutputPrefix", naming.error_prefix)):
        text = _EXPRESSION.sub("x", prefix)
        folders = text.split("/")[:-1]
        if "\0" in text or any(folder in ("", ".", "..") for folder in folders):
            raise InvalidArgument(
                f"{name} {prefix!r} cannot be a path inside a folder: a part is empty, '.' or '..', or a NUL. "
                "Leave that part out; a prefix does not begin with '/'."
            )


def _check_partitions(prefix: _Parsed, is_partitioned: bool, keys: Collection[str]) -> None:
    named = [f"{namespace}:{value}" for namespace, value in prefix.expressions if namespace in (QUERY, LAMBDA)]
    if not is_partitioned:
        if named:
            raise InvalidArgument(
                "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is "
                "enabled."
            )
        return
    if not named:
        raise InvalidArgument(
            "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled"
        )
    if not keys:
        raise InvalidArgument("Processing Configuration is not enabled when DataPartitioning is enabled")
    queried = [key for key in keys if key.startswith(f"{QUERY}:")]
    if not queried and any(name.startswith(f"{QUERY}:") for name in named):
        raise InvalidArgument(
            "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace."
        )
    if not any(key.startswith(f"{LAMBDA}:") for key in keys) and any(name.startswith(f"{LAMBDA}:") for name in named):
        raise InvalidArgument(
            "Lambda should be present when S3 Prefix contains keys from partitionKeyFromLambda namespace"
        )
    if not set(queried) <= set(named):
        raise InvalidArgument(
            "MetaDataExtraction JQ Query can't contain keys that are not present in the S3 Prefix expression"
        )
    for name in named:
        if name.startswith(f"{QUERY}:") and name not in queried:  # AWS refuses this too, with a text that is not known
            raise InvalidArgument(
                f"S3 Prefix expression contains the key {name.partition(':')[2]}, which is not present in the "
                f"MetaDataExtraction JQ Query"
            )


def _unsatisfied(constraint: str) -> InvalidArgument:
    return InvalidArgument(_CONSTRAINT + constraint)


def _zone(name: str) -> tzinfo:
    """AWS takes `UTC`, and names with a place in them; nothing stands for UTC."""
    if not name or name == "UTC":
        return UTC
    if "/" in name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is an OSError
            pass
    raise InvalidArgument(
        "Provided custom time zone is not supported. Custom time zones are limited to UTC and non-3-letter IANA time "
        "zones."
    )


# -- prefixes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parsed:
    """Text, and expressions as (namespace, value, what it is compiled to), in order."""

    parts: tuple[str | tuple[str, str, _Piece], ...]

    @property
    def expressions(self) -> list[tuple[str, str]]:
        return [(part[0], part[1]) for part in self.parts if not isinstance(part, str)]

    @property
    def is_partitioned(self) -> bool:
        return any(namespace in (QUERY, LAMBDA) for namespace, _ in self.expressions)


def _parsed(prefix: str, name: str, time_zone: str) -> _Parsed:
    parts: list[str | tuple[str, str, _Piece]] = []
    end = 0
    for match in _EXPRESSION.finditer(prefix):
        parts.append(prefix[end : match.start()])
        namespace, value = match.groups()
        if namespace not in _NAMESPACES:
            raise _unsatisfied(f"Namespace to the left of colon ({namespace}) is an invalid keyword!")
        parts.append((namespace, value, _compiled(namespace, value, name, time_zone)))
        end = match.end()
    parts.append(prefix[end:])
    if any("!{" in part for part in parts if isinstance(part, str)):
        raise _unsatisfied(f"Invalid expression usage: {prefix}.Must be of the form !{{<namespace>:<value>}}")
    return _Parsed(tuple(part for part in parts if part))


def _compiled(namespace: str, value: str, name: str, time_zone: str) -> _Piece:
    if namespace in (QUERY, LAMBDA):
        return partial(_partition_value, f"{namespace}:{value}")
    if namespace == "timestamp":
        try:
            return _timestamp(_formatter(value, time_zone))
        except _BadPattern as error:
            raise _unsatisfied(str(error) or _bad_value(name)) from None
    if value == "random-string":
        return lambda moment: moment.random_text()
    if value == "error-output-type":
        return lambda moment: moment.error_type or ""
    raise _unsatisfied(_bad_value(name))


def _bad_value(name: str) -> str:
    return f"Invalid conversion character used in the value of the expression in {name}"


def _pieces(parsed: _Parsed) -> list[_Piece]:
    return [_literal(part) if isinstance(part, str) else part[2] for part in parsed.parts]


def _literal(text: str) -> _Piece:
    return lambda moment: text


def _timestamp(fields: list[_Field]) -> _Piece:
    return lambda moment: _text(fields, moment.at)


def _hourly() -> list[_Piece]:
    return [_timestamp(_formatter(_HOURLY))]


def _error_folder(moment: _Moment) -> str:
    return f"{moment.error_type}/"


def _partition_value(key: str, moment: _Moment) -> str:
    return _NO_NAME.sub(_percent, moment.partition[key])


def _length_min(parsed: _Parsed) -> int:
    """How long it is at least: a partition value has a character, and other expressions do not vary by much."""
    moment = _Moment(_EPOCH, _Anything(), "", lambda: "0" * _RANDOM_CHARACTERS)
    return sum(len(piece(moment)) for piece in _pieces(parsed))


class _Anything(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "x"


_NO_NAME: Final = re.compile(r"[\x00-\x1f\x7f]|\A/|/\Z|(?<=/)/")
_DOTS: Final = re.compile(r"(?<![^/])\.{1,2}(?=/)")


def _within_bounds(prefix: str) -> str:
    """With no segment that means another folder; what stands behind the last slash becomes part of a longer name."""
    return _DOTS.sub(lambda match: "%2E" * len(match[0]), prefix)


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


# -- times, as Java's DateTimeFormatter writes them -------------------------------------------------------------------


class _BadPattern(Exception):
    """Not a pattern; or, with a text, one that is not supported here."""


_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_QUARTERS: Final = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")
_JULIAN_DAY_ZERO: Final = date(1858, 11, 17).toordinal()
_NUMBER_DIGITS_MAX: Final = 19  # Java's bound on the count of a letter that pads


def _formatter(pattern: str, time_zone: str = "UTC") -> list[_Field]:
    """Raises _BadPattern where Java refuses the pattern."""
    fields: list[_Field] = []
    depth = 0
    for kind, text in _tokens(pattern):
        if kind == "letters":
            fields.append(_field(text[0], len(text), time_zone))
        elif kind == "quoted":
            fields.append(_constant(text))
        elif text == "[":  # what is optional when reading is always written
            depth += 1
        elif text == "]":
            depth -= 1
            if depth < 0:
                raise _BadPattern
        elif text in "{}#":
            raise _BadPattern
        else:
            fields.append(_constant(text))
    return fields


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    """Runs of one letter, quoted text without its quotes, and single other characters."""
    for match in re.finditer(r"([A-Za-z])\1*|'((?:[^']|'')*)'|(.)", pattern, re.DOTALL):
        quoted, other = match[2], match[3]
        if quoted is not None:
            yield "quoted", quoted.replace("''", "'") or "'"
        elif other is None:
            yield "letters", match[0]
        elif other == "'":
            raise _BadPattern  # never closed
        else:
            yield "other", other


def _text(fields: list[_Field], at: datetime) -> str:
    return "".join(field(at) for field in fields)


def _constant(text: str) -> _Field:
    return lambda at: text


def _field(letter: str, width: int, time_zone: str) -> _Field:
    if letter in _NUMBERS:
        widest, number = _NUMBERS[letter]
        _require(width <= widest)
        return lambda at: str(number(at)).rjust(width, "0")
    if letter in _TEXTS:
        number, texts = _TEXTS[letter]
        _require(width <= 5 and not (letter == "c" and width == 2))
        if width < 3 and letter not in "EG":
            return lambda at: str(number(at)).rjust(width, "0")
        chosen = texts[max(width - 3, 0)]
        return lambda at: chosen[number(at) - 1]
    if letter in "uyY":
        _require(width <= _NUMBER_DIGITS_MAX)
        year = _week_year if letter == "Y" else (lambda at: at.year)
        return lambda at: f"{year(at) % 100:02}" if width == 2 else str(year(at)).rjust(width, "0")
    if letter == "S":
        _require(width <= 9)
        return lambda at: f"{at.microsecond:06}000"[:width]
    if letter == "a":
        _require(width == 1)
        return lambda at: "AM" if at.hour < 12 else "PM"
    if letter == "B":
        _require(width in (1, 4, 5))
        return lambda at: _day_period(at, is_narrow=width == 5)
    return _zone_field(letter, width, time_zone)


def _zone_field(letter: str, width: int, time_zone: str) -> _Field:
    if letter == "V":
        _require(width == 2)
        return _constant(time_zone or "UTC")
    if letter in "zv":
        _require(width <= 4 if letter == "z" else width in (1, 4))
        if time_zone in ("", "UTC"):
            return _constant("Coordinated Universal Time" if width == 4 else "UTC")
        if letter == "z" and width < 4:
            return lambda at: at.tzname() or ""  # the zone database's, which for some zones is an offset
        raise _BadPattern(f"names of time zones such as {letter * width} are not supported here; use z, VV or XXX")
    if letter in "Xx" or letter == "Z":
        _require(width <= 5)
    if letter == "O" or (letter == "Z" and width == 4):
        _require(width in (1, 4))
        return lambda at: _gmt_offset(at, is_short=width == 1)
    if letter == "Z":
        return partial(_offset, colon=":" if width == 5 else "", zero="Z" if width == 5 else None)
    if letter in "Xx":
        colon = ":" if width in (3, 5) else ""
        return partial(_offset, colon=colon, zero="Z" if letter == "X" else None, may_be_hours=width == 1)
    raise _BadPattern


def _require(fits: bool) -> None:
    if not fits:
        raise _BadPattern


def _offset(at: datetime, *, colon: str, zero: str | None, may_be_hours: bool = False) -> str:
    minutes = _offset_minutes(at)
    if minutes == 0 and zero is not None:
        return zero
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{hours:02}" if may_be_hours and not rest else f"{sign}{hours:02}{colon}{rest:02}"


def _gmt_offset(at: datetime, *, is_short: bool) -> str:
    minutes = _offset_minutes(at)
    hours, rest = divmod(abs(minutes), 60)
    if minutes == 0:
        return "GMT"
    sign = "-" if minutes < 0 else "+"
    if is_short:
        return f"GMT{sign}{hours}:{rest:02}" if rest else f"GMT{sign}{hours}"
    return f"GMT{sign}{hours:02}:{rest:02}"


def _offset_minutes(at: datetime) -> int:
    return (at.utcoffset() or timedelta()) // timedelta(minutes=1)  # no zone has had seconds since 1972


def _day_period(at: datetime, *, is_narrow: bool) -> str:
    if at.minute == 0 and at.hour in (0, 12):
        return ("mi" if is_narrow else "midnight") if at.hour == 0 else ("n" if is_narrow else "noon")
    if 6 <= at.hour < 21:
        return "in the morning" if at.hour < 12 else "in the afternoon" if at.hour < 18 else "in the evening"
    return "at night"


def _sunday_one(at: date) -> int:
    return at.isoweekday() % 7 + 1


def _day_of_year(at: date) -> int:
    return at.toordinal() - date(at.year, 1, 1).toordinal() + 1


def _week_year(at: datetime) -> int:
    """The year whose first of January lies in the same week, or the year itself."""
    saturday = at.date() + timedelta(days=7 - _sunday_one(at))
    return saturday.year


def _week_of_year(at: datetime) -> int:
    if _week_year(at) > at.year:
        return 1
    return (_day_of_year(at) + _sunday_one(date(at.year, 1, 1)) - 2) // 7 + 1


def _week_of_month(at: datetime) -> int:
    return (at.day + _sunday_one(date(at.year, at.month, 1)) - 2) // 7 + 1


def _milli_of_day(at: datetime) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000 + at.microsecond // 1_000


# By letter: the most letters there may be, and the number.
_NUMBERS: Final[Mapping[str, tuple[int, Callable[[datetime], int]]]] = {
    "d": (2, lambda at: at.day),
    "D": (3, _day_of_year),
    "F": (1, lambda at: (at.day - 1) % 7 + 1),  # as Java 17 does it; since Java 19 the week of the month
    "h": (2, lambda at: at.hour % 12 or 12),
    "H": (2, lambda at: at.hour),
    "k": (2, lambda at: at.hour or 24),
    "K": (2, lambda at: at.hour % 12),
    "m": (2, lambda at: at.minute),
    "s": (2, lambda at: at.second),
    "n": (_NUMBER_DIGITS_MAX, lambda at: at.microsecond * 1_000),
    "A": (_NUMBER_DIGITS_MAX, _milli_of_day),
    "N": (_NUMBER_DIGITS_MAX, lambda at: _milli_of_day(at) * 1_000_000),
    "g": (_NUMBER_DIGITS_MAX, lambda at: at.toordinal() - _JULIAN_DAY_ZERO),
    "w": (2, _week_of_year),
    "W": (1, _week_of_month),
}


def _texts(names: tuple[str, ...], short: int = 3) -> tuple[tuple[str, ...], ...]:
    return tuple(name[:short] for name in names), names, tuple(name[0] for name in names)


# By letter: the number, and its short, full and narrow texts; one letter or two give the number itself.
_TEXTS: Final[Mapping[str, tuple[Callable[[datetime], int], tuple[tuple[str, ...], ...]]]] = {
    **dict.fromkeys("ML", (lambda at: at.month, _texts(_MONTHS))),
    **dict.fromkeys("Eec", (_sunday_one, _texts(_DAYS))),
    **dict.fromkeys("Qq", ((lambda at: (at.month + 2) // 3), (("Q1", "Q2", "Q3", "Q4"), _QUARTERS, tuple("1234")))),
    "G": (lambda at: 1, (("AD",), ("Anno Domini",), ("A",))),
}
