"""The kernel over Arrow tables: spine rows and events of whole keys in, their features out. It can be pickled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.offline.windows.events import Deletes
from headwater.offline.windows.kernel import PartAnswer, part_answer
from headwater.planning.windows.columns import Column
from headwater.planning.windows.conditions import Conditions, conditions
from headwater.planning.windows.layout import WindowFeature, WindowLayout
from headwater.planning.windows.statements import Statements
from headwater.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TableKernel:
    """A window version as it is computed from tables.

    Attributes:
        layout: of the version.
        features: those of it that are asked for.
        dtypes: of the columns that aggregations may read.
        ids: whether events have ids.
        lag: how long after its event time every event is known, in microseconds; None: events have a created time.
        log: whether events have an origin and a position.
        as_known: whether only what was known at a row's instant counts.
    """

    layout: WindowLayout
    features: tuple[WindowFeature, ...]
    dtypes: Mapping[str, DType]
    ids: bool
    lag: int | None
    log: bool
    as_known: bool

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that events have as f0…."""
        lists = [self.layout.lists[feature.list] for feature in self.features]
        read = {*(each.column for each in lists if each.column is not None), *self._conditions.names}
        # of the statements of one event that are equal in all else the values decide
        return tuple(name for name in self.dtypes if self.ids or name in read)

    @cached_property
    def _conditions(self) -> Conditions:
        lists = [self.layout.lists[feature.list] for feature in self.features]
        return conditions(dict.fromkeys(each.where for each in lists if each.where), self.dtypes)

    def fields(self) -> Iterable[pa.Field]:
        """What events have beside a key: event, created, origin, position, id and has_id (digests), f0…."""
        yield pa.field("event", pa.int64())
        if self.lag is None:
            yield pa.field("created", pa.int64())
        if self.log:
            yield from (pa.field("origin", pa.int8()), pa.field("position", pa.int64()))
        if self.ids:
            yield from (pa.field("id", pa.uint64()), pa.field("has_id", pa.bool_()))
        for i, name in enumerate(self.columns):
            yield pa.field(f"f{i}", self.dtypes[name].arrow)

    def answer(self, key: Ints, at: Ints, event_key: Ints, events: pa.Table, deletes: Deletes | None) -> PartAnswer:
        """The features at rows of a spine.

        Args:
            key: the number of each row's key.
            at: its instant, microseconds.
            event_key: the number of each event's key.
            events: all events of these keys, perhaps of others too; `fields` says what they have.
            deletes: the tombstones of these keys.
        """
        return part_answer(
            self.layout,
            self.features,
            self._statements(event_key, events),
            deletes,
            int(key.max()) + 1,
            key,
            at,
            as_known=self.as_known,
        )

    def _statements(self, key: Ints, given: pa.Table) -> Statements:
        columns = {name: Column.of(given.column(f"f{i}"), self.dtypes[name]) for i, name in enumerate(self.columns)}
        names = [f"f{i}" for i in range(len(self.columns))]
        holds = (
            self._conditions.holds(given.select(names).rename_columns(list(self.columns)))
            if self.layout.conditions
            else []
        )
        event, size = given.column("event").to_numpy(), given.num_rows
        return Statements(
            key,
            event,
            given.column("created").to_numpy() if self.lag is None else event + self.lag,
            given.column("origin").to_numpy() == 1 if self.log else np.zeros(size, bool),
            given.column("position").to_numpy() if self.log else np.zeros(size, np.int64),
            columns,
            dict(zip(self._conditions.texts, holds, strict=True)),
            (given.column("id").to_numpy(), np.asarray(given.column("has_id"))) if self.ids else None,
        )
