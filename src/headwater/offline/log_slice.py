"""The offline log as engines are given it: a view's rows and tombstones up to a position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

POSITION = "__position"
ARRIVAL = "__arrival"
THROUGH = "__through"
"""Reserved columns of the offline log: a position in it, an arrival (microseconds), a D."""

Tombstone = tuple[int, int]
"""(P, D): for reads at D (microseconds) and later, hides log rows at positions before P and every row known by D."""


@dataclass(frozen=True)
class LogPart:
    """Rows of the offline log that share one set of columns, as the user wrote them, with `__position` and `__arrival`.

    Attributes:
        columns: the user's columns in these rows (the reserved `created_time` among them where the rows carry it).
        table: the rows, where they are in the log's write buffer.
        files: the Parquet files that hold them, where they were compacted.
        schema: names and types of the user's columns in these rows.
        spans: of each file its least and greatest position, and how many rows it has.
    """

    columns: frozenset[str]
    table: pa.Table | None = None
    files: tuple[Path, ...] = ()
    schema: pa.Schema | None = None
    spans: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Rows of the offline log that histories and runs go on without.

    Attributes:
        view: whose rows.
        kind: `rows`: of values that nothing can read; `batch`: that cannot be decoded; `file`: of a damaged or missing
            file that somebody gave up.
        name: of the file; empty for others.
        first, last: the positions of the first and last of them.
        rows: how many.
        arrived_from, arrived_to: their least and greatest arrival, microseconds; None: not known.
        reason: what is wrong with them.
        noted_at: since when the log goes on without them, microseconds; 0: they are still in the write buffer.
    """

    view: str
    kind: str
    name: str
    first: int
    last: int
    rows: int
    arrived_from: int | None
    arrived_to: int | None
    reason: str
    noted_at: int = 0

    def __str__(self) -> str:
        span = f"position {self.first}" if self.first == self.last else f"positions {self.first} to {self.last}"
        what = f"{self.rows:,} row{'' if self.rows == 1 else 's'} of the offline log of {self.view!r} ({span})"
        return f"{what} left out: {f'file {self.name} ' if self.name else ''}{self.reason}"


@dataclass(frozen=True)
class LogSlice:
    """One view's part of the offline log up to a position, fixed at the call.

    Attributes:
        parts: its rows; a view version takes the parts that have all of its columns and skips the others.
        deletes: the view's deletes: join keys in clear, `__through` (D, microseconds) and `__position` (P); one row a
            tombstone, of which a key may have several.
        purges: digest of a purged key → its tombstones, by D ascending; matched through `digests`.
        position: the log's position at the call.
        left_out: rows of the view that it goes on without.
        unreadable: what is wrong with files whose rows it lacks, where it was asked for without them.
        examine: looks closely at the files, once reading them has failed, and says what is wrong; None: nothing.
    """

    parts: tuple[LogPart, ...] = ()
    deletes: pa.Table | None = None
    purges: Mapping[bytes, tuple[Tombstone, ...]] = field(default_factory=dict)
    position: int = 0
    digests: KeyDigests | None = None
    left_out: tuple[LeftOut, ...] = ()
    unreadable: tuple[str, ...] = ()
    examine: Callable[[], str | None] | None = field(default=None, compare=False, repr=False)


def unreadable_rows(log: LogSlice) -> int:
    """How many rows a slice goes on without since nothing can read them."""
    return sum(left.rows for left in log.left_out if left.kind != "file")


def lost_files(log: LogSlice) -> Iterator[str]:
    """What a history or run says of files that the log goes on without."""
    return (str(left) for left in log.left_out if left.kind == "file")


class KeyDigests(Protocol):
    """How purged keys are recognised: by salted digests of each key."""

    def __call__(self, keys: pa.Table, names: Sequence[tuple[str, ...]] = ()) -> list[tuple[bytes, ...]]:
        """Every digest of each row of join keys (columns named like them, in the entity's order).

        Args:
            keys: the join keys.
            names: their other names, each in the same order.
        """
        ...
