"""Verifying a training set: rebuilt from today's inputs at its log position, and compared value by value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.compute.context import StoreContext
from headwater.compute.inputs import view_input
from headwater.compute.reading.historical import historical
from headwater.compute.training_sets.comparing import close, different
from headwater.compute.training_sets.report import (
    ChangedColumn,
    InputChange,
    InputChangeKind,
    TrainingSetReport,
    TrainingSetVerdict,
)
from headwater.compute.training_sets.saving import libraries
from headwater.compute.training_sets.source_state import source_changes, source_state
from headwater.compute.training_sets.training_set import TrainingSet
from headwater.compute.upstream import bound_source
from headwater.errors import ConfigError, DataError, LogDamaged, NotFound, SourceError, UsageError
from headwater.observer import Progress
from headwater.offline.join.result import HistoryResult
from headwater.offline.log.parts import rows_after
from headwater.offline.training_sets.erasing import PurgedKeys, key_table
from headwater.offline.training_sets.key_names import keys_of
from headwater.offline.training_sets.manifest import SavedFunction, SavedView
from headwater.offline.training_sets.rows import BATCH, TrainingRows
from headwater.offline.training_sets.writing import explained
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import PinnedSelection, RegistrySnapshot
from headwater.planning.value_checks import python_values
from headwater.scratch import TempFolder

_CHUNK = 1 << 20
_EXAMPLES = 3


def verify(context: StoreContext, saved: TrainingSet) -> TrainingSetReport:
    """Rebuild a training set and say what is other than it was; see `TrainingSet.verify`.

    Args:
        context: the store's parts and settings.
        saved: the set.
    """
    made = saved.manifest
    damage = _damage(saved)
    if damage:
        return TrainingSetReport(
            made.name, made.version, TrainingSetVerdict.DAMAGED, made.rows.rows, made.rows.erased, damage=damage
        )
    return _Check(context, saved).report()


def _damage(saved: TrainingRows) -> str:
    """What is wrong with the file of the rows; empty: nothing."""
    expected, path = saved.manifest.rows, saved.file
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as bad:
        return f"{path}: {bad.strerror}: restore it from a copy, or save the set again"
    if digest.hexdigest() == expected.sha256:
        return ""
    return (
        f"{path} is not the file that was saved (its SHA-256 is another): restore it from a copy, or save the set again"
    )


class _Check:
    """One check of a set."""

    def __init__(self, context: StoreContext, saved: TrainingSet) -> None:
        self._context, self._saved, self._made = context, saved, saved.manifest
        self._snapshot: RegistrySnapshot = context.registry.refresh()
        self._changes: list[InputChange] = []
        self._not_rebuilt: dict[str, str] = {}
        self._columns: dict[str, tuple[int, list[tuple[int, Any, Any]]]] = {}
        self._different = self._rounded = self._purged_rows = 0
        same_log = context.log_id == self._made.log.id
        self._until = self._made.log.position if same_log else 0
        self._purged: list[tuple[SavedView, PurgedKeys]] = []
        if not same_log:
            self._note_other_log()

    def report(self) -> TrainingSetReport:
        made = self._made
        views = [view for view in made.views if self._is_defined(view)]
        for view in views:
            self._look_at(view)
        functions = [function for function in made.functions if self._is_defined(function)]
        self._rebuild([*views, *functions])
        names = {c.name: c.reference for c in made.columns}
        changed = tuple(
            ChangedColumn(name, self._label_of(name, names), rows, tuple(examples))
            for name, (rows, examples) in self._columns.items()
        )
        verdict = TrainingSetVerdict.SAME
        if self._different or any(change.kind is InputChangeKind.ENTITIES for change in self._changes):
            verdict = TrainingSetVerdict.DIFFERENT
        elif self._not_rebuilt:
            verdict = TrainingSetVerdict.NOT_REBUILT
        now = libraries()
        other = {n: (made.libraries.get(n, "none"), now.get(n, "none")) for n in {**made.libraries, **now}}
        return TrainingSetReport(
            made.name,
            made.version,
            verdict,
            made.rows.rows,
            made.rows.erased,
            self._purged_rows,
            self._different,
            changed,
            self._rounded,
            tuple(self._changes),
            self._not_rebuilt,
            libraries={name: both for name, both in other.items() if both[0] != both[1]},
        )

    def _label_of(self, column: str, references: Mapping[str, str | None]) -> str:
        """The label of the view that a column is of."""
        selections = dict(zip(self._made.named("feature"), self._made.selections, strict=True))
        name = column if column in selections else references.get(column) or ""
        found = selections.get(name)
        if found is None:
            return name
        return next((part.label for part in self._parts if _is_of(found, part)), found.view)

    @property
    def _parts(self) -> tuple[SavedView | SavedFunction, ...]:
        return (*self._made.views, *self._made.functions)

    # what has changed

    def _change(self, view: str, kind: InputChangeKind, detail: str) -> None:
        change = InputChange(view, kind, detail)
        if change not in self._changes:  # a view that was asked for and is read by a query of another, or of two
            self._changes.append(change)

    def _note_other_log(self) -> None:
        had = sum(view.log_rows for view in self._made.views)
        if had:
            self._change(
                "",
                InputChangeKind.OTHER_LOG,
                f"{had:,} rows were of offline log {self._made.log.id}; this registry has log {self._context.log_id}",
            )

    def _is_defined(self, saved: SavedView | SavedFunction) -> bool:
        """Whether the version is registered and has the features; the columns of one that has not are not rebuilt."""
        kind = InputChangeKind.DEFINITION_GONE
        mine = {
            name: selection
            for name, selection in zip(self._made.named("feature"), self._made.selections, strict=True)
            if _is_of(selection, saved)
        }
        try:
            version = self._snapshot.any_view(saved.name).version(saved.version)
        except NotFound as bad:
            why = str(bad)
        else:
            if version.fingerprint != saved.fingerprint:
                detail = f"{saved.name}@{saved.version} is registered with another definition"
                self._change(saved.label, InputChangeKind.DEFINITION, detail)
            names = [name for selection in mine.values() for name in selection.names]
            lacking = [name for name in names if name not in version.view.features_by_name]
            if not lacking:
                return True
            kind, why = InputChangeKind.DEFINITION, f"{saved.name}@{saved.version} has no feature {', '.join(lacking)}"
        if kind is InputChangeKind.DEFINITION_GONE:
            self._change(saved.label, kind, why)
        self._not_rebuilt |= dict.fromkeys(mine, why)
        return False

    def _look_at(self, saved: SavedView) -> None:
        """What of a view's inputs is other than it was, and of the views whose rows its query reads."""
        self._look_at_source(saved)
        self._look_at_log(saved)
        for read in saved.reads:
            if self._is_defined(read):
                self._look_at(read)

    def _look_at_source(self, saved: SavedView) -> None:
        version = self._snapshot.view(saved.name).version(saved.version)
        if saved.source is None:
            return
        try:
            source = bound_source(self._context, version, history=True, logs=False)
            now = source_state(self._context, source, saved.source)
        except (SourceError, UsageError) as bad:
            gone = saved.source.files
            kind = InputChangeKind.SOURCE if gone is None else InputChangeKind.FILE_GONE
            self._change(saved.label, kind, str(bad))
            return
        if now is not None:
            for kind, detail in source_changes(saved.source, now):
                self._change(saved.label, kind, detail)

    def _look_at_log(self, saved: SavedView) -> None:
        context = self._context
        if context.log_id != self._made.log.id:
            return
        record = self._snapshot.view(saved.name)
        view = whole_view(record, record.version(saved.version))
        purges = context.log.purges_after(saved.name, self._until)
        if purges and saved.keys:
            self._purged.append((saved, PurgedKeys(purges, context.log.digests.all)))
        try:
            log = view_input(context, view, self._until).log
        except LogDamaged:
            return  # the rebuild says so
        rows = 0 if log is None else sum(rows_after(part, 0) for part in log.parts)
        if rows < saved.log_rows:
            lost = saved.log_rows - rows
            detail = f"{lost:,} of {saved.log_rows:,} row{'' if saved.log_rows == 1 else 's'}"
            if purges:
                self._change(saved.label, InputChangeKind.LOG_ERASED, f"{detail}, for their keys were purged")
            else:
                self._change(saved.label, InputChangeKind.LOG_LOST, detail)
        elif rows > saved.log_rows:
            self._change(
                saved.label, InputChangeKind.ROWS_ADDED, f"the offline log had {saved.log_rows:,} rows, now {rows:,}"
            )

    # rebuilding

    def _rebuild(self, parts: Sequence[SavedView | SavedFunction]) -> None:
        made = self._made
        chosen = [selection for selection in made.selections if any(_is_of(selection, part) for part in parts)]
        if not chosen:
            return
        with ExitStack() as stack:
            try:
                result = self._history(chosen, stack)
                self._compare(result)
                if not made.spine.given:
                    self._count_entities(chosen)
            except (ConfigError, DataError, LogDamaged, NotFound, UsageError) as bad:
                self._columns, self._different, self._rounded = {}, 0, 0
                for selection in chosen:
                    self._not_rebuilt[next(iter(selection.renames.values()))] = str(bad)

    def _history(self, chosen: Sequence[PinnedSelection], stack: ExitStack, *, listed: bool = False) -> HistoryResult:
        made = self._made
        spine = None if listed else self._spine(stack)
        return historical(
            self._context,
            spine,
            list(chosen),
            timestamp_column=None if listed else made.spine.timestamp,
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
            self._different += int(rows.sum())
            self._purged_rows += int(out.sum())
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
            self._rounded += int(near.sum())
            rows &= ~near
            if not rows.any():
                return rows
        count, examples = self._columns.get(name, (0, []))
        places = np.flatnonzero(rows)
        some = pa.array(places[: _EXAMPLES - len(examples)])
        if len(some):
            pairs = zip(some.to_pylist(), python_values(saved.take(some)), python_values(now.take(some)), strict=True)
            examples = [*examples, *((first + place, one, other) for place, one, other in pairs)]
        self._columns[name] = (count + len(places), examples)
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

    def _count_entities(self, chosen: Sequence[PinnedSelection]) -> None:
        """Of a set without a spine: whether as many entities are known at its instant as were."""
        made = self._made
        with ExitStack() as stack:
            now = len(self._history(chosen, stack, listed=True))
        before = made.rows.rows - self._purged_rows
        if now != before:
            at = "" if made.at is None else f" at {made.at.isoformat()}"
            self._change("", InputChangeKind.ENTITIES, f"{before:,} entities were known{at}, now {now:,}")


def _is_of(selection: PinnedSelection, part: SavedView | SavedFunction) -> bool:
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
