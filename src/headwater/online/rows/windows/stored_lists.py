"""The lists of a row as they are stored, each decoded where it is asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.online.rows.windows.counts_of_many import CountsOfMany
from headwater.online.rows.windows.extremes_of_many import ExtremesOfMany
from headwater.online.rows.windows.list_bytes import LIST_HEAD, USUAL, pack_list, unpack_list, usual_size
from headwater.online.rows.windows.lists import RowList
from headwater.online.rows.windows.packing import Bytes
from headwater.online.rows.windows.selectable import Hops, hops_of
from headwater.online.rows.windows.state_bytes import narrow_bytes, wide_columns
from headwater.online.rows.windows.stored_counts import StoredCounts
from headwater.online.rows.windows.stored_extremes import StoredExtremes
from headwater.planning.windows.kinds import MAX, MIN
from headwater.planning.windows.layout import ListLayout

if TYPE_CHECKING:
    from headwater.planning.windows.events import WindowEvent
    from headwater.planning.windows.layout import WindowLayout


class ListPlan:
    """How one list is changed as it is stored.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        group: which of the ends of `Plans.hops` are its own.

    Attributes:
        one: changes the list of one row; None: it has to be decoded.
        many: the same of many rows.
        size: bytes of a state; 0: it has to be decoded.
    """

    __slots__ = ("column", "group", "layout", "many", "one", "size", "where")

    def __init__(self, layout: ListLayout, step: int, group: int) -> None:
        self.layout, self.column, self.where, self.group = layout, layout.column, layout.where, group
        self.one: StoredCounts | StoredExtremes | None = None
        self.many: CountsOfMany | ExtremesOfMany | None = None
        self.size = 0
        if layout.columns:
            extreme = layout.kind in (MIN, MAX)
            self.one = (StoredExtremes if extreme else StoredCounts)(layout, step)
            self.many = (ExtremesOfMany if extreme else CountsOfMany)(layout, step)
            self.size = 8 * wide_columns(layout) + narrow_bytes(layout)

    @property
    def rule(self) -> tuple[str, str]:
        """Equal for lists that can be changed together."""
        return ("", "") if self.many is None else self.many.rule

    def is_usual(self, data: bytes) -> bool:
        """Whether a stored list is whole and can be changed as it is stored."""
        if len(data) < LIST_HEAD.size or not self.size:
            return False
        flags, count = LIST_HEAD.unpack_from(data)
        return not flags & ~USUAL and bool(usual_size(self.size, count, flags > 0) <= len(data))

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
        numbers, others: the indices of the lists that are changed as they are stored, and of those that never are.
        groups: the former by the ends of their windows, those of one rule side by side.
        columns: a list of numbers for each column and condition.
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
        self.others = frozenset(index for index, each in enumerate(layout.lists) if not each.columns)
        self.numbers = tuple(index for index, each in enumerate(layout.lists) if each.columns)
        self.groups: dict[int, list[int]] = {}
        # those of one rule side by side
        for index in sorted(self.numbers, key=lambda index: (self.lists[index].rule, index)):
            self.groups.setdefault(self.lists[index].group, []).append(index)
        self.columns = {
            (self.lists[index].column, self.lists[index].where): self.lists[index] for index in self.numbers
        }
        self.hops = tuple(groups)
        self.fingerprint = layout.fingerprint
        self.ends = struct.Struct(f"<{len(self.lists)}I")

    def boundary_of(self, event: int) -> int:
        """The boundary of an event, in steps, as `rule.boundary_of` has it."""
        return max([event // hop * steps for hop, steps in self.boundary_hops], default=0)

    def joined(self, parts: Sequence[bytes]) -> tuple[bytes, bytes]:
        """The lists one behind the other, and where they end."""
        return b"".join(parts), self.ends.pack(*accumulate(map(len, parts)))

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
        data: bytes that have all lists; meaningless once `parts` are there.
        start: where the first list begins in them.
        ends: where each list ends from there on, as it is stored.
        parts: the bytes of each list, where they were looked at one by one.
        decoded: those that were decoded, by index; their bytes may be others than they are stored as.
    """

    plans: Plans
    data: bytes
    start: int
    ends: bytes
    parts: list[bytes] | None = None
    decoded: dict[int, RowList] | None = None

    @staticmethod
    def of_parts(plans: Plans, parts: list[bytes]) -> StoredLists:
        """Lists of which each has its own bytes."""
        return StoredLists(plans, b"", 0, b"", parts)

    def __len__(self) -> int:
        return len(self.plans.lists)

    def __getitem__(self, index: int) -> RowList:
        if self.decoded is None:
            self.decoded = {}
        made = self.decoded.get(index)
        if made is None:
            data = Bytes(self.part(index))
            made = self.decoded[index] = unpack_list(self.plans.layout.lists[index], data, self.plans.step)
        return made

    def __iter__(self) -> Iterator[RowList]:
        return map(self.__getitem__, range(len(self)))

    def check(self) -> None:
        """Decode what cannot be changed as it is stored.

        Raises:
            Damaged: bytes that are not such lists.
        """
        for index, (plan, part) in enumerate(zip(self.plans.lists, self.split(), strict=True)):
            if not plan.is_usual(part):
                self[index]

    @property
    def is_plain(self) -> bool:
        """Whether all lists of numbers can be changed as they are stored."""
        return not self.decoded or self.decoded.keys() <= self.plans.others

    def decode_others(self) -> None:
        """Decode the lists that never are changed as they are stored.

        Raises:
            Damaged: bytes that are not such lists.
        """
        for index in self.plans.others:
            self[index]

    def part(self, index: int) -> bytes:
        """The bytes of a list; of one that was decoded any."""
        if self.parts is not None:
            return self.parts[index]
        ends = self.plans.ends.unpack(self.ends)
        return self.data[self.start + (ends[index - 1] if index else 0) : self.start + ends[index]]

    def whole(self) -> bytes:
        """Bytes that have all lists, from `start` on; of those that were decoded any."""
        if self.parts is not None:
            self.put(*self.plans.joined(self.parts))
        return self.data

    def put(self, data: bytes, ends: bytes) -> None:
        """Take other bytes of all lists; those that were decoded stay so."""
        self.data, self.start, self.ends, self.parts = data, 0, ends, None

    def split(self) -> list[bytes]:
        """The bytes of each list, to be changed one by one; of those that were decoded any."""
        if self.parts is None:
            data, at, start = self.data, self.start, self.start
            self.parts = parts = []
            for end in self.plans.ends.unpack(self.ends):
                parts.append(data[at : start + end])
                at = start + end
        return self.parts

    def copy(self) -> StoredLists:
        """Another of the same content."""
        decoded = {index: each.copy() for index, each in self.decoded.items()} if self.decoded else None
        parts = None if self.parts is None else self.parts.copy()
        return StoredLists(self.plans, self.data, self.start, self.ends, parts, decoded)

    def packed(self) -> list[bytes]:
        """The bytes of each list as they are to be stored."""
        parts = self.split()
        if self.decoded:
            layout = self.plans.layout
            for index, each in self.decoded.items():
                parts[index] = pack_list(layout.lists[index], each, layout.step)
        return parts

    def joined(self) -> tuple[bytes, bytes]:
        """The lists, and where they end, as they are to be stored."""
        if self.parts is None and not self.decoded:
            size = self.plans.ends.unpack(self.ends)[-1]
            return self.data[self.start : self.start + size], self.ends
        return self.plans.joined(self.packed())
