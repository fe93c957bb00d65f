"""The rows of a window version as a result shows them: what `rows.decoded.DecodedRows` is for plain versions."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headwater.clock import LAST_MICROS, MIN_MICROS
from headwater.errors import HeadwaterError
from headwater.online.powers import UNREAD
from headwater.online.rows.codec import WINDOW_HEADER_SIZE, long_key, without_key
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import DELETED, KEYED, VERSION_BYTE, row_problem
from headwater.online.rows.windows.form import WindowForm
from headwater.online.rows.windows.headers import HEAD, MARK, SIGN, completeness, deleted_through, header_times, headers
from headwater.online.rows.windows.reading_columns import JoinedRows, NumbersRead
from headwater.online.rows.windows.reading_one import Notes
from headwater.online.rows.windows.row_values import ColumnValues, ListedValues, converter

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY = 36
"""From this many rows on NumPy reads them faster, all at once, than Python one by one."""
_NOWHERE: NDArray[np.intp] = np.empty(0, np.intp)
_NO_PROBLEMS: Mapping[int, Mapping[int, str]] = {}
_LONGEST = 1 << 62
"""More microseconds than lie between any two instants."""


class DecodedWindowRows:
    """The rows of one window version for a list of keys, and the features asked for; see `AnsweredRows`.

    Args:
        form: of the rows.
        rows: what the store gave.
        record: the fill record that was fetched with them.
        now: the instant of the read, microseconds.
        ahead: microseconds by which a row may be known later than `now`, and is then answered as of that instant.
        null: whether the last row is that of NULL keys.
        long_keys: position → whole key, of those asked for by digest.

    Attributes:
        left_out: slot → position → why the value is UNAVAILABLE.
        since: up to which known_at the version is complete, microseconds.
    """

    said: ClassVar[str] = ""
    left_out: Mapping[int, Mapping[int, str]] = _NO_PROBLEMS
    _overflowed: Mapping[int, set[int]] = {}
    _long_keys: Mapping[int, bytes] = {}

    def __init__(
        self,
        form: WindowForm,
        rows: Sequence[bytes | None],
        record: bytes | None,
        now: int,
        ahead: int = 0,
        *,
        null: bool = False,
        long_keys: Mapping[int, bytes] | None = None,
    ) -> None:
        self.form = form
        self.size = len(rows)
        self.at: int | NDArray[np.int64] = now
        self.absent: list[int] = [self.size - 1] if null else []
        self.missing = self.absent
        self.expired: list[int] = []
        self.not_known: list[int] = []
        self.damaged: dict[int, str] = {}
        if long_keys:
            self._long_keys = long_keys
        self._fill, self.since, problem = completeness(record, form.batch)
        if problem:
            # every row but that of NULL keys is UNAVAILABLE
            self.damaged = dict.fromkeys(range(self.size - null), problem)
            rows = [form.blank] * self.size
        self._events: Any
        self._created: Any
        self._values: ListedValues | ColumnValues
        if self.size < MANY:
            self._read_few(rows, now, ahead)
        else:
            self._read_many(rows, now, ahead)
        for slot in form.times:
            self._check_times(slot)

    @property
    def has_nulls(self) -> bool:
        """Whether any value is NULL, or not there."""
        return self._values.has_nulls

    # -- headers

    def _unusual(self, place: int, row: bytes | None) -> bytes:
        """The row to read in place of one that does not begin as a sound one of this layout does, or is older."""
        blank = self.form.blank
        if row is None:
            return blank
        problem = "not read in time" if row == UNREAD else row_problem(self.form.layout, row)
        carried = None if problem else long_key(row)
        if not problem and carried is None and row[1] & KEYED:
            problem = "a window row cut short"
        if problem:
            self.damaged[place] = f"the stored row is {problem}"
            return blank
        asked = self._long_keys.get(place)
        if carried is not None and asked is None:
            self.damaged[place] = "the stored row carries a key that it is not stored under"
            return blank
        if asked != carried:
            if carried is None:
                self.damaged[place] = "the stored row does not say whose it is"
            return blank
        row = without_key(row)
        # a row of an older fill counts as missing
        return blank if int.from_bytes(row[12:20], "big") < self._fill else row

    def _judge(self, known: Mapping[int, int], now: int, ahead: int) -> None:
        """What rows known, or deleted, later than now mean for their answers.

        Args:
            known: position → the latest of them, of those that are later.
            now: the instant of the read.
            ahead: by how much they may be.
        """
        until = min(now + ahead, LAST_MICROS)
        self.not_known = sorted(place for place, at in known.items() if at > until)
        moved = {place: at for place, at in known.items() if at <= until}
        if moved:
            self.at = np.full(self.size, now, np.int64)
            self.at[list(moved)] = list(moved.values())

    def _read_few(self, rows: Sequence[bytes | None], now: int, ahead: int) -> None:
        form, fill, marks, strange = self.form, self._fill, self.form.marks, bool(self._long_keys)
        one, blank, limit = form.one, form.blank, now + SIGN
        read, starts, unpack = one.read, one.starts(now), HEAD.unpack_from
        table: list[list[Any]] = []
        events, created, notes = [], [], Notes()
        late: dict[int, int] = {}
        later: list[tuple[int, bytes, int]] = []
        for place, row in enumerate(rows):
            try:
                mark, row_fill, event, known, ends_at = unpack(row)  # type: ignore[arg-type]
            except (TypeError, struct.error):
                mark = b""
            deleted = marks.get(mark)
            if deleted is None or row_fill < fill or strange:
                row = self._unusual(place, row)
                mark, row_fill, event, known, ends_at = unpack(row)
                deleted = marks[mark]
            assert row is not None
            events.append(event)
            created.append(known)
            if known > limit or (deleted and deleted_through(row) > now):
                late[place] = max(known - SIGN, deleted_through(row) if deleted else MIN_MICROS)
                later.append((place, row, ends_at))
            elif row is not blank:
                try:
                    table.append(read(row, ends_at, now, starts, notes))
                    if notes:
                        self._note(place, notes, range(len(form.features)))
                        notes = Notes()
                    continue
                except Damaged as bad:
                    self.damaged[place] = f"the stored row is {bad}"
            table.append(one.empty.copy())
        self._events, self._created = events, created
        if late:
            self._judge(late, now, ahead)
            for place, row, ends_at in later:
                if place not in self.not_known:
                    table[place] = self._alone(place, row, ends_at)
        self._values = ListedValues(form, table, self.left_out, self._overflowed)

    def _read_many(self, rows: Sequence[bytes | None], now: int, ahead: int) -> None:
        form = self.form
        joined, given = self._joined(rows)
        table = headers(joined)
        unlike = (table["mark"] & MARK) != int.from_bytes(bytes([VERSION_BYTE, 0]) + form.layout.fingerprint, "little")
        unlike |= table["fill"] < np.uint64(self._fill)
        if unlike.any():
            given = list(given)
            for place in np.flatnonzero(unlike).tolist():
                given[place] = self._unusual(place, given[place])
            joined, given = self._joined(given)
            table = headers(joined)
        self._events, self._created = table["event"], table["known"]
        known = self._created.astype(np.uint64)
        late: dict[int, int] = {}
        if known.item(known.argmax()) > now + SIGN:
            places = np.flatnonzero(known > np.uint64(now + SIGN)).tolist()
            late = {place: known.item(place) - SIGN for place in places}
        if int(np.bitwise_or.reduce(table["mark"])) >> 8 & DELETED:
            for place in np.flatnonzero(table["mark"] >> 8 & DELETED).tolist():
                through = deleted_through(given[place])
                if through > now:
                    late[place] = max(through, late.get(place, through))
        ends_at = table["ends"].astype(np.int64)
        if late:
            self._judge(late, now, ahead)
            if self.not_known:
                given = list(given)
                joined.put_blank(self.not_known)
                ends_at[self.not_known] = WINDOW_HEADER_SIZE
                for place in self.not_known:
                    given[place] = form.blank
        values: list[Any] = [None] * len(form.features)
        alone: NDArray[np.bool_] | None = None
        if form.numbers is not None:
            found, alone = form.numbers.read(joined, ends_at, self.at)
            for slot, column in found.items():
                values[slot] = column
        alone_places = [] if alone is None else np.flatnonzero(alone).tolist()
        if form.others is not None:
            self._read_others(values, given, ends_at, set(alone_places))
        if alone_places:
            self._read_alone(values, alone_places, given, ends_at)
        self._values = ColumnValues(form, self.size, values, self.left_out, self._overflowed)

    def _joined(self, rows: Sequence[bytes | None]) -> tuple[JoinedRows, Sequence[bytes]]:
        """Rows laid end to end, those that cannot be replaced by blank ones; and these rows one by one."""
        given: Any = rows
        try:
            sizes = np.fromiter(map(len, given), np.int64, self.size)
        except TypeError:
            return self._joined([self.form.blank if row is None else row for row in rows])
        odd: Any = (sizes & 7 != 0) | (sizes < WINDOW_HEADER_SIZE)
        if self._long_keys or odd.any():
            blank = self.form.blank
            given = list(given)
            # under a digest each row says whose it is, behind its lists
            for place in range(self.size) if self._long_keys else np.flatnonzero(odd).tolist():
                if given[place] is not blank:
                    given[place] = self._unusual(place, given[place])
                    if len(given[place]) & 7:
                        given[place] += bytes(-len(given[place]) % 8)
            sizes = np.fromiter(map(len, given), np.int64, self.size)
        return JoinedRows(given, sizes, self.form.blank), given

    # -- values

    def _alone(self, place: int, row: bytes, ends_at: int) -> list[Any]:
        """The values of one row at its own instant, in the features' order."""
        one = self.form.one
        notes: Notes = {}
        now = self.at if isinstance(self.at, int) else self.at.item(place)
        try:
            values = one.read(row, ends_at, now, one.starts(now), notes)
        except Damaged as bad:
            self.damaged[place] = f"the stored row is {bad}"
            return one.empty.copy()
        if notes:
            self._note(place, notes, range(len(values)))
        return values

    def _note(self, place: int, notes: Notes, slots: Sequence[int]) -> None:
        if self.left_out is _NO_PROBLEMS:
            self.left_out, self._overflowed = {}, {}
        left_out: Any = self.left_out
        overflowed: Any = self._overflowed
        for note, problem in notes.items():
            if problem:
                left_out.setdefault(slots[note], {})[place] = problem
            else:
                overflowed.setdefault(slots[note], set()).add(place)

    def _read_others(
        self, values: list[Any], rows: Sequence[bytes], ends_at: NDArray[np.int64], alone: set[int]
    ) -> None:
        """Read lists of all other kinds, row by row."""
        form, others = self.form, self.form.others
        assert others is not None
        instants, blank = self.at, form.blank
        starts = others.starts(instants) if isinstance(instants, int) else ()
        table = []
        for place, (row, at) in enumerate(zip(rows, ends_at.tolist(), strict=True)):
            if place in alone or row is blank:
                table.append(others.empty)
                continue
            now = instants if isinstance(instants, int) else instants.item(place)
            notes: Notes = {}
            try:
                table.append(others.read(row, at, now, starts, notes))
            except Damaged as bad:
                self.damaged[place] = f"the stored row is {bad}"
                table.append(others.empty)
                continue
            if notes:
                self._note(place, notes, form.other)
        for slot, column in zip(form.other, zip(*table, strict=True), strict=True):
            values[slot] = list(column)

    def _read_alone(
        self, values: list[Any], places: Sequence[int], rows: Sequence[bytes], ends_at: NDArray[np.int64]
    ) -> None:
        """Read rows by themselves, and put their values among those of the others."""
        for slot, column in enumerate(values):
            if isinstance(column, NumbersRead):
                there = np.ones(self.size, np.bool_) if column.there is None else column.there.copy()
                values[slot] = NumbersRead(column.values.copy(), there)
        for place in places:
            for slot, value in enumerate(self._alone(place, rows[place], ends_at.item(place))):
                column = values[slot]
                if isinstance(column, NumbersRead):
                    assert column.there is not None
                    column.there[place] = value is not None
                    column.values[place] = 0 if value is None else value
                else:
                    column[place] = value

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column has no value; None where it always has one."""
        return self._values.nulls(column)

    def null_statuses(self, column: int) -> NDArray[np.bool_] | None:
        """Where the status of a column is NULL; None where it never is."""
        return self._values.null_statuses(column)

    def _check_times(self, slot: int) -> None:
        """Rows with times that Python cannot hold are damaged."""
        feature = self.form.features[slot]
        convert = converter(feature.dtype)
        assert convert is not None
        for place, value in enumerate(self._values.column(slot)):
            if value is None:
                continue
            try:
                convert(value)
            except (HeadwaterError, ValueError, OverflowError):
                self.damaged.setdefault(place, f"the stored row has a {feature.name} outside the years 1 to 9999")

    # -- times

    def events(self) -> NDArray[np.int64]:
        """The newest event time of each row, microseconds; `MIN_MICROS` where there is none."""
        return header_times(self._events)

    def created(self) -> NDArray[np.int64]:
        """When the newest events were known, microseconds; `MIN_MICROS` where there is none."""
        return header_times(self._created)

    def _aged_from(self) -> NDArray[np.int64]:
        """What ages count from: the later of the newest event, and of that up to which the version is complete."""
        found: NDArray[np.int64] = np.maximum(self.events(), self.since)
        return found

    @property
    def least(self) -> int:
        """No age counts from earlier; as `DecodedRows.least`."""
        return (int(self._aged_from().min()) if self.size else LAST_MICROS) + SIGN

    @property
    def latest(self) -> int:
        """The greatest of the instants that the answers hold for."""
        return self.at if isinstance(self.at, int) else int(self.at.max())

    def older_places(self, age: int, expired: bool = False) -> NDArray[np.intp]:
        """The positions of rows that are there and more than `age` microseconds old."""
        old = self._aged_from() < self.at - min(age, _LONGEST)
        if not old.any():
            return _NOWHERE
        old[list(self.gone)] = False
        return np.flatnonzero(old)

    @property
    def gone(self) -> set[int]:
        """Positions that have no row to show."""
        return {*self.absent, *self.not_known, *self.damaged}

    @property
    def timeless(self) -> set[int]:
        """Positions without an event time."""
        return {*self.gone, *np.flatnonzero(self.events() == MIN_MICROS).tolist()}

    # -- forms

    def columns(self) -> list[list[Any]]:
        """Python values of each column, fresh lists; None for a NULL, anything where there is no row."""
        out = self._values.columns()
        for slot in self.form.converted:
            convert, gone = converter(self.form.features[slot].dtype), self.gone
            assert convert is not None
            out[slot] = [None if v is None or i in gone else convert(v) for i, v in enumerate(out[slot])]
        return out

    def matrix(self, columns: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new (rows, columns) matrix of numeric columns; anything where there is no value."""
        out = np.empty((self.size, len(columns)), dtype)
        for place, column in enumerate(columns):
            out[:, place] = self.numbers(column)
        return out

    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as stored numbers, an embedding as a matrix; anything where there is no value."""
        return self._values.numbers(column)
