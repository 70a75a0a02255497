"""Java's regular expressions as Python's, and where it is possible as RE2's, which DuckDB runs.

Java's meaning is kept: `.` stops at all its line terminators, `$` stands also before a last one, `\\d`, `\\w` and `\\s`
are ASCII, `\\b` is not (JDK 17). What neither form can say is refused by name; what Java refuses is
InvalidPatternError.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

PATTERNS_KEPT_MAX: Final = 512
"""Compiled patterns that are kept where patterns come from rows."""

_REPEATED_MAX: Final = 1000  # RE2's bound of {n,m}
_TERMINATORS: Final = "\n\r\u0085\u2028\u2029"
_SPACE: Final = "\t\n\x0b\f\r "
_NAMED: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "a": "\a", "e": "\x1b"}
_POSIX: Final = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": "\\x00-\\x7f",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": "!-\\/:-@\\[-`{-~",
    "Graph": "!-~",
    "Print": "\\ -~",
    "Blank": "\\ \\t",
    "Cntrl": "\\x00-\\x1f\\x7f",
    "XDigit": "0-9a-fA-F",
    "Space": "\\t\\n\\x0b\\f\\r\\ ",
}
_QUANTIFIER: Final = re.compile(r"(?:[*+?]|\{(\d+)(?:,(\d*))?\})([?+])?")


class InvalidPatternError(Exception):
    """Java does not take the pattern either."""


class UntranslatableError(Exception):
    """Java takes the pattern; this does not. The message names the form."""


@dataclass(frozen=True, slots=True)
class JavaRegex:
    """`re2` is None where RE2 cannot say it. `ascii_only` and `ends_at_end` are what RE2's form needs of a text: no
    character beyond ASCII, no line terminator at its end. `certain` are the groups that take part in every match."""

    python: re.Pattern[str]
    re2: str | None
    ascii_only: bool
    ends_at_end: bool
    certain: frozenset[int]
    matches_empty: bool

    @property
    def groups(self) -> int:
        return self.python.groups


@dataclass(slots=True)
class _Group:
    number: int | None
    start_groups: int
    alternates: bool = False
    inside: list[int] = field(default_factory=list)  # numbers of groups in it that take part if it does


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def compiled(pattern: str) -> JavaRegex:
    """Raises InvalidPatternError or UntranslatableError."""
    return _Translator(pattern).run()


class _Translator:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.python: list[str] = []
        self.re2: list[str] = []
        self.is_re2 = True
        self.ascii_only = False
        self.ends_at_end = False
        self.flags = ""
        self.groups = 0
        self.stack: list[_Group] = [_Group(None, 0)]

    def run(self) -> JavaRegex:
        if flags := re.match(r"\(\?([a-zA-Z]+)\)", self.pattern):
            self.flags = flags[1]
            if set(self.flags) - set("is"):
                raise UntranslatableError(f"the flags (?{self.flags})")
            self.at = flags.end()
            self.ascii_only = "i" in self.flags
        while self.at < len(self.pattern):
            self._step()
        if len(self.stack) != 1:
            raise InvalidPatternError("an unclosed group")
        prefix = f"(?{self.flags})" if self.flags else ""
        source = "".join(self.python)
        try:
            python = re.compile(prefix + source, re.ASCII)
            least = importlib.import_module("re._parser").parse(prefix + source, re.ASCII).getwidth()[0]
        except (re.error, RecursionError, OverflowError) as problem:
            raise InvalidPatternError(str(problem)) from None
        certain = frozenset() if self.stack[0].alternates else frozenset(self.stack[0].inside)
        re2 = prefix + "".join(self.re2) if self.is_re2 else None
        return JavaRegex(python, re2, self.ascii_only, self.ends_at_end, certain, least == 0)

    def _emit(self, python: str, re2: str | None = None) -> None:
        self.python.append(python)
        if re2 is None:
            self.is_re2 = False
        else:
            self.re2.append(re2)

    def _same(self, text: str) -> None:
        self._emit(text, text)

    def _take(self, count: int = 1) -> str:
        taken = self.pattern[self.at : self.at + count]
        if len(taken) < count:
            raise InvalidPatternError("an unfinished pattern")
        self.at += count
        return taken

    def _step(self) -> None:
        character = self._take()
        match character:
            case "\\":
                if self._escape():
                    self._quantified([])
            case "[":
                self.at -= 1
                self._class()
                self._quantified([])
            case "(":
                self._open()
            case ")":
                self._close()
            case "|":
                self.stack[-1].alternates = True
                self._same("|")
            case ".":
                any_ = "(?s:.)" if "s" in self.flags else f"[^{_TERMINATORS}]"
                self._same(any_)
                self._quantified([])
            case "^":
                self._same("^")
            case "$":
                self._end()
            case "*" | "+" | "?" | "{":
                raise InvalidPatternError(f"nothing in front of {character}")
            case _:
                self._same(_literal(character))
                self._quantified([])

    def _end(self) -> None:
        self.ends_at_end = True
        self._emit(f"(?=(?:\r\n|[{_TERMINATORS}])?\\Z)", "\\z")

    # -- groups ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        rest = self.pattern[self.at :]
        if not rest.startswith("?"):
            self._capture("(")
            return
        for mark in ("?:", "?=", "?!", "?<=", "?<!", "?>"):
            if rest.startswith(mark):
                self.at += len(mark)
                self.stack.append(_Group(None, self.groups))
                self._emit(f"({mark}", "(?:" if mark == "?:" else None)
                return
        if named := re.match(r"\?<([A-Za-z][A-Za-z0-9]*)>", rest):
            self.at += named.end()
            self._capture(f"(?P<{named[1]}>")
            return
        if flags := re.match(r"\?[a-zA-Z-]+[:)]", rest):
            raise UntranslatableError(f"the flags ({flags[0]} inside a pattern")
        raise InvalidPatternError("an unknown group")

    def _capture(self, python: str) -> None:
        self.groups += 1
        self.stack.append(_Group(self.groups, self.groups))
        self._emit(python, "(")

    def _close(self) -> None:
        if len(self.stack) == 1:
            raise InvalidPatternError("an unmatched )")
        group = self.stack.pop()
        self._same(")")
        taking_part = [] if group.alternates else group.inside
        if group.number is not None:
            taking_part = [group.number, *taking_part]
        self._quantified(taking_part)

    def _quantified(self, groups: list[int]) -> None:
        """What follows an atom; `groups` take part if the atom does."""
        found = _QUANTIFIER.match(self.pattern, self.at)
        if found is None:
            if self.pattern.startswith("{", self.at):
                raise InvalidPatternError("an illegal repetition")
            self.stack[-1].inside.extend(groups)
            return
        self.at = found.end()
        text = found[0]
        if found[1] is not None:
            low, high = int(found[1]), int(found[2]) if found[2] else int(found[1])
            if max(low, high) > _REPEATED_MAX:
                self.is_re2 = False
        self._emit(text, None if found[3] == "+" else text)
        if text[0] == "+" or (found[1] is not None and int(found[1]) > 0):
            self.stack[-1].inside.extend(groups)

    # -- escapes and classes -----------------------------------------------------------------------------------------

    def _escape(self) -> bool:
        """True where the escape is an atom that may be quantified."""
        character = self._take()
        match character:
            case "d" | "D" | "w" | "W":
                self._same(f"\\{character}")
            case "s":
                self._same(f"[{_SPACE}]")
            case "S":
                self._same(f"[^{_SPACE}]")
            case "b" | "B":
                self.ascii_only = True
                self._emit(f"(?u:\\{character})", f"\\{character}")
                return False
            case "A":
                self._emit("\\A", "\\A")
                return False
            case "z":
                self._emit("\\Z", "\\z")
                return False
            case "Z":
                self._end()
                return False
            case "Q":
                stop = self.pattern.find("\\E", self.at)
                quoted = self.pattern[self.at : stop if stop >= 0 else None]
                self.at = stop + 2 if stop >= 0 else len(self.pattern)
                self._same("".join(map(_literal, quoted)))
            case "k":
                name = re.compile(r"<([A-Za-z][A-Za-z0-9]*)>").match(self.pattern, self.at)
                if name is None:
                    raise InvalidPatternError("\\k without a name")
                self.at = name.end()
                self._emit(f"(?P={name[1]})")
            case "p" | "P":
                inside = self._property()
                self._same(f"[{'^' if character == 'P' else ''}{inside}]")
            case _ if character in "123456789":
                self._emit(f"(?:\\{character})")
            case _:
                self.at -= 1
                self._same(_literal(self._character()))
        return True

    def _property(self) -> str:
        found = re.compile(r"\{(\w+)\}").match(self.pattern, self.at)
        if found is None or found[1] not in _POSIX:
            raise UntranslatableError(f"\\p{found[0] if found else self.pattern[self.at : self.at + 1]}")
        self.at = found.end()
        return _POSIX[found[1]]

    def _character(self) -> str:
        """One character that is written as an escape; the backslash is read already."""
        character = self._take()
        if character in _NAMED:
            return _NAMED[character]
        forms = {
            "x": r"x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))",
            "u": r"u([0-9A-Fa-f]{4})",
            "0": r"0([0-3]?[0-7]{1,2})",
        }
        if character in forms:
            found = re.compile(forms[character]).match(self.pattern, self.at - 1)
            if found is None:
                raise InvalidPatternError(f"an unfinished \\{character}")
            self.at = found.end()
            return chr(int(next(each for each in found.groups() if each), 8 if character == "0" else 16))
        if character in "hHvVRGXNc":
            raise UntranslatableError(f"\\{character}")
        if character.isascii() and character.isalnum():
            raise InvalidPatternError(f"an unknown escape \\{character}")
        return character

    def _class(self) -> None:
        self._take()
        parts: list[str] = []
        negated = self.pattern.startswith("^", self.at)
        self.at += negated
        is_first = True
        while True:
            character = self._take()
            if character == "]" and not is_first:
                break
            is_first = False
            if character == "[":
                raise UntranslatableError("a class inside a class")
            if character == "&" and self.pattern.startswith("&", self.at):
                raise UntranslatableError("&& in a class")
            if character == "-":
                parts.append("\\-" if not parts or self.pattern.startswith("]", self.at) else "-")
            elif character != "\\":
                parts.append(_literal(character))
            else:
                parts.append(self._class_escape())
        self._same(f"[{'^' if negated else ''}{''.join(parts)}]")

    def _class_escape(self) -> str:
        character = self._take()
        if character in "dDwW":
            return f"\\{character}"
        if character == "s":
            return _SPACE
        if character == "S":
            self.is_re2 = False
            return "\\S"
        if character == "p":
            return self._property()
        if character in "PQEbBAzZk" or character in "123456789":
            raise UntranslatableError(f"\\{character} in a class")
        self.at -= 1
        return _literal(self._character())


def _literal(character: str) -> str:
    return (
        character
        if not character.isascii() or character.isalnum() or character in "_ \t\n\r\f"
        else _escaped(character)
    )


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 32 or ord(character) == 127 else f"\\{character}"
