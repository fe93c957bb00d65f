"""Which columns can be a key, a time or a feature, and what becomes of their values: the same in every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from headwater.clock import FIRST_MICROS, LAST_MICROS, YEARS
from headwater.definitions.feature import Feature
from headwater.definitions.names import OPEN, VALID_TO
from headwater.errors import SourceError
from headwater.offline.trees import EventRange, Tree, big, column, number
from headwater.offline.words import Place, Words
from headwater.planning.local_time import LocalTimes
from headwater.planning.value_rule import BITS
from headwater.types import DType, Int64, castable, declare_hint, is_list, key_castable, leaf_dtype, leaf_type

_A_DAY = 86_400_000_000


def is_time(given: pa.DataType) -> bool:
    """Whether a column can be an event or created time."""
    return bool(pa.types.is_timestamp(given) or pa.types.is_date(given))


def is_local_time(given: pa.DataType) -> bool:
    """Whether the times of a column are those of a clock in some zone: naive timestamps, and dates."""
    return bool(pa.types.is_date(given) or (pa.types.is_timestamp(given) and given.tz is None))


@dataclass(frozen=True)
class Columns:
    """The columns of a table in the forms that the query takes them in.

    Attributes:
        words: the engine's.
        types: column → its Arrow type.
        where: the view, for errors.
        place: names the rows of values that do not fit.
        zone: of naive times; None: UTC.
        within_years: whether times outside of the years 1 to 9999 are refused here; else they were before.
    """

    words: Words
    types: Mapping[str, pa.DataType]
    where: str
    place: Place | None = None
    zone: LocalTimes | None = None
    within_years: bool = False

    def time(self, name: str, *, up: bool = True) -> Tree:
        """A time column as microseconds since 1970 (int64), finer times rounded up, those of a spine down.

        Raises:
            SourceError: a column that is not a time.
        """
        given = self.types[name]
        if pa.types.is_null(given):
            return exp.cast(exp.Null(), "bigint")  # a column of NULLs fits everything: its rows are left out
        if not is_time(given):
            raise SourceError(
                f"{self.where}: column {name!r} is {given}, not a timestamp or date; cast it, e.g. in a SQLSource"
            )
        local = self.words.micros(column(name), given, up=up)
        naive = is_local_time(given)
        found = self.in_zone(name, local)[0] if naive else local
        if not self.within_years:
            return found
        return exp.Case().when(self._beyond(local, naive=naive), self._failed(name, f" is {YEARS}")).else_(found)

    def ends(self, name: str | None) -> Tree:
        """When a row ends, in microseconds as other times are; `OPEN` where it has not, or has no such column."""
        if name is None or name not in self.types:
            return big(OPEN)
        return exp.Coalesce(this=self.time(name), expressions=[big(OPEN)])

    def in_zone(self, name: str, local: Tree) -> tuple[Tree, Tree]:
        """The instant of a local time of a column, and whether a clock change repeats or skips it.

        Raises:
            SourceError: the engine has no zones.
        """
        if self.zone is None:
            return local, number(0)
        found = self.words.in_zone(local, self.zone)
        if found is None:
            raise SourceError(
                f"{self.where}: column {name!r} holds naive times, and this engine takes those as UTC alone: make them "
                "instants in the table or the query, and leave timezone= out"
            )
        return found

    def outside_years(self, name: str) -> Tree:
        """The condition of times of a column that are outside of the years 1 to 9999, on the column itself."""
        given = self.types[name]
        ends = (FIRST_MICROS, LAST_MICROS)
        if self.zone is not None and is_local_time(given):
            # clocks do not change in the first year, nor in the last; beyond them nothing can be written
            ends = max(ends[0], ends[0] + self.zone.offsets[0]), min(ends[1], ends[1] + self.zone.offsets[-1])
        first, last = (self.words.time_literal(end, given) for end in ends)
        if first is not None and last is not None:
            return exp.or_(column(name) < first, column(name) > last)
        local = self.words.micros(column(name), given)
        return exp.or_(local.copy() < big(ends[0]), local.copy() > big(ends[1]))

    def _beyond(self, local: Tree, *, naive: bool) -> Tree:
        """Whether a time is outside of the years 1 to 9999; clocks do not change in the first and the last."""
        first, last = (self.zone.offsets[0], self.zone.offsets[-1]) if self.zone is not None and naive else (0, 0)
        return exp.or_(local.copy() < big(FIRST_MICROS + first), local.copy() > big(LAST_MICROS + last))

    def _failed(self, name: str, after: str) -> Tree:
        return self.words.failed(
            f"{self.where}: column {name!r} ({self.types[name]}): ", column(name), after, self.place
        )

    def key(self, name: str, dtype: DType, *, lenient: bool = False) -> Tree:
        """A key column in the form that the spine's keys have: integers and timestamps as int64.

        Args:
            name: the column.
            dtype: the join key's dtype.
            lenient: whether an integer outside of the join key's range is NULL instead: an earlier release's log may
                have such rows, which no store can take.

        Raises:
            SourceError: a column of another type.
        """
        given = self.types[name]
        form = given.value_type if pa.types.is_dictionary(given) else given
        if not key_castable(form, dtype):
            raise SourceError(
                f"{self.where}: column {name!r} is {given}, but the join key is {dtype}; "
                "headwater never casts a key: cast the column"
            )
        wanted = Int64 if dtype.name == "int32" else dtype
        if pa.types.is_null(form):
            return self._as(exp.Null(), Int64 if wanted.name == "timestamp" else wanted)
        if dtype != wanted and not lenient:
            return self._as(self._checked(name, dtype, self.where), Int64)
        cast = None
        if dtype != wanted:
            narrow = exp.TryCast(this=self.words.cast(column(name), form, wanted), to=self._type(dtype))
            cast = self._as(narrow, Int64)
        elif wanted.name == "timestamp" and self._is_naive(form):
            cast = self.in_zone(name, self.words.micros(column(name), form))[0]
        elif wanted.name == "timestamp":
            cast = self.words.micros(column(name), form)
        return self._checked(name, wanted, self.where, cast)

    def feature(self, feature: Feature) -> Tree:
        """One of a view's `row_features`."""
        if feature.name == VALID_TO:
            return self.ends(feature.column)
        return self.value(feature.source_column, feature.dtype, feature.name)

    def value(self, name: str, dtype: DType, feature: str | None = None) -> Tree:
        """A feature's column in its dtype, by the rule of `value_rule.cast_value`; else an error when it is read.

        Args:
            name: the column.
            dtype: the feature's dtype.
            feature: its name, for errors.

        Raises:
            SourceError: a column whose type cannot become the dtype.
        """
        given, where = self.types[name], self.where if feature is None else f"{self.where}, feature {feature!r}"
        if not castable(given, dtype):
            raise SourceError(f"{where}: column {name!r} is {given}, which does not fit {dtype}{declare_hint(given)}")
        if dtype.name == "timestamp" and self.zone is not None and self._is_naive(given):
            local = self.words.micros(column(name), given)
            found = self._as(self.words.instant(self.in_zone(name, local)[0]), dtype)
            refused = self._failed(name, f" is {YEARS} as an instant: it is a time of {self.zone.name}")
            return exp.Case().when(self._beyond(local, naive=True), refused).else_(found)
        lists = self.zone is not None and is_list(given) and leaf_dtype(dtype).name == "timestamp"
        if lists and self._is_naive(leaf_type(given)):
            raise SourceError(
                f"{where}: column {name!r} is {given}: of lists this engine takes naive times as UTC alone; make "
                "them instants in the table or the query, and leave timezone= out"
            )
        return self._checked(name, dtype, where)

    def _is_naive(self, given: pa.DataType) -> bool:
        return bool(pa.types.is_timestamp(given) and given.tz is None)

    def _type(self, dtype: DType) -> exp.DataType:
        return exp.DataType.build(self.words.type_name(dtype), dialect=self.words.dialect)

    def _as(self, value: Tree, dtype: DType) -> Tree:
        return exp.Cast(this=value, to=self._type(dtype))

    def _checked(self, name: str, dtype: DType, where: str, cast: Tree | None = None) -> Tree:
        """A cast (None: the plain one); of a value that does not fit an error."""
        given, value = self.types[name], column(name)
        found = self.words.cast(value, given, dtype) if cast is None else cast
        bad = self.words.misfit(value, given, dtype)
        if bad is None:
            return found
        before, after = f"{where}: column {name!r} ({given}): ", f" does not fit {dtype}: {_why(given, dtype)}"
        return exp.Case().when(bad, self.words.failed(before, value, after, self.place)).else_(found)


def event_range(words: Words, name: str, given: pa.DataType, *, zoned: bool = False) -> EventRange:
    """The filter on a time column that the engine takes down to files, row groups and partitions.

    Args:
        words: the engine's.
        name: the column.
        given: its type.
        zoned: whether naive times are of another zone than UTC: they are at most two days from their instants.
    """
    if pa.types.is_null(given):
        return lambda lower, upper: None
    # a date is its first instant; times finer than a microsecond were rounded up
    before = _A_DAY if pa.types.is_date(given) else 1
    around = 2 * _A_DAY if zoned and is_local_time(given) else 0

    def within(lower: int | None, upper: int | None) -> Tree | None:
        first = None if lower is None else words.time_literal(lower - before - around, given)
        last = None if upper is None else words.time_literal(upper + around, given)
        conditions: list[Tree] = [] if first is None else [column(name) >= first]
        conditions += [] if last is None else [column(name) <= last]
        return exp.and_(*conditions) if conditions else None

    return within


def misfit(words: Words, name: str, given: pa.DataType, dtype: DType) -> Tree | None:
    """The condition of a column's values that do not fit; None where all of its type do."""
    return words.misfit(column(name), given, dtype) if castable(given, dtype) else None


def _why(given: pa.DataType, dtype: DType) -> str:
    """What values of a type must be to fit."""
    if pa.types.is_dictionary(given):
        given = given.value_type
    match dtype.name:
        case "embedding":
            return f"{dtype.dim} numbers are required, none of them NULL or beyond float32"
        case "array" if dtype.element is not None:
            return _why(given.value_type, dtype.element)
        case "int32" | "int64":
            whole = "not a whole number below 2**53" if pa.types.is_floating(given) else "not a whole number"
            return f"{'' if pa.types.is_integer(given) else f'{whole}, or '}beyond {BITS[dtype.name] + 1} bits"
        case "float32" | "float64" if pa.types.is_integer(given):
            bits = 24 if dtype.name == "float32" else 53
            return f"an integer beyond 2**{bits}, where a {dtype} does not hold all"
        case "timestamp" if pa.types.is_timestamp(given) and given.unit == "ns":
            return "finer than a microsecond"
        case "string":
            return "not valid UTF-8; leave out such rows, or take the column as Bytes"
        case "timestamp" | "date":
            return "outside the years 1 to 9999"
    return f"beyond the greatest {dtype}"
