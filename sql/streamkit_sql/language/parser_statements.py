"""Statements of a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from streamkit_sql.errors import SyntaxProblem
from streamkit_sql.language import tree, words
from streamkit_sql.language.parser_queries import QueryParser
from streamkit_sql.language.tokens import TokenKind

Column = tree.PhysicalColumn | tree.ComputedColumn | tree.MetadataColumn

_REFUSED: Final = {
    "ALTER": "Change the CREATE statement and run the script anew.",
    "USE": "There is one catalog with one database; names have one part.",
    "DELETE": "Tables are streams; write a query that leaves rows out.",
    "UPDATE": "Tables are streams; write a query that computes the new values.",
    "MERGE": "Tables are streams; write a query.",
    "TRUNCATE": "Tables are streams.",
    "LOAD": "There are no modules.",
    "UNLOAD": "There are no modules.",
    "ANALYZE": "",
    "CALL": "",
    "ADD": "Functions are Python: CREATE FUNCTION f AS 'module.name' LANGUAGE PYTHON.",
    "REMOVE": "Functions are Python: CREATE FUNCTION f AS 'module.name' LANGUAGE PYTHON.",
    "STOP": "A query is stopped where it was started.",
    "COMPILE": "Write EXPLAIN.",
    "UPSERT": "Write INSERT INTO; a table with a PRIMARY KEY is upserted.",
}
_LIKE_PARTS: Final = (
    "ALL",
    "CONSTRAINTS",
    "DISTRIBUTION",
    "GENERATED",
    "METADATA",
    "OPTIONS",
    "PARTITIONS",
    "WATERMARKS",
)
_LIKE_HOW: Final = ("INCLUDING", "EXCLUDING", "OVERWRITING")


class StatementParser(QueryParser):
    def statement(self) -> tree.Statement:
        """One statement, up to its `;` or the end."""
        token = self.token
        rule = _STATEMENTS.get(token.word)
        if rule is not None:
            return rule(self)
        if token.word in _REFUSED:
            self.refuse(token.word, _REFUSED[token.word])
        if token.word == "FROM":
            self.fail("SELECT", hint="A query begins with SELECT.")
        return self.fail("a statement", hint=self._hint(words.STATEMENTS))

    def _query_statement(self) -> tree.Statement:
        start = self.token.start
        return tree.QueryStatement(self.query(), place=self.place(start))

    # -- CREATE ------------------------------------------------------------------------------------------------------

    def _create(self) -> tree.Statement:
        start = self.token.start
        self.expect("CREATE")
        if self.at("OR"):
            self.refuse("CREATE OR REPLACE", "Write DROP .. IF EXISTS before CREATE.")
        temporary = self.accept("TEMPORARY")
        system = temporary and self.accept("SYSTEM")
        if system:
            if not self.at("FUNCTION"):
                self.fail("FUNCTION")
        elif self.token.word in ("CATALOG", "DATABASE"):
            self.refuse(f"CREATE {self.token.word}", "There is one catalog with one database.")
        elif self.token.word in ("MATERIALIZED", "MODEL", "CONNECTION"):
            self.refuse(f"CREATE {self.token.word}")
        if self.accept("TABLE"):
            return self._create_table(start, temporary=temporary)
        if self.accept("VIEW"):
            return self._create_view(start, temporary=temporary)
        if self.accept("FUNCTION"):
            return self._create_function(start, temporary=temporary, system=system)
        return self.fail("TABLE", "VIEW", "FUNCTION")

    def _if_not_exists(self) -> bool:
        return self.accept("IF", "NOT", "EXISTS")

    def _comment(self) -> str:
        return self.text_value() if self.accept("COMMENT") else ""

    def _create_table(self, start: int, *, temporary: bool) -> tree.CreateTable:
        if_not_exists = self._if_not_exists()
        name = self.name("a table's name")
        elements = _TableElements()
        if self.accept("("):
            self.list_of(lambda: self._table_element(elements))
            self.expect(")")
        comment = self._comment()
        if self.at("DISTRIBUTED"):
            self.refuse("DISTRIBUTED BY", "Records are distributed by the stream's partition key.")
        partitioned_by = self.identifiers() if self.phrase("PARTITIONED", "BY") else ()
        options = self.options() if self.accept("WITH") else ()
        like: tree.Name | None = None
        like_options: tuple[tuple[str, str], ...] = ()
        query: tree.Query | None = None
        if self.accept("LIKE"):
            like = self.name("a table's name")
            like_options = self._like_options()
        elif self.accept("AS"):
            query = self.query()
        return tree.CreateTable(
            name,
            tuple(elements.columns),
            options,
            elements.watermark,
            elements.primary_key,
            partitioned_by,
            like,
            like_options,
            query,
            if_not_exists,
            temporary,
            comment,
            place=self.place(start),
        )

    def _like_options(self) -> tuple[tuple[str, str], ...]:
        if not self.accept("("):
            return ()
        options: list[tuple[str, str]] = []
        while not options or not self.at(")"):
            how = self.token.word
            if how not in _LIKE_HOW:
                self.fail(*_LIKE_HOW, hint="They stand without commas." if self.at(",") else "")
            self.advance()
            what = self.token.word
            if what not in _LIKE_PARTS:
                self.fail(*_LIKE_PARTS)
            self.advance()
            options.append((how, what))
        self.expect(")")
        return tuple(options)

    def _table_element(self, elements: _TableElements) -> None:
        start = self.token.start
        word = self.token.word
        if word == "WATERMARK":
            if elements.watermark is not None:
                raise SyntaxProblem("a table has one WATERMARK", self.here())
            elements.watermark = self._watermark()
        elif word in ("PRIMARY", "CONSTRAINT", "UNIQUE", "FOREIGN", "CHECK"):
            if self.accept("CONSTRAINT"):
                self.identifier("a constraint's name")
            self._key(elements, start, None)
        else:
            elements.columns.append(self._column(elements))

    def _watermark(self) -> tree.Watermark:
        start = self.token.start
        self.expect("WATERMARK", "FOR")
        column = self.name("a column").parts
        self.expect("AS")
        return tree.Watermark(column, self.expression(), place=self.place(start))

    def _key(self, elements: _TableElements, start: int, column: str | None) -> None:
        """`PRIMARY KEY [(a, ..)] NOT ENFORCED`, of a column or of a table."""
        if self.at("UNIQUE") or self.at("FOREIGN") or self.at("CHECK"):
            self.refuse(f"{self.token.word} as a constraint", "Flink has PRIMARY KEY .. NOT ENFORCED only.")
        self.expect("PRIMARY", "KEY")
        if elements.primary_key:
            raise SyntaxProblem("a table has one PRIMARY KEY", self.place(start))
        elements.primary_key = self.identifiers() if column is None else (column,)
        if not self.accept("NOT", "ENFORCED"):
            hint = "Flink does not check keys, and says so: PRIMARY KEY .. NOT ENFORCED."
            self.fail("NOT ENFORCED", hint=hint)

    def _column(self, elements: _TableElements) -> Column:
        start = self.token.start
        name = self.identifier("a column's name")
        if self.accept("AS"):
            expression = self.expression()
            return tree.ComputedColumn(name, expression, self._comment(), place=self.place(start))
        if self.token.word in (",", ")"):
            self.refuse("a column without a type", "Columns of CREATE TABLE .. AS are those of its query.")
        if self.at("METADATA"):
            self.fail("a data type", hint="A metadata column has a type in front of METADATA.")
        of = self.data_type(is_column=True)
        if self.accept("METADATA"):
            key = self.text_value("the metadata's key in ''") if self.accept("FROM") else None
            virtual = self.accept("VIRTUAL")
            return tree.MetadataColumn(name, of, key, virtual, self._comment(), place=self.place(start))
        if self.token.word in ("PRIMARY", "CONSTRAINT", "UNIQUE"):
            place = self.token.start
            if self.accept("CONSTRAINT"):
                self.identifier("a constraint's name")
            self._key(elements, place, name)
        comment = self._comment()
        if self.at("PRIMARY"):
            self.fail(",", hint="PRIMARY KEY comes before COMMENT.")
        return tree.PhysicalColumn(name, of, comment, place=self.place(start))

    def _create_view(self, start: int, *, temporary: bool) -> tree.CreateView:
        if_not_exists = self._if_not_exists()
        name = self.name("a view's name")
        columns = self.identifiers() if self.at("(") else ()
        comment = self._comment()
        self.expect("AS")
        query = self.query()
        return tree.CreateView(name, query, columns, if_not_exists, temporary, comment, place=self.place(start))

    def _create_function(self, start: int, *, temporary: bool, system: bool) -> tree.CreateFunction:
        if_not_exists = self._if_not_exists()
        name = self.name("a function's name")
        self.expect("AS")
        target = self.text_value("'module.name'")
        language = "JAVA"
        if self.accept("LANGUAGE"):
            language = self.token.word
            if language not in ("PYTHON", "JAVA", "SCALA", "SQL"):
                self.fail("PYTHON")
            self.advance()
        if self.token.word in ("USING", "WITH"):
            self.refuse(f"CREATE FUNCTION .. {self.token.word}", "Functions are Python modules that can be imported.")
        return tree.CreateFunction(name, target, language, if_not_exists, temporary, system, place=self.place(start))

    def _drop(self) -> tree.Statement:
        start = self.token.start
        self.expect("DROP")
        if self.accept("TEMPORARY"):
            self.accept("SYSTEM")
        what = self.token.word
        if what not in ("TABLE", "VIEW", "FUNCTION"):
            if what in ("CATALOG", "DATABASE", "MATERIALIZED", "MODEL", "CONNECTION"):
                self.refuse(f"DROP {what}")
            self.fail("TABLE", "VIEW", "FUNCTION")
        self.advance()
        if_exists = self.accept("IF", "EXISTS")
        name = self.name()
        return tree.Drop(what, name, if_exists, place=self.place(start))  # type: ignore[arg-type]

    # -- INSERT ------------------------------------------------------------------------------------------------------

    def _insert(self) -> tree.Statement:
        return self._one_insert()

    def _one_insert(self) -> tree.Insert:
        start = self.token.start
        self.expect("INSERT")
        overwrite = self.accept("OVERWRITE")
        if not overwrite and not self.accept("INTO"):
            self.fail("INTO", "OVERWRITE")
        target = self.name("a table's name")
        if self.at("/*+"):
            self.refuse("a hint of the table of an INSERT", "Give the options in CREATE TABLE.")
        partition: tuple[tuple[str, tree.Expression], ...] = ()
        if self.accept("PARTITION"):
            partition = self.in_brackets(self._partition_value)
        columns: tuple[str, ...] = ()
        if self.at("(") and self.ahead().word not in ("SELECT", "WITH", "VALUES", "TABLE", "("):
            columns = self.identifiers()
        query = self.query()
        if self.at("ON"):
            self.refuse("ON CONFLICT")
        return tree.Insert(target, query, columns, overwrite, partition, place=self.place(start))

    def _partition_value(self) -> tuple[str, tree.Expression]:
        name = self.identifier("a column's name")
        self.expect("=")
        value = self.expression()
        if not isinstance(value, tree.Literal_ | tree.TimeLiteral | tree.BytesLiteral | tree.IntervalLiteral):
            self.fail("a literal", hint="A partition is given by literals.")
        return name, value

    def _execute(self) -> tree.Statement:
        start = self.token.start
        self.expect("EXECUTE")
        if self.at("PLAN"):
            self.refuse("EXECUTE PLAN", "Run the script.")
        if self.at("STATEMENT"):
            return self._statement_set(start)
        if self.at("INSERT"):
            return self._insert()
        return self._query_statement()

    def _statement_set(self, start: int) -> tree.StatementSet:
        """`STATEMENT SET BEGIN insert; .. END`."""
        self.expect("STATEMENT", "SET", "BEGIN")
        inserts = [self._one_insert()]
        self.expect(";")
        while not self.accept("END"):
            if not self.at("INSERT"):
                self.fail("INSERT", "END")
            inserts.append(self._one_insert())
            self.expect(";")
        return tree.StatementSet(tuple(inserts), place=self.place(start))

    def _begin(self) -> tree.Statement:
        """`BEGIN STATEMENT SET; insert; ..; END`."""
        start = self.token.start
        self.expect("BEGIN", "STATEMENT", "SET")
        self.expect(";")
        inserts: list[tree.Insert] = []
        while not self.accept("END"):
            if not self.at("INSERT"):
                self.fail("INSERT", "END", hint="A statement set has INSERTs only.")
            inserts.append(self._one_insert())
            self.expect(";")
            while self.accept(";"):
                pass
        if not inserts:
            raise SyntaxProblem("a statement set without an INSERT", self.place(start))
        return tree.StatementSet(tuple(inserts), place=self.place(start))

    # -- the session -------------------------------------------------------------------------------------------------

    def _set(self) -> tree.Statement:
        start = self.token.start
        self.expect("SET")
        if self.token.kind is TokenKind.END or self.at(";"):
            return tree.SetOption(None, None, place=self.place(start))
        key, value = self._set_pair()
        return tree.SetOption(key, value, place=self.place(start))

    def _set_pair(self) -> tuple[str, str]:
        if self.token.kind is not TokenKind.TEXT:
            self.fail("a key in ''", hint="Write SET 'key' = 'value'.")
        key = self.text_value()
        self.expect("=")
        if self.token.kind is not TokenKind.TEXT:
            self.fail("a value in ''", hint="Write SET 'key' = 'value'.")
        return key, self.text_value()

    def _reset(self) -> tree.Statement:
        start = self.token.start
        self.expect("RESET")
        if self.token.kind is TokenKind.END or self.at(";"):
            return tree.SetOption("", None, place=self.place(start))
        key = self.text_value("a key in ''")
        if not key:
            raise SyntaxProblem("an option's name is empty", self.place(start))
        return tree.SetOption(key, None, place=self.place(start))

    def _show(self) -> tree.Statement:
        start = self.token.start
        self.expect("SHOW")
        word = self.token.word
        if word == "CREATE":
            self.advance()
            what = self.token.word
            if what not in ("TABLE", "VIEW"):
                self.refuse(f"SHOW CREATE {what}", "There are SHOW CREATE TABLE and SHOW CREATE VIEW.")
            self.advance()
            name = self.name()
            shown: Literal["CREATE TABLE", "CREATE VIEW"] = "CREATE TABLE" if what == "TABLE" else "CREATE VIEW"
            return tree.Show(shown, name, place=self.place(start))
        if word == "USER" and self.accept("USER", "FUNCTIONS"):
            return tree.Show("USER FUNCTIONS", place=self.place(start))
        if word not in ("TABLES", "VIEWS", "FUNCTIONS"):
            if self.token.kind is TokenKind.WORD and word in words.SHOWN_ELSEWHERE:
                self.refuse(f"SHOW {word}", "There are SHOW TABLES, VIEWS, FUNCTIONS and CREATE TABLE.")
            self.fail("TABLES", "VIEWS", "FUNCTIONS", "CREATE TABLE")
        self.advance()
        if self.token.word in ("FROM", "IN", "LIKE", "NOT"):
            self.refuse(f"SHOW {word} {self.token.word}", f"Write SHOW {word}.")
        return tree.Show(word, place=self.place(start))  # type: ignore[arg-type]

    def _describe(self) -> tree.Statement:
        start = self.token.start
        self.advance()
        if self.token.word in ("SELECT", "WITH", "VALUES", "INSERT"):
            self.refuse("DESCRIBE of a statement", "Write EXPLAIN.")
        if self.at("EXTENDED") or (
            self.token.word in ("CATALOG", "DATABASE", "FUNCTION", "JOB", "MODEL")
            and self.ahead().kind not in (TokenKind.END, TokenKind.SYMBOL)
        ):
            self.refuse(f"DESCRIBE {self.token.word}", "Write DESCRIBE and a table's name.")
        return tree.Describe(self.name("a table's name"), place=self.place(start))

    def _explain(self) -> tree.Statement:
        start = self.token.start
        self.expect("EXPLAIN")
        if self.accept("PLAN"):
            self.expect("FOR")
        elif self.token.word in ("ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"):
            self.refuse(f"EXPLAIN {self.token.word}", "Write EXPLAIN and the statement.")
        word = self.token.word
        if word == "STATEMENT":
            statement: tree.Statement = self._statement_set(self.token.start)
        elif word == "EXECUTE":
            statement = self._execute()
        elif word == "INSERT":
            statement = self._insert()
        elif word in _QUERIES:
            statement = self._query_statement()
        elif word in _STATEMENTS:
            self.refuse(f"EXPLAIN {word}", "Explain the query.")
        else:
            self.fail("SELECT", "INSERT", "EXECUTE STATEMENT SET")
        return tree.Explain(statement, place=self.place(start))


class _TableElements:
    """What the brackets of a CREATE TABLE have given so far."""

    __slots__ = ("columns", "primary_key", "watermark")

    def __init__(self) -> None:
        self.columns: list[Column] = []
        self.watermark: tree.Watermark | None = None
        self.primary_key: tuple[str, ...] = ()


_QUERIES: Final = ("SELECT", "WITH", "VALUES", "TABLE", "(")
_STATEMENTS: Final[dict[str, Callable[[StatementParser], tree.Statement]]] = {
    **dict.fromkeys(_QUERIES, StatementParser._query_statement),
    "CREATE": StatementParser._create,
    "DROP": StatementParser._drop,
    "INSERT": StatementParser._insert,
    "EXECUTE": StatementParser._execute,
    "BEGIN": StatementParser._begin,
    "SET": StatementParser._set,
    "RESET": StatementParser._reset,
    "SHOW": StatementParser._show,
    "DESCRIBE": StatementParser._describe,
    "DESC": StatementParser._describe,
    "EXPLAIN": StatementParser._explain,
}
