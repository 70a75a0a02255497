"""Settings: flag, then `STREAMKIT_*`, then `streamkit.toml`, then the default.

An option `--transition-delay-ms` is `STREAMKIT_TRANSITION_DELAY_MS` in the environment and `transition_delay_ms` in
the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from streamkit.model.errors import UsageError

FILE_NAME: Final = "streamkit.toml"
T = TypeVar("T")


class Config:
    """Where a value comes from when no flag gave it."""

    def __init__(self, environment: Mapping[str, str], file: Mapping[str, Any], file_name: str = FILE_NAME) -> None:
        self._environment = environment
        self._file = file
        self._file_name = file_name

    @classmethod
    def load(cls, environment: Mapping[str, str], directory: Path) -> Config:
        """Reads `streamkit.toml` in this directory, or the file that STREAMKIT_CONFIG names."""
        named = environment.get("STREAMKIT_CONFIG")
        path = Path(named) if named else directory / FILE_NAME
        if not named and not path.exists():
            return cls(environment, {})
        try:
            return cls(environment, tomllib.loads(path.read_text()), str(path))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not valid TOML: {error}") from error

    def value(self, option: str, flag: T | None, kind: Callable[[str], T], default: T) -> T:
        """`kind` turns text into the value and raises ValueError with what it wants instead."""
        if flag is not None:
            return flag
        variable = "STREAMKIT_" + option.upper()
        if variable in self._environment:
            return _converted(kind, self._environment[variable], variable)
        if option in self._file:
            given = self._file[option]
            text = str(given).lower() if isinstance(given, bool) else str(given)
            return _converted(kind, text, f"{option} in {self._file_name}")
        return default


def boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("true or false")


def one_of(*allowed: str) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return text

    return choose


def _converted(kind: Callable[[str], T], text: str, where: str) -> T:
    try:
        return kind(text)
    except ValueError as error:
        raise UsageError(f"{where} is {text!r}, which will not do: {error}") from error
