"""Tree to Flink's text. What is printed parses to an equal tree, if the tree is one that a text can have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import singledispatchmethod
from typing import Final

from streamkit_sql.language import tree
from streamkit_sql.language.intervals import fields_of
from streamkit_sql.language.parser_expressions import ADD, AND, BINARY, COMPARE, IN, IS, NOT, SIGN
from streamkit_sql.language.words import CALLABLE, RESERVED, WITHOUT_BRACKETS
from streamkit_sql.types import Kind, SqlType

ATOM: Final = 200
"""What stands anywhere without brackets."""
_PLAIN_NAME: Final = re.compile(r"[^\W\d][\w$]*|\$[\w$]+")
_INTERVAL_DIGITS: Final = 2
"""Of an interval's first field that needs no precision."""


def to_flink(node: tree.Node) -> str:
    """An expression, a query or a statement, without a semicolon behind it."""
    return Printer().text(node)


def type_text(of: SqlType) -> str:
    """A data type as a text has it, with names in quotes where they need them."""
    if of.kind is Kind.INTERVAL_MS:
        return "INTERVAL DAY TO SECOND(3)"
    if of.kind is Kind.ROW:
        text = f"ROW<{', '.join(f'{name_text(field.name)} {type_text(field.type)}' for field in of.fields)}>"
    elif of.kind is Kind.MAP:
        assert of.key is not None
        assert of.element is not None
        text = f"MAP<{type_text(of.key)}, {type_text(of.element)}>"
    elif of.kind in (Kind.ARRAY, Kind.MULTISET):
        assert of.element is not None
        text = f"{of.kind.value}<{type_text(of.element)}>"
    else:
        return str(of)
    return text if of.nullable else text + " NOT NULL"


def name_text(name: str) -> str:
    """A name, in backticks where it needs them."""
    # `map[1]` would be a map that is written out.
    if _PLAIN_NAME.fullmatch(name) and name.upper() not in RESERVED and name.upper() != "MAP":
        return name
    return "`" + name.replace("`", "``") + "`"


def string_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class Printer:
    """`operand` decides where brackets stand."""

    def text(self, node: object) -> str:
        return self._print(node)[0]

    def operand(self, node: tree.Expression, minimum: int) -> str:
        """Where only what binds at least this strongly stands without brackets."""
        text, power = self._print(node)
        return text if power >= minimum else f"({text})"

    def query(self, query: tree.Query) -> str:
        """In brackets of its own."""
        return f"(\n{_indented(self.text(query))}\n)"

    def list_of(self, nodes: Iterable[object]) -> str:
        return ", ".join(self.text(node) for node in nodes)

    def names(self, names: Iterable[str]) -> str:
        return ", ".join(name_text(name) for name in names)

    @singledispatchmethod
    def _print(self, node: object) -> tuple[str, int]:
        """The text, and how strongly it binds."""
        raise TypeError(f"no text for {type(node).__name__}")

    # -- expressions -------------------------------------------------------------------------------------------------

    @_print.register
    def _(self, node: tree.Name) -> tuple[str, int]:
        return ".".join(name_text(part) for part in node.parts), ATOM

    @_print.register
    def _(self, node: tree.Literal_) -> tuple[str, int]:
        value = node.value
        if value is None:
            return "NULL", ATOM
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE", ATOM
        if isinstance(value, str):
            return string_text(value), ATOM
        if isinstance(value, Decimal):
            text = f"{value:f}"
            text = text if "." in text else text + "."
        elif isinstance(value, float):
            text = f"{value!r}"
            text = text if "e" in text else text + "e0"
        else:
            text = str(value)
        return text, SIGN if text.startswith("-") else ATOM

    @_print.register
    def _(self, node: tree.BytesLiteral) -> tuple[str, int]:
        return f"X'{node.value.hex().upper()}'", ATOM

    @_print.register
    def _(self, node: tree.TimeLiteral) -> tuple[str, int]:
        return f"{node.kind} {string_text(node.text)}", ATOM

    @_print.register
    def _(self, node: tree.IntervalLiteral) -> tuple[str, int]:
        first, *others = fields_of(node.unit)
        found = re.search(r"[1-9]\d*", re.split(r"(?<=\d)[^\d]", node.text)[0])
        digits = len(found.group()) if found else 1
        precision = f"({digits})" if digits > _INTERVAL_DIGITS else ""
        unit = first + precision + (f" TO {others[-1]}" if others else "")
        return f"INTERVAL {string_text(node.text)} {unit}", ATOM

    @_print.register
    def _(self, node: tree.Star) -> tuple[str, int]:
        return "".join(name_text(part) + "." for part in node.qualifier) + "*", ATOM

    @_print.register
    def _(self, node: tree.Unary) -> tuple[str, int]:
        if node.operator == "NOT":
            return f"NOT {self.operand(node.operand, NOT)}", NOT
        # A minus in front of a number is the number's, and two of them would begin a comment.
        is_apart = _is_number(node.operand) or isinstance(node.operand, tree.Unary)
        operand = f"({self.text(node.operand)})" if is_apart else self.operand(node.operand, SIGN)
        return f"{node.operator}{operand}", SIGN

    @_print.register
    def _(self, node: tree.Binary) -> tuple[str, int]:
        power = BINARY[node.operator]
        left = self.operand(node.left, power)
        return f"{left} {node.operator} {self.operand(node.right, power + 1)}", power

    @_print.register
    def _(self, node: tree.Is) -> tuple[str, int]:
        negation = "NOT " if node.negated else ""
        if node.other is not None:
            left = self.operand(node.operand, COMPARE)
            return f"{left} IS {negation}{node.what} {self.operand(node.other, COMPARE + 1)}", COMPARE
        return f"{self.operand(node.operand, IS)} IS {negation}{node.what}", IS

    @_print.register
    def _(self, node: tree.Between) -> tuple[str, int]:
        low, high = self.operand(node.low, ADD), self.operand(node.high, ADD)
        how = _not(node.negated) + "BETWEEN " + ("SYMMETRIC " if node.symmetric else "")
        return f"{self.operand(node.operand, ADD)} {how}{low} AND {high}", IN

    @_print.register
    def _(self, node: tree.Like) -> tuple[str, int]:
        # In brackets where Flink needs none: LIKE is associative to the right, and few know.
        pattern = self.operand(node.pattern, ADD)
        text = f"{self.operand(node.operand, ADD)} {_not(node.negated)}{node.kind} {pattern}"
        if node.escape is None:
            return text, IN
        return f"{text} ESCAPE {self.operand(node.escape, ATOM)}", AND + 1

    @_print.register
    def _(self, node: tree.InList) -> tuple[str, int]:
        operand = self.operand(node.operand, ADD)
        values = self.list_of(node.values)
        return f"{operand} {_not(node.negated)}IN ({values})", IN

    @_print.register
    def _(self, node: tree.InQuery) -> tuple[str, int]:
        return f"{self.operand(node.operand, ADD)} {_not(node.negated)}IN {self.query(node.query)}", IN

    @_print.register
    def _(self, node: tree.Exists) -> tuple[str, int]:
        return f"EXISTS {self.query(node.query)}", IN

    @_print.register
    def _(self, node: tree.ScalarQuery) -> tuple[str, int]:
        return self.query(node.query), ATOM

    @_print.register
    def _(self, node: tree.Case) -> tuple[str, int]:
        operand = f" {self.text(node.operand)}" if node.operand is not None else ""
        branches = "".join(f" WHEN {self.text(when)} THEN {self.text(then)}" for when, then in node.branches)
        otherwise = f" ELSE {self.text(node.otherwise)}" if node.otherwise is not None else ""
        return f"CASE{operand}{branches}{otherwise} END", ATOM

    @_print.register
    def _(self, node: tree.Cast) -> tuple[str, int]:
        return f"{'TRY_CAST' if node.is_try else 'CAST'}({self.text(node.operand)} AS {type_text(node.type)})", ATOM

    @_print.register
    def _(self, node: tree.RowValue) -> tuple[str, int]:
        return f"{'ROW' if len(node.values) == 1 else ''}({self.list_of(node.values)})", ATOM

    @_print.register
    def _(self, node: tree.ArrayValue) -> tuple[str, int]:
        return f"ARRAY[{self.list_of(node.values)}]", ATOM

    @_print.register
    def _(self, node: tree.MapValue) -> tuple[str, int]:
        return f"MAP[{self.list_of(part for entry in node.entries for part in entry)}]", ATOM

    @_print.register
    def _(self, node: tree.Index) -> tuple[str, int]:
        return f"{self.operand(node.operand, ATOM)}[{self.text(node.index)}]", ATOM

    @_print.register
    def _(self, node: tree.FieldOf) -> tuple[str, int]:
        operand = self.operand(node.operand, ATOM)
        if isinstance(node.operand, tree.Name) or (_is_number(node.operand) and not operand.startswith("(")):
            operand = f"({operand})"
        return f"{operand}.{name_text(node.name)}", ATOM

    @_print.register
    def _(self, node: tree.AtTimeZone) -> tuple[str, int]:
        return f"{self.operand(node.operand, SIGN)} AT TIME ZONE {self.operand(node.zone, ATOM)}", SIGN

    # -- calls -------------------------------------------------------------------------------------------------------

    @_print.register
    def _(self, node: tree.Call) -> tuple[str, int]:
        if node.name == "OVERLAPS":
            left, right = node.arguments
            return f"{self.operand(left, COMPARE)} OVERLAPS {self.operand(right, COMPARE + 1)}", COMPARE
        words = node.words
        navigation = ""
        if words[-1:] and words[-1] in ("RUNNING", "FINAL"):
            navigation, words = words[-1] + " ", words[:-1]
        text = navigation + self._call(node, words)
        is_inside = node.name in ("ARRAY_AGG", "JSON_ARRAYAGG")
        if node.ignore_nulls is not None:
            text += " IGNORE NULLS" if node.ignore_nulls else " RESPECT NULLS"
        if node.order and not is_inside:
            text += f" WITHIN GROUP (ORDER BY {self.list_of(node.order)})"
        if node.filter is not None:
            text += f" FILTER (WHERE {self.text(node.filter)})"
        if node.over is not None:
            text += f" OVER {self.text(node.over)}"
        return text, ATOM

    def _call(self, node: tree.Call, words: tuple[str, ...]) -> str:
        form = _FORMS.get(node.name)
        if form is not None:
            return f"{node.name}({form(self, node, words)})"
        if node.name in WITHOUT_BRACKETS and not node.arguments:
            return node.name
        distinct = "DISTINCT " if node.distinct else ""
        inside = f" ORDER BY {self.list_of(node.order)}" if node.name == "ARRAY_AGG" and node.order else ""
        name = node.name if node.name in CALLABLE else ".".join(name_text(part) for part in node.name.split("."))
        return f"{name}({distinct}{self.list_of(node.arguments)}{inside})"

    def _extract(self, node: tree.Call, words: tuple[str, ...]) -> str:
        return f"{words[0]} FROM {self.list_of(node.arguments)}"

    def _floor(self, node: tree.Call, words: tuple[str, ...]) -> str:
        if not words:
            return self.list_of(node.arguments)
        # TO behind an interval would be the interval's.
        operand = self.text(node.arguments[0])
        ends_open = bool(re.search(r"[A-Z)]$", operand)) and "INTERVAL" in operand
        return f"({operand}) TO {words[0]}" if ends_open else f"{operand} TO {words[0]}"

    def _timestamp_add(self, node: tree.Call, words: tuple[str, ...]) -> str:
        return ", ".join((*words, *(self.text(argument) for argument in node.arguments)))

    def _trim(self, node: tree.Call, words: tuple[str, ...]) -> str:
        characters = "".join(f" {self.text(argument)}" for argument in node.arguments[1:])
        return f"{words[0]}{characters} FROM {self.text(node.arguments[0])}"

    def _position(self, node: tree.Call, words: tuple[str, ...]) -> str:
        first, second, *start = node.arguments
        begin = "".join(f" FROM {self.text(argument)}" for argument in start)
        return f"{self.operand(first, SIGN)} IN {self.text(second)}{begin}"

    def _overlay(self, node: tree.Call, words: tuple[str, ...]) -> str:
        parts = zip(("", " PLACING ", " FROM ", " FOR "), node.arguments, strict=False)
        return "".join(word + self.text(argument) for word, argument in parts)

    def _json_path(self, node: tree.Call, words: tuple[str, ...]) -> str:
        text = self.list_of(node.arguments)
        options = dict(node.options)
        for word in words:
            default = options.get(word)
            text += f" {word}" if default is None else f" DEFAULT {self.text(default)} {word.removeprefix('DEFAULT ')}"
        return text

    def _json_object(self, node: tree.Call, words: tuple[str, ...]) -> str:
        texts = [self.text(argument) for argument in node.arguments]
        # A name KEY would be taken for the word in front of keys, and VALUE for a part of IS JSON VALUE.
        texts[::2] = [f"({key})" if re.search("^KEY|JSON$", key.upper()) else key for key in texts[::2]]
        pairs = (f"{key} VALUE {value}" for key, value in zip(texts[::2], texts[1::2], strict=True))
        return " ".join(part for part in (", ".join(pairs), *words) if part)

    def _json_array(self, node: tree.Call, words: tuple[str, ...]) -> str:
        order = f"ORDER BY {self.list_of(node.order)}" if node.order and node.name == "JSON_ARRAYAGG" else ""
        return " ".join(part for part in (self.list_of(node.arguments), order, *words) if part)

    @_print.register
    def _(self, node: tree.OrderItem) -> tuple[str, int]:
        nulls = "" if node.nulls_first is None else " NULLS FIRST" if node.nulls_first else " NULLS LAST"
        return f"{self.text(node.expression)}{' DESC' if node.descending else ''}{nulls}", 0

    @_print.register
    def _(self, node: tree.WindowSpec) -> tuple[str, int]:
        parts = [] if node.base is None else [name_text(node.base)]
        if node.partition:
            parts.append(f"PARTITION BY {self.list_of(node.partition)}")
        if node.order:
            parts.append(f"ORDER BY {self.list_of(node.order)}")
        if node.unit is not None and node.start is not None:
            frame = self.text(node.start)
            parts.append(
                f"{node.unit} BETWEEN {frame} AND {self.text(node.stop)}" if node.stop else f"{node.unit} {frame}"
            )
        return f"({' '.join(parts)})", 0

    @_print.register
    def _(self, node: tree.FrameBound) -> tuple[str, int]:
        if node.current:
            return "CURRENT ROW", 0
        # AND is the frame's own.
        offset = "UNBOUNDED" if node.offset is None else self.operand(node.offset, AND + 1)
        return f"{offset} {'FOLLOWING' if node.following else 'PRECEDING'}", 0

    # -- FROM --------------------------------------------------------------------------------------------------------

    def _alias(self, alias: str | None, columns: tuple[str, ...]) -> str:
        if alias is None:
            return ""
        return f" AS {name_text(alias)}" + (f" ({self.names(columns)})" if columns else "")

    @_print.register
    def _(self, node: tree.TableName) -> tuple[str, int]:
        hint = f" /*+ OPTIONS({_pairs(node.options)}) */" if node.options else ""
        as_of = "" if node.as_of is None else f" FOR SYSTEM_TIME AS OF {self.text(node.as_of)}"
        return f"{self.text(node.name)}{hint}{as_of}{self._alias(node.alias, node.columns)}", 0

    @_print.register
    def _(self, node: tree.Subquery) -> tuple[str, int]:
        lateral = "LATERAL " if node.lateral else ""
        return f"{lateral}{self.query(node.query)}{self._alias(node.alias, node.columns)}", 0

    @_print.register
    def _(self, node: tree.TableArgument) -> tuple[str, int]:
        text = f"TABLE {self.text(node.table)}" if isinstance(node.table, tree.Name) else self.query(node.table)
        if not node.partition:
            return text, 0
        listed = self.list_of(node.partition)
        return f"{text} PARTITION BY {listed if len(node.partition) == 1 else f'({listed})'}", 0

    @_print.register
    def _(self, node: tree.Descriptor) -> tuple[str, int]:
        return f"DESCRIPTOR({self.names(node.columns)})", 0

    @_print.register
    def _(self, node: tree.TableFunction) -> tuple[str, int]:
        arguments = ", ".join(
            (f"{name_text(name)} => " if name is not None else "") + self.text(argument)
            for name, argument in node.arguments
        )
        name = ".".join(name_text(part) for part in node.name.split("."))
        lateral = "LATERAL " if node.lateral else ""
        return f"{lateral}TABLE({name}({arguments})){self._alias(node.alias, node.columns)}", 0

    @_print.register
    def _(self, node: tree.Unnest) -> tuple[str, int]:
        ordinality = " WITH ORDINALITY" if node.with_ordinality else ""
        return f"UNNEST({self.text(node.expression)}){ordinality}{self._alias(node.alias, node.columns)}", 0

    @_print.register
    def _(self, node: tree.Join) -> tuple[str, int]:
        left = self.text(node.left)
        right = self.text(node.right)
        if isinstance(node.right, tree.Join):
            right = f"({right})"
        natural = "NATURAL " if node.natural else ""
        kind = "" if node.kind == "INNER" else node.kind + " "
        text = f"{left}\n{natural}{kind}JOIN {right}"
        if node.condition is not None:
            text += f" ON {self.text(node.condition)}"
        if node.using:
            text += f" USING ({self.names(node.using)})"
        return text, 0

    @_print.register
    def _(self, node: tree.MatchRecognize) -> tuple[str, int]:
        lines: list[str] = []
        if node.partition:
            lines.append(f"PARTITION BY {self.list_of(node.partition)}")
        if node.order:
            lines.append(f"ORDER BY {self.list_of(node.order)}")
        if node.measures:
            measures = (f"{self.text(measure)} AS {name_text(name)}" for measure, name in node.measures)
            lines.append(f"MEASURES {', '.join(measures)}")
        lines.append("ALL ROWS PER MATCH" if node.all_rows else "ONE ROW PER MATCH")
        if node.after is not None:
            variable = f" {name_text(node.after_variable)}" if node.after_variable is not None else ""
            lines.append(f"AFTER MATCH SKIP {node.after}{variable}")
        lines.append(f"PATTERN ({_pattern(node.pattern)})")
        if node.within is not None:
            lines.append(f"WITHIN {self.text(node.within)}")
        if node.subsets:
            subsets = (f"{name_text(name)} = ({self.names(members)})" for name, members in node.subsets)
            lines.append(f"SUBSET {', '.join(subsets)}")
        defines = (f"{name_text(name)} AS {self.text(condition)}" for name, condition in node.defines)
        lines.append(f"DEFINE {', '.join(defines)}")
        source = self.text(node.source)
        if isinstance(node.source, tree.Join):
            source = f"({source})"
        body = _indented("\n".join(lines))
        return f"{source} MATCH_RECOGNIZE (\n{body}\n){self._alias(node.alias, node.columns)}", 0

    # -- queries -----------------------------------------------------------------------------------------------------

    @_print.register
    def _(self, node: tree.GroupingElement) -> tuple[str, int]:
        if node.kind != "PLAIN":
            return f"{node.kind} ({', '.join(self._grouping_set(part) for part in node.sets)})", 0
        return self._grouping_set(node.expressions), 0

    def _grouping_set(self, expressions: tuple[tree.Expression, ...]) -> str:
        if len(expressions) == 1 and not isinstance(expressions[0], tree.RowValue):
            return self.text(expressions[0])
        if len(expressions) == 1:
            return f"ROW({self.list_of(expressions[0].values)})" if isinstance(expressions[0], tree.RowValue) else ""
        return f"({self.list_of(expressions)})"

    @_print.register
    def _(self, node: tree.SelectItem) -> tuple[str, int]:
        return self.text(node.expression) + ("" if node.alias is None else f" AS {name_text(node.alias)}"), 0

    @_print.register
    def _(self, node: tree.Select) -> tuple[str, int]:
        head = "SELECT"
        if node.hints:
            head += f" /*+ {', '.join(_hint(name, pairs) for name, pairs in node.hints)} */"
        if node.distinct:
            head += " DISTINCT"
        lines = [f"{head} {self.list_of(node.items)}"]
        if node.source is not None:
            lines.append(f"FROM {self.text(node.source)}")
        if node.where is not None:
            lines.append(f"WHERE {self.text(node.where)}")
        if node.group_by is not None:
            lines.append(f"GROUP BY {self.list_of(node.group_by)}")
        if node.having is not None:
            lines.append(f"HAVING {self.text(node.having)}")
        if node.windows:
            lines.append(
                "WINDOW " + ", ".join(f"{name_text(name)} AS {self.text(spec)}" for name, spec in node.windows)
            )
        if node.qualify is not None:
            lines.append(f"QUALIFY {self.text(node.qualify)}")
        return "\n".join(lines), 0

    @_print.register
    def _(self, node: tree.SetOperation) -> tuple[str, int]:
        kind = node.kind + (" ALL" if node.all else "")
        binds = node.kind == "INTERSECT"
        left = self._set_operand(node.left, is_left=True, binds=binds)
        return f"{left}\n{kind}\n{self._set_operand(node.right, is_left=False, binds=binds)}", 0

    def _set_operand(self, query: tree.Query, *, is_left: bool, binds: bool) -> str:
        """INTERSECT binds tighter than the others; all are associative to the left."""
        bare = isinstance(query, tree.Select | tree.Values)
        if isinstance(query, tree.SetOperation):
            is_intersection = query.kind == "INTERSECT"
            bare = is_intersection and not binds if not is_left else is_intersection or not binds
        return self.text(query) if bare else self.query(query)

    @_print.register
    def _(self, node: tree.Values) -> tuple[str, int]:
        # A value that is a row itself would be taken for the row.
        return "VALUES " + ", ".join(
            f"ROW({self.list_of(row)})" if len(row) == 1 else f"({self.list_of(row)})" for row in node.rows
        ), 0

    @_print.register
    def _(self, node: tree.Ordered) -> tuple[str, int]:
        lines = [self.query(node.query) if isinstance(node.query, tree.Ordered) else self.text(node.query)]
        if node.order:
            lines.append(f"ORDER BY {self.list_of(node.order)}")
        if node.limit is not None:
            lines.append(f"LIMIT {self.text(node.limit)}")
        if node.offset is not None:
            lines.append(f"OFFSET {self.text(node.offset)}")
        return "\n".join(lines), 0

    @_print.register
    def _(self, node: tree.With) -> tuple[str, int]:
        views = ",\n".join(
            name_text(name) + (f" ({self.names(columns)})" if columns else "") + f" AS {self.query(query)}"
            for name, columns, query in node.views
        )
        is_bare = isinstance(node.query, tree.Select | tree.Values | tree.SetOperation)
        return f"WITH {views}\n{self.text(node.query) if is_bare else self.query(node.query)}", 0

    # -- statements --------------------------------------------------------------------------------------------------

    @_print.register
    def _(self, node: tree.PhysicalColumn) -> tuple[str, int]:
        return f"{name_text(node.name)} {type_text(node.type)}{_comment(node.comment)}", 0

    @_print.register
    def _(self, node: tree.ComputedColumn) -> tuple[str, int]:
        return f"{name_text(node.name)} AS {self.text(node.expression)}{_comment(node.comment)}", 0

    @_print.register
    def _(self, node: tree.MetadataColumn) -> tuple[str, int]:
        key = "" if node.key is None else f" FROM {string_text(node.key)}"
        virtual = " VIRTUAL" if node.virtual else ""
        return f"{name_text(node.name)} {type_text(node.type)} METADATA{key}{virtual}{_comment(node.comment)}", 0

    @_print.register
    def _(self, node: tree.Watermark) -> tuple[str, int]:
        column = ".".join(name_text(part) for part in node.column)
        return f"WATERMARK FOR {column} AS {self.text(node.expression)}", 0

    @_print.register
    def _(self, node: tree.CreateTable) -> tuple[str, int]:
        elements = [self.text(column) for column in node.columns]
        if node.watermark is not None:
            elements.append(self.text(node.watermark))
        if node.primary_key:
            elements.append(f"PRIMARY KEY ({self.names(node.primary_key)}) NOT ENFORCED")
        text = f"CREATE {'TEMPORARY ' if node.temporary else ''}TABLE {_if_not_exists(node.if_not_exists)}"
        text += self.text(node.name)
        if elements:
            text += " (\n" + _indented(",\n".join(elements)) + "\n)"
        if node.comment:
            text += f"\nCOMMENT {string_text(node.comment)}"
        if node.partitioned_by:
            text += f"\nPARTITIONED BY ({self.names(node.partitioned_by)})"
        if node.options:
            text += " WITH (\n" + _indented(_pairs(node.options, ",\n")) + "\n)"
        if node.like is not None:
            text += f" LIKE {self.text(node.like)}"
        if node.like_options:
            text += " (\n" + _indented("\n".join(" ".join(option) for option in node.like_options)) + "\n)"
        if node.as_query is not None:
            text += f" AS\n{self.text(node.as_query)}"
        return text, 0

    @_print.register
    def _(self, node: tree.CreateView) -> tuple[str, int]:
        text = f"CREATE {'TEMPORARY ' if node.temporary else ''}VIEW {_if_not_exists(node.if_not_exists)}"
        text += self.text(node.name) + (f" ({self.names(node.columns)})" if node.columns else "")
        return f"{text}{_comment(node.comment)} AS\n{self.text(node.query)}", 0

    @_print.register
    def _(self, node: tree.CreateFunction) -> tuple[str, int]:
        kind = "TEMPORARY SYSTEM " if node.system else "TEMPORARY " if node.temporary else ""
        text = f"CREATE {kind}FUNCTION {_if_not_exists(node.if_not_exists)}"
        return f"{text}{self.text(node.name)} AS {string_text(node.target)} LANGUAGE {node.language}", 0

    @_print.register
    def _(self, node: tree.Drop) -> tuple[str, int]:
        return f"DROP {node.what} {'IF EXISTS ' if node.if_exists else ''}{self.text(node.name)}", 0

    @_print.register
    def _(self, node: tree.Insert) -> tuple[str, int]:
        text = f"INSERT {'OVERWRITE' if node.overwrite else 'INTO'} {self.text(node.target)}"
        if node.static_partition:
            values = (f"{name_text(name)} = {self.text(value)}" for name, value in node.static_partition)
            text += f" PARTITION ({', '.join(values)})"
        if node.columns:
            text += f" ({self.names(node.columns)})"
        return f"{text}\n{self.text(node.query)}", 0

    @_print.register
    def _(self, node: tree.StatementSet) -> tuple[str, int]:
        inserts = "\n".join(f"{self.text(insert)};" for insert in node.inserts)
        return f"EXECUTE STATEMENT SET BEGIN\n{_indented(inserts)}\nEND", 0

    @_print.register
    def _(self, node: tree.SetOption) -> tuple[str, int]:
        if node.value is not None:
            return f"SET {string_text(node.key or '')} = {string_text(node.value)}", 0
        if node.key is None:
            return "SET", 0
        return f"RESET {string_text(node.key)}" if node.key else "RESET", 0

    @_print.register
    def _(self, node: tree.Show) -> tuple[str, int]:
        return f"SHOW {node.what}" + ("" if node.name is None else f" {self.text(node.name)}"), 0

    @_print.register
    def _(self, node: tree.Describe) -> tuple[str, int]:
        return f"DESCRIBE {self.text(node.name)}", 0

    @_print.register
    def _(self, node: tree.Explain) -> tuple[str, int]:
        return f"EXPLAIN {self.text(node.statement)}", 0

    @_print.register
    def _(self, node: tree.QueryStatement) -> tuple[str, int]:
        return self.text(node.query), 0


def _is_number(node: tree.Expression) -> bool:
    return (
        isinstance(node, tree.Literal_)
        and isinstance(node.value, int | float | Decimal)
        and not isinstance(node.value, bool)
    )


def _not(negated: bool) -> str:
    return "NOT " if negated else ""


def _comment(text: str) -> str:
    return f" COMMENT {string_text(text)}" if text else ""


def _if_not_exists(is_there: bool) -> str:
    return "IF NOT EXISTS " if is_there else ""


def _pairs(pairs: tuple[tuple[str, str], ...], between: str = ", ") -> str:
    return between.join(f"{string_text(key)} = {string_text(value)}" for key, value in pairs)


def _hint(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    if not pairs:
        return name_text(name)
    listed = (string_text(key) + (f" = {string_text(value)}" if value else "") for key, value in pairs)
    return f"{name_text(name)}({', '.join(listed)})"


def _indented(text: str) -> str:
    """Each line two spaces in, but not inside texts and quoted names, which may have lines of their own."""
    parts = _QUOTED.split(text)
    return "  " + "".join(part if place % 2 else part.replace("\n", "\n  ") for place, part in enumerate(parts))


_QUOTED: Final = re.compile(r"('(?:[^']|'')*'|`(?:[^`]|``)*`)")


def _pattern(term: tree.PatternTerm) -> str:
    inner = name_text(term.variable) if term.variable is not None else ""
    if term.variable is None:
        inner = (" | " if term.is_alternation else " ").join(_pattern_part(part, term) for part in term.parts)
    quantifier = _QUANTIFIERS.get((term.minimum, term.maximum))
    if quantifier is None:
        most = "" if term.maximum is None else str(term.maximum)
        quantifier = f"{{{term.minimum}}}" if term.minimum == term.maximum else f"{{{term.minimum},{most}}}"
    if not quantifier:
        return inner
    inner = inner if term.variable is not None else f"({inner})"
    return inner + quantifier + ("" if term.greedy else "?")


def _pattern_part(part: tree.PatternTerm, whole: tree.PatternTerm) -> str:
    """A part in brackets where it would become one with the whole."""
    is_group = part.variable is None and (part.minimum, part.maximum) == (1, 1)
    if is_group and (part.is_alternation or not whole.is_alternation):
        return f"({_pattern(part)})"
    return _pattern(part)


_QUANTIFIERS: Final = {(1, 1): "", (0, None): "*", (1, None): "+", (0, 1): "?"}
_FORMS: Final[dict[str, Callable[[Printer, tree.Call, tuple[str, ...]], str]]] = {
    "EXTRACT": Printer._extract,
    "FLOOR": Printer._floor,
    "CEIL": Printer._floor,
    **dict.fromkeys(("TIMESTAMPADD", "TIMESTAMPDIFF"), Printer._timestamp_add),
    "TRIM": Printer._trim,
    "POSITION": Printer._position,
    "OVERLAY": Printer._overlay,
    **dict.fromkeys(("JSON_VALUE", "JSON_QUERY", "JSON_EXISTS"), Printer._json_path),
    **dict.fromkeys(("JSON_OBJECT", "JSON_OBJECTAGG"), Printer._json_object),
    **dict.fromkeys(("JSON_ARRAY", "JSON_ARRAYAGG"), Printer._json_array),
}
