"""What is wrong with a script or with a record, for whoever wrote it.

SqlError            something is wrong at a place of the text
├── SyntaxProblem   the text is no statement
├── UnknownName     a table, column or function that is not there
├── TypeProblem     an operation on types it does not have
├── NotSupported    Flink has it, this subset does not; refused by name, never approximated
└── ValueProblem    a value a running query cannot go on with (an overflow, a cast that fails)
"""

from __future__ import annotations

from typing import NamedTuple

from streamkit.model.errors import UsageError


class Place(NamedTuple):
    """Where in a script; lines and columns count from 1, `start` and `stop` are offsets of its text."""

    line: int = 1
    column: int = 1
    start: int = 0
    stop: int = 0


NOWHERE = Place()


class SqlError(UsageError):
    """`hint` says what to write instead, where there is something."""

    def __init__(self, message: str, place: Place = NOWHERE, hint: str = "") -> None:
        self.message = message
        self.place = place
        self.hint = hint
        text = message if place == NOWHERE else f"line {place.line}, column {place.column}: {message}"
        super().__init__(f"{text} {hint}" if hint else text)


class SyntaxProblem(SqlError):
    """The text is no statement of the language."""


class UnknownName(SqlError):
    """A name that stands for nothing here."""


class TypeProblem(SqlError):
    """An operation on types that do not have it."""


class NotSupported(SqlError):
    """A form of Flink's language outside the subset."""


class ValueProblem(SqlError):
    """A value that stops a query, as it stops Flink's."""
