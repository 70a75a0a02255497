"""Expressions: operators by precedence climbing, then what an operand can be.

Precedences are those of Calcite's `SqlStdOperatorTable`, doubled so that an operator binds to its left and to its right
with different strength: BETWEEN, IN and LIKE bind tighter than `=`, `||` binds as tight as `*`, NOT looser than `=`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, Literal, NoReturn, cast

from streamkit_sql.errors import Place, SyntaxProblem
from streamkit_sql.language import tree, words
from streamkit_sql.language.intervals import interval
from streamkit_sql.language.parser_types import TypeParser
from streamkit_sql.language.tokens import Token, TokenKind
from streamkit_sql.limits import CHAIN_TERMS_MAX, NUMBER_DIGITS_MAX

OR, AND, NOT, IS, COMPARE, IN, LIKE, ADD, MULTIPLY, SIGN = 44, 48, 52, 56, 60, 64, 65, 80, 120, 160
"""How strongly an operator binds to its left."""
BINARY: Final = {
    "OR": OR,
    "AND": AND,
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), COMPARE),
    **dict.fromkeys(("+", "-"), ADD),
    **dict.fromkeys(("*", "/", "%", "||"), MULTIPLY),
}
QUERY_WORDS: Final = frozenset(("SELECT", "WITH", "VALUES", "TABLE"))
QUERY_GOES_ON: Final = frozenset(("UNION", "INTERSECT", "EXCEPT", "MINUS", "ORDER", "LIMIT", "OFFSET", "FETCH"))
_TIGHTER: Final = frozenset((*(word for word, power in BINARY.items() if power > LIKE), "LIKE", "SIMILAR"))
_AS_TIGHT: Final = frozenset(("IN", "BETWEEN", "LIKE", "SIMILAR"))
_SPECIAL: Final = frozenset(("IS", "IN", "BETWEEN", "LIKE", "SIMILAR", "NOT", "AT", "!=", "OVERLAPS", "ILIKE", "RLIKE"))
_OPERATORS: Final = frozenset((*BINARY, *_SPECIAL))
_REFUSED_OPERATORS: Final = {
    "ILIKE": "Compare LOWER(..) of both sides with LIKE.",
    "RLIKE": "Write REGEXP(text, pattern).",
    "MEMBER": "Write ARRAY_CONTAINS(array, value).",
    "SUBMULTISET": "",
    "CONTAINS": "Compare the ends of the periods.",
    "MULTISET": "",
    "COLLATE": "Texts are compared by their bytes.",
    "FORMAT": "",
}
UNITS_OF_TIME: Final = (
    *(
        "YEAR",
        "QUARTER",
        "MONTH",
        "WEEK",
        "DAY",
        "HOUR",
        "MINUTE",
        "SECOND",
        "MILLISECOND",
        "MICROSECOND",
        "NANOSECOND",
    ),
    *("DECADE", "CENTURY", "MILLENNIUM", "EPOCH", "DOW", "ISODOW", "DOY", "ISOYEAR"),
)
_JSON_KINDS: Final = ("VALUE", "OBJECT", "ARRAY", "SCALAR")
_WITHOUT_CALL: Final = words.WITHOUT_BRACKETS


class ExpressionParser(TypeParser):
    def expression(self, minimum: int = 0) -> tree.Expression:
        """An expression whose operators bind at least as strongly as `minimum`."""
        self.enter()
        start = self.token.start
        left = self._prefix(minimum)
        was_is = False
        while (word := self.token.word) in _OPERATORS:
            power = BINARY.get(word)
            if power is None:
                further = self._special(left, word, minimum, start)
                if further is None:
                    break
                if was_is and word not in ("IS", "!=", "AT", "OVERLAPS"):
                    self._misread("IS", "in front of an operator that binds tighter", start)
                left = further
                was_is = word == "IS"
            elif power < minimum:
                break
            elif power <= AND:
                left = self._chain(cast("Literal['AND', 'OR']", word), left, power, start)
            else:
                if was_is and power > COMPARE:
                    self._misread("IS", "in front of an operator that binds tighter", start)
                self.advance()
                if power == COMPARE and self.token.word in ("ANY", "SOME", "ALL") and self.ahead().word == "(":
                    self.refuse(f"{word} {self.token.word}", "Write IN, EXISTS, or compare with MIN or MAX.")
                right = self.expression(power + 1)
                left = tree.Binary(word, left, right, place=self.place(start))  # type: ignore[arg-type]
                was_is = False
            self.links += 1
        if self.token.word in _REFUSED_OPERATORS and self.token.kind is TokenKind.WORD:
            self._refused_operator()
        self.leave()
        return left

    def _refused_operator(self) -> None:
        word = self.token.word
        if word in self.dialect.reserved or word in ("COLLATE", "FORMAT"):
            self.refuse(f"the operator {word}", _REFUSED_OPERATORS[word])

    def _chain(self, word: Literal["AND", "OR"], left: tree.Expression, power: int, start: int) -> tree.Expression:
        """Terms with one AND or OR after another. The tree of many is balanced: both are associative, also over NULL,
        and generated conditions have thousands of terms."""
        terms = [left]
        while self.accept(word):
            terms.append(self.expression(power + 1))
        place = self.place(start)
        if len(terms) > CHAIN_TERMS_MAX:
            return _balanced(word, terms, place)
        self.links += len(terms) - 2
        for term in terms[1:]:
            left = tree.Binary(word, left, term, place=place)
        return left

    def _special(self, left: tree.Expression, word: str, minimum: int, start: int) -> tree.Expression | None:
        """One more operator that is not just between two operands; None where it binds more loosely than `minimum`."""
        if word == "IS":
            distinct = self.ahead().word == "DISTINCT" or (
                self.ahead().word == "NOT" and self.ahead(2).word == "DISTINCT"
            )
            if (COMPARE if distinct else IS) < minimum:
                return None
            return self._is(left, start)
        if word == "!=":
            if not self.dialect.bang_equal:
                self.fail("an operator", hint="Flink does not take != ; write <>.")
            if minimum > COMPARE:
                return None
            self.advance()
            return tree.Binary("<>", left, self.expression(COMPARE + 1), place=self.place(start))
        if word == "OVERLAPS":
            if minimum > COMPARE:
                return None
            self.advance()
            return tree.Call(word, (left, self.expression(COMPARE + 1)), place=self.place(start))
        if word == "AT":
            return self._at_time_zone(left, minimum, start)
        negated = word == "NOT"
        if negated:
            word = self.ahead().word
        if word in ("ILIKE", "RLIKE"):
            self.refuse(f"the operator {word}", _REFUSED_OPERATORS[word])
        power = {"IN": IN, "BETWEEN": IN, "LIKE": LIKE, "SIMILAR": LIKE}.get(word)
        if power is None or power < minimum:
            return None
        if negated:
            self.advance()
        self.advance()
        if word == "IN":
            return self._in(left, negated, start)
        if word == "BETWEEN":
            return self._between(left, negated, start)
        return self._like(left, word, negated, start)

    def _at_time_zone(self, left: tree.Expression, minimum: int, start: int) -> tree.Expression | None:
        if not self.at("AT", "TIME", "ZONE"):
            return None
        if not self.dialect.at_time_zone:
            self.refuse("AT TIME ZONE", "Flink has CONVERT_TZ(text, from, to), and the option table.local-time-zone.")
        if minimum > SIGN:
            return None
        self.expect("AT", "TIME", "ZONE")
        return tree.AtTimeZone(left, self.expression(SIGN), place=self.place(start))

    def _is(self, operand: tree.Expression, start: int) -> tree.Expression:
        self.expect("IS")
        negated = self.accept("NOT")
        word = self.token.word
        if word in ("NULL", "TRUE", "FALSE", "UNKNOWN"):
            self.advance()
            return tree.Is(operand, word, negated, place=self.place(start))  # type: ignore[arg-type]
        if self.accept("DISTINCT", "FROM"):
            other = self.expression(COMPARE + 1)
            return tree.Is(operand, "DISTINCT FROM", negated, other, place=self.place(start))
        if self.accept("JSON"):
            kind = self.token.word if self.token.word in _JSON_KINDS else ""
            if kind:
                self.advance()
            what = f"JSON {kind}" if kind not in ("", "VALUE") else "JSON"
            return tree.Is(operand, what, negated, place=self.place(start))  # type: ignore[arg-type]
        if word in ("A", "EMPTY"):
            self.refuse(f"IS {word}{' SET' if word == 'A' else ''}")
        return self.fail("NULL", "TRUE", "FALSE", "UNKNOWN", "DISTINCT FROM", "JSON")

    def _in(self, operand: tree.Expression, negated: bool, start: int) -> tree.Expression:
        self.expect("(")
        if self.token.word in QUERY_WORDS:
            query = self.query()
        else:
            values = self.list_of(self.expression)
            if len(values) > 1 or not isinstance(values[0], tree.ScalarQuery):
                self.expect(")")
                self._nothing_tighter("IN")
                return tree.InList(operand, values, negated, place=self.place(start))
            query = values[0].query
            if self.token.word in QUERY_GOES_ON:
                query = self.query(query)
        self.expect(")")
        self._nothing_tighter("IN")
        return tree.InQuery(operand, query, negated, place=self.place(start))

    def _misread(self, what: str, where: str, start: int) -> NoReturn:
        """Where operators do not mean to Flink what they mean to everybody."""
        raise SyntaxProblem(f"{what} {where}", self.place(start), f"Put the {what} in brackets.")

    def _nothing_tighter(self, what: str) -> None:
        """Flink binds what comes behind IN's list to the list, which then means nothing."""
        if self.token.word in _TIGHTER or self.at("NOT", "LIKE") or self.at("NOT", "SIMILAR"):
            self.fail("an operator that binds less", hint=f"Put the {what} in brackets.")

    def _between(self, operand: tree.Expression, negated: bool, start: int) -> tree.Expression:
        symmetric = self.accept("SYMMETRIC")
        if not symmetric:
            self.accept("ASYMMETRIC")
        # Flink lets the bounds be more than sums, and then reads what follows in ways that nobody means.
        low = self.expression(ADD)
        if not self.at("AND"):
            self.fail("AND", hint="A bound that is more than a sum stands in brackets.")
        self.advance()
        high = self.expression(ADD)
        if self.token.word in _AS_TIGHT or (self.at("NOT") and self.ahead().word in _AS_TIGHT):
            self.fail("an operator that binds less", hint="Put the BETWEEN in brackets.")
        return tree.Between(operand, low, high, negated, symmetric, place=self.place(start))

    def _like(self, operand: tree.Expression, word: str, negated: bool, start: int) -> tree.Expression:
        if word == "SIMILAR":
            self.expect("TO")
        # LIKE is the only operator that is associative to the right.
        pattern = self.expression(LIKE)
        escape: tree.Expression | None = None
        if self.accept("ESCAPE"):
            if self.token.word in ("-", "+", "NOT", "EXISTS"):
                self.fail("a text")
            escape = self.expression(ADD)
            if self.token.word in _OPERATORS and self.token.word not in ("AND", "OR"):
                self.fail("AND", "OR", hint=f"Put the {word} in brackets.")
        if self.token.word in ("IN", "BETWEEN") or self.at("NOT", "IN") or self.at("NOT", "BETWEEN"):
            self.fail("an operator that binds less", hint=f"Put the {word} in brackets.")
        kind: Literal["LIKE", "SIMILAR TO"] = "LIKE" if word == "LIKE" else "SIMILAR TO"
        return tree.Like(operand, pattern, escape, negated, kind, place=self.place(start))

    # -- operands ----------------------------------------------------------------------------------------------------

    def _prefix(self, minimum: int = 0) -> tree.Expression:
        word = self.token.word
        start = self.token.start
        if word == "NOT":
            if minimum > COMPARE + 1:
                self.fail("an operand", hint="Put the NOT in brackets.")
            self.advance()
            return tree.Unary("NOT", self.expression(NOT), place=self.place(start))
        if word in ("-", "+"):
            self.advance()
            if word == "-" and self.token.kind is TokenKind.NUMBER and self.ahead().word not in ("[", "."):
                return self._number(self.advance(), start, negative=True)
            operand = self.expression(SIGN)
            return tree.Unary("-" if word == "-" else "+", operand, place=self.place(start))
        return self._suffixes(self._operand(), start)

    def _suffixes(self, operand: tree.Expression, start: int) -> tree.Expression:
        """`[index]` and `.field` behind an operand."""
        while True:
            if self.accept("["):
                index = self.expression()
                self.expect("]")
                operand = tree.Index(operand, index, place=self.place(start))
            elif self.token.word == "." and self.ahead().word != "*":
                self.advance()
                name = self.identifier("a field's name")
                if self.at("("):
                    self.refuse("a method of a value")
                operand = tree.FieldOf(operand, name, place=self.place(start))
            else:
                return operand
            self.links += 1

    def _operand(self) -> tree.Expression:
        token = self.token
        kind = token.kind
        start = token.start
        if kind is TokenKind.WORD:
            special = _WORDS.get(token.word)
            if special is not None:
                found = special(self)
                if found is not None:
                    return found
            return self._name_or_call()
        if kind is TokenKind.NAME:
            return self._name_or_call()
        if kind is TokenKind.NUMBER:
            return self._number(self.advance(), start)
        if kind is TokenKind.TEXT:
            return tree.Literal_(self.text_value(), place=self.place(start))
        if kind is TokenKind.BYTES:
            return self._bytes()
        if token.word == "(":
            return self._bracketed()
        if token.word == "?":
            self.refuse("a parameter (?)", "Write the value.")
        if token.word == "{":
            self.refuse("an ODBC escape ({..})", "Write the function without {fn ..}, the literal as DATE '..'.")
        return self.fail("an expression")

    def _number(self, token: Token, start: int, *, negative: bool = False) -> tree.Literal_:
        text = "-" + token.value if negative else token.value
        place = self.place(start)
        if "e" in text or "E" in text:
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise SyntaxProblem(f"{self.shown(token)} is not in the range of DOUBLE", place)
            return tree.Literal_(value, place=place)
        if sum(character.isdecimal() for character in token.value.lstrip("0")) > NUMBER_DIGITS_MAX:
            raise SyntaxProblem(f"{self.shown(token)} has more than {NUMBER_DIGITS_MAX} digits", place)
        return tree.Literal_(Decimal(text) if "." in text else int(text), place=place)

    def _bytes(self) -> tree.Expression:
        start = self.token.start
        digits = ""
        while self.at_kind(TokenKind.BYTES) or (digits and self.at_kind(TokenKind.TEXT)):
            digits += self.advance().value
        place = self.place(start)
        if len(digits) % 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            raise SyntaxProblem("X'..' has pairs of hexadecimal digits", place)
        return tree.BytesLiteral(bytes.fromhex(digits), place=place)

    def _bracketed(self) -> tree.Expression:
        """`(a)`, `(a, b)`, `(SELECT ..)`."""
        start = self.token.start
        self.expect("(")
        if self.token.word in QUERY_WORDS:
            query = self.query()
            self.expect(")")
            return tree.ScalarQuery(query, place=self.place(start))
        values = self.list_of(self.expression)
        first = values[0]
        if len(values) == 1 and isinstance(first, tree.ScalarQuery) and self.token.word in QUERY_GOES_ON:
            first = tree.ScalarQuery(self.query(first.query), place=self.place(start))
        self.expect(")")
        return first if len(values) == 1 else tree.RowValue(values, place=self.place(start))

    def _name_or_call(self) -> tree.Expression:
        token = self.token
        start = token.start
        if token.kind is TokenKind.WORD and token.word in self.dialect.reserved:
            if self.ahead().word == "(" and token.word in self.dialect.callable:
                self.advance()
                return self._call(token.word, start)
            self.fail("an expression", hint=self._hint(("SELECT",)) or self.reserved_hint(token))
        parts = [self.identifier("an expression")]
        while self.token.word == "." and self.ahead().word != "*":
            self.advance()
            parts.append(self.identifier())
        if self.token.word == "(":
            return self._call(self.function_name(parts, start), start)
        return tree.Name(tuple(parts), place=self.place(start))

    def function_name(self, parts: Sequence[str], start: int) -> str:
        """In capitals, with dots between its parts; functions are called in any case."""
        if any("." in part for part in parts):
            self.refuse("a function's name with a dot inside quotes", start=start)
        return ".".join(parts).upper()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, name: str, start: int, words: tuple[str, ...] = ()) -> tree.Expression:
        """From the bracket on."""
        form = _FORMS.get(name)
        if form is not None:
            return self._over(form(self, name, start), start, words)
        self.expect("(")
        distinct = self.accept("DISTINCT")
        if not distinct:
            self.accept("ALL")
        order: tuple[tree.OrderItem, ...] = ()
        arguments: tuple[tree.Expression, ...] = ()
        if self.at("*", ")") and not distinct:
            arguments = (tree.Star(place=self.here()),)
            self.advance()
        elif not self.at(")") or distinct:
            arguments = self.list_of(self._argument)
            if self.at("ORDER", "BY"):
                order = self.order_by()
        self.expect(")")
        call = tree.Call(name, arguments, distinct, order=order, place=self.place(start))
        return self._over(call, start, words)

    def _argument(self) -> tree.Expression:
        if self.token.word in QUERY_WORDS:
            self.fail("an expression", hint="A query that is an argument is in brackets of its own.")
        if self.ahead().word == "=>":
            self.refuse("a named argument of a scalar function", "Write the arguments in their order.")
        return self.expression()

    def _over(self, call: tree.Call, start: int, words: tuple[str, ...]) -> tree.Call:
        """What may stand behind a call: IGNORE NULLS, WITHIN GROUP, FILTER, OVER."""
        ignore_nulls = call.ignore_nulls
        order, only, over = call.order, call.filter, call.over
        if self.accept("IGNORE", "NULLS"):
            ignore_nulls = True
        elif self.accept("RESPECT", "NULLS"):
            ignore_nulls = False
        if self.at("WITHIN"):
            if not self.accept("WITHIN", "GROUP"):
                self.refuse("WITHIN DISTINCT")
            self.expect("(")
            order = self.order_by()
            self.expect(")")
        if self.at("FILTER", "("):
            self.expect("FILTER", "(")
            self.expect("WHERE")
            only = self.expression()
            self.expect(")")
        if self.accept("OVER"):
            if self.at("("):
                over = self.window_spec()
            else:
                place = self.here()
                over = tree.Name((self.identifier("a window's name"),), place=place)
        if not words and over is call.over and only is call.filter and order is call.order and ignore_nulls is None:
            return call
        return tree.Call(
            call.name,
            call.arguments,
            call.distinct,
            only,
            order,
            over,
            call.words + words,
            call.options,
            ignore_nulls,
            place=self.place(start),
        )

    def order_by(self) -> tuple[tree.OrderItem, ...]:
        self.expect("ORDER", "BY")
        return self.list_of(self._order_item)

    def _order_item(self) -> tree.OrderItem:
        start = self.token.start
        expression = self.expression()
        descending = self.accept("DESC")
        if not descending:
            self.accept("ASC")
        nulls_first: bool | None = None
        if self.accept("NULLS", "FIRST"):
            nulls_first = True
        elif self.accept("NULLS", "LAST"):
            nulls_first = False
        return tree.OrderItem(expression, descending, nulls_first, place=self.place(start))

    def window_spec(self) -> tree.WindowSpec:
        """`([base] [PARTITION BY ..] [ORDER BY ..] [RANGE|ROWS ..])`."""
        start = self.token.start
        self.expect("(")
        base = self.identifier() if self.at_name else None
        partition = self.list_of(self.expression) if self.phrase("PARTITION", "BY") else ()
        order = self.order_by() if self.at("ORDER") else ()
        unit: Literal["RANGE", "ROWS"] | None = None
        first: tree.FrameBound | None = None
        last: tree.FrameBound | None = None
        if self.token.word in ("RANGE", "ROWS"):
            unit = "ROWS" if self.advance().word == "ROWS" else "RANGE"
            if self.accept("BETWEEN"):
                first = self._frame_bound()
                self.expect("AND")
                last = self._frame_bound()
            else:
                first = self._frame_bound()
        if self.token.word in ("ALLOW", "DISALLOW", "EXCLUDE", "GROUPS"):
            self.refuse(f"{self.token.word} in a window")
        self.expect(")")
        return tree.WindowSpec(partition, order, unit, first, last, base, place=self.place(start))

    def _frame_bound(self) -> tree.FrameBound:
        start = self.token.start
        if self.phrase("CURRENT", "ROW"):
            return tree.FrameBound(None, current=True, place=self.place(start))
        offset = None if self.accept("UNBOUNDED") else self.expression()
        following = self.token.word == "FOLLOWING"
        if not self.accept("PRECEDING") and not self.accept("FOLLOWING"):
            self.fail("PRECEDING", "FOLLOWING")
        return tree.FrameBound(offset, following, place=self.place(start))

    # -- words that begin something of their own ---------------------------------------------------------------------

    def _truth(self) -> tree.Expression:
        start = self.token.start
        value = {"TRUE": True, "FALSE": False}.get(self.advance().word)
        return tree.Literal_(value, place=self.place(start))

    def _case(self) -> tree.Expression:
        start = self.token.start
        self.expect("CASE")
        operand = None if self.at("WHEN") else self.expression()
        branches: list[tuple[tree.Expression, tree.Expression]] = []
        if not self.at("WHEN"):
            self.fail("WHEN")
        while self.accept("WHEN"):
            values = self.list_of(self.expression)
            if operand is None and len(values) > 1:
                self.fail("THEN", hint="Conditions are combined with OR.")
            self.expect("THEN")
            result = self.expression()
            branches.extend((value, result) for value in values)
        otherwise = self.expression() if self.accept("ELSE") else None
        self.expect("END")
        return tree.Case(operand, tuple(branches), otherwise, place=self.place(start))

    def _cast(self) -> tree.Expression:
        start = self.token.start
        is_try = self.advance().word == "TRY_CAST"
        self.expect("(")
        operand = self.expression()
        self.expect("AS")
        of = self.data_type()
        if self.at("NOT", "NULL") or self.at("NULL"):
            self.fail(")", hint="A cast keeps whether the value can be NULL; leave [NOT] NULL out.")
        self.expect(")")
        return tree.Cast(operand, of, is_try, place=self.place(start))

    def _exists(self) -> tree.Expression:
        start = self.token.start
        self.expect("EXISTS", "(")
        if self.token.word not in QUERY_WORDS and not self.at("("):
            self.fail("a query")
        query = self.query()
        self.expect(")")
        # Flink takes EXISTS for an operator in front of all that follows and binds as + does, or tighter.
        if BINARY.get(self.token.word, 0) >= ADD or self.token.word in ("[", "."):
            self.fail("an operator that binds less", hint="Put the EXISTS in brackets.")
        return tree.Exists(query, place=self.place(start))

    def _row(self) -> tree.Expression:
        start = self.token.start
        self.expect("ROW")
        values = self.in_brackets(self.expression)
        return tree.RowValue(values, place=self.place(start))

    def _array(self) -> tree.Expression | None:
        start = self.token.start
        if self.ahead().word == "(":
            self.refuse("ARRAY(query)", "Write ARRAY_AGG in a query that is grouped.")
        self.expect("ARRAY", "[")
        values = () if self.at("]") else self.list_of(self.expression)
        self.expect("]")
        return tree.ArrayValue(values, place=self.place(start))

    def _map(self) -> tree.Expression | None:
        start = self.token.start
        if self.ahead().word != "[":
            return None
        self.expect("MAP", "[")
        values = () if self.at("]") else self.list_of(self.expression)
        if len(values) % 2:
            self.fail("a value for the last key")
        self.expect("]")
        return tree.MapValue(tuple(zip(values[::2], values[1::2], strict=True)), place=self.place(start))

    def _interval(self) -> tree.Expression:
        start = self.token.start
        self.expect("INTERVAL")
        sign = self.advance().word if self.token.word in ("-", "+") else ""
        if self.token.kind is not TokenKind.TEXT:
            self.refuse("an INTERVAL that is no literal", "Multiply one: x * INTERVAL '1' DAY.")
        text = self.text_value()
        unit, digits = self.interval_unit()
        return interval(text, unit, self.place(start), negative=sign == "-", digits=digits)

    def _moment(self) -> tree.Expression | None:
        """`DATE '..'`; DATE(..) is a call."""
        start = self.token.start
        kind = self.token.word
        if self.at(kind, "WITH") or self.at(kind, "WITHOUT"):
            self.refuse(f"a literal of {kind} WITH ..", f"Write CAST({kind} '..' AS ..).")
        if self.ahead().kind is not TokenKind.TEXT:
            return None
        self.advance()
        text = self.advance().value
        return tree.TimeLiteral(kind, text, place=self.place(start))  # type: ignore[arg-type]

    def _now(self) -> tree.Expression | None:
        """CURRENT_TIMESTAMP and its like."""
        if self.ahead().word == "(":
            return None
        start = self.token.start
        return tree.Call(self.advance().word, place=self.place(start))

    def _navigation(self) -> tree.Expression | None:
        """RUNNING and FINAL; FINAL is also a name."""
        start = self.token.start
        word = self.token.word
        called = self.ahead()
        is_name = called.word not in self.dialect.reserved or called.word in self.dialect.callable
        if called.kind is not TokenKind.WORD or not is_name or self.ahead(2).word != "(":
            if word == "RUNNING":
                self.refuse("RUNNING in front of what is no call")
            return None
        self.advance()
        name = self.advance().word
        return self._call(name, start, (word,))

    def _refused_word(self) -> tree.Expression | None:
        word = self.token.word
        following = self.ahead().word
        if word in ("MULTISET", "PERIOD") and following in ("[", "("):
            self.refuse(f"a {word} that is written out")
        if word in ("CURSOR", "UNIQUE", "CONVERT", "STRING_AGG", "GROUP_CONCAT", "SAFE_CAST") and following == "(":
            hint = {"STRING_AGG": "Write LISTAGG.", "GROUP_CONCAT": "Write LISTAGG.", "SAFE_CAST": "Write TRY_CAST."}
            self.refuse(f"{word}(..)", hint.get(word, ""))
        if self.at("NEXT", "VALUE"):
            self.refuse("NEXT VALUE FOR")
        if word == "NEW" and self.ahead().kind in (TokenKind.WORD, TokenKind.NAME):
            self.refuse("NEW")
        return None

    # -- functions with a grammar of their own -----------------------------------------------------------------------

    def unit_of_time(self) -> str:
        token = self.token
        unit = token.value.upper().removeprefix("SQL_TSI_")
        if token.kind not in (TokenKind.WORD, TokenKind.NAME) or unit not in UNITS_OF_TIME:
            near = unit.removesuffix("S") if unit.removesuffix("S") in UNITS_OF_TIME else ""
            self.fail("a unit of time", hint=f"Did you mean {near}?" if near else "Such as DAY or SECOND.")
        self.advance()
        return unit

    def _extract(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        unit = self.unit_of_time()
        self.expect("FROM")
        operand = self.expression()
        self.expect(")")
        return tree.Call(name, (operand,), words=(unit,), place=self.place(start))

    def _floor(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        operands = self.list_of(self.expression)
        units = (self.unit_of_time(),) if len(operands) == 1 and self.accept("TO") else ()
        self.expect(")")
        return tree.Call(name.replace("CEILING", "CEIL"), operands, words=units, place=self.place(start))

    def _timestamp_add(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        unit = self.unit_of_time()
        self.expect(",")
        first = self.expression()
        self.expect(",")
        second = self.expression()
        self.expect(")")
        return tree.Call(name, (first, second), words=(unit,), place=self.place(start))

    def _trim(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        side = self.advance().word if self.token.word in ("BOTH", "LEADING", "TRAILING") else ""
        arguments: tuple[tree.Expression, ...] = ()
        if not side or not self.at("FROM"):
            arguments = (self.expression(),)
        if side or self.at("FROM"):
            self.expect("FROM")
            arguments = (self.expression(), *arguments)
        self.expect(")")
        return tree.Call(name, arguments, words=(side or "BOTH",), place=self.place(start))

    def _position(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        # IN is an operator elsewhere; in front of it only what binds tighter than all operators.
        arguments = [self._prefix()]
        self.expect("IN")
        arguments.append(self.expression())
        if self.accept("FROM"):
            arguments.append(self.expression())
        self.expect(")")
        return tree.Call(name, tuple(arguments), place=self.place(start))

    def _substring(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        arguments = [self.expression()]
        if self.accept("FROM"):
            arguments.append(self.expression())
            if self.accept("FOR"):
                arguments.append(self.expression())
        else:
            while self.accept(","):
                arguments.append(self.expression())
        self.expect(")")
        return tree.Call(name, tuple(arguments), place=self.place(start))

    def _overlay(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        arguments = [self.expression()]
        self.expect("PLACING")
        arguments.append(self.expression())
        self.expect("FROM")
        arguments.append(self.expression())
        if self.accept("FOR"):
            arguments.append(self.expression())
        self.expect(")")
        return tree.Call(name, tuple(arguments), place=self.place(start))

    def _json_path(self, name: str, start: int) -> tree.Call:
        """JSON_VALUE, JSON_QUERY, JSON_EXISTS."""
        self.expect("(")
        document = self.expression()
        self.expect(",")
        arguments = (document, self.expression())
        said: list[str] = []
        options: list[tuple[str, tree.Expression]] = []
        decided: list[str] = []
        if name != "JSON_EXISTS" and self.accept("RETURNING"):
            said.append(f"RETURNING {self.data_type()}")
        if name == "JSON_QUERY" and (wrapper := self._json_wrapper()):
            said.append(wrapper)
        while not self.at(")"):
            behaviour = self._json_behaviour(name)
            default = self.expression() if behaviour == "DEFAULT" else None
            self.expect("ON")
            when = self.token.word
            if when != "ERROR" and (when != "EMPTY" or name == "JSON_EXISTS"):
                self.fail("ERROR", *(("EMPTY",) if name != "JSON_EXISTS" else ()))
            if when in decided or "ERROR" in decided:
                self.fail(")", hint="What happens ON EMPTY comes before ON ERROR, each once.")
            decided.append(when)
            self.advance()
            said.append(f"{behaviour} ON {when}")
            if default is not None:
                options.append((f"DEFAULT ON {when}", default))
        self.expect(")")
        return tree.Call(name, arguments, words=tuple(said), options=tuple(options), place=self.place(start))

    def _json_behaviour(self, name: str) -> str:
        """What comes in front of ON EMPTY and ON ERROR."""
        allowed: tuple[str, ...] = ("NULL", "ERROR", "DEFAULT")
        if name == "JSON_QUERY":
            allowed = ("NULL", "ERROR", "EMPTY")
        elif name == "JSON_EXISTS":
            allowed = ("TRUE", "FALSE", "UNKNOWN", "ERROR")
        word = self.token.word
        if word not in allowed:
            self.fail(")", *(f"{one} .. ON" for one in allowed))
        self.advance()
        if word != "EMPTY":
            return word
        if self.token.word not in ("ARRAY", "OBJECT"):
            self.fail("ARRAY", "OBJECT")
        return f"EMPTY {self.advance().word}"

    def _json_wrapper(self) -> str:
        if self.accept("WITHOUT"):
            self.accept("ARRAY")
            self.expect("WRAPPER")
            return "WITHOUT ARRAY WRAPPER"
        if not self.accept("WITH"):
            return ""
        conditional = self.accept("CONDITIONAL")
        if not conditional:
            self.accept("UNCONDITIONAL")
        self.accept("ARRAY")
        self.expect("WRAPPER")
        return f"WITH {'CONDITIONAL' if conditional else 'UNCONDITIONAL'} ARRAY WRAPPER"

    def _json_nulls(self) -> tuple[str, ...]:
        for word in ("NULL", "ABSENT"):
            if self.accept(word, "ON", "NULL"):
                return (f"{word} ON NULL",)
        return ()

    def _json_pair(self) -> tuple[tree.Expression, tree.Expression]:
        """`[KEY] key VALUE value`, `key : value`."""
        is_key = self.at("KEY") and self.ahead().word not in (":", "VALUE", ".", "(")
        if is_key:
            self.advance()
        key = self.expression()
        if not self.accept("VALUE") and (is_key or not self.accept(":")):
            self.fail("VALUE", ":")
        return key, self.expression()

    def _json_object(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        pairs: tuple[tuple[tree.Expression, tree.Expression], ...] = ()
        said = self._json_nulls()
        if not said and not self.at(")"):
            pairs = self.list_of(self._json_pair) if name == "JSON_OBJECT" else (self._json_pair(),)
            said = self._json_nulls()
        elif name == "JSON_OBJECTAGG":
            self.fail("a key")
        self.expect(")")
        flat = tuple(part for pair in pairs for part in pair)
        return tree.Call(name, flat, words=said, place=self.place(start))

    def _json_array(self, name: str, start: int) -> tree.Call:
        self.expect("(")
        values: tuple[tree.Expression, ...] = ()
        order: tuple[tree.OrderItem, ...] = ()
        if not self.at(")"):
            values = self.list_of(self.expression) if name == "JSON_ARRAY" else (self.expression(),)
            if name == "JSON_ARRAYAGG" and self.at("ORDER"):
                order = self.order_by()
        said = self._json_nulls() if values else ()
        self.expect(")")
        return tree.Call(name, values, order=order, words=said, place=self.place(start))


def _balanced(word: Literal["AND", "OR"], terms: list[tree.Expression], place: Place) -> tree.Expression:
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    left, right = _balanced(word, terms[:middle], place), _balanced(word, terms[middle:], place)
    return tree.Binary(word, left, right, place=place)


_WORDS: Final[dict[str, Callable[[ExpressionParser], tree.Expression | None]]] = {
    **dict.fromkeys(("TRUE", "FALSE", "NULL", "UNKNOWN"), ExpressionParser._truth),
    "CASE": ExpressionParser._case,
    "CAST": ExpressionParser._cast,
    "TRY_CAST": ExpressionParser._cast,
    "EXISTS": ExpressionParser._exists,
    "ROW": ExpressionParser._row,
    "ARRAY": ExpressionParser._array,
    "MAP": ExpressionParser._map,
    "INTERVAL": ExpressionParser._interval,
    **dict.fromkeys(("DATE", "TIME", "TIMESTAMP"), ExpressionParser._moment),
    **dict.fromkeys(_WITHOUT_CALL, ExpressionParser._now),
    **dict.fromkeys(("RUNNING", "FINAL"), ExpressionParser._navigation),
    **dict.fromkeys(
        ("MULTISET", "PERIOD", "CURSOR", "UNIQUE", "CONVERT", "STRING_AGG", "GROUP_CONCAT", "SAFE_CAST", "NEXT", "NEW"),
        ExpressionParser._refused_word,
    ),
}
_FORMS: Final[dict[str, Callable[[ExpressionParser, str, int], tree.Call]]] = {
    "EXTRACT": ExpressionParser._extract,
    **dict.fromkeys(("FLOOR", "CEIL", "CEILING"), ExpressionParser._floor),
    **dict.fromkeys(("TIMESTAMPADD", "TIMESTAMPDIFF"), ExpressionParser._timestamp_add),
    "TRIM": ExpressionParser._trim,
    "POSITION": ExpressionParser._position,
    "SUBSTRING": ExpressionParser._substring,
    "OVERLAY": ExpressionParser._overlay,
    **dict.fromkeys(("JSON_VALUE", "JSON_QUERY", "JSON_EXISTS"), ExpressionParser._json_path),
    **dict.fromkeys(("JSON_OBJECT", "JSON_OBJECTAGG"), ExpressionParser._json_object),
    **dict.fromkeys(("JSON_ARRAY", "JSON_ARRAYAGG"), ExpressionParser._json_array),
}
