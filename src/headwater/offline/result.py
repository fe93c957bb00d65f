"""HistoryResult: a point-in-time join that runs when it is consumed, and again when it is consumed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.offline.base import HistoryRequest, HistoryRun, OfflineEngine

BATCH = 65_536


@dataclass
class HistoryMetadata:
    """What a join was, and what it found."""

    as_known: bool
    at: int | None
    versions: Mapping[str, str]
    views: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class HistoryResult:
    """A point-in-time join, fixed to the versions and the log position of the call."""

    def __init__(self, engine: OfflineEngine, request: HistoryRequest) -> None:
        self._request = request
        self._run: HistoryRun = engine.history(request)
        self.metadata = HistoryMetadata(
            request.as_known, request.at, {v.view.label: v.view.version for v in request.views}
        )

    def to_batches(self, rows: int = BATCH) -> Iterator[pa.RecordBatch]:
        """The rows in batches."""
        yield from self._run.batches(rows)
        self.metadata.views = self._run.counts()

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return pa.Table.from_batches(self.to_batches(), self._run.schema)

    def to_pandas(self, types: str = "nullable") -> Any:
        """The rows as a pandas frame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """The rows as a polars frame."""
        import polars

        return polars.from_arrow(self.to_arrow())

    def to_parquet(self, path: str | Path) -> Path:
        """Write the rows to a Parquet file."""
        pq.write_table(self.to_arrow(), path)
        return Path(path)

    def sql(self) -> str:
        """Every statement."""
        return ";\n".join(self._run.statements())
