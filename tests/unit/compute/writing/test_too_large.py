"""Rows that a store cannot take are named, counted and stepped over; everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import headwater as hw
from headwater.errors import RowsRejected
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.types import Status
from tests.unit.compute.conftest import T0, Bench

USER = hw.Entity("user", join_keys={"user": hw.String})
NOTES = hw.FeatureView(
    "notes",
    entity=USER,
    source=hw.PushSource(event_time="at", created_time="seen"),
    features=[hw.Feature("text", hw.String)],
)
LIMIT = 400


class SmallStore(MemoryOnlineStore):
    """Takes short rows alone, and fails like a server where it is given a longer one."""

    capabilities = replace(MemoryOnlineStore.capabilities, max_row_bytes=LIMIT)

    def put(self, rows: Any, **options: Any) -> Any:
        rows = list(rows)
        assert all(len(row) <= LIMIT for _, row in rows)
        return super().put(rows, **options)

    def compare_and_put(self, key: bytes, sequence: int, row: bytes | None, **options: Any) -> bool:
        assert row is None or len(row) <= LIMIT
        return super().compare_and_put(key, sequence, row, **options)


def note(user: str, size: int, minutes: int = 0) -> dict[str, Any]:
    at = T0 + timedelta(minutes=minutes)
    return {"user": user, "at": at, "seen": at, "text": "x" * size}


@pytest.fixture
def small(tmp_path: Any) -> Iterator[Bench]:
    bench = Bench(tmp_path, SmallStore())
    bench.apply(USER, NOTES)
    bench.pass_time(hours=1)
    yield bench
    bench.close()


def test_a_write_names_the_row_and_puts_the_others(small: Bench) -> None:
    report = small.write("notes", [note("a", 5), note("b", 500), note("c", 7)])
    assert (report.applied, report.superseded, report.too_large, report.rejected) == (2, 0, 1, 0)
    (problem,) = report.problems
    assert problem.startswith("row 1: notes@1.0.0, user='b': its row of 5")
    assert "larger than the 400 that the online store accepts" in problem
    assert small.values("notes:text", ["a", "b", "c"]) == ["x" * 5, None, "x" * 7]


def test_a_run_goes_on_past_it(small: Bench) -> None:
    small.write("notes", [note("a", 5), note("b", 500), note("c", 7)], to="offline")
    (run,) = small.materialize().runs
    assert (run.applied, run.too_large) == (2, 1)
    assert [w for w in run.warnings if "user='b'" in w and "not online" in w]
    assert small.values("notes:text", ["a", "b", "c"]) == ["x" * 5, None, "x" * 7]
    (again,) = small.materialize().runs
    assert again.too_large == 0  # its watermark is past it
    small.write("notes", [note("b", 9, minutes=1)])
    assert small.values("notes:text", ["b"]) == ["x" * 9]


def test_force_leaves_it_and_ends(small: Bench) -> None:
    small.write("notes", [note("a", 5), note("b", 6), note("c", 7)])
    small.write("notes", [note("b", 500, minutes=1)])
    (run,) = small.materialize(force=True).runs
    assert run.too_large == 1
    assert small.values("notes:text", ["a", "c"]) == ["x" * 5, "x" * 7]


def test_many_are_counted_and_some_named(small: Bench) -> None:
    small.write("notes", [note(f"u{i}", 500) for i in range(50)], to="offline")
    (run,) = small.materialize().runs
    assert (run.applied, run.too_large) == (0, 50)
    assert len(run.warnings) == 21
    assert run.warnings[-1] == "30 more rows are larger than the online store accepts"


def test_a_cache_only_row_is_rejected(small: Bench) -> None:
    rows = [note("a", 5), note("b", 500)]
    with pytest.raises(RowsRejected, match=r"row 1: notes@1.0.0, user='b': its row of"):
        small.write("notes", rows, to="online")
    assert small.values("notes:text", ["a"]) == [None]
    report = small.write("notes", rows, to="online", errors="report")
    assert (report.applied, report.rejected, report.too_large) == (1, 1, 0)
    assert small.values("notes:text", ["a", "b"]) == ["x" * 5, None]


def test_a_key_that_makes_every_row_too_large_stops_nothing(small: Bench) -> None:
    long = "k" * 600
    report = small.write("notes", [note(long, 5), note("a", 5)])
    assert (report.applied, report.too_large) == (1, 1)
    assert len(report.problems[0]) < 400
    small.delete("notes", [long, "a"])
    small.materialize()
    small.delete("notes", [long, "a"], purge=True)
    small.materialize()
    small.pass_time(hours=1)
    small.materialize(force=True)
    read = small.reader(["notes:text"]).read([long, "a"])
    assert read.statuses["text"] == [Status.NOT_FOUND, Status.NOT_FOUND]


def test_a_store_with_short_keys(tmp_path: Any) -> None:
    class ShortKeys(MemoryOnlineStore):
        capabilities = replace(MemoryOnlineStore.capabilities, max_key_bytes=40)

    bench = Bench(tmp_path, ShortKeys())
    bench.apply(USER, NOTES)
    report = bench.write("notes", [note("a", 5, -9), note("k" * 60, 5, -9)])
    assert (report.applied, report.too_large) == (1, 1)
    assert "its key of 69 bytes is larger than the 40" in report.problems[0]
    bench.close()
