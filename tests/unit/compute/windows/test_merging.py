"""Single steps of window rows, by hand; every order of them is in tests/interleaved."""

import struct

import pytest

from headwater.compute.windows.keeping import Run, keep
from headwater.compute.windows.merging import after_fold, after_put, begun, deleted_through, holds_nothing
from headwater.compute.windows.putting import put
from headwater.compute.windows.requests import Batch, Due, End, LogEnd, ReadRows, Snapshot, Version
from headwater.compute.windows.shown import shown
from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import decode_row, encode_row
from headwater.online.rows.windows.reading import read_row
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import NEVER, add_statements, blank_row
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import window_layout
from headwater.testing.window_rows import rebuilt
from headwater.types import Int64

LAYOUT = window_layout([Aggregation("n", "sum", None)], {"n": Int64})
VERSION = Version(LAYOUT, tolerance=5)


def event(number, time, position, created=None, name=None):
    return WindowEvent(time, time if created is None else created, position > 0, position, {"n": number}, id=name)


def batch(position, arrival, *events):
    return Batch(position, arrival, events)


def total(row):
    return read_row(LAYOUT, row, 10**9)[0].value


def test_a_put_lists_its_position_and_raises_nothing():
    before = begun(VERSION, FillRecord(7, 7, 3, 40), arrival=50)
    row = after_put(VERSION, before, batch(9, 50, event(2, 49, 9)))
    assert (row.applied_through, row.listed, row.known_through, total(row)) == (3, {9}, 40, 2)
    assert before.listed == frozenset() and total(before) is None
    assert row.covers(3) and row.covers(9) and not row.covers(8)


def test_a_put_withholds_what_is_known_later_than_the_tolerance():
    row = blank_row(LAYOUT)
    one = batch(2, 50, event(1, 55, 1), event(2, 56, 2))
    row = after_put(VERSION, row, one)
    assert total(row) == 1
    row = after_fold(VERSION, row, Due([one], [one]), NEVER, End(2, 56))
    assert (total(row), row.applied_through, row.listed, row.known_through) == (3, 2, frozenset(), 56)


def test_a_delete_that_comes_late_keeps_what_came_after_it():
    first, second = batch(1, 50, event(1, 10, 1)), batch(3, 52, event(4, 52, 3))
    delete = Batch(2, 51, delete=51)
    row = blank_row(LAYOUT)
    for each in (first, second):
        row = after_put(VERSION, row, each)
    row = after_put(VERSION, row, delete, [second])
    assert (total(row), row.delete_position, row.deleted_through, row.listed) == (4, 2, 51, {1, 2, 3})
    # and one that comes again changes nothing
    assert row.covers(2)


def test_a_fold_never_lowers_a_row():
    row = blank_row(LAYOUT, applied_through=9, known_through=90)
    folded = after_fold(VERSION, row, Due(), NEVER, End(5, 50))
    assert (folded.applied_through, folded.known_through) == (9, 90)


def test_a_rebuild_takes_source_and_log():
    log = [batch(1, 50, event(1, 10, 1)), Batch(2, 51, delete=20), batch(3, 52, event(4, 52, 3, name=9))]
    source = [event(8, 30, 0), event(16, 20, 0), event(32, 52, 0, created=60, name=9)]
    row = rebuilt(VERSION, fill=5, run=6, end=End(3, 70), log=log, source=source)
    assert total(row) == 12
    assert (row.fill, row.run, row.applied_through, row.known_through, len(row.ids)) == (5, 6, 3, 70, 1)


@pytest.mark.parametrize(("newest", "through"), [(NEVER, 100), (99, 100), (103, 103), (110, 105)])
def test_a_delete_hides_what_is_stored_up_to_the_tolerance(newest, through):
    assert deleted_through(100, newest, 5) == through


def test_a_row_begins_with_a_fill_no_later_than_the_batch():
    record = FillRecord(fill=10, filling=20, low=3, known_through=7)
    assert [record.fill_for(arrival) for arrival in (15, 19, 20, 25)] == [10, 10, 20, 20]
    assert record.newest == 20
    assert record.raised(2, 9, SourceThrough(4, 5)) == record._replace(
        known_through=9, source_through=SourceThrough(4, 5)
    )


def test_a_version_that_is_not_filled_shows_nothing():
    row = blank_row(LAYOUT, fill=4)
    assert shown(LAYOUT, None, row) is None
    assert shown(LAYOUT, FillRecord(0, 4), row) is None
    assert shown(LAYOUT, FillRecord(4, 4), row) is row
    empty = shown(LAYOUT, FillRecord(5, 5, 8, 9), row)
    assert empty is not None and holds_nothing(empty)
    assert (empty.fill, empty.applied_through, empty.known_through) == (5, 8, 9)


def test_a_row_that_proves_damaged_as_it_is_changed_is_left_by_puts_and_rebuilt_by_folds():
    layout = window_layout([Aggregation("n", "count", "1h")], {"n": Int64})
    version, minutes = Version(layout, tolerance=5), 60_000_000
    row = blank_row(layout, fill=1)
    add_statements(layout, row, [event(1, number * 5 * minutes, number + 1) for number in range(3)], 5)
    data = bytearray(encode_row(layout, row))
    steps, counts = 64 + 8 + 16, 64 + 8 + 16 + 12
    assert struct.unpack_from("<6I", data, steps) == (0, 1, 2, 3, 2, 1)
    # boundaries that fall, and a count that can only grow where it is decoded
    struct.pack_into("<2I", data, steps + 4, 2, 1)
    struct.pack_into("<I", data, counts, 0xFFFFFFFF)
    row = decode_row(layout, bytes(data))
    late = batch(9, 20 * minutes, event(1, 20 * minutes, 9))
    with pytest.raises(Damaged, match="do not rise"):
        after_put(version, row, late)

    record = FillRecord(fill=1, filling=1)
    work = put(version, {b"key": late})
    assert isinstance(next(work), ReadRows)
    with pytest.raises(StopIteration) as stopped:
        work.send(Snapshot(None, record, {b"key": row}))
    assert (stopped.value.value.applied, stopped.value.value.left) == (set(), {b"key"})

    run = Run(2, 1, None, record, SourceThrough(), End(9, 20 * minutes))
    work = keep(version, run, {b"key": Due([late])})
    assert isinstance(next(work), ReadRows)
    assert isinstance(work.send(Snapshot(None, record, {b"key": row})), LogEnd)
    assert work.send(run.end).keys == [b"key"]
