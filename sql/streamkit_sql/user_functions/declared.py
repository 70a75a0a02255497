"""`@udf` and `@udaf`: a Python function or class with the types that SQL needs to know of it.

    @udf(result_type="BIGINT")
    def count_char(text: str | None, letter: str) -> int | None: ...

    @udaf(result_type="DOUBLE", func_type="arrow")
    def spread(values: pa.Array) -> float: ...

The decorators take what those of `pyflink.table.udf` take, so that a module needs another import only. `func_type`:

| | a scalar function gets and gives | an aggregate function |
|---|---|---|
| general | the values of a row; a value | is an AggregateFunction |
| pandas | a Series an argument; a Series as long | gets a Series an argument; gives a value |
| arrow (not Flink's) | a pyarrow.Array an argument; one as long | gets an Array an argument; gives a value |

NULL is None in values, and what pandas makes of it in a Series.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, cast, overload

from streamkit_sql.errors import NotSupported, TypeProblem
from streamkit_sql.language.parser import parse_type
from streamkit_sql.types import (
    BIGINT,
    BOOLEAN,
    BYTES_TYPE,
    DATE,
    DOUBLE,
    STRING,
    TIME,
    SqlType,
    decimal,
    row,
    timestamp,
)

FuncType: TypeAlias = Literal["general", "pandas", "arrow"]
FUNC_TYPES: Final = ("general", "pandas", "arrow")
TypeLike: TypeAlias = SqlType | str
"""A type, or its text as SQL has it; also a DataType of pyflink's."""


class FunctionContext:
    """What `open` gets. There are no metrics and no parameters of a job: defaults are given back."""

    def get_job_parameter(self, key: str, default_value: str) -> str:
        return default_value


class UserDefinedFunction:
    """Base of functions that are classes. `open` is called once in a process before the first row; `close` never."""

    def open(self, function_context: FunctionContext) -> None: ...

    def close(self) -> None: ...

    def is_deterministic(self) -> bool:
        return True


class ScalarFunction(UserDefinedFunction):
    """A scalar function as a class: `eval` gets the values of a row."""

    def eval(self, *values: Any) -> Any:
        raise NotImplementedError


class AggregateFunction(UserDefinedFunction):
    """An aggregate function: rows of a group go through `accumulate` in the order in which they came.

    Groups whose rows change are computed anew from the rows that are left, so `retract` and `merge` are not called.
    """

    def create_accumulator(self) -> Any:
        raise NotImplementedError

    def accumulate(self, accumulator: Any, *values: Any) -> None:
        raise NotImplementedError

    def get_value(self, accumulator: Any) -> Any:
        raise NotImplementedError


class Row(tuple[Any, ...]):
    """A ROW: `row[0]`, `row["name"]`, `row.name`. Made as `Row(1, 'a')` or `Row(id=1, name='a')`."""

    names: tuple[str, ...]

    def __new__(cls, *values: Any, **named: Any) -> Row:
        if values and named:
            raise ValueError("a Row has values or names, not both")
        made = super().__new__(cls, values or named.values())
        made.names = tuple(named)
        return made

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)

    def __getattr__(self, name: str) -> Any:
        if name == "names" or name not in self.names:
            raise AttributeError(name)
        return super().__getitem__(self.names.index(name))

    def __repr__(self) -> str:
        """As pyflink's."""
        if self.names:
            return f"Row({', '.join(f'{name}={value!r}' for name, value in zip(self.names, self, strict=True))})"
        return f"<Row({', '.join(map(repr, self))})>"

    def as_dict(self) -> dict[str, Any]:
        return dict(zip(self.names, self, strict=True))


@dataclass(frozen=True, slots=True)
class Declared:
    """A function with its types. `function` is a Python function, or an object with `eval` or `accumulate`.

    Without `parameters` it takes arguments of any types. Calling it calls the function.
    """

    name: str
    function: Any
    result: SqlType
    parameters: tuple[SqlType, ...] | None = None
    func_type: FuncType = "general"
    is_aggregate: bool = False
    is_deterministic: bool = True

    def __call__(self, *values: Any) -> Any:
        return getattr(self.function, "eval", self.function)(*values)

    @property
    def is_object(self) -> bool:
        return hasattr(self.function, "accumulate" if self.is_aggregate else "eval")


@overload
def udf(
    f: None = None,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    func_type: FuncType = "general",
    udf_type: FuncType | None = None,
) -> Callable[[Any], Declared]: ...
@overload
def udf(
    f: object,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    func_type: FuncType = "general",
    udf_type: FuncType | None = None,
) -> Declared: ...
def udf(
    f: Any = None,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    func_type: FuncType = "general",
    udf_type: FuncType | None = None,
) -> Any:
    """A scalar function; a decorator where `f` is not given. Without `result_type` the type that the function is
    annotated to give. A function that is not `deterministic` is called for each row, whatever its arguments are."""
    if f is None:
        return lambda given: udf(given, input_types, result_type, deterministic, name, func_type, udf_type)
    return declared(
        f, input_types, result_type, deterministic, name, func_type=udf_type or func_type, is_aggregate=False
    )


@overload
def udaf(
    f: None = None,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    accumulator_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    func_type: FuncType = "general",
) -> Callable[[Any], Declared]: ...
@overload
def udaf(
    f: object,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    accumulator_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    func_type: FuncType = "general",
) -> Declared: ...
def udaf(
    f: Any = None,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    accumulator_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    func_type: FuncType = "general",
) -> Any:
    """An aggregate function; a decorator where `f` is not given. `accumulator_type` is Flink's alone: accumulators are
    not kept here."""
    if f is None:
        return lambda given: udaf(given, input_types, result_type, accumulator_type, deterministic, name, func_type)
    return declared(f, input_types, result_type, deterministic, name, func_type=func_type, is_aggregate=True)


def declared(
    f: Any,
    input_types: TypeLike | Sequence[TypeLike] | None = None,
    result_type: TypeLike | None = None,
    deterministic: bool | None = None,
    name: str | None = None,
    *,
    func_type: FuncType = "general",
    is_aggregate: bool | None = None,
) -> Declared:
    """Raises TypeProblem where something cannot be a function of SQL, saying what."""
    is_class = inspect.isclass(f) and (hasattr(f, "eval") or hasattr(f, "accumulate"))
    function = f() if is_class else f
    own = name or getattr(f, "__name__", None) or type(function).__name__
    if func_type not in FUNC_TYPES:
        raise TypeProblem(f"function {own!r}: func_type is one of {', '.join(FUNC_TYPES)}, not {func_type!r}.")
    if is_aggregate is None:
        is_aggregate = hasattr(function, "accumulate")
    if is_aggregate and func_type == "general":
        missing = [each for each in ("create_accumulator", "accumulate", "get_value") if not hasattr(function, each)]
        if missing:
            raise TypeProblem(f"aggregate function {own!r} has no {missing[0]}: it is an AggregateFunction's.")
    called = getattr(function, "eval", function)
    if not is_aggregate and not callable(called):
        raise TypeProblem(f"function {own!r} is a {type(function).__name__}, which cannot be called.")
    if inspect.iscoroutinefunction(called):
        raise NotSupported(f"function {own!r} is async.", hint="Write a plain function.")
    if deterministic is None:
        asked = getattr(function, "is_deterministic", None)
        deterministic = bool(asked()) if callable(asked) else True
    parameters = None
    if input_types is not None:
        given = [input_types] if isinstance(input_types, str | SqlType) else list(cast(Iterable[TypeLike], input_types))
        parameters = tuple(sql_type_of(each) for each in given)
    return Declared(own, function, _result(own, called, function, result_type), parameters, func_type, is_aggregate,
                    deterministic)  # fmt: skip


def _result(name: str, called: Any, function: Any, given: TypeLike | None) -> SqlType:
    if given is None and hasattr(function, "get_result_type"):
        given = function.get_result_type()
    if given is not None:
        return sql_type_of(given)
    found = _annotated(getattr(function, "get_value", called))
    if found is None:
        raise TypeProblem(f"function {name!r} does not say what it gives.", hint="Write @udf(result_type='BIGINT').")
    return found


_ANNOTATED: Final[dict[Any, SqlType]] = {
    bool: BOOLEAN,
    int: BIGINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES_TYPE,
    Decimal: decimal(38, 18),
    date: DATE,
    time: TIME,
    datetime: timestamp(6),
}


def _annotated(called: Any) -> SqlType | None:
    """The type a function is annotated to give, if it is a plain one, or one or None."""
    try:
        of = typing.get_type_hints(called).get("return")
    except (NameError, TypeError):  # annotated by what is imported for type checkers only
        return None
    if typing.get_origin(of) in (typing.Union, types.UnionType):
        others = [each for each in typing.get_args(of) if each is not type(None)]
        of = others[0] if len(others) == 1 else None
    return _ANNOTATED.get(of)


def sql_type_of(given: Any) -> SqlType:
    """The type of a text, or of a DataType of pyflink's, which is known by its class's name."""
    if isinstance(given, SqlType):
        return given
    if isinstance(given, str):
        return parse_type(given)
    make = _FLINK_TYPES.get(type(given).__name__)
    if make is None:
        raise TypeProblem(f"{given!r} is no type.", hint="Write it as SQL does: 'BIGINT', 'DECIMAL(10, 2)'.")
    return make(given).with_null(bool(getattr(given, "_nullable", True)))


def _plain(name: str) -> Callable[[Any], SqlType]:
    return lambda _: parse_type(name)


def _long(name: str) -> Callable[[Any], SqlType]:
    return lambda of: parse_type(f"{name}({of.length})")


def _precise(name: str) -> Callable[[Any], SqlType]:
    return lambda of: parse_type(f"{name}({of.precision})")


_FLINK_TYPES: Final[dict[str, Callable[[Any], SqlType]]] = {
    "BooleanType": _plain("BOOLEAN"),
    "TinyIntType": _plain("TINYINT"),
    "SmallIntType": _plain("SMALLINT"),
    "IntType": _plain("INT"),
    "BigIntType": _plain("BIGINT"),
    "FloatType": _plain("FLOAT"),
    "DoubleType": _plain("DOUBLE"),
    "DateType": _plain("DATE"),
    "DecimalType": lambda of: parse_type(f"DECIMAL({of.precision}, {of.scale})"),
    "CharType": _long("CHAR"),
    "VarCharType": _long("VARCHAR"),
    "BinaryType": _long("BINARY"),
    "VarBinaryType": _long("VARBINARY"),
    "TimeType": _precise("TIME"),
    "TimestampType": _precise("TIMESTAMP"),
    "LocalZonedTimestampType": _precise("TIMESTAMP_LTZ"),
    "ArrayType": lambda of: parse_type(f"ARRAY<{sql_type_of(of.element_type)}>"),
    "MapType": lambda of: parse_type(f"MAP<{sql_type_of(of.key_type)}, {sql_type_of(of.value_type)}>"),
    "RowType": lambda of: row(*((each.name, sql_type_of(each.data_type)) for each in of.fields)),
}
