"""Temporal joins: each left row with the version of a table that was valid at its time.

By event time a version holds from its row's time until that of the next one of its key. A left row comes out when the
watermark has reached its time, in the order of arrival; by processing time it meets the newest version at once.

**Late** (`TemporalRowTimeJoinOperator`). A version that comes after a left row went out does not change it. A left row
behind the watermark is taken; but of versions that were replaced before the watermark only the newest is still there,
so it mostly finds one only if that is older than it is.

Rows that go from an updating right side end their version, but for those that are replaced: what comes for the same key
in the same tick is the next version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from streamkit_sql.errors import NotSupported
from streamkit_sql.plan.nodes import ARRIVED, NUMBER, WATERMARK, WEIGHT, Changes, TemporalJoin
from streamkit_sql.runtime.changes import StateTable
from streamkit_sql.runtime.duck import table_of
from streamkit_sql.runtime.operator import NO_WATERMARK_MS, Counts, Input, Tick
from streamkit_sql.types import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_N: Final = ('"$$n0"', '"$$n1"')
_I: Final = '"$$i0"'
_T: Final = ('"$$t0"', '"$$t1"')
_W: Final = ('"$$w0"', '"$$w1"')
_IS_THERE: Final = '"$$v"'


class TemporalJoinOperator:
    """Left rows in the order of their arrival, each once (INNER: if it has a version)."""

    def __init__(self, name: str, node: TemporalJoin, left: Input, right: Input) -> None:
        if left.changes is Changes.UPDATES:
            raise NotSupported("a temporal join of a left side whose rows change is not supported.")
        self.name = name
        self.inputs: Sequence[Input] = (left, right)
        self.counts = Counts()
        self._node = node
        self._is_event = node.time_kind == "event"
        assert not self._is_event or node.right_time is not None
        self._updates = right.changes is Changes.UPDATES
        read = {column.name for column in node.columns}
        read |= node.residual.columns if node.residual is not None else set()
        sides = []
        for side, (input, keys) in enumerate(((left, node.left_keys), (right, node.right_keys))):
            columns = [(quoted(each.name), each.type.duckdb) for each in input.columns if each.name in read]
            names = [(f'"$$k{side}_{index}"', bound.type.duckdb) for index, bound in enumerate(keys)]
            sides.append((columns, names))
        (self._left_columns, self._left_keys), (self._right_columns, self._right_keys) = sides
        hidden = [(_N[0], "BIGINT"), (_I, "BIGINT"), (_T[0], "BIGINT"), (_W[0], "BIGINT")]
        self._waiting = StateTable(f"{name}_left", [*self._left_columns, *self._left_keys, *hidden])
        hidden = [(_N[1], "BIGINT"), (_T[1], "BIGINT"), (_W[1], "BIGINT"), (_IS_THERE, "BOOLEAN")]
        self._versions = StateTable(f"{name}_right", [*self._right_columns, *self._right_keys, *hidden])
        self._next = 0
        self._least_ms: int | None = None
        self._has_old = True

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database
        self._waiting.open(database)
        self._versions.open(database)
        self._next = self._waiting.one(f"SELECT coalesce(max({_I}) + 1, 0) FROM {self._waiting.sql}")
        self._look()

    def _look(self) -> None:
        self._least_ms = self._database.execute(f"SELECT min({_T[0]}) FROM {self._waiting.sql}").fetchall()[0][0]

    def step(self, tick: Tick) -> pa.Table | None:
        left, right = self.inputs
        if right.has_rows:
            self._take_versions(right)
        if left.has_rows:
            self._take_rows(left)
        due = "true"
        if self._is_event:
            # A row behind the watermark comes out when the watermark goes on, as in Flink.
            due = f"{_T[0]} <= {tick.watermark_ms} AND {_W[0]} < {tick.watermark_ms}"
        rows = None
        if self._least_ms is not None and (not self._is_event or self._least_ms <= tick.watermark_ms):
            rows = table_of(self._database, self._joined(due))
            self._waiting.remove(due)
            self._look()
        self._forget(tick)
        return rows if rows is not None and rows.num_rows else None

    # -- taking in ---------------------------------------------------------------------------------------------------

    def _take_versions(self, input: Input) -> None:
        node = self._node
        keys = [f"{bound.sql} AS {key}" for bound, (key, _) in zip(node.right_keys, self._right_keys, strict=True)]
        time = f"epoch_ms({node.right_time.sql})" if self._is_event and node.right_time is not None else NUMBER
        before = WATERMARK if self._is_event else str(NO_WATERMARK_MS)
        there = f"{WEIGHT} > 0" if self._updates else "true"
        hidden = [f"{NUMBER} AS {_N[1]}", f"{time} AS {_T[1]}", f"{before} AS {_W[1]}", f"{there} AS {_IS_THERE}"]
        names = [name for name, _ in self._right_columns]
        rows = f"SELECT {', '.join([*names, *keys, *hidden])} FROM ({input.sql})"
        if self._updates:
            by = ", ".join(key for key, _ in self._right_keys)
            comes = f"bool_or({_IS_THERE}) OVER (PARTITION BY {by})"
            rows = f"SELECT * FROM ({rows}) QUALIFY {_IS_THERE} OR NOT {comes}"
        if node.newest_only:
            rows = self._newest(rows)
        self._versions.add(rows)
        self._has_old = True

    def _newest(self, rows: str) -> str:
        """Without rows older than a version of their key that is there, as `RowTimeDeduplicateFunction` does."""
        by = ", ".join(key for key, _ in self._right_keys)
        before = f"(PARTITION BY {by} ORDER BY {_N[1]} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        known = f'(SELECT {by}, max({_T[1]}) AS "$$max" FROM {self._versions.sql} GROUP BY {by})'
        equal = " AND ".join(f"n.{key} = k.{key}" for key, _ in self._right_keys)
        newest = (
            f"coalesce(max(n.{_T[1]}) OVER {before.replace(by, ', '.join(f'n.{key}' for key, _ in self._right_keys))}"
        )
        newest += f", n.{_T[1]}) <= n.{_T[1]}"
        return (
            f"SELECT n.* FROM ({rows}) AS n LEFT JOIN {known} AS k ON {equal}"
            f' WHERE coalesce(k."$$max", n.{_T[1]}) <= n.{_T[1]} QUALIFY {newest}'
        )

    def _take_rows(self, input: Input) -> None:
        node = self._node
        keys = [f"{bound.sql} AS {key}" for bound, (key, _) in zip(node.left_keys, self._left_keys, strict=True)]
        place = f"{self._next} + row_number() OVER (ORDER BY {NUMBER}) - 1 AS {_I}"
        time = f"epoch_ms({node.left_time.sql})" if self._is_event else f"epoch_ms({ARRIVED})"
        before = WATERMARK if self._is_event else str(NO_WATERMARK_MS)
        hidden = [f"{NUMBER} AS {_N[0]}", place, f"{time} AS {_T[0]}", f"{before} AS {_W[0]}"]
        names = [name for name, _ in self._left_columns]
        self._next += self._waiting.add(f"SELECT {', '.join([*names, *keys, *hidden])} FROM ({input.sql})")
        self._look()

    # -- coming out --------------------------------------------------------------------------------------------------

    def _joined(self, due: str) -> str:
        """The newest version that was there when the row came out, of those that began by its time."""
        node = self._node
        equal = [f"{a} = {b}" for (a, _), (b, _) in zip(self._left_keys, self._right_keys, strict=True)]
        if self._is_event:
            came = f"({_W[1]} < {_T[0]} OR {_W[1]} <= {_W[0]})"
            usable = [*equal, f"{_T[1]} <= {_T[0]}", came]
            order = f"{_T[1]} DESC, {_N[1]} DESC"
        else:
            usable = [*equal, f"{_N[1]} < {_N[0]}"]
            order = f"{_N[1]} DESC"
        versions = self._versions.sql
        own = [name for name, _ in [*self._right_columns, *self._right_keys]]
        left = f"(SELECT * FROM {self._waiting.sql} WHERE {due})"
        chosen = ", ".join([*own, _T[1], _N[1], _W[1], _IS_THERE])
        picked = (
            f"SELECT l.*, {', '.join(f'r.{each}' for each in [*own, _T[1], _W[1], _IS_THERE])} FROM {left} AS l"
            f" LEFT JOIN (SELECT {chosen} FROM {versions}) AS r ON {' AND '.join(usable)}"
            f" QUALIFY row_number() OVER (PARTITION BY {_I} ORDER BY {order}) = 1"
        )
        gone = self._gone(equal)
        valid = [f"coalesce({_IS_THERE}, false)"]
        if gone:
            valid.append(f"NOT ({gone})")
        if node.residual is not None:
            valid.append(f"coalesce({node.residual.sql}, false)")
        is_valid = " AND ".join(valid)
        rights = {name for name, _ in self._right_columns}
        cells = [
            f'CASE WHEN "$$ok" THEN {quoted(column.name)} END AS {quoted(column.name)}'
            if quoted(column.name) in rights
            else quoted(column.name)
            for column in node.columns
        ]
        where = "" if node.kind == "LEFT" else ' WHERE "$$ok"'
        return (
            f'SELECT {", ".join(cells)} FROM (SELECT *, {is_valid} AS "$$ok" FROM ({picked}) AS p){where}'
            f" ORDER BY {_N[0]}, {_I}"
        )

    def _gone(self, equal: Sequence[str]) -> str:
        """Whether a version was forgotten when a late row came: the watermark had passed a newer one."""
        if not self._is_event:
            return ""
        keys = " AND ".join(f"v.{b} = p.{a}" for (a, _), (b, _) in zip(self._left_keys, self._right_keys, strict=True))
        newer = f"v.{_T[1]} > p.{_T[1]} AND v.{_T[1]} <= p.{_W[0]} AND v.{_W[1]} < p.{_W[0]}"
        late = f"p.{_T[0]} <= p.{_W[0]} AND p.{_W[1]} < p.{_W[0]}"
        return f"{late} AND EXISTS (SELECT 1 FROM {self._versions.sql} AS v WHERE {keys} AND {newer})"

    def _forget(self, tick: Tick) -> None:
        """Versions that no row can find any more: of each key there stays the newest one before the watermark, and what
        rows that wait may ask for."""
        if not self._has_old or not self._versions.rows:
            return
        by = ", ".join(key for key, _ in self._right_keys)
        if self._is_event:
            limit_ms = min(tick.watermark_ms, tick.watermark_ms if self._least_ms is None else self._least_ms)
            # What came since the watermark stands where it is may still be asked for by late rows, as in Flink.
            old = f"({_T[1]} <= {limit_ms} AND {_W[1]} < {tick.watermark_ms})"
            number = f"row_number() OVER (PARTITION BY {by}, {old} ORDER BY {_T[1]} DESC, {_N[1]} DESC)"
        else:
            old = "true"
            number = f"row_number() OVER (PARTITION BY {by} ORDER BY {_N[1]} DESC)"
        gone = f"SELECT rowid FROM {self._versions.sql} WHERE {old} QUALIFY {number} > 1"
        self._versions.remove(f"rowid IN ({gone})")
        self._has_old = self._is_event
