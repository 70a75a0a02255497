"""The language of SQL-1_0: text to tree.

It is Calcite's, as Flink's is, so that most of the parser is Flink's. What differs: names without quotes are folded to
capitals and quotes are `"`; CREATE STREAM and CREATE PUMP; SELECT STREAM; STEP(x BY y); CURSOR(query); a window behind
a table (`t OVER w`); a TIMESTAMP has milliseconds where it says nothing. Rules: the SQL Reference ("Statements",
"SELECT statement", "JOIN clause", "STEP").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from streamkit_sql.errors import SyntaxProblem
from streamkit_sql.language import tree, words
from streamkit_sql.language.parser import height_of
from streamkit_sql.language.parser_statements import StatementParser
from streamkit_sql.language.tokens import Dialect, TokenKind
from streamkit_sql.limits import INTERVAL_DIGITS_MAX, TREE_DEPTH_MAX
from streamkit_sql.types import SqlType

_FLINKS_OWN: Final = frozenset(["BYTES", "STRING", "VARIANT", "BITMAP", "QUARTERS", "WEEKS"])
KDA: Final = Dialect(
    "SQL-1_0", quote='"', reserved=words.RESERVED - _FLINKS_OWN | {"WINDOWED"}, bang_equal=True, folds_names=True
)
MILLISECONDS: Final = 3
"""Digits of a TIMESTAMP that says nothing."""


@dataclass(frozen=True, slots=True)
class CreateStream(tree.Node):
    name: tree.Name
    columns: tuple[tree.PhysicalColumn, ...]
    or_replace: bool = False


@dataclass(frozen=True, slots=True)
class CreatePump(tree.Node):
    name: tree.Name
    insert: tree.Insert
    or_replace: bool = False


@dataclass(frozen=True, slots=True)
class WindowedTable(tree.TableName):
    """`t OVER (RANGE INTERVAL '1' MINUTE PRECEDING) AS x`, `t OVER w`."""

    over: tree.WindowSpec | tree.Name | None = None


Statement: TypeAlias = CreateStream | CreatePump | tree.QueryStatement


def parse(text: str) -> list[Statement]:
    """The statements of a script. Raises SqlError with the place of what is wrong."""
    parser = LegacyParser(text, KDA)
    found: list[Statement] = []
    while not parser.at_kind(TokenKind.END):
        if parser.accept(";"):
            continue
        parser.depth = parser.deepest = parser.links = 0
        start = parser.token.start
        try:
            statement = parser.legacy_statement()
        except RecursionError:
            raise SyntaxProblem("the statement nests too deeply", parser.here()) from None
        if statement is not None:
            if height_of(statement) > TREE_DEPTH_MAX:
                raise SyntaxProblem(
                    f"more than {TREE_DEPTH_MAX} operators or queries in one another", parser.place(start)
                )
            found.append(statement)
        if not parser.at(";") and not parser.at_kind(TokenKind.END):
            parser.fail(";", "the end")
    return found


def parse_type(text: str) -> SqlType:
    """A column's type in an input's schema."""
    parser = LegacyParser(text, KDA)
    of = parser.data_type(is_column=True)
    if not parser.at_kind(TokenKind.END):
        parser.fail("the end")
    return of


class LegacyParser(StatementParser):
    def legacy_statement(self) -> Statement | None:
        """One statement; None for those that say what is so anyway."""
        start = self.token.start
        word = self.token.word
        if word == "CREATE":
            return self._create_legacy()
        if word in ("SELECT", "(", "WITH", "VALUES"):
            return tree.QueryStatement(self.query(), place=self.place(start))
        if word == "ALTER" and self.ahead().word == "PUMP":
            self._alter_pump()
            return None
        if word == "INSERT":
            self.refuse("an INSERT outside of a pump", "Write CREATE PUMP name AS INSERT INTO ..")
        if word in ("DROP", "ALTER", "SET"):
            self.refuse(word, "Change the CREATE statement and run the script anew.")
        return self.fail("CREATE STREAM", "CREATE PUMP", hint=self._hint(("CREATE",)))

    # -- statements --------------------------------------------------------------------------------------------------

    def _create_legacy(self) -> Statement:
        start = self.token.start
        self.expect("CREATE")
        or_replace = self.accept("OR", "REPLACE")
        if self.accept("STREAM"):
            return self._create_stream(start, or_replace=or_replace)
        if self.accept("PUMP"):
            return self._create_pump(start, or_replace=or_replace)
        if self.token.word in ("FUNCTION", "VIEW", "SCHEMA", "FOREIGN", "TABLE"):
            self.refuse(f"CREATE {self.token.word}")
        return self.fail("STREAM", "PUMP")

    def _create_stream(self, start: int, *, or_replace: bool) -> CreateStream:
        name = self.name("a stream's name")
        if not self.at("("):
            self.fail("(", hint="A stream has columns.")
        columns = self.in_brackets(self._stream_column)
        self._description()
        return CreateStream(name, columns, or_replace, place=self.place(start))

    def _stream_column(self) -> tree.PhysicalColumn:
        start = self.token.start
        name = self.identifier("a column's name")
        of = self.data_type(is_column=True)
        return tree.PhysicalColumn(name, of, place=self.place(start))

    def _create_pump(self, start: int, *, or_replace: bool) -> CreatePump:
        name = self.name("a pump's name")
        if self.token.word == "STOPPED":
            self.refuse("a pump that is STOPPED", "Leave the pump out.")
        self.accept("STARTED")
        self._description()
        self.expect("AS")
        insert = self._one_insert()
        return CreatePump(name, insert, or_replace, place=self.place(start))

    def _description(self) -> None:
        if self.accept("DESCRIPTION"):
            self.text_value()

    def _alter_pump(self) -> None:
        """START says what is so: all pumps run."""
        self.expect("ALTER", "PUMP")
        self.name("a pump's name")
        if not self.accept("START"):
            self.refuse("ALTER PUMP", "All pumps run; leave out those that shall not.")

    # -- queries -----------------------------------------------------------------------------------------------------

    def _select(self) -> tree.Select:
        self.enter()
        start = self.token.start
        self.expect("SELECT")
        self.accept("STREAM")
        distinct = self.accept("DISTINCT")
        if not distinct:
            self.accept("ALL")
        items = self.list_of(self._select_item)
        self.expect("FROM")
        source = self._from()
        where = self.expression() if self.accept("WHERE") else None
        if self.at("WINDOWED"):
            self._refuse_stagger()
        group_by = self._group_by() if self.phrase("GROUP", "BY") else None
        having = self.expression() if self.accept("HAVING") else None
        windows = self.list_of(self._window) if self.accept("WINDOW") else ()
        self.leave()
        return tree.Select(items, source, where, group_by, having, None, distinct, windows, place=self.place(start))

    def _refuse_stagger(self) -> None:
        hint = (
            "Such a window opens with a key's first row and closes by its age; no window of Flink's does. Nearest are "
            "SESSION, which closes by a gap, and TUMBLE over the event time with a watermark, which loses no row that "
            "is in time."
        )
        self.refuse("WINDOWED BY STAGGER", hint)

    def _named_table(self, name: tree.Name, start: int) -> tree.FromItem:
        over: tree.WindowSpec | tree.Name | None = None
        if self.accept("OVER"):
            over = self.window_spec() if self.at("(") else self.name("a window's name")
        if self.at("FOR"):
            self.refuse("FOR SYSTEM_TIME")
        alias, columns = self._alias()
        return WindowedTable(name, alias, columns, over=over, place=self.place(start))

    def _argument_value(self) -> tree.Argument:
        start = self.token.start
        if not self.accept("CURSOR"):
            return super()._argument_value()
        self.expect("(")
        query = self.query()
        self.expect(")")
        return tree.TableArgument(query, place=self.place(start))

    # -- expressions -------------------------------------------------------------------------------------------------

    def _call(self, name: str, start: int, words: tuple[str, ...] = ()) -> tree.Expression:
        if name != "STEP":
            return super()._call(name, start, words)
        self.expect("(")
        operand = self.expression()
        self.expect("BY")
        step = self.expression()
        self.expect(")")
        return tree.Call(name, (operand, step), place=self.place(start))

    def _unit_precision(self, unit: str) -> int:
        """Taken for all that an interval can have: which digits the original checked is not known."""
        if self.accept("("):
            self.count()
            if unit == "SECOND" and self.accept(","):
                self.count()
            self.expect(")")
        return INTERVAL_DIGITS_MAX

    def _time(self, word: str, start: int) -> SqlType:
        is_said = self.at("(")
        of = super()._time(word, start)
        return of if is_said or word != "TIMESTAMP" else SqlType(of.kind, precision=MILLISECONDS)
