"""What else touches window rows: purges, restored registries, clocks that are set right, retired versions, damage."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import UsageError
from headwater.online.meta import emptied_key, fill_record_key
from headwater.online.rows.codec import is_window_row
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.windows.row import NEVER
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing.window_project import AGGREGATIONS, KEYS, MINUTE, WindowProject


@pytest.fixture
def w(tmp_path: Path) -> Any:
    made = WindowProject(tmp_path, MemoryOnlineStore())
    yield made
    made.store.close()


def row(w: WindowProject, key: str, number: int, **more: Any) -> dict[str, Any]:
    given = {"k": key, "at": w.clock, "seen": w.clock, "id": None, "n": number, "kind": "a"}
    return given | more


def stored(w: WindowProject) -> dict[bytes, bytes]:
    return dict(w.online.scan(RowEncoder("windows", w.view()).prefix))


def test_a_run_counts_each_row_that_it_takes_once(w: WindowProject) -> None:
    w.store.materialize()
    w.clock += MINUTE
    w.store.write("v", [row(w, "a", 1), row(w, "b", 2)])
    w.store.write("v", [row(w, "a", 3)])
    w.clock += MINUTE
    (run,) = w.store.materialize().runs
    assert run.rows == 3
    (run,) = w.store.materialize().runs
    assert run.rows == 0


def test_a_purge_removes_the_row_once_nothing_old_is_in_flight(w: WindowProject) -> None:
    w.store.write("v", [row(w, key, i) for i, key in enumerate(KEYS)])
    w.store.materialize()
    w.store.delete("v", ["a"], purge=True)
    found = w.row("a")
    assert found is not None and found.newest_known == NEVER and len(stored(w)) == 3
    w.clock += timedelta(minutes=11)
    (run,) = w.store.materialize().runs
    assert run.erased == 1 and len(stored(w)) == 2
    assert not any(b"a" in key[8:] for key in stored(w))
    w.store.write("v", [row(w, "a", 9)])
    assert w.check() == 3
    w.lose_record()
    w.store.materialize()
    assert w.check() == 3


def test_a_purge_of_a_long_key(w: WindowProject) -> None:
    long = "x" * 900
    w.store.write("v", [row(w, long, 1), row(w, "a", 2)])
    w.store.write("v", [row(w, long, 3)])
    values = w.row(long)
    assert values is not None
    w.store.materialize(force=True)
    w.store.materialize(entities=[long])
    assert len(stored(w)) == 2 and any(long.encode() in data for data in stored(w).values())
    w.store.delete("v", [long], purge=True)
    w.clock += timedelta(minutes=11)
    w.store.materialize()
    assert len(stored(w)) == 1


def test_a_restored_registry_fills_the_version_again(w: WindowProject, tmp_path: Path) -> None:
    w.store.write("v", [row(w, "a", 1)])
    w.store.close()
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / ".headwater", kept)
    w.store = w.open()
    w.clock += MINUTE
    w.store.write("v", [row(w, "a", 2), row(w, "b", 3)])
    w.store.delete("v", ["c"])
    w.store.materialize()
    w.store.close()
    shutil.rmtree(tmp_path / ".headwater")
    shutil.copytree(kept, tmp_path / ".headwater")
    w.store = w.open()
    w.clock += MINUTE
    w.store.materialize()
    assert w.check() == 3
    w.store.write("v", [row(w, "a", 4)])
    assert w.check() == 3


def test_a_delete_that_a_restored_registry_has_lost_is_there_again(w: WindowProject, tmp_path: Path) -> None:
    w.store.write("v", [row(w, "a", 1)])
    w.store.close()
    shutil.copytree(tmp_path / ".headwater", tmp_path / "kept")
    w.store = w.open()
    w.store.delete("v", ["a"])
    w.store.close()
    shutil.rmtree(tmp_path / ".headwater")
    shutil.copytree(tmp_path / "kept", tmp_path / ".headwater")
    w.store = w.open()
    w.clock += MINUTE
    w.store.materialize()
    found = w.row("a")
    assert found is not None and found.delete_position > 0
    assert w.check() == 3


def test_a_clock_set_right_fills_the_version_again(w: WindowProject) -> None:
    right = w.clock
    w.clock += timedelta(days=3)
    w.store.write("v", [row(w, "a", 1)])
    w.store.materialize()
    w.clock = right
    w.store.repair_clock()
    assert w.online.multi_get([fill_record_key("windows", "v", "1.0.0")]) == [None]
    w.clock += MINUTE
    w.store.materialize()
    w.clock += timedelta(days=4)
    w.store.write("v", [row(w, "a", 2)])
    w.store.materialize()
    assert w.check() == 3


def test_rows_of_a_retired_version_go(w: WindowProject) -> None:
    w.store.write("v", [row(w, "a", 1)])
    w.store.apply([w.definition(version="9.0.0", description="the same")])
    w.clock += MINUTE
    w.store.materialize()
    w.store.promote("v", "9.0.0", force=True)
    w.store.retire("v", "1.0.0")
    w.clock += timedelta(hours=2)
    w.store.materialize()
    record, emptied = fill_record_key("windows", "v", "1.0.0"), emptied_key("windows", "v", "1.0.0")
    assert stored(w) == {}
    assert w.online.multi_get([record, emptied]) == [None, b"\1"]


def test_a_damaged_row_is_named_left_alone_by_writes_and_made_again_by_force(w: WindowProject) -> None:
    w.store.write("v", [row(w, "a", 1), row(w, "b", 2)])
    w.store.materialize()
    (key,) = [key for key in stored(w) if key.endswith(b"a")]
    data = stored(w)[key]
    broken = data[:70] + b"\xff" * 40 + data[110:]
    w.online._rows[key] = broken  # type: ignore[attr-defined]
    report = w.store.verify()
    assert [d.kind for d in report.damaged] == ["row"] and "v@1.0.0" in report.damaged[0].name
    w.store.write("v", [row(w, "a", 3)])
    assert stored(w)[key] == broken
    w.store.materialize()
    assert w.check() == 3 and is_window_row(stored(w)[key])
    w.online._rows[key] = broken  # type: ignore[attr-defined]
    w.store.materialize(force=True)
    assert w.check() == 3
    assert not w.store.verify().damaged


def test_a_start_is_refused(w: WindowProject) -> None:
    with pytest.raises(UsageError, match="start cannot be used with a view of window aggregations"):
        w.store.materialize("v", start=w.clock)
    w.store.materialize("v", end=w.clock)


def taken_over(tmp_path: Path, ahead: timedelta) -> WindowProject:
    """A project with a log of its own that took the store of another over, whose clock was ahead of its own."""
    online = MemoryOnlineStore()
    first = WindowProject(tmp_path / "first", online)
    right = first.clock
    first.clock += ahead
    first.store.write("v", [row(first, "a", 1)])
    owner = first.store.context.log_id
    first.store.close()
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "headwater.toml").write_text('project = "windows"\n')
    second = WindowProject.__new__(WindowProject)
    second.__dict__.update(first.__dict__, folder=folder)
    second.clock = right + MINUTE
    second.store = second.open()
    second.store.apply([hw.Entity("thing", join_keys={"k": hw.String}), second.definition()])
    second.store.claim_store(owner)
    return second


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=1)], ids=["behind", "ahead"])
def test_another_log_takes_the_store_over(tmp_path: Path, ahead: timedelta) -> None:
    second = taken_over(tmp_path, ahead)
    assert second.row("a") is None and stored(second) == {}
    second.store.write("v", [row(second, "b", 5)])
    second.store.materialize()
    assert second.check() == 3
    second.store.write("v", [row(second, "a", 6)])
    assert second.check() == 3
    second.store.close()


def test_a_row_that_a_version_skips_is_counted_by_one_run(w: WindowProject) -> None:
    w.store.materialize()
    w.clock += MINUTE
    columns = {"id": hw.String, "n": hw.Int64, "kind": hw.String, "price": hw.Int64}
    source = hw.PushSource(event_time="at", created_time="seen", event_id="id", schema=columns)
    features = [*AGGREGATIONS, hw.Aggregation("price", "sum", "2h")]
    view = msgspec.structs.replace(w.definition(), source=source, features=features, columns={})
    w.store.write("v", [row(w, "a", 1)])
    w.store.apply([view])

    def skipped(**options: Any) -> int:
        w.clock += MINUTE
        return sum(run.skipped for run in w.store.materialize("v", **options).runs)

    assert skipped() == 1
    assert skipped() == 0
    w.store.write("v", [row(w, "b", 2)])
    assert skipped() == 1
    assert skipped(force=True) == 2


def test_what_repeats_a_request_changes_nothing(w: WindowProject) -> None:
    rows = pa.Table.from_pylist([row(w, "a", 1)] * 3)
    w.store.write("v", rows)
    before = stored(w)
    from headwater.compute.windows.driving import Driver
    from headwater.compute.windows.putting import put

    driver = Driver(w.store.context, w.view(), w.store.context.write_until())
    head = w.store.context.log.head_position()
    for key, batches in driver.history.batches(list(before), 0, head).items():
        (batch,) = batches
        assert len(batch.events) == 3 and batch.position == head
        assert driver.do(put(driver.version, {key: batch})).applied == {key}
    assert stored(w) == before
