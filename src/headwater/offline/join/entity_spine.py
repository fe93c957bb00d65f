"""The spine of a join that was given none: every entity that is known at one instant, listed from the views' rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlglot import exp

from headwater.errors import UsageError
from headwater.offline.base import ViewInput
from headwater.offline.join import pit
from headwater.offline.join.batches import RowStream, one_batch
from headwater.offline.join.relations import key_form
from headwater.offline.join.spine import Extent, Spine, ViewKeys
from headwater.offline.join.spine_bucket import SpineBucket
from headwater.offline.join.workspace import Workspace, row_ids
from headwater.offline.trees import BIGINT, Tree, column, number, table_named
from headwater.offline.words import Words
from headwater.types import DType


class EntitySpine(Spine):
    """Entities as rows, in no order of their own.

    Args:
        keys: as of `Spine`.
        instant: of all rows (microseconds).
        as_known: whether a row counts only once it is known.
        bucket: only these entities; None: all.
    """

    def __init__(self, keys: Mapping[str, DType], instant: int, as_known: bool, bucket: SpineBucket | None) -> None:
        super().__init__(keys, None, instant, None)
        self._instant, self._as_known = instant, as_known
        self.bucket = bucket

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, dtype.arrow) for name, dtype in self.keys.items()])

    @property
    def size(self) -> int | None:
        return None

    def place(self, space: Workspace, extent: Extent) -> None:
        """Nothing is there before the views' rows are (`list_entities`)."""

    def list_entities(self, space: Workspace, views: Sequence[ViewKeys], extent: Extent) -> None:
        found = pit.entities(_listed(views), tuple(self.keys), self._instant, self._as_known)
        if self.bucket is not None:
            here = self.bucket.condition(space.words, {name: column(name, "b") for name in self.keys})
            found = exp.select(exp.Star()).from_(found.subquery("b")).where(here)
        keys = [column(name).as_(f"c{i}") for i, name in enumerate(self.keys)]
        row = row_ids(space.powers).as_("rn")
        t = exp.cast(number(self._instant), BIGINT).as_("t")
        space.create("spine", exp.select(row, t, *keys).from_(found.subquery("e")))
        count = space.rows(exp.select(exp.Count(this=exp.Star())).from_(table_named(space.table("spine"))))[0][0]
        extent.add(int(count), self._instant, self._instant)

    def columns(
        self, space: Workspace, rows: int, extent: Extent
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        names = [f"c{i}" for i in range(len(self.keys))]
        query = (
            exp.select(column("rn"), *[column(n) for n in names])
            .from_(table_named(space.table("spine")))
            .order_by(column("rn"))
        )
        keys = [(n, key_form(dtype)) for n, dtype in zip(names, self.keys.values(), strict=True)]
        stream = RowStream(space.stream(query, pa.schema([("rn", pa.int64()), *keys]), rows))
        schema = self.schema
        for start in range(0, extent.rows, rows):
            batch = stream.take(min(rows, extent.rows - start))
            arrays = [batch.column(n).cast(field.type) for n, field in zip(names, schema, strict=True)]
            if arrays:
                base = pa.RecordBatch.from_arrays(arrays, schema=schema)
            else:
                base = one_batch(pa.Table.from_batches([batch]).select([]), batch.num_rows)
            yield np.asarray(batch.column("rn")), base

    def placed_columns(self, words: Words) -> list[tuple[str, Tree]]:
        found: list[tuple[str, Tree]] = []
        for i, (name, dtype) in enumerate(self.keys.items()):
            key: Tree = column(f"c{i}", "s")
            if dtype.name == "timestamp":
                key = words.instant(key)
            elif key_form(dtype) != dtype.arrow:
                kind = exp.DataType.build(words.type_name(dtype), dialect=words.dialect)
                key = exp.Cast(this=key, to=kind)
            found.append((name, key))
        return found


def entity_keys(views: Sequence[ViewInput]) -> dict[str, DType]:
    """The columns of a list of entities, each with its dtype: every view must be joined by them.

    Raises:
        UsageError: views with different join keys.
    """
    keyed = [v.view for v in views if v.view.keys]
    timed = [v for v in keyed if v.view.source.event_time is not None] or keyed
    names = {k.column for k in timed[0].keys} if timed else set()
    for view in timed:
        if {k.column for k in view.keys} != names:
            raise UsageError(
                f"views {timed[0].label!r} and {view.label!r} have different join keys, "
                "so there is no list of entities for both; give a spine"
            )
    for view in keyed:
        missing = [k.column for k in view.keys if k.column not in names]
        if missing:
            raise UsageError(
                f"view {view.label!r} is joined by {', '.join(missing)}, which no list of entities has; give a spine"
            )
    return {k.column: k.dtype for k in timed[0].keys} if timed else {}


def _listed(views: Sequence[ViewKeys]) -> list[ViewKeys]:
    """The views whose keys are the entities: those with event times, where there are any."""
    keyed = [(rows, names) for rows, names in views if names]
    return [(rows, names) for rows, names in keyed if rows.timed] or keyed or list(views)
