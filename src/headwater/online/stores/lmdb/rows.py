"""What is done to rows within one LMDB transaction: guarded puts in order of key, and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import eq, le
from typing import Any

from headwater.online.base import HighWater, PutOutcome, raised
from headwater.online.guard import merge, stands_at

CHUNK_ROWS, CHUNK_BYTES = 20_000, 16 << 20
"""The bounds of one transaction: other writers get their turn, and few pages are free at a time."""

RUN_ROWS = 200_000
"""How many rows are put in one order: the longer, the fewer pages each transaction touches."""

SCAN_ROWS = 4_096

MAX_ROW_BYTES = 2**32 - 1
"""The longest value that LMDB takes."""

_Rows = Sequence[tuple[bytes, bytes]]


def runs(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[_Rows]:
    """Rows cut into runs, each put in order of key."""
    source = iter(rows)
    while run := list(islice(source, RUN_ROWS)):
        yield run


def chunks(run: _Rows) -> Iterator[Sequence[int]]:
    """Positions of a run in order of key, cut into transactions of bounded size."""
    keys = [key for key, _ in run]
    order: Sequence[int] = range(len(run))
    if not all(map(le, keys, keys[1:])):
        order = sorted(order, key=keys.__getitem__)
    start = size = 0
    for at, i in enumerate(order):
        size += len(run[i][1])
        if (size > CHUNK_BYTES or at - start >= CHUNK_ROWS) and at + 1 < len(order):
            yield order[start : at + 1]
            start, size = at + 1, 0
    yield order[start:]


def put_chunk(txn: Any, items: _Rows, chunk: Sequence[int], outcomes: list[PutOutcome]) -> None:
    """Put the rows at these positions, in order of key, and say at the same positions what became of them."""
    if len(chunk) > 1 and _put_fresh(txn, items, chunk):
        for i in chunk:
            outcomes[i] = PutOutcome.APPLIED
        return
    get, put, applied = txn.get, txn.put, PutOutcome.APPLIED
    for i in chunk:
        key, row = items[i]
        stored = get(key)
        if stored is not None:
            merged = merge(stored, row)
            if not isinstance(merged, bytes):
                outcomes[i] = merged
                continue
            row = merged
        put(key, row)
        outcomes[i] = applied


def compare_and_set(txn: Any, key: bytes, sequence: int, row: bytes | None) -> bool:
    """Replace or remove a row where its write sequence is this one; whether it was."""
    if not stands_at(txn.get(key), sequence):
        return False
    set_or_delete(txn, key, row)
    return True


def set_or_delete(txn: Any, key: bytes, data: bytes | None) -> None:
    """Put bytes under a key; None removes what is there."""
    if data is None:
        txn.delete(key)
    else:
        txn.put(key, data)


def raise_high_water(txn: Any, high_water: HighWater | None) -> None:
    """Raise the number under a meta key."""
    if high_water is not None:
        data = raised(txn.get(high_water[0]), high_water[1])
        if data is not None:
            txn.put(high_water[0], data)


def _put_fresh(txn: Any, items: _Rows, chunk: Sequence[int]) -> bool:
    """Put rows where nothing is stored from the first key to the last: nothing to guard; False where something is."""
    first, last = items[chunk[0]][0], items[chunk[-1]][0]
    with txn.cursor() as cursor:
        beyond = not cursor.set_range(first)
        if not beyond and cursor.key() <= last:
            return False
        rows = [items[i] for i in chunk]
        keys = [key for key, _ in rows]
        if any(map(eq, keys, keys[1:])):
            return False
        cursor.putmulti(rows, append=beyond)
    return True


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
