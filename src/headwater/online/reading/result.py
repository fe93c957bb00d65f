"""OnlineResult: the answer to one read, columnar, with a status for each value; most of it made when asked for."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from headwater.clock import MIN_MICROS, from_micros
from headwater.deferred import deferred
from headwater.errors import FeatureNotFound, UsageError, brief, listing, nearest
from headwater.forks import lazy
from headwater.online.reading.entities import EntityBatch, key_array
from headwater.online.reading.view_read import AnsweredView, MatrixColumns, ReadColumn, ReadRequest, ViewAnswered
from headwater.online.rows.values import Damaged, array_of_numbers, fixed_numbers, instant
from headwater.types import STATUSES, DType, Status

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

    from headwater.online.reading import frames as html
    from headwater.online.reading import vector
    from headwater.online.reading.answered_rows import AnsweredRows
    from headwater.planning import frames, shown
else:
    html = deferred("headwater.online.reading.frames")
    vector = deferred("headwater.online.reading.vector")
    frames = deferred("headwater.planning.frames")
    shown = deferred("headwater.planning.shown")

_WHOLE = 2**53
"""The greatest integer below which float64 holds all."""
_NOWHERE: NDArray[np.intp] = np.empty(0, np.intp)
_NO_CODES: NDArray[np.uint8] = np.empty(0, np.uint8)
_CODE = {status: code for code, status in enumerate(STATUSES)}


class DamagedRow(NamedTuple):
    """A damaged row, or values that cannot be given.

    Attributes:
        view: of which view.
        row: for which row of the answer.
        key: its key.
        what: what is wrong.
        columns: the columns whose values are not given; empty: all of the view.
    """

    view: ViewAnswered
    row: int
    key: tuple[Any, ...]
    what: str
    columns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """With the view, its version and the columns."""
        columns = f"{', '.join(self.columns)}: " if self.columns else ""
        return f"{self.view.label} {self.view.version}: {columns}{self.what}"


class ViewTimes(NamedTuple):
    """The times of one view's rows in microseconds, one for each row of the answer.

    Attributes:
        events: event times; anything where `gone`.
        created: created times; anything where `gone`.
        at: the instant that the answer holds for.
        gone: whether there is no row to show, or none with an event time.
    """

    events: NDArray[np.int64]
    created: NDArray[np.int64]
    at: NDArray[np.int64]
    gone: NDArray[np.bool_]


class StatusGroup(NamedTuple):
    """Columns of one view that have the same statuses.

    Attributes:
        view: its place.
        codes: a place in `STATUSES` for each row of the answer; not to be changed.
        columns: their places.
    """

    view: int
    codes: NDArray[np.uint8]
    columns: Sequence[int]


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
        self._drop, self._max_age = drop, max_age
        # of each column where a server has worked them out
        self._received_codes = codes
        self._groups: list[StatusGroup] | None = None
        self._all_present: bool | None = None

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
            values += self._values(read)
        out.update(zip(asked.names, map(values.__getitem__, asked.places), strict=True))
        return out

    def to_pylist(self) -> list[dict[str, Any]]:
        """The result as rows.

        Returns:
            A dict of column → value for each row, with the values of `to_dict`.
        """
        columns = self.to_dict()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    # -- values

    def _values(self, read: AnsweredView) -> list[list[Any]]:
        """The view's columns, one value for each row of the answer."""
        rows = read.rows
        columns = rows.columns()
        if rows.missing:
            for column, default in zip(columns, read.view.defaults, strict=True):
                for i in rows.missing:
                    column[i] = default if type(default) is not list else list(default)
        if rows.damaged or rows.not_known:
            for column in columns:
                for i in (*rows.damaged, *rows.not_known):
                    column[i] = None
        if self._drop:
            for f, column in enumerate(columns):
                for i in self._stale_places(read, f).tolist():
                    column[i] = None
        if read.inverse is None:
            return columns
        return [_spread(column, read.inverse) for column in columns]

    def _codes(self, column: ReadColumn) -> NDArray[np.uint8]:
        """The statuses of a column, as places in `STATUSES`, by distinct key; not to be changed."""
        if self._received_codes is not None:
            return self._received_codes[column.name]
        codes = self._known_codes.get(column.name)
        if codes is None:
            codes = self._known_codes[column.name] = self._make_codes(column)
        return codes

    @lazy
    def _known_codes(self) -> dict[str, NDArray[np.uint8]]:
        """Column → its statuses, filled as they are asked for."""
        return {}

    def _make_codes(self, column: ReadColumn) -> NDArray[np.uint8]:
        read = self._reads[column.view]
        sla = self._sla(read.view, column.feature)
        codes = self._aged_codes.get((column.view, sla))
        if codes is None:
            codes = self._row_codes[column.view]
            stale = self._stale_places(read, column.feature)
            if stale.size:
                codes = codes.copy()
                codes[stale] = _CODE[Status.STALE]
            # of nearly all features of a view: one array for them
            self._aged_codes[column.view, sla] = codes
        nulls = read.rows.null_statuses(column.feature)
        if nulls is not None:
            codes = codes.copy()
            codes[(self._row_codes[column.view] == _CODE[Status.PRESENT]) & nulls] = _CODE[Status.NULL]
        left_out = read.rows.left_out.get(column.feature)
        if left_out:
            codes = codes.copy()
            gone = read.rows.gone
            codes[[place for place in left_out if place not in gone]] = _CODE[Status.UNAVAILABLE]
        return codes

    @lazy
    def _aged_codes(self) -> dict[tuple[int, int | None], NDArray[np.uint8]]:
        """(view, SLA) → the statuses of its rows, NULLs aside; filled as they are asked for."""
        return {}

    @lazy
    def _row_codes(self) -> list[NDArray[np.uint8]]:
        out = []
        for read in self._reads:
            codes = _all_present(read.rows.size)
            if read.rows.gone:
                codes = codes.copy()
                codes[read.rows.expired] = _CODE[Status.EXPIRED]
                codes[read.rows.absent] = _CODE[Status.NOT_FOUND]
                codes[list(read.rows.damaged)] = _CODE[Status.UNAVAILABLE]
                codes[read.rows.not_known] = _CODE[Status.NOT_KNOWN]
            out.append(codes)
        return out

    def _stale_places(self, read: AnsweredView, feature: int) -> NDArray[np.intp]:
        """Places of rows that are there and older than the feature's SLA."""
        sla = self._sla(read.view, feature)
        return read.rows.older_places(sla) if sla is not None and read.view.timed else _NOWHERE

    def _sla(self, view: ViewAnswered, feature: int) -> int | None:
        return self._max_age if self._max_age is not None else view.slas[feature]

    # -- beside the values

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
        return {read.view.label: self._times(read, read.rows.events()) for read in self._reads}

    @property
    def read_at(self) -> dict[str, list[datetime]]:
        """View label → the instant (UTC) that each row's answer holds for.

        It is the `now` of the read, unless that was this host's clock and the row is known, or its key was deleted,
        later than that by up to one hour (with a session: by any time): then it is that later instant, by which ttl,
        SLA, freshness and status count.
        """
        return {read.view.label: list(map(from_micros, self._instants(read))) for read in self._reads}

    def _instants(self, read: AnsweredView) -> list[int]:
        """The same in microseconds."""
        at = read.rows.at
        if isinstance(at, int):
            return [at] * len(self)
        instants: list[int] = (at if read.inverse is None else at[read.inverse]).tolist()
        return instants

    def _times(self, read: AnsweredView, micros: NDArray[np.int64]) -> list[datetime | None]:
        gone = read.rows.gone
        times = [None if i in gone or not read.view.timed else _instant(at) for i, at in enumerate(micros.tolist())]
        return times if read.inverse is None else _spread(times, read.inverse)

    def freshness(self) -> dict[str, list[float | None]]:
        """View label → the freshness of each row, 0 to 1; None where there is no value.

        By the strictest SLA among the requested features (or the read's `max_age`), at `read_at`; 1 where there is
        none, and where the view has no event time. Of a window view from when all that happened was taken into it, or
        from the event time where that is later.

        Returns:
            View label → a number from 0 to 1, or None, for each row.
        """
        out: dict[str, list[float | None]] = {}
        for read in self._reads:
            scores = np.ones(read.rows.size)
            if read.view.timed:
                # in floats: no age overflows
                ages = np.asarray(read.rows.at, np.float64) - _aged_from(read.rows).astype(np.float64)
                scores = self._asked.freshness.score(ages, self._strictest(read.view))
            gone = read.rows.gone
            values = [None if i in gone else score for i, score in enumerate(scores.tolist())]
            out[read.view.label] = values if read.inverse is None else _spread(values, read.inverse)
        return out

    def _strictest(self, view: ViewAnswered) -> int | None:
        return self._max_age if self._max_age is not None else view.sla

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
        return self._values(self._reads[place])

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
        self._known_codes.update(codes)

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
        if self._groups is None:
            self._groups = []
            for view, (read, columns) in enumerate(zip(self._reads, self._asked.by_view, strict=True)):
                if self._received_codes is None and self._is_plain(read):
                    self._groups.append(StatusGroup(view, _all_present(self._batch.size), columns))
                else:
                    self._groups += self._make_groups(view, columns)
        return self._groups

    @property
    def all_present(self) -> bool:
        """Whether all values are known to be PRESENT, as those of nearly all reads are; cheaper than `status_groups`.

        Where keys are repeated it is not known.
        """
        if self._all_present is None:
            self._all_present = self._received_codes is None and all(map(self._is_plain, self._reads))
        return self._all_present

    def _is_plain(self, read: AnsweredView) -> bool:
        """Whether all values of a view are PRESENT."""
        rows, view = read.rows, read.view
        if rows.missing or rows.has_nulls or rows.damaged or rows.not_known:
            return False
        sla = self._strictest(view)
        return sla is None or not view.timed or not rows.older_places(sla).size

    def _make_groups(self, view: int, columns: Sequence[int]) -> list[StatusGroup]:
        inverse, asked = self._reads[view].inverse, self._asked.columns
        together: dict[int, tuple[NDArray[np.uint8], list[int]]] = {}
        for place in columns:
            codes = self._codes(asked[place])
            together.setdefault(id(codes), (codes, []))[1].append(place)
        return [
            StatusGroup(view, codes if inverse is None else codes[inverse], places)
            for codes, places in together.values()
        ]

    def damages(self) -> list[DamagedRow]:
        """The damaged rows; see `problems`.

        Returns:
            One for each view and row of the answer that has one.
        """
        out = []
        for place, read in enumerate(self._reads):
            rows = read.rows
            if not (rows.damaged or rows.left_out):
                continue
            left_out = self._left_out(place) if rows.left_out else {}
            columns = [self._batch.values(name) for name in read.view.key_columns]
            positions = range(len(self)) if read.inverse is None else read.inverse
            for row, position in enumerate(positions):
                key = tuple(column[row] for column in columns)
                what = rows.damaged.get(position)
                if what is not None:
                    out.append(DamagedRow(read.view, row, key, rows.said + what))
                    continue
                for problem, names in left_out.get(position, {}).items():
                    out.append(DamagedRow(read.view, row, key, problem, tuple(names)))
        return out

    def _left_out(self, view: int) -> dict[int, dict[str, list[str]]]:
        """Position → why values are UNAVAILABLE there → those of which columns."""
        out: dict[int, dict[str, list[str]]] = {}
        for column in self._asked.columns:
            problems = self._reads[view].rows.left_out.get(column.feature) if column.view == view else None
            for position, problem in (problems or {}).items():
                out.setdefault(position, {}).setdefault(problem, []).append(column.name)
        return out

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
        out = []
        for read in self._reads:
            rows = read.rows
            gone, timeless = np.zeros(rows.size, np.bool_), rows.timeless
            if timeless:
                gone[list(timeless)] = True
            at = np.full(rows.size, rows.at) if isinstance(rows.at, int) else rows.at
            times = (rows.events(), rows.created(), at, gone)
            out.append(ViewTimes(*(times if read.inverse is None else (each[read.inverse] for each in times))))
        return out

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
            return self._matrix(self._reads[view], features, dtype, missing)
        out = np.empty((len(self), wanted.count), dtype)
        for view, features, places in wanted.parts:
            out[:, places] = self._matrix(self._reads[view], features, dtype, missing)
        for column, start in wanted.embeddings:
            assert column.dtype.dim is not None
            vectors = self._vectors(self._reads[column.view], column.feature, dtype, missing)
            out[:, start : start + column.dtype.dim] = vectors
        return out

    def _vectors(self, read: AnsweredView, feature: int, dtype: Any, missing: float) -> NDArray[Any]:
        """An embedding as a matrix, a row for each of the answer."""
        rows = read.rows
        out = rows.numbers(feature).astype(dtype)
        nulls = rows.nulls(feature)
        if nulls is not None:
            out[nulls] = missing
        if rows.missing:
            default = read.view.defaults[feature]
            out[rows.missing] = missing if default is None else default
        if self._drop:
            out[self._stale_places(read, feature)] = missing
        if rows.damaged or rows.not_known:
            out[[*rows.damaged, *rows.not_known]] = missing
        return out if read.inverse is None else out[read.inverse]

    def _column(self, name: str) -> ReadColumn:
        for column in self._asked.columns:
            if column.name == name:
                return column
        names = self.columns
        raise FeatureNotFound(f"{brief(name)} is not in this result, which has {listing(names)}{nearest(name, names)}")

    def _matrix(self, read: AnsweredView, features: tuple[int, ...], dtype: Any, missing: float) -> NDArray[Any]:
        """Features of one view as a matrix, a row for each of the answer."""
        rows = read.rows
        out = rows.matrix(features, dtype)
        if rows.has_nulls or rows.missing or self._drop:
            for place, feature in enumerate(features):
                nulls = rows.nulls(feature)
                if nulls is not None:
                    out[nulls, place] = missing
                if rows.missing:
                    default = read.view.defaults[feature]
                    out[rows.missing, place] = missing if default is None else default
                if self._drop:
                    out[self._stale_places(read, feature), place] = missing
        if rows.damaged or rows.not_known:
            out[[*rows.damaged, *rows.not_known]] = missing
        return out if read.inverse is None else out[read.inverse]

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
                arrays[column.name] = self._fixed_array(column)
                continue
            if column.view not in values:
                values[column.view] = self._values(self._reads[column.view])
            arrays[column.name] = pa.array(values[column.view][column.feature], column.dtype.arrow)
        return arrays

    def _fixed_array(self, column: ReadColumn) -> pa.Array:
        """A column of fixed width, from its numbers."""
        read, dtype = self._reads[column.view], column.dtype
        rows, default = read.rows, read.view.defaults[column.feature]
        numbers, nulls = rows.numbers(column.feature), rows.nulls(column.feature)
        if nulls is None and not (rows.gone or self._drop):
            return array_of_numbers(numbers if read.inverse is None else numbers[read.inverse], None, dtype)
        absent = np.zeros(rows.size, np.bool_)
        if nulls is not None:
            absent |= nulls
        if rows.missing:
            absent[rows.missing] = default is None
            if default is not None:
                numbers = numbers.copy()
                numbers[rows.missing] = fixed_numbers(pa.array([default], dtype.arrow), dtype)[0]
        if self._drop:
            absent[self._stale_places(read, column.feature)] = True
        if rows.damaged or rows.not_known:
            absent[[*rows.damaged, *rows.not_known]] = True
        if read.inverse is not None:
            numbers, absent = numbers[read.inverse], absent[read.inverse]
        return array_of_numbers(numbers, absent, dtype)

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
        values, statuses, times = self.to_pylist(), self.statuses, self.event_times
        slas = [self._strictest(read.view) for read in self._reads]
        events = [self._known(read, _aged_from(read.rows)) for read in self._reads]
        created = [self._known(read, read.rows.created()) for read in self._reads]
        instants = [self._instants(read) for read in self._reads]
        out = []
        for row, record in enumerate(values):
            stamps = {label: column[row] for label, column in times.items()}
            known = [stamp for stamp in stamps.values() if stamp is not None]
            made = [at for column in created if (at := column[row]) is not None]
            keys = {name: record.pop(name) for name in self._asked.keys}
            scores = tuple(
                (
                    instants[v][row] if not read.view.timed and events[v][row] is not None else events[v][row],
                    slas[v] if read.view.timed else None,
                    instants[v][row],
                )
                for v, read in enumerate(self._reads)
            )
            metadata: dict[str, Any] = {"statuses": {name: column[row] for name, column in statuses.items()}}
            if self._asked.service is not None:
                metadata["service"] = "@".join(self._asked.service)
            out.append(
                vector.FeatureVector(
                    entity_id=next(iter(keys.values())) if len(keys) == 1 else keys,
                    features=record,
                    feature_timestamp=min(known, default=None),
                    feature_timestamps=stamps,
                    computation_timestamp=_instant(max(made)) if made else None,
                    version_info=self.versions,
                    metadata=metadata,
                    _scores=scores,
                    _freshness=self._asked.freshness,
                )
            )
        return out

    def _known(self, read: AnsweredView, micros: NDArray[np.int64]) -> list[int | None]:
        """Times in microseconds for each row of the answer; None where there is no value."""
        gone = read.rows.gone
        values = [None if i in gone else at for i, at in enumerate(micros.tolist())]
        return values if read.inverse is None else _spread(values, read.inverse)

    def _repr_html_(self) -> str:
        columns = self.to_dict()
        for column in self._asked.columns:
            values = columns[column.name]
            values[: html.SHOWN] = [shown.short_form(value, column.dtype.arrow) for value in values[: html.SHOWN]]
        return html.to_html(columns, self.statuses)


@lru_cache(64)
def _all_present(size: int) -> NDArray[np.uint8]:
    codes = np.full(size, _CODE[Status.PRESENT], np.uint8)
    codes.flags.writeable = False
    return codes


def _aged_from(rows: AnsweredRows) -> NDArray[np.int64]:
    """What ages count from, microseconds."""
    return rows.events() if rows.since is None else np.maximum(rows.events(), rows.since)


def _spread(column: Sequence[Any], inverse: list[int]) -> list[Any]:
    """A column by distinct key as one value for each row."""
    if len(inverse) < 2:
        return [column[i] for i in inverse]
    return list(itemgetter(*inverse)(column))


def _instant(micros: int) -> datetime | None:
    try:
        return instant(micros)
    except Damaged:
        return None
