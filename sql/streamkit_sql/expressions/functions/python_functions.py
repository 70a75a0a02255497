"""What DuckDB has no cheap text for, in Python over Arrow: functions called `flink_..` that the rules' texts call.

    used_in(sql)              which of them a text calls
    install(database, names)  registers them on a connection; calling it again is harmless

They see NULLs themselves. An exception fails the query, as the same value fails Flink's.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import datetime
import hashlib
import json
import re
import urllib.parse
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamkit_sql.expressions.functions import java_dates, java_format, java_regex, json_paths

if TYPE_CHECKING:
    import duckdb

_NAME: Final = re.compile(r"\bflink_[a-z0-9_]+")


class PythonFunction(NamedTuple):
    """`of_row` gets a row's arguments; where `takes_null` is not set it is not asked for rows with a NULL, which give
    NULL."""

    of_row: Callable[..., Any]
    parameters: tuple[str, ...]  # DuckDB's types
    result: str
    takes_null: bool = False


def used_in(sql: str) -> frozenset[str]:
    return frozenset(_NAME.findall(sql)) & FUNCTIONS.keys()


def install(database: duckdb.DuckDBPyConnection, names: Iterable[str] | None = None) -> None:
    """All, where no names are given."""
    import duckdb
    from duckdb.func import FunctionNullHandling, PythonUDFType

    for name in FUNCTIONS if names is None else names:
        function = FUNCTIONS[name]
        try:
            database.create_function(
                name,
                _vectorised(function),
                list(function.parameters),
                function.result,
                type=PythonUDFType.ARROW,
                null_handling=FunctionNullHandling.SPECIAL,
            )
        except (duckdb.CatalogException, duckdb.NotImplementedException) as problem:
            if "already" not in str(problem):
                raise


def _vectorised(function: PythonFunction) -> Callable[..., Any]:
    import pyarrow as pa

    of_row, takes_null = function.of_row, function.takes_null
    arrow = _ARROW[function.result]()

    def over_rows(*columns: Any) -> Any:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        if takes_null:
            values = [of_row(*row) for row in rows]
        else:
            values = [None if None in row else of_row(*row) for row in rows]
        return pa.array(values, arrow)

    # DuckDB reads the number of parameters off the signature.
    names = ", ".join(f"a{index}" for index in range(len(function.parameters)))
    return eval(f"lambda {names}: over_rows({names})", {"over_rows": over_rows})  # type: ignore[no-any-return]


def _arrow_types() -> dict[str, Callable[[], Any]]:
    def of(make: str) -> Callable[[], Any]:
        def typed() -> Any:
            import pyarrow as pa

            return getattr(pa, make)()

        return typed

    def texts() -> Any:
        import pyarrow as pa

        return pa.list_(pa.string())

    def pairs() -> Any:
        import pyarrow as pa

        return pa.map_(pa.string(), pa.string())

    def micros() -> Any:
        import pyarrow as pa

        return pa.timestamp("us")

    return {
        "VARCHAR": of("string"),
        "BLOB": of("binary"),
        "BOOLEAN": of("bool_"),
        "INTEGER": of("int32"),
        "BIGINT": of("int64"),
        "DOUBLE": of("float64"),
        "DATE": of("date32"),
        "TIMESTAMP": micros,
        "VARCHAR[]": texts,
        "MAP(VARCHAR, VARCHAR)": pairs,
    }


_ARROW: Final = _arrow_types()


# -- texts -----------------------------------------------------------------------------------------------------------


def _from_base64(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", text):
        raise ValueError(f"Illegal base64 character in {text[:100]!r}")
    bare = text.rstrip("=")
    if len(bare) % 4 == 1 or (text != bare and len(text) % 4):
        raise ValueError("Input byte[] should at least have 2 bytes for base64 bytes")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4)).decode("utf-8", "replace")
    except binascii.Error as problem:
        raise ValueError(str(problem)) from None


def _charset(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"unknown charset {name}") from None


def _encode(text: str, charset: str) -> bytes:
    name = _charset(charset)
    if name == "utf-16":
        return codecs.BOM_UTF16_BE + text.encode("utf-16-be", "replace")
    return text.encode(name, "replace")


def _decode(data: bytes, charset: str) -> str:
    name = _charset(charset)
    if name == "utf-16" and not data.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        name = "utf-16-be"
    return data.decode(name, "replace")


def _units(text: str) -> list[str]:
    """UTF-16 units, each as a character of its own."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [chr(int.from_bytes(data[at : at + 2], "little")) for at in range(0, len(data), 2)]


def _text_of(units: list[str]) -> str:
    """Halves of characters that lost the other one print as `?`."""
    whole = "".join(units).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return re.sub("[\ud800-\udfff]", "?", whole)


def _padding(text: list[str], length: int, pad: str) -> list[str]:
    units = _units(pad)
    missing = max(length - len(text), 0)
    return (units * (missing // len(units) + 1))[:missing]


def _lpad(text: str, length: int, pad: str) -> str:
    units = _units(text)
    return _text_of(_padding(units, length, pad) + units[:length])


def _rpad(text: str, length: int, pad: str) -> str:
    units = _units(text)
    return _text_of(units[:length] + _padding(units, length, pad))


def _overlay(text: str | None, put: str | None, start: int | None, count: int | None) -> str | None:
    """Without a count as much is replaced as is put."""
    if text is None or put is None or start is None:
        return None
    units, other = _units(text), _units(put)
    count = len(other) if count is None else count
    if start <= 0 or start > len(units):
        return text
    tail = units[start - 1 + count :] if count > 0 and start + count <= len(units) else []
    return _text_of(units[: start - 1] + other + tail)


def _instr(text: str, search: str, start: int, occurrence: int) -> int:
    """A negative start searches backwards from that place counted from the end."""
    if occurrence <= 0:
        raise ValueError("nthAppearance must be positive!")
    if search == "":
        return 1
    if start == 0:
        return 0
    if start > 0:
        at = start - 2
        for _ in range(occurrence):
            at = text.find(search, at + 1)
            if at < 0:
                return 0
        return at + 1
    at = len(text) + start + 1
    for _ in range(occurrence):
        if at <= 0:
            return 0
        at = text.rfind(search, 0, at - 1 + len(search))
        if at < 0:
            return 0
    return at + 1


_SCHEMES: Final = frozenset(("http", "https", "ftp", "file", "jar", "mailto"))
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9.+-]*):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)


def _parse_url(url: str, part: str, key: str, has_key: bool) -> str | None:
    """As java.net.URL, which knows a few protocols only."""
    found = _URL.fullmatch(url.strip())
    if found is None or found[1].lower() not in _SCHEMES:
        return None
    protocol, authority, path, query, ref = found.groups()
    if has_key:
        if part != "QUERY" or query is None:
            return None
        value = re.search(f"(?:^|&){re.escape(key)}=([^&]*)", query)
        return value[1] if value else None
    user, at, host = (authority or "").rpartition("@")
    match part:
        case "HOST":
            return re.sub(r":[0-9]*$", "", host)
        case "PATH":
            return path
        case "QUERY":
            return query
        case "REF":
            return ref
        case "PROTOCOL":
            return protocol.lower()
        case "FILE":
            return path if query is None else f"{path}?{query}"
        case "AUTHORITY":
            return authority
        case "USERINFO":
            return user if at else None
    return None


def _url_decode(text: str) -> str | None:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return None
    return urllib.parse.unquote_plus(text, errors="replace")


def _unhex(text: str) -> bytes | None:
    """An odd digit in front is a byte of its own, which comes out as 0."""
    if not re.fullmatch(r"[0-9A-Fa-f]*", text):
        return None
    odd = len(text) % 2
    return b"\0" * odd + bytes.fromhex(text[odd:])


def _inet_aton(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) > 4 or not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if any(number > 255 for number in numbers):
        return None
    value = 0
    for number in numbers[:-1]:
        value = (value << 8) | number
    return (value << 8 * (4 - len(numbers) + 1)) | numbers[-1]


def _inet_ntoa(value: int) -> str | None:
    if not 0 <= value < 1 << 32:
        return None
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _str_to_map(text: str, between: str, inside: str) -> list[tuple[str, str | None]]:
    """Both marks are regular expressions, by which Java splits; empty texts at the end do not count."""
    found: dict[str, str | None] = {}
    if text == "":
        return []
    for entry in _java_split(text, between):
        parts = java_regex.compiled(inside).python.split(entry, maxsplit=1)
        found[parts[0]] = parts[-1] if len(parts) > 1 else None
    return list(found.items())


def _java_split(text: str, pattern: str) -> list[str]:
    found, at = [], 0
    for match in java_regex.compiled(pattern).python.finditer(text):
        if match.end() == 0 or (match.start() == match.end() == len(text)):
            continue
        found.append(text[at : match.start()])
        at = match.end()
    found.append(text[at:])
    while len(found) > 1 and found[-1] == "":
        found.pop()
    return found


# -- regular expressions ---------------------------------------------------------------------------------------------


def _regex(pattern: str) -> java_regex.JavaRegex | None:
    try:
        return java_regex.compiled(pattern)
    except java_regex.InvalidPatternError:
        return None
    except java_regex.UntranslatableError as problem:
        raise ValueError(f"{problem} in a regular expression is not supported") from None


def _regexp(text: str, pattern: str) -> bool:
    regex = _regex(pattern) if pattern else None
    return regex is not None and regex.python.search(text) is not None


def _regexp_replace(text: str, pattern: str, put: str) -> str | None:
    if not pattern:
        return _between_units(text, put)
    regex = _regex(pattern)
    return None if regex is None else regex.python.sub(lambda _: put, text)


def _regexp_extract(text: str, pattern: str, group: int) -> str | None:
    regex = _regex(pattern)
    if regex is None or not 0 <= group <= regex.groups:
        return None
    found = regex.python.search(text)
    return None if found is None else found[group]


def _regexp_count(text: str, pattern: str) -> int | None:
    regex = _regex(pattern)
    return None if regex is None else sum(1 for _ in regex.python.finditer(text))


def _regexp_extract_all(text: str, pattern: str, group: int) -> list[str | None] | None:
    regex = _regex(pattern)
    if regex is None or not 0 <= group <= regex.groups:
        return None
    return [found[group] for found in regex.python.finditer(text)]


def _regexp_instr(text: str, pattern: str) -> int | None:
    """In UTF-16 units."""
    regex = _regex(pattern)
    if regex is None:
        return None
    found = regex.python.search(text)
    return 0 if found is None else len(text[: found.start()].encode("utf-16-le", "surrogatepass")) // 2 + 1


# -- numbers ---------------------------------------------------------------------------------------------------------


def _places(value: float, places: int, rounding: str) -> float:
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"Infinite or NaN: {value}")
    exact = Decimal(repr(value))
    if places >= -int(exact.as_tuple().exponent):
        return value
    if places < -400:
        return 0.0
    scaled = exact.scaleb(places).to_integral_value(rounding)
    return float(scaled.scaleb(-places)) + 0.0


def _digest(data: bytes, name: str) -> str:
    if name not in ("sha224", "sha256", "sha384", "sha512"):
        raise ValueError(f"{name} MessageDigest not available")
    return hashlib.new(name, data).hexdigest()


# -- dates -----------------------------------------------------------------------------------------------------------

_TIMESTAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?: ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.([0-9]{0,9}))?)?"
)
_DATE: Final = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,2})(?:-([0-9]{1,2})(?: .*)?)?)?")
_GMT: Final = re.compile(r"GMT([+-])([0-9]{1,2}):?([0-9]{2})?")


def _read(text: str, pattern: str) -> datetime.datetime | None:
    """What is not as the pattern says may still be in the usual form."""
    found = java_dates.read(pattern, text, lenient=False)
    return _of_sql(text) if found is None else _to_ms(found)


def _of_sql(text: str) -> datetime.datetime | None:
    """As java.sql.Timestamp reads the usual form: 30 February is 2 March to it."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None or not (1 <= int(found[2]) <= 12 and 1 <= int(found[3]) <= 31):
        return None
    whole = " ".join(("-".join(found.groups()[:3]), ":".join(part or "0" for part in found.groups()[3:6])))
    value = java_dates.read("y-M-d H:m:s", whole, lenient=True)
    return None if value is None else value.replace(microsecond=int((found[7] or "").ljust(3, "0")[:3]) * 1000)


def _to_ms(value: datetime.datetime) -> datetime.datetime:
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _to_timestamp(text: str) -> datetime.datetime | None:
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    whole = " ".join(("-".join(found.groups()[:3]), ":".join(part or "0" for part in found.groups()[3:6])))
    value = java_dates.read("y-M-d H:m:s", whole, lenient=False)
    return None if value is None else value.replace(microsecond=int((found[7] or "").ljust(3, "0")[:3]) * 1000)


def _to_date(text: str) -> datetime.date | None:
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return datetime.date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return None


def _read_leniently(text: str, pattern: str) -> datetime.datetime | None:
    return java_dates.read(pattern, text, lenient=True)


_SHORT_ZONES: Final = {
    "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney",
    "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo",
    "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare",
    "CNT": "America/St_Johns",
    "CST": "America/Chicago",
    "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris",
    "IET": "America/Indiana/Indianapolis",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "MIT": "Pacific/Apia",
    "NET": "Asia/Yerevan",
    "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi",
    "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico",
    "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh",
}
"""`ZoneId.SHORT_IDS` of Java."""


def _zone(name: str) -> datetime.tzinfo:
    """As java.util.TimeZone, for which a name it does not know is GMT."""
    if found := _GMT.fullmatch(name):
        offset = datetime.timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
        return datetime.timezone(offset if found[1] == "+" else -offset)
    try:
        return zoneinfo.ZoneInfo(_SHORT_ZONES.get(name, name))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.UTC


def _convert_tz(text: str, start: str, stop: str) -> str | None:
    value = java_dates.read(java_dates.DEFAULT, text, lenient=True)
    if value is None:
        return None
    first = value.replace(tzinfo=_zone(start))
    second = first.replace(fold=1)
    # Of an hour that comes twice Java takes the second; one that is skipped it moves on.
    is_twice = (first.utcoffset() or datetime.timedelta()) > (second.utcoffset() or datetime.timedelta())
    moved = (second if is_twice else first).astimezone(datetime.UTC).astimezone(_zone(stop))
    return f"{moved.year:04d}-{moved:%m-%d %H:%M:%S}"


# -- JSON ------------------------------------------------------------------------------------------------------------


class JsonError(ValueError):
    """What ERROR ON EMPTY and ERROR ON ERROR ask for."""


def _json_value(
    text: str | None, path: str | None, kind: str, codes: str, on_empty: str | None, on_error: str | None
) -> str | None:
    if text is None or path is None:
        return None
    compiled = json_paths.compiled(path)
    try:
        value = json_paths.found(json_paths.read(text), compiled)
        is_empty = value is None
        if isinstance(value, (dict, list)):
            if compiled.mode == "strict":
                raise JsonError("Strict jsonpath mode requires scalar value")
            is_empty = True
        elif is_empty and compiled.mode == "strict":
            raise JsonError("Strict jsonpath mode requires a non empty returned value, but is null")
    except (json_paths.NoJsonError, json_paths.NothingFoundError, JsonError) as problem:
        if compiled.mode == "lax" and isinstance(problem, json_paths.NoJsonError):
            is_empty = True
        elif codes[1] == "E":
            raise JsonError(str(problem)) from None
        else:
            return on_error
    if is_empty:
        if codes[0] == "E":
            raise JsonError("Empty result of JSON_VALUE function is not allowed")
        return on_empty
    _expect(value, kind)
    return json_paths.scalar_text(value)


def _expect(value: Any, kind: str) -> None:
    """Flink takes a number with a point for DOUBLE, a whole one for INT, and fails for the other."""
    fits = {
        "VARCHAR": True,
        "BOOLEAN": isinstance(value, bool),
        "INTEGER": isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31,
        "DOUBLE": isinstance(value, Decimal),
    }[kind]
    if not fits:
        raise JsonError(f"JSON_VALUE found {json_paths.written(value)}, which is no {kind}")


def _json_exists(text: str, path: str, code: str) -> bool | None:
    compiled = json_paths.compiled(path)
    try:
        return json_paths.found(json_paths.read(text), compiled) is not None
    except (json_paths.NoJsonError, json_paths.NothingFoundError) as problem:
        if compiled.mode == "lax":
            return False
        if code == "E":
            raise JsonError(str(problem)) from None
        return {"T": True, "F": False, "U": None}[code]


_NOTHING: Final = object()


def _json_queried(text: str, path: str, codes: str) -> Any:
    """The value of JSON_QUERY; _NOTHING for SQL's NULL."""
    compiled = json_paths.compiled(path)
    wrapper, on_empty, on_error = tuple(codes)
    value: Any = None
    try:
        value = json_paths.found(json_paths.read(text), compiled)
        if value is not None and (wrapper == "U" or (wrapper == "C" and not isinstance(value, list))):
            value = [value]
        if compiled.mode == "strict" and not isinstance(value, (dict, list)):
            raise JsonError("Strict jsonpath mode requires array or object value")
    except (json_paths.NoJsonError, json_paths.NothingFoundError, JsonError) as problem:
        if compiled.mode == "strict":
            return _instead(on_error, str(problem))
        value = None
    if not isinstance(value, (dict, list)):
        return _instead(on_empty, "Empty result of JSON_QUERY function is not allowed")
    return value


def _instead(code: str, message: str) -> Any:
    if code == "E":
        raise JsonError(message)
    return {"N": _NOTHING, "A": [], "O": {}}[code]


def _json_query(text: str, path: str, codes: str) -> str | None:
    value = _json_queried(text, path, codes)
    return None if value is _NOTHING else json_paths.written(value)


def _json_query_array(text: str, path: str, codes: str) -> list[str | None] | None:
    value = _json_queried(text, path, codes)
    if isinstance(value, dict):
        value = _instead(codes[2], "JSON_QUERY found an object, not an array")
    if value is _NOTHING:
        return None
    return [None if each is None else json_paths.scalar_text(each) for each in value]


def _is_json(text: str | None, kind: str) -> bool:
    if text is None or not text.strip():
        return False
    try:
        value = json_paths.read(text)
    except json_paths.NoJsonError:
        return False
    return {
        "V": True,
        "O": isinstance(value, dict),
        "A": isinstance(value, list),
        "S": not isinstance(value, (dict, list)),
    }[kind]


def _json_double(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return f'"{java_format.double_text(value)}"'
    return json_paths.decimal_text(Decimal(java_format.double_text(value)))


def _json_quote(text: str) -> str:
    """`/` and all beyond ASCII are escaped, other control characters are not; of a character beyond the BMP Flink
    writes the code point and then its second half."""
    return f'"{_QUOTED.sub(_escaped, text)}"'


_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "/": "\\/",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_QUOTED: Final = re.compile(r'["\\/\x08\f\n\r\t\x80-\U0010ffff]')


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return _ESCAPES.get(found[0]) or f"\\u{code:04x}"
    return f"\\u{code:x}\\u{0xDC00 | code & 0x3FF:04x}"


def _of_units(text: str) -> str:
    """A text of UTF-16's halves: pairs are put together, and half a pair is a `?`, as Java writes it."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _HALVES.sub("?", whole)


_HALVES: Final = re.compile("[\ud800-\udfff]")


def _between_units(text: str, put: str) -> str:
    """`put` before each UTF-16 unit of the text and at its end."""
    data = text.encode("utf-16-le")
    units = [data[place : place + 2].decode("utf-16-le", "surrogatepass") for place in range(0, len(data), 2)]
    return _of_units(put + "".join(unit + put for unit in units))


def _replace(text: str, search: str, put: str) -> str:
    return text.replace(search, put) if search else _between_units(text, put)


def _json_unquote(text: str) -> str:
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return _of_units(value) if isinstance(value, str) else text


def _json_raw(text: str) -> str:
    return json_paths.written(json_paths.read(text))


_TEXT: Final = "VARCHAR"

FUNCTIONS: Final[Mapping[str, PythonFunction]] = MappingProxyType(
    {
        "flink_upper": PythonFunction(str.upper, (_TEXT,), _TEXT),
        "flink_lower": PythonFunction(str.lower, (_TEXT,), _TEXT),
        "flink_from_base64": PythonFunction(_from_base64, (_TEXT,), _TEXT),
        "flink_encode": PythonFunction(_encode, (_TEXT, _TEXT), "BLOB"),
        "flink_decode": PythonFunction(_decode, ("BLOB", _TEXT), _TEXT),
        "flink_replace": PythonFunction(_replace, (_TEXT, _TEXT, _TEXT), _TEXT),
        "flink_lpad": PythonFunction(_lpad, (_TEXT, "INTEGER", _TEXT), _TEXT),
        "flink_rpad": PythonFunction(_rpad, (_TEXT, "INTEGER", _TEXT), _TEXT),
        "flink_overlay": PythonFunction(_overlay, (_TEXT, _TEXT, "INTEGER", "INTEGER"), _TEXT, True),
        "flink_array_join": PythonFunction(lambda texts, mark: mark.join(texts), ("VARCHAR[]", _TEXT), _TEXT),
        "flink_instr": PythonFunction(_instr, (_TEXT, _TEXT, "INTEGER", "INTEGER"), "INTEGER"),
        "flink_parse_url": PythonFunction(_parse_url, (_TEXT, _TEXT, _TEXT, "BOOLEAN"), _TEXT),
        "flink_url_decode": PythonFunction(_url_decode, (_TEXT,), _TEXT),
        "flink_unhex": PythonFunction(_unhex, (_TEXT,), "BLOB"),
        "flink_inet_aton": PythonFunction(_inet_aton, (_TEXT,), "BIGINT"),
        "flink_inet_ntoa": PythonFunction(_inet_ntoa, ("BIGINT",), _TEXT),
        "flink_str_to_map": PythonFunction(_str_to_map, (_TEXT, _TEXT, _TEXT), "MAP(VARCHAR, VARCHAR)"),
        "flink_printf": PythonFunction(java_format.printf, (_TEXT, _TEXT, "VARCHAR[]"), _TEXT),
        "flink_regexp": PythonFunction(_regexp, (_TEXT, _TEXT), "BOOLEAN"),
        "flink_regexp_replace": PythonFunction(_regexp_replace, (_TEXT, _TEXT, _TEXT), _TEXT),
        "flink_regexp_extract": PythonFunction(_regexp_extract, (_TEXT, _TEXT, "INTEGER"), _TEXT),
        "flink_regexp_substr": PythonFunction(
            lambda text, pattern: _regexp_extract(text, pattern, 0), (_TEXT, _TEXT), _TEXT
        ),
        "flink_regexp_count": PythonFunction(_regexp_count, (_TEXT, _TEXT), "INTEGER"),
        "flink_regexp_extract_all": PythonFunction(_regexp_extract_all, (_TEXT, _TEXT, "INTEGER"), "VARCHAR[]"),
        "flink_regexp_instr": PythonFunction(_regexp_instr, (_TEXT, _TEXT), "INTEGER"),
        "flink_round": PythonFunction(lambda v, n: _places(v, n, ROUND_HALF_UP), ("DOUBLE", "INTEGER"), "DOUBLE"),
        "flink_truncate": PythonFunction(lambda v, n: _places(v, n, ROUND_DOWN), ("DOUBLE", "INTEGER"), "DOUBLE"),
        "flink_digest": PythonFunction(_digest, ("BLOB", _TEXT), _TEXT),
        "flink_read": PythonFunction(_read, (_TEXT, _TEXT), "TIMESTAMP"),
        "flink_read_leniently": PythonFunction(_read_leniently, (_TEXT, _TEXT), "TIMESTAMP"),
        "flink_to_timestamp": PythonFunction(_to_timestamp, (_TEXT,), "TIMESTAMP"),
        "flink_to_date": PythonFunction(_to_date, (_TEXT,), "DATE"),
        "flink_convert_tz": PythonFunction(_convert_tz, (_TEXT, _TEXT, _TEXT), _TEXT),
        "flink_json_value": PythonFunction(_json_value, (_TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT), _TEXT, True),
        "flink_json_exists": PythonFunction(_json_exists, (_TEXT, _TEXT, _TEXT), "BOOLEAN"),
        "flink_json_query": PythonFunction(_json_query, (_TEXT, _TEXT, _TEXT), _TEXT),
        "flink_json_query_array": PythonFunction(_json_query_array, (_TEXT, _TEXT, _TEXT), "VARCHAR[]"),
        "flink_is_json": PythonFunction(_is_json, (_TEXT, _TEXT), "BOOLEAN", True),
        "flink_json_number": PythonFunction(lambda text: json_paths.decimal_text(Decimal(text)), (_TEXT,), _TEXT),
        "flink_json_double": PythonFunction(_json_double, ("DOUBLE",), _TEXT),
        "flink_json_quote": PythonFunction(_json_quote, (_TEXT,), _TEXT),
        "flink_json_unquote": PythonFunction(_json_unquote, (_TEXT,), _TEXT),
        "flink_json_raw": PythonFunction(_json_raw, (_TEXT,), _TEXT),
    }
)
