"""Python functions of users, called by DuckDB over columns of Arrow.

An aggregate gets a list an argument: the group's values in the order in which they came. A NULL list is a group of no
rows. What a function raises, or gives of a wrong type or length, ends the query with a text that names the function
and the values.
"""

from __future__ import annotations

import datetime
import decimal
import zoneinfo
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamkit_sql.types import Kind, SqlType
from streamkit_sql.user_functions.bound import PythonCall
from streamkit_sql.user_functions.declared import Declared, FunctionContext, Row

if TYPE_CHECKING:
    import duckdb

_Convert = Callable[[Any], Any]
_VALUE_SHOWN_MAX: Final = 100
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


class FunctionFailed(Exception):
    """Of a function of the user's; its text is what is told of it."""


FAILED: Final = f"Python exception occurred while executing the UDF: {FunctionFailed.__name__}: "
"""What DuckDB puts before that text."""


def install(database: duckdb.DuckDBPyConnection, texts: Iterable[str], called: Mapping[str, PythonCall]) -> None:
    """Registers those of a session's functions that the texts call; once per database."""
    if not called:
        return
    import duckdb
    from duckdb.func import FunctionNullHandling, PythonUDFType

    text = "\n".join(texts)
    for call in called.values():
        if call.name not in text:
            continue
        columns: list[Any] = [each.duckdb + ("[]" if call.declared.is_aggregate else "") for each in call.arguments]
        try:
            database.create_function(
                call.name,
                vectorised(call),
                columns or ["TINYINT[]" if call.declared.is_aggregate else "TINYINT"],
                call.declared.result.duckdb,
                type=PythonUDFType.ARROW,
                null_handling=FunctionNullHandling.SPECIAL,
                side_effects=not call.declared.is_deterministic,
            )
        except (duckdb.CatalogException, duckdb.NotImplementedException) as problem:
            if "already" not in str(problem):
                raise


def vectorised(call: PythonCall) -> Callable[..., pa.Array]:
    """The function over columns: `pa.ChunkedArray`s in, an array as long out. Opens the user's function."""
    declared = call.declared
    if declared.is_object and hasattr(declared.function, "open"):
        declared.function.open(FunctionContext())
    make = {
        (False, True): _of_rows,
        (False, False): _of_columns,
        (True, True): _of_groups,
        (True, False): _of_group_columns,
    }[declared.is_aggregate, declared.func_type == "general"]
    # DuckDB reads the number of parameters off the signature.
    names = ", ".join(f"a{index}" for index in range(max(1, len(call.arguments))))
    return eval(f"lambda {names}: over({names})", {"over": make(call)})  # type: ignore[no-any-return]


# -- scalar functions ------------------------------------------------------------------------------------------------


def _of_rows(call: PythonCall) -> Callable[..., pa.Array]:
    function = call.declared.function
    of_row = getattr(function, "eval", function)
    inward = [_inward(of, call.zone) for of in call.arguments]
    result = _Result(call)

    def over(*columns: pa.ChunkedArray) -> pa.Array:
        if call.arguments:
            lists = [_values(column, *each) for column, each in zip(columns, inward, strict=True)]
            rows: Sequence[tuple[Any, ...]] = list(zip(*lists, strict=True))
        else:
            rows = [()] * len(columns[0])
        try:
            values = [of_row(*row) for row in rows]
        except Exception:
            values = [_called(call.declared, of_row, row) for row in rows]
        return result.array(values, rows)

    return over


def _called(declared: Declared, of_row: Callable[..., Any], row: Sequence[Any]) -> Any:
    try:
        return of_row(*row)
    except Exception as error:
        raise _failed(declared, row, error) from error


def _failed(declared: Declared, row: Sequence[Any], error: Exception) -> FunctionFailed:
    said = str(error).split("\n")[0]
    return FunctionFailed(
        f"function {declared.name} failed for {_shown(row)}: {type(error).__name__}{': ' if said else ''}{said}"
    )


def _shown(row: Sequence[Any]) -> str:
    texts = [repr(value) for value in row]
    return f"({', '.join(t if len(t) <= _VALUE_SHOWN_MAX else t[:_VALUE_SHOWN_MAX] + '..' for t in texts)})"


def _of_columns(call: PythonCall) -> Callable[..., pa.Array]:
    declared = call.declared
    called = getattr(declared.function, "eval", declared.function)
    as_input = _as_pandas(call.zone) if declared.func_type == "pandas" else _as_is
    outward = _arrow_type(call.arguments)
    stored = _stored_type(declared.result)

    def over(*columns: pa.ChunkedArray) -> pa.Array:
        count = len(columns[0])
        given = [as_input(_cast(_whole(c), of)) for c, of in zip(columns, outward, strict=False)]
        try:
            values = called(*given)
        except Exception as error:
            raise _failed(declared, [_Many(f"{count} rows")], error) from error
        try:
            is_arrow = isinstance(values, pa.Array | pa.ChunkedArray)
            array = _cast(_whole(values) if is_arrow else _from_pandas(values, call.zone), stored)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise FunctionFailed(
                f"function {declared.name} gave a {type(values).__name__} that is no {declared.result}: {error}"
            ) from error
        if len(array) != count:
            raise FunctionFailed(f"function {declared.name} gave {len(array)} values for {count} rows")
        return array

    return over


class _Many:
    """Stands for values that are too many to be shown."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


# -- aggregate functions ---------------------------------------------------------------------------------------------


def _of_groups(call: PythonCall) -> Callable[..., pa.Array]:
    declared = call.declared
    function = declared.function
    inward = [_inward(of, call.zone) for of in call.arguments]
    result = _Result(call)

    def of_group(rows: Iterable[tuple[Any, ...]]) -> Any:
        row: tuple[Any, ...] = ()
        try:
            accumulator = function.create_accumulator()
            for row in rows:
                function.accumulate(accumulator, *row)
            return function.get_value(accumulator)
        except Exception as error:
            raise _failed(declared, row, error) from error

    def over(*columns: pa.ChunkedArray) -> pa.Array:
        if not call.arguments:
            groups: list[Any] = [[()] * len(each or ()) for each in columns[0].to_pylist()]
        else:
            lists = [_groups(column, *each) for column, each in zip(columns, inward, strict=True)]
            groups = [zip(*(each or () for each in group), strict=True) for group in zip(*lists, strict=True)]
        values = [of_group(rows) for rows in groups]
        return result.array(values, [(_Many("a group"),)] * len(values))

    return over


def _groups(column: pa.ChunkedArray, of: pa.DataType, convert: _Convert | None) -> list[Any]:
    found: list[Any] = _cast(_whole(column), pa.list_(of)).to_pylist()
    if convert is None:
        return found
    return [None if each is None else [None if v is None else convert(v) for v in each] for each in found]


def _of_group_columns(call: PythonCall) -> Callable[..., pa.Array]:
    declared = call.declared
    called = declared.function
    as_input = _as_pandas(call.zone) if declared.func_type == "pandas" else _as_is
    outward = _arrow_type(call.arguments)
    result = _Result(call)
    has_object = hasattr(called, "accumulate")

    def over(*columns: pa.ChunkedArray) -> pa.Array:
        lists = [_cast(_whole(c), pa.list_(of)) for c, of in zip(columns, outward, strict=False)]
        values: list[Any] = []
        for index in range(len(columns[0])):
            if not columns[0][index].is_valid:
                values.append(None)
                continue
            given = [as_input(each[index].values) for each in lists]
            try:
                value = _accumulated(called, given) if has_object else called(*given)
            except Exception as error:
                raise _failed(declared, [_Many(f"{len(given[0]) if given else 0} values")], error) from error
            value = value.as_py() if isinstance(value, pa.Scalar) else value
            values.append(None if value is not None and value != value else value)  # NaN is NULL, as pandas has it
        return result.array(values, [(_Many("a group"),)] * len(values))

    return over


def _accumulated(function: Any, given: Sequence[Any]) -> Any:
    """pyflink takes objects here, too: all of the group at once."""
    accumulator = function.create_accumulator()
    function.accumulate(accumulator, *given)
    return function.get_value(accumulator)


# -- values ----------------------------------------------------------------------------------------------------------


def _whole(column: Any) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def _cast(array: pa.Array, of: pa.DataType) -> pa.Array:
    if array.type.equals(of):
        return array
    if pa.types.is_timestamp(of) or pa.types.is_nested(of):
        return array.cast(of, safe=False)  # nanoseconds to microseconds
    return array.cast(of)


def _as_is(array: pa.Array) -> Any:
    return array


def _as_pandas(zone: str) -> _Convert:
    """TIMESTAMP_LTZ is UTC's clock with the session's zone on it, as pyflink's `tz_convert_from_internal` makes it."""

    def series(array: pa.Array) -> Any:
        values = array.to_pandas()
        if pa.types.is_timestamp(array.type) and array.type.tz is not None:
            return values.dt.tz_localize(None).dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        return values

    return series


def _from_pandas(values: Any, zone: str) -> pa.Array:
    times = getattr(values, "dt", None)
    if getattr(times, "tz", None) is not None:
        values = values.dt.tz_convert(zone).dt.tz_localize(None)
    return _whole(pa.array(values, from_pandas=True))


def _values(column: pa.ChunkedArray, of: pa.DataType, convert: _Convert | None) -> list[Any]:
    found = _cast(_whole(column), of).to_pylist()
    return found if convert is None else [None if value is None else convert(value) for value in found]


def _arrow_type(of: Iterable[SqlType]) -> list[pa.DataType]:
    """What functions over columns get: TIMESTAMP_LTZ has the zone UTC."""
    return [each.arrow if each.kind is not Kind.TIMESTAMP_LTZ else pa.timestamp("us", "UTC") for each in of]


def _stored_type(of: SqlType, *, microseconds: bool = False) -> pa.DataType:
    """What DuckDB takes and gives: no zones; `microseconds` also where it has nanoseconds."""
    if of.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return pa.timestamp("us" if microseconds or of.precision <= 6 else "ns")
    if of.kind is Kind.ARRAY:
        assert of.element is not None
        return pa.list_(_stored_type(of.element, microseconds=microseconds))
    if of.kind is Kind.MAP:
        assert of.element is not None
        assert of.key is not None
        return pa.map_(
            _stored_type(of.key, microseconds=microseconds), _stored_type(of.element, microseconds=microseconds)
        )
    if of.kind is Kind.ROW:
        parts = [(each.name, _stored_type(each.type, microseconds=microseconds)) for each in of.fields]
        return pa.struct([pa.field(name, part) for name, part in parts])
    return of.arrow


def _inward(of: SqlType, zone: str) -> tuple[pa.DataType, _Convert | None]:
    """The type a column is read in, and what makes Flink's Python value of what is read."""
    return _stored_type(of, microseconds=True), _to_python(of, zone)


def _to_python(of: SqlType, zone: str) -> _Convert | None:
    kind = of.kind
    if kind is Kind.TIMESTAMP_LTZ:
        own = zoneinfo.ZoneInfo(zone)
        # As pyflink's LocalZonedTimestampCoderImpl: UTC's clock, called the session's.
        return lambda value: value.replace(tzinfo=own)
    if kind is Kind.INTERVAL_MS:
        return lambda value: datetime.timedelta(milliseconds=value)
    if kind is Kind.ARRAY:
        assert of.element is not None
        each = _or_null(_to_python(of.element, zone))
        return None if each is None else lambda value: [each(item) for item in value]
    if kind in (Kind.MAP, Kind.MULTISET):
        assert of.element is not None
        if kind is Kind.MULTISET:
            return dict
        assert of.key is not None
        key, item = (_or_null(_to_python(part, zone)) or _same for part in (of.key, of.element))
        return lambda value: {key(k): item(v) for k, v in value}
    if kind is Kind.ROW:
        names = tuple(field.name for field in of.fields)
        parts = [_or_null(_to_python(field.type, zone)) or _same for field in of.fields]

        def to_row(value: Mapping[str, Any]) -> Row:
            made = Row(*(part(value[name]) for name, part in zip(names, parts, strict=True)))
            made.names = names
            return made

        return to_row
    return None


def _same(value: Any) -> Any:
    return value


def _or_null(convert: _Convert | None) -> _Convert | None:
    return None if convert is None else lambda value: None if value is None else convert(value)


class _Result:
    """Makes a column of a function's values."""

    def __init__(self, call: PythonCall) -> None:
        self._declared = call.declared
        self._type = _stored_type(call.declared.result)
        self._convert = _or_null(_to_stored(call.declared.result))

    def array(self, values: list[Any], rows: Sequence[Sequence[Any]]) -> pa.Array:
        convert = self._convert
        try:
            return pa.array(values if convert is None else [convert(value) for value in values], self._type)
        except Exception as error:
            for value, row in zip(values, rows, strict=True):
                try:
                    pa.array([value if convert is None else convert(value)], self._type)
                except Exception:
                    name, of = self._declared.name, self._declared.result
                    text = f"function {name} gave {_shown([value])[1:-1]} ({type(value).__name__}) for {_shown(row)}"
                    raise FunctionFailed(f"{text}; its type is {of}") from error
            raise


def _to_stored(of: SqlType) -> _Convert | None:
    kind = of.kind
    if kind is Kind.TIMESTAMP_LTZ:
        return lambda value: value.replace(tzinfo=None)
    if kind is Kind.DECIMAL:
        step = decimal.Decimal(1).scaleb(-of.scale)
        context = decimal.Context(prec=of.precision)  # as pyflink's DecimalCoderImpl: halves go to the even digit

        def to_scale(value: Any) -> decimal.Decimal:
            return decimal.Decimal(value).quantize(step, context=context)

        return to_scale
    if kind is Kind.INTERVAL_MS:
        return lambda value: value // _MILLISECOND if isinstance(value, datetime.timedelta) else value
    if kind is Kind.ARRAY:
        assert of.element is not None
        each = _or_null(_to_stored(of.element))
        return None if each is None else lambda value: [each(item) for item in value]
    if kind is Kind.MAP:
        assert of.element is not None
        assert of.key is not None
        key, item = (_or_null(_to_stored(part)) or _same for part in (of.key, of.element))
        return lambda value: [(key(k), item(v)) for k, v in (value.items() if hasattr(value, "items") else value)]
    if kind is Kind.ROW:
        names = [field.name for field in of.fields]
        parts = [_or_null(_to_stored(field.type)) or _same for field in of.fields]

        def of_row(value: Any) -> dict[str, Any]:
            values = [value[name] for name in names] if isinstance(value, Mapping) else list(value)
            return {name: part(v) for name, part, v in zip(names, parts, values, strict=True)}

        return of_row
    return None
