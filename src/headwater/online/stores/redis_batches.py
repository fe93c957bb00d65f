"""What is sent at once, bounded in number and bytes: while a script runs the server answers nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
Row = tuple[bytes, bytes]

SCRIPT_ROWS, SCRIPT_BYTES = 128, 1 << 20
"""Of one script; a larger row goes alone."""
MAX_ROW_BYTES = (512 << 20) - 1024
"""The longest argument that a server takes unless its `proto-max-bulk-len` is another, a little spared."""
WINDOW_ROWS, WINDOW_BYTES = 8_192, 16 << 20
"""Of all that is sent to a cluster before its answers are awaited."""


def row_size(row: Row) -> int:
    """Bytes of a key and its row."""
    return len(row[0]) + len(row[1])


def cut(items: Iterable[T], size: Callable[[T], int], most: int, most_bytes: int) -> Iterator[Sequence[T]]:
    """Items in their order, in lists of so many, and so many bytes by `size`, at most."""
    source = iter(items)
    while some := list(islice(source, most)):
        sizes = list(map(size, some))
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
