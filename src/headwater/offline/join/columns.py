"""A view's answer as output columns: dtypes, defaults where no row matched, statuses and event times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.errors import StoreError
from headwater.offline.base import HistoryRequest
from headwater.offline.trees import BIGINT, Tree, column, number
from headwater.offline.words import Words
from headwater.planning.resolved import OutputColumn, ResolvedView
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

    def arrays(self, batch: pa.RecordBatch, numbers: NDArray[np.int64]) -> dict[str, pa.Array]:
        """The columns of some spine rows.

        Args:
            batch: rn, event, why and f0… of those rows, in order.
            numbers: of these rows in the spine.

        Raises:
            StoreError: rows that are not the spine's (an engine that lost the order).
        """
        if not np.array_equal(np.asarray(batch.column("rn")), numbers):
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

    def expressions(self, words: Words, rows: str, defaults: Sequence[Tree | None]) -> dict[str, Tree]:
        """The same columns as expressions over the answer as a table of the engine's.

        Args:
            words: the engine's.
            rows: the table, of rn, event, why and f0….
            defaults: of each feature where it has one.
        """
        why = column("why", rows)
        matched = exp.Is(this=why.copy(), expression=exp.Null())
        absent = [exp.not_(matched.copy()) for _ in self.features]
        statuses = [status_text(why, _there(rows, i)) for i in range(len(self.features))]
        return self._expressions(words, rows, defaults, absent, statuses)

    def _expressions(
        self,
        words: Words,
        rows: str,
        defaults: Sequence[Tree | None],
        absent: Sequence[Tree],
        statuses: Sequence[Tree],
    ) -> dict[str, Tree]:
        values: list[Tree] = []
        for i, (feature, default) in enumerate(zip(self.features, defaults, strict=True)):
            value: Tree = column(f"f{i}", rows)
            if default is not None:
                value = exp.Case().when(absent[i], default).else_(value)
            kind = exp.DataType.build(words.type_name(feature.dtype), dialect=words.dialect)
            values.append(exp.Cast(this=value, to=kind))
        found = {name: values[i] for name, i in self.outputs.items()}
        if "status" in self.include:
            found |= {f"{name}__status": statuses[i] for name, i in self.outputs.items()}
        if "event_time" in self.include:
            event = column("event", rows) if self.timed else exp.cast(exp.Null(), BIGINT)
            found[self.event_time] = words.instant(event)
        return found

    def _value(self, values: pa.Array, feature: Feature, why: pa.Array) -> pa.Array:
        values = values if values.type == feature.dtype.arrow else values.cast(feature.dtype.arrow)
        if feature.default is None or why.null_count == len(why):
            return values
        default = pa.array([feature.default], feature.dtype.arrow)
        places = np.where(np.asarray(pc.is_null(why)), np.arange(len(values)), len(values))
        return pa.concat_arrays([values, default]).take(pa.array(places))


def status_text(code: Tree, otherwise: Tree) -> Tree:
    """The text of a status that a column has the code of; where it is NULL another."""
    texts = exp.Case()
    for i, status in enumerate(STATUSES):
        texts = texts.when(code.copy().eq(number(i)), exp.Literal.string(str(status)))
    return texts.else_(otherwise)


def _there(rows: str, place: int) -> Tree:
    """PRESENT or NULL, by a feature's value."""
    null = exp.Is(this=column(f"f{place}", rows), expression=exp.Null())
    present = exp.Literal.string(str(Status.PRESENT))
    return exp.Case().when(null, exp.Literal.string(str(Status.NULL))).else_(present)


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
