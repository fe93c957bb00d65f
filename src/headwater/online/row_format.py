"""How the rows of a layout lie, worked out once for the features that are asked for."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater.online.codec import EMPTIED, HEADER_SIZE, KEYED, VERSION_BYTE, fixed_end, is_newer, layout_mark
from headwater.planning.layout import RowLayout
from headwater.types import DType

AS_THEY_ARE = ("float64", "int64", "int32")
"""Dtypes whose stored numbers are their Python values."""

TIME_RANGES = {"timestamp": (-62135596800_000_000, 253402300799_999_999), "date": (-719162, 2932896)}
"""What datetime and date can hold: the years 1 to 9999."""

_CODES = {"int32": "i", "int64": "q", "float32": "f", "float64": "d", "bool": "B", "timestamp": "q", "date": "i"}


class RowFormat:
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
        self.plain = all(slot.dtype.name in AS_THEY_ARE for slot in self.slots)
        self._body_struct()
        self._table_dtype()

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
