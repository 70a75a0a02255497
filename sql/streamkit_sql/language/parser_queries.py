"""Queries, and the tables in FROM."""

from __future__ import annotations

from typing import Final, Literal

from streamkit_sql.language import tree
from streamkit_sql.language.parser_expressions import QUERY_GOES_ON, QUERY_WORDS, ExpressionParser
from streamkit_sql.language.tokens import TokenKind

_JOINS: Final = frozenset(("JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL"))
_QUERY_TYPES: Final = (tree.Select, tree.SetOperation, tree.Values, tree.Ordered, tree.With)
_ATTACHED: Final = frozenset(("TABLESAMPLE", "PIVOT", "UNPIVOT", "EXTEND", "PARTITION"))


class QueryParser(ExpressionParser):
    def query(self, first: tree.Query | None = None) -> tree.Query:
        """A query with all that can stand behind it. `first`: its first operand, in brackets, has been read already."""
        self.enter()
        start = self.token.start if first is None else first.place.start
        if first is None and self.at("WITH"):
            views = self._with_views()
            body: tree.Query = tree.With(views, self._set_operations(None), place=self.place(start))
        else:
            body = self._set_operations(first)
        body = self._ordered(body, start)
        self.leave()
        return body

    def _with_views(self) -> tuple[tuple[str, tuple[str, ...], tree.Query], ...]:
        self.expect("WITH")
        if self.at("RECURSIVE"):
            self.refuse("WITH RECURSIVE")
        return self.list_of(self._with_view)

    def _with_view(self) -> tuple[str, tuple[str, ...], tree.Query]:
        name = self.identifier()
        columns = self.identifiers() if self.at("(") else ()
        self.expect("AS", "(")
        query = self.query()
        self.expect(")")
        return name, columns, query

    def _ordered(self, query: tree.Query, start: int) -> tree.Query:
        order = self.order_by() if self.at("ORDER") else ()
        limit: tree.Expression | None = None
        offset: tree.Expression | None = None
        has_limit = False
        if self.accept("LIMIT"):
            has_limit = True
            limit = None if self.accept("ALL") else self._row_count()
            if self.at(","):
                self.fail("OFFSET", hint="Write LIMIT count OFFSET start.")
        if self.accept("OFFSET"):
            offset = self._row_count()
            if not self.accept("ROWS"):
                self.accept("ROW")
            if self.at("LIMIT"):
                self.fail("FETCH", hint="LIMIT comes before OFFSET.")
        if not has_limit and self.accept("FETCH"):
            if not self.accept("FIRST") and not self.accept("NEXT"):
                self.fail("FIRST", "NEXT")
            limit = self._row_count()
            if not self.accept("ROWS") and not self.accept("ROW"):
                self.fail("ROWS")
            if self.at("WITH"):
                self.refuse("FETCH .. WITH TIES", "Write RANK() in a query of its own, and a WHERE over it.")
            self.expect("ONLY")
        if not order and limit is None and offset is None:
            return query
        return tree.Ordered(query, order, limit, offset, place=self.place(start))

    def _row_count(self) -> tree.Expression:
        start = self.token.start
        if self.at("?"):
            self.refuse("a parameter (?)", "Write the number.")
        return tree.Literal_(self.count("a number of rows"), place=self.place(start))

    # -- set operations ----------------------------------------------------------------------------------------------

    def _set_operations(self, first: tree.Query | None) -> tree.Query:
        start = self.token.start if first is None else first.place.start
        left = self._intersections(first)
        while self.token.word in ("UNION", "EXCEPT", "MINUS"):
            if self.at("MINUS"):
                self.fail("EXCEPT", hint="Flink has EXCEPT, not MINUS.")
            kind: Literal["UNION", "EXCEPT"] = "UNION" if self.advance().word == "UNION" else "EXCEPT"
            is_all = self._is_all()
            right = self._intersections(None)
            left = tree.SetOperation(kind, is_all, left, right, place=self.place(start))
            self.links += 1
        return left

    def _intersections(self, first: tree.Query | None) -> tree.Query:
        start = self.token.start if first is None else first.place.start
        left = first if first is not None else self._query_operand()
        while self.accept("INTERSECT"):
            is_all = self._is_all()
            left = tree.SetOperation("INTERSECT", is_all, left, self._query_operand(), place=self.place(start))
            self.links += 1
        return left

    def _is_all(self) -> bool:
        if self.accept("ALL"):
            return True
        self.accept("DISTINCT")
        return False

    def _query_operand(self) -> tree.Query:
        start = self.token.start
        if self.at("SELECT"):
            return self._select()
        if self.accept("VALUES"):
            return tree.Values(self.list_of(self._values_row), place=self.place(start))
        if self.at("TABLE"):
            self.advance()
            name = self.name("a table's name")
            source = tree.TableName(name, place=name.place)
            item = tree.SelectItem(tree.Star(place=name.place), place=name.place)
            return tree.Select((item,), source, place=self.place(start))
        if self.accept("("):
            query = self.query()
            self.expect(")")
            return query
        if self.at("WITH"):
            self.fail("SELECT", hint="Put the query with WITH in brackets.")
        return self.fail("SELECT", "VALUES", "WITH", "(")

    def _values_row(self) -> tuple[tree.Expression, ...]:
        value = self.expression()
        return value.values if isinstance(value, tree.RowValue) else (value,)

    # -- SELECT ------------------------------------------------------------------------------------------------------

    def _select(self) -> tree.Select:
        self.enter()
        start = self.token.start
        self.expect("SELECT")
        hints = self._hints()
        if self.at("STREAM"):
            self.refuse("SELECT STREAM", "Leave STREAM out: a query over a stream is one.")
        distinct = self.accept("DISTINCT")
        if not distinct:
            self.accept("ALL")
        items = self.list_of(self._select_item)
        source = where = having = qualify = None
        group_by: tuple[tree.GroupingElement, ...] | None = None
        windows: tuple[tuple[str, tree.WindowSpec], ...] = ()
        if self.accept("FROM"):
            source = self._from()
            where = self.expression() if self.accept("WHERE") else None
            group_by = self._group_by() if self.phrase("GROUP", "BY") else None
            having = self.expression() if self.accept("HAVING") else None
            windows = self.list_of(self._window) if self.accept("WINDOW") else ()
            qualify = self.expression() if self.accept("QUALIFY") else None
        elif self.token.word in ("WHERE", "GROUP", "HAVING"):
            self.fail("FROM", hint=f"{self.token.word} needs a FROM.")
        self.leave()
        return tree.Select(
            items, source, where, group_by, having, qualify, distinct, windows, hints, place=self.place(start)
        )

    def _select_item(self) -> tree.SelectItem:
        start = self.token.start
        star = self._star()
        if star is not None:
            return tree.SelectItem(star, place=star.place)
        expression = self.expression()
        alias: str | None = None
        if self.accept("AS"):
            alias = self.identifier("an alias")
        elif self.at_name:
            alias = self.identifier()
        return tree.SelectItem(expression, alias, place=self.place(start))

    def _star(self) -> tree.Star | None:
        """`*` and `a.b.*`."""
        start = self.token.start
        if self.accept("*"):
            return tree.Star(place=self.place(start))
        if not self.at_name:
            return None
        count = 1
        while self.ahead(count).word == "." and self.ahead(count + 1).word != "*":
            count += 2
        if self.ahead(count).word != ".":
            return None
        parts = [self.identifier()]
        while self.accept(".") and not self.at("*"):
            parts.append(self.identifier())
        self.expect("*")
        return tree.Star(tuple(parts), place=self.place(start))

    def _window(self) -> tuple[str, tree.WindowSpec]:
        name = self.identifier("a window's name")
        self.expect("AS")
        return name, self.window_spec()

    def _group_by(self) -> tuple[tree.GroupingElement, ...]:
        if self.at("DISTINCT"):
            self.refuse("GROUP BY DISTINCT")
        self.accept("ALL")
        return self.list_of(self._grouping_element)

    def _grouping_element(self) -> tree.GroupingElement:
        start = self.token.start
        if self.accept("GROUPING", "SETS"):
            sets = self.in_brackets(self._grouping_set)
            return tree.GroupingElement("GROUPING SETS", sets=sets, place=self.place(start))
        if self.token.word in ("ROLLUP", "CUBE"):
            kind: Literal["ROLLUP", "CUBE"] = "ROLLUP" if self.advance().word == "ROLLUP" else "CUBE"
            sets = self.in_brackets(self._grouping_part)
            return tree.GroupingElement(kind, sets=sets, place=self.place(start))
        return tree.GroupingElement("PLAIN", self._grouping_set(), place=self.place(start))

    def _grouping_set(self) -> tuple[tree.Expression, ...]:
        """`a`, `(a, b)`, `()`."""
        if self.at("(", ")"):
            self.expect("(", ")")
            return ()
        if self.token.word in ("ROLLUP", "CUBE") or self.at("GROUPING", "SETS"):
            self.refuse(f"{self.token.word} inside GROUPING SETS", "Write the sets out.")
        return self._grouping_part()

    def _grouping_part(self) -> tuple[tree.Expression, ...]:
        if self.token.word == "ROW":
            return (self.expression(),)
        value = self.expression()
        return value.values if isinstance(value, tree.RowValue) else (value,)

    # -- hints -------------------------------------------------------------------------------------------------------

    def _hints(self) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
        """`/*+ NAME('key' = 'value', ..), .. */`. What is no pair is a key without a value: `BROADCAST(t)`."""
        if not self.accept("/*+"):
            return ()
        hints = self.list_of(self._hint_of)
        self.expect("*/")
        return hints

    def _hint_of(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        name = self.identifier("a hint's name").upper()
        if not self.at("("):
            return name, ()
        return name, self.in_brackets(self._hint_pair)

    def _hint_pair(self) -> tuple[str, str]:
        if self.token.kind is TokenKind.TEXT:
            key = self.text_value()
        elif self.token.kind is TokenKind.NUMBER:
            key = self.advance().value
        else:
            key = self.identifier("a hint's key")
        return key, self.text_value("a value in ''") if self.accept("=") else ""

    # -- FROM --------------------------------------------------------------------------------------------------------

    def _from(self) -> tree.FromItem:
        """Joins and commas, from left to right."""
        start = self.token.start
        left = self._joined(None)
        while self.accept(","):
            right = self._table()
            left = tree.Join("CROSS", left, right, place=self.place(start))
            self.links += 1
            left = self._joined(left)
        return left

    def _joined(self, left: tree.FromItem | None) -> tree.FromItem:
        start = self.token.start if left is None else left.place.start
        if left is None:
            left = self._table()
        while self.token.word in _JOINS:
            natural = self.accept("NATURAL")
            kind = self._join_kind()
            right = self._table()
            condition: tree.Expression | None = None
            using: tuple[str, ...] = ()
            if self.accept("ON"):
                condition = self.expression()
            elif self.accept("USING"):
                using = self.identifiers()
            if (kind == "CROSS" or natural) and (condition is not None or using):
                self.fail("no condition", hint=f"A {'NATURAL' if natural else kind} JOIN has none.")
            if kind != "CROSS" and not natural and condition is None and not using:
                self.fail(
                    "ON", "USING", hint=self._hint(("ON", "USING")) or "A join without a condition is CROSS JOIN."
                )
            left = tree.Join(kind, left, right, condition, using, natural, place=self.place(start))
            self.links += 1
        return left

    def _join_kind(self) -> Literal["INNER", "LEFT", "RIGHT", "FULL", "CROSS"]:
        word = self.token.word
        kind: Literal["INNER", "LEFT", "RIGHT", "FULL", "CROSS"] = "INNER"
        if word in ("LEFT", "RIGHT", "FULL", "INNER", "CROSS"):
            self.advance()
            kind = word  # type: ignore[assignment]
            if word in ("LEFT", "RIGHT", "FULL"):
                self.accept("OUTER")
            if self.token.value.upper() in ("SEMI", "ANTI"):
                self.refuse(f"{word} {self.token.value.upper()} JOIN", "Write WHERE [NOT] EXISTS or [NOT] IN.")
            if self.token.value.upper() == "APPLY":
                self.refuse("CROSS APPLY", "Write CROSS JOIN LATERAL TABLE(..).")
        self.expect("JOIN")
        return kind

    def _table(self) -> tree.FromItem:
        """One operand of a join, with its alias and MATCH_RECOGNIZE."""
        start = self.token.start
        item = self._table_alone(start)
        while self.at("MATCH_RECOGNIZE"):
            item = self._match_recognize(item, start)
            self.links += 1
        if self.token.word in _ATTACHED:
            self.refuse(f"{self.token.word} in FROM")
        return item

    def _table_alone(self, start: int) -> tree.FromItem:
        if self.at("("):
            inner = self._bracketed_table()
            if not isinstance(inner, _QUERY_TYPES):
                if self.at_name or self.at("AS"):
                    self.fail("no alias", hint="A join in brackets has none.")
                return inner
            alias, columns = self._alias()
            return tree.Subquery(inner, alias, columns, place=self.place(start))
        if self.at("TABLE"):
            return self._table_function(start, lateral=False)
        if self.at("UNNEST"):
            return self._unnest(start)
        if self.accept("LATERAL"):
            return self._lateral(start)
        if not self.at_name:
            self.fail("a table", hint=self._table_hint())
        name = self.name("a table's name")
        if self.at("("):
            return self._table_function(start, lateral=False, name=name)
        return self._named_table(name, start)

    def _table_hint(self) -> str:
        if self.token.word in QUERY_WORDS:
            return "Put the query in brackets."
        token = self.token
        return self.reserved_hint(token) if token.kind is TokenKind.WORD else ""

    def _named_table(self, name: tree.Name, start: int) -> tree.FromItem:
        options: list[tuple[str, str]] = []
        if self.at("/*+"):
            for hint, pairs in self._hints():
                if hint != "OPTIONS":
                    self.refuse(f"the hint {hint} of a table", "Tables have OPTIONS(..); others stand behind SELECT.")
                options.extend(pairs)
        as_of: tree.Expression | None = None
        if self.accept("FOR"):
            self.expect("SYSTEM_TIME")
            if self.token.word in ("BETWEEN", "FROM", "CONTAINED"):
                self.refuse(f"FOR SYSTEM_TIME {self.token.word}", "Flink has FOR SYSTEM_TIME AS OF only.")
            self.expect("AS", "OF")
            as_of = self.expression()
        alias, columns = self._alias()
        if self.at("FOR"):
            self.fail("JOIN", hint="FOR SYSTEM_TIME AS OF comes before the alias.")
        if self.at("/*+"):
            self.fail("JOIN", hint="A table's hint comes before its alias.")
        return tree.TableName(name, alias, columns, as_of, tuple(options), place=self.place(start))

    def _alias(self) -> tuple[str | None, tuple[str, ...]]:
        if self.accept("AS"):
            alias = self.identifier("an alias")
        elif self.at_name:
            alias = self.identifier()
        else:
            return None, ()
        return alias, self.identifiers() if self.at("(") else ()

    def _bracketed_table(self) -> tree.Query | tree.FromItem:
        """What is in brackets in FROM: a query or a join. Both can begin with further brackets, so that only what comes
        behind those tells."""
        self.enter()
        start = self.token.start
        self.expect("(")
        if self.token.word in QUERY_WORDS and not (self.at("TABLE", "(")):
            query: tree.Query | tree.FromItem = self.query()
        elif self.at("("):
            query = self._after_brackets(self._bracketed_table(), start)
        else:
            query = self._from_join(None)
        self.expect(")")
        self.leave()
        return query

    def _after_brackets(self, inner: tree.Query | tree.FromItem, start: int) -> tree.Query | tree.FromItem:
        if isinstance(inner, _QUERY_TYPES):
            if self.at(")"):
                return inner
            if self.token.word in QUERY_GOES_ON:
                return self.query(inner)
            alias, columns = self._alias()
            return self._from_join(tree.Subquery(inner, alias, columns, place=self.place(start)))
        return inner if self.at(")") else self._from_join(inner)

    def _from_join(self, left: tree.FromItem | None) -> tree.FromItem:
        item = self._joined(left)
        if not isinstance(item, tree.Join):
            self.fail("JOIN", hint="Only queries and joins are in brackets.")
        return item

    # -- functions in FROM -------------------------------------------------------------------------------------------

    def _lateral(self, start: int) -> tree.FromItem:
        if self.at("TABLE"):
            return self._table_function(start, lateral=True)
        if self.at("UNNEST"):
            return self._unnest(start)
        self.expect("(")
        query = self.query()
        self.expect(")")
        alias, columns = self._alias()
        return tree.Subquery(query, alias, columns, lateral=True, place=self.place(start))

    def _table_function(self, start: int, *, lateral: bool, name: tree.Name | None = None) -> tree.TableFunction:
        """`TABLE(f(..))`, or `f(..)` where the name has been read."""
        is_wrapped = name is None
        if name is None:
            self.expect("TABLE", "(")
            name = self.name("a function's name")
        self.expect("(")
        arguments = () if self.at(")") else self.list_of(self._table_function_argument)
        self.expect(")")
        if is_wrapped:
            self.expect(")")
        alias, columns = self._alias()
        called = self.function_name(name.parts, start)
        return tree.TableFunction(called, arguments, alias, columns, lateral, place=self.place(start))

    def _table_function_argument(self) -> tuple[str | None, tree.Argument]:
        name: str | None = None
        if self.ahead().word == "=>":
            name = self.identifier("an argument's name")
            self.expect("=>")
            if self.at("DEFAULT"):
                self.refuse("DEFAULT as an argument", "Leave the argument out.")
        return name, self._argument_value()

    def _argument_value(self) -> tree.Argument:
        start = self.token.start
        if self.at("DESCRIPTOR", "("):
            self.advance()
            return tree.Descriptor(self.identifiers(), place=self.place(start))
        if self.at("MODEL") and self.ahead().kind is not TokenKind.SYMBOL:
            self.refuse("a MODEL")
        table: tree.Name | tree.Query
        if self.accept("TABLE"):
            self.accept("(") and self.fail("a table's name")
            table = self.name("a table's name")
        else:
            value = self.expression()
            if not isinstance(value, tree.ScalarQuery):
                return value
            table = value.query
        partition: tuple[tree.Expression, ...] = ()
        if self.phrase("PARTITION", "BY"):
            # Without brackets a comma ends the list: the next argument follows.
            listed = self.expression()
            partition = listed.values if isinstance(listed, tree.RowValue) else (listed,)
        if self.at("ORDER"):
            self.refuse("ORDER BY of a table that is an argument")
        return tree.TableArgument(table, partition, place=self.place(start))

    def _unnest(self, start: int) -> tree.Unnest:
        self.expect("UNNEST", "(")
        expression = self.expression()
        if self.at(","):
            self.refuse("UNNEST of several values", "Write one UNNEST for each.")
        self.expect(")")
        with_ordinality = self.phrase("WITH", "ORDINALITY")
        alias, columns = self._alias()
        return tree.Unnest(expression, with_ordinality, alias, columns, place=self.place(start))

    # -- MATCH_RECOGNIZE ---------------------------------------------------------------------------------------------

    def _match_recognize(self, source: tree.FromItem, start: int) -> tree.MatchRecognize:
        self.expect("MATCH_RECOGNIZE", "(")
        partition = self.list_of(self.expression) if self.phrase("PARTITION", "BY") else ()
        order = self.order_by() if self.at("ORDER") else ()
        measures = self.list_of(self._measure) if self.accept("MEASURES") else ()
        all_rows = self.phrase("ALL", "ROWS", "PER", "MATCH")
        if all_rows and self.token.word in ("SHOW", "OMIT", "WITH"):
            self.refuse(f"ALL ROWS PER MATCH {self.token.word}")
        if not all_rows:
            self.phrase("ONE", "ROW", "PER", "MATCH")
        after, variable = self._after_match()
        self.expect("PATTERN", "(")
        if self.at("^"):
            self.refuse("^ in a pattern")
        pattern = self._alternatives()
        self.expect(")")
        within = self.expression() if self.accept("WITHIN") else None
        subsets = self.list_of(self._subset) if self.accept("SUBSET") else ()
        self.expect("DEFINE")
        defines = self.list_of(self._define)
        self.expect(")")
        alias, columns = self._alias()
        return tree.MatchRecognize(
            *(source, partition, order, measures, all_rows, after, variable, pattern, within, subsets, defines),
            alias,
            columns,
            place=self.place(start),
        )

    def _measure(self) -> tuple[tree.Expression, str]:
        expression = self.expression()
        self.expect("AS")
        return expression, self.identifier("a measure's name")

    def _subset(self) -> tuple[str, tuple[str, ...]]:
        name = self.identifier("a variable")
        self.expect("=")
        return name, self.identifiers()

    def _define(self) -> tuple[str, tree.Expression]:
        name = self.identifier("a variable")
        self.expect("AS")
        return name, self.expression()

    def _after_match(
        self,
    ) -> tuple[Literal["PAST LAST ROW", "TO NEXT ROW", "TO FIRST", "TO LAST"] | None, str | None]:
        if not self.accept("AFTER"):
            return None, None
        self.expect("MATCH", "SKIP")
        if self.accept("PAST"):
            self.expect("LAST", "ROW")
            return "PAST LAST ROW", None
        self.expect("TO")
        if self.accept("NEXT"):
            self.expect("ROW")
            return "TO NEXT ROW", None
        is_first = self.at("FIRST") and self.ahead().word != "PATTERN"
        if is_first or (self.at("LAST") and self.ahead().word != "PATTERN"):
            self.advance()
        return "TO FIRST" if is_first else "TO LAST", self.identifier("a variable")

    def _alternatives(self) -> tree.PatternTerm:
        self.enter()
        start = self.token.start
        terms = [self._sequence()]
        while self.accept("|"):
            terms.append(self._sequence())
        self.leave()
        if len(terms) == 1:
            return terms[0]
        return tree.PatternTerm(None, tuple(terms), is_alternation=True, place=self.place(start))

    def _sequence(self) -> tree.PatternTerm:
        start = self.token.start
        terms = [self._quantified()]
        while self.token.word not in ("|", ")"):
            terms.append(self._quantified())
        return terms[0] if len(terms) == 1 else tree.PatternTerm(None, tuple(terms), place=self.place(start))

    def _quantified(self) -> tree.PatternTerm:
        start = self.token.start
        variable: str | None = None
        parts: tuple[tree.PatternTerm, ...] = ()
        is_alternation = False
        if self.accept("("):
            inner = self._alternatives()
            self.expect(")")
            if inner.minimum == 1 and inner.maximum == 1 and inner.greedy:
                variable, parts, is_alternation = inner.variable, inner.parts, inner.is_alternation
            else:
                parts = (inner,)
        elif self.token.word == "PERMUTE" or self.at("{", "-"):
            self.refuse("PERMUTE" if self.at("PERMUTE") else "{- .. -} in a pattern")
        elif self.token.word == "$":
            self.refuse("$ in a pattern")
        else:
            variable = self.identifier("a pattern variable")
        least, most = self._quantifier()
        greedy = True
        if (least, most) != (1, 1) or self.tokens[self.index - 1].word == "}":
            greedy = not self.accept("?")
        if not variable and len(parts) == 1 and (least, most) == (1, 1):
            return parts[0]
        return tree.PatternTerm(variable, parts, is_alternation, least, most, greedy, place=self.place(start))

    def _quantifier(self) -> tuple[int, int | None]:
        if self.accept("*"):
            return 0, None
        if self.accept("+"):
            return 1, None
        if self.accept("?"):
            return 0, 1
        if not self.accept("{"):
            return 1, 1
        if self.accept("-"):
            self.refuse("{- .. -} in a pattern")
        least = 0 if self.at(",") else self.count()
        most: int | None = least
        if self.accept(","):
            most = None if self.at("}") else self.count()
        if most is not None and (most < least or most == 0):
            self.fail("a larger number")
        self.expect("}")
        return least, most
