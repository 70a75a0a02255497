"""Stands in for `pyflink` while a module with functions is imported where pyflink is not installed.

So the module that Flink gets need not be changed. There is what declares functions: `DataTypes`, `udf`, `udaf` and the
base classes. The rest of pyflink is not there, and importing it fails as it does without pyflink.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from streamkit_sql.errors import NotSupported
from streamkit_sql.language.parser import parse_type
from streamkit_sql.types import Field, SqlType, array, map_of, row
from streamkit_sql.user_functions import declared


class DataTypes:
    """The names of pyflink's DataTypes; each gives the type of SQL."""

    @staticmethod
    def _made(text: str, nullable: bool) -> SqlType:
        return parse_type(text).with_null(nullable)

    @classmethod
    def BOOLEAN(cls, nullable: bool = True) -> SqlType:
        return cls._made("BOOLEAN", nullable)

    @classmethod
    def TINYINT(cls, nullable: bool = True) -> SqlType:
        return cls._made("TINYINT", nullable)

    @classmethod
    def SMALLINT(cls, nullable: bool = True) -> SqlType:
        return cls._made("SMALLINT", nullable)

    @classmethod
    def INT(cls, nullable: bool = True) -> SqlType:
        return cls._made("INT", nullable)

    @classmethod
    def BIGINT(cls, nullable: bool = True) -> SqlType:
        return cls._made("BIGINT", nullable)

    @classmethod
    def FLOAT(cls, nullable: bool = True) -> SqlType:
        return cls._made("FLOAT", nullable)

    @classmethod
    def DOUBLE(cls, nullable: bool = True) -> SqlType:
        return cls._made("DOUBLE", nullable)

    @classmethod
    def STRING(cls, nullable: bool = True) -> SqlType:
        return cls._made("STRING", nullable)

    @classmethod
    def BYTES(cls, nullable: bool = True) -> SqlType:
        return cls._made("BYTES", nullable)

    @classmethod
    def DATE(cls, nullable: bool = True) -> SqlType:
        return cls._made("DATE", nullable)

    @classmethod
    def CHAR(cls, length: int, nullable: bool = True) -> SqlType:
        return cls._made(f"CHAR({length})", nullable)

    @classmethod
    def VARCHAR(cls, length: int, nullable: bool = True) -> SqlType:
        return cls._made(f"VARCHAR({length})", nullable)

    @classmethod
    def BINARY(cls, length: int, nullable: bool = True) -> SqlType:
        return cls._made(f"BINARY({length})", nullable)

    @classmethod
    def VARBINARY(cls, length: int, nullable: bool = True) -> SqlType:
        return cls._made(f"VARBINARY({length})", nullable)

    @classmethod
    def DECIMAL(cls, precision: int, scale: int, nullable: bool = True) -> SqlType:
        return cls._made(f"DECIMAL({precision}, {scale})", nullable)

    @classmethod
    def TIME(cls, precision: int = 0, nullable: bool = True) -> SqlType:
        return cls._made(f"TIME({precision})", nullable)

    @classmethod
    def TIMESTAMP(cls, precision: int = 6, nullable: bool = True) -> SqlType:
        return cls._made(f"TIMESTAMP({precision})", nullable)

    @classmethod
    def TIMESTAMP_LTZ(cls, precision: int = 6, nullable: bool = True) -> SqlType:
        return cls._made(f"TIMESTAMP_LTZ({precision})", nullable)

    TIMESTAMP_WITH_LOCAL_TIME_ZONE = TIMESTAMP_LTZ

    @classmethod
    def ARRAY(cls, element_type: SqlType, nullable: bool = True) -> SqlType:
        return array(element_type, nullable=nullable)

    @classmethod
    def MAP(cls, key_type: SqlType, value_type: SqlType, nullable: bool = True) -> SqlType:
        return map_of(key_type, value_type, nullable=nullable)

    @classmethod
    def FIELD(cls, name: str, data_type: SqlType, description: str | None = None) -> Field:
        return Field(name, data_type)

    @classmethod
    def ROW(cls, row_fields: list[Field], nullable: bool = True) -> SqlType:
        return row(*((each.name, each.type) for each in row_fields), nullable=nullable)


def _refusing(name: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotSupported(f"{name}: table functions in Python.", hint="There are udf and udaf.")

    return refuse


def _modules() -> dict[str, ModuleType]:
    functions: dict[str, Any] = {
        name: getattr(declared, name)
        for name in ("udf", "udaf", "ScalarFunction", "AggregateFunction", "UserDefinedFunction", "FunctionContext")
    }
    functions |= {name: _refusing(name) for name in ("udtf", "udtaf")}
    types = {"DataTypes": DataTypes, "Row": declared.Row}
    contents: dict[str, dict[str, Any]] = {
        "pyflink": {},
        "pyflink.common": {"Row": declared.Row},
        "pyflink.common.types": {"Row": declared.Row},
        "pyflink.table": functions | types,
        "pyflink.table.types": types,
        "pyflink.table.udf": functions,
    }
    made = {}
    for name, members in contents.items():
        module = ModuleType(name)
        module.__path__ = []
        vars(module).update(members)
        made[name] = module
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(made[parent], own, module)
    return made


@contextmanager
def pyflink_names() -> Iterator[None]:
    """Inside, `pyflink` can be imported; nothing of it is left behind. The real one goes first."""
    if "pyflink" in sys.modules or importlib.util.find_spec("pyflink") is not None:
        yield
        return
    made = _modules()
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)
