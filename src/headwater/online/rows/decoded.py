"""Packed rows back into columns, laid side by side and read as one table; a damaged row is named, never raised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from itertools import pairwise
from operator import le
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headwater.clock import LAST_MICROS, MIN_MICROS
from headwater.online.rows.codec import (
    EMPTIED,
    KEYED,
    SIGN,
    current,
    flip_sign,
    header,
    is_row,
    is_window_row,
    long_key,
    tombstone_of,
    window_known_at,
    without_key,
    without_tombstone,
)
from headwater.online.rows.few_rows import FEW
from headwater.online.rows.row_format import TIME_RANGES, RowFormat
from headwater.online.rows.values import Damaged, python_values, variable_decoder
from headwater.planning.layout import Slot
from headwater.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray


MANY = 16
"""From this many rows on NumPy compares their times faster than Python; all else it does faster always."""

_NOWHERE: NDArray[np.intp] = np.empty(0, np.intp)
_LAST = (1 << 64) - 1
_LONGEST = 1 << 62
"""More microseconds than lie between any two instants."""


def verified(rows: Sequence[bytes | None], long_keys: Mapping[int, bytes]) -> list[bytes | None]:
    """Rows as they were before `codec.with_key`, with None for those under a digest that carry another key.

    Args:
        rows: what the store gave.
        long_keys: place → whole key, for those asked for by digest.
    """
    return [_verified(row, long_keys.get(i)) for i, row in enumerate(rows)]


def _verified(row: bytes | None, key: bytes | None) -> bytes | None:
    if row is None or key is None:
        return row
    carried = long_key(row)
    if carried is None:
        # it cannot be told whose row this is: refused like one that carries a key out of place, unless it has no values
        return row if not is_row(row) or row[1] & EMPTIED else row[:1] + bytes((row[1] | KEYED,)) + row[2:]
    return without_key(row) if carried == key else None


def not_later(before: Sequence[bytes | None], after: Sequence[bytes | None], now: int) -> list[bytes | None]:
    """Rows that were read again, with those that are known, or deleted, later than `now` as they were before."""
    return [old if _is_later(new, now) else new for old, new in zip(before, after, strict=True)]


def _is_later(row: bytes | None, now: int) -> bool:
    if row is not None and is_window_row(row):
        return window_known_at(row) > now
    head = header(row)
    return head is not None and max(head.through, MIN_MICROS if head.emptied else head.known_at) > now


class DecodedRows:
    """The rows of one view version for a list of keys, and the columns asked for.

    Args:
        form: how they lie.
        rows: what was found under each key.
        now: the instant of the read, microseconds; the last that there is unless given.
        ttl: microseconds; rows whose event time is longer ago are too old. None: none is.
        ahead: microseconds by which a row may be known, or its key be deleted, later than `now` and be counted all the
            same: that instant then stands for `now` in all that the row's answer depends on. 0: the read is exact.

    Attributes:
        size: how many keys were asked for.
        at: the instant that each row's answer holds for, microseconds: one for all, or an array.
        absent: places without a row, or with an emptied one.
        damaged: place → what is wrong with the row there.
        deleted: place → D of the row there, microseconds, of those that have one.
        not_known: places of rows known, or of keys deleted, too much later than `now`: what was there before is not
            known any more.
        expired: places of other rows that are too old, or have ended.
        missing: places that are absent or expired: the default stands in.
        has_nulls: whether some row has a NULL.
        least: as times stand in a header: no event time is earlier (0 where a row is not there).
    """

    said: ClassVar[str] = "the stored row is "
    left_out: ClassVar[Mapping[int, Mapping[int, str]]] = {}
    since: ClassVar[int | None] = None

    __slots__ = (
        "_few",
        "_made_table",
        "_variable",
        "absent",
        "at",
        "damaged",
        "deleted",
        "expired",
        "form",
        "has_nulls",
        "least",
        "missing",
        "not_known",
        "size",
    )

    def __init__(
        self,
        form: RowFormat,
        rows: Sequence[bytes | None],
        now: int = LAST_MICROS,
        ttl: int | None = None,
        ahead: int = 0,
    ) -> None:
        self.form = form
        self.size = len(rows)
        self.absent: list[int] = []
        self.damaged: dict[int, str] = {}
        self.deleted: dict[int, int] = {}
        self.not_known: list[int] = []
        self.expired: list[int] = []
        self.at: int | NDArray[np.int64] = now
        oldest = 0 if ttl is None else now - ttl + SIGN
        self.least = _LAST
        heads = form.few.heads(rows) if form.few is not None and self.size < FEW else None
        if heads is not None:
            self._few: Sequence[bytes] | None = rows  # type: ignore[assignment]
            self._made_table: NDArray[Any] | None = None
            times, self.has_nulls = heads
        else:
            self._few = None
            self._made_table, rows = self._read(rows)
            times = self._table["times"].tolist() if self.size < MANY else []
            self.has_nulls = self._table["bits"].tobytes() != form.no_nulls * self.size
        is_few = self.size < MANY
        late = self._judge_few(times, now + SIGN, oldest) if is_few else self._judge_many(now + SIGN, oldest)
        if late or self.deleted:
            self._judge_late(late, now, ttl, ahead)
        if form.ends is not None:
            self._judge_ended(*form.ends)
        self.missing = [*self.absent, *self.expired]
        self._variable: dict[int, list[Any]] = self._decode_variable(rows) if form.variable else {}
        if form.times:
            self._check_times()

    # -- heads

    @property
    def _table(self) -> NDArray[Any]:
        """The fixed part of each row; of a few rows it is made when it is asked for."""
        table = self._made_table
        if table is None:
            table = self._made_table = np.frombuffer(b"".join(self._few or ()), self.form.table)
        return table

    def _read(self, rows: Sequence[bytes | None]) -> tuple[NDArray[Any], Sequence[bytes | None]]:
        """The fixed part of each row, a blank one for those that are absent or damaged; and the rows as they are read.

        Those are rows of this codec without a tombstone.
        """
        form, mark, end = self.form, self.form.mark, self.form.end
        found: Any = rows
        try:
            blocks = [row[:end] for row in found] if form.variable else found
            sizes = list(map(len, blocks))
        except TypeError:
            self.absent = [i for i, row in enumerate(rows) if row is None]
            return self._read([form.blank if row is None else row for row in rows])
        if sizes.count(end) == self.size:
            table = np.frombuffer(b"".join(blocks), form.table)
            if table["mark"].tobytes() == mark * self.size:
                return table, rows
        found = list(found)
        for i, row in enumerate(found):
            if row[:6] != mark and is_row(row):
                found[i] = self._plain(i, row)
        blocks = [row[:end] for row in found]
        for i, block in enumerate(blocks):
            if len(block) != end or block[:6] != mark or not (form.variable or len(found[i]) == end):
                self._refuse(i, found[i])
        gone = {*self.absent, *self.damaged}
        return np.frombuffer(
            b"".join([form.blank if i in gone else b for i, b in enumerate(blocks)]), form.table
        ), found

    def _plain(self, place: int, row: bytes) -> bytes:
        """A row as this codec writes it, its tombstone taken note of."""
        row = current(row)
        deleted = tombstone_of(row)
        if not deleted:
            return row
        self.deleted[place] = int.from_bytes(deleted[:8], "big") - SIGN
        return without_tombstone(row)

    def _judge_few(self, times: Sequence[tuple[int, int]], now: int, oldest: int) -> list[int]:
        """Find the rows that are too old, and those that are known later; times as they stand in a header."""
        late = []
        if times:
            self.least = min(times)[0]
        for i, (event, created) in enumerate(times):
            if event > now or created > now:
                late.append(i)
            elif event < oldest and i not in self.absent and i not in self.damaged:
                self.expired.append(i)
        return late

    def _judge_many(self, now: int, oldest: int) -> list[int]:
        """What `_judge_few` does, faster where rows are many."""
        times, late = self._table["times"].astype(np.uint64), []
        # not max and min: what NumPy does around them costs more than they do
        if times.item(times.argmax()) > now:
            late = np.flatnonzero((times > np.uint64(now)).any(axis=1)).tolist()
        # created times are looked at too, which is cheaper than to leave them out
        self.least = times.item(times.argmin())
        if self.least < oldest:
            gone = {*self.absent, *self.damaged, *late}
            old = np.flatnonzero(times[:, 0] < np.uint64(oldest)).tolist()
            self.expired = [i for i in old if i not in gone]
        return late

    def _judge_late(self, late: list[int], now: int, ttl: int | None, ahead: int) -> None:
        """Find what rows known later than now, and keys deleted later, mean for their answers."""
        known = {i: max(self._table["times"][i].tolist()) - SIGN for i in late}
        for i, through in self.deleted.items():
            if i not in self.damaged:
                known[i] = max(through, known.get(i, through))
        moved = {i: instant for i, instant in known.items() if instant > now}
        if not moved:
            return
        until = min(now + ahead, LAST_MICROS)
        self.not_known = [i for i, instant in moved.items() if instant > until]
        unknown = set(self.not_known)
        self.expired = [i for i in self.expired if i not in moved]
        self.absent = [i for i in self.absent if i not in unknown]
        moved = {i: instant for i, instant in moved.items() if i not in unknown}
        if not moved:
            return
        self.at = np.full(self.size, now, np.int64)
        self.at[list(moved)] = list(moved.values())
        if ttl is not None:
            events = self.events()
            absent = {*self.absent}
            self.expired += [i for i, at in moved.items() if i not in absent and events.item(i) < at - ttl]

    def _judge_ended(self, name: str, place: int) -> None:
        """Find the rows that have ended at the instant that their answer holds for."""
        over = self._table[name][:, place] <= self.at
        if over.any():
            gone = {*self.absent, *self.damaged, *self.not_known, *self.expired}
            self.expired += [i for i in np.flatnonzero(over).tolist() if i not in gone]

    def _refuse(self, place: int, row: bytes) -> None:
        problem = self.form.problem(row)
        if problem:
            self.damaged[place] = problem
        else:
            self.absent.append(place)

    def events(self) -> NDArray[np.int64]:
        """Event times, microseconds; anything where there is no row."""
        return self._times(0)

    def created(self) -> NDArray[np.int64]:
        """Created times, microseconds; anything where there is no row."""
        return self._times(1)

    def _times(self, place: int) -> NDArray[np.int64]:
        return flip_sign(self._table["times"][:, place].astype(np.int64)).view(np.int64)

    @property
    def latest(self) -> int:
        """The greatest of the instants that the answers hold for."""
        return self.at if isinstance(self.at, int) else self.at.item(self.at.argmax())

    def older(self, age: int) -> NDArray[np.bool_]:
        """Where the event time is more than `age` microseconds before `at`; anything where there is no row."""
        return self.events() < self.at - min(age, _LONGEST)

    def older_places(self, age: int, expired: bool = False) -> NDArray[np.intp]:
        """The places of rows that are there and more than `age` microseconds old.

        Args:
            age: microseconds.
            expired: also of rows that are older than their ttl.
        """
        if isinstance(self.at, int) and self.least >= self.at - min(age, _LONGEST) + SIGN:
            return _NOWHERE
        if self.size < MANY and isinstance(self.at, int):
            oldest = self.at - min(age, _LONGEST) + SIGN
            places = [i for i, (event, _) in enumerate(self._table["times"].tolist()) if event < oldest]
            if not places:
                return _NOWHERE
            gone = self._gone(expired)
            return np.array([i for i in places if i not in gone], np.intp)
        old = self.older(age)
        if old.any():
            old[list(self._gone(expired))] = False
        return np.flatnonzero(old)

    @property
    def gone(self) -> set[int]:
        """Places that have no value of a row to show."""
        return self._gone()

    @property
    def timeless(self) -> set[int]:
        """Places without an event time to show."""
        return self._gone()

    def _gone(self, expired: bool = False) -> set[int]:
        return {*(self.absent if expired else self.missing), *self.not_known, *self.damaged}

    # -- values

    def columns(self) -> list[list[Any]]:
        """Python values of each column asked for, fresh lists; None for a NULL, anything where there is no row."""
        if self._few is not None and not self.has_nulls:
            few = self.form.few.columns(self._few) if self.form.few is not None else None
            if few is not None:
                return few
        if len(self.form.groups) == 1 and not self._variable:
            out = self._group(*self.form.groups[0])
        else:
            out = [[]] * len(self.form.slots)
            for group in self.form.groups:
                for c, values in zip(group[2], self._group(*group), strict=True):
                    out[c] = values
            for c, values in self._variable.items():
                out[c] = list(values)
        if self.has_nulls:
            nulls = np.unpackbits(self._table["bits"], axis=1, bitorder="little").nonzero()
            for i, bit in zip(*(places.tolist() for places in nulls), strict=True):
                if bit in self.form.by_bit:
                    out[self.form.by_bit[bit]][i] = None
        return out

    def _group(self, name: str, dtype: DType, columns: list[int], places: slice | list[int]) -> list[list[Any]]:
        """The values of columns that lie in one matrix and have one dtype."""
        matrix = self._table[name]
        if dtype.name == "embedding":
            return [python_values(matrix, dtype)]
        turned = matrix.T[places]
        if self.size >= MANY:
            turned = turned.copy()  # aligned numbers become Python's faster
        if dtype.name in TIME_RANGES:
            return [python_values(_harmless(row, self.damaged), dtype) for row in turned]
        return python_values(turned, dtype)

    def matrix(self, columns: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new (keys, columns) matrix of numeric columns; anything where there is no value."""
        block = self.form.block(columns)
        if block is not None:
            name, places = block
            matrix: NDArray[Any] = self._table[name]
            return matrix[:, places].astype(dtype)
        out = np.empty((self.size, len(columns)), dtype)
        for place, column in enumerate(columns):
            out[:, place] = self.numbers(column)
        return out

    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as stored numbers, an embedding as a matrix; anything where there is no value."""
        name, place = self.form.sources[column]
        matrix: NDArray[Any] = self._table[name]
        return matrix if name[0] == "e" else matrix[:, place]

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column is NULL; None where it never is."""
        if not self.has_nulls:
            return None
        bit = self.form.slots[column].bit
        mask: NDArray[np.bool_] = (self._table["bits"][:, bit // 8] & np.uint8(1 << bit % 8)) != 0
        return mask if mask.any() else None

    def null_statuses(self, column: int) -> NDArray[np.bool_] | None:
        """As `nulls`."""
        return self.nulls(column)

    def _check_times(self) -> None:
        for c, (first, last) in self.form.times.items():
            numbers = self.numbers(c)
            if not self.size or (numbers[numbers.argmin()] >= first and numbers[numbers.argmax()] <= last):
                continue
            for i in np.flatnonzero((numbers < first) | (numbers > last)).tolist():
                self.damaged.setdefault(i, f"{self.form.slots[c].name} is outside the years 1 to 9999")

    # -- values of varying width

    def _decode_variable(self, rows: Sequence[bytes | None]) -> dict[int, list[Any]]:
        """The values of each variable-width column asked for."""
        end, gone = self.form.end, {*self.absent, *self.damaged}
        tails = [b"" if row is None or i in gone else row[end:] for i, row in enumerate(rows)]
        stops: list[list[int]] = self._table["ends"].T.tolist()
        if stops[-1] != list(map(len, tails)) or not all(all(map(le, *pair)) for pair in pairwise(stops)):
            for i, ends in enumerate(zip(*stops, strict=True)):
                if ends[-1] != len(tails[i]) or any(a > b for a, b in pairwise(ends)):
                    self.damaged[i], tails[i] = "its variable-width values do not add up", b""
                    gone.add(i)
        starts = [[0] * self.size, *stops]
        return {
            c: self._variable_column(
                [tail[a:b] for tail, a, b in zip(tails, starts[v], stops[v], strict=True)], slot, gone
            )
            for c, slot in enumerate(self.form.slots)
            if (v := slot.variable) is not None
        }

    def _variable_column(self, pieces: list[bytes], slot: Slot, gone: Collection[int]) -> list[Any]:
        decode, empty = variable_decoder(slot.dtype), slot.dtype.name == "array"
        try:
            if empty:
                self._check_empty(pieces, slot, gone)
                return [decode(piece) if piece else None for piece in pieces]
            return [piece.decode() for piece in pieces] if slot.dtype.name == "string" else pieces
        except (Damaged, UnicodeDecodeError):
            return [self._or_damaged(i, piece, decode, empty) for i, piece in enumerate(pieces)]

    def _check_empty(self, pieces: Sequence[bytes], slot: Slot, gone: Container[int]) -> None:
        """An array has bytes unless it is NULL."""
        bits = self._table["bits"][:, slot.bit // 8]
        for i, piece in enumerate(pieces):
            if not piece and i not in gone and not bits[i] & 1 << slot.bit % 8:
                self.damaged.setdefault(i, "an array cut short")

    def _or_damaged(self, place: int, piece: bytes, decode: Callable[[bytes], Any], empty: bool) -> Any:
        try:
            return decode(piece) if piece or not empty else None
        except Damaged as bad:
            self.damaged.setdefault(place, str(bad))
            return None


def _harmless(numbers: NDArray[Any], places: Mapping[int, str]) -> NDArray[Any]:
    """The numbers with those of damaged rows at 0."""
    if not places:
        return numbers
    out = numbers.copy()
    out[list(places)] = 0
    return out
