"""What an LMDB data file still holds of rows that were replaced or removed, overwritten without LMDB.

LMDB copies pages on write: what a page held before stays in the copy that is free now, in the gap between the nodes of
a page, behind the end of a long value, and a removed key may still part two pages as their separator. None of that is
read by anybody, so it is overwritten in place, page by page: the rows, and what a reader meets, stay as they are,
wherever this is interrupted.
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
from headwater.online.stores.lmdb_pages import METAS, Damaged, Meta, reached_pages, read_metas
from headwater.state_files import make_file

_BRANCH, _LEAF, _LONG = 1, 2, 1
_NODE = 8
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
            if kind == _BRANCH:
                clean = _without_old_keys(descriptor, meta, clean)
            else:
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


def _without_old_keys(descriptor: int, meta: Meta, page: bytes) -> bytes:
    """A branch whose separators are keys that are there, or no keys at all.

    A separator is greater than every key before it and not greater than the first key behind it. One that is not that
    key was a key once: from the first byte in which it differs on it is filled up, which makes it greater, and still
    less than the key behind it. A reader that meets it half filled up finds the same.
    """
    found = bytearray(page)
    for offset in _nodes(page, meta.header):
        length = int.from_bytes(page[offset + 6 : offset + 8], _ORDER)
        key = page[offset + _NODE : offset + _NODE + length]
        child = int.from_bytes(page[offset : offset + 6], _ORDER)
        first = _first_key(descriptor, meta, child)
        same = next((i for i, (a, b) in enumerate(zip(key, first, strict=False)) if a != b), None)
        if same is not None:
            found[offset + _NODE + same + 1 : offset + _NODE + length] = b"\xff" * (length - same - 1)
    return bytes(found)


def _first_key(descriptor: int, meta: Meta, number: int) -> bytes:
    """The least key below a page."""
    while True:
        page = os.pread(descriptor, meta.page_size, number * meta.page_size)
        offset = _nodes(page, meta.header)[0]
        if int.from_bytes(page[meta.header - 6 : meta.header - 4], _ORDER) == _LEAF:
            length = int.from_bytes(page[offset + 6 : offset + 8], _ORDER)
            return page[offset + _NODE : offset + _NODE + length]
        number = int.from_bytes(page[offset : offset + 6], _ORDER)


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


def scrub_file(data: Path, env: Any, last: int, wait: float) -> None:
    """`scrub` under the writer's lock, once no reader is older than the last commit.

    Args:
        data: the file.
        env: LMDB's environment, in a write transaction of this thread.
        last: the last commit's transaction.
        wait: seconds to wait for older readers at most.

    Raises:
        Unavailable: a reader goes on with an old state.
        StoreError: the file is damaged, or cannot be written.
    """
    until = time.monotonic() + wait
    while readers := [line for line in env.readers().splitlines() if _is_older(line, last)]:
        if time.monotonic() > until:
            raise Unavailable(
                f"the online store {data.parent}: process {readers[0].split()[0]} goes on reading an old state, so "
                "that removed rows cannot be overwritten yet; the next materialize tries again"
            )
        time.sleep(0.01)
    try:
        file = os.open(data, os.O_RDWR | os.O_CLOEXEC)
    except OSError as bad:
        raise StoreError(f"the online store {data.parent}: removed rows cannot be overwritten: {bad}") from bad
    try:
        meta = max(read_metas(file), key=lambda meta: meta.transaction)
        scrub(file, meta)
        _announce(data.parent / "erased")
    except Damaged as bad:
        raise StoreError(f"the online store {data.parent} is damaged ({bad}): delete it and run materialize") from bad
    except OSError as bad:
        raise StoreError(f"the online store {data.parent}: removed rows cannot be overwritten: {bad}") from bad
    finally:
        os.close(file)


def _announce(file: Path) -> None:
    """Let every process drop the buffers that it writes pages from, before its next write."""
    unnamed = file.with_name(file.name + ".tmp")
    make_file(unnamed)
    unnamed.replace(file)


def _is_older(line: str, last: int) -> bool:
    """Whether a line of LMDB's table of readers is of one that reads a state before the last commit."""
    fields = line.split()
    return len(fields) == 3 and fields[2].isdecimal() and int(fields[2]) < last
