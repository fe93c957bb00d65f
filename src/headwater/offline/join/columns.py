"""A view's answer as output columns: dtypes, defaults where no row matched, statuses and event times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.definitions.feature import Feature
from headwater.errors import StoreError
from headwater.offline.base import HistoryRequest
from headwater.planning.resolve import OutputColumn, ResolvedView
from headwater.types import STATUSES, Status

_UTC = pa.timestamp("us", tz="UTC")
_TEXTS = pa.array([str(status) for status in STATUSES])


@dataclass(frozen=True)
class ViewColumns:
    """What one view adds to the answer.

    Attributes:
        features: the features read, each once.
        outputs: output column → place of its feature.
        event_time: the name of the event time's column.
        timed: whether rows have an event time.
        include: `status`, `event_time`.
    """

    features: tuple[Feature, ...]
    outputs: Mapping[str, int]
    event_time: str
    timed: bool
    include: tuple[str, ...]

    @property
    def fields(self) -> list[pa.Field]:
        """Names and Arrow types of the columns."""
        found = [pa.field(name, self.features[i].dtype.arrow) for name, i in self.outputs.items()]
        if "status" in self.include:
            found += [pa.field(f"{name}__status", pa.string()) for name in self.outputs]
        if "event_time" in self.include:
            found.append(pa.field(self.event_time, _UTC))
        return found

    def arrays(self, batch: pa.RecordBatch, first: int) -> dict[str, pa.Array]:
        """The columns of some spine rows.

        Args:
            batch: rn, event, why and f0… of those rows, in order.
            first: the spine's row number of the first.

        Raises:
            StoreError: rows that are not the spine's (an engine that lost the order).
        """
        numbers = np.asarray(batch.column("rn"))
        if len(numbers) and (numbers[0] != first or numbers[-1] != first + len(numbers) - 1):
            raise StoreError("the offline engine gave rows out of order; please report this")
        why = batch.column("why")
        values = [self._value(batch.column(f"f{i}"), f, why) for i, f in enumerate(self.features)]
        found = {name: values[i] for name, i in self.outputs.items()}
        if "status" in self.include:
            codes = [_status(why, batch.column(f"f{i}")) for i in range(len(self.features))]
            found |= {f"{name}__status": codes[i] for name, i in self.outputs.items()}
        if "event_time" in self.include:
            events = batch.column("event").cast(pa.int64()) if self.timed else pa.nulls(batch.num_rows, pa.int64())
            found[self.event_time] = events.cast(_UTC)
        return found

    def _value(self, column: pa.Array, feature: Feature, why: pa.Array) -> pa.Array:
        column = column if column.type == feature.dtype.arrow else column.cast(feature.dtype.arrow)
        if feature.default is None or why.null_count == len(why):
            return column
        default = pa.array([feature.default], feature.dtype.arrow)
        places = np.where(np.asarray(pc.is_null(why)), np.arange(len(column)), len(column))
        return pa.concat_arrays([column, default]).take(pa.array(places))


def _status(why: pa.Array, values: pa.Array) -> pa.Array:
    """PRESENT or NULL where a row matched, else why there is none."""
    null, present = STATUSES.index(Status.NULL), STATUSES.index(Status.PRESENT)
    matched = np.where(np.asarray(pc.is_null(values)), null, present)
    codes = np.where(np.asarray(pc.is_null(why)), matched, np.asarray(why.fill_null(0)))
    return _TEXTS.take(pa.array(codes.astype(np.int64)))


Made = TypeVar("Made", bound=ViewColumns)


def view_columns(made: type[Made], view: ResolvedView, place: int, request: HistoryRequest) -> Made:
    """What the view at a place in the request adds to the answer."""
    outputs: list[OutputColumn] = [c for c in request.columns if c.view == place]
    features = list({c.feature.name: c.feature for c in outputs}.values())
    at = {f.name: i for i, f in enumerate(features)}
    return made(
        features=tuple(features),
        outputs={c.name: at[c.feature.name] for c in outputs},
        event_time=f"{view.label.replace('@', '__')}__event_time",
        timed=view.view.source.event_time is not None,
        include=request.include,
    )
