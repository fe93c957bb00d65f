"""What is done to rows within one LMDB transaction: guarded puts in order of key, and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import eq, le
from typing import Any

from headwater.online.guard import merge

CHUNK_ROWS, CHUNK_BYTES = 20_000, 16 << 20
"""The bounds of one transaction: other writers get their turn, and few pages are free at a time."""

RUN_ROWS = 200_000
"""How many rows are put in one order: the longer, the fewer pages each transaction touches."""

SCAN_ROWS = 4_096

_Rows = Sequence[tuple[bytes, bytes]]


def runs(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[_Rows, bool]]:
    """Rows cut into runs, each put in order of key, with whether it is the last; an empty run where there are none."""
    source = iter(rows)
    run = list(islice(source, RUN_ROWS))
    while True:
        following = list(islice(source, RUN_ROWS)) if len(run) == RUN_ROWS else []
        yield run, not following
        if not following:
            return
        run = following


def chunks(run: _Rows) -> Iterator[tuple[Sequence[int], bool]]:
    """Places of a run in order of key, cut into transactions of bounded size, each with whether it is the last."""
    keys = [key for key, _ in run]
    order: Sequence[int] = range(len(run))
    if not all(map(le, keys, keys[1:])):
        order = sorted(order, key=keys.__getitem__)
    start = size = 0
    for at, i in enumerate(order):
        size += len(run[i][1])
        if (size > CHUNK_BYTES or at - start >= CHUNK_ROWS) and at + 1 < len(order):
            yield order[start : at + 1], False
            start, size = at + 1, 0
    yield order[start:], True


def put_chunk(txn: Any, items: _Rows, chunk: Sequence[int], meta: _Rows) -> Sequence[int]:
    """Put the rows at these places, in order of key; the places of those applied."""
    applied = _put_fresh(txn, items, chunk) if len(chunk) > 1 else None
    if applied is None:
        applied = _put_guarded(txn, items, chunk)
    for key, value in meta:
        txn.put(key, value)
    return applied


def _put_guarded(txn: Any, items: _Rows, chunk: Sequence[int]) -> Sequence[int]:
    get, put, applied = txn.get, txn.put, []
    for i in chunk:
        key, row = items[i]
        stored = get(key)
        if stored is not None:
            merged = merge(stored, row)
            if merged is None:
                continue
            row = merged
        put(key, row)
        applied.append(i)
    return applied


def _put_fresh(txn: Any, items: _Rows, chunk: Sequence[int]) -> Sequence[int] | None:
    """Put rows where nothing lies between the first key and the last: nothing to guard; None where something does."""
    first, last = items[chunk[0]][0], items[chunk[-1]][0]
    with txn.cursor() as cursor:
        beyond = not cursor.set_range(first)
        if not beyond and cursor.key() <= last:
            return None
        rows = [items[i] for i in chunk]
        keys = [key for key, _ in rows]
        if any(map(eq, keys, keys[1:])):
            return None
        cursor.putmulti(rows, append=beyond)
    return chunk


def rows_from(txn: Any, start: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
    """The next `SCAN_ROWS` rows from a key on that begin with a prefix."""
    found: list[tuple[bytes, bytes]] = []
    with txn.cursor() as cursor:
        if not (cursor.set_range(start) if start else cursor.first()):
            return found
        for key, row in cursor.iternext(keys=True, values=True):
            if not key.startswith(prefix) or len(found) == SCAN_ROWS:
                break
            found.append((key, row))
    return found
