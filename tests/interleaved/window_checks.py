"""What window rows have to be: what their header says, no less than what was promised, and in the end history."""

from __future__ import annotations

from headwater.online.rows.windows.reading import read_row
from headwater.online.rows.windows.row import NEVER, WindowRow
from headwater.planning.windows.events import WindowEvent
from headwater.testing.window_rows import counted
from headwater.types import Status
from tests.interleaved.window_world import LAYOUT, TOLERANCE, World, held, numbers


def _hides(row: WindowRow, event: WindowEvent) -> bool:
    return event.known_at <= row.deleted_through or (event.from_log and event.position < row.delete_position)


def _covers(row: WindowRow, position: int) -> bool:
    return position <= row.applied_through or position in row.listed


def invariant(w: World, row: WindowRow, key: bytes) -> list[int]:
    """What a row with this header holds, by the log and the source."""
    listed, known = w.taken.get(row.run, (0, NEVER))
    events = [e for k, e in w.source[:listed] if k == key and e.known_at <= known and not _hides(row, e)]
    for batch in w.batches(key):
        if _covers(row, batch.position):
            until = max(batch.arrival + TOLERANCE, row.known_through)
            events += [e for e in batch.events if e.known_at <= until and not _hides(row, e)]
    return numbers(events)


def history(w: World, key: bytes, at: int) -> list[WindowEvent]:
    """The events of a key at an instant."""
    deletes = [(b.position, b.delete) for b in w.batches(key) if b.delete is not None and b.delete <= at]
    position, through = (max(part) for part in zip(*deletes, strict=True)) if deletes else (0, NEVER)
    events = [e for k, e in w.source if k == key] + [e for b in w.batches(key) for e in b.events]
    known = [e for e in events if e.known_at <= at]
    return counted(e for e in known if e.known_at > through and not (e.from_log and e.position < position))


def problems(w: World, keys: list[bytes]) -> list[str]:
    """What is wrong with the rows, in the middle of it all."""
    wrong = list[str]()
    for key in keys:
        record, row = w.promised(key), w.shown(key)
        if record is None or not record.fill or record.fill <= w.restored:
            continue  # nothing is shown, or the rows from before the restore
        assert row is not None
        stored = row.sequence != 0
        named = w.batches(key)
        deletes = [(b.position, b.delete) for b in named if b.delete is not None and _covers(row, b.position)]
        position, through = (max(part) for part in zip(*deletes, strict=True)) if deletes else (0, NEVER)
        if stored and (row.delete_position, row.deleted_through) != (position, through):
            wrong.append("header")
        if row.known_through > w.clock:
            wrong.append("clock")
        if not row.rebuild and held(row) != invariant(w, row, key):
            wrong.append("row")
        for batch in named:
            has = stored and _covers(row, batch.position)
            late = max(batch.arrival + TOLERANCE, row.known_through)
            lacks = any(late < e.known_at <= record.known_through for e in batch.events)
            if batch.position <= record.low and (not has or lacks):
                wrong.append("promise")
            if not has and (key, batch.position, batch.arrival) in w.acknowledged:
                wrong.append("acknowledged")
        through_source = record.source_through
        listed, known = w.taken.get(row.run, (0, NEVER))
        for i, (other, event) in enumerate(w.source[: through_source.listed]):
            there = i < listed and event.known_at <= known
            if other == key and event.known_at <= through_source.known_at and not there:
                wrong.append("source")
        if row.rebuild and not any(batch.position > record.low for batch in named):
            wrong.append("flag")
    return wrong


def differences(w: World, keys: list[bytes]) -> list[str]:
    """What is not as history says, after a run that nothing disturbed."""
    wrong = []
    for key in keys:
        row = w.shown(key)
        if row is None:
            wrong.append("not filled")
            continue
        if max(row.deleted_through, row.newest_known) > w.clock:
            w.count["not known"] += 1
            continue
        events = history(w, key, w.clock)
        if row.rebuild or held(row) != sorted(e.values["n"] for e in events):
            wrong.append("end")
        each, total = read_row(LAYOUT, row, w.clock)
        start = (w.clock - 6) // 2 * 2
        window = [e.values["n"] for e in events if e.event >= start]
        if len(each.value) != len(events) or total.value != (sum(window) if window else None):
            wrong.append("value")
        assert total.status in (Status.PRESENT, Status.NULL)
    return wrong
