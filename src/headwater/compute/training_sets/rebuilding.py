"""A training set's columns rebuilt from today's inputs, and compared value by value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.compute.context import StoreContext
from headwater.compute.reading.historical import historical
from headwater.compute.training_sets.comparing import close, different
from headwater.errors import ConfigError, DataError, LogDamaged, MissingExtra, NotFound, SourceError, UsageError
from headwater.observer import Progress
from headwater.offline.join.result import HistoryResult
from headwater.offline.training_sets.erasing import PurgedKeys, key_table
from headwater.offline.training_sets.key_names import keys_of
from headwater.offline.training_sets.manifest import SavedFunction, SavedView
from headwater.offline.training_sets.rows import BATCH, TrainingRows
from headwater.offline.training_sets.writing import explained
from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.value_checks import python_values
from headwater.scratch import TempFolder

_EXAMPLES = 3


class Rebuilt:
    """What of a training set comes out otherwise when it is rebuilt as of a position of the offline log.

    Args:
        context: the store's parts and settings.
        saved: all rows of the set.
        snapshot: the registry.
        until: the position.
        purged: views of the set, and the keys that were purged from each since.

    Attributes:
        columns: the columns that have other values: in how many rows, and the first of them.
        not_rebuilt: column → why it could not be rebuilt.
        rounded: values that differ by rounding alone.
        entities: of a set without a spine that was rebuilt whole: how many entities are known at its instant now.
    """

    def __init__(
        self,
        context: StoreContext,
        saved: TrainingRows,
        snapshot: RegistrySnapshot,
        until: int,
        purged: Sequence[tuple[SavedView, PurgedKeys]],
    ) -> None:
        self._context, self._saved, self._made = context, saved, saved.manifest
        self._snapshot, self._until, self._purged = snapshot, until, purged
        self.columns: dict[str, tuple[int, list[tuple[int, Any, Any]]]] = {}
        self.not_rebuilt: dict[str, str] = {}
        self.rounded = 0
        self.entities: int | None = None
        self._different, self._out = (np.zeros(self._made.rows.rows, bool) for _ in range(2))

    @property
    def different_rows(self) -> int:
        """In how many rows at least one value is another."""
        return int(self._different.sum())

    @property
    def purged_rows(self) -> int:
        """How many rows are of purged keys; they are not compared."""
        return int(self._out.sum())

    def compare(self, parts: Sequence[SavedView | SavedFunction]) -> None:
        """Rebuild the columns of some views and functions together; where that fails, those of half of them at a time.

        So one that cannot be rebuilt keeps no other from being compared.
        """
        made = self._made
        chosen = [selection for selection in made.selections if any(is_of(selection, part) for part in parts)]
        if not chosen:
            return
        before = dict(self.columns), self.rounded, self._different.copy()
        with ExitStack() as stack:
            try:
                self._compare(self._history(chosen, self._spine(stack)))
                if not made.spine.given and len(chosen) == len(made.selections):
                    self.entities = len(self._history(chosen, None))
            except (ConfigError, DataError, LogDamaged, MissingExtra, NotFound, UsageError) as bad:
                self.columns, self.rounded, self._different = before
                if len(parts) == 1:
                    self.not_rebuilt |= {next(iter(s.renames.values())): str(bad) for s in chosen}
                    return
            else:
                return
        middle = len(parts) // 2
        self.compare(parts[:middle])
        self.compare(parts[middle:])

    def _history(self, chosen: Sequence[PinnedSelection], spine: Path | None) -> HistoryResult:
        made = self._made
        return historical(
            self._context,
            spine,
            list(chosen),
            timestamp_column=None if spine is None else made.spine.timestamp,
            at=made.at,
            as_known=made.as_known,
            include=made.include,
            timezone=made.timezone,
            log_until=self._until,
        )

    def _spine(self, stack: ExitStack) -> Path:
        """The saved spine in a file of its own: memory stays bounded."""
        columns, schema = list(self._made.spine.columns), self._saved.schema
        kept = pa.schema([schema.field(name) for name in columns])
        with explained(self._context.training_sets.path):
            temporary = TempFolder(self._context.training_sets.path)
            stack.callback(temporary.close)
            path = temporary.path / "spine.parquet"
            with pq.ParquetWriter(path, kept) as writer:
                for batch in self._saved.to_batches(BATCH, columns):
                    writer.write_batch(batch)
        return path

    def _compare(self, result: HistoryResult) -> None:
        made = self._made
        there = set(result.schema.names)
        computed = {column.name for column in made.columns if column.computed}
        wanted = [c.name for c in made.columns if c.name in there and c.name not in made.spine.columns]
        keys = list(dict.fromkeys(column for view, _ in self._purged for column in view.keys.values()))
        needed = list(dict.fromkeys([*wanted, *keys]))
        step, first = f"verify training set {made.name} {made.version}", 0
        for saved, now in _side_by_side(self._saved.to_batches(BATCH, needed), result.to_batches(BATCH)):
            out = self._of_purged_keys(saved)
            rows = np.zeros(saved.num_rows, bool)
            for name in wanted:
                rows |= self._compare_column(name, saved.column(name), now.column(name), ~out, name in computed, first)
            self._different[first : first + saved.num_rows] |= rows
            self._out[first : first + saved.num_rows] = out
            first += saved.num_rows
            self._context.observer(Progress(step, first, made.rows.rows))
        self._context.observer(Progress(step, first, made.rows.rows, finished=True))

    def _compare_column(
        self, name: str, saved: pa.Array, now: pa.Array, counted: NDArray[np.bool_], computed: bool, first: int
    ) -> NDArray[np.bool_]:
        rows = different(saved, now) & counted
        if not rows.any():
            return rows
        if computed and pa.types.is_floating(saved.type):
            near = close(saved, now, rows)
            self.rounded += int(near.sum())
            rows &= ~near
            if not rows.any():
                return rows
        count, examples = self.columns.get(name, (0, []))
        places = np.flatnonzero(rows)
        some = pa.array(places[: _EXAMPLES - len(examples)])
        if len(some):
            pairs = zip(some.to_pylist(), python_values(saved.take(some)), python_values(now.take(some)), strict=True)
            examples = [*examples, *((first + place, one, other) for place, one, other in pairs)]
        self.columns[name] = (count + len(places), examples)
        return rows

    def _of_purged_keys(self, saved: pa.RecordBatch) -> NDArray[np.bool_]:
        """Rows of keys that were purged since: they are not compared."""
        found = np.zeros(saved.num_rows, bool)
        for view, purged in self._purged:
            known = keys_of(self._snapshot, view)
            if known is not None and view.keys:
                before, _ = purged.tombstones(key_table(saved, view, known[0]), known[1])
                found |= before > 0
        return found


def is_of(selection: PinnedSelection, part: SavedView | SavedFunction) -> bool:
    """Whether a selection is of a view of the set: of that version, by the same columns."""
    if (selection.view, selection.version) != (part.name, part.version):
        return False
    return selection.alias == (None if part.label in (part.name, f"{part.name}@{part.version}") else part.label)


def _side_by_side(
    saved: Iterable[pa.RecordBatch], now: Iterable[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """The same rows of both, whatever their batches."""
    held: list[pa.RecordBatch] = []
    others = iter(now)
    for batch in saved:
        count = sum(each.num_rows for each in held)
        while count < batch.num_rows:
            try:
                held.append(next(others))
            except StopIteration:
                raise SourceError("the history that was rebuilt has fewer rows than the training set") from None
            count += held[-1].num_rows
        table = pa.Table.from_batches(held)
        yield batch, table.slice(0, batch.num_rows).combine_chunks().to_batches()[0]
        held = table.slice(batch.num_rows).to_batches()
