"""Many stored rows decoded at once: their headers by NumPy, their lists left as they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.codec import WINDOW_HEADER_SIZE
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import (
    DELETED,
    FLAGS,
    IDS,
    LISTED,
    REBUILD,
    VERSION_BYTE,
    decode_rest,
    decode_row,
    lists_start,
)
from headwater.online.rows.windows.list_bytes import USUAL, usual_size
from headwater.online.rows.windows.row import WindowRow
from headwater.online.rows.windows.stored_lists import Plans, StoredLists
from headwater.planning.windows.layout import WindowLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

MANY = 16
"""From this many rows on NumPy decodes them faster than Python one by one."""
AT_ONCE = 256
"""Of so many rows the bytes fit into the processor's caches."""
_TIMES = ("known_through", "newest_event", "newest_known")
_HEADER = np.dtype(
    {
        "names": [*("flags", "upper", "sequence", "fill", "run", "applied_through"), *_TIMES, "ends_at"],
        "formats": ["u1", ">u2", ">u4", *(">u8",) * 6, ">u4"],
        "offsets": [1, 6, 8, 12, 20, 28, 36, 44, 52, 60],
        "itemsize": WINDOW_HEADER_SIZE,
    }
)
_WORDS = np.arange(WINDOW_HEADER_SIZE // 8)
_REST = DELETED | LISTED | IDS
_SIGN = np.uint64(1 << 63)
assert _HEADER.itemsize == WINDOW_HEADER_SIZE


def decode_rows(layout: WindowLayout, stored: Sequence[bytes]) -> list[WindowRow | Damaged]:
    """Each row as `decode_row` has it, or what that raises.

    Args:
        layout: the version's.
        stored: the rows.
    """
    rows: list[WindowRow | Damaged] = []
    if len(stored) >= MANY:
        for start in range(0, len(stored), AT_ONCE):
            rows += _decoded(layout, stored[start : start + AT_ONCE])
        return rows
    return [_one(layout, data) for data in stored]


def _one(layout: WindowLayout, data: bytes) -> WindowRow | Damaged:
    try:
        return decode_row(layout, data)
    except Damaged as bad:
        return bad


def _decoded(layout: WindowLayout, stored: Sequence[bytes]) -> Iterable[WindowRow | Damaged]:
    plans = Plans.of(layout)
    whole = np.fromiter(map(len, stored), np.int64, len(stored))
    if (whole & 7).any() or whole.min() < WINDOW_HEADER_SIZE:
        return [_one(layout, data) for data in stored]
    words = np.frombuffer(b"".join(stored), np.int64)
    base = (whole.cumsum() - whole) >> 3
    heads = words[base[:, None] + _WORDS]
    table: NDArray[Any] = heads.view(_HEADER)[:, 0]
    ends_at = table["ends_at"].astype(np.int64)
    starts = lists_start(ends_at, len(plans.lists))
    lists = words.view(np.uint32).take(
        (base << 1)[:, None] + (ends_at >> 2)[:, None] + np.arange(len(plans.lists)), mode="clip"
    )
    usual = _is_usual(plans, heads[:, 0], table["flags"], ends_at, starts, whole)
    usual &= _are_usual(plans, words.view(np.uint32), base << 3, starts, lists.astype(np.int64), whole)
    size, ends = plans.ends.size, lists.astype("<u4").tobytes()
    columns = zip(
        stored,
        usual.tolist(),
        table["flags"].tolist(),
        ends_at.tolist(),
        starts.tolist(),
        (table["upper"].astype(np.int64) << 32 | table["sequence"]).tolist(),
        *(table[name].tolist() for name in ("fill", "run", "applied_through")),
        *((table[name].astype(np.uint64) ^ _SIGN).view(np.int64).tolist() for name in _TIMES),
        strict=True,
    )
    return [_row(plans, each, ends[number * size : number * size + size]) for number, each in enumerate(columns)]


def _row(plans: Plans, facts: tuple[Any, ...], ends: bytes) -> WindowRow | Damaged:
    data, usual, flags, ends_at, start, sequence, fill, run, applied, known, event, newest = facts
    if not usual:
        return _one(plans.layout, data)
    lists = StoredLists(plans, data, start, ends)
    row = WindowRow(
        lists,
        sequence,
        fill,
        run,
        applied,
        known_through=known,
        rebuild=bool(flags & REBUILD),
        newest_event=event,
        newest_known=newest,
    )
    try:
        if flags & _REST and decode_rest(row, flags, data) != ends_at:
            return _one(plans.layout, data)
        lists.decode_others()
    except Damaged as bad:
        return bad
    return row


def _is_usual(
    plans: Plans, first: Ints, flags: NDArray[Any], ends_at: Ints, starts: Ints, whole: Ints
) -> NDArray[np.bool_]:
    """Whether headers are those of rows of the layout, with nothing that only one row at a time has."""
    mark = int.from_bytes(bytes((VERSION_BYTE, 0)) + plans.fingerprint + bytes(2), "little")
    mask = int.from_bytes(bytes((0xFF, 0xFF & ~FLAGS)) + b"\xff" * 4 + bytes(2), "little")
    usual: NDArray[np.bool_] = (first ^ mark) & mask == 0
    usual &= (starts <= whole) & (ends_at & 7 == 0)
    usual &= (flags & _REST > 0) | (ends_at == WINDOW_HEADER_SIZE)
    return usual


def _are_usual(
    plans: Plans, words: NDArray[np.uint32], base: Ints, starts: Ints, ends: Ints, whole: Ints
) -> NDArray[np.bool_]:
    """Whether the lists of rows are where the ends say, and those of numbers such that `ListPlan.is_usual`."""
    begins = np.concatenate((np.zeros((len(base), 1), np.int64), ends[:, :-1]), axis=1)
    sizes = ends - begins
    usual: NDArray[np.bool_] = (sizes >= 0).all(axis=1) & (starts + ends[:, -1] <= whole)
    some = list(plans.numbers)
    if some:
        at, size = (base + starts)[:, None] + begins[:, some], np.array([plans.lists[i].size for i in some])
        head = words.take(at >> 2, mode="clip").astype(np.int64)
        flags, count = head & 0xFF, head >> 16
        least = usual_size(size, count, flags > 0)
        each = (at & 7 == 0) & (sizes[:, some] >= least) & (flags & ~USUAL == 0)
        usual &= each.all(axis=1)
    return usual
