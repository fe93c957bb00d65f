"""A SQLite file that is replaced, copied over, removed or made read-only under a process that has it open."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.database import files, watching
from headwater.database.engine import open_engine
from headwater.database.transactions import reading, writing
from headwater.errors import HeadwaterError, StoreError, StoreReadOnly, Unavailable
from headwater.testing import SCALE
from tests.children import problem_in_child
from tests.forked import Forked

OTHER = """
import gc, json, os, shutil, sys
from pathlib import Path
import sqlalchemy as sa
from headwater.database.engine import open_engine
from headwater.database.transactions import reading, writing

engines = {}

def opened(folder):
    if folder not in engines:
        engines[folder] = open_engine("sqlite:///some.db", Path(folder))
    return engines[folder]

def insert(connection, x):
    connection.execute(sa.text("INSERT INTO t VALUES (:x, :pad)"), {"x": x, "pad": "-" * 1500})

def write(folder, x):
    with writing(opened(folder)) as connection:
        insert(connection, x)

def read(folder):
    with reading(opened(folder)) as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        return sorted(connection.execute(sa.text("SELECT x FROM t")).scalars())

def close(folder):
    if folder in engines:
        engines.pop(folder).dispose()
        gc.collect()

def read_fresh(folder):
    close(folder)
    try:
        return read(folder)
    finally:
        close(folder)

def checkpoint(folder, how):
    with opened(folder).connect() as connection:
        connection.exec_driver_sql(f"PRAGMA wal_checkpoint({how})")

def copy(source, target):
    shutil.copyfile(source, target)

def cut(path, size):
    os.truncate(path, size)

def leave():
    sys.exit()

def hold(folder, x):
    with writing(opened(folder)) as connection:
        insert(connection, x)
        print(json.dumps(["begun"]), flush=True)
        sys.stdin.readline()

for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = [globals()[name](*arguments)]
    except Exception as bad:
        answer = [type(bad).__name__, str(bad)]
    print(json.dumps(answer), flush=True)
"""


class Failed(Exception):
    """What another process was asked for raised an error there."""


class Other:
    """Another process that uses the database of a folder.

    Files are copied by it: where a process closes a file that SQLite has open, it loses its locks on it.
    """

    def __init__(self) -> None:
        self.process = Forked([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(w) if isinstance(w, Path) else w for w in words]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        if len(answer) > 1:
            raise Failed(*answer)
        return answer[0]

    def do(self, *words: Any) -> Any:
        try:
            self.send(*words)
            return self.answer()
        except Failed:
            raise
        except BaseException:
            # a test that was ended in mid-answer must not leave that answer to the next one
            self.end()
            self.__init__()  # type: ignore[misc]
            raise

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def copier() -> Iterator[Other]:
    made = Other()
    yield made
    made.end()


@pytest.fixture
def other() -> Iterator[Other]:
    """One that may be stopped or killed."""
    made = Other()
    yield made
    made.end()


def open_database(folder: Path) -> sa.Engine:
    made = open_engine("sqlite:///some.db", folder)
    with writing(made) as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY, pad TEXT)"))
    return made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = open_database(tmp_path)
    yield made
    made.dispose()


def write(engine: sa.Engine, x: int) -> None:
    with writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (:x, :pad)"), {"x": x, "pad": "-" * 1500})


def read(engine: sa.Engine) -> list[int]:
    with reading(engine) as connection:
        return sorted(connection.execute(sa.text("SELECT x FROM t")).scalars())


# one step: what is done, and to which copy of the database
STEPS = st.one_of(
    st.tuples(st.sampled_from(["write", "write", "write there", "checkpoint", "empty the log", "leave"])),
    st.tuples(st.just("copy aside"), st.booleans()),
    st.tuples(
        st.just("restore"),
        st.integers(0, 3),
        st.sampled_from(["copy over", "rename", "remove first"]),
        st.sampled_from(["left", "removed", "restored"]),
    ),
)


class Restores:
    """A database, copies of it, and what each of them must hold by all that was acknowledged."""

    def __init__(self, folder: Path, copier: Other) -> None:
        self.folder, self.db, self.copier = folder, folder / "some.db", copier
        self.engine = open_database(folder)
        self.copier.do("checkpoint", folder, "TRUNCATE")
        self.x = 0
        self.may_hold: list[set[int]] = [set()]
        """What a process may find now: one state, unless files of two were put beside each other."""
        self.copies: list[tuple[Path, bool, set[int]]] = []

    def end(self) -> None:
        self.engine.dispose()
        self.copier.do("close", self.folder)

    def _settle(self, found: list[int]) -> None:
        assert set(found) in self.may_hold, f"read {found}, and should be one of {self.may_hold}"
        self.may_hold = [set(found)]

    def _write(self, do: Callable[[int], object]) -> None:
        self.x += 1
        before = self.may_hold
        try:
            do(self.x)
        except (HeadwaterError, Failed) as refused:
            assert not isinstance(refused, Failed) or refused.args[0] in ("Unavailable", "FormatError"), refused
            # nothing was acknowledged: it may be there or not
            self.may_hold = [*before, *({*state, self.x} for state in before)]
        else:
            self.may_hold = [{*state, self.x} for state in before]
            self._settle(self.copier.do("read", self.folder))

    def do(self, step: tuple[Any, ...]) -> None:
        if step[0] == "write":
            self._write(lambda x: write(self.engine, x))
        elif step[0] == "write there":
            self._write(lambda x: self.copier.do("write", self.folder, x))
        elif step[0] == "leave":
            self.copier.do("close", self.folder)
        elif step[0] in ("checkpoint", "empty the log"):
            with suppress(Failed):
                self.copier.do("checkpoint", self.folder, "PASSIVE" if step[0] == "checkpoint" else "TRUNCATE")
        elif step[0] == "copy aside":
            self._copy_aside(with_log=step[1])
        elif self.copies:
            self._restore(*self.copies[step[1] % len(self.copies)], *step[2:])

    def _copy_aside(self, with_log: bool) -> None:
        aside = self.folder / f"copy{len(self.copies)}"
        aside.mkdir()
        if not with_log:
            with suppress(Failed):
                self.copier.do("checkpoint", self.folder, "TRUNCATE")
        wal = self.db.with_name("some.db-wal")
        self.copier.do("copy", self.db, aside / "some.db")
        if wal.exists():
            self.copier.do("copy", wal, aside / "some.db-wal")
        other = self.folder / f"looked{len(self.copies)}"
        other.mkdir()
        for file in aside.iterdir():
            shutil.copyfile(file, other / file.name)
        held = set(self.copier.do("read_fresh", other))
        self.copies.append((aside, with_log, held))

    def _restore(self, aside: Path, with_log: bool, held: set[int], how: str, beside: str) -> None:
        before = [set(state) for state in self.may_hold]
        wal, shm = (self.db.with_name("some.db" + end) for end in ("-wal", "-shm"))
        if how == "remove first":
            self.db.unlink()
        if beside != "left" or how == "remove first":
            for file in (wal, shm):
                file.unlink(missing_ok=True)
        saved = aside / "some.db-wal"
        log_comes = beside == "restored" and saved.exists()
        if log_comes:
            self.copier.do("copy", saved, wal)
        if how == "copy over":
            self.copier.do("copy", aside / "some.db", self.db)
        else:
            shutil.copyfile(aside / "some.db", self.folder / "coming")
            (self.folder / "coming").replace(self.db)
        alone = self.folder / "alone"
        alone.mkdir(exist_ok=True)
        shutil.copyfile(aside / "some.db", alone / "some.db")
        without_log = set(self.copier.do("read_fresh", alone))
        shutil.rmtree(alone)
        self.may_hold = [without_log, held]
        if beside == "left" and how != "remove first":
            # the log may go on from the very file that came back: then nothing is lost
            self.may_hold += before

    def check(self) -> None:
        """What this process reads or refuses, another finds too; what it writes then, another has."""
        try:
            found = read(self.engine)
        except HeadwaterError:
            return
        self._settle(found)
        self._settle(self.copier.do("read", self.folder))


@settings(max_examples=6 * SCALE, deadline=None)
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_what_is_acknowledged_is_in_the_file_that_is_at_the_path(
    steps: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory, copier: Other
) -> None:
    restores = Restores(tmp_path_factory.mktemp("restores"), copier)
    try:
        for step in steps:
            restores.do(step)
            if step[0] == "restore":
                restores.do(("write",))
        restores.check()
        restores._settle(copier.do("read_fresh", restores.folder))
    finally:
        restores.end()


def aside(copier: Other, folder: Path, *, log: bool) -> Path:
    """A copy of the database; without its write-ahead log that is emptied first."""
    if not log:
        copier.do("checkpoint", folder, "TRUNCATE")
    made = folder / "aside"
    made.mkdir()
    for file in folder.glob("some.db*"):
        if not file.name.endswith("-shm"):
            copier.do("copy", file, made / file.name)
    copier.do("close", folder)
    return made


def test_a_process_stopped_in_a_transaction_while_the_file_is_copied_over_is_refused(
    engine: sa.Engine, tmp_path: Path, copier: Other, other: Other
) -> None:
    write(engine, 1)
    copy = aside(copier, tmp_path, log=False)
    for x in range(2, 20):
        write(engine, x)
    other.send("hold", tmp_path, 100)
    assert other.answer() == "begun"
    other.process.send_signal(signal.SIGSTOP)
    copier.do("copy", copy / "some.db", tmp_path / "some.db")
    (tmp_path / "some.db-wal").unlink()
    (tmp_path / "some.db-shm").unlink()
    # the lock that the other has is one of the file that is gone
    assert read(engine) == [1]
    write(engine, 50)
    other.process.send_signal(signal.SIGCONT)
    other.send("go on")
    with pytest.raises(Failed, match="what was just written may be lost"):
        other.answer()
    assert other.do("read", tmp_path) == read(engine) == [1, 50]
    other.do("write", tmp_path, 101)
    assert copier.do("read_fresh", tmp_path) == read(engine) == [1, 50, 101]


def test_a_stopped_process_that_notices_first_moves_no_page_of_its_log_into_the_file(
    engine: sa.Engine, tmp_path: Path, copier: Other, other: Other
) -> None:
    other.do("write", tmp_path, 1)
    copy = aside(copier, tmp_path, log=False)
    other.do("checkpoint", tmp_path, "TRUNCATE")
    for x in range(2, 20):
        write(engine, x)
    copier.do("checkpoint", tmp_path, "PASSIVE")
    copier.do("close", tmp_path)
    other.send("hold", tmp_path, 100)
    assert other.answer() == "begun"
    other.process.send_signal(signal.SIGSTOP)
    copier.do("copy", copy / "some.db", tmp_path / "some.db")
    other.process.send_signal(signal.SIGCONT)
    other.send("go on")
    with pytest.raises(Failed, match="what was just written may be lost"):
        other.answer()
    # the log was begun again since the copy was made: its pages are of a later state than the file's
    assert other.do("read", tmp_path) == read(engine) == copier.do("read_fresh", tmp_path) == [1]


def test_a_process_that_only_closes_moves_no_page_into_a_file_that_was_copied_over(
    engine: sa.Engine, tmp_path: Path, copier: Other, other: Other
) -> None:
    write(engine, 1)
    copy = aside(copier, tmp_path, log=False)
    write(engine, 2)
    copier.do("checkpoint", tmp_path, "TRUNCATE")
    copier.do("close", tmp_path)
    write(engine, 3)
    other.do("read", tmp_path)
    copier.do("copy", copy / "some.db", tmp_path / "some.db")
    for how in ("close", "end", "forget"):
        if how == "close":
            other.do("close", tmp_path)
        elif how == "end":
            other.send("leave")
            other.process.wait(30)
        else:
            engine.dispose()
        assert copier.do("read_fresh", tmp_path) == [1]


def test_a_removed_file_is_noticed_and_a_restored_one_used_again(
    engine: sa.Engine, tmp_path: Path, copier: Other
) -> None:
    write(engine, 1)
    copy = aside(copier, tmp_path, log=False)
    for file in tmp_path.glob("some.db*"):
        file.unlink()
    for attempt in (write, lambda engine, _: read(engine)):
        with pytest.raises(Unavailable, match="was removed or moved while it was open: put it back or restore it"):
            attempt(engine, 2)
    assert not list(tmp_path.glob("some.db*"))
    shutil.copyfile(copy / "some.db", tmp_path / "some.db")
    assert read(engine) == [1]
    write(engine, 3)
    assert copier.do("read_fresh", tmp_path) == [1, 3]


def test_after_a_removal_a_database_opened_again_begins_empty(engine: sa.Engine, tmp_path: Path) -> None:
    write(engine, 1)
    for file in tmp_path.glob("some.db*"):
        file.unlink()
    again = open_database(tmp_path)
    assert read(again) == []
    write(again, 2)
    # the first one has the same file again
    assert read(engine) == [2]
    write(engine, 3)
    assert read(again) == [2, 3]
    again.dispose()


def test_a_removal_within_a_transaction_is_noticed_before_it_is_acknowledged(engine: sa.Engine, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="what was just written may be lost"), writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1, '')"))
        (tmp_path / "some.db").unlink()


@pytest.mark.parametrize("changed", [1, 0])
def test_a_file_made_read_only_takes_no_writes(engine: sa.Engine, tmp_path: Path, changed: int) -> None:
    write(engine, 1)
    (tmp_path / "some.db").chmod(0o444)
    with pytest.raises(StoreReadOnly, match="was made read-only while it was open"):
        write(engine, 2)
    assert read(engine) == [1]
    (tmp_path / "some.db").chmod(0o644)
    write(engine, 3)
    assert read(engine) == [1, 3]


@pytest.mark.parametrize("ends", [["-wal"], ["-shm"], ["-wal", "-shm"]])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_files_beside_the_database_that_are_changed_alone_are_noticed(
    engine: sa.Engine, tmp_path: Path, copier: Other, ends: list[str], how: str
) -> None:
    write(engine, 1)
    copier.do("checkpoint", tmp_path, "TRUNCATE")
    copier.do("close", tmp_path)
    write(engine, 2)
    before = watching.generation(engine)
    for end in ends:
        path = tmp_path / f"some.db{end}"
        content = path.read_bytes()
        path.unlink()
        if how == "replaced":
            path.write_bytes(content)
    kept = [1, 2] if how == "replaced" or "-wal" not in ends else [1]
    assert read(engine) == kept
    assert watching.generation(engine) == before + 1
    write(engine, 3)
    assert copier.do("read_fresh", tmp_path) == read(engine) == [*kept, 3]


def test_a_log_that_goes_on_from_the_restored_file_is_applied_to_it(
    engine: sa.Engine, tmp_path: Path, copier: Other
) -> None:
    write(engine, 1)
    copy = aside(copier, tmp_path, log=False)
    write(engine, 2)
    copier.do("copy", copy / "some.db", tmp_path / "some.db")
    assert read(engine) == [1, 2]
    write(engine, 3)
    assert copier.do("read_fresh", tmp_path) == [1, 2, 3]


def test_a_log_of_another_course_of_the_same_database_is_not_applied(
    tmp_path: Path, copier: Other, other: Other
) -> None:
    """Both have gone on from one copy by as many transactions."""
    made = open_database(tmp_path)
    write(made, 1)
    copy = aside(copier, tmp_path, log=False)
    made.dispose()
    (tmp_path / "b").mkdir()
    shutil.copyfile(copy / "some.db", tmp_path / "b/some.db")
    for folder, x in ((tmp_path, 10), (tmp_path / "b", 20)):
        for more in range(3):
            other.do("write", folder, x + more)
    # of one course the log is left, of the other the file, at a number that the log has too
    other.process.kill()
    other.process.wait()
    copier.do("checkpoint", tmp_path / "b", "TRUNCATE")
    copier.do("close", tmp_path / "b")
    (tmp_path / "some.db-shm").unlink()
    shutil.copyfile(tmp_path / "b/some.db", tmp_path / "some.db")
    assert copier.do("read_fresh", tmp_path) == [1, 20, 21, 22]


def test_a_database_that_is_being_copied_is_waited_for(engine: sa.Engine, tmp_path: Path, copier: Other) -> None:
    for x in range(200):
        write(engine, x)
    copy = aside(copier, tmp_path, log=False)
    content = (copy / "some.db").read_bytes()
    write(engine, 1000)
    for file in tmp_path.glob("some.db*"):
        file.unlink()

    def put_back() -> None:
        with (tmp_path / "some.db").open("wb", buffering=0) as file:
            for at in range(0, len(content), 1 << 16):
                file.write(content[at : at + (1 << 16)])
                time.sleep(0.02)

    (tmp_path / "some.db").touch()
    thread = threading.Thread(target=put_back)
    thread.start()
    time.sleep(0.05)
    write(engine, 2000)
    thread.join()
    assert copier.do("read_fresh", tmp_path) == read(engine) == [*range(200), 2000]


def test_half_a_database_is_refused_until_it_is_whole(engine: sa.Engine, tmp_path: Path, copier: Other) -> None:
    for x in range(50):
        write(engine, x)
    copy = aside(copier, tmp_path, log=False)
    content = (copy / "some.db").read_bytes()
    copier.do("cut", copy / "some.db", len(content) // 2)
    copier.do("copy", copy / "some.db", tmp_path / "some.db")
    with pytest.raises(StoreError, match=r"is not a complete database|damaged"):
        write(engine, 1000)
    (copy / "some.db").write_bytes(content)
    copier.do("copy", copy / "some.db", tmp_path / "some.db")
    write(engine, 1001)
    assert read(engine) == [*range(50), 1001]


def test_many_writers_that_share_a_file_are_not_taken_for_a_restore(
    engine: sa.Engine, tmp_path: Path, copier: Other, other: Other
) -> None:
    problems: list[BaseException] = []

    def work(first: int, do: Callable[[int], object]) -> None:
        try:
            for x in range(first, first + 150):
                do(x)
        except BaseException as bad:
            problems.append(bad)

    threads = [
        threading.Thread(target=work, args=(1000, lambda x: write(engine, x))),
        threading.Thread(target=work, args=(2000, lambda x: write(engine, x))),
        threading.Thread(target=work, args=(3000, lambda x: copier.do("write", tmp_path, x))),
        threading.Thread(target=work, args=(4000, lambda x: other.do("write", tmp_path, x))),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        time.sleep(0.01)
    assert problems == []
    assert watching.generation(engine) == 0
    assert len(read(engine)) == 600


def test_what_a_process_killed_while_it_copied_has_left_is_removed(
    engine: sa.Engine, tmp_path: Path, copier: Other
) -> None:
    write(engine, 1)
    copy = aside(copier, tmp_path, log=False)

    def restore() -> None:
        mine = open_engine("sqlite:///some.db", tmp_path)
        assert read(mine) == [1]
        shutil.copyfile(copy / "some.db", tmp_path / "coming")
        (tmp_path / "coming").replace(tmp_path / "some.db")
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        files._write_new = lambda path, *_: (path.touch(), os.fsync(0))  # type: ignore[assignment]
        read(mine)

    engine.dispose()
    assert problem_in_child(restore) == "exit -9"
    left = {path.name for path in tmp_path.glob("some.db-????????????")}
    assert len(left) == 1
    (tmp_path / "some.db-backup-of-may").touch()
    assert copier.do("read_fresh", tmp_path) == [1]
    assert read(engine) == [1]
    assert not left & {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "some.db-backup-of-may").exists()


def test_pages_are_moved_out_of_a_log_that_has_grown(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "CHECKPOINT", 1 << 16)
    for x in range(200):
        write(engine, x)
    assert (tmp_path / "some.db-wal").stat().st_size < 1 << 18
    assert (tmp_path / "some.db").stat().st_size > 200 * 1500
    assert read(engine) == [*range(200)]
    assert watching.generation(engine) == 0


def test_a_log_that_cannot_be_moved_into_the_file_keeps_what_was_written(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "CHECKPOINT", 0)
    refused = []

    def refuse(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
        if "wal_checkpoint" in statement:
            refused.append(statement)
            raise sa.exc.OperationalError(statement, None, sqlite3.OperationalError("database or disk is full"))

    sa.event.listen(engine, "before_cursor_execute", refuse)
    write(engine, 1)
    write(engine, 2)
    assert len(refused) == 2 and read(engine) == [1, 2]
