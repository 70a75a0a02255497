"""Glue's rules that are not in the service model, with its words. Pure: they look and raise.

Texts marked in their functions as ours are those where AWS's answer is not known.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from streamkit.catalog.hive_types import parse
from streamkit.catalog.state import PartitionState, TableState
from streamkit.model.errors import (
    AlreadyExists,
    ConcurrentModification,
    EntityNotFound,
    InvalidArgument,
    InvalidInput,
    NumberLimitExceeded,
)
from streamkit.model.limits import CATALOG_DOCUMENT_BYTES_MAX

Matches = Callable[[str], bool]

_WILDCARDS: Final = re.compile(r"[\w\-.* ]*(?:\|[\w\-.* ]*)*")
_STARS: Final = re.compile(r"(\\.\*?|\[(?:\\.|[^\]\\])*\]\*?|[).}]\*)|\*", re.DOTALL)
_VERSION: Final = re.compile(r"[0-9]{1,9}")


def folded(name: str) -> str:
    """As Glue keeps names of databases and tables."""
    return name.lower()


# -- what there is, and is not ---------------------------------------------------------------------------------------


def database_not_found(name: str) -> EntityNotFound:
    return EntityNotFound(f"Database {name} not found.")


def table_not_found(name: str) -> EntityNotFound:
    return EntityNotFound(f"Table {name} not found.")


def version_not_found(version: str) -> EntityNotFound:
    """Ours."""
    return EntityNotFound(f"Version {version} not found.")


def partition_not_found() -> EntityNotFound:
    return EntityNotFound("Cannot find partition.")


def already_exists(what: str) -> AlreadyExists:
    """`what` is Database, Table or Partition."""
    return AlreadyExists(f"{what} already exists.")


def modified_meanwhile() -> ConcurrentModification:
    """AWS's, verified by people who wrote against it (apache/iceberg 8636, floci 1205)."""
    return ConcurrentModification("Update table failed due to concurrent modifications.")


def require_room(what: str, count: int, count_max: int) -> None:
    """The text is ours."""
    if count > count_max:
        raise NumberLimitExceeded(f"Number of {what} {count} exceeds the limit {count_max}.")


def parse_version(text: str) -> int:
    """Version ids are decimal numbers, from 0. What is none names a version that is not there."""
    if not _VERSION.fullmatch(text):
        raise version_not_found(text)
    return int(text)


# -- documents -------------------------------------------------------------------------------------------------------


def require_size(document: Mapping[str, Any]) -> None:
    """Ours: Glue bounds single members only."""
    size = len(msgspec.json.encode(document))
    if size > CATALOG_DOCUMENT_BYTES_MAX:
        raise InvalidInput(f"The definition is {size} bytes; the catalog keeps up to {CATALOG_DOCUMENT_BYTES_MAX}.")


def require_partition(table: TableState, values: Sequence[str] | None) -> Sequence[str]:
    if values is None or len(values) != len(table.partition_keys):
        raise InvalidInput("The number of partition keys do not match the number of partition values")
    return values


def require_distinct(partitions: Iterable[PartitionState]) -> None:
    values = [tuple(each.values) for each in partitions]
    if len(set(values)) < len(values):
        raise already_exists("Partition")


def columns_of(table: TableState) -> tuple[tuple[str, str], ...]:
    """Names and Hive types, in order; without the columns it is partitioned by, which are not in its files.

    Glue takes any text for a type and leaves the complaint to who reads it: so do we, and complain here, with
    InvalidInput. A column without a type is a string.
    """
    columns = tuple((each["Name"], each.get("Type") or "string") for each in table.columns)
    require_columns(f"table {table.database}.{table.name}", columns)
    return columns


def require_columns(where: str, columns: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, kind in columns:
        if name.lower() in seen:
            raise InvalidInput(f"Column {name} of {where} is there twice: names do not differ by case.")
        seen.add(name.lower())
        try:
            parse(kind)
        except InvalidArgument as error:
            raise InvalidInput(f"Column {name} of {where}: {error.message}.") from None


# -- patterns --------------------------------------------------------------------------------------------------------


def name_matcher(expression: str) -> Matches:
    """GetTables' Expression, on a whole folded name.

    AWS calls it a regular expression and takes it for Hive's kind of pattern (getmoto/moto 5533; awswrangler relies on
    it): `*` is any text, so `sales*` and `sales.*` say the same; `.` is any character, `|` parts alternatives. Anything
    more is a regular expression where a star behind a class or a group repeats it, and is run by RE2, whose time is
    linear in the name whatever the pattern; what RE2 does not know (lookaround, references) is an InvalidInput.
    """
    if _WILDCARDS.fullmatch(expression):
        # `fnmatch` makes atomic groups of what lies between two `*`: it cannot backtrack out of hand.
        globs = [each.replace(".*", "*").replace(".", "?") for each in expression.lower().split("|")]
        matchers = [re.compile(fnmatch.translate(glob)).match for glob in globs]
        return lambda name: any(match(name) for match in matchers)
    return _linear_matcher(_with_stars(expression))


def _with_stars(expression: str) -> str:
    """Stars that repeat no class, group, escape or dot are any text."""
    return _STARS.sub(lambda match: match[1] or ".*", expression)


def _linear_matcher(pattern: str) -> Matches:
    import pyarrow as pa
    import pyarrow.compute as pc

    options = pc.MatchSubstringOptions(rf"\A(?:{pattern})\z", ignore_case=True)

    def matches(name: str) -> bool:
        try:
            found: bool = pc.call_function("match_substring_regex", [pa.scalar(name)], options).as_py()
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"Expression is not a pattern: {error}") from None
        return found

    matches("")  # so that a broken pattern is told of also where there is no table
    return matches
