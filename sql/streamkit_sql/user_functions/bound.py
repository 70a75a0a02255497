"""A session's Python function as expressions bind it: one function of DuckDB for each list of argument types."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamkit_sql.types import SqlType
from streamkit_sql.user_functions.declared import Declared

PREFIX: Final = "user_"
"""Of the names in DuckDB."""


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A function of DuckDB's that queries call: a declared function over arguments of these types."""

    name: str
    declared: Declared
    arguments: tuple[SqlType, ...]
    zone: str


@dataclass(frozen=True, slots=True, eq=False)
class PythonFunction:
    """Under a name in a session; a `UserFunction`. `called` is the session's, and gets what is to be installed.

    Names of DuckDB's are the same in every process, so that a state is known again by its query's text.
    """

    name: str
    target: str
    declared: Declared
    called: dict[str, PythonCall]

    @property
    def parameters(self) -> tuple[SqlType, ...] | None:
        return self.declared.parameters

    @property
    def result(self) -> SqlType:
        return self.declared.result

    @property
    def is_deterministic(self) -> bool:
        return self.declared.is_deterministic

    @property
    def is_aggregate(self) -> bool:
        return self.declared.is_aggregate

    def named(self, arguments: Sequence[SqlType], zone: str) -> str:
        declared = self.declared
        texts = [self.target, declared.func_type, str(declared.result), zone, *(str(each) for each in arguments)]
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]
        name = f"{PREFIX}{re.sub(r'[^a-z0-9]', '_', self.name.lower())}_{digest}"
        self.called[name] = PythonCall(name, declared, tuple(arguments), zone)
        return name
