"""One run in a Spark that orders structs: rows carry their values, and tables and files are read where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlglot import exp

from headwater.clock import MIN_MICROS, duration_micros
from headwater.definitions.sources import ParquetSource, Source
from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.engines.spark.backend import SparkBackend
from headwater.offline.fitting import event_range
from headwater.offline.join.relations import (
    EngineTable,
    EventRange,
    Relation,
    Tree,
    ViewRelations,
    big,
    column,
    number,
    union_all,
)
from headwater.offline.remote import RemoteWorkspace
from headwater.planning.resolve import ResolvedView

_FAR = 2**62


class SparkWorkspace(RemoteWorkspace):
    """See `headwater.offline.join.workspace.Workspace`."""

    backend: SparkBackend

    def _uploaded(self, name: str, rows: ViewRelations, view: ResolvedView, features: Sequence[str]) -> ViewRelations:
        found = super()._uploaded(name, rows, view, features)
        if not self.powers.carries or found.source is None:
            return found
        return replace(found, source=replace(found.source, ordinal=big(0), size=1))

    def _placed(
        self,
        name: str,
        rows: ViewRelations,
        view: ResolvedView,
        source: Source,
        held: EngineTable,
        features: Sequence[str],
        scope: SourceScope | None,
    ) -> ViewRelations:
        place = self._in_place if self.powers.carries else super()._placed
        return place(name, rows, view, source, held, features, scope)

    def _in_place(
        self,
        name: str,
        rows: ViewRelations,
        view: ResolvedView,
        source: Source,
        held: EngineTable,
        features: Sequence[str],
        scope: SourceScope | None,
    ) -> ViewRelations:
        forms = self.forms(view, source, held, features)
        types = dict(zip(held.schema.names, held.schema.types, strict=True))
        at = source.event_time
        within = None if at is None else event_range(self.words, at, types[at])
        everything = scope is None or scope == SourceScope()
        relation = Relation(
            table=held.table if everything or scope is None else self._scoped(held, source, forms, within, scope),
            ordinal=big(0),
            size=1,
            keys=tuple(forms[f"k{i}"] for i in range(len(view.keys))),
            event=forms.get("event"),
            created=forms.get("created"),
            features={feature: forms[f"f{i}"] for i, feature in enumerate(features)},
            event_id=forms.get("event_id"),
            event_range=within,
            fixed=False,
        )
        kinds = dict(rows.types)
        if source.event_id is not None:
            kinds["event_id"] = held.schema.field(source.event_id).type
        nulls = self._null_times(held, source) if scope is None or scope.rows is None else 0
        return replace(rows, source=relation, types=kinds, null_times=rows.null_times + nulls)

    def _scoped(
        self,
        held: EngineTable,
        source: Source,
        forms: Mapping[str, Tree],
        within: EventRange | None,
        scope: SourceScope,
    ) -> Tree:
        """The rows of a scope, as an item of FROM with the table's own columns."""
        parts = [(held.table, scope.known_after is not None)]
        if isinstance(source, ParquetSource) and (scope.only is not None or scope.known_after is not None):
            files = self.backend.engine.readable_files(source)
            if files is not None:
                scoped = files.scoped(scope)
                parts = [(self.backend.files_table(files, some), later) for some, later in scoped if some]
        queries = []
        for table, later in parts:
            taken = exp.select(exp.Star()).from_(table.copy())
            queries.append(self._later(taken, source, forms, within, scope.known_after or 0) if later else taken)
        if not queries:
            queries = [exp.select(exp.Star()).from_(held.table.copy()).where(exp.false())]
        whole = union_all(queries)
        return (whole if scope.rows is None else whole.limit(scope.rows)).subquery("own")

    def _later(
        self,
        taken: exp.Select,
        source: Source,
        forms: Mapping[str, Tree],
        within: EventRange | None,
        after: int,
    ) -> exp.Select:
        """The rows known after an instant."""
        event, made = forms.get("event"), forms.get("created")
        if event is None:
            return taken.where(exp.false())
        if made is not None:
            known: Tree = exp.Greatest(this=event.copy(), expressions=[made.copy()])
            return taken.where(known > number(after))
        delay = max(0, min(_FAR, duration_micros(source.delay_time)))
        reached = None if within is None else within(max(MIN_MICROS, after - delay), None)
        if reached is not None:
            taken = taken.where(reached)  # on the table's own column, by which files are left unread
        return taken.where((event.copy() + number(delay) if delay else event.copy()) > number(after))

    def _null_times(self, held: EngineTable, source: Source) -> int:
        """How many rows have no event or created time; by the statistics of files next to nothing is read."""
        times = [name for name in (source.event_time, source.created_time) if name is not None]
        if not times:
            return 0
        nulls = [exp.Is(this=column(name), expression=exp.Null()) for name in times]
        count = exp.select(exp.Count(this=exp.Star())).from_(held.table.copy()).where(exp.or_(*nulls))
        return int(self.rows(count)[0][0])  # type: ignore[call-overload, no-any-return]

    def _hiding(self, rows: ViewRelations, view: ViewInput, label: str) -> ViewRelations:
        if not self.powers.carries:
            return super()._hiding(rows, view, label)
        # which rows are hidden is asked where they are compared: they have no names
        return self._with_deletes(rows, view, label)
