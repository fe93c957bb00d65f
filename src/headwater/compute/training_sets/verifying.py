"""Verifying a training set: rebuilt from today's inputs at its log position, and compared value by value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from headwater.compute.context import StoreContext
from headwater.compute.training_sets.libraries import libraries
from headwater.compute.training_sets.rebuilding import Rebuilt, is_of
from headwater.compute.training_sets.report import (
    ChangedColumn,
    InputChange,
    InputChangeKind,
    TrainingSetReport,
    TrainingSetVerdict,
)
from headwater.compute.training_sets.source_state import source_changes, source_state
from headwater.compute.upstream import bound_source, log_taken
from headwater.errors import LogDamaged, NotFound, SourceError, UsageError
from headwater.offline.log.parts import rows_after
from headwater.offline.training_sets.erasing import PurgedKeys
from headwater.offline.training_sets.manifest import SavedFunction, SavedView
from headwater.offline.training_sets.rows import TrainingRows
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import RegistrySnapshot

_CHUNK = 1 << 20


def verify(context: StoreContext, saved: TrainingRows) -> TrainingSetReport:
    """Rebuild a training set and say what is other than it was; see `TrainingSet.verify`.

    Args:
        context: the store's parts and settings.
        saved: all rows of the set.
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

    def __init__(self, context: StoreContext, saved: TrainingRows) -> None:
        self._context, self._saved, self._made = context, saved, saved.manifest
        self._snapshot: RegistrySnapshot = context.registry.refresh()
        self._changes: list[InputChange] = []
        self._not_rebuilt: dict[str, str] = {}
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
        rebuilt = Rebuilt(self._context, self._saved, self._snapshot, self._until, self._purged)
        rebuilt.compare([*views, *functions])
        self._not_rebuilt |= rebuilt.not_rebuilt
        if rebuilt.entities is not None:
            self._count_entities(rebuilt.entities, made.rows.rows - rebuilt.purged_rows)
        names = {c.name: c.reference for c in made.columns}
        changed = tuple(
            ChangedColumn(name, self._label_of(name, names), rows, tuple(examples))
            for name, (rows, examples) in rebuilt.columns.items()
        )
        verdict = TrainingSetVerdict.SAME
        if rebuilt.different_rows or any(change.kind is InputChangeKind.ENTITIES for change in self._changes):
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
            rebuilt.purged_rows,
            rebuilt.different_rows,
            changed,
            rebuilt.rounded,
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
        return next((part.label for part in self._parts if is_of(found, part)), found.view)

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
            if is_of(selection, saved)
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
            source = bound_source(self._context, version, history=True, data=False)
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
            log = log_taken(context, view, self._until)
        except LogDamaged:
            return  # the rebuild says so
        rows = sum(rows_after(part, 0) for part in log.parts)
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

    def _count_entities(self, now: int, before: int) -> None:
        """Of a set without a spine: whether as many entities are known at its instant as were."""
        if now != before:
            at = "" if self._made.at is None else f" at {self._made.at.isoformat()}"
            self._change("", InputChangeKind.ENTITIES, f"{before:,} entities were known{at}, now {now:,}")
