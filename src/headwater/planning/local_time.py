"""Naive times of a time zone as instants: what clock changes repeat or skip is settled so that nothing leaks.

A local time in an hour that a clock change repeats is two instants: event and created times are the later one, a
spine's time is the earlier. One that a change skips is not an instant: it becomes that of the change.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from headwater.clock import EPOCH, FIRST_MICROS, LAST_MICROS, MICROSECOND, YEARS, from_micros, to_micros
from headwater.deferred import deferred
from headwater.definitions.time_zones import time_zone
from headwater.errors import UsageError
from headwater.planning.value_checks import numpy_micros
from headwater.types import is_list, leaf_type
from headwater.values import Value

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from numpy.typing import NDArray
else:
    pc = deferred("pyarrow.compute")

_FIRST, _LAST = datetime(1880, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Between these the changes of a zone are looked up; before and after its clocks are taken not to change."""
_STEP = timedelta(days=5)
"""Shorter than between any two changes of a zone."""

REPEATED, SKIPPED = 1, 2

DATE, NAIVE, AWARE = "date", "naive", "aware"
_DAYS = ("Y", "M", "W", "D")
"""Units of NumPy's instants that are dates."""


class LocalTimes(Value, frozen=True):
    """The local times of a zone in pieces, each with the instants that they are; microseconds since 1970.

    Attributes:
        name: of the zone.
        starts: the local time with which each piece begins.
        offsets: how far a piece's local times are ahead of UTC; of a skipped piece nothing.
        instants: of a skipped piece the instant of the change; else nothing.
        kinds: `REPEATED`, `SKIPPED` or 0.
    """

    name: str
    starts: tuple[int, ...]
    offsets: tuple[int, ...]
    instants: tuple[int, ...]
    kinds: tuple[int, ...]

    def instant(self, local: int) -> tuple[int, int]:
        """The instant of a local time, and whether it was repeated or skipped."""
        i = bisect_right(self.starts, local) - 1
        return (self.instants[i] if self.kinds[i] == SKIPPED else local - self.offsets[i]), self.kinds[i]

    def convert(self, local: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The instants of local times, and of each whether it was repeated or skipped."""
        i = np.searchsorted(np.array(self.starts, np.int64), local, side="right") - 1
        kinds = np.array(self.kinds, np.int64)[i]
        moved = local - np.array(self.offsets, np.int64)[i]
        return np.where(kinds == SKIPPED, np.array(self.instants, np.int64)[i], moved), kinds

    @property
    def changes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The instants from which on an offset holds, and these offsets; the first holds before all."""
        plain = [(s, o) for s, o, kind in zip(self.starts, self.offsets, self.kinds, strict=True) if not kind]
        # a piece of one offset begins where no other offset gives its local time
        instants = [plain[0][0], *(s - max(o, before) for (_, before), (s, o) in itertools.pairwise(plain))]
        return tuple(instants), tuple(offset for _, offset in plain)

    def local(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """The local times of instants."""
        starts, offsets = self.changes
        i = np.maximum(np.searchsorted(np.array(starts, np.int64), instants, side="right") - 1, 0)
        found: NDArray[np.int64] = instants + np.array(offsets, np.int64)[i]
        return found


@lru_cache(maxsize=64)
def local_times(name: str, *, later: bool) -> LocalTimes | None:
    """The local times of a zone; None for UTC.

    Args:
        name: of the IANA database (`Europe/Berlin`), `UTC`, or an offset (`+02:00`).
        later: whether a repeated local time is the later of its two instants.

    Raises:
        UsageError: there is no such zone.
    """
    if name == "UTC":
        return None
    zone = time_zone(name)
    at, before = _FIRST, _offset(zone, _FIRST)
    pieces = [(FIRST_MICROS - 10**12, before, 0, 0)]
    while at < _LAST:
        after = _offset(zone, at + _STEP)
        if after != before:
            change = _change(zone, at, at + _STEP)
            first, second = sorted((change + before, change + after))
            if after > before:
                pieces.append((first, 0, change, SKIPPED))
            else:
                pieces.append((first, after if later else before, 0, REPEATED))
            pieces.append((second, after, 0, 0))
        at, before = at + _STEP, after
    starts, offsets, instants, kinds = zip(*pieces, strict=True)
    return LocalTimes(name, starts, offsets, instants, kinds)


def _offset(zone: tzinfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset // MICROSECOND


def _change(zone: tzinfo, low: datetime, high: datetime) -> int:
    """The instant within a span at which a zone's offset changes."""
    first = _offset(zone, low)
    while high - low > MICROSECOND:
        middle = low + (high - low) / 2
        low, high = (middle, high) if _offset(zone, middle) == first else (low, middle)
    return (high - EPOCH) // MICROSECOND


def instant_in(when: datetime | date | str, name: str | None) -> int:
    """Microseconds since 1970 of an instant; a naive one is of a time zone (None: UTC), the earlier of two.

    Raises:
        UsageError: it is not a time, or there is no such zone.
    """
    zone = None if name is None else local_times(name, later=False)
    micros = to_micros(when)
    if zone is None:
        return micros
    parsed = datetime.fromisoformat(when.strip()) if isinstance(when, str) else when
    naive = not isinstance(parsed, datetime) or parsed.tzinfo is None
    return zone.instant(micros)[0] if naive else micros


class GivenTime(Value, frozen=True):
    """A time as it was given.

    Attributes:
        kind: `DATE`, `NAIVE` or `AWARE`.
        micros: microseconds since 1970, of the local time where it is a date or naive; rounded down.
        nanos: what is left, in nanoseconds.
    """

    kind: str
    micros: int
    nanos: int = 0


def given_time(value: Any) -> GivenTime:
    """A date, datetime (pandas' too) or NumPy instant, none of them missing.

    Raises:
        OverflowError: it is outside the years 1 to 9999.
    """
    if isinstance(value, np.datetime64):
        unit, _ = np.datetime_data(value.dtype)
        found = numpy_micros(value)
        if found is None:
            raise OverflowError(f"a time {YEARS}")
        micros, exact = found
        nanos = 0 if exact else max(int(value.astype("datetime64[ns]").astype(np.int64)) - micros * 1000, 1)
        return GivenTime(DATE if unit in _DAYS else NAIVE, micros, nanos)
    try:
        micros = to_micros(value)
    except UsageError as bad:
        raise OverflowError(str(bad)) from None
    if not isinstance(value, datetime):
        return GivenTime(DATE, micros)
    return GivenTime(NAIVE if value.tzinfo is None else AWARE, micros, getattr(value, "nanosecond", 0))


class NaiveTimes(msgspec.Struct):
    """What dates and naive times stand for where others of their column are aware.

    Attributes:
        zone: of naive times; None: UTC.
        dates: whether dates are midnights of the zone; else of UTC.
        repeated, skipped: how many were in an hour that a clock change repeats, or skips.
    """

    zone: LocalTimes | None = None
    dates: bool = True
    repeated: int = 0
    skipped: int = 0

    def instant(self, given: GivenTime) -> int:
        """Microseconds since 1970 of the instant."""
        if given.kind == AWARE or self.zone is None or (given.kind == DATE and not self.dates):
            return given.micros
        instant, change = self.zone.instant(given.micros)
        self.repeated += change == REPEATED
        self.skipped += change == SKIPPED
        return instant


def source_times(name: str | None) -> LocalTimes | None:
    """The local times of a source's time zone; None: its naive times are UTC.

    Raises:
        UsageError: there is no such zone.
    """
    return None if name is None else local_times(name, later=True)


def days_of(instants: pa.Array, zone: LocalTimes | None) -> pa.Array:
    """The dates whose midnights (in the zone) times are, as date32: how a date that is a time too is read again.

    Args:
        instants: timestamps in microseconds.
        zone: of the dates; None: UTC.
    """
    micros = np.asarray(instants.cast(pa.int64()).fill_null(0))
    days = (micros if zone is None else zone.local(micros)) // _MICROS_A_DAY
    return pa.array(days.astype(np.int32), pa.int32(), mask=np.asarray(instants.is_null())).cast(pa.date32())


_MICROS_A_DAY = 86_400_000_000
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_BEYOND = 10**14
"""Longer than any offset of a zone."""


def aware(column: pa.ChunkedArray | list[Any], zone: LocalTimes, *, dates: bool) -> pa.ChunkedArray | list[Any]:
    """A column whose naive times are instants; everything else in it is as it was.

    Args:
        column: as it was given.
        zone: of its naive times.
        dates: whether dates are midnights of the zone.
    """
    if isinstance(column, list):
        naive = NaiveTimes(zone, dates)
        return [_aware_value(value, naive) for value in column]
    kind = column.type
    if pa.types.is_date(kind) and dates:
        column, kind = column.cast(pa.timestamp("us")), pa.timestamp("us")
    if is_list(kind):
        leaf = leaf_type(kind)
        if not pa.types.is_timestamp(leaf) or leaf.tz is not None:
            return column
        return pa.chunked_array([_aware_lists(chunk, zone) for chunk in column.chunks], _aware_type(kind))
    if not pa.types.is_timestamp(kind) or kind.tz is not None:
        return column
    return pa.chunked_array([_aware_array(chunk, zone) for chunk in column.chunks], _aware_type(kind))


def _aware_lists(array: pa.Array, zone: LocalTimes) -> pa.Array:
    if not is_list(array.type):
        return _aware_array(array, zone)
    lengths = np.asarray(pc.list_value_length(array).fill_null(0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    inside = _aware_lists(array.flatten(), zone)
    return pa.ListArray.from_arrays(offsets, inside, mask=array.is_null())


def _aware_type(kind: pa.DataType) -> pa.DataType:
    if is_list(kind):
        return pa.list_(_aware_type(kind.value_type))
    return pa.timestamp("ns" if kind.unit == "ns" else "us", tz="UTC")


def _aware_array(array: pa.Array, zone: LocalTimes) -> pa.Array:
    unit = array.type.unit
    values = np.asarray(array.cast(pa.int64()).fill_null(0))
    if unit == "ns":
        micros = values // 1000
        instants = zone.convert(micros)[0] * 1000 + values - micros * 1000
    else:
        per = _PER_UNIT[unit]
        # what is beyond the years 1 to 9999 stays so, and is for whoever takes the instants to refuse
        values = np.clip(values, (FIRST_MICROS - _BEYOND) // per, (LAST_MICROS + _BEYOND) // per)
        instants = zone.convert(values * per)[0]
    missing = np.asarray(array.is_null())
    return pa.array(instants, pa.int64(), mask=missing).cast(_aware_type(array.type))


def _aware_value(value: Any, naive: NaiveTimes) -> Any:
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype.kind in "MO"):
        return [_aware_value(item, naive) for item in value]
    missing = isinstance(value, (datetime, np.datetime64)) and value != value  # NaT
    if missing or not isinstance(value, (date, np.datetime64)):
        return value
    try:
        given = given_time(value)
    except OverflowError:
        return value  # which is refused with its row
    if given.kind == AWARE or (given.kind == DATE and not naive.dates):
        return value
    instant = naive.instant(given)
    if given.nanos:
        return np.datetime64(instant * 1000 + given.nanos, "ns")
    # Python holds none beyond its years: whoever takes it refuses it, with its row
    return from_micros(instant) if FIRST_MICROS <= instant <= LAST_MICROS else np.datetime64(instant, "us")


_MICROS_OF = {"s": 1_000_000, "ms": 1_000, "us": 1}


def floor_micros(column: pa.Array) -> NDArray[np.int64]:
    """Microseconds since 1970 of timestamps or dates without NULLs; finer ones rounded down, so that nothing leaks.

    All are within the years 1 to 9999.
    """
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s" if pa.types.is_date32(column.type) else "ms"))
    counted = np.asarray(column.cast(pa.int64()))
    if column.type.unit == "ns":
        return np.asarray(np.floor_divide(counted, 1000), np.int64)
    return np.asarray(counted * _MICROS_OF[column.type.unit], np.int64)
