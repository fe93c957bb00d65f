"""Saving a training set: history, written with all that it was made of."""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from headwater.clock import from_micros
from headwater.compute.context import StoreContext
from headwater.compute.reading.historical import historical
from headwater.compute.training_sets.libraries import libraries
from headwater.compute.training_sets.source_state import COMPUTED, source_state
from headwater.compute.training_sets.training_set import TrainingSet
from headwater.definitions.source import Source
from headwater.definitions.view_tables import ViewTable
from headwater.errors import SourceError, UsageError, listing, nearest
from headwater.observer import Progress
from headwater.offline.base import HistoryRequest, ViewInput
from headwater.offline.join.result import HistoryResult
from headwater.offline.log.parts import rows_after
from headwater.offline.training_sets.erasing import NewPurges
from headwater.offline.training_sets.folder import check_name
from headwater.offline.training_sets.key_names import keys_of
from headwater.offline.training_sets.manifest import (
    Manifest,
    SavedColumn,
    SavedFunction,
    SavedLog,
    SavedSource,
    SavedSpine,
    SavedView,
)
from headwater.offline.training_sets.writing import RowsWriter
from headwater.planning.resolved import ComputedColumn, OutputColumn, ResolvedFunction, ResolvedRequest, ResolvedView
from headwater.planning.selections import PinnedSelection
from headwater.planning.service_columns import service_version
from headwater.types import leaf_dtype

ROWS = 122_880
"""Rows of a row group: as many as DuckDB gives at once."""
_ROUNDED = frozenset({"sum", "mean", "var_pop", "stddev_pop", "var_samp", "stddev_samp", "rate"})
"""Aggregations whose floats depend on the order in which they are added up."""


def save(
    context: StoreContext,
    name: str,
    spine: Any,
    features: Any,
    labels: Sequence[str] | str = (),
    *,
    timestamp_column: str | None = None,
    at: datetime | str | None = None,
    as_known: bool = True,
    timezone: str | None = None,
    full_names: bool | None = None,
    include: Sequence[str] = (),
) -> TrainingSet:
    """Join features to training rows and keep the result, in bounded memory; it is there whole or not at all.

    Args:
        context: the store's parts and settings.
        name: of the set.
        spine, features, timestamp_column, at, as_known, timezone, full_names, include: as for `historical`.
        labels: columns of the spine that a model predicts.

    Raises:
        UsageError: a name or label that cannot be one; for what else see `historical`.
        SourceError: also a source that changed while it was read.
        StorageFull, StoreError: the set cannot be written; nothing is left of it.
    """
    check_name(name)
    result = historical(
        context,
        spine,
        features,
        timestamp_column=timestamp_column,
        at=at,
        as_known=as_known,
        full_names=full_names,
        include=include,
        timezone=timezone,
    )
    made_of = _MadeOf.now(context, result, labels, features)
    with context.training_sets.begun(name) as folder:
        rows = _write(context, name, result, folder)
        _check_unmoved(context, result.request, made_of.sources)
        manifest = made_of.manifest(context, name, rows)
        purges = _purges(context, manifest)
        path = context.training_sets.publish(name, folder, manifest, purges)
        # where the file system has no locks, an erase may have begun between the two
        made = purges.erase(path)
    return TrainingSet(path, made, context)


@dataclass(frozen=True)
class _MadeOf:
    """What a set is made of, as it is before its rows are written.

    Attributes:
        result: the join.
        resolved: the features that it joins.
        labels: columns of the spine that a model predicts.
        sources: of each view of the request.
        saved_at: the time.
        revision: of the registry.
        service: the name and version of the service that was asked for.
    """

    result: HistoryResult
    resolved: ResolvedRequest
    labels: tuple[str, ...]
    sources: Sequence[SavedSource | None]
    saved_at: datetime
    revision: int
    service: str | None

    @staticmethod
    def now(context: StoreContext, result: HistoryResult, labels: Sequence[str] | str, features: Any) -> _MadeOf:
        """What a join would be saved of now.

        Raises:
            UsageError: a label that cannot be one.
        """
        resolved = result.resolved
        assert resolved is not None
        checked = _labels(result, labels, resolved.request_fields)
        sources = _sources(context, result.request)
        saved_at, snapshot = context.clock(), context.registry.snapshot()
        service = service_version(snapshot, features, history=True)
        named = None if service is None else f"{service.name}@{service.version}"
        return _MadeOf(result, resolved, checked, sources, saved_at, snapshot.revision, named)

    def manifest(self, context: StoreContext, name: str, rows: RowsWriter) -> Manifest:
        """The manifest of the set, once its rows are written."""
        result, request, resolved = self.result, self.result.request, self.resolved
        spine = tuple(result.spine_columns)
        return Manifest(
            name=name,
            version=1,
            id=secrets.token_hex(8),
            project=context.project,
            saved_at=self.saved_at,
            revision=self.revision,
            selections=tuple(_selection(resolved, column) for column in resolved.outputs),
            rows=rows.saved(),
            spine=SavedSpine(spine, rows.spine_digest, result.timestamp_column, request.spine is not None),
            columns=rows.described(tuple(_columns(result, resolved, self.labels))),
            views=tuple(_view(view, self.sources[i], result, context) for i, view in enumerate(request.views)),
            functions=tuple(map(_function, resolved.functions)),
            log=SavedLog(context.log_id, request.log_position),
            engine=type(context.engine).__name__.removesuffix("Engine").lower(),
            libraries=libraries(),
            labels=self.labels,
            at=None if request.at is None else from_micros(request.at),
            as_known=request.as_known,
            timezone=request.timezone,
            include=tuple(request.include),
            service=self.service,
            warnings=tuple(result.metadata.warnings),
        )


def _purges(context: StoreContext, manifest: Manifest) -> NewPurges:
    """The purges of the set's views that its history has not seen."""
    registry, log = context.registry.snapshot(), context.log
    views = (view.name for view in manifest.views)
    return NewPurges(views, manifest.log.position, log.purges_after, log.digests.all, lambda v: keys_of(registry, v))


def _labels(result: HistoryResult, labels: Sequence[str] | str, fields: Container[str]) -> tuple[str, ...]:
    """The labels, each a column of the spine that no feature is computed from."""
    found = (labels,) if isinstance(labels, str) else tuple(labels)
    keys = {key.column for view in result.request.views for key in view.view.keys}
    for label in found:
        if label not in result.spine_columns:
            there = listing(result.spine_columns)
            raise UsageError(
                f"labels: the spine has no column {label!r}{nearest(str(label), result.spine_columns)}; it has {there}"
            )
        if label in keys or label == result.timestamp_column:
            what = "a join key" if label in keys else "the time of the rows"
            raise UsageError(f"labels: {label!r} is {what}, which cannot be predicted")
        if label in fields:
            raise UsageError(
                f"labels: {label!r} is a request field, which features of this set are computed from: they would know "
                "what is to be predicted; give another column, or leave those features out"
            )
    return tuple(dict.fromkeys(found))


def _sources(context: StoreContext, request: HistoryRequest) -> list[SavedSource | None]:
    return [None if view.source is None else source_state(context, view.source) for view in request.views]


def _write(context: StoreContext, name: str, result: HistoryResult, folder: Path) -> RowsWriter:
    step, total = f"save training set {name}", result.known_rows
    with RowsWriter(folder / "rows-1.parquet", result.schema, tuple(result.spine_columns)) as rows:
        for batch in result.to_batches(ROWS):
            rows.write(batch)
            context.observer(Progress(step, rows.rows, total))
    context.observer(Progress(step, rows.rows, total, finished=True))
    return rows


def _check_unmoved(context: StoreContext, request: HistoryRequest, before: Sequence[SavedSource | None]) -> None:
    """Refuse a set of which nobody could say what it was made of."""
    for view, saved in zip(request.views, before, strict=True):
        if view.source is None or saved is None or saved.files is None:
            continue
        now = source_state(context, view.source, saved)
        if now != saved:
            raise SourceError(
                f"view {view.view.label!r}: the files of its source changed while the training set was saved; nothing "
                "was saved: save it again while nobody writes them"
            )


def _columns(result: HistoryResult, resolved: ResolvedRequest, labels: Sequence[str]) -> Iterator[SavedColumn]:
    keys = {key.column for view in resolved.views for key in view.keys}
    features = {column.name: column for column in resolved.outputs}
    spine = set(result.spine_columns)
    for field in result.schema:
        name, kind = field.name, str(field.type)
        if name in spine:
            role = "label" if name in labels else "spine"
            role = "key" if name in keys else "timestamp" if name == result.timestamp_column else role
            yield SavedColumn(name, role, kind)
        elif name in features:
            yield _feature(resolved, features[name], kind)
        elif name.endswith("__status"):
            yield SavedColumn(name, "status", kind, reference=name.removesuffix("__status"))
        else:
            yield SavedColumn(name, "event_time", kind, reference=name.removesuffix("__event_time"))


def _feature(resolved: ResolvedRequest, column: OutputColumn | ComputedColumn, kind: str) -> SavedColumn:
    owner, name = resolved.owner(column), column.feature.name
    return SavedColumn(
        column.name,
        "feature",
        kind,
        str(column.feature.dtype),
        f"{owner.name}@{owner.version}:{name}",
        owner.definition.column_fingerprints[name],
        _is_computed(owner, column),
    )


def _is_computed(owner: ResolvedView | ResolvedFunction, column: OutputColumn | ComputedColumn) -> bool:
    """Whether a column's floats may be rounded in another way elsewhere: they are added up, in no certain order."""
    if not leaf_dtype(column.feature.dtype).name.startswith("float"):
        return False
    if isinstance(owner, ResolvedFunction):
        return True
    aggregation = owner.view.aggregations_by_name.get(column.feature.name)
    if aggregation is not None:
        return aggregation.function in _ROUNDED
    return isinstance(owner.view.source, COMPUTED)


def _selection(resolved: ResolvedRequest, column: OutputColumn | ComputedColumn) -> PinnedSelection:
    owner, feature = resolved.owner(column), column.feature.name
    renames = {feature: column.name}
    if isinstance(owner, ResolvedFunction):
        return PinnedSelection(owner.name, owner.version, (feature,), renames=renames)
    keys = {key.name: key.column for key in owner.keys if key.name != key.column}
    alias = None if owner.label in (owner.name, f"{owner.name}@{owner.version}") else owner.label
    return PinnedSelection(owner.name, owner.version, (feature,), alias, keys, renames)


def _function(function: ResolvedFunction) -> SavedFunction:
    return SavedFunction(function.label, function.name, function.version, function.definition.fingerprint)


def _view(given: ViewInput, source: SavedSource | None, result: HistoryResult, context: StoreContext) -> SavedView:
    view = given.view
    saved = SavedView(
        view.label,
        view.name,
        view.version,
        view.definition.fingerprint,
        {key.name: key.column for key in view.keys},
        source,
        rows_of_log(given),
        deletes_of(given),
        dict(result.metadata.views.get(view.label, {})),
    )
    return replace(saved, reads=tuple(_read_views(context, given.source)))


def _read_views(context: StoreContext, source: Source | None) -> Iterator[SavedView]:
    """The views whose rows a query reads."""
    for table in source.tables.values() if isinstance(source, COMPUTED) else ():
        rows = table.rows if isinstance(table, ViewTable) else None
        if rows is None:
            yield from _read_views(context, table)
            continue
        view = rows.view
        own = None if rows.source is None else source_state(context, rows.source)
        saved = SavedView(view.label, view.name, view.version, view.definition.fingerprint, {}, own)
        counted = replace(saved, log_rows=rows_of_log(rows), deletes=deletes_of(rows))
        yield replace(counted, reads=tuple(_read_views(context, rows.source)))


def rows_of_log(given: ViewInput) -> int:
    """How many rows of the offline log a view takes."""
    return 0 if given.log is None else sum(rows_after(part, 0) for part in given.log.parts)


def deletes_of(given: ViewInput) -> int:
    """How many deletes and purges of a view's keys a slice of the log has."""
    log = given.log
    if log is None:
        return 0
    return (0 if log.deletes is None else log.deletes.num_rows) + sum(map(len, log.purges.values()))
