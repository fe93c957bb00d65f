"""What a read shows of a window row, by the fill record that it fetched with it."""

from __future__ import annotations

from headwater.online.rows.windows.record import FillRecord
from headwater.online.rows.windows.row import WindowRow, blank_row
from headwater.planning.windows.layout import WindowLayout


def shown(layout: WindowLayout, record: FillRecord | None, row: WindowRow | None) -> WindowRow | None:
    """The row to read; an empty one for an entity without events; None: the version is not filled (UNAVAILABLE).

    A row of an older fill counts as missing.
    """
    if record is None or not record.fill:
        return None
    if row is not None and row.fill >= record.fill:
        return row
    return blank_row(layout, fill=record.fill, applied_through=record.low, known_through=record.known_through)
