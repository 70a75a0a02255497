"""Binary columns from Python values, without an Arrow scalar for each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate

import pyarrow as pa


def binary(values: Sequence[bytes]) -> pa.BinaryArray:
    """A column of these values, which together have less than 2 GiB."""
    offsets = array("i", accumulate(map(len, values), initial=0))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


def integers(kind: pa.DataType, values: Sequence[int]) -> pa.Array:
    """An int32 or int64 column."""
    code = "i" if kind == pa.int32() else "q"
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(array(code, values))])
