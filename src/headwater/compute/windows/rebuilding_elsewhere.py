"""What processes of the engine do to the rows of keys in a run: all are made as history is at one end of the log.

Such a process asks neither the log nor the registry for anything: a row is made of what the run has read up to the end
of the log that it began with. What came after that is put by its writers, or by the fold that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headwater.compute.windows.keeping import swaps_of
from headwater.compute.windows.requests import (
    DamagedRow,
    FillElsewhere,
    ReadRows,
    RebuiltRows,
    SwapRows,
    Version,
)
from headwater.compute.windows.work import Work
from headwater.online.rows.windows.row import WindowRow


def rebuild_elsewhere(version: Version, asked: FillElsewhere, keys: Sequence[bytes]) -> Work[set[bytes]]:
    """Make the rows of keys as history is at the run's end of the log, within the epoch in which it read the record.

    Returns:
        The keys that are left to the run, which reads the end of the log after their rows.
    """
    snapshot = yield from ReadRows(keys, epoch=False)
    rows, request = snapshot.rows, asked.rebuild
    left = {key for key in keys if _has_more(request, rows[key])}
    mine = [key for key in keys if key not in left and not _is_made(asked, rows[key])]
    if mine:
        made = yield from replace(request, keys=mine)
        swaps = swaps_of(mine, rows, made, asked.epoch)
        done = yield from SwapRows(swaps)
        left |= {swap.key for swap, each in zip(swaps, done, strict=True) if not each}
    return left


def _has_more(request: RebuiltRows, row: WindowRow | DamagedRow | None) -> bool:
    """Whether a row may have what history lacks at the end of the log that was read, or a later run has made it."""
    if row is None:
        return False
    if isinstance(row, DamagedRow):
        return True
    end = request.end
    if max(row.applied_through, row.delete_position, *row.listed) > end.position:
        return True  # a put came since, and was acknowledged
    if row.known_through > end.clock:
        return True
    return row.fill > request.fill or (row.fill == request.fill and row.run > request.run)


def _is_made(asked: FillElsewhere, row: WindowRow | DamagedRow | None) -> bool:
    """Whether the fill that is gone on with has made the row: one that a writer began has no run."""
    return asked.goes_on and isinstance(row, WindowRow) and row.fill == asked.rebuild.fill and row.run > 0
