"""The raw format: a record's bytes are the value of the one column.

Rules: RawFormatDeserializationSchema of Flink. Numbers have the width of their type, in big endian by default.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from streamkit_sql.errors import NotSupported, UnknownName
from streamkit_sql.tables.source import Decoded, Wanted, storage
from streamkit_sql.types import BYTES, TEXTS, Field, Kind

_CODES: Final = {
    Kind.BOOLEAN: "?", Kind.TINYINT: "b", Kind.SMALLINT: "h", Kind.INTEGER: "i", Kind.BIGINT: "q",
    Kind.FLOAT: "f", Kind.DOUBLE: "d",
}  # fmt: skip


def charset_of(options: Mapping[str, str]) -> str:
    name = options.get("charset", "UTF-8")
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise UnknownName(f"there is no charset {name!r}.") from None


def packing_of(column: Field, options: Mapping[str, str]) -> struct.Struct:
    if column.type.kind not in _CODES:
        raise NotSupported(f"the raw format has no {column.type}; {column.name!r} is one.")
    return struct.Struct(("<" if options.get("endianness") == "little-endian" else ">") + _CODES[column.type.kind])


class RawDecoder:
    def __init__(self, wanted: Sequence[Wanted], column: Field, options: Mapping[str, str]) -> None:
        self._wanted = tuple(wanted)
        self._kind = column.type.kind
        self._target = storage(column.type)
        self._charset = charset_of(options)
        self._packing = None if self._kind in (*TEXTS, *BYTES) else packing_of(column, options)

    def decode(self, payload: pa.BinaryArray) -> Decoded:
        valid = payload.is_valid()
        origins = (
            None if not payload.null_count else np.flatnonzero(valid.to_numpy(zero_copy_only=False)).astype(np.int64)
        )
        payload = payload if origins is None else payload.filter(valid)
        bad: list[tuple[int, str]] = []
        if self._packing is not None:
            values, bad = self._numbers(payload, self._packing)
            kept = [index for index in range(len(payload)) if values[index] is not None]
            if bad:
                origins = np.array(kept, np.int64) if origins is None else origins[kept]
            array = pa.array([value for value in values if value is not None], self._target)
        elif self._kind in TEXTS:
            array = self._texts(payload)
        else:
            array = payload
        columns = {each.name: array for each in self._wanted}
        return Decoded(pa.table(columns) if columns else pa.table({"": array}).select([]), origins, bad)

    def _texts(self, payload: pa.BinaryArray) -> pa.Array:
        if self._charset == "utf-8":
            try:
                return payload.cast(pa.string())
            except pa.ArrowInvalid:
                pass
        return pa.array([value.decode(self._charset, "replace") for value in payload.to_pylist()], pa.string())

    def _numbers(self, payload: pa.BinaryArray, packing: struct.Struct) -> tuple[list[Any], list[tuple[int, str]]]:
        values: list[Any] = []
        bad = []
        for index, value in enumerate(payload.to_pylist()):
            if len(value) == packing.size:
                values.append(packing.unpack(value)[0])
            else:
                values.append(None)
                bad.append((index, f"it is {len(value)} bytes long; a {self._kind.value} has {packing.size}"))
        return values, bad
