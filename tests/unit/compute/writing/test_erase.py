"""A purge counts as erased once no file has its key any more, whatever was killed, held or restored on the way."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

import headwater as hw
from headwater.compute.reports import MaterializeReport
from headwater.offline.log import cleaning as log_cleaning
from headwater.offline.log import deleting as log_deleting
from headwater.offline.log import files as log_files
from headwater.offline.log.folder import LogFolder
from headwater.online.hints import Hint
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from tests.children import problem_in_child
from tests.matrices import share

KEY = "erase.me@example.com"
OTHER = "other@example.com"
PERSON = hw.Entity("person", join_keys={"email": hw.String})
VIEW = hw.FeatureView("v", entity=PERSON, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)])
HOUR = 60


class Project:
    """A store on disk whose clock the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.store = self.open()
        self.store.apply([PERSON, VIEW])

    def open(self) -> hw.FeatureStore:
        self.store = hw.FeatureStore(self.folder, clock=lambda: self.now)
        return self.store

    @property
    def log(self) -> Path:
        return self.folder / ".headwater/log"

    def write(self, key: str = KEY, x: int = 1) -> None:
        self.store.write("v", [{"email": key, "at": self.now, "x": x}])

    def materialize(self, minutes: float = 1) -> MaterializeReport:
        self.now += timedelta(minutes=minutes)
        return self.store.materialize()

    def pending(self) -> int:
        return self.store.status().pending_purges

    def history(self, key: str) -> list[int | None]:
        spine = [{"email": key, "timestamp": self.now}]
        found: list[int | None] = self.store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist()
        return found

    def left(self) -> list[str]:
        """The files that hold the key in clear."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return sorted(path.name for path in files if KEY.encode() in path.read_bytes())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.store.close()


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_file_of_a_used_project_keeps_the_key(project: Project) -> None:
    for x in range(3):
        project.write(x=x)
        project.write(OTHER, x)
        project.materialize()
    project.write(x=3)
    project.store.write("v", [{"email": KEY, "at": project.now, "x": 4}], to="online")
    context = project.store.context
    record = context.registry.refresh().view("v")
    version = next(iter(record.versions))
    key = RowEncoder(context.project, whole_view(record, record.versions[version])).prefix + KEY.encode()
    context.refresh_queue.offer([Hint("v", version, key, 1, 1, context.now())], context.now())
    project.store.delete("v", [KEY])
    project.write(x=5)
    assert {"registry.db-wal", "data.mdb"} <= set(project.left())
    project.store.delete("v", [KEY], purge=True)
    project.materialize(HOUR)
    assert project.pending() == 0 and project.left() == []
    assert project.history(KEY) == [None] and project.history(OTHER) == [2]
    project.store.close()
    assert project.left() == []


KILLED_AT = [
    (log_deleting, "overwrite_free_pages"),
    (log_deleting, "empty_wal"),
    (log_deleting, "rewrite_aside"),
    (log_deleting, "remove_pending"),
    (log_deleting, "mark_erased"),
    (log_cleaning, "forget_removals"),
]


@pytest.mark.parametrize(("killed_at", "compacted"), share(product(KILLED_AT, [True, False]), 2))
def test_a_killed_erasure_is_finished_by_the_next_run(
    project: Project, killed_at: tuple[ModuleType, str], compacted: bool
) -> None:
    module, name = killed_at
    if name == "forget_removals" and not compacted:
        name, module = "mark_erased", log_deleting  # no file is to be removed
    assert hasattr(module, name)
    project.write()
    project.write(OTHER)
    if compacted:
        project.materialize()
    project.store.delete("v", [KEY], purge=True)
    project.store.close()
    project.now += timedelta(minutes=HOUR)

    def erase() -> None:
        store = project.open()
        if name == "remove_pending":
            store.context.log.roll()  # which removes too, before anything is erased
        setattr(module, name, die)
        store.materialize()

    assert problem_in_child(erase) == "exit -9"
    project.open()
    assert project.pending() == 1
    report = project.materialize(HOUR)
    assert report["v"].erased == 1 and project.pending() == 0
    assert project.left() == []
    assert project.history(OTHER) == [1]


def test_a_reader_of_the_database_keeps_the_purge_open(project: Project) -> None:
    project.write()
    other = sqlite3.connect(project.folder / ".headwater/registry.db")
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM log_head").fetchone() == (1,)
    project.store.delete("v", [KEY], purge=True)
    report = project.materialize(HOUR)
    assert report["v"].erased == 0 and project.pending() == 1
    assert any("write-ahead log" in warning and "v" in warning for warning in report.warnings)
    other.close()
    assert project.materialize(HOUR)["v"].erased == 1
    assert project.pending() == 0 and project.left() == []


def test_a_file_that_cannot_be_removed_keeps_the_purge_open(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write()
    project.materialize()
    project.store.delete("v", [KEY], purge=True)
    with monkeypatch.context() as patch:
        patch.setattr(LogFolder, "remove", lambda self, names: list(names))
        report = project.materialize(HOUR)
    assert project.pending() == 1 and project.left() != []
    assert any("cannot be removed" in warning for warning in report.warnings)
    assert project.materialize(HOUR)["v"].erased == 1
    assert project.pending() == 0 and project.left() == []


def test_a_damaged_file_keeps_the_purge_open_until_it_is_given_up(project: Project) -> None:
    project.write()
    project.materialize()
    (file,) = project.log.glob("log-*.parquet")
    file.write_bytes(file.read_bytes()[:-8])
    project.store.delete("v", [KEY], purge=True)
    report = project.materialize(HOUR)
    assert project.pending() == 1
    assert any(file.name in warning and "not erased yet" in warning for warning in report.warnings)
    project.store.verify(forget=[file.name])
    assert project.materialize(HOUR)["v"].erased == 1
    # nobody can say whether it held the key
    assert list(project.log.glob("*.parquet")) == [] and project.left() == []


def test_files_that_a_restored_registry_does_not_know_are_erased_too(project: Project) -> None:
    project.write()
    project.write(OTHER)
    project.store.close()
    backup = project.folder / "backup"
    shutil.copytree(project.folder / ".headwater", backup)
    project.open()
    project.write(x=2)
    project.write(OTHER, 2)
    project.materialize()
    project.store.close()
    for file in (project.folder / ".headwater").glob("registry.db*"):
        file.unlink()
    for file in backup.glob("registry.db*"):
        shutil.copy(file, project.folder / ".headwater" / file.name)
    shutil.rmtree(backup)
    project.open()
    project.materialize()
    aside = list(project.log.glob("restored-*.parquet"))
    assert aside
    project.store.delete("v", [KEY], purge=True)
    project.materialize(HOUR)
    assert project.pending() == 0 and project.left() == []
    # the other rows in them are kept
    assert len(list(project.log.glob("restored-*.parquet"))) == len(aside)


def test_no_page_of_sqlite_keeps_a_key_that_an_earlier_release_removed(project: Project) -> None:
    path = project.folder / ".headwater/registry.db"
    project.write()
    project.store.delete("v", [KEY], purge=True)
    project.store.close()
    with sqlite3.connect(path) as connection:
        # what it removed without overwriting it stays in free pages
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE t (k TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(KEY + "x" * 500,)] * 200)
        connection.commit()
        connection.execute("DELETE FROM t")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert project.left() != []
    project.open()
    assert project.materialize(HOUR)["v"].erased == 1
    assert project.left() == []


def test_what_a_killed_compaction_leaves_is_removed(project: Project) -> None:
    project.write()
    project.materialize()
    project.write(x=2)
    project.store.close()

    def compact() -> None:
        store = project.open()
        log_files.leave_out = die  # type: ignore[assignment]
        store.context.log.roll()

    before = set(project.log.iterdir())
    problem = problem_in_child(compact)
    assert problem == "exit -9", problem
    (left,) = set(project.log.iterdir()) - before
    (project.log / (left.name + ".tmp")).touch()
    project.open()
    project.materialize()
    assert not left.exists() and not list(project.log.glob("*.tmp"))
    assert project.history(KEY) == [2]


def test_a_purge_that_no_run_has_erased_in_time_is_named_by_status(project: Project) -> None:
    project.write()
    project.store.delete("v", [KEY, OTHER], purge=True)
    status = project.store.status()
    assert (status.pending_purges, status.overdue_purges, status.overdue_since) == (2, 0, None)
    until = status.pending_until
    project.now += timedelta(minutes=HOUR)
    status = project.store.status()
    assert (status.pending_purges, status.overdue_purges, status.overdue_since) == (2, 2, until)
    (warning,) = [text for text in status.warnings if "purge" in text]
    assert "2 purges could have been erased since 2026-06-01 00:10:00 UTC" in warning
    assert "run headwater materialize" in warning
    project.materialize()
    status = project.store.status()
    assert (status.pending_purges, status.overdue_purges, status.overdue_since) == (0, 0, None)
    assert not [text for text in status.warnings if "purge" in text]
