"""Numbers that the workers of a server share: each adds to its own slot of one memory, everybody may read all of them.

A slot has one writer. A number that it adds to is never locked, and outlives the process: the worker that takes the
slot over goes on with the totals of the one before it. Names are only ever added, and count once they are whole.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator

import msgspec

from headwater.clock import system_clock

_HEADER = struct.Struct("<QQQd")
"""Length of the names, of the values, process id, when it began (seconds since 1970)."""
_SHARE = struct.Struct("<Qd")
"""Open connections, and when that was noted (seconds of the clock that never goes back; 0: the worker is gone)."""
_SHARE_AT = _HEADER.size
_VALUES_AT = 64
MOST_VALUES = 1 << 15
_NAMES_AT = _VALUES_AT + 8 * MOST_VALUES
_MOST_NAMES = 1 << 19
SLOT_BYTES = _NAMES_AT + _MOST_NAMES
_LENGTH = struct.Struct("<I")
_GONE_AFTER = 3.0
"""Seconds without a word after which a worker counts as gone."""
_SPILL = 64
"""Values at the beginning of a slot that stand for every series for which there is no room left."""

Name = tuple[str, ...]
"""A metric's name and the values of its labels."""


def make_memory(slots: int) -> int:
    """The descriptor of a memory of some slots; pages of it that nobody has written take no room."""
    descriptor = os.memfd_create("headwater-metrics", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, slots * SLOT_BYTES)
    return descriptor


class Memory:
    """The slots of one server.

    Args:
        descriptor: from `make_memory`; None: a memory of one slot that is this process's own.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        size = SLOT_BYTES if descriptor is None else os.fstat(descriptor).st_size
        self._map = mmap.mmap(-1 if descriptor is None else descriptor, size)
        self.slots = size // SLOT_BYTES

    def slot(self, index: int) -> Slot:
        """One of them, to write; by one process at a time."""
        return Slot(self._map, index * SLOT_BYTES)

    def read(self) -> Iterator[tuple[int, int, float, dict[Name, list[float]]]]:
        """Of each slot that is or was used: its index, the process's id, when that began, and its series."""
        for index in range(self.slots):
            start = index * SLOT_BYTES
            _, _, process, began = _HEADER.unpack_from(self._map, start)
            if process:
                yield index, process, began, _series(self._map, start)


class Shares:
    """How many connections each worker has, for who takes the next one.

    Args:
        memory: the server's.
        index: of the slot that is this worker's.
    """

    def __init__(self, memory: Memory, index: int) -> None:
        self._map = memory._map
        self._mine = index * SLOT_BYTES + _SHARE_AT
        self._others = [n * SLOT_BYTES + _SHARE_AT for n in range(memory.slots) if n != index]
        self._connections = 0

    def note(self, connections: int) -> None:
        """Say how many this worker has; said again every second, or others take it for gone."""
        self._connections = connections
        _SHARE.pack_into(self._map, self._mine, connections, time.monotonic())

    def leave(self) -> None:
        """This worker takes none any more."""
        _SHARE.pack_into(self._map, self._mine, self._connections, 0.0)

    @property
    def has_most(self) -> bool:
        """Whether another worker that takes connections has fewer than this one."""
        since = time.monotonic() - _GONE_AFTER
        shares = (_SHARE.unpack_from(self._map, at) for at in self._others)
        return any(noted > since and connections < self._connections for connections, noted in shares)


def _series(memory: mmap.mmap, start: int) -> dict[Name, list[float]]:
    out: dict[Name, list[float]] = {}
    for name, at, width in _names(memory, start):
        first = start + _VALUES_AT + 8 * at
        out[name] = list(struct.unpack_from(f"<{width}d", memory, first))
    return out


def _names(memory: mmap.mmap, start: int) -> Iterator[tuple[Name, int, int]]:
    """Name, index of the first value, and how many there are, of each series of a slot."""
    used = _HEADER.unpack_from(memory, start)[0]
    at, end = start + _NAMES_AT, start + _NAMES_AT + used
    while at < end:
        (length,) = _LENGTH.unpack_from(memory, at)
        at += _LENGTH.size
        name, first, width = msgspec.msgpack.decode(memory[at : at + length])
        yield tuple(name), first, width
        at += length


class Slot:
    """A worker's own numbers.

    Attributes:
        values: all of them; `values[index] += 1` counts.
    """

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory, self._start = memory, start
        whole = memoryview(memory)[start + _VALUES_AT : start + _NAMES_AT]
        self.values: memoryview[float] = whole.cast("d")
        self._known: dict[Name, tuple[int, int]] = {
            name: (first, width) for name, first, width in _names(memory, start)
        }
        names: int
        values: int
        names, values, _, _ = _HEADER.unpack_from(memory, start)
        self._used = names, max(values, _SPILL)
        self._owner = os.getpid(), system_clock().timestamp()
        self._note()

    def _note(self) -> None:
        _HEADER.pack_into(self._memory, self._start, *self._used, *self._owner)

    def series(self, name: Name, width: int = 1) -> int:
        """The index of the first value of a series, made where it is new; where there is no room, of a place that is
        not read.
        """
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._make(name, width), width
        return known[0]

    def _make(self, name: Name, width: int) -> int:
        names, first = self._used
        record = msgspec.msgpack.encode([name, first, width])
        length = _LENGTH.size + len(record)
        if first + width > MOST_VALUES or names + length > _MOST_NAMES:
            return 0
        at = self._start + _NAMES_AT + names
        self._memory[at : at + length] = _LENGTH.pack(len(record)) + record
        self._used = names + length, first + width
        self._note()
        return first

    def reset(self, name: Name) -> None:
        """Set the values of a series to 0."""
        first, width = self._known.get(name, (0, 0))
        for place in range(first, first + width):
            self.values[place] = 0.0

    def known(self) -> list[Name]:
        """The series of this slot."""
        return list(self._known)
