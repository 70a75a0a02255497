"""Text to tree. What is wrong with a text is an SqlError that says where; nothing else is raised.

The grammar is that of Flink 2.3, as its own parser takes it; forms outside the subset are refused by name. Parts, from
the bottom: `tokens`, `parser_base`, `parser_types`, `parser_expressions`, `parser_queries`, `parser_statements`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

from streamkit_sql.errors import SyntaxProblem
from streamkit_sql.language import tree
from streamkit_sql.language.parser_statements import StatementParser
from streamkit_sql.language.tokens import FLINK, Dialect, TokenKind
from streamkit_sql.limits import TREE_DEPTH_MAX
from streamkit_sql.types import SqlType

T = TypeVar("T")


def parse_script(text: str, dialect: Dialect = FLINK) -> list[tree.Statement]:
    """The statements of a script, which stand between semicolons. An empty script has none."""
    return [statement for statement, _ in statements_with_text(text, dialect)]


def statements_with_text(text: str, dialect: Dialect = FLINK) -> list[tuple[tree.Statement, str]]:
    """The statements, each with its own text, without the semicolon behind it and the comments in front."""
    parser = _parser(text, dialect)
    statements: list[tuple[tree.Statement, str]] = []
    while not parser.at_kind(TokenKind.END):
        if parser.accept(";"):
            continue
        start = parser.token.start
        statement = _guarded(parser, parser.statement)
        statements.append((statement, text[start : parser.tokens[parser.index - 1].stop]))
        if not parser.at(";") and not parser.at_kind(TokenKind.END):
            parser.fail(";", "the end")
    return statements


def parse_query(text: str, dialect: Dialect = FLINK) -> tree.Query:
    """One query; a semicolon may stand behind it."""
    return _only(text, dialect, lambda parser: parser.query())


def parse_expression(text: str, dialect: Dialect = FLINK) -> tree.Expression:
    return _only(text, dialect, lambda parser: parser.expression())


def parse_type(text: str, dialect: Dialect = FLINK) -> SqlType:
    """A data type, such as in a schema or behind RETURNING; it may be NOT NULL."""
    return _only(text, dialect, lambda parser: parser.data_type(is_column=not parser.at("INTERVAL")))


def _only(text: str, dialect: Dialect, rule: Callable[[StatementParser], T]) -> T:
    parser = _parser(text, dialect)
    found = _guarded(parser, lambda: rule(parser))
    parser.accept(";")
    if parser.token.kind is not TokenKind.END:
        parser.fail("the end")
    return found


def _parser(text: str, dialect: Dialect) -> StatementParser:
    return StatementParser(text, dialect)


def _guarded(parser: StatementParser, rule: Callable[[], T]) -> T:
    """What the rule gives, if it is not deeper than TREE_DEPTH_MAX: binding, planning and printing recurse over trees,
    so a text must not be able to make one that they cannot walk."""
    parser.depth = parser.deepest = parser.links = 0
    start = parser.token
    try:
        found = rule()
    except RecursionError:
        # The caller's stack was nearly full; the bound on brackets is made for an empty one.
        raise SyntaxProblem("the statement nests too deeply", parser.here()) from None
    # Most statements cannot be that high, and need not be walked.
    may_be_high = parser.links + parser.deepest > TREE_DEPTH_MAX // 2
    if may_be_high and isinstance(found, tree.Node) and height_of(found) > TREE_DEPTH_MAX:
        raise SyntaxProblem(
            f"more than {TREE_DEPTH_MAX} operators or queries in one another",
            parser.lines.place(start.start, start.stop),
            "Use a view for a part of it.",
        )
    return found


def height_of(node: tree.Node) -> int:
    """How many nodes are in one another, counted without recursion."""
    highest = 0
    todo: list[tuple[object, int]] = [(node, 1)]
    while todo:
        item, height = todo.pop()
        if isinstance(item, tuple):
            todo.extend((part, height) for part in item)
        elif isinstance(item, tree.Node):
            highest = max(highest, height)
            todo.extend((getattr(item, field.name), height + 1) for field in fields(item) if field.name != "place")
    return highest
