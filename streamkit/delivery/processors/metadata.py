"""MetadataExtraction: partition keys out of records, by a jq query.

A record without a value for every key goes to the error output (Firehose developer guide, "Troubleshoot dynamic
partitioning errors"). The error type `metadata-extraction-failed`, the code and the texts for records that are no JSON
and for keys that are null or empty are AWS's, as users have found them in their error buckets; other texts are jq's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamkit.delivery.plan import MetadataExtraction
from streamkit.delivery.processor import Offload, Processed
from streamkit.delivery.processors.jq_library import JqLibrary
from streamkit.delivery.processors.jq_paths import check_query, parse
from streamkit.delivery.processors.jq_values import NULL_OR_EMPTY, Bad
from streamkit.delivery.rows import Failed, Rows, kept

OUTPUT_TYPE: Final = "metadata-extraction-failed"
CODE: Final = "DynamicPartitioning.MetadataExtractionFailed"
FROM_QUERY: Final = "partitionKeyFromQuery:"


class ExtractMetadata:
    """A `processor.Step`. Keys are added to rows as `partitionKeyFromQuery:name`."""

    def __init__(self, plan: MetadataExtraction, *, offload: Offload) -> None:
        self._offload = offload
        self._names = check_query(plan.query)
        self._compiled = parse(plan.query)
        self._library = JqLibrary(plan.query)

    async def process(self, rows: Rows) -> Processed:
        return await self._offload(lambda: self._extract(rows))

    def _extract(self, rows: Rows) -> Processed:
        documents = rows.data.to_pylist()
        if self._compiled is None:
            columns = self._by_library(documents)
        else:
            columns = self._compiled.columns(documents)
            unsure = [place for place, values in enumerate(zip(*columns, strict=True)) if None in values]
            if unsure:
                answers = self._by_library([documents[place] for place in unsure])
                for column, answer in zip(columns, answers, strict=True):
                    for place, value in zip(unsure, answer, strict=True):
                        column[place] = value
        return with_keys(rows, {FROM_QUERY + name: column for name, column in zip(self._names, columns, strict=True)})

    def _by_library(self, documents: Sequence[bytes]) -> list[list[str | Bad | None]]:
        answers = self._library.keys(documents)
        missing = Bad(NULL_OR_EMPTY)
        return [
            [answer if isinstance(answer, Bad) else answer.get(name, missing) for answer in answers]
            for name in self._names
        ]


def with_keys(rows: Rows, columns: dict[str, list[str | Bad | None]]) -> Processed:
    """The rows that have all keys, with them, and the others as failed."""
    why: dict[int, str] = {}
    for column in columns.values():
        if set(map(type, column)) - {str}:
            for place, value in enumerate(column):
                if not isinstance(value, str):
                    why.setdefault(place, value.message if value is not None else NULL_OR_EMPTY)
    if not why:
        return Processed(rows.with_keys({name: pa.array(column, pa.string()) for name, column in columns.items()}))
    places = sorted(why)
    failed = Failed(rows.take(pa.array(places, pa.int64())), OUTPUT_TYPE, [(CODE, why[place]) for place in places])
    good = kept(len(rows), places)
    keys = {
        name: pa.array([value if type(value) is str else None for value in column], pa.string()).filter(good)
        for name, column in columns.items()
    }
    return Processed(rows.filter(good).with_keys(keys), [failed])
