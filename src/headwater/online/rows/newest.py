"""The newest event time that a stored row has, whatever kind of version it is of."""

from __future__ import annotations

from headwater.clock import MIN_MICROS
from headwater.online.rows.codec import header, is_window_row
from headwater.online.rows.windows.codec import row_facts


def newest_event(row: bytes | None) -> int:
    """The event time of a row, of a window version's the newest of its events; the least int64 where there is none."""
    if is_window_row(row):
        facts = row_facts(row)
        return MIN_MICROS if facts is None else facts.newest_event
    found = header(row)
    return MIN_MICROS if found is None or found.emptied else found.event
