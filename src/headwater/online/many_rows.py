"""Many rows, laid side by side in one buffer and read as a table by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.online.codec import SIGN, flip_sign
from headwater.online.decoded import DecodedRows, harmless
from headwater.online.row_format import TIME_RANGES, RowFormat
from headwater.online.values import Damaged, python_values, variable_decoder
from headwater.planning.layout import Slot
from headwater.types import DType


class ManyRows(DecodedRows):
    """Rows laid side by side in one buffer and read as a table."""

    def __init__(self, form: RowFormat, rows: Sequence[bytes | None]) -> None:
        super().__init__(form, len(rows))
        blocks = self._blocks(rows)
        buffer = b"".join(blocks)
        end, (mark, zeros) = form.end, form.stripes(self.size)
        if True in [buffer[i::end] != stripe for i, stripe in mark]:
            blocks = [self._checked(i, row, block) for i, (row, block) in enumerate(zip(rows, blocks, strict=True))]
            buffer = b"".join(blocks)
        self._table = np.frombuffer(buffer, form.table)
        self._times = self._table["times"].astype(np.uint64)
        self._has_nulls = True in [buffer[i::end] != zeros for i in form.bitmap]
        self._variable: dict[int, list[Any]] = {}
        if form.variable:
            self._decode_variable(rows)
        if not form.plain:
            self._check_times()

    def _blocks(self, rows: Sequence[bytes | None]) -> Sequence[bytes]:
        """The fixed part of each row; a blank one where there is none."""
        form, end, found = self.form, self.form.end, rows
        try:
            sizes = set(map(len, found))  # type: ignore[arg-type]
        except TypeError:
            self.absent = [i for i, row in enumerate(rows) if row is None]
            found = [form.blank if row is None else row for row in rows]
            sizes = set(map(len, found))  # type: ignore[arg-type]
        whole: Sequence[bytes] = found  # type: ignore[assignment]
        if form.variable:
            return [row[:end] if len(row) >= end else self._refused(i, row) for i, row in enumerate(whole)]
        if sizes == form.sizes:
            return whole
        return [row if len(row) == end else self._refused(i, row) for i, row in enumerate(whole)]

    def _checked(self, place: int, row: bytes | None, block: bytes) -> bytes:
        return self._refused(place, row) if row is not None and block[:6] != self.form.mark else block

    def _refused(self, place: int, row: bytes) -> bytes:
        problem = self.form.problem(row)
        if problem:
            self.damaged[place] = problem
        else:
            self.absent.append(place)
        return self.form.blank

    def _decode_variable(self, rows: Sequence[bytes | None]) -> None:
        form, end = self.form, self.form.end
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
        sound = [form.blank if row is None or i in gone else row for i, row in enumerate(rows)]
        for c, slot in enumerate(form.slots):
            if slot.variable is not None:
                self._variable[c] = self._variable_column(sound, ends, slot, gone)

    def _variable_column(
        self, rows: Sequence[bytes], ends: NDArray[Any], slot: Slot, gone: Collection[int]
    ) -> list[Any]:
        v, base = slot.variable or 0, self.form.end
        stops = ends[:, v].astype(np.int64) + base
        starts = ends[:, v - 1].astype(np.int64) + base if v else np.full(self.size, base)
        if gone:
            nothing = list(gone)
            starts[nothing] = stops[nothing] = base
        pieces = [row[a:b] for row, a, b in zip(rows, starts.tolist(), stops.tolist(), strict=True)]
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

    def _check_times(self) -> None:
        for c, slot in enumerate(self.form.slots):
            bounds = TIME_RANGES.get(slot.dtype.name)
            if bounds is not None:
                numbers = self.numbers(c)
                for i in np.flatnonzero((numbers < bounds[0]) | (numbers > bounds[1])).tolist():
                    self.damaged.setdefault(i, f"{slot.name} is outside the years 1 to 9999")

    def columns(self) -> list[list[Any]]:
        out: list[list[Any]] = [[]] * len(self.form.slots)
        for name, dtype, columns, places in self.form.groups:
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
        if dtype.name in TIME_RANGES:
            return [python_values(harmless(row, self.damaged), dtype) for row in turned]
        return python_values(turned, dtype)

    def matrix(self, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
        sources = [self.form.sources[column] for column in columns]
        if len({name for name, _ in sources}) == 1:
            block = self._table[sources[0][0]]
            places = [place for _, place in sources]
            return (block if places == list(range(block.shape[1])) else block[:, places]).astype(dtype)
        out = np.empty((self.size, len(columns)), dtype)
        for place, column in enumerate(columns):
            out[:, place] = self.numbers(column)
        return out

    def numbers(self, column: int) -> NDArray[Any]:
        name, place = self.form.sources[column]
        matrix: NDArray[Any] = self._table[name]
        return matrix if name[0] == "e" else matrix[:, place]

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        if not self._has_nulls:
            return None
        bit = self.form.slots[column].bit
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
