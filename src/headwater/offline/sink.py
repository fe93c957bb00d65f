"""Rows put online from where they are: what an engine runs over them in its own processes, and what comes back.

Nothing here holds a connection: what is sent to another process is values, which open what they need there. A process
that puts rows needs headwater with the store's extra, and no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec
import pyarrow as pa

from headwater.planning.resolved import ResolvedView
from headwater.types import DType

COUNTS = pa.schema([("counts", pa.binary())])
"""What `Puts` gives: one row for each part of the rows."""


class Executors(Enum):
    """Where the processes of an engine are in which a sink can run.

    Attributes:
        NONE: there are none; rows come to this process.
        LOCAL: on this machine.
        REMOTE: on others, or it is not known where.
    """

    NONE = "none"
    LOCAL = "local"
    REMOTE = "remote"


class PutCounts(msgspec.Struct, frozen=True, array_like=True):
    """What became of some rows that a sink was given.

    Attributes:
        keys: how many there were, those with a NULL key aside.
        applied, superseded: of how many the store said so.
        ties: join keys and times of those that tie with a stored source row, as an Arrow stream; empty: none does.
        too_large: stored key of each that was too large, and what is said of it.
        stopped: why the others were not put; empty: all were.
        numbers: of a run that makes rows equal to history, a number (int64) of each of the keys.
        again: of such a run, the whole keys of which something else is stored, or that are to be looked at once more.
    """

    keys: int = 0
    applied: int = 0
    superseded: int = 0
    ties: bytes = b""
    too_large: tuple[tuple[bytes, str], ...] = ()
    stopped: str = ""
    numbers: bytes = b""
    again: tuple[bytes, ...] = ()

    @property
    def tied(self) -> pa.Table | None:
        """The table of `ties`."""
        return pa.ipc.open_stream(self.ties).read_all() if self.ties else None


class Sink(Protocol):
    """Puts rows online in whichever process it finds itself; it can be pickled."""

    def put(self, batches: Iterable[pa.RecordBatch]) -> PutCounts:
        """Put rows under the store's guard; to put the same rows again is harmless.

        Args:
            batches: as `OfflineEngine.changes` gives them.

        Returns:
            What became of them. Where the run may not put any more `stopped` says why: to try again is no use.

        Raises:
            StoreError: the store failed; some of the rows may have been put.
        """
        ...


@dataclass(frozen=True)
class Shape:
    """How the rows of a query become what `OfflineEngine.changes` gives.

    The query has the columns event, created, position (NULL: the source's), the keys k0… and the features f0….

    Attributes:
        keys: name and dtype of each join key, in order.
        features: name and dtype of each of the version's `row_features`, in order of name.
    """

    keys: tuple[tuple[str, DType], ...]
    features: tuple[tuple[str, DType], ...]

    @staticmethod
    def of(view: ResolvedView) -> Shape:
        """Of a view version."""
        features = sorted((feature.name, feature.dtype) for feature in view.view.row_features)
        return Shape(tuple((key.name, key.dtype) for key in view.keys), tuple(features))

    def shaped(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of the query as `OfflineEngine.changes` promises it."""
        position = batch.column("position")
        columns = {name: batch.column(f"k{i}").cast(dtype.arrow) for i, (name, dtype) in enumerate(self.keys)}
        columns["__event"], columns["__created"] = batch.column("event"), batch.column("created")
        columns["__origin"] = position.is_valid().cast(pa.int8())
        columns["__position"] = position.fill_null(0).cast(pa.int64())
        columns |= {name: batch.column(f"f{i}").cast(dtype.arrow) for i, (name, dtype) in enumerate(self.features)}
        return pa.RecordBatch.from_pydict(columns)


@dataclass(frozen=True)
class Puts:
    """Puts the rows of a query by a sink: a function of batches that an engine runs over each part of them.

    Its answer is the only thing that counts: a part that is computed again, or twice, is counted by the one answer that
    the engine takes.

    Attributes:
        shape: of the rows.
        sink: puts them.
    """

    shape: Shape
    sink: Sink

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Put the rows of one part; one row of `COUNTS`, and none where there are no rows."""
        rows = (self.shape.shaped(batch) for batch in batches if batch.num_rows)
        counts = self.sink.put(rows)
        yield pa.RecordBatch.from_pydict({"counts": [msgspec.msgpack.encode(counts)]}, schema=COUNTS)


def counts_of(batch: pa.RecordBatch) -> Iterator[PutCounts]:
    """The counts in a batch of `COUNTS`."""
    for packed in batch.column("counts").to_pylist():
        yield msgspec.msgpack.decode(packed, type=PutCounts)
