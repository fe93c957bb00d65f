"""One list of a row as it is stored; `codec` says what its bytes are."""

from __future__ import annotations

import struct
from operator import lt
from typing import Any

import numpy as np

from headwater.clock import MAX_MICROS
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.lists import RowList
from headwater.online.rows.windows.packing import Bytes
from headwater.online.rows.windows.state_bytes import pack_states, unpack_states, wide_size
from headwater.planning.windows.layout import WHOLE, ListLayout

WIDE_BOUNDARIES, LIFETIME, LEFT_OUT, LIFETIME_LEFT_OUT = 4, 8, 16, 32
"""Flags of a list, beside those of `state_bytes`."""
LIST_HEAD = struct.Struct("<BxHxxxx")
"""Flags and the number of records."""
TIME = struct.Struct("<q")
PADDING = (b"", b"\0\0\0\0")
"""Behind so many numbers of 4 bytes more than pairs."""
USUAL = LIFETIME | 0xFFFF << 16
"""The bits that the head of a usual list may have: a lifetime, and how many records there are."""
MOST_RECORDS, MOST_NARROW = 0xFFFF, 0xFFFFFFFF
"""How many records a list has; the greatest distance of a boundary, or count, in 4 bytes."""


def aligned(size: int) -> bytes:
    """The zeros that bring bytes to a multiple of 8."""
    return bytes(-size % 8)


def usual_size(state: Any, count: Any, lifetime: Any) -> Any:
    """Bytes of a usual list; its padding may follow.

    Args:
        state: bytes of a state; a number, or an array for many lists, as the others.
        count: how many records there are.
        lifetime: whether there is a lifetime.
    """
    return LIST_HEAD.size + TIME.size * (count > 0) + (state + 4) * count + state * lifetime


def pack_list(layout: ListLayout, given: RowList, step: int) -> bytes:
    """One list as it is stored."""
    lifetime = given.lifetime is not None
    states = [*given.states, given.lifetime] if lifetime else given.states
    flags, columns, rest = pack_states(layout, states, step) if states else (0, b"", b"")
    flags |= LIFETIME if lifetime else 0
    flags |= LIFETIME_LEFT_OUT if given.lifetime_left_out else 0
    left_out = first = steps = b""
    if given.left_out is not None:
        flags |= LEFT_OUT
        left_out = TIME.pack(given.left_out)
    if given.boundaries:
        first = TIME.pack(given.boundaries[0])
        distances = [(boundary - given.boundaries[0]) // step for boundary in given.boundaries]
        wide = distances[-1] > MOST_NARROW
        flags |= WIDE_BOUNDARIES if wide else 0
        steps = np.array(distances, "<u8" if wide else "<u4").tobytes()
    data = b"".join((LIST_HEAD.pack(flags, len(given.states)), left_out, first, columns, steps, rest))
    return data + aligned(len(data))


def unpack_list(layout: ListLayout, data: Bytes, step: int) -> RowList:
    """The list that `pack_list` wrote.

    Raises:
        Damaged: bytes that are not such a list.
    """
    flags, count = LIST_HEAD.unpack(data.take(LIST_HEAD.size))
    made = RowList(lifetime_left_out=bool(flags & LIFETIME_LEFT_OUT))
    if flags & LEFT_OUT:
        (made.left_out,) = TIME.unpack(data.take(8))
    lifetime = bool(flags & LIFETIME)
    bounded = count if layout.shape != WHOLE else 0
    first = TIME.unpack(data.take(8))[0] if bounded else 0
    columns = Bytes(data.take(wide_size(layout, flags) * (count + lifetime)))
    width, form = (8, "<u8") if flags & WIDE_BOUNDARIES else (4, "<u4")
    distances = np.frombuffer(data.take(width * bounded), form).tolist()
    made.boundaries = [first + number * step for number in distances]
    if bounded and (distances[0] or not all(map(lt, distances, distances[1:])) or made.boundaries[-1] > MAX_MICROS):
        raise Damaged("a list of a window row whose boundaries do not rise")
    if count + lifetime:
        made.states = unpack_states(layout, flags, count + lifetime, columns, data, step)
        made.lifetime = made.states.pop() if lifetime else None
    return made
