"""What is sent at once, bounded in number and bytes: while a script runs the server answers nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from headwater.online.base import Change, Row

T = TypeVar("T")

SCRIPT_ROWS, SCRIPT_BYTES = 128, 1 << 20
"""Of one script; a larger row goes alone."""
MAX_ROW_BYTES = (512 << 20) - 1024
"""The longest argument that a server takes unless its `proto-max-bulk-len` is another, a little spared."""
WINDOW_ROWS, WINDOW_BYTES = 8_192, 16 << 20
"""Of all that is sent to a cluster before its answers are awaited."""


def row_sizes(rows: Sequence[Row]) -> list[int]:
    """Bytes of each key and its row."""
    return [len(key) + len(row) for key, row in rows]


def change_sizes(changes: Sequence[Change]) -> list[int]:
    """Bytes of each key and what is to replace its row."""
    return [len(key) + len(row or b"") for key, _, row in changes]


def cut(
    items: Iterable[T], sizes_of: Callable[[Sequence[T]], list[int]], most: int, most_bytes: int
) -> Iterator[Sequence[T]]:
    """Items in their order, in lists of so many, and so many bytes, at most; a larger one goes alone."""
    source = iter(items)
    while some := list(islice(source, most)):
        sizes = sizes_of(some)
        if sum(sizes) <= most_bytes:
            yield some
            continue
        start = total = 0
        for i, more in enumerate(sizes):
            if i > start and total + more > most_bytes:
                yield some[start:i]
                start, total = i, 0
            total += more
        yield some[start:]
