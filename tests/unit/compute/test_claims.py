"""Whose the offline log and the online store are: two projects, a log that takes over, and restored databases."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import headwater as hw
from headwater.compute import registry_location
from headwater.errors import LogMismatch, RegistryError, UsageError
from headwater.offline.files import local
from headwater.online.meta import location_key
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.registry.registry import rename_project

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
AIRPORT = hw.Entity("airport", join_keys={"airport": hw.String})
VIEW = hw.FeatureView(
    "weather",
    entity=AIRPORT,
    source=hw.PushSource(event_time="at", created_time="seen"),
    features=[hw.Feature("temp", hw.Float64)],
)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def row(airport: str, temp: float, minutes: float = 0) -> dict[str, object]:
    at = NOON + timedelta(minutes=minutes)
    return {"airport": airport, "at": at, "seen": at, "temp": temp}


def project(folder: Path, online: MemoryOnlineStore, clock: Clock, name: str = "") -> hw.FeatureStore:
    folder.mkdir(exist_ok=True)
    if name:
        (folder / "headwater.toml").write_text(f'project = "{name}"\n')
    store = hw.FeatureStore(folder, online=online, clock=clock)
    store.apply([AIRPORT, VIEW])
    return store


def online(store: hw.FeatureStore, *airports: str) -> list[float | None]:
    return store.get_online_features(["weather:temp"], list(airports)).to_dict()["temp"]


def history(store: hw.FeatureStore, at: datetime, *airports: str) -> list[float | None]:
    spine = [{"airport": airport, "timestamp": at} for airport in airports]
    return store.get_historical_features(spine, ["weather:temp"]).to_arrow()["temp"].to_pylist()


def test_a_project_without_a_name_has_its_folders_and_keeps_it(tmp_path: Path, clock: Clock) -> None:
    shared = MemoryOnlineStore()
    with project(tmp_path / "first", shared, clock) as first, project(tmp_path / "second", shared, clock) as second:
        first.write("weather", [row("JFK", 61.0)])
        second.write("weather", [row("JFK", -5.0)])
        assert (online(first, "JFK"), online(second, "JFK")) == ([61.0], [-5.0])
        assert (first.registry.project, second.registry.project) == ("first", "second")
    (tmp_path / "first").rename(tmp_path / "moved")
    with hw.FeatureStore(tmp_path / "moved", online=shared, clock=clock) as moved:
        assert online(moved, "JFK") == [61.0]
        assert moved.context.project == "first"
    (tmp_path / "moved/headwater.toml").write_text('project = "other"\n')
    with pytest.raises(RegistryError, match="'first', not 'other'"):
        hw.FeatureStore(tmp_path / "moved", online=shared, clock=clock)


def test_another_logs_rows_are_refused_for_reads_and_writes_until_they_are_claimed(
    tmp_path: Path, clock: Clock
) -> None:
    shared = MemoryOnlineStore()
    with (
        project(tmp_path / "a", shared, clock, "flights") as first,
        project(tmp_path / "b", shared, clock, "flights") as second,
    ):
        reader = first.prepare(["weather:temp"])
        first.write("weather", [row("JFK", 61.0), row("EWR", 60.0)])
        first.delete("weather", ["EWR"])
        for call in (
            lambda: second.prepare(["weather:temp"]),
            lambda: second.write("weather", [row("JFK", -5.0)]),
            lambda: second.delete("weather", ["JFK"]),
            second.materialize,
        ):
            with pytest.raises(LogMismatch, match=r"rename-project .*claim-store --from") as refused:
                call()
            assert "empty" not in str(refused.value) and "remove" not in str(refused.value)
        assert second.context.log.head_position() == 0
        ids = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", str(refused.value))
        assert ids[:2] == [first.context.log.log_id, second.context.log.log_id]
        with pytest.raises(UsageError, match="nothing was changed"):
            second.claim_store("another")
        # rows for the log alone need no online store
        second.write("weather", [row("SFO", 55.0)], to="offline")
        second.claim_store(first.context.log.log_id)
        second.write("weather", [row("JFK", -5.0, 1)])
        clock.now += timedelta(minutes=2)
        second.materialize()
        # rows and deletes of the other log stay until they are replaced, or force removes them
        assert online(second, "JFK", "EWR", "SFO") == [-5.0, None, 55.0]
        first.context.claims.look_again()
        for call in (lambda: first.write("weather", [row("JFK", 1.0, 3)]), first.materialize):
            with pytest.raises(LogMismatch):
                call()
        first.context.claims.look_again()
        with pytest.raises(LogMismatch):
            reader.read(["JFK"])
        second.materialize(force=True)
        assert (
            online(second, "JFK", "EWR", "SFO") == [-5.0, None, 55.0] == history(second, clock.now, "JFK", "EWR", "SFO")
        )


def test_positions_go_on_above_all_that_the_store_has_seen(tmp_path: Path, clock: Clock) -> None:
    shared = MemoryOnlineStore()
    with project(tmp_path / "p", shared, clock) as store:
        store.write("weather", [row("JFK", 1.0)])
        store.materialize()
        store.registry.engine.dispose()
    database = tmp_path / "p/.headwater/registry.db"
    shutil.copy(database, tmp_path / "backup.db")
    with hw.FeatureStore(tmp_path / "p", online=shared, clock=clock) as store:
        for i in range(20):
            store.write("weather", [row("EWR", 100.0 + i)])
        store.write("weather", [row("SFO", 7.0)])
        store.delete("weather", ["JFK"])
        store.delete("weather", ["SFO"], purge=True)
    for file in database.parent.glob("registry.db*"):
        file.unlink()
    shutil.copy(tmp_path / "backup.db", database)
    with hw.FeatureStore(tmp_path / "p", online=shared, clock=clock) as store:
        assert store.write("weather", [row("EWR", 7.0)]).position > 21
        warnings: list[str] = []
        for force in (False, True):
            clock.now += timedelta(minutes=1)
            warnings += store.materialize(force=force).warnings
            keys = ("EWR", "JFK", "SFO")
            assert online(store, *keys) == history(store, clock.now, *keys) == [7.0, None, None]
        assert "restored from an older copy: 2 deletes were appended again" in warnings[0]
        # a replay of what was deleted stays hidden
        store.write("weather", [row("SFO", 7.0)])
        assert online(store, "SFO") == [None]
        clock.now += timedelta(minutes=11)
        store.materialize()
        assert store.materialize().warnings == ()


def test_a_store_that_is_emptied_during_a_run_is_filled(tmp_path: Path, clock: Clock) -> None:
    class Restarting(MemoryOnlineStore):
        """Loses everything once, after a put."""

        restarts = 0

        def put(self, rows, **options):
            done = super().put(rows, **options)
            if self.restarts:
                self.restarts -= 1
                self._rows.clear()
            return done

    shared = Restarting()
    with project(tmp_path / "p", shared, clock) as store:
        store.write("weather", [row("JFK", 1.0), row("EWR", 2.0)], to="offline")
        shared.restarts = 1
        report = store.materialize()
        assert "restarted" in report.warnings[0]
        assert online(store, "JFK", "EWR") == [1.0, 2.0]
        shared.restarts = 2
        clock.now += timedelta(minutes=1)
        store.write("weather", [row("JFK", 3.0, 1)], to="offline")
        with pytest.raises(hw.Unavailable, match="twice"):
            store.materialize()
        store.materialize()
        assert online(store, "JFK", "EWR") == [3.0, 2.0]


def test_a_run_that_another_log_overtakes_fails_and_status_and_verify_say_whose_the_store_is(
    tmp_path: Path, clock: Clock
) -> None:
    shared = MemoryOnlineStore()
    with (
        project(tmp_path / "a", shared, clock, "flights") as first,
        project(tmp_path / "b", shared, clock, "flights") as second,
    ):
        first.write("weather", [row("JFK", 61.0)])
        first.materialize()
        assert second.verify().damaged and "claim-store" in second.verify().damaged[0].go_on
        clock.now += timedelta(minutes=1)
        changes = first.context.engine.changes

        def overtaken(*arguments, **options):
            if shared.multi_get([first.context.claims.owner_key])[0] is not None and not first.status().failures:
                second.claim_store(first.context.log.log_id)
            return changes(*arguments, **options)

        first.context.engine.changes = overtaken  # type: ignore[method-assign]
        with pytest.raises(LogMismatch, match="claim-store --from"):
            first.materialize()
        told = first.status()
        assert any("claim-store --from" in warning for warning in told.warnings) and told.failures
        assert second.verify().whole and not second.status().failures


def test_a_log_folder_that_goes_under_an_open_process_refuses_writes_at_once(tmp_path: Path, clock: Clock) -> None:
    with project(tmp_path / "p", MemoryOnlineStore(), clock) as store:
        store.write("weather", [row("JFK", 1.0)])
        store.materialize()
        folder = tmp_path / "p/.headwater/log"
        before = store.context.log.head_position()
        for another in (False, True):
            folder.rename(tmp_path / "away")
            if another:
                shutil.copytree(tmp_path / "away", folder)
                (folder / "log.json").write_text((folder / "log.json").read_text().replace("-", "0"))
            for call in (
                lambda: store.write("weather", [row("JFK", 2.0)]),
                lambda: store.write("weather", [row("JFK", 2.0)], to="offline"),
                lambda: store.delete("weather", ["JFK"]),
                lambda: store.delete("weather", ["JFK"], purge=True),
            ):
                with pytest.raises((LogMismatch, hw.FormatError), match="folder"):
                    call()
            shutil.rmtree(folder, ignore_errors=True)
            (tmp_path / "away").rename(folder)
        assert store.context.log.head_position() == before
        assert store.write("weather", [row("JFK", 3.0)]).position == before + 1


@pytest.mark.parametrize("what", [".headwater", "."])
@pytest.mark.parametrize("times", [1, 3])
def test_a_project_that_is_removed_is_made_again_in_the_same_process(
    tmp_path: Path, clock: Clock, what: str, times: int
) -> None:
    for _ in range(1 + times):
        with project(tmp_path / "p", MemoryOnlineStore(), clock) as store:
            store.write("weather", [row("JFK", 1.0)])
            assert online(store, "JFK") == [1.0]
        shutil.rmtree(tmp_path / "p" / what)


def test_a_purge_at_the_end_of_time_is_acknowledged(tmp_path: Path) -> None:
    end = Clock()
    end.now = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    with project(tmp_path / "p", MemoryOnlineStore(), end) as store:
        assert store.delete("weather", ["JFK"], purge=True).pending_until == datetime.max.replace(tzinfo=UTC)
        assert store.status().pending_purges == 1


SHARED = "lmdb:../store"


def folder_project(folder: Path, clock: Clock, url: str = SHARED) -> hw.FeatureStore:
    """A project in a folder, on an online store beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "headwater.toml").write_text(f'project = "flights"\n[online]\nurl = "{url}"\n')
    store = hw.FeatureStore(folder, clock=clock)
    store.apply([AIRPORT, VIEW])
    return store


def copied(tmp_path: Path, clock: Clock, url: str = SHARED) -> tuple[Path, Path]:
    """A project with a row, and a copy of its folder as it was before it had another one."""
    first, copy = tmp_path / "first", tmp_path / "copy"
    with folder_project(first, clock, url) as store:
        store.write("weather", [row("JFK", 61.0)])
    shutil.copytree(first, copy)
    clock.now += timedelta(minutes=5)
    with folder_project(first, clock, url) as store:
        store.write("weather", [row("JFK", 62.0, 1)])
    return first, copy


def test_a_copy_of_the_folder_changes_nothing_in_the_store_of_the_original(tmp_path: Path, clock: Clock) -> None:
    first, copy = copied(tmp_path, clock)
    with folder_project(copy, clock) as other:
        for call in (
            other.materialize,
            lambda: other.materialize(force=True),
            lambda: other.write("weather", [row("JFK", -5.0, 2)]),
            lambda: other.write("weather", [row("JFK", -5.0, 2)], to="online"),
            lambda: other.delete("weather", ["JFK"]),
            lambda: other.erase("airport", ["JFK"]),
            other.repair_clock,
        ):
            with pytest.raises(LogMismatch, match=r"first/.*one is a copy.*rename-project .*claim-store --from") as bad:
                call()
        assert str(first.resolve()) in str(bad.value) and str(copy.resolve()) in str(bad.value)
        # history of the copy alone
        other.write("weather", [row("SFO", 55.0)], to="offline")
    with folder_project(first, clock) as store:
        session = store.session()
        assert online(store, "JFK") == [62.0]
        store.write("weather", [row("JFK", 63.0, 3)], session=session)
        store.materialize()
        assert (online(store, "JFK"), history(store, clock.now, "JFK")) == ([63.0], [63.0])


def test_a_copy_goes_on_under_another_name_or_replaces_the_original(tmp_path: Path, clock: Clock) -> None:
    first, copy = copied(tmp_path, clock)
    (copy / "headwater.toml").write_text('[online]\nurl = "lmdb:../store"\n')
    rename_project("sqlite:///.headwater/registry.db", copy, "trial")
    with hw.FeatureStore(copy, clock=clock) as trial:
        trial.materialize()
        assert online(trial, "JFK") == [61.0]
    rename_project("sqlite:///.headwater/registry.db", copy, "flights")
    with folder_project(copy, clock) as other, folder_project(first, clock) as store:
        with pytest.raises(UsageError, match="which is this registry's"):
            store.claim_store(store.context.log_id)
        other.claim_store(other.context.log_id)
        clock.now += timedelta(minutes=1)
        other.materialize()
        other.write("weather", [row("JFK", 64.0, 4)])
        assert online(other, "JFK") == [64.0]
        with pytest.raises(LogMismatch, match="copy/"):
            store.materialize()


def test_a_folder_that_was_moved_or_restored_or_came_with_its_store_goes_on(tmp_path: Path, clock: Clock) -> None:
    first, copy = copied(tmp_path, clock)
    shutil.rmtree(copy)
    backup, moved = tmp_path / "backup", tmp_path / "moved"
    shutil.copytree(first, backup)
    # restored in place: the file is another one
    shutil.rmtree(first)
    shutil.copytree(backup, first)
    with folder_project(first, clock) as store:
        store.write("weather", [row("JFK", 63.0, 2)])
    # moved within a file system, then as a copy whose original is removed, then with another project at its old path
    first.rename(moved)
    with folder_project(moved, clock) as store:
        store.write("weather", [row("JFK", 64.0, 3)])
    shutil.copytree(moved, first)
    shutil.rmtree(moved)
    moved.mkdir()
    with hw.FeatureStore(moved, online=MemoryOnlineStore(), clock=clock) as another:
        another.apply([AIRPORT, VIEW])
        another.write("weather", [row("JFK", -5.0)])
    with folder_project(first, clock) as store:
        store.write("weather", [row("JFK", 65.0, 4)])
        store.materialize()
        assert online(store, "JFK") == [65.0]
    # a copy that has a copy of the online store too shares nothing
    shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"))
    with folder_project(tmp_path.with_name("elsewhere") / "first", clock) as store:
        store.write("weather", [row("JFK", 66.0, 5)])
        assert online(store, "JFK") == [66.0]


def test_a_registry_on_another_host_is_another_one_but_on_the_same_volume(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, copy = copied(tmp_path, clock)
    monkeypatch.setattr(registry_location, "this_host", lambda: "another")
    with folder_project(first, clock) as store:
        store.write("weather", [row("JFK", 63.0, 2)])
    for module in (registry_location, local):
        monkeypatch.setattr(module, "this_host", lambda: "third")
    with folder_project(copy, clock) as store, pytest.raises(LogMismatch, match=r"registry\.db on another host"):
        store.materialize()


def test_a_store_of_the_release_before_has_no_place_until_it_is_written_to(tmp_path: Path, clock: Clock) -> None:
    shared = MemoryOnlineStore()
    first = tmp_path / "first"
    with folder_project(first, clock) as store:
        store.write("weather", [row("JFK", 61.0)])
        key = location_key("flights")
        (place,) = store.context.online.multi_get([key])
        assert place is not None
        store.context.online.put_meta({key: None})
    with folder_project(first, clock) as store:
        assert online(store, "JFK") == [61.0]
        store.materialize()
        assert store.context.online.multi_get([key]) == [place]
    # nothing tells copies apart that share a store in one process's memory
    with project(tmp_path / "second", shared, clock) as other:
        other.write("weather", [row("JFK", 61.0)])
        assert shared.multi_get([location_key("second")]) == [None]
