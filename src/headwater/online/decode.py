"""Packed rows back into columns: a few by struct, many at once by NumPy; a damaged row is named, never raised."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.online.codec import (
    EMPTIED,
    HEADER_SIZE,
    KEYED,
    SIGN,
    VERSION_BYTE,
    fixed_end,
    flip_sign,
    is_newer,
    is_row,
    layout_mark,
    long_key,
    without_key,
)
from headwater.online.values import Damaged, python_values, variable_decoder
from headwater.planning.layout import RowLayout, Slot
from headwater.types import DType

MANY = 16
"""From this many rows on NumPy beats struct."""

_TIMES = struct.Struct(">QQ")
_AS_THEY_ARE = ("float64", "int64", "int32")
_CODES = {"int32": "i", "int64": "q", "float32": "f", "float64": "d", "bool": "B", "timestamp": "q", "date": "i"}
# what datetime and date can hold: the years 1 to 9999
_RANGES = {"timestamp": (-62135596800_000_000, 253402300799_999_999), "date": (-719162, 2932896)}


class DecodedRows(ABC):
    """The rows of one view version for a list of keys, and the columns asked for.

    Attributes:
        size: how many keys were asked for.
        absent: places without a row, or with an emptied one.
        damaged: place → what is wrong with the row there.
    """

    def __init__(self, decoder: RowDecoder, size: int) -> None:
        self.decoder = decoder
        self.size = size
        self.absent: list[int] = []
        self.damaged: dict[int, str] = {}

    @abstractmethod
    def columns(self) -> list[list[Any]]:
        """Python values of each column asked for, fresh lists; None for a NULL, anything where there is no row."""

    @abstractmethod
    def matrix(self, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
        """A new (keys, columns) matrix of numeric columns; anything where there is no value."""

    @abstractmethod
    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as stored numbers, an embedding as a matrix; anything where there is no value."""

    @abstractmethod
    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column is NULL; None where it never is."""

    @abstractmethod
    def events(self) -> NDArray[np.int64]:
        """Event times, microseconds; anything where there is no row."""

    @abstractmethod
    def created(self) -> NDArray[np.int64]:
        """Created times, microseconds; anything where there is no row."""

    @abstractmethod
    def judge(self, known_until: int, expired_before: int | None) -> tuple[list[int], list[int]]:
        """Places of rows known later than an instant, and of the others whose event time is before another."""


class RowDecoder:
    """How the rows of a layout are read for some of its features.

    Attributes:
        slots: of the features asked for, in their order.
    """

    def __init__(self, layout: RowLayout, names: Sequence[str]) -> None:
        self.layout = layout
        self.slots = tuple(layout.by_name[name] for name in names)
        self.mark = layout_mark(layout)
        self.end = fixed_end(layout)
        self.variable = layout.variable_count > 0
        self.blank = self.mark + bytes(self.end - 6)
        self.sizes = {self.end}
        self.bitmap = range(HEADER_SIZE, HEADER_SIZE + layout.bitmap_size)
        self._stripes: dict[int, tuple[list[tuple[int, bytes]], bytes]] = {}
        self.plain = all(slot.dtype.name in _AS_THEY_ARE for slot in self.slots)
        self._body_struct()
        self._table_dtype()

    def decode(self, rows: Sequence[bytes | None], long_keys: Mapping[int, bytes] | None = None) -> DecodedRows:
        """Decode the rows found for a list of keys.

        Args:
            rows: what the store gave.
            long_keys: place → whole key, for those asked for by digest.
        """
        if long_keys:
            rows = [_verified(row, long_keys.get(i)) for i, row in enumerate(rows)]
        return FewRows(self, rows) if len(rows) < MANY else ManyRows(self, rows)

    def stripes(self, size: int) -> tuple[list[tuple[int, bytes]], bytes]:
        """Columns of bytes of `size` sound rows side by side: of the mark, each with its place, and of no NULLs."""
        found = self._stripes.get(size)
        if found is None:
            if len(self._stripes) > 64:
                self._stripes.clear()
            found = self._stripes[size] = ([(i, self.mark[i : i + 1] * size) for i in range(6)], bytes(size))
        return found

    def problem(self, row: bytes) -> str:
        """Why bytes are no row of this layout; empty where they are one whose values are gone."""
        if not row:
            return "no bytes"
        if row[0] != VERSION_BYTE:
            return (
                "written by a newer headwater"
                if is_newer(row)
                else f"not a headwater row (begins with {row[:1].hex()})"
            )
        if len(row) < HEADER_SIZE:
            return f"cut short ({len(row)} bytes)"
        if row[1] & EMPTIED:
            return ""
        if row[1] & ~(EMPTIED | KEYED):
            return "written by a newer headwater"
        if row[1] & KEYED:
            return "carries a key that it is not stored under"
        if row[2:6] != self.mark[2:]:
            return f"of another layout ({row[2:6].hex()}, not {self.mark[2:].hex()})"
        return f"of {len(row)} bytes where {self.end}{' or more' if self.variable else ''} are due"

    def _body_struct(self) -> None:
        fixed = sorted(
            (slot for slot in self.layout.slots if slot.offset is not None), key=lambda slot: slot.offset or 0
        )
        codes = [
            f"{slot.dtype.width}s" if slot.dtype.name == "embedding" else _CODES[slot.dtype.name] for slot in fixed
        ]
        self.body = struct.Struct(f"<{self.layout.bitmap_size}s{''.join(codes)}{self.layout.variable_count}I")
        places = {slot.name: i + 1 for i, slot in enumerate(fixed)}
        self.places = tuple(places.get(slot.name, -1) for slot in self.slots)
        self.first_end = 1 + len(fixed)
        self.no_nulls = bytes(self.layout.bitmap_size)

    def _table_dtype(self) -> None:
        """A record of the parts read at once; slots of one width stand side by side and are read as one matrix."""
        start = HEADER_SIZE + self.layout.bitmap_size
        fields: dict[str, tuple[Any, int]] = {
            "times": ((">u8", (2,)), 22),
            "bits": (("u1", (self.layout.bitmap_size,)), HEADER_SIZE),
            "ends": (("<u4", (self.layout.variable_count,)), start + self.layout.fixed_size),
        }
        self.sources: list[tuple[str, int]] = []
        for slot in self.slots:
            name, place = "", 0
            if slot.dtype.name == "embedding":
                name = f"e{slot.bit}"
                fields[name] = (("<f4", (slot.dtype.dim or 0,)), start + (slot.offset or 0))
            elif slot.offset is not None:
                form = slot.dtype.numpy
                assert form is not None
                alike = [
                    s.offset or 0 for s in self.layout.slots if s.offset is not None and s.dtype.width == form.itemsize
                ]
                first = min(alike)
                name, place = f"m{form.str}", (slot.offset - first) // form.itemsize
                fields[name] = ((form.str, (len(alike),)), start + first)
            self.sources.append((name, place))
        names = list(fields)
        self.table = np.dtype(
            {
                "names": names,
                "formats": [fields[name][0] for name in names],
                "offsets": [fields[name][1] for name in names],
                "itemsize": self.end,
            }
        )
        self._group_columns()

    def _group_columns(self) -> None:
        """Columns of one dtype that lie in one matrix are converted at once."""
        together: dict[tuple[str, DType], list[int]] = {}
        for column, (name, _) in enumerate(self.sources):
            if name:
                together.setdefault((name, self.slots[column].dtype), []).append(column)
        self.groups: list[tuple[str, DType, list[int], list[int] | None]] = []
        for (name, dtype), columns in together.items():
            places = [self.sources[column][1] for column in columns]
            whole = dtype.name == "embedding" or places == list(range(self.table[name].shape[0]))
            self.groups.append((name, dtype, columns, None if whole else places))


@lru_cache(maxsize=512)
def row_decoder(layout: RowLayout, names: tuple[str, ...]) -> RowDecoder:
    """The decoder of a layout for some features, made once."""
    return RowDecoder(layout, names)


def _verified(row: bytes | None, key: bytes | None) -> bytes | None:
    """The row under a digest, without the key it carries; None where that is another key of the same digest."""
    if row is None or key is None:
        return row
    carried = long_key(row)
    if carried is None:
        # it cannot be told whose row this is: refused like one that carries a key out of place, unless it has no values
        return row if not is_row(row) or row[1] & EMPTIED else row[:1] + bytes((row[1] | KEYED,)) + row[2:]
    return without_key(row) if carried == key else None


class FewRows(DecodedRows):
    """Rows unpacked one by one."""

    def __init__(self, decoder: RowDecoder, rows: Sequence[bytes | None]) -> None:
        super().__init__(decoder, len(rows))
        mark, end, variable, unpack = decoder.mark, decoder.end, decoder.variable, decoder.body.unpack_from
        self._bodies: list[tuple[Any, ...]] = []
        self._times: list[tuple[int, int]] = []
        self._has_nulls = False
        for i, row in enumerate(rows):
            if row is None:
                self.absent.append(i)
                row = decoder.blank
            elif row[:6] != mark or (len(row) < end if variable else len(row) != end):
                problem = decoder.problem(row)
                if problem:
                    self.damaged[i] = problem
                else:
                    self.absent.append(i)
                row = decoder.blank
            body = unpack(row, HEADER_SIZE)
            self._bodies.append(body)
            self._times.append(_TIMES.unpack_from(row, 22))
            if body[0] != decoder.no_nulls:
                self._has_nulls = True
        self._variable = self._decode_variable(rows) if variable else {}
        if not decoder.plain:
            self._check_times()

    def _decode_variable(self, rows: Sequence[bytes | None]) -> dict[int, list[Any]]:
        out: dict[int, list[Any]] = {
            c: [None] * self.size for c, slot in enumerate(self.decoder.slots) if slot.variable is not None
        }
        gone = {*self.absent, *self.damaged}
        for i, row in enumerate(rows):
            if i in gone or row is None:
                continue
            ends = self._bodies[i][self.decoder.first_end :]
            try:
                _check_ends(ends, len(row) - self.decoder.end)
                for c, values in out.items():
                    values[i] = _variable_value(row, self.decoder.end, ends, self.decoder.slots[c], self._bodies[i][0])
            except Damaged as bad:
                self.damaged[i] = str(bad)
        return out

    def _check_times(self) -> None:
        for c, slot in enumerate(self.decoder.slots):
            bounds = _RANGES.get(slot.dtype.name)
            if bounds is not None:
                place = self.decoder.places[c]
                for i, body in enumerate(self._bodies):
                    if not bounds[0] <= body[place] <= bounds[1]:
                        self.damaged.setdefault(i, f"{slot.name} is outside the years 1 to 9999")

    def columns(self) -> list[list[Any]]:
        bodies, out = self._bodies, []
        for c, (slot, place) in enumerate(zip(self.decoder.slots, self.decoder.places, strict=True)):
            if slot.variable is not None:
                column = list(self._variable[c])
            elif slot.dtype.name in _AS_THEY_ARE:
                column = [body[place] for body in bodies]
            else:
                column = self._converted(c, slot)
            if self._has_nulls:
                at, bit = slot.bit // 8, 1 << slot.bit % 8
                for i, body in enumerate(bodies):
                    if body[0][at] & bit:
                        column[i] = None
            out.append(column)
        return out

    def _converted(self, column: int, slot: Slot) -> list[Any]:
        numbers = self.numbers(column)
        if slot.dtype.name in _RANGES:
            numbers = _harmless(numbers, self.damaged)
        return python_values(numbers, slot.dtype)

    def matrix(self, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
        places = [self.decoder.places[column] for column in columns]
        values = [[body[place] for place in places] for body in self._bodies]
        return np.array(values, dtype).reshape(self.size, len(places))

    def numbers(self, column: int) -> NDArray[Any]:
        slot, place = self.decoder.slots[column], self.decoder.places[column]
        if slot.dtype.name == "embedding":
            data = b"".join([body[place] for body in self._bodies])
            return np.frombuffer(data, "<f4").reshape(self.size, slot.dtype.dim or 0)
        return np.array([body[place] for body in self._bodies], slot.dtype.numpy)

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        if not self._has_nulls:
            return None
        bit = self.decoder.slots[column].bit
        mask = np.array([bool(body[0][bit // 8] & 1 << bit % 8) for body in self._bodies], np.bool_)
        return mask if mask.any() else None

    def events(self) -> NDArray[np.int64]:
        return np.array([event - SIGN for event, _ in self._times], np.int64)

    def created(self) -> NDArray[np.int64]:
        return np.array([created - SIGN for _, created in self._times], np.int64)

    def judge(self, known_until: int, expired_before: int | None) -> tuple[list[int], list[int]]:
        limit, oldest = known_until + SIGN, 0 if expired_before is None else expired_before + SIGN
        gone: Any = {*self.absent, *self.damaged} if self.absent or self.damaged else ()
        future, expired = [], []
        for i, (event, created) in enumerate(self._times):
            if event > limit or created > limit:
                future.append(i)
            elif event < oldest and i not in gone:
                expired.append(i)
        return future, expired


class ManyRows(DecodedRows):
    """Rows laid side by side in one buffer and read as a table."""

    def __init__(self, decoder: RowDecoder, rows: Sequence[bytes | None]) -> None:
        super().__init__(decoder, len(rows))
        blocks = self._blocks(rows)
        buffer = b"".join(blocks)
        end, (mark, zeros) = decoder.end, decoder.stripes(self.size)
        if True in [buffer[i::end] != stripe for i, stripe in mark]:
            blocks = [self._checked(i, row, block) for i, (row, block) in enumerate(zip(rows, blocks, strict=True))]
            buffer = b"".join(blocks)
        self._table = np.frombuffer(buffer, decoder.table)
        self._times = self._table["times"].astype(np.uint64)
        self._has_nulls = True in [buffer[i::end] != zeros for i in decoder.bitmap]
        self._variable: dict[int, list[Any]] = {}
        if decoder.variable:
            self._decode_variable(rows)
        if not decoder.plain:
            self._check_times()

    def _blocks(self, rows: Sequence[bytes | None]) -> Sequence[bytes]:
        """The fixed part of each row; a blank one where there is none."""
        decoder, end, found = self.decoder, self.decoder.end, rows
        try:
            sizes = set(map(len, found))  # type: ignore[arg-type]
        except TypeError:
            self.absent = [i for i, row in enumerate(rows) if row is None]
            found = [decoder.blank if row is None else row for row in rows]
            sizes = set(map(len, found))  # type: ignore[arg-type]
        whole: Sequence[bytes] = found  # type: ignore[assignment]
        if decoder.variable:
            return [row[:end] if len(row) >= end else self._refused(i, row) for i, row in enumerate(whole)]
        if sizes == decoder.sizes:
            return whole
        return [row if len(row) == end else self._refused(i, row) for i, row in enumerate(whole)]

    def _checked(self, place: int, row: bytes | None, block: bytes) -> bytes:
        return self._refused(place, row) if row is not None and block[:6] != self.decoder.mark else block

    def _refused(self, place: int, row: bytes) -> bytes:
        problem = self.decoder.problem(row)
        if problem:
            self.damaged[place] = problem
        else:
            self.absent.append(place)
        return self.decoder.blank

    def _decode_variable(self, rows: Sequence[bytes | None]) -> None:
        decoder, end = self.decoder, self.decoder.end
        ends = self._table["ends"]
        gone = {*self.absent, *self.damaged}
        lengths = np.fromiter(
            (end if i in gone else len(row or b"") for i, row in enumerate(rows)), np.int64, self.size
        )
        wrong = ends[:, -1] + end != lengths
        if ends.shape[1] > 1:
            wrong |= (ends[:, 1:] < ends[:, :-1]).any(axis=1)
        for i in np.flatnonzero(wrong).tolist():
            if i not in gone:
                self.damaged[i] = "its variable-width values do not add up"
                gone.add(i)
        sound = [decoder.blank if row is None or i in gone else row for i, row in enumerate(rows)]
        for c, slot in enumerate(decoder.slots):
            if slot.variable is not None:
                self._variable[c] = self._variable_column(sound, ends, slot, gone)

    def _variable_column(self, rows: Sequence[bytes], ends: NDArray[Any], slot: Slot, gone: Iterable[int]) -> list[Any]:
        v, base = slot.variable or 0, self.decoder.end
        stops = ends[:, v].astype(np.int64) + base
        starts = ends[:, v - 1].astype(np.int64) + base if v else np.full(self.size, base)
        if gone:
            nothing = list(gone)
            starts[nothing] = stops[nothing] = base
        pieces = [row[a:b] for row, a, b in zip(rows, starts.tolist(), stops.tolist(), strict=True)]
        decode, empty = variable_decoder(slot.dtype), slot.dtype.name == "array"
        try:
            if empty:
                return [decode(piece) if piece else None for piece in pieces]
            return [piece.decode() for piece in pieces] if slot.dtype.name == "string" else pieces
        except (Damaged, UnicodeDecodeError):
            return [self._or_damaged(i, piece, decode, empty) for i, piece in enumerate(pieces)]

    def _or_damaged(self, place: int, piece: bytes, decode: Callable[[bytes], Any], empty: bool) -> Any:
        try:
            return decode(piece) if piece or not empty else None
        except Damaged as bad:
            self.damaged.setdefault(place, str(bad))
            return None

    def _check_times(self) -> None:
        for c, slot in enumerate(self.decoder.slots):
            bounds = _RANGES.get(slot.dtype.name)
            if bounds is not None:
                numbers = self.numbers(c)
                for i in np.flatnonzero((numbers < bounds[0]) | (numbers > bounds[1])).tolist():
                    self.damaged.setdefault(i, f"{slot.name} is outside the years 1 to 9999")

    def columns(self) -> list[list[Any]]:
        out: list[list[Any]] = [[]] * len(self.decoder.slots)
        for name, dtype, columns, places in self.decoder.groups:
            for c, values in zip(columns, self._group(name, dtype, places), strict=True):
                out[c] = values
        for c, values in self._variable.items():
            out[c] = list(values)
        if self._has_nulls:
            for c, column in enumerate(out):
                nulls = self.nulls(c)
                if nulls is not None:
                    for i in np.flatnonzero(nulls).tolist():
                        column[i] = None
        return out

    def _group(self, name: str, dtype: DType, places: list[int] | None) -> list[list[Any]]:
        """The values of columns that lie in one matrix and have one dtype."""
        matrix = self._table[name]
        if dtype.name == "embedding":
            return [python_values(matrix, dtype)]
        turned = matrix.T if places is None else matrix.T[places]
        if dtype.name in _RANGES:
            return [python_values(_harmless(row, self.damaged), dtype) for row in turned]
        return python_values(turned, dtype)

    def matrix(self, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
        sources = [self.decoder.sources[column] for column in columns]
        if len({name for name, _ in sources}) == 1:
            block = self._table[sources[0][0]]
            places = [place for _, place in sources]
            return (block if places == list(range(block.shape[1])) else block[:, places]).astype(dtype)
        out = np.empty((self.size, len(columns)), dtype)
        for place, column in enumerate(columns):
            out[:, place] = self.numbers(column)
        return out

    def numbers(self, column: int) -> NDArray[Any]:
        name, place = self.decoder.sources[column]
        matrix: NDArray[Any] = self._table[name]
        return matrix if name[0] == "e" else matrix[:, place]

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        if not self._has_nulls:
            return None
        bit = self.decoder.slots[column].bit
        mask: NDArray[np.bool_] = (self._table["bits"][:, bit // 8] & np.uint8(1 << bit % 8)) != 0
        return mask if mask.any() else None

    def events(self) -> NDArray[np.int64]:
        return flip_sign(self._times[:, 0].astype(np.int64)).view(np.int64)

    def created(self) -> NDArray[np.int64]:
        return flip_sign(self._times[:, 1].astype(np.int64)).view(np.int64)

    def judge(self, known_until: int, expired_before: int | None) -> tuple[list[int], list[int]]:
        times, limit = self._times, known_until + SIGN
        future: list[int] = []
        if int(times.max()) > limit:
            future = np.flatnonzero((times > np.uint64(limit)).any(axis=1)).tolist()
        if expired_before is None:
            return future, []
        old, oldest = times[:, 0], max(0, expired_before + SIGN)
        if not self.absent and not self.damaged and int(old.min()) >= oldest:
            return future, []
        gone = {*self.absent, *self.damaged, *future}
        return future, [i for i in np.flatnonzero(old < np.uint64(oldest)).tolist() if i not in gone]


def _harmless(numbers: NDArray[Any], places: Mapping[int, str]) -> NDArray[Any]:
    """The numbers with those of damaged rows at 0."""
    if not places:
        return numbers
    out = numbers.copy()
    out[list(places)] = 0
    return out


def _check_ends(ends: Sequence[int], size: int) -> None:
    if ends[-1] != size or any(a > b for a, b in pairwise(ends)):
        raise Damaged("its variable-width values do not add up")


def _variable_value(row: bytes, base: int, ends: Sequence[int], slot: Slot, bits: bytes) -> Any:
    v = slot.variable or 0
    if bits[slot.bit // 8] & 1 << slot.bit % 8:
        return None
    start = ends[v - 1] if v else 0
    return variable_decoder(slot.dtype)(row[base + start : base + ends[v]])
