"""The rows of a view version in a remote engine: those of its source and its log, each in a table of the backend."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.join.deletes import delete_rows
from headwater.offline.join.ids import ids_as
from headwater.offline.join.pit import hidden_rows
from headwater.offline.join.relations import Relation, ViewRelations, key_form
from headwater.offline.join.workspace import Workspace, sql_of
from headwater.offline.remote_tables import TableRows
from headwater.offline.trees import big, column

_ROWS = 65_536


@dataclass(frozen=True)
class RemoteRows:
    """The rows of a view version; those that the backend does not hold are uploaded.

    Attributes:
        space: the run's tables in the backend.
        embedded: opens what the backend does not hold.
        view: the version with its data.
        label: part of the names of its tables.
        features: the features to be among the columns.
        scope: which rows of the source; None: all.
        table: the source's rows, where the backend holds them; None: it does not, or there are none.
    """

    space: Workspace
    embedded: Workspace
    view: ViewInput
    label: str
    features: Sequence[str]
    scope: SourceScope | None
    table: TableRows | None

    def relations(self) -> ViewRelations:
        """See `Workspace.view_relations`."""
        rows = self._with_deletes(self._every(numbered=not self.space.powers.carries))
        # which rows are hidden is asked where they are compared, if they have no numbers
        if rows.deletes is None or self.space.powers.carries:
            return rows
        hidden = f"hidden_{self.label}"
        self.space.create(hidden, hidden_rows(rows, rows.deletes))
        return rows.hiding(self.space.table(hidden), rows.deletes)

    def events(self) -> ViewRelations:
        """See `Workspace.event_relations`."""
        rows = self._every(numbered=False)
        ids = [part.event_id or part.stated_id for part in (rows.source, *rows.log) if part is not None]
        if not any(ids):
            # a column of NULLs alone must have a type too
            absent = exp.cast(exp.Null(), "text")
            source = None if rows.source is None else replace(rows.source, event_id=absent)
            rows = replace(rows, source=source, log=tuple(replace(part, stated_id=absent) for part in rows.log))
        return self._with_deletes(rows)

    def _every(self, *, numbered: bool) -> ViewRelations:
        """All rows; those of a table that the backend holds have numbers where that is asked for."""
        view = self.view
        # which keys have deletes is asked of all rows, wherever they are
        log = None if view.log is None else replace(view.log, deletes=None, purges={})
        local = replace(view, log=log) if self.table is None else replace(view, source=None, log=log)
        whole = self.embedded.view_relations(local, self.label, self.features, self.scope)
        keys = [(f"k{i}", key_form(key.dtype)) for i, key in enumerate(view.view.keys)] or [("k0", pa.int64())]
        whole = replace(whole, types=dict(keys))
        rows, name = replace(whole, log=()), f"rows_{self.label}"
        if self.table is not None:
            rows = self.table.numbered(self.space, name, rows) if numbered else self.table.in_place(self.space, rows)
        elif rows.source is not None:
            source, types = self._uploaded(name, rows.source, rows)
            rows = replace(rows, source=source if numbered else replace(source, ordinal=big(0), size=1), types=types)
        for i, part in enumerate(whole.log):
            alone = replace(whole, source=None, log=(part,), types=rows.types)
            found, types = self._uploaded(f"log_{self.label}_{i}", part, alone)
            rows = replace(rows, log=(*rows.log, found), types=types)
        return rows

    def _uploaded(self, name: str, part: Relation, alone: ViewRelations) -> tuple[Relation, Mapping[str, pa.DataType]]:
        """The same rows in a table of the backend, and the types of keys and ids with those of its ids.

        Args:
            name: the table's.
            part: the rows, in the embedded engine.
            alone: the view with these rows alone.
        """
        dtypes, types = {feature.name: feature.dtype for feature in self.view.view.view.row_features}, alone.types
        keys = [(name, types[name]) for name in alone.key_names]
        schema = pa.schema([*keys, *[(n, pa.int64()) for n in ("event", "created", "ordinal")]])
        for i, feature in enumerate(self.features):
            schema = schema.append(pa.field(f"f{i}", dtypes[feature].arrow))
        ids = "event_id" if part.event_id is not None else "stated_id" if part.stated_id is not None else None
        more = [name for name in ("event_id", "arrival", "stated_id") if getattr(part, name) is not None]
        query = alone.narrow(nulls=True, features=self.features, more=more)
        schema = pa.schema([*schema, *[(each, pa.int64()) for each in more if each == "arrival"]])
        batches = self.embedded.stream(query, schema, _ROWS)
        if ids is not None:
            first = next(batches, None)
            given = self.embedded.schema_of(sql_of(query, self.embedded)) if first is None else first.schema
            kind = types.get("event_id", given.field(ids).type)
            view = self.view.view
            where = f"view {view.name!r} ({view.version}), event_id {view.view.source.event_id!r}"
            batches = ids_as(itertools.chain([] if first is None else [first], batches), ids, kind, where)
            schema = schema.append(pa.field(ids, kind))
            types = {**types, "event_id": kind}
        self.space.load(name, schema, batches)
        found = replace(
            part,
            table=exp.to_table(self.space.table(name)),
            ordinal=column("ordinal"),
            keys=tuple(column(f"k{i}") for i in range(len(part.keys))),
            event=None if part.event is None else column("event"),
            created=None if part.created is None else column("created"),
            features={feature: column(f"f{i}") for i, feature in enumerate(self.features)},
            event_id=None if part.event_id is None else column("event_id"),
            arrival=None if part.arrival is None else column("arrival"),
            stated_id=None if part.stated_id is None else column("stated_id"),
            event_range=None,
            seekable=False,
            fixed=True,
        )
        return found, types

    def _with_deletes(self, rows: ViewRelations) -> ViewRelations:
        """The rows with a table of tombstones, where there are any."""
        log = self.view.log
        if log is None:
            return rows
        schema = pa.schema([(name, rows.types[name]) for name in rows.key_names])

        def keys_of(query: exp.Query) -> pa.Table:
            return pa.Table.from_batches(self.space.stream(query, schema, _ROWS), schema)

        deletes = delete_rows(self.view.view, log, rows, keys_of)
        if deletes is None:
            return rows
        name = f"deletes_{self.label}"
        self.space.load(name, deletes.schema, iter(deletes.to_batches()))
        return replace(rows, deletes=self.space.table(name))
