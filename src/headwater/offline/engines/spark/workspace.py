"""One run in a Spark that orders structs: rows carry their values, and tables and files are read where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from headwater.clock import MIN_MICROS, duration_micros
from headwater.definitions.sources import Source
from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.fitting import event_range
from headwater.offline.join.relations import EngineTable, Relation, Tree, ViewRelations, big, column, number
from headwater.offline.remote import RemoteWorkspace
from headwater.planning.resolve import ResolvedView


class SparkWorkspace(RemoteWorkspace):
    """See `headwater.offline.join.workspace.Workspace`."""

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
        within = (
            None if source.event_time is None else event_range(self.words, source.event_time, types[source.event_time])
        )
        event, created = forms.get("event"), forms.get("created")
        relation = Relation(
            table=self._scoped(held, source, event, created, within, scope),
            ordinal=big(0),
            size=1,
            keys=tuple(forms[f"k{i}"] for i in range(len(view.keys))),
            event=event,
            created=created,
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
        event: Tree | None,
        created: Tree | None,
        within: object,
        scope: SourceScope | None,
    ) -> Tree:
        """The rows of a scope, as an item of FROM with the table's own columns."""
        taken = exp.select(exp.Star()).from_(held.table.copy())
        if scope is not None and scope.rows is not None:
            return taken.limit(scope.rows).subquery("own")
        after = None if scope is None else scope.known_after
        if after is None:
            return held.table.copy()
        if event is None:
            return taken.where(exp.false()).subquery("own")
        delay = 0 if source.created_time is not None else max(0, min(2**62, duration_micros(source.delay_time)))
        known: Tree = event.copy() + number(delay) if delay else event.copy()
        if created is not None:
            known = exp.Greatest(this=event.copy(), expressions=[created.copy()])
        elif callable(within) and (reached := within(max(MIN_MICROS, after - delay), None)) is not None:
            taken = taken.where(reached)  # on the table's own column, by which files are left unread
        return taken.where(known > number(after)).subquery("own")

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
