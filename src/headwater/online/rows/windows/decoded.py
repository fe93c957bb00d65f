"""The rows of a window version as a result shows them: what `rows.decoded.DecodedRows` is for plain versions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headwater.clock import LAST_MICROS, MIN_MICROS
from headwater.errors import FormatError, HeadwaterError
from headwater.online.powers import UNREAD
from headwater.online.rows.codec import long_key, without_key
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import (
    DELETED,
    FLAGS,
    KEYED,
    VERSION_BYTE,
    row_problem,
)
from headwater.online.rows.windows.form import CONVERTED, NEWEST_FILL, WindowForm
from headwater.online.rows.windows.reading import NOT_FILLED
from headwater.online.rows.windows.reading_columns import NumbersReader, padding
from headwater.online.rows.windows.reading_one import Notes, RowReader
from headwater.online.rows.windows.record import FillRecord, decode_record
from headwater.planning.windows.values import result_value
from headwater.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY = 12
"""From this many rows on NumPy reads them faster, all at once, than Python one by one."""
SIGN = 1 << 63
_HEAD = struct.Struct(">BB4s6xQ24xQQI")
_THROUGH = struct.Struct(">Q")
_SIZE = 64
_TABLE = np.dtype(
    {
        "names": ["mark", "flags", "print", "fill", "event", "known", "ends"],
        "formats": ["u1", "u1", "<u4", ">u8", ">u8", ">u8", ">u4"],
        "offsets": [0, 1, 2, 12, 44, 52, 60],
        "itemsize": _SIZE,
    }
)
_PLAIN = FLAGS & ~KEYED
_NOWHERE: NDArray[np.intp] = np.empty(0, np.intp)
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
        self.left_out: dict[int, dict[int, str]] = {}
        self._long_keys = long_keys or {}
        self._through: dict[int, int] = {}
        self._overflowed: dict[int, set[int]] = {}
        self._values: list[Any] = []
        self._events: Any = ()
        self._created: Any = ()
        self._empties = False
        found = self._record(record)
        self.since = MIN_MICROS if found is None else _since(found, form.batch)
        self._fill = NEWEST_FILL if found is None else found.fill
        given = [form.blank] * self.size if found is None else rows
        if self.size < MANY:
            self._read_few(given, now, ahead)
        else:
            self._read_many(given, now, ahead)
        self._nulls = self._take_defaults() if self._empties else {}
        self.has_nulls = bool(self._nulls)
        for slot in form.times:
            self._check_times(slot)

    def _record(self, data: bytes | None) -> FillRecord | None:
        """The fill record; where there is none to use, every row but that of NULL keys is UNAVAILABLE."""
        problem = f"{NOT_FILLED}: run headwater materialize"
        try:
            if data == UNREAD:
                problem = "the fill record was not read in time"
            elif data is not None:
                record = _record_of(data)
                if record.fill:
                    return record
        except (Damaged, FormatError) as bad:
            problem = str(bad)
        self.damaged = dict.fromkeys((i for i in range(self.size) if i not in self.absent), problem)
        return None

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
        form, layout = self.form, self.form.layout
        mark, fill = layout.fingerprint, self._fill
        given: list[tuple[bytes, int] | None] = []
        events, created, late = [], [], {}
        for place, row in enumerate(rows):
            try:
                version, flags, own, row_fill, event, known, ends_at = _HEAD.unpack_from(row)  # type: ignore[arg-type]
            except (TypeError, struct.error):
                version = 0
            if version != VERSION_BYTE or own != mark or flags & ~_PLAIN or row_fill < fill or self._long_keys:
                row = self._unusual(place, row)
                _, flags, _, _, event, known, ends_at = _HEAD.unpack_from(row)
            assert row is not None
            latest = known - SIGN
            events.append(event - SIGN)
            created.append(latest)
            if flags & DELETED and len(row) >= _SIZE + 8:
                latest = max(latest, _THROUGH.unpack_from(row, _SIZE)[0] - SIGN)
            if latest > now:
                late[place] = latest
            given.append(None if row is form.blank else (row, ends_at))
        self._events, self._created = events, created
        if late:
            self._judge(late, now, ahead)
            for place in self.not_known:
                given[place] = None
        starts = form.one.starts(now)
        table = [form.empty if row is None else self._one(i, row, now, starts) for i, row in enumerate(given)]
        self._values = [list(column) for column in zip(*table, strict=True)] if table else [[] for _ in form.empty]
        self._empties = any(None in row for row in table)

    def _read_many(self, rows: Sequence[bytes | None], now: int, ahead: int) -> None:
        given, table = self._sound(rows)
        self._events = (table["event"].astype(np.uint64) ^ np.uint64(SIGN)).view(np.int64)
        created = (table["known"].astype(np.uint64) ^ np.uint64(SIGN)).view(np.int64)
        self._created, self._empties = created, True
        late: dict[int, int] = {}
        if created.item(created.argmax()) > now:
            places = np.flatnonzero(created > now).tolist()
            late = dict(zip(places, created[places].tolist(), strict=True))
        deleted = np.flatnonzero(table["flags"] & DELETED).tolist() if (table["flags"] & DELETED).any() else ()
        for place in deleted:
            row = given[place]
            through = _THROUGH.unpack_from(row, _SIZE)[0] - SIGN if len(row) >= _SIZE + 8 else MIN_MICROS
            if through > now:
                late[place] = max(through, late.get(place, through))
        ends_at = table["ends"].astype(np.int64)
        if late:
            self._judge(late, now, ahead)
            for place in self.not_known:
                given[place] = self.form.blank
                ends_at[place] = _SIZE
        self._read_columns(given, ends_at)

    def _sound(self, rows: Sequence[bytes | None]) -> tuple[list[bytes], NDArray[Any]]:
        """Rows that begin as sound ones do, none without one, and their headers."""
        mark = self.form.layout.fingerprint
        try:
            blocks = [row[:_SIZE] for row in rows]  # type: ignore[index]
            joined = b"".join(blocks)
        except TypeError:
            return self._sound([self.form.blank if row is None else row for row in rows])
        given: list[bytes] = list(rows)  # type: ignore[arg-type]
        if len(joined) == _SIZE * self.size and not self._long_keys:
            table = np.frombuffer(joined, _TABLE)
            usual = table["mark"] == VERSION_BYTE
            usual &= table["print"] == np.uint32(int.from_bytes(mark, "little"))
            usual &= table["flags"] & np.uint8(0xFF & ~_PLAIN) == 0
            usual &= table["fill"] >= np.uint64(self._fill)
            if usual.all():
                return given, table
            odd = np.flatnonzero(~usual).tolist()
        else:
            odd = list(range(self.size))
        for place in odd:
            given[place] = self._unusual(place, given[place])
        return given, np.frombuffer(b"".join([row[:_SIZE] for row in given]), _TABLE)

    # -- values

    def _one(self, place: int, row: tuple[bytes, int], now: int, starts: Sequence[int]) -> Sequence[Any]:
        """The values of one row, in the features' order."""
        one = self.form.one
        notes: Notes = {}
        if not isinstance(self.at, int):
            now = self.at.item(place)
            starts = one.starts(now)
        try:
            values = one.read(*row, now, starts, notes)
        except Damaged as bad:
            self.damaged[place] = f"the stored row is {bad}"
            return self.form.empty
        if notes:
            self._note(place, notes, range(len(values)))
        return values

    def _note(self, place: int, notes: Notes, slots: Sequence[int]) -> None:
        for note, problem in notes.items():
            if problem:
                self.left_out.setdefault(slots[note], {})[place] = problem
            else:
                self._overflowed.setdefault(slots[note], set()).add(place)

    def _read_columns(self, rows: list[bytes], ends_at: NDArray[np.int64]) -> None:
        form = self.form
        self._values = [None] * len(form.features)
        alone: set[int] = set()
        if form.numbers is not None:
            alone = self._read_numbers(form.numbers, rows, ends_at)
        if form.others is not None:
            self._read_others(form.others, rows, ends_at, alone)
        starts = form.one.starts(self.at) if isinstance(self.at, int) else ()
        now = self.at if isinstance(self.at, int) else 0
        for place in sorted(alone):
            values = self._one(place, (rows[place], ends_at.item(place)), now, starts)
            for slot, value in enumerate(values):
                self._put(slot, place, value)

    def _read_numbers(self, numbers: NumbersReader, rows: list[bytes], ends_at: NDArray[np.int64]) -> set[int]:
        """Read all that is in columns of numbers; gives the positions of the rows to read by themselves."""
        sizes = np.fromiter(map(len, rows), np.int64, self.size)
        count = len(self.form.layout.lists)
        odd = (sizes & 7) != 0
        if odd.any():
            rows = [self.form.blank if bad else row for row, bad in zip(rows, odd.tolist(), strict=True)]
            ends_at = np.where(odd, _SIZE, ends_at)
            sizes = np.fromiter(map(len, rows), np.int64, self.size)
        data = b"".join((*rows, padding(int(sizes.max()))))
        base = np.cumsum(sizes) - sizes
        first = ends_at + (4 * count + 7) & ~7
        ends = (
            np.frombuffer(data, "<u4")
            .take(((base + ends_at) >> 2)[:, None] + np.arange(count), mode="clip")
            .astype(np.int64)
        )
        bad = ((ends_at | np.bitwise_or.reduce(ends, axis=1)) & 7) != 0
        bad |= first + ends[:, -1] > sizes
        if count > 1:
            bad |= (ends[:, 1:] < ends[:, :-1]).any(axis=1)
        begins = (base + first)[:, None] + ends
        stops = begins[:, numbers.lists].T
        starts = np.stack([begins[:, i - 1] if i else base + first for i in numbers.lists])
        if bad.any():
            starts, stops = np.where(bad, 0, starts), np.where(bad, 0, stops)
        found, unread = numbers.read(data, starts, stops, self.at)
        for slot, (values, there) in found.items():
            self._values[slot] = (values, there)
        return set(np.flatnonzero(odd | unread).tolist()) if (odd | unread).any() else set()

    def _read_others(
        self, others: RowReader, rows: Sequence[bytes], ends_at: NDArray[np.int64], alone: Collection[int]
    ) -> None:
        """Read lists of all other kinds, row by row."""
        form, instants = self.form, self.at
        starts: Sequence[int] = ()
        nothing = [form.empty[slot] for slot in form.other]
        table = []
        for place, (row, at) in enumerate(zip(rows, ends_at.tolist(), strict=True)):
            if place in alone or row is form.blank:
                table.append(nothing)
                continue
            now = instants if isinstance(instants, int) else instants.item(place)
            notes: Notes = {}
            try:
                table.append(others.read(row, at, now, starts, notes))
            except Damaged as bad:
                self.damaged[place] = f"the stored row is {bad}"
                table.append(nothing)
                continue
            if notes:
                self._note(place, notes, form.other)
        for slot, column in zip(form.other, zip(*table, strict=True), strict=True):
            self._values[slot] = list(column)

    def _put(self, slot: int, place: int, value: Any) -> None:
        """Put the value of a row that was read by itself."""
        column = self._values[slot]
        if isinstance(column, list):
            column[place] = value
            return
        values, there = column
        there = np.ones(self.size, np.bool_) if there is None else there.copy()
        there[place] = value is not None
        values = values.copy()
        values[place] = 0 if value is None else value
        self._values[slot] = (values, there)

    # -- NULLs

    def _take_defaults(self) -> dict[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Put defaults in place of NULLs.

        Returns:
            Slot → where its status is NULL, and where it has no value, of those that have such.
        """
        nulls: dict[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
        for slot, feature in enumerate(self.form.features):
            column = self._values[slot]
            if isinstance(column, list):
                absent = np.array([value is None for value in column], np.bool_) if None in column else None
            else:
                column, there = column
                absent = None if there is None else ~there
                self._values[slot] = column
            if absent is None:
                continue
            left_out = self.left_out.get(slot)
            is_null, none = absent, absent
            if left_out:
                is_null = absent.copy()
                is_null[list(left_out)] = False
            if feature.default is not None:
                kept = is_null.copy()
                kept[list(self._overflowed.get(slot, ()))] = False
                none = absent & ~kept
                for place in np.flatnonzero(kept).tolist():
                    column[place] = feature.default
            nulls[slot] = is_null, none
        return nulls

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column has no value; None where it always has one."""
        found = self._nulls.get(column)
        return None if found is None or not found[1].any() else found[1]

    def null_statuses(self, column: int) -> NDArray[np.bool_] | None:
        """Where the status of a column is NULL; None where it never is."""
        found = self._nulls.get(column)
        return None if found is None else found[0]

    def _check_times(self, slot: int) -> None:
        """Rows with times that Python cannot hold are damaged."""
        feature, absent = self.form.features[slot], self.nulls(slot)
        convert = _converter(feature.dtype)
        assert convert is not None
        for place, value in enumerate(self._listed(slot)):
            if value is None or (absent is not None and absent[place]):
                continue
            try:
                convert(value)
            except (HeadwaterError, ValueError, OverflowError):
                self.damaged.setdefault(place, f"the stored row has a {feature.name} outside the years 1 to 9999")

    # -- times

    def events(self) -> NDArray[np.int64]:
        """The newest event time of each row, microseconds; `MIN_MICROS` where there is none."""
        return np.array(self._events, np.int64)

    def created(self) -> NDArray[np.int64]:
        """When the newest events were known, microseconds; `MIN_MICROS` where there is none."""
        return np.array(self._created, np.int64)

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

    def _listed(self, slot: int) -> list[Any]:
        """A column in its stored form; anything where there is no value."""
        column = self._values[slot]
        values: list[Any] = column if isinstance(column, list) else column.tolist()
        return values

    def columns(self) -> list[list[Any]]:
        """Python values of each column, fresh lists; None for a NULL, anything where there is no row."""
        out = [list(column) if isinstance(column, list) else column.tolist() for column in self._values]
        for slot in self.form.converted:
            out[slot] = self._converted(slot)
        for slot, (_, absent) in self._nulls.items():
            for place in np.flatnonzero(absent).tolist():
                out[slot][place] = None
        return out

    def _converted(self, slot: int) -> list[Any]:
        """A column whose stored form is not that of results; anything where there is no value."""
        dtype, absent, gone = self.form.features[slot].dtype, self.nulls(slot), self.gone
        convert = _converter(dtype)
        assert convert is not None
        return [
            None if v is None or i in gone or (absent is not None and absent[i]) else convert(v)
            for i, v in enumerate(self._listed(slot))
        ]

    def matrix(self, columns: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new (rows, columns) matrix of numeric columns; anything where there is no value."""
        out = np.empty((self.size, len(columns)), dtype)
        for place, column in enumerate(columns):
            out[:, place] = self.numbers(column)
        return out

    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as stored numbers, an embedding as a matrix; anything where there is no value."""
        dtype, values = self.form.features[column].dtype, self._values[column]
        if not isinstance(values, list):
            numbers: NDArray[Any] = values if values.dtype == dtype.numpy else values.astype(dtype.numpy)
            return numbers
        if dtype.name == "embedding":
            nothing = (0.0,) * (dtype.dim or 0)
            return np.array([nothing if value is None else value for value in values], "<f4").reshape(
                -1, dtype.dim or 0
            )
        return np.array([0 if value is None else value for value in values], dtype.numpy)


@lru_cache(maxsize=64)
def _record_of(data: bytes) -> FillRecord:
    """`decode_record`, once for many reads."""
    return decode_record(data)


def _since(record: FillRecord, batch: bool) -> int:
    """Up to which known_at a version is complete, microseconds."""
    return min(record.known_through, record.source_through.known_at) if batch else record.known_through


@lru_cache(maxsize=256)
def _converter(dtype: DType) -> Callable[[Any], Any] | None:
    """From the stored form of a value to the one that results have; None: it is the same."""
    return partial(result_value, dtype) if dtype.name in CONVERTED else None
