"""A few rows, unpacked one by one by struct."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.online.codec import HEADER_SIZE, SIGN
from headwater.online.decoded import DecodedRows, harmless
from headwater.online.row_format import AS_THEY_ARE, TIME_RANGES, RowFormat
from headwater.online.values import Damaged, python_values, variable_decoder
from headwater.planning.layout import Slot

_TIMES = struct.Struct(">QQ")


class FewRows(DecodedRows):
    """Rows unpacked one by one."""

    def __init__(self, form: RowFormat, rows: Sequence[bytes | None]) -> None:
        super().__init__(form, len(rows))
        mark, end, variable, unpack = form.mark, form.end, form.variable, form.body.unpack_from
        self._bodies: list[tuple[Any, ...]] = []
        self._times: list[tuple[int, int]] = []
        self._has_nulls = False
        for i, row in enumerate(rows):
            if row is None:
                self.absent.append(i)
                row = form.blank
            elif row[:6] != mark or (len(row) < end if variable else len(row) != end):
                problem = form.problem(row)
                if problem:
                    self.damaged[i] = problem
                else:
                    self.absent.append(i)
                row = form.blank
            body = unpack(row, HEADER_SIZE)
            self._bodies.append(body)
            self._times.append(_TIMES.unpack_from(row, 22))
            if body[0] != form.no_nulls:
                self._has_nulls = True
        self._variable = self._decode_variable(rows) if variable else {}
        if not form.plain:
            self._check_times()

    def _decode_variable(self, rows: Sequence[bytes | None]) -> dict[int, list[Any]]:
        out: dict[int, list[Any]] = {
            c: [None] * self.size for c, slot in enumerate(self.form.slots) if slot.variable is not None
        }
        gone = {*self.absent, *self.damaged}
        for i, row in enumerate(rows):
            if i in gone or row is None:
                continue
            ends = self._bodies[i][self.form.first_end :]
            try:
                _check_ends(ends, len(row) - self.form.end)
                for c, values in out.items():
                    values[i] = _variable_value(row, self.form.end, ends, self.form.slots[c], self._bodies[i][0])
            except Damaged as bad:
                self.damaged[i] = str(bad)
        return out

    def _check_times(self) -> None:
        for c, slot in enumerate(self.form.slots):
            bounds = TIME_RANGES.get(slot.dtype.name)
            if bounds is not None:
                place = self.form.places[c]
                for i, body in enumerate(self._bodies):
                    if not bounds[0] <= body[place] <= bounds[1]:
                        self.damaged.setdefault(i, f"{slot.name} is outside the years 1 to 9999")

    def columns(self) -> list[list[Any]]:
        bodies, out = self._bodies, []
        if self.form.plain and not self._has_nulls and bodies:
            by_place = [*zip(*bodies, strict=True)]
            return [list(by_place[place]) for place in self.form.places]
        for c, (slot, place) in enumerate(zip(self.form.slots, self.form.places, strict=True)):
            if slot.variable is not None:
                column = list(self._variable[c])
            elif slot.dtype.name in AS_THEY_ARE:
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
        if slot.dtype.name in TIME_RANGES:
            numbers = harmless(numbers, self.damaged)
        return python_values(numbers, slot.dtype)

    def matrix(self, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
        places = [self.form.places[column] for column in columns]
        values = [[body[place] for place in places] for body in self._bodies]
        return np.array(values, dtype).reshape(self.size, len(places))

    def numbers(self, column: int) -> NDArray[Any]:
        slot, place = self.form.slots[column], self.form.places[column]
        if slot.dtype.name == "embedding":
            data = b"".join([body[place] for body in self._bodies])
            return np.frombuffer(data, "<f4").reshape(self.size, slot.dtype.dim or 0)
        return np.array([body[place] for body in self._bodies], slot.dtype.numpy)

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        if not self._has_nulls:
            return None
        bit = self.form.slots[column].bit
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


def _check_ends(ends: Sequence[int], size: int) -> None:
    if ends[-1] != size or any(a > b for a, b in pairwise(ends)):
        raise Damaged("its variable-width values do not add up")


def _variable_value(row: bytes, base: int, ends: Sequence[int], slot: Slot, bits: bytes) -> Any:
    v = slot.variable or 0
    if bits[slot.bit // 8] & 1 << slot.bit % 8:
        return None
    start = ends[v - 1] if v else 0
    return variable_decoder(slot.dtype)(row[base + start : base + ends[v]])
