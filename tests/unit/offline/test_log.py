"""The offline log: positions, arrivals, rolling, marks, purges, several processes."""

import multiprocessing
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.clock import MIN_MICROS, to_micros
from headwater.errors import FormatError, LogMismatch, StoreError
from headwater.offline import log as log_module
from headwater.offline.log import OfflineLog, RowGroup
from headwater.offline.log_marks import Digests, RowReading
from headwater.offline.log_tables import formats

T0 = datetime(2024, 1, 1, tzinfo=UTC)
READING = RowReading(("k",), "at", None)


class Ticking:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = T0

    def __call__(self) -> datetime:
        return self.at


def engine_of(folder: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{folder}/registry.db", connect_args={"timeout": 30})


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def log(tmp_path: Path, clock: Ticking) -> OfflineLog:
    return OfflineLog(engine_of(tmp_path), tmp_path / "log", clock)


def rows(keys: list[str], values: list[float | None], at: datetime = T0, **more: list[object]) -> pa.Table:
    columns: dict[str, object] = {
        "k": keys,
        "at": pa.array([at] * len(keys), pa.timestamp("us", "UTC")),
        "v": pa.array(values, pa.float64()),
    }
    return pa.table({**columns, **more})


def group(table: pa.Table, places: list[int] | None = None) -> RowGroup:
    return RowGroup(table, np.arange(table.num_rows) if places is None else np.array(places))


def content(log: OfflineLog, view: str = "w", until: int | None = None) -> list[tuple[int, str, object]]:
    """(position, key, v) of a slice, files and head alike."""
    found: list[tuple[int, str, object]] = []
    for part in log.slice(view, ["k"], until).parts:
        tables = [part.table] if part.table is not None else [pa.parquet.read_table(f) for f in part.files]
        for table in tables:
            found += [(r["__position"], r["k"], r.get("v")) for r in table.to_pylist()]
    return sorted(found)


def test_positions_follow_one_another_and_every_row_comes_back(log: OfflineLog) -> None:
    first = log.append("w", [group(rows(["a", "b"], [1.0, 2.0]))])
    second = log.append("w", [group(rows(["c"], [None]))])
    assert first[0].table.column("__position").to_pylist() == [1, 2]
    assert second[0].table.column("__position").to_pylist() == [3]
    assert content(log) == [(1, "a", 1.0), (2, "b", 2.0), (3, "c", None)]
    assert log.head_position() == 3
    assert content(log, until=2) == [(1, "a", 1.0), (2, "b", 2.0)]


def test_groups_of_one_write_keep_the_order_of_its_rows(log: OfflineLog) -> None:
    wide = rows(["b", "d"], [2.0, 4.0], extra=[7, 8])
    log.append("w", [group(rows(["a", "c"], [1.0, 3.0]), [0, 2]), group(wide, [1, 3])])
    assert content(log) == [(1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0), (4, "d", 4.0)]
    assert {part.columns for part in log.slice("w", ["k"]).parts} == {
        frozenset(["k", "at", "v"]),
        frozenset(["k", "at", "v", "extra"]),
    }
    log.roll()
    assert content(log) == [(1, "a", 1.0), (2, "b", 2.0), (3, "c", 3.0), (4, "d", 4.0)]


def test_views_are_apart(log: OfflineLog) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.append("x", [group(rows(["b"], [2.0]))])
    log.roll(["w"])
    log.append("w", [group(rows(["c"], [3.0]))])
    assert content(log, "w") == [(1, "a", 1.0), (3, "c", 3.0)]
    assert content(log, "x") == [(2, "b", 2.0)]


def test_arrival_is_the_clocks_and_never_goes_back(log: OfflineLog, clock: Ticking) -> None:
    def arrival() -> int:
        return int(log.append("w", [group(rows(["a"], [1.0]))])[0].table.column("__arrival")[0].as_py())

    assert arrival() == to_micros(T0)
    clock.at = T0 - timedelta(hours=1)
    assert arrival() == to_micros(T0)
    clock.at = T0 + timedelta(hours=1)
    assert arrival() == to_micros(clock.at)


def test_arrival_is_after_every_delete_and_a_delete_after_every_arrival(log: OfflineLog, clock: Ticking) -> None:
    ahead = to_micros(T0) + 5_000_000
    deleted = log.delete("w", pa.table({"k": ["a", "b"]}), [ahead, MIN_MICROS])
    assert deleted.through == (ahead, to_micros(T0))
    appended = log.append("w", [group(rows(["a"], [1.0]))])[0]
    assert appended.table.column("__arrival").to_pylist() == [ahead + 1]
    assert log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS]).through == (ahead + 1,)
    assert log.append("x", [group(rows(["a"], [1.0]))])[0].table.column("__arrival").to_pylist() == [to_micros(T0)]


def test_every_delete_mark_comes_back(log: OfflineLog, clock: Ticking) -> None:
    log.delete("w", pa.table({"k": ["a", "b"]}), [MIN_MICROS] * 2)
    before = log.head_position()
    clock.at += timedelta(minutes=1)
    log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
    marks = log.slice("w", ["k"]).deletes
    assert marks is not None
    assert sorted(marks.to_pylist(), key=str) == [
        {"k": "a", "__through": to_micros(T0)},
        {"k": "a", "__through": to_micros(clock.at)},
        {"k": "b", "__through": to_micros(T0)},
    ]
    earlier = log.slice("w", ["k"], before).deletes
    assert earlier is not None and set(earlier.column("__through").to_pylist()) == {to_micros(T0)}
    assert log.slice("w", ["other"]).deletes is None
    later = log.deletes_after("w", ["k"], before, log.head_position())
    assert later is not None and later.column("k").to_pylist() == ["a"]


def test_a_purge_drops_old_rows_on_append_and_erases_what_is_there(
    log: OfflineLog, clock: Ticking, tmp_path: Path
) -> None:
    log.append("w", [group(rows(["secret-a", "b"], [1.0, 2.0]))], [READING])
    log.roll()
    log.append("w", [group(rows(["secret-a", "c"], [3.0, 4.0]))], [READING])
    log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS])
    mark = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS], purge=True)
    known = pa.array([T0], pa.timestamp("us", "UTC"))
    old = rows(["secret-a"], [5.0], created_time=known)
    new = rows(["secret-a"], [6.0])
    dropped = log.append("w", [group(old)], [READING])[0]
    assert dropped.table.num_rows == 0 and list(dropped.rows) == []
    log.append("w", [group(new)], [READING])
    found = log.slice("w", ["k"])
    assert found.deletes is None
    assert list(found.purges.values()) == [(mark.through[0], mark.through[0])]
    assert found.digests is not None and found.digests(pa.table({"k": ["secret-a"]}))[0] in found.purges
    assert log.purged("w", pa.table({"k": ["secret-a", "b"]})).tolist() == [mark.through[0], MIN_MICROS]

    clock.at += timedelta(hours=2)
    due = log.purges_to_erase("w", to_micros(clock.at))
    assert log.purges_to_erase("w", to_micros(T0)) == {}
    log.erase("w", due, [READING])
    assert [(key, value) for _, key, value in content(log)] == [("b", 2.0), ("c", 4.0), ("secret-a", 6.0)]
    assert log.purges_to_erase("w", to_micros(clock.at) + 1) == {}
    assert len(list((tmp_path / "log").glob("*.parquet"))) == 1


def test_the_head_is_rolled_when_it_is_long(log: OfflineLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "HEAD_ROWS", 10)
    for i in range(4):
        log.append("w", [group(rows([f"{i}-{j}" for j in range(4)], [1.0] * 4))])
    assert len(list((tmp_path / "log").glob("*.parquet"))) == 1
    assert len(content(log)) == 16


def test_small_files_are_merged_and_the_old_ones_stay_a_day(log: OfflineLog, clock: Ticking, tmp_path: Path) -> None:
    for i in range(9):
        log.append("w", [group(rows([str(i)], [float(i)]))])
        log.roll()
    assert [key for _, key, _ in content(log)] == [str(i) for i in range(9)]
    assert sum(len(part.files) for part in log.slice("w", ["k"]).parts) == 1
    assert len(list((tmp_path / "log").glob("*.parquet"))) == 9
    clock.at += timedelta(days=2)
    log.append("w", [group(rows(["9"], [9.0]))])
    log.roll()
    assert len(list((tmp_path / "log").glob("*.parquet"))) == 2
    assert len(content(log)) == 10


def test_a_crash_before_the_roll_ends_leaves_only_a_file_that_the_next_roll_removes(
    log: OfflineLog, tmp_path: Path
) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    mine = next((tmp_path / "log").glob("*.parquet"))
    orphan = mine.with_name(mine.name.replace("-w-", "-x-"))
    orphan.write_bytes(mine.read_bytes())
    (tmp_path / "log" / "mine.parquet").write_bytes(b"a user's file")
    log.append("w", [group(rows(["b"], [2.0]))])
    log.roll()
    assert not orphan.exists() and (tmp_path / "log" / "mine.parquet").exists()
    assert content(log) == [(1, "a", 1.0), (2, "b", 2.0)]


def test_without_a_folder_everything_stays_in_the_head(tmp_path: Path, clock: Ticking) -> None:
    log = OfflineLog(engine_of(tmp_path), None, clock)
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    assert content(log) == [(1, "a", 1.0)]


def test_a_missing_file_is_named(log: OfflineLog, tmp_path: Path) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    file = next((tmp_path / "log").glob("*.parquet"))
    file.unlink()
    with pytest.raises(StoreError, match=file.name):
        log.slice("w", ["k"])


def test_another_logs_folder_is_refused(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    other = tmp_path / "other"
    other.mkdir()
    found = OfflineLog(engine_of(other), tmp_path / "log", clock)
    with pytest.raises(LogMismatch, match=log.log_id):
        found.claim(0)


def test_a_newer_format_is_refused(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    engine = engine_of(tmp_path)
    with engine.begin() as connection:
        connection.execute(formats.update().values(version=99))
    with pytest.raises(FormatError, match="upgrade"):
        OfflineLog(engine, None, clock)


def test_a_check_that_raises_undoes_the_write(log: OfflineLog) -> None:
    def refuse(connection: sa.Connection) -> None:
        raise StoreError("no")

    with pytest.raises(StoreError):
        log.append("w", [group(rows(["a"], [1.0]))], check=refuse)
    assert log.head_position() == 0 and content(log) == []


def test_the_counter_can_be_raised(log: OfflineLog) -> None:
    log.claim(100)
    log.claim(5)
    assert log.append("w", [group(rows(["a"], [1.0]))])[0].table.column("__position").to_pylist() == [101]


def test_a_log_opened_again_goes_on(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    again = OfflineLog(engine_of(tmp_path), tmp_path / "log", clock)
    assert again.log_id == log.log_id
    again.append("w", [group(rows(["b"], [2.0]))])
    assert content(log) == content(again) == [(1, "a", 1.0), (2, "b", 2.0)]


def _write(folder: str, name: str, count: int) -> None:
    log = OfflineLog(engine_of(Path(folder)), Path(folder) / "log", lambda: T0)
    for i in range(count):
        log.append("w", [group(rows([f"{name}{i}"], [1.0]))])
        if i % 10 == 9:
            log.roll()


def test_several_processes_write_roll_and_read_without_loss(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headwater.offline.log"])
    workers = [context.Process(target=_write, args=(str(tmp_path), name, 30)) for name in "xyz"]
    for worker in workers:
        worker.start()
    log = OfflineLog(engine_of(tmp_path), tmp_path / "log", lambda: T0)
    seen: list[tuple[int, str, object]] = []
    while any(worker.is_alive() for worker in workers):
        found = content(log)
        # nothing that was visible goes, nothing comes in before it
        assert found[: len(seen)] == seen
        seen = found
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    found = content(log)
    assert len(found) == 90 and [position for position, _, _ in found] == list(range(1, 91))


def test_threads_share_one_log(log: OfflineLog) -> None:
    def write(name: str) -> None:
        for i in range(25):
            log.append("w", [group(rows([f"{name}{i}"], [1.0]))])
            content(log)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [position for position, _, _ in content(log)] == list(range(1, 51))


@settings(max_examples=25, deadline=None)
@given(
    left=st.tuples(*[st.one_of(st.integers(-5, 5), st.text(max_size=3), st.binary(max_size=3), st.booleans())] * 2),
    right=st.tuples(*[st.one_of(st.integers(-5, 5), st.text(max_size=3), st.binary(max_size=3), st.booleans())] * 2),
)
def test_digests_tell_keys_apart(left: tuple[object, ...], right: tuple[object, ...]) -> None:
    digests = Digests(b"salt")
    same = [type(v) for v in left] == [type(v) for v in right] and left == right
    assert (digests.one(left) == digests.one(right)) == same


def test_a_registry_restored_from_an_old_copy_loses_no_file(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    shutil.copy(tmp_path / "registry.db", tmp_path / "copy.db")
    log.append("w", [group(rows(["b"], [2.0]))])
    log.roll()
    log._engine.dispose()
    shutil.copy(tmp_path / "copy.db", tmp_path / "registry.db")
    again = OfflineLog(engine_of(tmp_path), tmp_path / "log", clock)
    again.claim(0)
    assert again.append("w", [group(rows(["c"], [3.0]))])[0].table.column("__position").to_pylist() == [3]
    again.roll()
    assert content(again) == [(1, "a", 1.0), (3, "c", 3.0)]
    assert len(list((tmp_path / "log").glob("restored-*-w-2-2-*"))) == 1


def test_a_folder_that_takes_no_files_does_not_undo_a_write(
    log: OfflineLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "HEAD_ROWS", 0)
    (tmp_path / "log").write_text("a file where the folder should be")
    log.append("w", [group(rows(["a"], [1.0]))])
    assert content(log) == [(1, "a", 1.0)]
    with pytest.raises(StoreError, match="log"):
        log.roll()


def test_rows_of_equal_columns_are_one_part_in_every_process(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    for i in range(20):
        writer = OfflineLog(engine_of(tmp_path), tmp_path / "log", clock)
        writer.append("w", [group(rows([str(i)], [1.0]))])
    assert len(log.slice("w", ["k"]).parts) == 1
