"""What every part of the parser stands on: the tokens, how to move over them, and how to say what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from streamkit_sql.errors import NotSupported, Place, SyntaxProblem
from streamkit_sql.language import tree, words
from streamkit_sql.language.tokens import FLINK, Dialect, Lines, Token, TokenKind, tokens_of, unicode_text
from streamkit_sql.limits import TREE_DEPTH_MAX

T = TypeVar("T")


class ParserBase:
    """A place in a list of tokens. `token` is the one that is read next."""

    def __init__(self, text: str, dialect: Dialect = FLINK) -> None:
        self.text = text
        self.dialect = dialect
        self.lines = Lines(text)
        self.tokens = tokens_of(text, self.lines, dialect)
        self.index = 0
        self.token: Token = self.tokens[0]
        self.depth = 0
        self.deepest = 0
        self.links = 0  # operators that made a tree deeper without a bracket

    # -- moving ------------------------------------------------------------------------------------------------------

    def advance(self) -> Token:
        token = self.token
        if token.kind is not TokenKind.END:
            self.index += 1
            self.token = self.tokens[self.index]
        return token

    def ahead(self, count: int = 1) -> Token:
        return self.tokens[min(self.index + count, len(self.tokens) - 1)]

    def at(self, *expected: str) -> bool:
        """Whether these words or symbols come next, one after another."""
        if self.token.word != expected[0]:
            return False
        return all(self.ahead(place).word == word for place, word in enumerate(expected[1:], 1))

    def at_kind(self, kind: TokenKind) -> bool:
        return self.token.kind is kind

    def accept(self, *expected: str) -> bool:
        """Moves over these words or symbols if they come next."""
        if not self.at(*expected):
            return False
        for _ in expected:
            self.advance()
        return True

    def phrase(self, *expected: str) -> bool:
        """Moves over these words if the first comes next; then the others have to follow."""
        if self.token.word != expected[0]:
            return False
        self.expect(*expected)
        return True

    def expect(self, *expected: str) -> Token:
        token = self.token
        for word in expected:
            if self.token.word != word:
                self.fail(word)
            token = self.advance()
        return token

    def enter(self) -> None:
        """Goes one bracket deeper; raises SyntaxProblem where that is too deep. `leave` is owed."""
        self.depth += 1
        if self.depth > self.deepest:
            self.deepest = self.depth
            if self.depth > TREE_DEPTH_MAX:
                raise SyntaxProblem(f"more than {TREE_DEPTH_MAX} brackets or operators in one another", self.here())

    def leave(self) -> None:
        self.depth -= 1

    def list_of(self, one: Callable[[], T]) -> tuple[T, ...]:
        """One or more, with commas between."""
        items = [one()]
        while self.accept(","):
            items.append(one())
        return tuple(items)

    def in_brackets(self, one: Callable[[], T]) -> tuple[T, ...]:
        """`(one, ..)`."""
        self.expect("(")
        items = self.list_of(one)
        self.expect(")")
        return items

    # -- places and errors -------------------------------------------------------------------------------------------

    def place(self, start: int) -> Place:
        """From the token that begins at this offset to the last one that was read."""
        return self.lines.place(start, self.tokens[self.index - 1].stop if self.index else start)

    def here(self) -> Place:
        return self.lines.place(self.token.start, self.token.stop)

    def shown(self, token: Token) -> str:
        if token.kind is TokenKind.END:
            return "the end"
        text = self.text[token.start : token.stop]
        return text if len(text) <= 40 else text[:37] + "..."

    def fail(self, *expected: str, hint: str = "") -> NoReturn:
        """Raises SyntaxProblem: what was found and what was expected here."""
        wanted = ", ".join(expected[:-1]) + " or " + expected[-1] if len(expected) > 1 else expected[0]
        message = f"found {self.shown(self.token)}, expected {wanted}"
        raise SyntaxProblem(message, self.here(), hint or self._hint(expected))

    def _hint(self, expected: Iterable[str]) -> str:
        token = self.token
        if token.kind is TokenKind.WORD:
            upper = token.word
            candidates = [word for phrase in expected for word in phrase.split() if word.isupper()]
            near = difflib.get_close_matches(upper, [*candidates, *words.CLAUSES], 1, 0.7)
            if near and near[0] != upper:
                return f"Did you mean {near[0]}?"
            if upper in self.dialect.reserved and "a name" in expected:
                return self.reserved_hint(token)
        # A misspelled keyword is often taken for an alias, and the mistake is seen one word too late.
        before = self.tokens[self.index - 1] if self.index else token
        if before.kind is TokenKind.WORD and before.word not in self.dialect.reserved:
            near = difflib.get_close_matches(before.word, words.CLAUSES, 1, 0.7)
            if near and near[0] != before.word:
                return f"Did you mean {near[0]} instead of {self.shown(before)}?"
        return ""

    def reserved_hint(self, token: Token) -> str:
        quote = self.dialect.quote
        return f"{token.word} is a reserved word; as a name it is written {quote}{token.value}{quote}."

    def refuse(self, form: str, hint: str = "", *, start: int | None = None) -> NoReturn:
        """Raises NotSupported at the token that is next, or from `start` on."""
        place = self.here() if start is None else self.place(start)
        raise NotSupported(f"{form} is not supported", place, hint)

    # -- names, texts, numbers ---------------------------------------------------------------------------------------

    @property
    def at_name(self) -> bool:
        """Whether what comes next can be a name."""
        kind = self.token.kind
        return kind is TokenKind.NAME or (kind is TokenKind.WORD and self.token.word not in self.dialect.reserved)

    def identifier(self, what: str = "a name") -> str:
        token = self.token
        if token.kind is not TokenKind.NAME and (
            token.kind is not TokenKind.WORD or token.word in self.dialect.reserved
        ):
            if token.kind is TokenKind.WORD:
                self.fail(what, hint=self.reserved_hint(token))
            self.fail(what)
        self.advance()
        return token.value

    def name(self, what: str = "a name") -> tree.Name:
        """`a.b.c`."""
        start = self.token.start
        parts = [self.identifier(what)]
        while self.accept("."):
            parts.append(self.identifier())
        return tree.Name(tuple(parts), place=self.place(start))

    def identifiers(self) -> tuple[str, ...]:
        """`(a, b)`."""
        return self.in_brackets(self.identifier)

    def text_value(self, what: str = "a text in ''") -> str:
        """A text; several in a row are one, as in the standard."""
        if not self.at_kind(TokenKind.TEXT):
            self.fail(what)
        parts: list[str] = []
        first = self.token
        raw: list[Token] = []
        while self.at_kind(TokenKind.TEXT):
            raw.append(self.advance())
        escape = "\\"
        if first.word == "U&" and self.token.word == "UESCAPE":
            self.advance()
            if not self.at_kind(TokenKind.TEXT) or len(self.token.value) != 1:
                self.fail("one character in ''")
            escape = self.advance().value
        for token in raw:
            is_unicode = token.word == "U&"
            parts.append(unicode_text(token.value, escape, self.place(token.start)) if is_unicode else token.value)
        return "".join(parts)

    def count(self, what: str = "a whole number") -> int:
        token = self.token
        # More digits than any count has; Python itself refuses thousands of them.
        if token.kind is not TokenKind.NUMBER or not token.value.isdecimal() or len(token.value) > 18:
            self.fail(what)
        self.advance()
        return int(token.value)

    def options(self) -> tuple[tuple[str, str], ...]:
        """`('key' = 'value', ..)`; may be empty."""
        self.expect("(")
        if self.accept(")"):
            return ()
        items = self.list_of(self._option)
        self.expect(")")
        return items

    def _option(self) -> tuple[str, str]:
        key = self.text_value("a key in ''")
        self.expect("=")
        return key, self.text_value("a value in ''")

    # -- what other parts of the parser define -----------------------------------------------------------------------

    def expression(self, minimum: int = 0) -> tree.Expression:
        raise NotImplementedError

    def query(self, first: tree.Query | None = None) -> tree.Query:
        raise NotImplementedError
