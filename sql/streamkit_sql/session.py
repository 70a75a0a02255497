"""A session: statements change its catalog, and give what is to be run.

session = Session()
script = session.run(text)      # CREATE .., SET .., INSERT INTO .., SELECT ..
script.outputs                  # the planned queries, to be compiled into one program
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from streamkit_sql.errors import NotSupported, Place, TypeProblem, UnknownName
from streamkit_sql.expressions.binder import is_built_in
from streamkit_sql.expressions.bound import Bound, Column, combine
from streamkit_sql.expressions.functions import RULES
from streamkit_sql.language import tree
from streamkit_sql.language.parser import parse_script
from streamkit_sql.plan.catalog import Catalog, View, near
from streamkit_sql.plan.explain import updating_part
from streamkit_sql.plan.maps import project
from streamkit_sql.plan.nodes import Changes, Node, Output
from streamkit_sql.plan.planner import Planner
from streamkit_sql.plan.scopes import TableScope, reference
from streamkit_sql.plan.select import sources_settled
from streamkit_sql.tables.definition import TableDefinition
from streamkit_sql.types import Kind, SqlType, text_literal
from streamkit_sql.user_functions import loading
from streamkit_sql.user_functions.bound import PythonFunction
from streamkit_sql.user_functions.declared import Declared, FuncType, TypeLike, declared

UPDATABLE: Final = ("print", "blackhole", "live")
"""Connectors that can take that a row goes."""


@dataclass(slots=True)
class Answer:
    """What a statement that is not run says: rows of texts under names."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(slots=True)
class Script:
    """What is left to be done of a text. `outputs` belong together: they read the same rows in the same ticks."""

    outputs: list[Output] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


class Session:
    """Not to be shared between threads. A statement that fails has changed nothing; those before it have."""

    def __init__(self, catalog: Catalog | None = None, *, folder: Path | None = None) -> None:
        """Modules with functions are looked for in `folder` first; by default in the working directory."""
        self.catalog = catalog or Catalog(functions=dict(RULES))
        self._folder = folder

    def run(self, text: str) -> Script:
        """Raises SqlError with the place of what is wrong."""
        script = Script()
        for statement in parse_script(text):
            self._statement(statement, script)
        return script

    def plan(self, query: tree.Query) -> Output:
        """A query whose rows go to whoever asked."""
        planner = Planner(self.catalog)
        planner.is_bounded = self._is_bounded(query)
        node = sources_settled(planner, planner.query(query))
        return Output(node, None, node.columns)

    def _is_bounded(self, query: tree.Query) -> bool:
        """Whether the session runs over what is there and ends: as Flink's `execution.runtime-mode`."""
        return self.catalog.settings.options.get("execution.runtime-mode", "streaming").lower() == "batch"

    # -- statements --------------------------------------------------------------------------------------------------

    def _statement(self, statement: tree.Statement, script: Script) -> None:
        if isinstance(statement, tree.CreateTable):
            self._create_table(statement, script)
        elif isinstance(statement, tree.CreateView):
            self._create_view(statement)
        elif isinstance(statement, tree.QueryStatement):
            script.outputs.append(self.plan(statement.query))
        elif isinstance(statement, tree.Insert):
            script.outputs.append(self._insert(statement))
        elif isinstance(statement, tree.StatementSet):
            script.outputs += [self._insert(each) for each in statement.inserts]
        elif isinstance(statement, tree.SetOption):
            self._set(statement, script)
        elif isinstance(statement, tree.Drop):
            self._drop(statement)
        elif isinstance(statement, tree.CreateFunction):
            self._create_function(statement)
        elif isinstance(statement, tree.Show):
            self._show(statement, script)
        elif isinstance(statement, tree.Describe):
            self._describe(statement, script)
        else:
            self._explain(statement, script)

    def _create_table(self, statement: tree.CreateTable, script: Script) -> None:
        name = statement.name.parts[-1]
        if self._is_taken(name, statement.name.place, if_not_exists=statement.if_not_exists):
            return
        like = None
        if statement.like is not None:
            found = self.catalog.find(statement.like)
            if isinstance(found, View):
                raise NotSupported("LIKE takes a table, not a view.", statement.like.place)
            like = found
        if statement.as_query is None:
            self.catalog.tables[name] = TableDefinition.from_create(statement, like)
            return
        planner = Planner(self.catalog)
        node = sources_settled(planner, planner.query(statement.as_query))
        columns = tuple(tree.PhysicalColumn(column.name, column.type) for column in node.columns)
        created = replace(statement, columns=(*statement.columns, *columns), as_query=None)
        self.catalog.tables[name] = TableDefinition.from_create(created, like)
        script.outputs.append(self._insert(tree.Insert(statement.name, statement.as_query, place=statement.place)))

    def _is_taken(self, name: str, place: Place, *, if_not_exists: bool) -> bool:
        if name not in self.catalog.tables and name not in self.catalog.views:
            return False
        if not if_not_exists:
            raise UnknownName(
                f"there is a table or view {name!r} already.", place, "DROP it first, or use another name."
            )
        return True

    def _create_view(self, statement: tree.CreateView) -> None:
        name = statement.name.parts[-1]
        if self._is_taken(name, statement.name.place, if_not_exists=statement.if_not_exists):
            return
        node = Planner(self.catalog).query(statement.query)  # so that what is wrong is said here
        if statement.columns and len(statement.columns) != len(node.columns):
            raise TypeProblem(
                f"the view names {len(statement.columns)} columns, its query has {len(node.columns)}.", statement.place
            )
        self.catalog.views[name] = View(statement.query, statement.columns)

    def _create_function(self, statement: tree.CreateFunction) -> None:
        name, place = statement.name.parts[-1], statement.place
        if statement.language != "PYTHON":
            hint = "Write it in Python: AS 'module.attribute' LANGUAGE PYTHON."
            raise NotSupported(f"a function in {statement.language.title()}.", place, hint)
        own = self._user_functions()
        if name.upper() in own:
            if statement.if_not_exists:
                return
            raise UnknownName(f"there is a function {name!r} already.", place, "DROP it first, or use another name.")
        if not statement.system and is_built_in(name.upper()):
            hint = "Use another name, or CREATE TEMPORARY SYSTEM FUNCTION to hide Flink's."
            raise NotSupported(f"{name.upper()} is Flink's own function, which goes first.", place, hint)
        found = loading.load(statement.target, self._folder or Path.cwd(), place)
        self._add_function(name, statement.target, found)

    def register(
        self,
        name: str,
        function: Any,
        *,
        result_type: TypeLike | None = None,
        input_types: Sequence[TypeLike] | None = None,
        func_type: FuncType = "general",
        deterministic: bool | None = None,
    ) -> None:
        """As CREATE TEMPORARY SYSTEM FUNCTION, of a function that is there: a Python function, an object with `eval` or
        `accumulate`, or what `udf` and `udaf` made. Takes the place of one of this name."""
        if not isinstance(function, Declared):
            if hasattr(function, "_func_type"):
                function = loading.of_object(function)
            else:
                function = declared(function, input_types, result_type, deterministic, func_type=func_type)
        called = function.function
        where = getattr(called, "__qualname__", type(called).__qualname__)
        self._add_function(name, f"{getattr(called, '__module__', '')}.{where}", function)

    def _add_function(self, name: str, target: str, found: Declared) -> None:
        catalog = self.catalog
        catalog.functions[name.upper()] = PythonFunction(name, target, found, catalog.called)

    def _user_functions(self) -> dict[str, PythonFunction]:
        return {key: each for key, each in self.catalog.functions.items() if isinstance(each, PythonFunction)}

    def _set(self, statement: tree.SetOption, script: Script) -> None:
        if statement.key is None:
            rows = sorted(self.catalog.settings.options.items())
            script.answers.append(Answer(("key", "value"), [tuple(each) for each in rows]))
        elif statement.value is None:
            options = {key: value for key, value in self.catalog.settings.options.items() if key != statement.key}
            self.catalog.settings = type(self.catalog.settings)()
            for key, value in options.items():
                self.catalog.set_option(key, value)
        else:
            self.catalog.set_option(statement.key, statement.value)

    def _drop(self, statement: tree.Drop) -> None:
        name = statement.name.parts[-1]
        held: dict[str, object] = {
            "TABLE": self.catalog.tables, "VIEW": self.catalog.views, "FUNCTION": self._user_functions(),
        }[statement.what]  # type: ignore[assignment]  # fmt: skip
        key = name.upper() if statement.what == "FUNCTION" else name
        if key in held and statement.what == "FUNCTION":
            del self.catalog.functions[key]
            if key in RULES:
                self.catalog.functions[key] = RULES[key]
        elif key in held:
            del held[key]
        elif not statement.if_exists:
            raise UnknownName(f"there is no {statement.what.lower()} {name!r}.", statement.name.place, near(name, held))

    def _show(self, statement: tree.Show, script: Script) -> None:
        catalog = self.catalog
        if statement.what == "TABLES":
            names: Sequence[str] = sorted([*catalog.tables, *catalog.views])
        elif statement.what == "VIEWS":
            names = sorted(catalog.views)
        elif statement.what == "FUNCTIONS":
            names = sorted(_shown_names(catalog))
        elif statement.what == "USER FUNCTIONS":
            names = [key.lower() for key in sorted(self._user_functions())]
        else:
            from streamkit_sql.language.printer import to_flink

            assert statement.name is not None
            found = catalog.find(statement.name)
            if isinstance(found, View):
                made: tree.Statement = tree.CreateView(statement.name, found.query, found.columns)
            else:
                made = found.to_create()
            script.answers.append(Answer(("result",), [(to_flink(made),)]))
            return
        what = statement.what.rpartition(" ")[2]
        script.answers.append(Answer((what.lower().rstrip("s") + " name",), [(each,) for each in names]))

    def _describe(self, statement: tree.Describe, script: Script) -> None:
        planner = Planner(self.catalog)
        node = planner.query(tree.Select((tree.SelectItem(tree.Star()),), tree.TableName(statement.name)))
        rows = [(column.name, str(column.type), column.time or "") for column in node.columns]
        script.answers.append(Answer(("name", "type", "time"), [tuple(row) for row in rows]))

    def _explain(self, statement: tree.Explain, script: Script) -> None:
        from streamkit_sql.plan.explain import explain

        inner = Script()
        self._statement(statement.statement, inner)
        script.answers.append(Answer(("result",), [(explain(inner.outputs),)]))

    # -- INSERT ------------------------------------------------------------------------------------------------------

    def _insert(self, statement: tree.Insert) -> Output:
        target = self.catalog.find(statement.target)
        if isinstance(target, View):
            raise NotSupported("INSERT INTO a view.", statement.target.place)
        planner = Planner(self.catalog)
        node = sources_settled(planner, planner.query(statement.query))
        wanted = [(each.name, each.type) for each in target.written]
        node = self._as_target(planner, node, wanted, statement)
        if node.changes is Changes.UPDATES and target.connector not in UPDATABLE:
            hint = (
                "Write to a table with a PRIMARY KEY and 'connector' = 'live', or use a window: its rows are given "
                "once, when it closes."
            )
            text = (
                f"{statement.target.parts[-1]!r} (a {target.connector!r} table) only takes new rows; this query "
                f"changes rows it gave before, because of its {updating_part(node)}."
            )
            raise NotSupported(text, statement.place, hint)
        return Output(node, target.name, node.columns)

    def _as_target(
        self, planner: Planner, node: Node, wanted: Sequence[tuple[str, SqlType]], statement: tree.Insert
    ) -> Node:
        """The query's columns in the target's order and types, by place as SQL has it."""
        names = list(statement.columns) or [name for name, _ in wanted]
        static = dict(statement.static_partition)
        if not statement.columns and static:
            names = [name for name in names if name not in static]
        if len(names) != len(node.columns):
            text = f"the query gives {len(node.columns)} columns, {statement.target.parts[-1]!r} takes {len(names)}."
            raise TypeProblem(text, statement.place, f"These: {', '.join(names)}.")
        given: dict[str, Column] = dict(zip(names, node.columns, strict=True))
        projections = []
        for name, of in wanted:
            column = given.pop(name, None)
            if column is not None:
                bound = reference(column)
                if not self._may_assign(column.type, of):
                    text = f"column {name!r} is a {of}, the query gives a {column.type}."
                    raise TypeProblem(text, statement.place, f"Write CAST(.. AS {of.with_null()}).")
            elif name in static:
                bound = planner.bind(static[name], TableScope(()))
            else:
                bound = planner.bind(tree.Literal_(None), TableScope(()))
            bound = bound if bound.type.same_as(of) else planner.cast(bound, of)
            projections.append((name, bound if of.nullable else _required(name, bound, of)))
        if given:
            name = next(iter(given))
            raise UnknownName(f"{statement.target.parts[-1]!r} has no column {name!r}.", statement.place)
        return project(node, projections)

    @staticmethod
    def _may_assign(given: SqlType, wanted: SqlType) -> bool:
        """Flink casts by itself within numbers, texts, bytes and times, not between them."""
        if given.same_as(wanted) or given.kind is Kind.NULL:
            return True
        families = ("is_number", "is_text", "is_bytes", "is_timestamp")
        if any(getattr(given, family) and getattr(wanted, family) for family in families):
            return True
        return given.kind is wanted.kind


def _shown_names(catalog: Catalog) -> list[str]:
    """Functions as SHOW FUNCTIONS has them: users' are in small letters, as Flink keeps them."""
    return [key.lower() if isinstance(each, PythonFunction) else key for key, each in catalog.functions.items()]


def _required(name: str, bound: Bound, of: SqlType) -> Bound:
    """The value of a NOT NULL column (Flink: `table.exec.sink.not-null-enforcer`, which is ERROR by default)."""
    if not bound.type.nullable:
        return bound
    problem = text_literal(f"Column '{name}' is NOT NULL, however, a null value is being written into it.")
    return combine(f"(CASE WHEN {bound.sql} IS NULL THEN error({problem}) ELSE {bound.sql} END)", of, bound)
