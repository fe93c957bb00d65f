"""The lists of a row as they are stored, each decoded where it is asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.online.rows.windows.counts_of_many import CountsOfMany
from headwater.online.rows.windows.extremes_of_many import ExtremesOfMany
from headwater.online.rows.windows.list_bytes import LIFETIME, LIST_HEAD, pack_list, unpack_list
from headwater.online.rows.windows.lists import RowList
from headwater.online.rows.windows.packing import Bytes
from headwater.online.rows.windows.selectable import Hops, hops_of
from headwater.online.rows.windows.stored_counts import StoredCounts
from headwater.online.rows.windows.stored_extremes import StoredExtremes
from headwater.planning.windows.kinds import MAX, MIN
from headwater.planning.windows.layout import ListLayout

if TYPE_CHECKING:
    from headwater.planning.windows.events import WindowEvent
    from headwater.planning.windows.layout import WindowLayout


_USUAL = frozenset({0, LIFETIME})
"""Flags of a list that can be changed as it is stored."""


class ListPlan:
    """How one list is changed as it is stored.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        group: which of the ends of `Plans.hops` are its own.

    Attributes:
        changed: changes the list of one row; None: it has to be decoded.
        many: the same of many rows.
    """

    __slots__ = ("_size", "changed", "column", "group", "layout", "many", "where")

    def __init__(self, layout: ListLayout, step: int, group: int) -> None:
        self.layout, self.column, self.where, self.group = layout, layout.column, layout.where, group
        self.changed = None
        self.many: CountsOfMany | ExtremesOfMany | None = None
        self._size = 0
        if layout.columns:
            extreme = layout.kind in (MIN, MAX)
            one: StoredCounts | StoredExtremes = (StoredExtremes if extreme else StoredCounts)(layout, step)
            many: CountsOfMany | ExtremesOfMany = (ExtremesOfMany if extreme else CountsOfMany)(layout, step)
            self.changed, self.many = one.changed, many
            self._size = one.size

    def is_usual(self, data: bytes) -> bool:
        """Whether a stored list is whole and can be changed as it is stored."""
        if len(data) < LIST_HEAD.size or not self._size:
            return False
        flags, count = LIST_HEAD.unpack_from(data)
        size: int = (16 if count else 8) + (self._size + 4) * count + (self._size if flags else 0)
        return size <= len(data) and flags in _USUAL

    def value_of(self, event: WindowEvent) -> Any:
        """The value of an event; None: the list does not have it."""
        if self.where is not None and self.where not in event.holds:
            return None
        return 1 if self.column is None else event.values[self.column]


class Plans:
    """How the lists of a layout are changed as they are stored, made once for a layout.

    Attributes:
        layout: the layout.
        fingerprint: its own.
        ends: where the lists of a row end.
        hops: of the windows of lists, each once.
        lists: one for each list.
    """

    def __init__(self, layout: WindowLayout) -> None:
        self.layout, self.step = layout, layout.step
        self.boundary_hops = tuple((hop, hop // layout.step) for hop in layout.hops)
        groups: dict[Hops, int] = {}
        self.lists = [
            ListPlan(
                each, layout.step, groups.setdefault(hops_of(each, layout.step) if each.columns else (), len(groups))
            )
            for each in layout.lists
        ]
        self.hops = tuple(groups)
        self.fingerprint = layout.fingerprint
        self.ends = struct.Struct(f"<{len(self.lists)}I")

    def boundary_of(self, event: int) -> int:
        """The boundary of an event, in steps, as `rule.boundary_of` has it."""
        return max([event // hop * steps for hop, steps in self.boundary_hops], default=0)

    @staticmethod
    def of(layout: WindowLayout) -> Plans:
        """Those of a layout."""
        made: Plans | None = layout.__dict__.get("_plans")
        if made is None:
            made = layout.__dict__["_plans"] = Plans(layout)
        return made


class StoredLists(msgspec.Struct, gc=False):
    """The lists of a row as they are stored; one that is asked for is decoded for good.

    Attributes:
        plans: of the layout.
        parts: the bytes of each list.
        decoded: those that were decoded, by index; their bytes may be others than they are stored as.
    """

    plans: Plans
    parts: list[bytes]
    decoded: dict[int, RowList]

    @staticmethod
    def of(plans: Plans, data: bytes, start: int, ends: Sequence[int]) -> StoredLists:
        """The lists of a stored row; those that cannot be changed as they are stored are decoded.

        Args:
            plans: of the row's layout.
            data: the row.
            start: where the first list begins.
            ends: where each ends, from there on.

        Raises:
            Damaged: bytes that are not such lists.
        """
        made = StoredLists(plans, [], {})
        parts, at = made.parts, start
        for plan, end in zip(plans.lists, ends, strict=True):
            end += start
            part = data[at:end]
            parts.append(part)
            at = end
            if not plan.is_usual(part):
                index = len(parts) - 1
                made.decoded[index] = made._unpacked(index)
        return made

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> RowList:
        made = self.decoded.get(index)
        if made is None:
            made = self.decoded[index] = self._unpacked(index)
        return made

    def __iter__(self) -> Iterator[RowList]:
        return map(self.__getitem__, range(len(self.parts)))

    def _unpacked(self, index: int) -> RowList:
        return unpack_list(self.plans.layout.lists[index], Bytes(self.parts[index]), self.plans.step)

    def copy(self) -> StoredLists:
        """Another of the same content."""
        decoded = {index: each.copy() for index, each in self.decoded.items()} if self.decoded else {}
        return StoredLists(self.plans, self.parts.copy(), decoded)

    def packed(self) -> list[bytes]:
        """The bytes of each list."""
        if self.decoded:
            layout = self.plans.layout
            for index, each in self.decoded.items():
                self.parts[index] = pack_list(layout.lists[index], each, layout.step)
        return self.parts
