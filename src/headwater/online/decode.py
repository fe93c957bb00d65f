"""Packed rows back into columns; a damaged row is left out and named, never raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from headwater.online.codec import EMPTIED, KEYED, is_row, long_key, without_key
from headwater.online.decoded import DecodedRows
from headwater.online.few_rows import FewRows
from headwater.online.many_rows import ManyRows
from headwater.online.row_format import RowFormat
from headwater.planning.layout import RowLayout

MANY = 16
"""From this many rows on NumPy beats struct."""


class RowDecoder(RowFormat):
    """Reads the rows of a layout for some of its features."""

    def decode(self, rows: Sequence[bytes | None], long_keys: Mapping[int, bytes] | None = None) -> DecodedRows:
        """Decode the rows found for a list of keys.

        Args:
            rows: what the store gave.
            long_keys: place → whole key, for those asked for by digest.
        """
        if long_keys:
            rows = [_verified(row, long_keys.get(i)) for i, row in enumerate(rows)]
        return FewRows(self, rows) if len(rows) < MANY else ManyRows(self, rows)


@lru_cache(maxsize=512)
def row_decoder(layout: RowLayout, names: tuple[str, ...]) -> RowDecoder:
    """The decoder of a layout for some features, made once."""
    return RowDecoder(layout, names)


def _verified(row: bytes | None, key: bytes | None) -> bytes | None:
    """The row under a digest, without the key it carries; None where that is another key of the same digest."""
    if row is None or key is None:
        return row
    carried = long_key(row)
    if carried is None:
        # it cannot be told whose row this is: refused like one that carries a key out of place, unless it has no values
        return row if not is_row(row) or row[1] & EMPTIED else row[:1] + bytes((row[1] | KEYED,)) + row[2:]
    return without_key(row) if carried == key else None
