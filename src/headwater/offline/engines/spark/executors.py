"""Functions over rows that run on executors; they need headwater there, and neither SQLGlot nor DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from headwater.offline.engines.spark.types import kept, shaped


@dataclass(frozen=True)
class OnExecutor:
    """A function of batches, as Spark calls it in a worker.

    Attributes:
        function: the function.
        schema: the columns of its rows, in the types that it takes.
        answer: those of its answer, in types that Spark keeps.
    """

    function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
    schema: pa.Schema
    answer: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The answer of one part of the rows."""
        for batch in self.function(shaped(batch, self.schema) for batch in batches if batch.num_rows):
            columns = [kept(column, field.type) for column, field in zip(batch.columns, self.answer, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=self.answer)
