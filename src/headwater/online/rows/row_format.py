"""How the rows of a layout lie, worked out once for the features that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from headwater.definitions.names import VALID_TO
from headwater.online.rows.codec import (
    DELETED,
    EMPTIED,
    HEADER_SIZE,
    KEYED,
    OLD_VERSION_BYTE,
    VERSION_BYTE,
    fixed_end,
    is_newer,
    layout_mark,
)
from headwater.online.rows.few_rows import FewRows
from headwater.planning.layout import RowLayout
from headwater.types import DType

TIME_RANGES = {"timestamp": (-62135596800_000_000, 253402300799_999_999), "date": (-719162, 2932896)}
"""What datetime and date can hold: the years 1 to 9999."""


class RowFormat:
    """How the rows of a layout are read for some of its features.

    Attributes:
        slots: of the features asked for, in their order.
        by_bit: bit of the null bitmap → place among the features asked for.
        mark: what a sound row begins with.
        end: bytes of a row before its variable-width values.
        variable: whether it has such.
        blank: what stands in for a row that is not there.
        no_nulls: the null bitmap of a row without NULLs.
        table: rows side by side as NumPy records.
        times: place among the features asked for → what it can hold, of those that are times.
        ends: of rows that end, the matrix that holds when they do and its column there; None: rows do not.
        few: how a few rows are read; None where they vary in width.
    """

    def __init__(self, layout: RowLayout, names: Sequence[str]) -> None:
        self.layout = layout
        self.slots = tuple(layout.by_name[name] for name in names)
        self.by_bit = {slot.bit: column for column, slot in enumerate(self.slots)}
        self.mark = layout_mark(layout)
        self.end = fixed_end(layout)
        self.variable = layout.variable_count > 0
        self.blank = self.mark + bytes(self.end - 6)
        self.no_nulls = bytes(layout.bitmap_size)
        self.times = {c: TIME_RANGES[s.dtype.name] for c, s in enumerate(self.slots) if s.dtype.name in TIME_RANGES}
        self._blocks: dict[tuple[int, ...], tuple[str, slice | list[int]] | None] = {}
        self.ends: tuple[str, int] | None = None
        self._table_dtype()
        self.few = None if self.variable else FewRows(layout, self.slots, self.mark, self.end)

    def __reduce__(self) -> tuple[Any, ...]:
        return row_format, (self.layout, tuple(slot.name for slot in self.slots))

    def block(self, columns: tuple[int, ...]) -> tuple[str, slice | list[int]] | None:
        """The matrix that numeric columns lie in, with their places there; None where they lie in several."""
        if columns not in self._blocks:
            names = {self.sources[c][0] for c in columns}
            places = _span([self.sources[c][1] for c in columns])
            self._blocks[columns] = (names.pop(), places) if len(names) == 1 else None
        return self._blocks[columns]

    def problem(self, row: bytes) -> str:
        """Why bytes are not a row of this layout; empty where they are one whose values are gone."""
        if not row:
            return "no bytes"
        if row[0] == OLD_VERSION_BYTE or (row[0] == VERSION_BYTE and len(row) >= HEADER_SIZE and row[1] & DELETED):
            # those that are whole were turned into rows without a tombstone before
            return f"cut short ({len(row)} bytes)"
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
        return f"of {len(row)} bytes where {self.end}{' or more' if self.variable else ''} are expected"

    def _table_dtype(self) -> None:
        """A record of the parts read at once; slots of one width stand side by side and are read as one matrix."""
        start = HEADER_SIZE + self.layout.bitmap_size
        fields: dict[str, tuple[Any, int]] = {
            "mark": ("V6", 0),
            "times": ((">u8", (2,)), 12),
            "bits": (("u1", (self.layout.bitmap_size,)), HEADER_SIZE),
            "ends": (("<u4", (self.layout.variable_count,)), start + self.layout.fixed_size),
        }
        self.sources: list[tuple[str, int]] = []
        by_width: dict[int | None, list[int]] = {}
        for s in self.layout.slots:
            if s.offset is not None:
                by_width.setdefault(s.dtype.width, []).append(s.offset)
        firsts = {width: min(offsets) for width, offsets in by_width.items()}
        end = self.layout.by_name.get(VALID_TO)
        for slot in self.slots if end is None else (*self.slots, end):
            name, place = "", 0
            if slot.dtype.name == "embedding":
                name = f"e{slot.bit}"
                fields[name] = (("<f4", (slot.dtype.dim or 0,)), start + (slot.offset or 0))
            elif slot.offset is not None:
                form = slot.dtype.numpy
                assert form is not None
                first = firsts[form.itemsize]
                name, place = f"m{form.str}", (slot.offset - first) // form.itemsize
                fields[name] = ((form.str, (len(by_width[form.itemsize]),)), start + first)
            self.sources.append((name, place))
        if end is not None:
            self.ends = self.sources.pop()
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
        self.groups: list[tuple[str, DType, list[int], slice | list[int]]] = []
        for (name, dtype), columns in together.items():
            places = [self.sources[column][1] for column in columns]
            self.groups.append((name, dtype, columns, _span(places)))


@lru_cache(maxsize=512)
def row_format(layout: RowLayout, names: tuple[str, ...]) -> RowFormat:
    """The format of a layout's rows for some features, worked out once."""
    return RowFormat(layout, names)


def _span(places: list[int]) -> slice | list[int]:
    """Places that follow one another as a slice, which NumPy takes without a copy."""
    first = places[0]
    return slice(first, first + len(places)) if places == list(range(first, first + len(places))) else places
