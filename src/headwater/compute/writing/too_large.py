"""Rows that an online store cannot take: found before they are put, named, and stepped over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from headwater.errors import brief
from headwater.online.base import OnlineStore, PutOutcome, Row
from headwater.online.rows.codec import fixed_end
from headwater.online.rows.encoder import VersionRows
from headwater.planning.layout import RowLayout
from headwater.planning.resolved import ResolvedKey

NAMED = 20
"""How many such rows a run names at most; it counts all."""


def too_large(store: OnlineStore, layout: RowLayout, keys: Sequence[ResolvedKey], rows: Sequence[Row]) -> list[int]:
    """The positions of the rows of a view version, of this layout and these keys, that the store cannot take."""
    limits = store.capabilities
    if limits.max_row_bytes is None and limits.max_key_bytes is None:
        return []
    varying = layout.variable_count or any(key.dtype.name in ("string", "bytes") for key in keys)
    if not varying and limits.takes(b"", bytes(fixed_end(layout))) and limits.max_key_bytes is None:
        return []
    return [i for i, (key, row) in enumerate(rows) if not limits.takes(key, row)]


def named(
    store: OnlineStore, rows: VersionRows, pairs: Sequence[Row], outcomes: Sequence[PutOutcome]
) -> Iterator[tuple[int, str]]:
    """The rows that were too large: the position of each, and what a report says of it."""
    if PutOutcome.TOO_LARGE not in outcomes:
        return
    limits = store.capabilities
    for i, ((key, row), outcome) in enumerate(zip(pairs, outcomes, strict=True)):
        if outcome is not PutOutcome.TOO_LARGE:
            continue
        values = zip(rows.names, rows.decode_key(key, row), strict=True)
        about = rows.title + "".join(f", {name}={brief(value)}" for name, value in values)
        long = limits.max_row_bytes is not None and len(row) > limits.max_row_bytes
        size, most = (len(row), limits.max_row_bytes) if long else (len(key), limits.max_key_bytes)
        what = f"its {'row' if long else 'key'} of {size:,} bytes is larger than the {most:,}"
        yield i, f"{about}: {what} that the online store accepts, so it is not online"


class TooLarge:
    """The rows of a run that were too large: counted, and some of them named.

    Attributes:
        count: how many there were.
        texts: what is said of the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.texts: list[str] = []
        self._keys: set[bytes] = set()

    def add(self, store: OnlineStore, rows: VersionRows, pairs: Sequence[Row], outcomes: Sequence[PutOutcome]) -> None:
        """Note those of one put."""
        self.note((pairs[i][0], text) for i, text in named(store, rows, pairs, outcomes))

    def note(self, found: Iterable[tuple[bytes, str]]) -> None:
        """Note rows by their stored keys, each with what is said of it."""
        for key, text in found:
            if key in self._keys:
                continue
            self._keys.add(key)
            self.count += 1
            if len(self.texts) < NAMED:
                self.texts.append(text)

    def warnings(self) -> list[str]:
        """One a row that is named, and one for the others."""
        more = self.count - len(self.texts)
        return [*self.texts, f"{more:,} more rows are larger than the online store accepts"] if more else self.texts
