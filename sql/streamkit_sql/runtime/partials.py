"""What a window's rows are kept as until it closes, and how that becomes results.

Where all aggregates can be merged, rows of one tick that go to the same place become one row of accumulators; those of
the next tick are put beside it, never looked up, and merged when the window closes: an upsert by key costs five times
as much. DISTINCT aggregates add their columns to what rows are grouped by. One aggregate that cannot be merged makes
all of a node be computed from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamkit_sql.expressions.bound import ARRIVAL_ORDER, Aggregate
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    from streamkit_sql.plan.nodes import WindowAggregate
    from streamkit_sql.runtime.operator import Input

END = '"$$end"'
START = '"$$start"'
"""Of the window a row is merged for, in epoch ms."""
_INNER = "$$inner"


def filled(template: str, values: Sequence[str]) -> str:
    """The template with `{}` and `{0}`, `{1}` .. put in; other braces are the text's own."""
    for index, value in enumerate(values):
        template = template.replace("{" + str(index) + "}", value)
    return template.replace("{}", values[0]) if values else template


def instant_sql(ms_sql: str) -> str:
    """Epoch milliseconds as a TIMESTAMP."""
    return f"make_timestamp({ms_sql} * 1000)"


def instant_of(ms_sql: str, zone: str) -> str:
    """The TIMESTAMP_LTZ at which a window's clock shows these milliseconds."""
    from streamkit_sql.expressions.bound import Settings
    from streamkit_sql.expressions.casts import instant

    return instant(instant_sql(ms_sql), Settings(zone=zone))


class Partials:
    """The texts of a node's accumulators. Stored columns are named `$$k0` .. for keys and `$$a0_0` .. for accumulators;
    columns that aggregates read again keep their names."""

    def __init__(self, node: WindowAggregate, input: Input) -> None:
        self._node = node
        aggregates = [aggregate for _, aggregate in node.aggregates]
        self.is_raw = any(not each.is_mergeable and each.distinct_of is None for each in aggregates)
        self._kept = [each for each in aggregates if self.is_raw or not each.is_mergeable]
        read = frozenset().union(*(each.columns for each in self._kept)) if self._kept else frozenset()
        kept = [column for column in input.columns if column.name in read]
        self.keys = [f'"$$k{index}"' for index in range(len(node.keys))]
        self._columns = [(key, bound.type.duckdb) for key, (_, bound) in zip(self.keys, node.keys, strict=True)]
        self._columns += [(quoted(column.name), column.type.duckdb) for column in kept]
        if self.is_raw:
            self._columns.append((ARRIVAL_ORDER, "BIGINT"))
        self._places = [name for name, _ in self._columns]
        self._accumulators: list[tuple[str, str, str, str]] = []  # name, type, of rows, merge
        if not self.is_raw:
            for index, aggregate in enumerate(aggregates):
                for place, part in enumerate(aggregate.partials):
                    name = _accumulator(index, place)
                    self._accumulators.append((name, part.type, part.of_rows, filled(part.merge, [name])))

    @property
    def is_by_key(self) -> bool:
        """Nothing but the keys keeps rows of one place apart."""
        return not self.is_raw and len(self._columns) == len(self.keys)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Names and types of what is stored of a row or a group of rows."""
        return self._columns + [(name, of) for name, of, _, _ in self._accumulators]

    def of_rows(self, places: Sequence[str], source: str) -> str:
        """A SELECT of `places` (expressions, with names) and the stored columns over input rows."""
        texts = [bound.sql for _, bound in self._node.keys] + self._places[len(self.keys) :]
        cells = [*places, *(f"{text} AS {name}" for text, name in zip(texts, self._places, strict=True))]
        if self.is_raw:
            return f"SELECT {', '.join(cells)} FROM {source}"
        cells += [f"{text} AS {name}" for name, _, text, _ in self._accumulators]
        return f"SELECT {', '.join(cells)} FROM {source} GROUP BY ALL"

    def compacted(self, places: Sequence[str], source: str) -> str:
        """The same over stored rows: what belongs to one place becomes one row, where that is possible."""
        cells = [*places, *self._places]
        if self.is_raw:
            return f"SELECT {', '.join(cells)} FROM {source}"
        cells += [f"{merge} AS {name}" for name, _, _, merge in self._accumulators]
        return f"SELECT {', '.join(cells)} FROM {source} GROUP BY ALL"

    def results(self, source: str, end: str = END, start: str = START) -> str:
        """The node's columns over stored rows that have `$$end` and `$$start`; by end, then start, then keys.

        Where there are rows and all are of one window, `end` and `start` are its numbers, which nothing is grouped by.
        """
        node = self._node
        window = [] if end != END else [END, START]
        grouped = [*window, *self.keys]
        inner = [*grouped, *(f"{merge} AS {name}" for name, _, _, merge in self._accumulators)]
        for index, (_, aggregate) in enumerate(node.aggregates):
            if self.is_raw or not aggregate.is_mergeable:
                inner.append(f"{aggregate.whole} AS {_accumulator(index, 0)}")
        for name, indexes in node.grouping_ids:
            arguments = ", ".join(self.keys[index] for index in indexes)
            inner.append(
                f"GROUPING({arguments}) AS {quoted(name)}" if self.keys and indexes else f"0 AS {quoted(name)}"
            )
        order = list(grouped)
        group = ", ".join(grouped)
        if node.grouping_sets is not None:
            sets = [", ".join([*window, *(self.keys[i] for i in each)]) for each in node.grouping_sets]
            group = f"GROUPING SETS ({', '.join(f'({each})' for each in sets)})"
            if self.keys:
                # A key that is NULL by itself and one that is left out must not change places.
                inner.append(f'GROUPING({", ".join(self.keys)}) AS "$$set"')
                order.insert(len(window), '"$$set"')
        cells = self._cells(end, start)
        chosen = ", ".join(f"{cells[column.name]} AS {quoted(column.name)}" for column in node.columns)
        by = f" GROUP BY {group}" if group else ""
        ordered = f" ORDER BY {', '.join(f'{quoted(_INNER)}.{name}' for name in order)}" if order else ""
        return f"SELECT {chosen} FROM (SELECT {', '.join(inner)} FROM {source}{by}) AS {quoted(_INNER)}{ordered}"

    def _cells(self, end: str, start: str) -> dict[str, str]:
        """The texts of the node's columns over merged accumulators."""
        node = self._node
        cells = {name: key for key, (name, _) in zip(self.keys, node.keys, strict=True)}
        cells |= {name: quoted(name) for name, _ in node.grouping_ids}
        for index, (name, aggregate) in enumerate(node.aggregates):
            cells[name] = self._final(index, aggregate)
        texts = {"start": start, "end": end, "time": f"({end} - 1)"}
        zone = {"time": node.spec.zone}
        return cells | {name: instant_of(texts[of], zone.get(of, "UTC")) for name, of in node.outputs}

    def _final(self, index: int, aggregate: Aggregate) -> str:
        if self.is_raw or not aggregate.is_mergeable:
            return _accumulator(index, 0)
        return filled(aggregate.final, [_accumulator(index, place) for place in range(len(aggregate.partials))])


def _accumulator(index: int, place: int) -> str:
    return f'"$$a{index}_{place}"'
