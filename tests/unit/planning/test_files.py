"""What identifies a file, what is new, changed, rewritten or missing, and what a run says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.files import (
    FileIdentity,
    compare_files,
    lost_rows_warning,
    moved_files,
    moving_files_warning,
    same_file,
)

AT = 1_700_000_000_000_000
"""When the files were listed (microseconds)."""
OLD = (AT - 10_000_000) * 1000
"""When they were modified (nanoseconds), unless told otherwise."""


def file(path: str, **other: Any) -> FileIdentity:
    return FileIdentity(path, **{"size": 10, "modified_ns": OLD, "inode": 5, "device": "h:1"} | other)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"rows": 7}, True),
        ({"settled": False}, True),
        ({"path": "b"}, False),
        ({"size": 11}, False),
        ({"modified_ns": OLD + 1}, False),
        ({"inode": 6}, False),
        ({"inode": 6, "device": "another:1"}, True),
        ({"inode": 5, "device": "h:2"}, True),
        ({"inode": 6, "device": "h:2", "modified_ns": OLD - 1}, False),
        ({"etag": '"1"'}, False),
    ],
)
def test_size_time_and_on_its_own_host_and_device_the_inode(change: dict[str, Any], same: bool) -> None:
    other = replace(file("a"), **change)
    assert same_file(file("a"), other) is same_file(other, file("a")) is same


def test_an_object_is_what_its_etag_says() -> None:
    stored = file("s3://b/a", inode=None, device="", etag='"1"')
    assert same_file(stored, replace(stored, modified_ns=OLD + 10**9))  # copied onto itself: the same content
    assert not same_file(stored, replace(stored, etag='"2"'))
    assert not same_file(stored, replace(stored, etag=None))


def test_files_are_new_changed_unchanged_or_missing() -> None:
    recorded = {f.path: f for f in (file("a", rows=3), file("b", rows=3), file("c"))}
    now = [file("a"), file("b", size=12), file("d")]
    found = compare_files(recorded, now, AT)
    assert found.new == (file("d"),) and found.changed == (file("b", size=12),)
    assert found.unchanged == (file("a", rows=3),) and found.missing == ("c",) and found.rewritten == ()
    assert found.whole == {"b", "d"} and found.listed == {"a", "b", "d"}


def test_without_a_record_that_counts_all_are_new() -> None:
    for nothing in (None, {}):
        found = compare_files(nothing, [file("a"), file("b")], AT)
        assert found.whole == {"a", "b"} and not found.missing


@pytest.mark.parametrize(
    ("age", "settled"), [(10_000_000, True), (2_000_000, True), (1_999_999, False), (0, False), (-5_000_000, False)]
)
def test_a_file_modified_just_now_counts_as_changed_next_time(age: int, settled: bool) -> None:
    fresh = file("a", modified_ns=(AT - age) * 1000)
    (first,) = compare_files(None, [fresh], AT).new
    assert first.settled is settled
    again = compare_files({"a": first}, [fresh], AT + 60_000_000)
    assert again.whole == (frozenset() if settled else {"a"})
    assert all(f.settled for f in again.changed)


def test_an_etag_tells_at_once() -> None:
    fresh = file("s3://b/a", modified_ns=AT * 1000, etag='"1"')
    (first,) = compare_files(None, [fresh], AT).new
    assert first.settled and not compare_files({fresh.path: first}, [fresh], AT + 1).whole


@pytest.mark.parametrize(
    ("before", "now", "rewritten"),
    [
        ({"rows": 5}, {"rows": 4, "size": 99}, True),
        ({"rows": 5}, {"rows": 5, "size": 9}, False),
        ({"rows": 5}, {"rows": 6, "size": 9}, False),
        ({"rows": 5}, {"size": 9}, True),
        ({}, {"rows": 4, "size": 9}, True),
        ({}, {"size": 11}, False),
    ],
)
def test_a_file_with_fewer_rows_than_it_had_is_rewritten(
    before: dict[str, Any], now: dict[str, Any], rewritten: bool
) -> None:
    changed = file("a", modified_ns=OLD + 1, **now)
    found = compare_files({"a": file("a", **before)}, [changed], AT)
    assert found.changed == (changed,) and found.rewritten == (("a",) if rewritten else ())


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)),
)
def test_each_file_is_one_of_them(before: dict[str, int], now: dict[str, int]) -> None:
    recorded = {name: file(name, size=size) for name, size in before.items()}
    listed = [file(name, size=size) for name, size in now.items()]
    found = compare_files(recorded, listed, AT)
    assert {f.path for f in found.new} == now.keys() - before.keys()
    assert {f.path for f in found.unchanged} == {name for name in now if before.get(name) == now[name]}
    assert set(found.missing) == before.keys() - now.keys()
    assert found.listed == now.keys() and len(found.new + found.changed + found.unchanged) == len(now)
    again = compare_files({f.path: f for f in (*found.new, *found.changed, *found.unchanged)}, listed, AT)
    assert not again.whole and not again.missing


def test_files_that_moved_while_they_were_read() -> None:
    before = [file("a"), file("b"), file("c")]
    assert moved_files(before, before) == (frozenset(), frozenset())
    moved, gone = moved_files(before, [file("a"), file("c", inode=6), file("new")])
    assert (moved, gone) == ({"c"}, {"b"})


def test_rows_that_may_be_left_are_told_with_the_command() -> None:
    assert lost_rows_warning("weather", "1.0.0", (), ()) is None
    told = lost_rows_warning("weather", "1.0.0", ["data/a.parquet"], [])
    assert told == (
        "weather@1.0.0: 1 file of its source is gone (data/a.parquet): rows that only they had stay online; to remove "
        'them: headwater materialize weather --force; to keep them without this warning: [online] gone_files = "keep"'
    )
    both = lost_rows_warning("weather", "1.0.0", [f"{i:04}" for i in range(1_200)], ["x", "y"])
    assert both is not None
    assert "1,200 files of its source are gone (0000, 0001, 0002, 0003, 0004 and 1,195 more) and 2 files were" in both
    assert "rewritten with fewer rows (x, y)" in both


def test_files_that_do_not_hold_still_are_told() -> None:
    assert moving_files_warning("weather", "1.0.0", ()) is None
    told = moving_files_warning("weather", "1.0.0", ["a.csv"])
    assert told is not None and "1 file changed whenever it was read (a.csv): the next run reads it again" in told
    assert "2 files changed whenever they were read (a, b)" in (moving_files_warning("v", "1.0.0", ["b", "a"]) or "")
