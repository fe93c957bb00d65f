"""Rows given to `write`, held against every version that is fed: which version takes which row, and why none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.clock import FIRST_MICROS, LAST_MICROS, YEARS, duration_micros, to_micros
from headwater.definitions.names import LOG_COLUMNS, date_key_problem, repeated, same_but_case
from headwater.definitions.sources import PushSource
from headwater.errors import DataError, UsageError, nearest
from headwater.forks import lazy
from headwater.offline.base import CREATED
from headwater.offline.log.log import RowGroup
from headwater.offline.log.tombstones import RowReading
from headwater.planning.cast import Column, Fitted, fit, fit_time, plain
from headwater.planning.local_time import aware, local_times
from headwater.planning.python_arrays import array_of_values, refuse_mixed
from headwater.planning.resolve import ResolvedView
from headwater.planning.tables import as_table, column_names, index_hint, is_column, loose_columns
from headwater.planning.text_values import Misread
from headwater.planning.value_checks import NOT_TEXT, PARSE_TIMES, holds_text, shown, unreadable, unreadable_rows
from headwater.planning.value_rule import Misfit, cast_value
from headwater.types import Date, DType, Int32, Int64, String, Timestamp, a_dtype, fits, fitting_dtype, leaf_dtype

TIME = "time"

_INDEX_NAMES = ("column0", "Unnamed: 0", "index", "level_0", "__index_level_0__")
"""How the index of a pandas frame is named in files."""


@dataclass(frozen=True)
class RowVersion:
    """What one view version asks of a row."""

    view: ResolvedView

    @lazy
    def reading(self) -> RowReading:
        """Which columns hold its keys and times."""
        source = self.view.view.source
        keys = self.view.keys
        columns, names = tuple(k.source_column for k in keys), tuple(k.name for k in keys)
        return RowReading(columns, source.event_time, source.created_time, names, self.view.key_names)

    @lazy
    def needs(self) -> dict[str, tuple[DType | None, ...]]:
        """Column → what it must fit (None: a time), for every column that a complete row has."""
        needs: dict[str, list[DType | None]] = {}
        if self.reading.event is not None:
            needs.setdefault(self.reading.event, []).append(None)
        for key in self.view.keys:
            needs.setdefault(key.source_column, []).append(Int64 if key.dtype.name == "int32" else key.dtype)
        for feature in self.view.view.feature_list:
            needs.setdefault(feature.source_column, []).append(feature.dtype)
        return {name: tuple(dict.fromkeys(dtypes)) for name, dtypes in needs.items()}

    @lazy
    def times(self) -> frozenset[str]:
        """The columns it reads as times."""
        return frozenset(n for n in (self.reading.event, self.reading.created, CREATED) if n is not None)

    @lazy
    def reads(self) -> frozenset[str]:
        """The columns that its keys, times, event id and features read; no others are kept."""
        event_id = self.view.view.source.event_id
        return frozenset(self.needs) | self.times | ({event_id} if event_id is not None else set())

    @lazy
    def known(self) -> frozenset[str]:
        """Every column a row may have for it; the source's others are asked for where one turns up."""
        source = self.view.view.source
        more = [source.created_time, source.event_id, CREATED]
        if isinstance(source, PushSource):
            more += list(source.schema or ())
        return frozenset(self.needs) | {name for name in more if name is not None}

    def takes(self, schema: pa.Schema) -> bool:
        """Whether rows of the log with these columns are complete for it, and of types it can hold."""
        if not self.reading.fits(schema):
            return False
        for name, wanted in self.needs.items():
            at = schema.get_field_index(name)
            if at < 0 or not all(self._reads(name, dtype, schema.field(at).type) for dtype in wanted):
                return False
        return True

    def _reads(self, name: str, dtype: DType | None, given: pa.DataType) -> bool:
        return _holds(given, dtype) or self.holds_day(name, dtype, given)

    def holds_day(self, name: str, dtype: DType | None, given: pa.DataType) -> bool:
        """Whether a column of the log is a feature's date that is a time too: the log keeps it as the instant."""
        return bool(dtype == Date and pa.types.is_timestamp(given) and name in self.times and name not in self._keys)

    @lazy
    def _keys(self) -> frozenset[str]:
        return frozenset(self.reading.keys)


def _holds(given: pa.DataType, dtype: DType | None) -> bool:
    if dtype is None:
        return bool(pa.types.is_timestamp(given))
    both_floats = dtype.name == "float32" and pa.types.is_floating(given)
    return bool(both_floats or fits(given, dtype))


@dataclass
class Checked:
    """The rows of a write, checked.

    Attributes:
        count: how many rows there were.
        groups: the good rows, by their columns and the versions that take them.
        takers: for each group, the places (among the versions) of those that take it.
        problems: why each bad row is refused, in order of rows.
        rejected: how many rows are bad.
        skipped: how many times a version left out a good row.
        unread: column → how many good rows had it, of columns that no version reads: they are left out.
    """

    count: int
    groups: list[RowGroup] = field(default_factory=list)
    takers: list[tuple[int, ...]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rejected: int = 0
    skipped: int = 0
    unread: dict[str, int] = field(default_factory=dict)


@dataclass
class _Raw:
    """Rows that share a set of columns, as the user gave them."""

    columns: dict[str, Column]
    rows: NDArray[np.int64]
    given: Any = None
    naive: dict[str, Column] = field(default_factory=dict)
    """The columns as they were before naive times became instants, where that changed anything."""

    def column(self, name: str, dtype: DType | None) -> Column:
        """A column as it is held to a dtype (None: a time): a date is the date that was given, in whatever zone."""
        return self.naive.get(name, self.columns[name]) if dtype == Date else self.columns[name]

    def as_given(self, name: str, at: int) -> str:
        """A value as it was before it became an instant, for errors; empty where it was not another."""
        if name not in self.naive or self.naive[name] is self.columns[name]:
            return ""
        given, instant = shown(self.naive[name][at]), shown(self.columns[name][at])
        return "" if given == instant else f" (given as {given}, which is of the source's time zone)"


def check_rows(
    view: str,
    data: Any,
    versions: Sequence[RowVersion],
    more: Callable[[], Iterable[str]],
    *,
    at_event: bool = False,
) -> Checked:
    """Hold rows against the versions that are fed.

    Args:
        view: the view's name, for errors.
        data: a table or a list of dicts with the source's own columns.
        versions: the versions that are fed, the one that problems are told for first.
        more: names the other columns of the sources; asked only where a column is in no definition.
        at_event: whether rows without a created time count as known at their event time and the source's delay.

    Raises:
        DataError: data that is no table; columns that are read, and whose names differ only in case.
    """
    raws, count = _raw_groups(view, data)
    checked = Checked(count)
    reasons: dict[int, list[str]] = {}
    for version in versions:
        for key in version.view.keys:
            if key.dtype == Date and key.source_column in version.times:
                raise DataError(f"rows of {view!r}: {date_key_problem(key.name, key.source_column)}")
    known = frozenset().union(*(version.known for version in versions))
    read = frozenset().union(*(version.reads for version in versions))
    for raw in raws:
        unknown = [name for name in raw.columns if name not in known]
        used = [name for name in raw.columns if name in read]
        for one, other in repeated(used):
            raise DataError(f"rows of {view!r}: {same_but_case(one, other)}")
        if any(name in LOG_COLUMNS for name in used):
            named = next(name for name in used if name in LOG_COLUMNS)
            raise DataError(f"rows of {view!r}: {named!r} is reserved by the offline log: rename that column")
        if unknown:
            known = known | set(more())
            unknown = [name for name in unknown if name not in known]
        if unknown:
            text = "; ".join(_unknown(name, versions, known) for name in unknown)
            reasons.update({int(row): [text] for row in raw.rows})
        else:
            kept = _Raw({name: raw.columns[name] for name in raw.columns if name in read}, raw.rows, raw.given)
            good = _check_group(kept, versions, checked, reasons, at_event)
            for name in raw.columns if good else ():
                if name not in read:
                    checked.unread[name] = checked.unread.get(name, 0) + good
    checked.rejected = len(reasons)
    checked.problems = _told(reasons, count)
    return checked


def _raw_groups(view: str, data: Any) -> tuple[list[_Raw], int]:
    if isinstance(data, Mapping) and not any(is_column(v) for v in data.values()):
        data = [data]
    if isinstance(data, (list, tuple)):
        wrong = next((i for i, row in enumerate(data) if not isinstance(row, Mapping)), None)
        if wrong is not None:
            raise DataError(
                f"rows of {view!r}: row {wrong} is a {type(data[wrong]).__name__}; each row must be a dict of "
                "column → value"
            )
        groups: dict[frozenset[str], list[int]] = {}
        for i, row in enumerate(data):
            groups.setdefault(frozenset(row), []).append(i)
        raws = []
        for places in groups.values():
            first = data[places[0]]
            columns: dict[str, Column] = {str(name): [data[i][name] for i in places] for name in first}
            raws.append(_Raw(columns, np.array(places, np.int64)))
        return raws, len(data)
    columns, count = _columns(view, data)
    return [_Raw(columns, np.arange(count, dtype=np.int64), data)], count


def _columns(view: str, data: Any) -> tuple[dict[str, Column], int]:
    """The columns of a table; those that Arrow cannot hold as lists, so that the rows at fault are named."""
    try:
        table = as_table(data, f"rows of {view!r}", refuse_mixed)
    except DataError:
        loose = loose_columns(data)
        if not loose:
            raise
        return loose, len(next(iter(loose.values())))
    names = column_names(table.schema, f"rows of {view!r}", DataError)
    columns: dict[str, Column] = {name: table.column(i) for i, name in enumerate(names)}
    if len(columns) != table.num_columns:
        raise DataError(f"rows of {view!r}: two columns of one name among {', '.join(names)}")
    return columns, table.num_rows


def _unknown(name: str, versions: Sequence[RowVersion], known: Iterable[str]) -> str:
    for version in versions:
        for key in version.view.keys:
            if key.name == name:
                return f"unknown column {name!r}: the source's column of that join key is {key.source_column!r}"
        for feature in version.view.view.feature_list:
            if feature.name == name:
                return f"unknown column {name!r}: the source's column of that feature is {feature.source_column!r}"
    if name in _INDEX_NAMES:
        return (
            f"unknown column {name!r}; it looks like the index of a frame, written by pandas: write the file with "
            "index=False, or leave the column out"
        )
    return f"unknown column {name!r}{nearest(name, known)}"


def _check_group(
    raw: _Raw, versions: Sequence[RowVersion], checked: Checked, reasons: dict[int, list[str]], at_event: bool
) -> int:
    """Find which versions take which rows of a group; keep the good rows, note why the bad ones are refused.

    Returns:
        How many are good.
    """
    size = len(raw.rows)
    zones = [_zone_of(version) for version in versions]
    read = {zone: _Zoned.of(raw, zone, versions) for zone in dict.fromkeys(zones)}
    whys = [_Why.of(read[zone].raw, version, read[zone].fitted) for zone, version in zip(zones, versions, strict=True)]
    taken = np.array([why.good for why in whys]).reshape(len(versions), size)
    if len(read) > 1:
        for at, text in _of_two_zones(read, versions, zones, taken):
            reasons[int(raw.rows[at])] = [text]
            taken[:, at] = False
    bad: NDArray[np.bool_] = np.logical_not(taken.any(axis=0))
    if bad.any():
        best = min(whys, key=lambda why: len(why.missing))
        for at in map(int, np.flatnonzero(bad)):
            if int(raw.rows[at]) not in reasons:
                reasons[int(raw.rows[at])] = best.told(read[_zone_of(best.version)].raw, at)
    for chosen, places in _alike(taken, ~bad):
        takers = tuple(map(int, np.flatnonzero(chosen)))
        mine = read[zones[takers[0]]]
        table = _stored(mine.raw, [versions[i] for i in takers], versions, mine.fitted)
        if at_event:
            table = _known_at_event(table, [versions[i] for i in takers])
        checked.groups.append(
            RowGroup(table if len(places) == size else table.take(pa.array(places)), raw.rows[places])
        )
        checked.takers.append(takers)
        checked.skipped += (len(versions) - len(takers)) * len(places)
    return size - int(bad.sum())


def _alike(taken: NDArray[np.bool_], among: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """The rows (of some) that the same versions take: which versions, and where the rows are, ascending."""
    places = np.flatnonzero(among)
    if not len(places):
        return
    mine = taken[:, places]
    if (mine == mine[:, :1]).all():
        yield mine[:, 0], places
        return
    kinds, which = np.unique(np.packbits(mine, axis=0), axis=1, return_inverse=True)
    which = which.reshape(-1)
    for kind in range(kinds.shape[1]):
        some = places[which == kind]
        yield taken[:, some[0]], some


def _zone_of(version: RowVersion) -> str:
    """The time zone in which a version reads naive times."""
    return version.view.view.source.timezone or "UTC"


@dataclass
class _Zoned:
    """Rows whose naive times are of one time zone, and their columns as they fit."""

    raw: _Raw
    times: frozenset[str]
    fitted: dict[tuple[str, DType | None], Fitted] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: _Raw, name: str, versions: Sequence[RowVersion]) -> _Zoned:
        times = {CREATED}.union(*(version.times for version in versions))
        stamps = {
            n
            for v in versions
            for n, dtypes in v.needs.items()
            if Timestamp in [leaf_dtype(d) for d in dtypes if d is not None]
        }
        zone, read = local_times(name, later=True), frozenset(times | stamps)
        if zone is None:
            return cls(raw, read)
        columns = {
            name: aware(column, zone, dates=name in times) if name in read else column
            for name, column in raw.columns.items()
        }
        return cls(_Raw(columns, raw.rows, raw.given, raw.columns), read)


def _of_two_zones(
    read: Mapping[str, _Zoned], versions: Sequence[RowVersion], zones: Sequence[str], taken: NDArray[np.bool_]
) -> Iterator[tuple[int, str]]:
    """The rows with a naive time that two of their takers read as two instants, and why they are refused."""
    refused: set[int] = set()
    for i, j in combinations(range(len(versions)), 2):
        both = taken[i] & taken[j]
        if zones[i] == zones[j] or not both.any():
            continue
        one, other = read[zones[i]], read[zones[j]]
        for name in sorted(one.times & one.raw.columns.keys()):
            times = [_fitted(zoned.raw, name, None, zoned.fitted).values for zoned in (one, other)]
            differ = pc.fill_null(pc.not_equal(*times), False).to_numpy(zero_copy_only=False)
            for at in np.flatnonzero(both & differ):
                if int(at) not in refused:
                    refused.add(int(at))
                    told = " and ".join(f"{versions[n].view.version} in {zones[n]}" for n in (i, j))
                    yield (
                        int(at),
                        f"column {name!r}: a time without an offset, which the view's versions read in two time zones "
                        f"({told}); give times with an offset, or retire one of the versions",
                    )


@dataclass
class _Why:
    """Which rows of a group a version takes, and what is wrong with the others."""

    version: RowVersion
    good: NDArray[np.bool_]
    missing: list[str]
    unfit: dict[tuple[str, DType | None], NDArray[np.bool_]]
    nulls: dict[str, NDArray[np.bool_]]
    odd_ids: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, raw: _Raw, version: RowVersion, fitted: dict[tuple[str, DType | None], Fitted]) -> _Why:
        size = len(raw.rows)
        missing = [name for name in version.needs if name not in raw.columns]
        why = cls(version, np.full(size, not missing), missing, {}, {})
        wanted = [(name, dtype) for name, dtypes in version.needs.items() for dtype in dtypes]
        wanted += [(name, None) for name in sorted(version.times) if (name, None) not in wanted]
        for name, dtype in wanted:
            if name not in raw.columns:
                continue
            found = _fitted(raw, name, dtype, fitted)
            if found.bad is not None:
                why.unfit[name, dtype] = found.bad
                why.good &= ~found.bad
        for name, wide in _too_wide(raw, version, fitted).items():
            why.unfit[name, Int32] = wide
            why.good &= ~wide
        event_id = version.view.view.source.event_id
        if event_id in raw.columns and event_id not in version.needs:
            why.odd_ids = _any_kind(raw.columns[event_id]).bad
            if why.odd_ids is not None:
                why.good &= ~why.odd_ids
        for name, dtype in _never_null(version):
            if name in raw.columns:
                values = _fitted(raw, name, dtype, fitted)
                if values.values.null_count:
                    why.nulls[name] = ~values.values.is_valid().to_numpy(zero_copy_only=False).astype(bool)
                    why.good &= ~why.nulls[name]
        return why

    def told(self, raw: _Raw, at: int) -> list[str]:
        """What is wrong with one row."""
        keys, event = self.version.reading.keys, self.version.reading.event
        found = []
        for name in self.missing:
            what = "time" if name == event else "key" if name in keys else "feature"
            found.append(f"no column {name!r} ({what}){index_hint(raw.given, name)}")
        for (name, dtype), bad in self.unfit.items():
            if bad[at]:
                found.append(f"column {name!r}: {_misfit(raw.column(name, dtype), at, dtype)}{raw.as_given(name, at)}")
        if self.odd_ids is not None and self.odd_ids[at]:
            event_id = str(self.version.view.view.source.event_id)
            found.append(f"column {event_id!r} (event id): {shown(raw.columns[event_id][at])} cannot be stored")
        for name, null in self.nulls.items():
            if null[at] and not any(n == name and bad[at] for (n, _), bad in self.unfit.items()):
                found.append(f"key {name!r} is NULL" if name in keys else f"time {name!r} is NULL")
        return found


def _misfit(column: Column, at: int, dtype: DType | None) -> str:
    """What is wrong with a value that does not fit a dtype (None: a time)."""
    value, time = column[at], dtype is None or dtype == Timestamp
    what = "not a time" if dtype is None else f"not {a_dtype(dtype)}{_reason(value, dtype)}"
    if isinstance(value, Misread):
        return f"{shown(value.text)} is {what}{value.hint}"
    if isinstance(column, pa.ChunkedArray):
        if time or any(kind in str(dtype) for kind in ("string", "timestamp", "date")):
            found = unreadable_rows(column.slice(at, 1))
            what = what if found is None else found[1]
            if time and found is None and holds_text(column.type):
                what = f"{what}; {PARSE_TIMES}"
    elif isinstance(value, str):
        if dtype == String:
            what = NOT_TEXT
        elif time and _time_problem(value) is None:
            what = f"{what}; {PARSE_TIMES}"
    elif time and (isinstance(value, np.datetime64) or YEARS in (_time_problem(value) or "")):
        what = YEARS
    return f"{shown(value)} is {what}"


def _reason(value: Any, dtype: DType) -> str:
    """Why a value does not fit, where that is not that it is of another kind."""
    try:
        cast_value(value.as_py() if isinstance(value, pa.Scalar) else value, dtype)
    except Misfit as misfit:
        return "" if str(misfit).startswith("not a") else f": {misfit}"
    except Exception:  # what a method of somebody's object raises, and nanoseconds, which Python has not
        return ""
    return ""


def _time_problem(value: Any) -> str | None:
    try:
        to_micros(value)
    except UsageError as bad:
        return str(bad)
    return None


def _never_null(version: RowVersion) -> list[tuple[str, DType | None]]:
    keys: list[tuple[str, DType | None]] = [
        (k.source_column, Int64 if k.dtype.name == "int32" else k.dtype) for k in version.view.keys
    ]
    return keys if version.reading.event is None else [*keys, (version.reading.event, None)]


def _too_wide(
    raw: _Raw, version: RowVersion, fitted: dict[tuple[str, DType | None], Fitted]
) -> dict[str, NDArray[np.bool_]]:
    """Key column → which of its integers a key of 32 bits cannot have; the log keeps them all in 64."""
    found = {}
    for key in version.view.keys:
        name = key.source_column
        if key.dtype == Int32 and name in raw.columns:
            values = _fitted(raw, name, Int64, fitted).values.fill_null(0)
            outside = pc.or_(pc.less(values, -(2**31)), pc.greater(values, 2**31 - 1))
            wide = outside.to_numpy(zero_copy_only=False).astype(bool)
            if wide.any():
                found[name] = wide
    return found


def _fitted(raw: _Raw, name: str, dtype: DType | None, known: dict[tuple[str, DType | None], Fitted]) -> Fitted:
    if (name, dtype) not in known:
        column = raw.column(name, dtype)
        known[name, dtype] = fit_time(column) if dtype is None else fit(column, dtype)
    return known[name, dtype]


def _stored(
    raw: _Raw,
    takers: Sequence[RowVersion],
    versions: Sequence[RowVersion],
    fitted: dict[tuple[str, DType | None], Fitted],
) -> pa.Table:
    """A group's columns in the types the log keeps: of the dtypes declared for a column the one all takers can read."""
    columns: dict[str, pa.Array] = {}
    for name in raw.columns:
        wanted = dict.fromkeys(d for v in takers for d in v.needs.get(name, ()))
        if any(name in version.times for version in takers):
            wanted = {None: None, **wanted}
        if wanted:
            dtype = _widest(list(wanted))
            values = _fitted(raw, name, dtype, fitted).values
            # NULL fits what no one dtype can hold: all takers can read it then
            split = values.null_count == len(values) and not all(_holds(values.type, other) for other in wanted)
            columns[name] = pa.nulls(len(values)) if split else values
        else:
            values = _as_given(raw, name, versions, fitted)
            if values is not None:
                columns[name] = values
    return pa.table(columns)


def _known_at_event(table: pa.Table, takers: Sequence[RowVersion]) -> pa.Table:
    """Rows without a created time as known at their event time and the delay of the source (of a push source: none)."""
    timed = next((version for version in takers if version.reading.event is not None), None)
    if timed is None:
        return table
    source, event = timed.view.view.source, table.column(str(timed.reading.event)).cast(pa.int64())
    delay = 0 if isinstance(source, PushSource) else duration_micros(source.delay_time)
    delay = min(delay, LAST_MICROS - FIRST_MICROS)
    known = pc.add(pc.min_element_wise(event, pa.scalar(LAST_MICROS - delay, pa.int64())), pa.scalar(delay, pa.int64()))
    names = dict.fromkeys([CREATED, *(v.reading.created for v in takers if v.reading.created is not None)])
    there = [table.column(name) for name in names if name in table.column_names]
    carried = [column.cast(pa.int64()) for column in there if pa.types.is_timestamp(column.type)]
    nothing = pa.chunked_array([pa.nulls(table.num_rows, pa.int64())])
    own = table.column(CREATED).cast(pa.int64()) if CREATED in table.column_names else nothing
    created = pc.if_else(pc.is_null(pc.coalesce(*carried, nothing)), known, own).cast(pa.timestamp("us", tz="UTC"))
    if CREATED in table.column_names:
        return table.set_column(table.column_names.index(CREATED), CREATED, created)
    return table.append_column(CREATED, created)


def _widest(dtypes: list[DType | None]) -> DType | None:
    """The dtype whose values all others can hold: a time before all, an integer before a float, the wider float."""
    if None in dtypes or len(dtypes) == 1:
        return dtypes[0] if len(dtypes) == 1 else None
    for dtype in sorted(dtypes, key=lambda d: str(d) != "float64"):
        if dtype is not None and all(_holds(dtype.arrow, other) for other in dtypes):
            return dtype
    return dtypes[0]


def _as_given(
    raw: _Raw, name: str, versions: Sequence[RowVersion], fitted: dict[tuple[str, DType | None], Fitted]
) -> pa.Array | None:
    """A column that no taker reads: in the dtype another version declares where it fits, else in a plain type.

    None where there is no plain type that can be kept: it is left out.
    """
    for version in versions:
        for dtype in version.needs.get(name, ()):
            found = _fitted(raw, name, dtype, fitted)
            if found.bad is None:
                return found.values
    found = _any_kind(raw.columns[name])
    return found.values if found.bad is None else None


def _any_kind(column: Column) -> Fitted:
    """A column in the type that it has, where some dtype stands for it and its values can be read back."""
    try:
        array = plain(column if isinstance(column, pa.ChunkedArray) else array_of_values(column))
    except Exception:  # Arrow's own errors, and what a method of somebody's object raises
        array = None
    if array is None or fitting_dtype(array.type) is None:
        given = np.fromiter((value is not None for value in column), bool, len(column))
        return Fitted(pa.nulls(len(column)), given if given.any() else None)
    bad, _ = unreadable(array)
    return Fitted(array, bad)


def _told(reasons: Mapping[int, list[str]], count: int) -> list[str]:
    """One line a bad row; one line for all where every row is bad for the same reason."""
    texts = {row: "; ".join(found) for row, found in reasons.items()}
    distinct = set(texts.values())
    if count > 1 and len(texts) == count and len(distinct) == 1:
        return [f"rows 0 to {count - 1}: {distinct.pop()}"]
    return [f"row {row}: {texts[row]}" for row in sorted(texts)]
