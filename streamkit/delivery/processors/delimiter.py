"""AppendDelimiterToRecord: text after each record.

It is appended whether or not a record ends with it already. What AWS leaves out after the last record of an object is
there: objects that are put one after the other stay lines.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from streamkit.delivery import plan
from streamkit.delivery.processor import Processed
from streamkit.delivery.rows import Rows


class AppendDelimiter:
    """A `processor.Step`."""

    def __init__(self, append: plan.AppendDelimiter) -> None:
        self._delimiter = pa.scalar(append.delimiter, pa.binary())

    async def process(self, rows: Rows) -> Processed:
        nothing = pa.scalar(b"", pa.binary())
        return Processed(rows.with_data(pc.binary_join_element_wise(rows.data, nothing, self._delimiter)))
