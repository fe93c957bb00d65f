"""OnlineResult: the answer to one read, columnar, with a status for each value; most of it made when asked for."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.clock import MIN_MICROS, from_micros
from headwater.deferred import deferred
from headwater.errors import FeatureNotFound, UsageError, brief, listing, nearest
from headwater.online.reading.damages import DamagedRow, damaged_rows
from headwater.online.reading.entities import EntityBatch, key_array
from headwater.online.reading.read_sla import FEATURES_OWN, ReadSLA
from headwater.online.reading.statuses import ReadStatuses, StatusGroup
from headwater.online.reading.view_read import AnsweredView, MatrixColumns, ReadColumn, ReadRequest, ViewAnswered
from headwater.online.reading.view_times import ViewTimes, event_times, freshness_scores, instants
from headwater.online.reading.view_values import embedding_matrix, fixed_array, numeric_matrix, python_values
from headwater.types import STATUSES, DType, Status

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

    from headwater.online.reading import frames as html
    from headwater.online.reading import vector
    from headwater.planning import frames, shown
else:
    html = deferred("headwater.online.reading.frames")
    vector = deferred("headwater.online.reading.vector")
    frames = deferred("headwater.planning.frames")
    shown = deferred("headwater.planning.shown")

_WHOLE = 2**53
"""The greatest integer below which float64 holds all."""
_NO_CODES: NDArray[np.uint8] = np.empty(0, np.uint8)


class OnlineResult:
    """Values, statuses and times of one read, in the order of the entities.

    Python values: timestamps are UTC datetimes, dates are dates, arrays and embeddings lists. A float32 is the same
    number in every form, 1.1109999418258667 where 1.111 was given; only what people look at shows it as 1.111.
    """

    def __init__(
        self,
        asked: ReadRequest,
        batch: EntityBatch,
        reads: Sequence[AnsweredView],
        drop: bool,
        max_age: int | None,
        codes: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> None:
        self._asked, self._batch, self._reads = asked, batch, reads
        self._sla = FEATURES_OWN if max_age is None and not drop else ReadSLA(max_age, drop)
        # of each column where a server has worked them out
        self._received_codes = codes
        self._made_statuses: ReadStatuses | None = None

    def __len__(self) -> int:
        return self._batch.size

    def __repr__(self) -> str:
        return f"OnlineResult({len(self)} rows, features {', '.join(c.name for c in self._asked.columns)})"

    @property
    def columns(self) -> list[str]:
        """The names of the feature columns, in the requested order."""
        return [column.name for column in self._asked.columns]

    @property
    def dtypes(self) -> dict[str, DType]:
        """Column → dtype: keys first, then features in the requested order, as in `to_dict`."""
        return dict(self._asked.keys) | {column.name: column.dtype for column in self._asked.columns}

    @property
    def versions(self) -> dict[str, str]:
        """View label → version."""
        return {read.view.label: read.view.version for read in self._reads}

    def to_dict(self) -> dict[str, list[Any]]:
        """The result as Python values.

        Returns:
            Column → one Python value per row: keys first, then features in the requested order. Times are aware
            datetimes in UTC; a value that is absent is its default, or None.
        """
        asked, batch = self._asked, self._batch
        out = {name: list(batch.values(name)) for name in asked.keys}
        values: list[list[Any]] = []
        for read in self._reads:
            values += python_values(read, self._sla)
        out.update(zip(asked.names, map(values.__getitem__, asked.places), strict=True))
        return out

    def to_pylist(self) -> list[dict[str, Any]]:
        """The result as rows.

        Returns:
            A dict of column → value for each row, with the values of `to_dict`.
        """
        columns = self.to_dict()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    # -- beside the values

    @property
    def _statuses(self) -> ReadStatuses:
        made = self._made_statuses
        if made is None:  # not `lazy`: this is asked of nearly every read
            made = ReadStatuses(self._asked, self._reads, len(self), self._sla, self._received_codes)
            self._made_statuses = made
        return made

    @property
    def statuses(self) -> dict[str, list[Status]]:
        """The status of every value.

        Returns:
            Column → a `Status` for each row; keys have none.
        """
        columns: list[list[Status]] = [[]] * len(self._asked.columns)
        for group in self.status_groups():
            text = [STATUSES[code] for code in group.codes.tolist()]
            for place in group.columns:
                columns[place] = text.copy()
        return {column.name: text for column, text in zip(self._asked.columns, columns, strict=True)}

    @property
    def service(self) -> str | None:
        """The name of the service that was read; None where features were."""
        return None if self._asked.service is None else self._asked.service[0]

    def newest_events(self) -> dict[str, int]:
        """The newest event time of each view's rows, for metrics.

        Returns:
            View → microseconds since 1970, for views that have rows and event times.
        """
        out: dict[str, int] = {}
        for read in self._reads:
            gone = read.rows.gone
            if read.view.timed and len(gone) < read.rows.size:
                events = read.rows.events()
                if gone:
                    events[list(gone)] = MIN_MICROS
                newest = int(events.max())
                if newest != MIN_MICROS:
                    out[read.view.name] = max(newest, out.get(read.view.name, MIN_MICROS))
        return out

    def status_codes(self) -> dict[str, NDArray[np.uint8]]:
        """Column → the status of each value as its place in `types.STATUSES` (uint8).

        Returns:
            Column → a uint8 array of shape (rows,).
        """
        return {
            column.name: codes.copy() for column, codes in zip(self._asked.columns, self.shared_codes(), strict=True)
        }

    @property
    def event_times(self) -> dict[str, list[datetime | None]]:
        """View label → the event time (UTC) of each row; None where there is no value or the view has no event time."""
        return {read.view.label: event_times(read) for read in self._reads}

    @property
    def read_at(self) -> dict[str, list[datetime]]:
        """View label → the instant (UTC) that each row's answer holds for.

        It is the `now` of the read, unless that was this host's clock and the row is known, or its key was deleted,
        later than that by up to one hour (with a session: by any time): then it is that later instant, by which ttl,
        SLA, freshness and status count.
        """
        return {read.view.label: list(map(from_micros, instants(read, len(self)))) for read in self._reads}

    def freshness(self) -> dict[str, list[float | None]]:
        """View label → the freshness of each row, 0 to 1; None where there is no value.

        By the strictest SLA among the requested features (or the read's `max_age`), at `read_at`; 1 where there is
        none, and where the view has no event time. Of a window view from when all that happened was taken into it, or
        from the event time where that is later.

        Returns:
            View label → a number from 0 to 1, or None, for each row.
        """
        return {
            read.view.label: freshness_scores(read, self._asked.freshness, self._sla.strictest(read.view))
            for read in self._reads
        }

    @property
    def problems(self) -> dict[Any, str]:
        """Damaged rows: entity key (a tuple for several join keys) → view, version and what is wrong.

        Of window views also why values are UNAVAILABLE: the version is not filled, or a window exceeds a bound.
        """
        out: dict[Any, str] = {}
        for damage in self.damages():
            key: Any = damage.key[0] if len(damage.key) == 1 else damage.key
            text = damage.text
            known = out.get(key)
            if known is None or text not in known:
                out[key] = text if known is None else f"{known}; {text}"
        return out

    # -- for those who send it on

    @property
    def request(self) -> ReadRequest:
        """What was asked for: keys, columns, service."""
        return self._asked

    @property
    def views(self) -> list[ViewAnswered]:
        """The views that were read."""
        return [read.view for read in self._reads]

    def shared_codes(self) -> list[NDArray[np.uint8]]:
        """The statuses of the feature columns as places in `types.STATUSES`, in the order asked for; not to be changed.

        Returns:
            An array for each column, with a code for each row; columns of the same statuses may share one.
        """
        out: list[NDArray[np.uint8]] = [_NO_CODES] * len(self._asked.columns)
        for _, codes, columns in self.status_groups():
            for place in columns:
                out[place] = codes
        return out

    @property
    def answered(self) -> Sequence[AnsweredView]:
        """What was read of each view."""
        return self._reads

    def view_values(self, place: int) -> list[list[Any]]:
        """Python values of the features of a view, as `to_dict` gives them.

        Args:
            place: of the view.

        Returns:
            For each feature that was read of it one value for each row of the answer.
        """
        return python_values(self._reads[place], self._sla)

    def row_values(self) -> list[Any]:
        """Python values of the one row; only of a result that has one, whose values are all PRESENT.

        Returns:
            A value for each feature that was read of each view, one view after another.
        """
        return [column[0] for read in self._reads for column in read.rows.columns()]

    def view_matrix(self, place: int, features: tuple[int, ...]) -> NDArray[np.float64]:
        """Numeric features of a view as a matrix; only of a result whose values are all PRESENT.

        Args:
            place: of the view.
            features: their positions among those that were read of it.

        Returns:
            A float64 array of shape (rows, features).
        """
        read = self._reads[place]
        out: NDArray[np.float64] = read.rows.matrix(features, np.float64)
        return out if read.inverse is None else out[read.inverse]

    @property
    def entities(self) -> EntityBatch:
        """The entities that were asked for."""
        return self._batch

    def take_codes(self, codes: Mapping[str, NDArray[np.uint8]]) -> None:
        """Take the statuses of columns that were computed.

        Args:
            codes: column → a place in `types.STATUSES` for each row of the answer.
        """
        self._statuses.computed.update(codes)

    def view_name(self, place: int) -> str:
        """The name of a view.

        Args:
            place: of the view, as `StatusGroup.view` has it.

        Returns:
            Its name.
        """
        return self._reads[place].view.name

    def status_groups(self) -> list[StatusGroup]:
        """The statuses of the feature columns; of nearly all reads one group for each view.

        Returns:
            Groups; each column is in one.
        """
        return self._statuses.groups()

    @property
    def all_present(self) -> bool:
        """Whether all values are known to be PRESENT, as those of nearly all reads are; cheaper than `status_groups`.

        Where keys are repeated it is not known.
        """
        return self._statuses.all_present

    def damages(self) -> list[DamagedRow]:
        """The damaged rows; see `problems`.

        Returns:
            One for each view and row of the answer that has one.
        """
        return damaged_rows(self._asked.columns, self._batch, self._reads)

    def complete_through(self) -> dict[str, int]:
        """Up to which known_at window views are complete.

        Returns:
            View label → microseconds since 1970, for window views that are filled; ages count from then, or from the
            event time where that is later.
        """
        return {read.view.label: read.rows.since for read in self._reads if read.rows.since is not None}

    def view_times(self) -> list[ViewTimes]:
        """The times of each view's rows.

        Returns:
            One for each view; its arrays have a time for each row of the answer.
        """
        return [ViewTimes.of(read) for read in self._reads]

    # -- forms

    def to_numpy(
        self, dtype: Any = None, columns: Sequence[str] | None = None, missing: float = float("nan")
    ) -> NDArray[Any]:
        """A (rows, features) matrix without the keys; a value that is absent is its default, else `missing`.

        An embedding spans as many columns as it has numbers.

        Args:
            dtype: of the matrix; None: one that loses nothing, float32 where every feature is Float32, Bool or an
                Embedding, else float64.
            columns: the features to take, in order; None: all.
            missing: replaces a value that is absent and has no default.

        Returns:
            An array of shape (rows, columns) and the dtype above.

        Raises:
            UsageError: a feature that is not a number; a dtype that cannot hold a value or `missing`; unless a dtype is
                given, an integer beyond 2**53, which float64 cannot hold.
            FeatureNotFound: a column that was not asked for.
        """
        asked = self._asked
        wanted = asked.matrix if columns is None else MatrixColumns.of([self._column(name) for name in columns])
        if wanted.odd is not None:
            raise UsageError(
                f"feature {wanted.odd.name!r} is {wanted.odd.dtype}, not a number: leave it out with columns=[…]"
            )
        try:
            matrix = self._matrices(wanted, wanted.dtype if dtype is None else dtype, missing)
        except (TypeError, ValueError, OverflowError) as bad:
            raise UsageError(
                f"to_numpy(dtype={dtype!r}, missing={missing!r}): {bad}; give a dtype that holds values and `missing`"
            ) from bad
        if dtype is None and wanted.wide:
            self._check_whole(matrix, wanted)
        return matrix

    def _check_whole(self, matrix: NDArray[Any], wanted: MatrixColumns) -> None:
        """Refuse integers that float64 does not hold."""
        for column, place in wanted.wide:
            if not (np.abs(matrix[:, place]) >= _WHOLE).any():
                continue
            for row, value in enumerate(self.to_dict()[column.name]):
                if value is not None and abs(value) > _WHOLE:
                    raise UsageError(
                        f"to_numpy(): feature {column.name!r} is {value} in row {row}, an integer beyond 2**53, which "
                        "float64 cannot hold: leave it out with columns=[…], or give a dtype"
                    )

    def _matrices(self, wanted: MatrixColumns, dtype: Any, missing: float) -> NDArray[Any]:
        if len(wanted.parts) == 1 and not wanted.embeddings:
            view, features, _ = wanted.parts[0]
            return numeric_matrix(self._reads[view], features, dtype, missing, self._sla)
        out = np.empty((len(self), wanted.count), dtype)
        for view, features, places in wanted.parts:
            out[:, places] = numeric_matrix(self._reads[view], features, dtype, missing, self._sla)
        for column, start in wanted.embeddings:
            assert column.dtype.dim is not None
            vectors = embedding_matrix(self._reads[column.view], column.feature, dtype, missing, self._sla)
            out[:, start : start + column.dtype.dim] = vectors
        return out

    def _column(self, name: str) -> ReadColumn:
        for column in self._asked.columns:
            if column.name == name:
                return column
        names = self.columns
        raise FeatureNotFound(f"{brief(name)} is not in this result, which has {listing(names)}{nearest(name, names)}")

    def to_arrow(self) -> pa.Table:
        """An Arrow table in the dtypes of keys and features; NULL for a value that is absent and has no default.

        Returns:
            A table of keys and features, one row for each entity.
        """
        return pa.table(self.arrays())

    def arrays(self) -> dict[str, pa.Array]:
        """The columns of `to_arrow`.

        Returns:
            Column → its values.
        """
        batch = self._batch
        arrays = {name: key_array(batch.values(name), dtype.arrow) for name, dtype in self._asked.keys.items()}
        return arrays | self.columns_as_arrays()

    def columns_as_arrays(self, names: Container[str] | None = None) -> dict[str, pa.Array]:
        """Feature columns as `to_arrow` has them.

        Args:
            names: the columns; None: all.

        Returns:
            Column → its values.
        """
        arrays: dict[str, pa.Array] = {}
        values: dict[int, list[list[Any]]] = {}
        for column in self._asked.columns:
            if names is not None and column.name not in names:
                continue
            if column.dtype.width is not None:
                arrays[column.name] = fixed_array(self._reads[column.view], column, self._sla)
                continue
            if column.view not in values:
                values[column.view] = python_values(self._reads[column.view], self._sla)
            arrays[column.name] = pa.array(values[column.view][column.feature], column.dtype.arrow)
        return arrays

    def to_pandas(self, types: str = "nullable") -> pandas.DataFrame:
        """The result as a pandas frame.

        Args:
            types: the types of columns: "nullable" (Int64, boolean, string), "numpy", or "arrow".

        Returns:
            A frame with a row for each entity, in the order of the entities.

        Raises:
            MissingExtra: pandas is not installed.
            UsageError: another `types`.
        """
        return frames.to_pandas(self.to_arrow(), types)

    def vectors(self) -> list[vector.FeatureVector]:
        """The result as feature vectors.

        Returns:
            One `FeatureVector` for each row, in the order of the entities.
        """
        return vector.vectors_of(self._asked, self._reads, self._sla, self.to_pylist(), self.event_times, self.statuses)

    def _repr_html_(self) -> str:
        columns = self.to_dict()
        for column in self._asked.columns:
            values = columns[column.name]
            values[: html.SHOWN] = [shown.short_form(value, column.dtype.arrow) for value in values[: html.SHOWN]]
        return html.to_html(columns, self.statuses)
