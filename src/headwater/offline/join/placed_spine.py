"""A spine that the engine holds: its rows stay there, in any order, and their columns come with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from headwater.clock import FIRST_MICROS, LAST_MICROS, YEARS
from headwater.errors import SourceError, SpineError
from headwater.offline.fitting import Columns, is_local_time
from headwater.offline.join.relations import EngineTable
from headwater.offline.join.spine import Extent, Spine
from headwater.offline.join.spine_bucket import columns_named
from headwater.offline.join.workspace import Workspace, row_ids
from headwater.offline.trees import BIGINT, Tree, column, number, table_named
from headwater.offline.words import Words
from headwater.planning.local_time import REPEATED, SKIPPED, local_times, source_times
from headwater.types import DType, String

_WHERE = "the spine"


class PlacedSpine(Spine):
    """Training rows that a query of the engine's own answers.

    Args:
        held: the query's rows.
        words: the engine's.
        keys, timestamp_column, at: as of `Spine`.
        given: the query.
    """

    def __init__(
        self,
        held: EngineTable,
        words: Words,
        keys: Mapping[str, DType],
        timestamp_column: str | None,
        at: int | None,
        given: str,
    ) -> None:
        super().__init__(keys, timestamp_column, at, given)
        self._held = held
        self._columns = Columns(words, dict(zip(held.schema.names, held.schema.types, strict=True)), _WHERE)

    @property
    def schema(self) -> pa.Schema:
        return self._held.schema

    @property
    def size(self) -> int | None:
        return None

    def prepare(self) -> None:
        super().prepare()
        self._forms()

    def place(self, space: Workspace, extent: Extent) -> None:
        kept = [self._kept(field).as_(f"s{i}", quoted=True) for i, field in enumerate(self.schema)]
        forms = [form.as_(name, quoted=True) for name, form in self._forms().items()]
        taken = exp.select(*forms, *kept).from_(self._held.table.copy())
        if self.bucket is not None:
            here = self.bucket.condition(space.words, columns_named(list(self.keys), "y"))
            taken = exp.select(exp.Column(this=exp.Star(), table="y")).from_(taken.subquery("y")).where(here)
        row = row_ids(space.powers).as_("rn")
        numbered = exp.select(row, exp.Column(this=exp.Star(), table="x")).from_(taken.subquery("x"))
        try:
            space.create("spine", numbered)
        except SourceError as bad:
            raise SpineError(str(bad)) from bad
        self._count_changes(space)
        t = column("t")
        absent = exp.Is(this=t, expression=exp.Null())
        whole = exp.select(exp.Count(this=exp.Star()), exp.Min(this=t), exp.Max(this=t), exp.CountIf(this=absent))
        rows, first, last, nulls = space.rows(whole.from_(table_named(space.table("spine"))))[0]
        if nulls:
            raise SpineError(f"spine column {self.timestamp_column!r} has no timestamp (NULL) in {int(nulls):,} rows")
        if rows:
            if first < FIRST_MICROS or last > LAST_MICROS:
                raise SpineError(f"spine column {self.timestamp_column!r} has an instant that is {YEARS}")
            extent.add(int(rows), int(first), int(last))

    def placed_columns(self, words: Words) -> list[tuple[str, Tree]]:
        return [(name, column(f"s{i}", "s")) for i, name in enumerate(self.schema.names)]

    def columns(
        self, space: Workspace, rows: int, extent: Extent
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        names = [f"s{i}" for i in range(len(self.schema))]
        schema = pa.schema([("rn", pa.int64()), *zip(names, self.schema.types, strict=True)])
        query = exp.select(*[column(n) for n in schema.names]).from_(table_named(space.table("spine")))
        for batch in space.stream(query.order_by(column("rn")), schema, rows):
            yield np.asarray(batch.column(0)), pa.RecordBatch.from_arrays(batch.columns[1:], schema=self.schema)

    @property
    def _local(self) -> Columns:
        """The columns with the zone of its times: of a repeated one the earlier instant."""
        return replace(self._columns, zone=None if self.zone is None else local_times(self.zone, later=False))

    def _count_changes(self, space: Workspace) -> None:
        """Count its times that a clock change repeats, and those that it skips."""
        name, columns = self.timestamp_column, self._local
        if name is None or self.at is not None or columns.zone is None or not is_local_time(columns.types[name]):
            return
        kind = columns.types[name]
        change = columns.in_zone(name, space.words.micros(column(name), kind, up=False))[1]
        counts = [exp.CountIf(this=change.copy().eq(number(which))) for which in (REPEATED, SKIPPED)]
        self.repeated, self.skipped = map(int, space.rows(exp.select(*counts).from_(self._held.table.copy()))[0])

    def _kept(self, field: pa.Field) -> Tree:
        """A column as it is given back: text that is not UTF-8 is refused."""
        return self._columns.value(field.name, String) if pa.types.is_string(field.type) else column(field.name)

    def _forms(self) -> dict[str, Tree]:
        """T and the keys c0….

        Raises:
            SpineError: a column of another type.
        """
        try:
            if self.at is None:
                assert self.timestamp_column is not None
                t = self._local.time(self.timestamp_column, up=False)
            else:
                t = exp.cast(number(self.at), BIGINT)
            columns = replace(self._columns, zone=source_times(self.zone))
            keys = {f"c{i}": columns.key(name, dtype) for i, (name, dtype) in enumerate(self.keys.items())}
        except SourceError as bad:
            raise SpineError(str(bad)) from bad
        return {"t": t, **keys}
