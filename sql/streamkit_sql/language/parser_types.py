"""Data types as Flink's grammar spells them."""

from __future__ import annotations

from typing import Final

from streamkit_sql.errors import TypeProblem
from streamkit_sql.language.parser_base import ParserBase
from streamkit_sql.language.tokens import TokenKind
from streamkit_sql.limits import INTERVAL_DIGITS_MAX, INTERVAL_MS_DIGITS_MAX
from streamkit_sql.types import STRING_LENGTH, Field, Kind, SqlType

_SIMPLE: Final = {
    "BOOLEAN": SqlType(Kind.BOOLEAN),
    "TINYINT": SqlType(Kind.TINYINT),
    "SMALLINT": SqlType(Kind.SMALLINT),
    "INT": SqlType(Kind.INTEGER),
    "INTEGER": SqlType(Kind.INTEGER),
    "BIGINT": SqlType(Kind.BIGINT),
    "FLOAT": SqlType(Kind.FLOAT),
    "REAL": SqlType(Kind.FLOAT),
    "DATE": SqlType(Kind.DATE),
    "STRING": SqlType(Kind.VARCHAR, length=STRING_LENGTH),
    "BYTES": SqlType(Kind.VARBINARY, length=STRING_LENGTH),
}
_SIZED: Final = {
    "CHAR": Kind.CHAR,
    "CHARACTER": Kind.CHAR,
    "VARCHAR": Kind.VARCHAR,
    "BINARY": Kind.BINARY,
    "VARBINARY": Kind.VARBINARY,
}
_VARYING: Final = {Kind.CHAR: Kind.VARCHAR, Kind.BINARY: Kind.VARBINARY}
_REFUSED: Final = {
    "RAW": "Keep it as BYTES.",
    "VARIANT": "Keep it as STRING, and read it with JSON_VALUE.",
    "STRUCTURED": "Write it as a ROW.",
    "BITMAP": "Keep it as BYTES.",
    "ANY": "",
    "GEOMETRY": "Keep it as STRING.",
}
_ELSEWHERE: Final = {
    "TEXT": "STRING",
    "JSON": "STRING",
    "UUID": "STRING",
    "NVARCHAR": "STRING",
    "BOOL": "BOOLEAN",
    "DATETIME": "TIMESTAMP(3)",
    "TIMESTAMPTZ": "TIMESTAMP_LTZ(3)",
    "TIMESTAMP_TZ": "TIMESTAMP_LTZ(3)",
    "INT8": "BIGINT",
    "LONG": "BIGINT",
    "NUMBER": "DECIMAL(38, 0)",
    "BLOB": "BYTES",
    "STRUCT": "ROW<..>",
    "LIST": "ARRAY<..>",
}
"""What types of other systems are called in Flink."""
_YEAR_UNITS: Final = ("YEAR", "QUARTER", "MONTH")
_UNITS: Final = ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND")
UNITS: Final = {name: unit for unit in _UNITS for name in (unit, unit + "S")}
"""Of intervals; each may be in the plural."""
RANGES: Final = frozenset(
    {
        ("YEAR", "MONTH"),
        ("DAY", "HOUR"),
        ("DAY", "MINUTE"),
        ("DAY", "SECOND"),
        ("HOUR", "MINUTE"),
        ("HOUR", "SECOND"),
        ("MINUTE", "SECOND"),
    }
)


class TypeParser(ParserBase):
    def data_type(self, *, is_column: bool = False) -> SqlType:
        """A type. `is_column`: of a column, or inside another type, where it may be [NOT] NULL and no INTERVAL."""
        self.enter()
        start = self.token.start
        if self.token.word == "INTERVAL" and is_column:
            self.refuse("a column of type INTERVAL", "Keep it as BIGINT; Flink has no such columns, either.")
        of = self._plain_type(start)
        while True:
            index = self.index
            element = self._nullability(of) if is_column else of
            if self.accept("ARRAY"):
                of = SqlType(Kind.ARRAY, element=element)
            elif self.accept("MULTISET"):
                of = SqlType(Kind.MULTISET, element=element)
            else:
                self.leave()
                if not is_column:
                    return of
                self.index = index
                self.token = self.tokens[index]
                return self._nullability(of)

    def _nullability(self, of: SqlType) -> SqlType:
        if self.accept("NOT", "NULL"):
            return of.with_null(False)
        self.accept("NULL")
        return of

    def _plain_type(self, start: int) -> SqlType:
        token = self.token
        word = token.word if token.kind is TokenKind.WORD else ""
        if word in _SIMPLE:
            self.advance()
            return _SIMPLE[word]
        if word in _SIZED:
            self.advance()
            kind = _SIZED[word]
            if kind in _VARYING and self.accept("VARYING"):
                kind = _VARYING[kind]
            return SqlType(kind, length=self._size("length", 1, STRING_LENGTH, 1))
        if word == "DOUBLE":
            self.advance()
            self.accept("PRECISION")
            return SqlType(Kind.DOUBLE)
        if word in ("DECIMAL", "DEC", "NUMERIC"):
            self.advance()
            return self._decimal(start)
        if word in ("TIME", "TIMESTAMP", "TIMESTAMP_LTZ"):
            self.advance()
            return self._time(word, start)
        if word == "INTERVAL":
            self.advance()
            return SqlType(self._interval_kind())
        if word in ("ARRAY", "MULTISET") and self.ahead().word == "<":
            self.advance()
            self.expect("<")
            element = self.data_type(is_column=True)
            self.expect(">")
            return SqlType(Kind.ARRAY if word == "ARRAY" else Kind.MULTISET, element=element)
        if word == "MAP" and self.ahead().word == "<":
            self.advance()
            self.expect("<")
            key = self.data_type(is_column=True)
            self.expect(",")
            value = self.data_type(is_column=True)
            self.expect(">")
            return SqlType(Kind.MAP, key=key, element=value)
        if word == "ROW":
            self.advance()
            return self._row_type()
        return self._no_type(word)

    def _no_type(self, word: str) -> SqlType:
        token = self.token
        if word in _REFUSED:
            self.refuse(f"the type {word}", _REFUSED[word])
        if word in _ELSEWHERE:
            self.refuse(f"the type {token.value}", f"Flink calls it {_ELSEWHERE[word]}.")
        if self.at_name:
            name = self.name()
            self.refuse(f"the type {'.'.join(name.parts)}", "There are no types of one's own.", start=token.start)
        return self.fail("a data type")

    def _row_type(self) -> SqlType:
        closing = ")" if self.at("(") else ">"
        if self.at("<>") or self.at("(", ")"):
            self.refuse("a ROW without fields")
        if not self.accept("(") and not self.accept("<"):
            self.fail("<", "(")
        fields = self.list_of(self._field)
        self.expect(closing)
        return SqlType(Kind.ROW, fields=fields)

    def _field(self) -> Field:
        name = self.identifier("a field's name")
        of = self.data_type(is_column=True)
        if self.token.kind is TokenKind.TEXT:
            self.text_value()  # a comment; types do not keep it
        return Field(name, of)

    def _size(self, what: str, least: int, most: int, default: int) -> int:
        """`(n)`, where it is there."""
        if not self.accept("("):
            return default
        token = self.token
        size = self.count()
        if not least <= size <= most:
            raise TypeProblem(f"a {what} is from {least} to {most:,}, not {size:,}", self.place(token.start))
        self.expect(")")
        return size

    def _decimal(self, start: int) -> SqlType:
        precision, scale = 10, 0
        if self.accept("("):
            precision = self.count()
            if self.accept(","):
                scale = self.count()
            self.expect(")")
        if not 1 <= precision <= 38 or scale > precision:
            message = f"DECIMAL({precision}, {scale}): the precision is from 1 to 38, the scale not more than that"
            raise TypeProblem(message, self.place(start))
        return SqlType(Kind.DECIMAL, precision=precision, scale=scale)

    def _time(self, word: str, start: int) -> SqlType:
        precision = self._size("precision", 0, 9, 0 if word == "TIME" else 6)
        kind = Kind[word]
        if word != "TIMESTAMP_LTZ":
            if self.accept("WITH", "LOCAL", "TIME", "ZONE"):
                if word == "TIME":
                    self.refuse("TIME WITH LOCAL TIME ZONE", "Write TIME or TIMESTAMP_LTZ.", start=start)
                kind = Kind.TIMESTAMP_LTZ
            elif self.accept("WITH", "TIME", "ZONE"):
                self.refuse(f"{word} WITH TIME ZONE", "Flink has TIMESTAMP_LTZ only.", start=start)
            elif self.accept("WITHOUT"):
                self.expect("TIME", "ZONE")
        return SqlType(kind, precision=precision)

    def interval_unit(self) -> tuple[str, int]:
        """`DAY`, `DAY(3) TO SECOND(6)`: the unit alone, and how many digits its first field may have."""
        start = self.token.start
        first = UNITS.get(self.token.word)
        if first is None:
            self.fail(*_UNITS)
        self.advance()
        digits = self._unit_precision(first)
        if not self.accept("TO"):
            return first, digits
        last = UNITS.get(self.token.word)
        if last is None:
            self.fail(*_UNITS)
        self.advance()
        if last == "SECOND":
            self._size("precision", 0, 9, 6)
        if (first, last) not in RANGES:
            raise TypeProblem(f"there is no interval {first} TO {last}", self.place(start))
        return f"{first} TO {last}", digits

    def _unit_precision(self, unit: str) -> int:
        if not self.accept("("):
            return 2
        start = self.token.start
        digits = self.count()
        most = INTERVAL_DIGITS_MAX if unit in _YEAR_UNITS else INTERVAL_MS_DIGITS_MAX
        if not 1 <= digits <= most:
            raise TypeProblem(f"the precision of {unit} is from 1 to {most}, not {digits}", self.place(start))
        if unit == "SECOND" and self.accept(","):
            self.count()
        self.expect(")")
        return digits

    def _interval_kind(self) -> Kind:
        return Kind.INTERVAL_MONTHS if self.interval_unit()[0].split()[0] in _YEAR_UNITS else Kind.INTERVAL_MS
