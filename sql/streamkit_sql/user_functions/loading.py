"""Finds the function that `CREATE FUNCTION .. AS 'module.attribute' LANGUAGE PYTHON` names.

The module is looked for in the script's folder, then where Python looks. What is imported from a script's folder is
that script's own: it is read anew by the next one, and two folders may have modules of one name. So a module there
imports others of its folder at its top, not later.

Importing a module runs it: whoever may run a script may run what Python can import.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from streamkit_sql.errors import NotSupported, Place, SqlError, TypeProblem, UnknownName
from streamkit_sql.user_functions.declared import Declared, declared
from streamkit_sql.user_functions.stand_in import pyflink_names

_LOCK = threading.Lock()


def load(target: str, folder: Path, place: Place) -> Declared:
    """Raises UnknownName for what is not there or cannot be imported, TypeProblem for what is no declared function."""
    module_name, _, attribute = target.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in target.split(".")):
        raise TypeProblem(f"{target!r} names no function.", place, "Write AS 'module.attribute'.")
    with _LOCK, _importable(folder, module_name), pyflink_names():
        module = _imported(module_name, folder, place)
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise UnknownName(f"module {module_name!r} has no {attribute!r}.", place) from None
    try:
        return of_object(found)
    except SqlError as error:
        raise type(error)(f"{target}: {error.message}", place, error.hint) from None


def _imported(name: str, folder: Path, place: Place) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"Looked in {folder} and where Python looks."
            raise UnknownName(f"there is no module {name!r}.", place, hint) from None
        raise UnknownName(f"module {name!r} imports {error.name!r}, which is not there.", place) from error
    except SqlError as error:
        raise type(error)(f"module {name!r}: {error.message}", place, error.hint) from error
    except Exception as error:
        raise UnknownName(f"module {name!r} cannot be imported: {type(error).__name__}: {error}", place) from error


@contextmanager
def _importable(folder: Path, name: str) -> Iterator[None]:
    """Inside, modules of the folder go first."""
    root = folder.resolve()
    if any(each and Path(each).resolve() == root for each in sys.path):
        yield
        return
    before = dict(sys.modules)
    top = name.partition(".")[0]
    if (root / f"{top}.py").exists() or (root / top).is_dir():
        for each in [each for each in sys.modules if each.partition(".")[0] == top]:
            del sys.modules[each]
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for each, module in list(sys.modules.items()):
            if before.get(each) is not module and _is_of(root, each, module):
                del sys.modules[each]
        for each, module in before.items():
            if each.partition(".")[0] == top:
                sys.modules.setdefault(each, module)


def _is_of(root: Path, name: str, module: ModuleType) -> bool:
    path = root.joinpath(*name.split("."))
    origin = getattr(module, "__file__", None)
    return origin in (f"{path}.py", str(path / "__init__.py")) or (origin is None and path.is_dir())


def of_object(found: Any) -> Declared:
    """Also of what pyflink's own `udf` and `udaf` give, which is known by its attributes. NotSupported for its other
    kinds."""
    if isinstance(found, Declared):
        return found
    if hasattr(found, "_func") and hasattr(found, "_func_type"):
        if hasattr(found, "_result_types") or getattr(found, "_is_table_aggregate", False):
            raise NotSupported("table functions in Python.", hint="There are udf and udaf.")
        if getattr(found, "_takes_row_as_input", False):
            raise NotSupported("functions that take a row as their input.", hint="Take columns.")
        return declared(
            found._func,
            found._input_types,
            found._result_type,
            found._deterministic,
            found._name,
            func_type=found._func_type,
            is_aggregate=hasattr(found, "_accumulator_type"),
        )
    hint = "Write @udf(result_type='BIGINT') above it, or @udaf above an aggregate."
    raise TypeProblem(f"a {type(found).__name__} is no declared function.", hint=hint)
