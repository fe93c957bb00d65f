"""The states of a list as bytes: columns of numbers where a state is a few, else one piece after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.packing import Bytes, put_number, put_signed, put_value
from headwater.planning.windows.kinds import BINS, COUNT, DISTINCT, MAX, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.quantile_bins import is_bin
from headwater.planning.windows.states.distinct import LEVELS, Distinct
from headwater.planning.windows.values import Entry

WIDE_COUNTS, WIDE_SUMS = 1, 2
"""Flags of a list: its counts have 8 bytes (else 4), its sums of integers 16 (else 8)."""


def pack_states(layout: ListLayout, states: Sequence[Any], step: int) -> tuple[int, bytes, bytes]:
    """Flags and bytes of states, none of them None: columns of 8 bytes and more, then all else.

    Args:
        layout: the list's.
        states: in order.
        step: what boundaries are multiples of.
    """
    if layout.kind == COUNT:
        flags, counts = _counts(states)
        return flags, b"", counts
    if layout.kind == TOTAL:
        flags, counts = _counts([state[0] for state in states])
        wide, sums = _sums(layout, [state[1] for state in states])
        return flags | wide, sums, counts
    if layout.kind == SPREAD:
        flags, counts = _counts([state[0] for state in states])
        numbers = np.array([state[1:] for state in states], "<f8").reshape(-1, 2)
        return flags, numbers[:, 0].tobytes() + numbers[:, 1].tobytes(), counts
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None
        form = layout.dtype.numpy
        if form is not None:
            data = np.array(states, form).tobytes()
            return (0, data, b"") if form.itemsize == 8 else (0, b"", data)
        return 0, b"", _pieces([state.encode() if isinstance(state, str) else state for state in states])
    if layout.kind == BINS:
        return 0, b"", _pieces([_pack_bins(state) for state in states])
    if layout.kind == DISTINCT:
        return 0, b"", _pieces([_pack_distinct(state, layout, step) for state in states])
    return 0, b"", _pieces([_pack_entries(state, layout) for state in states])


def wide_columns(layout: ListLayout) -> int:
    """How many columns of 8 bytes stand before the boundaries; without flags."""
    if layout.kind in (MIN, MAX):
        form = None if layout.dtype is None else layout.dtype.numpy
        return int(form is not None and form.itemsize == 8)
    return {TOTAL: 1, SPREAD: 2}.get(layout.kind, 0)


def narrow_bytes(layout: ListLayout) -> int:
    """Bytes of a state that stand behind them, where states are numbers; without flags."""
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None and layout.dtype.numpy is not None
        return 0 if layout.dtype.numpy.itemsize == 8 else layout.dtype.numpy.itemsize
    return 4


def wide_size(layout: ListLayout, flags: int) -> int:
    """Bytes that a state takes of the columns that stand before the boundaries."""
    return 16 if layout.kind == TOTAL and flags & WIDE_SUMS else 8 * wide_columns(layout)


def unpack_states(layout: ListLayout, flags: int, count: int, columns: Bytes, rest: Bytes, step: int) -> list[Any]:
    """What `pack_states` wrote.

    Args:
        layout: the list's.
        flags: its flags.
        count: how many states there are.
        columns: of 8 bytes and more.
        rest: all else.
        step: what boundaries are multiples of.

    Raises:
        Damaged: bytes that are not of such states.
    """
    if layout.kind == COUNT:
        return _take_counts(flags, count, rest)
    if layout.kind == TOTAL:
        return list(zip(_take_counts(flags, count, rest), _take_sums(layout, flags, count, columns), strict=True))
    if layout.kind == SPREAD:
        counts = _take_counts(flags, count, rest)
        return list(zip(counts, _numbers(columns, count, "<f8"), _numbers(columns, count, "<f8"), strict=True))
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None
        form = layout.dtype.numpy
        if form is not None:
            return _numbers(columns if form.itemsize == 8 else rest, count, form)
        return _take_pieces(count, rest, partial(piece_state, layout, step))
    return _take_pieces(count, rest, partial(piece_state, layout, step))


def piece_state(layout: ListLayout, step: int, piece: Bytes) -> Any:
    """A state of a list whose states are pieces, one after another.

    Raises:
        Damaged: bytes that are not of such a state.
    """
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None
        return _text(piece) if layout.dtype.name == "string" else piece.take(piece.end - piece.at)
    if layout.kind == BINS:
        return _unpack_bins(piece)
    return _unpack_distinct(piece, step) if layout.kind == DISTINCT else _unpack_entries(piece, layout)


def _numbers(data: Bytes, count: int, form: Any) -> list[Any]:
    form = np.dtype(form)
    numbers: list[Any] = np.frombuffer(data.take(count * form.itemsize), form).tolist()
    return numbers


def _counts(counts: Sequence[int]) -> tuple[int, bytes]:
    wide = max(counts, default=0) > 0xFFFFFFFF
    return WIDE_COUNTS if wide else 0, np.array(counts, "<u8" if wide else "<u4").tobytes()


def _take_counts(flags: int, count: int, data: Bytes) -> list[int]:
    return _numbers(data, count, "<u8" if flags & WIDE_COUNTS else "<u4")


def _sums(layout: ListLayout, sums: Sequence[Any]) -> tuple[int, bytes]:
    if _is_float(layout):
        return 0, np.array(sums, "<f8").tobytes()
    if all(-(2**63) <= number < 2**63 for number in sums):
        return 0, np.array(sums, "<i8").tobytes()
    return WIDE_SUMS, b"".join(number.to_bytes(16, "little", signed=True) for number in sums)


def _take_sums(layout: ListLayout, flags: int, count: int, data: Bytes) -> list[Any]:
    if _is_float(layout):
        return _numbers(data, count, "<f8")
    if not flags & WIDE_SUMS:
        return _numbers(data, count, "<i8")
    return [int.from_bytes(data.take(16), "little", signed=True) for _ in range(count)]


def _is_float(layout: ListLayout) -> bool:
    return layout.dtype is not None and layout.dtype.name in ("float32", "float64")


def _pieces(pieces: Sequence[bytes]) -> bytes:
    return np.array(list(accumulate(map(len, pieces))), "<u4").tobytes() + b"".join(pieces)


def _take_pieces(count: int, data: Bytes, unpack: Callable[[Bytes], Any]) -> list[Any]:
    ends = [0, *_numbers(data, count, "<u4")]
    return [unpack(Bytes(data.take(end - start))) for start, end in pairwise(ends)]


def _text(piece: Bytes) -> str:
    try:
        return piece.take(piece.end - piece.at).decode()
    except UnicodeDecodeError as bad:
        raise Damaged("text that is not UTF-8") from bad


def _pack_bins(bins: Any) -> bytes:
    to, before = bytearray(), 0
    put_number(to, len(bins))
    for code in sorted(bins):
        put_signed(to, code - before)
        put_number(to, bins[code])
        before = code
    return bytes(to)


def _unpack_bins(data: Bytes) -> dict[int, int]:
    bins, code = {}, 0
    for _ in range(data.number()):
        code += data.signed()
        bins[code] = data.number()
        if not is_bin(code) or not bins[code]:
            raise Damaged("a bin of quantiles that no number is in")
    if not bins:
        raise Damaged("quantiles of no bin")
    return bins


def _pack_distinct(state: Distinct, layout: ListLayout, step: int) -> bytes:
    state = layout.states.trimmed(state)  # type: ignore[attr-defined]
    to, first = bytearray(), min(state.newest.values(), default=0)
    put_number(to, len(state.newest))
    put_signed(to, first)
    steps = [(time - first) // step for time in state.newest.values()]
    wide = max(steps, default=0) > 0xFFFFFFFF
    to.append(wide)
    to += np.array(list(state.newest), "<u8").tobytes() + np.array(steps, "<u8" if wide else "<u4").tobytes()
    bits = sum(1 << level for level, dropped in enumerate(state.dropped) if dropped is not None)
    put_number(to, bits)
    for dropped in state.dropped:
        if dropped is not None:
            put_signed(to, dropped)
    return bytes(to)


def _unpack_distinct(data: Bytes, step: int) -> Distinct:
    count, first, wide = data.number(), data.signed(), data.take(1)[0]
    digests = _numbers(data, count, "<u8")
    times = [first + number * step for number in _numbers(data, count, "<u8" if wide else "<u4")]
    bits = data.number()
    dropped = tuple(data.signed() if bits >> level & 1 else None for level in range(LEVELS))
    return Distinct(dict(zip(digests, times, strict=True)), dropped)


def _pack_entries(entries: Sequence[Entry], layout: ListLayout) -> bytes:
    to, before = bytearray(), 0
    put_number(to, len(entries))
    for entry in entries:
        put_signed(to, entry.event - before)
        put_signed(to, entry.created - entry.event)
        put_number(to, entry.position * 2 + entry.from_log)
        if layout.dtype is not None:
            put_value(to, layout.dtype, entry.value)
        before = entry.event
    return bytes(to)


def _unpack_entries(data: Bytes, layout: ListLayout) -> tuple[Entry, ...]:
    entries, event = [], 0
    for _ in range(data.number()):
        event += data.signed()
        created, position = event + data.signed(), data.number()
        value = None if layout.dtype is None else data.value(layout.dtype)
        entries.append(Entry(event, created, bool(position & 1), position >> 1, value))
    return tuple(entries)
