"""What an LMDB data file still holds of rows that were replaced or removed, overwritten.

LMDB copies pages on write: what a page held before stays in the copy that is free now, in the gap between the nodes of
a page, and behind the end of a long value. None of that is read by anybody, so it is overwritten in place, page by
page: the rows, and what a reader meets, stay as they are, wherever this is interrupted. A removed key may also still
part two pages as their separator: the rows behind it are removed and put again, in a transaction of LMDB's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headwater.errors import StoreError, Unavailable
from headwater.online.stores.lmdb.pages import METAS, Damaged, Meta, reached_pages, read_metas
from headwater.state_files import make_file

_BRANCH, _LEAF, _LONG = 1, 2, 1
_NODE = 8
_ROUNDS = 20
_ORDER = sys.byteorder


def scrub(descriptor: int, meta: Meta) -> int:
    """Overwrite what no transaction can reach; how many pages were written.

    Args:
        descriptor: of the data file, open for reading and writing.
        meta: that of the last committed transaction. No writer may be at work, no reader be older than it.

    Raises:
        Damaged: the file is not what LMDB left.
        OSError: it cannot be read or written.
    """
    reached = reached_pages(descriptor, meta)
    size, written = meta.page_size, 0
    pages = os.fstat(descriptor).st_size // size
    blank = bytes(size)
    for number in range(METAS, pages):
        if number >= len(reached.used) or not reached.used[number]:
            written += _overwrite(descriptor, number * size, blank)
    for kind, numbers in ((_LEAF, reached.leaves), (_BRANCH, reached.branches)):
        for number in numbers:
            page = os.pread(descriptor, size, number * size)
            clean = _without_gap(page, meta.header)
            if kind == _LEAF:
                for start, stop in _long_tails(descriptor, meta, page):
                    written += _overwrite(descriptor, start, bytes(stop - start))
            written += clean != page and _overwrite(descriptor, number * size, clean)
    if written:
        os.fsync(descriptor)
    return written


def _overwrite(descriptor: int, offset: int, data: bytes) -> bool:
    """Write where something else stands; whether it was written."""
    if os.pread(descriptor, len(data), offset) == data:
        return False
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done
    return True


def _bounds(page: bytes, header: int) -> tuple[int, int]:
    """Where the gap of a page begins and ends."""
    base = 0 if header == 16 else header
    lower = int.from_bytes(page[header - 4 : header - 2], _ORDER) + base
    upper = int.from_bytes(page[header - 2 : header], _ORDER) + base
    return lower, upper


def _without_gap(page: bytes, header: int) -> bytes:
    lower, upper = _bounds(page, header)
    return page[:lower] + bytes(upper - lower) + page[upper:]


def _nodes(page: bytes, header: int) -> list[int]:
    """The offsets of a page's nodes."""
    base = 0 if header == 16 else header
    lower, _ = _bounds(page, header)
    return [o + base for o in np.frombuffer(page[header:lower], np.uint16).tolist()]


def keys_behind_old_separators(descriptor: int, meta: Meta) -> list[list[bytes]]:
    """For each separator that is not the first key behind it, and so no key at all, the keys behind it.

    Args:
        descriptor: of the data file.
        meta: as for `scrub`.
    """
    found = []
    for number in reached_pages(descriptor, meta).branches:
        page = os.pread(descriptor, meta.page_size, number * meta.page_size)
        for offset in _nodes(page, meta.header):
            key, child = _key(page, offset), int.from_bytes(page[offset : offset + 6], _ORDER)
            if key:
                behind = _keys_below(descriptor, meta, child)
                first = next(behind)
                if first != key:
                    found.append([first, *behind])
    return found


def _key(page: bytes, offset: int) -> bytes:
    length = int.from_bytes(page[offset + 6 : offset + 8], _ORDER)
    return page[offset + _NODE : offset + _NODE + length]


def _keys_below(descriptor: int, meta: Meta, number: int) -> Iterator[bytes]:
    """The keys below a page, in order."""
    page = os.pread(descriptor, meta.page_size, number * meta.page_size)
    leaf = int.from_bytes(page[meta.header - 6 : meta.header - 4], _ORDER) == _LEAF
    for offset in _nodes(page, meta.header):
        if leaf:
            yield _key(page, offset)
        else:
            yield from _keys_below(descriptor, meta, int.from_bytes(page[offset : offset + 6], _ORDER))


def renew_separators(txn: Any, groups: list[list[bytes]]) -> None:
    """Remove rows and put them again, so that the pages that hold them get separators of keys that are there."""
    for keys in groups:
        rows = [(key, bytes(txn.get(key))) for key in keys]
        for key in keys:
            txn.delete(key)
        for key, row in rows:
            txn.put(key, row)


def _long_tails(descriptor: int, meta: Meta, page: bytes) -> Iterator[tuple[int, int]]:
    """From where to where the last page of each long value of a leaf holds nothing."""
    size, header = meta.page_size, meta.header
    for offset in _nodes(page, header):
        length, flags = int.from_bytes(page[offset : offset + 4], _ORDER), page[offset + 4]
        if flags & _LONG:
            at = offset + _NODE + int.from_bytes(page[offset + 6 : offset + 8], _ORDER)
            start = int.from_bytes(page[at : at + 8], _ORDER)
            head = os.pread(descriptor, header, start * size)
            pages = int.from_bytes(head[header - 4 : header], _ORDER)
            yield start * size + header + length, (start + pages) * size


def erase_removed(data: Path, env: Any, wait: float) -> None:
    """Leave nothing in a data file of what was removed or replaced; by who holds the writer's lock.

    Args:
        data: the file.
        env: LMDB's environment, without a transaction of this thread.
        wait: seconds to wait for readers of older states at most.

    Raises:
        Unavailable: a reader goes on with an old state.
        StoreError: the file is damaged, or cannot be written.
    """
    where = f"the online store {data.parent}"
    try:
        file = os.open(data, os.O_RDWR | os.O_CLOEXEC)
    except OSError as bad:
        raise StoreError(f"{where}: removed rows cannot be overwritten: {bad}") from bad
    try:
        for _ in range(_ROUNDS):
            with env.begin(write=True) as txn:
                groups = keys_behind_old_separators(file, _last(file))
                renew_separators(txn, groups)
            if not groups:
                break
        # no commit comes in between, also of a headwater that does not know the lock
        txn = env.begin(write=True)
        try:
            _wait_for_readers(env, txn.id() - 1, wait, where)
            scrub(file, _last(file))
        finally:
            txn.abort()
        _announce(data.parent / "erased")
    except Damaged as bad:
        raise StoreError(f"{where} is damaged ({bad}): delete it and run materialize") from bad
    except OSError as bad:
        raise StoreError(f"{where}: removed rows cannot be overwritten: {bad}") from bad
    finally:
        os.close(file)


def _last(file: int) -> Meta:
    """The meta page of the last commit."""
    return max(read_metas(file), key=lambda meta: meta.transaction)


def _wait_for_readers(env: Any, last: int, wait: float, where: str) -> None:
    until = time.monotonic() + wait
    while readers := [line for line in env.readers().splitlines() if _is_older(line, last)]:
        if time.monotonic() > until:
            raise Unavailable(
                f"{where}: process {readers[0].split()[0]} still reads an old state, so removed rows cannot be "
                "overwritten yet; the next materialize tries again"
            )
        time.sleep(0.01)


def _announce(file: Path) -> None:
    """Let every process drop the buffers that it writes pages from, before its next write."""
    unnamed = file.with_name(file.name + ".tmp")
    make_file(unnamed)
    unnamed.replace(file)


def _is_older(line: str, last: int) -> bool:
    """Whether a line of LMDB's table of readers is of one that reads a state before the last commit."""
    fields = line.split()
    return len(fields) == 3 and fields[2].isdecimal() and int(fields[2]) < last
