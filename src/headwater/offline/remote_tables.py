"""The rows of a table that a backend holds, as a relation: read where they are, or numbered within their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
from sqlglot import exp

from headwater.clock import MIN_MICROS, YEARS, duration_micros
from headwater.definitions.source import Source
from headwater.errors import SourceError, listing, nearest
from headwater.offline.backend import Backend
from headwater.offline.base import SourceScope
from headwater.offline.fitting import Columns, event_range, is_local_time, is_time
from headwater.offline.join.relations import EngineTable, Relation, ViewRelations
from headwater.offline.join.workspace import Workspace
from headwater.offline.trees import EventRange, Tree, ascending, big, column, is_not_null, number, union_all
from headwater.planning.local_time import REPEATED, SKIPPED, source_times
from headwater.planning.resolved import ResolvedView

_FAR = 2**62
_ALL = SourceScope()


@dataclass(frozen=True)
class TableRows:
    """The rows of a view version's source, in a table that a backend holds.

    Attributes:
        backend: the run's.
        view: the version.
        source: its source.
        held: the source's table.
        features: the features wanted, in order.
        scope: which of the rows.
    """

    backend: Backend
    view: ResolvedView
    source: Source
    held: EngineTable
    features: Sequence[str]
    scope: SourceScope = _ALL

    def forms(self, *, within_years: bool = True) -> dict[str, Tree]:
        """The table's columns in the query's form: k0…, event, created, f0…, event_id.

        Args:
            within_years: whether the times refuse what is outside of the years 1 to 9999, row by row.

        Raises:
            SourceError: a column that is missing, or of a type that does not fit.
        """
        view, source = self.view, self.source
        where, types = self._where, self._types
        chosen = [view.view.row_feature(name) for name in self.features]
        ids = [] if source.event_id is None else [source.event_id]
        for name in (*[k.source_column for k in view.keys], *self._times, *[f.source_column for f in chosen], *ids):
            if name not in types:
                raise SourceError(
                    f"{where}: its source has no column {name!r}{nearest(name, types)}; it has {listing(types)}"
                )
        columns = replace(self._columns, within_years=within_years)
        found = {f"k{i}": columns.key(k.source_column, k.dtype) for i, k in enumerate(view.keys)}
        found = found or {"k0": exp.cast(number(0), "bigint")}
        for name, time_column in (("event", source.event_time), ("created", source.created_time)):
            if time_column is not None:
                found[name] = columns.time(time_column)
        found |= {f"f{i}": columns.feature(f) for i, f in enumerate(chosen)}
        return found | ({} if source.event_id is None else {"event_id": column(source.event_id)})

    def in_place(self, space: Workspace, rows: ViewRelations) -> ViewRelations:
        """The rows where they are, without numbers: the forms are expressions over the table's own columns.

        So a filter on the time column itself (`event_range`) leaves files and partitions unread.

        Args:
            space: the run's tables.
            rows: what is known of the view besides.
        """
        forms, within = self.forms(within_years=False), self._within
        relation = self._relation(forms, self._scoped(forms, within), big(0))
        null_times = 0
        if self._times and self.scope.rows is None:
            null_times = self._odd_times(space)
        relation = replace(relation, event_range=within, fixed=False)
        return self._with_source(rows, relation, null_times, self._clock_changes(space))

    def read_query(self, lower: int | None, upper: int | None) -> exp.Select:
        """The columns that a join reads, of the rows whose event times are within a range (microseconds)."""
        source = self.source
        chosen = [self.view.view.row_feature(name).source_column for name in self.features]
        ids = [] if source.event_id is None else [source.event_id]
        names = dict.fromkeys([*(k.source_column for k in self.view.keys), *self._times, *chosen, *ids])
        query = exp.select(*[column(name) for name in names]).from_(self.held.table.copy())
        within = self._within
        reached = None if within is None else within(lower, upper)
        return query if reached is None else query.where(reached)

    @property
    def _within(self) -> EventRange | None:
        """The filter on the event time's own column."""
        at = self.source.event_time
        zoned = source_times(self.source.timezone) is not None
        return None if at is None else event_range(self.backend.words, at, self._types[at], zoned=zoned)

    def numbered(self, space: Workspace, name: str, rows: ViewRelations) -> ViewRelations:
        """The rows in the query's form, numbered within their keys: one table.

        Args:
            space: the run's tables.
            name: the table's.
            rows: what is known of the view besides.
        """
        forms, after = self.forms(), self.scope.known_after
        taken = exp.select(*[form.as_(n, quoted=True) for n, form in forms.items()]).from_(self.held.table.copy())
        if self.scope.rows is not None:
            taken = taken.limit(self.scope.rows)
        keys = [column(k, "x") for k in rows.key_names]
        times: dict[str, Tree] = {n: column(n, "x") for n in ("event", "created") if n in forms}
        nulls: list[Tree] = [exp.Not(this=is_not_null(time.copy())) for time in times.values()]
        null_times = _count(space, taken.copy().subquery("x"), nulls) if nulls else 0
        order = ascending(list(times.values()) or [keys[0].copy()])
        # the usual frame, of a range, is refused by Sail where the order is by bytes
        frame = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
        spec = None if times else frame
        place = exp.Window(this=exp.RowNumber(), partition_by=keys, order=order, spec=spec) - number(1)
        numbered = exp.select(*[column(n, "x") for n in forms], place.as_("ordinal")).from_(taken.subquery("x"))
        if after is not None:
            known = self._known(times)
            numbered = numbered.where(exp.false() if known is None else known > number(after))
        space.create(name, numbered)
        table = exp.to_table(space.table(name))
        last = space.rows(exp.select(exp.Max(this=column("ordinal"))).from_(table.copy()))[0][0]
        relation = self._relation({n: column(n) for n in forms}, table, column("ordinal"))
        relation = replace(relation, size=int(last or 0) + 1)
        whole = self._with_source(rows, relation, null_times, self._clock_changes(space))
        return replace(whole, numbered_by_key=True)

    def _odd_times(self, space: Workspace) -> int:
        """How many rows lack a time; by conditions on the columns themselves, so that the statistics of files tell.

        Raises:
            SourceError: a time is outside of the years 1 to 9999.
        """
        columns = self._columns
        null = exp.or_(*[exp.Is(this=column(name), expression=exp.Null()) for name in self._times])
        beyond = {name: columns.outside_years(name) for name in self._times if is_time(self._types[name])}
        counts = [exp.CountIf(this=condition.copy()) for condition in (null, *beyond.values())]
        query = exp.select(*counts).from_(self.held.table.copy()).where(exp.or_(null, *beyond.values()))
        nulls, *far = [int(n or 0) for n in space.rows(query)[0]]
        for name, rows in zip(beyond, far, strict=True):
            if rows:
                raise SourceError(f"{self._where}: column {name!r}: {rows:,} rows have a time that is {YEARS}")
        return nulls

    @property
    def _where(self) -> str:
        return f"view {self.view.name!r} ({self.view.version})"

    @property
    def _columns(self) -> Columns:
        zone = source_times(self.source.timezone)
        return Columns(self.backend.words, self._types, self._where, zone=zone)

    def _clock_changes(self, space: Workspace) -> tuple[int, int]:
        """How many times of the table a clock change repeats, and how many it skips."""
        naive = [name for name in self._times if is_local_time(self._types[name])]
        columns = self._columns
        if columns.zone is None or not naive or self.scope.rows is not None:
            return 0, 0
        kinds = [columns.in_zone(t, self.backend.words.micros(column(t), self._types[t]))[1] for t in naive]
        counts = [exp.CountIf(this=k.copy().eq(number(change))) for k in kinds for change in (REPEATED, SKIPPED)]
        found = [int(n) for n in space.rows(exp.select(*counts).from_(self.held.table.copy()))[0]]
        return sum(found[::2]), sum(found[1::2])

    @property
    def _times(self) -> list[str]:
        return [name for name in (self.source.event_time, self.source.created_time) if name is not None]

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        return dict(zip(self.held.schema.names, self.held.schema.types, strict=True))

    def _relation(self, forms: Mapping[str, Tree], table: Tree, ordinal: Tree) -> Relation:
        return Relation(
            table=table,
            ordinal=ordinal,
            size=1,
            keys=tuple(forms[f"k{i}"] for i in range(len(self.view.keys))),
            event=forms.get("event"),
            created=forms.get("created"),
            features={feature: forms[f"f{i}"] for i, feature in enumerate(self.features)},
            event_id=forms.get("event_id"),
        )

    def _with_source(
        self, rows: ViewRelations, relation: Relation, null_times: int, changes: tuple[int, int]
    ) -> ViewRelations:
        types = dict(rows.types)
        if self.source.event_id is not None:
            types["event_id"] = self._types[self.source.event_id]
        repeated, skipped = changes
        return replace(
            rows,
            source=relation,
            types=types,
            null_times=rows.null_times + null_times,
            repeated_times=rows.repeated_times + repeated,
            skipped_times=rows.skipped_times + skipped,
        )

    def _scoped(self, forms: Mapping[str, Tree], within: EventRange | None) -> Tree:
        """The rows of the scope, as an item of FROM with the table's own columns."""
        if self.scope == _ALL:
            return self.held.table
        queries = []
        for table, later in self.backend.scoped(self.source, self.held, self.scope):
            taken = exp.select(exp.Star()).from_(table.copy())
            queries.append(self._later(taken, forms, within) if later else taken)
        if not queries:
            queries = [exp.select(exp.Star()).from_(self.held.table.copy()).where(exp.false())]
        whole = union_all(queries)
        return (whole if self.scope.rows is None else whole.limit(self.scope.rows)).subquery("own")

    def _later(self, taken: exp.Select, forms: Mapping[str, Tree], within: EventRange | None) -> exp.Select:
        """Those that are known after the scope's instant."""
        after, known = self.scope.known_after or 0, self._known(forms)
        if known is None:
            return taken.where(exp.false())
        reached = None
        if within is not None and "created" not in forms:
            reached = within(max(MIN_MICROS, after - self._delay), None)
        if reached is not None:
            taken = taken.where(reached)  # on the table's own column, by which files are left unread
        return taken.where(known > number(after))

    @property
    def _delay(self) -> int:
        return max(0, min(_FAR, duration_micros(self.source.delay_time)))

    def _known(self, forms: Mapping[str, Tree]) -> Tree | None:
        """When a row is known; None: since ever."""
        event, made = forms.get("event"), forms.get("created")
        if event is None:
            return None
        if made is not None:
            return exp.Greatest(this=event.copy(), expressions=[made.copy()])
        return event.copy() + number(self._delay) if self._delay else event.copy()


def _count(space: Workspace, rows: Tree, conditions: Sequence[Tree]) -> int:
    """How many rows meet one of the conditions."""
    count = exp.select(exp.Count(this=exp.Star())).from_(rows.copy()).where(exp.or_(*conditions))
    return int(space.rows(count)[0][0])
