"""Text to tokens: names, texts, numbers, symbols, each with its place.

Rules: the lexical part of Calcite's grammar as Flink configures it (`Lex.JAVA`). Names are quoted with backticks, texts
with `'`; comments are `-- ..`, `// ..` and `/* .. */`, and a `/*+ .. */` is a hint, whose tokens stay. What differs
between dialects is in a `Dialect`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple

from streamkit_sql.errors import Place, SqlError, SyntaxProblem
from streamkit_sql.language import words
from streamkit_sql.limits import SCRIPT_CHARACTERS_MAX


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a parser asks where languages differ."""

    name: str
    quote: str = "`"  # of names; doubled inside
    reserved: frozenset[str] = words.RESERVED
    callable: frozenset[str] = words.CALLABLE  # reserved, but a function's name in front of a bracket
    bang_equal: bool = False  # `!=`
    at_time_zone: bool = False  # x AT TIME ZONE y
    folds_names: bool = False  # names that are not quoted are in capitals


FLINK: Final = Dialect("Flink")


class TokenKind(IntEnum):
    WORD = 0  # a keyword or a name without quotes
    NAME = 1  # a quoted name
    NUMBER = 2
    TEXT = 3
    BYTES = 4
    SYMBOL = 5
    END = 6


class Token(NamedTuple):
    """`value` is what it says: a name without its quotes, a text without quotes and escapes. `word` is a keyword in
    capitals or a symbol, and empty where it is neither, so that a quoted name or a text is never taken for one."""

    kind: TokenKind
    value: str
    word: str
    start: int
    stop: int


_PARTS: Final = (
    r"(?P<space>(?:[ \t\r\n\f]+|--[^\n\r]*|//[^\n\r]*|/\*(?!\+)(?s:.*?)\*/)+)",
    r"(?P<bytes>[xX]'[^']*')",
    r"(?P<unicode>[uU]&'(?:[^']|'')*')",
    r"(?P<escaped>[eE]'(?:[^'\\]|\\(?s:.)|'')*')",
    r"(?P<charset>(?:[nN]|_[A-Za-z][A-Za-z0-9_.:-]*)'(?:[^']|'')*')",
    r"(?P<word>[^\W\d][\w$]*|\$[\w$]*)",
    r"(?P<text>'(?:[^']|'')*')",
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)",
    r"(?P<symbol><>|<=|>=|!=|\|\||=>|/\*\+|\*/|/(?!\*)|[-+*%=<>(),.;:\[\]{}?|^])",
)


@cache
def _pattern(quote: str) -> re.Pattern[str]:
    name = rf"(?P<name>{quote}(?:[^{quote}]|{quote}{quote})+{quote})"
    return re.compile("|".join((*_PARTS[:5], name, *_PARTS[5:])))


class Lines:
    """Places of offsets in a text."""

    __slots__ = ("_starts",)

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def place(self, start: int, stop: int) -> Place:
        line = bisect_right(self._starts, start)
        return Place(line, start - self._starts[line - 1] + 1, start, stop)


def tokens_of(text: str, lines: Lines, dialect: Dialect = FLINK) -> list[Token]:
    """All tokens but spaces and comments, then one of kind END. Raises SyntaxProblem where none begins."""
    if len(text) > SCRIPT_CHARACTERS_MAX:
        raise SyntaxProblem(
            f"the script has {len(text):,} characters, of {SCRIPT_CHARACTERS_MAX:,} at most", lines.place(0, 0)
        )
    tokens: list[Token] = []
    add = tokens.append
    offset = 0
    match_at = _pattern(dialect.quote).match
    fold = dialect.folds_names
    while found := match_at(text, offset):
        start, offset = offset, found.end()
        kind = found.lastgroup
        if kind == "space":
            continue
        value = found.group()
        if kind == "word":
            upper = value.upper()
            add(Token(TokenKind.WORD, upper if fold else value, upper, start, offset))
        elif kind == "symbol":
            add(Token(TokenKind.SYMBOL, value, value, start, offset))
        elif kind == "number":
            add(Token(TokenKind.NUMBER, value, "", start, offset))
        elif kind == "text":
            add(Token(TokenKind.TEXT, value[1:-1].replace("''", "'"), "", start, offset))
        elif kind == "name":
            quote = dialect.quote
            add(Token(TokenKind.NAME, value[1:-1].replace(quote + quote, quote), "", start, offset))
        elif kind == "bytes":
            add(Token(TokenKind.BYTES, value[2:-1], "", start, offset))
        elif kind == "escaped":
            add(Token(TokenKind.TEXT, _unescaped(value[2:-1], lines.place(start, offset)), "", start, offset))
        elif kind == "unicode":
            # Its escapes can only be read when it is known whether UESCAPE follows.
            add(Token(TokenKind.TEXT, value[3:-1].replace("''", "'"), "U&", start, offset))
        else:
            raise SyntaxProblem(
                f"{value.split(chr(39))[0]}'..' is a text in a character set of its own",
                lines.place(start, offset),
                "Texts are Unicode; leave the prefix out.",
            )
    if offset < len(text):
        raise _no_token(text, offset, lines, dialect)
    add(Token(TokenKind.END, "", "", len(text), len(text)))
    return tokens


def _no_token(text: str, offset: int, lines: Lines, dialect: Dialect) -> SqlError:
    """What is wrong where no token begins."""
    character = text[offset]
    place = lines.place(offset, min(offset + 1, len(text)))
    if character == "'":
        return SyntaxProblem("a text begins here and never ends", place, "A ' inside a text is written ''.")
    if character == dialect.quote:
        return SyntaxProblem(
            "a quoted name begins here and never ends, or is empty",
            place,
            f"A {character} inside a name is written {character}{character}.",
        )
    if text.startswith("/*", offset):
        return SyntaxProblem("a comment begins here and never ends", place)
    if character == '"':
        return SyntaxProblem('found "', place, "Names are quoted with `, texts with '.")
    if character == "`":
        return SyntaxProblem("found `", place, f"Names are quoted with {dialect.quote}.")
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    hint = "It looks like a space but is none." if character.isspace() or ord(character) in (0x200B, 0xFEFF) else ""
    return SyntaxProblem(f"found {shown}, which begins nothing", place, hint)


_UNICODE_ESCAPES: Final = r"{0}{0}|{0}([0-9A-Fa-f]{{4}})|{0}"


def unicode_text(value: str, escape: str, place: Place) -> str:
    r"""Of U&'..': `\0041` is A, `\\` is `\`. Raises SyntaxProblem for any other use of the escape character."""

    def one(found: re.Match[str]) -> str:
        if found.group(1) is not None:
            return chr(int(found.group(1), 16))
        if len(found.group()) == 2:
            return escape
        raise SyntaxProblem(f"{escape} is not followed by four hexadecimal digits", place)

    pattern = _UNICODE_ESCAPES.format(re.escape(escape))
    return _paired(re.sub(pattern, one, value), place)


_ESCAPES: Final = re.compile(
    r"''|\\(?:([bfnrt])|([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.S
)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _unescaped(value: str, place: Place) -> str:
    r"""Of E'..', which has C's escapes; a `\` in front of what is none of them is left out."""

    def one(found: re.Match[str]) -> str:
        short, octal, byte, four, eight, other = found.groups()
        if short is not None:
            return _SHORT[short]
        if octal is not None:
            return chr(int(octal, 8))
        digits = byte or four or eight
        if digits is None:
            return other or "'"
        code = int(digits, 16)
        if code > 0x10FFFF:
            raise SyntaxProblem(f"there is no character U+{code:X}", place)
        return chr(code)

    return _paired(_ESCAPES.sub(one, value), place)


def _paired(value: str, place: Place) -> str:
    """Escapes are UTF-16, as Java's characters are: two surrogates make one character, one alone makes none."""
    try:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise SyntaxProblem("half of a surrogate pair is no character", place) from None
