"""Temporary folders and unfinished files: whose process is gone, theirs go with the next one."""

import gc
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from headwater import forks
from headwater.errors import Unavailable
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.scratch import TempFolder, remove_abandoned, whole_file, whole_folder
from tests.children import Child, fork_in_c, problem_in_child
from tests.forked import Forked

KEPT = """
import os, sys, time
from pathlib import Path
from headwater.errors import Unavailable
from headwater.scratch import TempFolder, whole_file, whole_folder
folder = TempFolder(Path(sys.argv[1]))
(folder.path / "spilled").write_bytes(b"x" * 1000)
result = whole_folder(Path(sys.argv[1]) / "result")
part = result.__enter__()
part.mkdir()
(part / "part.parquet").write_bytes(b"half")
with whole_file(Path(sys.argv[1]) / "out.parquet") as path:
    path.write_bytes(b"half")
    if len(sys.argv) > 2 and os.fork():
        time.sleep(60)
    # with a fork said by the child, which lives on when its parent is killed, once it holds no lock of its parent's
    print("ready", flush=True)
    time.sleep(60)
"""


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    """A process that has a temporary folder and an unfinished file."""
    process = Forked(
        [sys.executable, "-c", KEPT, str(folder), *more], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(entry.name.split("-")[0].strip(".") for entry in folder.iterdir())


@pytest.mark.parametrize("more", [(), ("fork",)])
def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path, more):
    process = started(tmp_path, *more)
    before = sorted(tmp_path.iterdir())
    assert len(before) == 3
    with whole_file(tmp_path / "out.parquet") as path:
        path.write_bytes(b"whole")
    with whole_folder(tmp_path / "result") as path:
        path.mkdir()
    mine = TempFolder(tmp_path)
    mine.close()
    assert sorted(set(tmp_path.iterdir()) - {tmp_path / "out.parquet", tmp_path / "result"}) == before
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    mine = TempFolder(tmp_path)
    with whole_file(tmp_path / "out.parquet") as path:
        path.write_bytes(b"whole")
    with whole_folder(tmp_path / "result") as path:
        path.mkdir()
    assert sorted(tmp_path.iterdir()) == sorted([mine.path, tmp_path / "out.parquet", tmp_path / "result"])
    mine.close()
    if more:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_folder_goes_with_its_object_and_with_close(tmp_path):
    folder = TempFolder(tmp_path / "made")
    (folder.path / "file").touch()
    folder.close()
    folder.close()
    assert list((tmp_path / "made").iterdir()) == []
    folder = TempFolder(tmp_path / "made")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    del folder
    gc.collect()
    assert list((tmp_path / "made").iterdir()) == []


def test_a_child_leaves_its_parents_folder_alone(tmp_path):
    folder = TempFolder(tmp_path)
    problems = [problem_in_child(folder.close), problem_in_child(lambda: folder.__dict__.clear())]
    remove_abandoned(tmp_path)
    assert folder.path.is_dir()
    assert problems == ["", ""]
    folder.close()


def test_an_empty_folder_that_nobody_held_yet_goes_and_what_is_not_ours_stays(tmp_path):
    (tmp_path / "headwater-temp-abc").mkdir()
    (tmp_path / "headwater-temp-def").mkdir()
    (tmp_path / "headwater-temp-def" / "data").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "headwater-temp-link").symlink_to(tmp_path / "other")
    (tmp_path / "other" / ".owner").symlink_to(tmp_path / "other" / "nothing")
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["headwater", "headwater", "other"]
    assert (tmp_path / "headwater-temp-def" / "data").exists()


def test_where_there_are_no_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr("headwater.scratch.fcntl.flock", refuse)
    first, second = TempFolder(tmp_path), TempFolder(tmp_path)
    assert first.path.is_dir() and second.path.is_dir()
    with whole_file(tmp_path / "out") as path:
        path.write_text("x")
        remove_abandoned(tmp_path)
        with whole_file(tmp_path / "out") as other:
            other.write_text("y")
    assert (tmp_path / "out").read_text() == "x"
    first.close()
    second.close()
    assert names(tmp_path) == ["out"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / f"{'ä' * 100}.csv"
    target.write_text("before")
    with pytest.raises(KeyError), whole_file(target) as path:
        path.write_text("half")
        raise KeyError
    assert target.read_text() == "before"
    with whole_file(target) as path:
        path.write_text("after")
        assert target.read_text() == "before"
    assert [target] == list(tmp_path.iterdir())
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_a_folder_takes_the_place_of_a_file_or_folder_whole_or_not_at_all(tmp_path):
    target = tmp_path / "result"
    target.write_text("before")
    with pytest.raises(KeyError), whole_folder(target) as path:
        path.mkdir()
        raise KeyError
    assert target.read_text() == "before"
    for name in ("first", "second"):
        with whole_folder(target) as path:
            path.mkdir()
            (path / name).touch()
        assert [entry.name for entry in target.iterdir()] == [name]
    assert [target] == list(tmp_path.iterdir())


def _umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


def test_a_child_neither_finishes_nor_removes_what_its_parent_writes(tmp_path):
    written = whole_file(tmp_path / "out")
    path = written.__enter__()
    path.write_text("x")

    def finish() -> None:
        with pytest.raises(Unavailable, match=r"the writing of .*out was begun before this process was forked"):
            written.__exit__(None, None, None)

    def fail() -> None:
        assert not written.__exit__(KeyError, KeyError(), None)

    assert [problem_in_child(finish), problem_in_child(fail)] == ["", ""]
    assert path.read_text() == "x" and not (tmp_path / "out").exists()
    written.__exit__(None, None, None)
    assert (tmp_path / "out").read_text() == "x"


class _Holder:
    """What has a temporary folder, and lets it go in a child."""

    def __init__(self, parent: Path) -> None:
        forks.after_fork(self, _Holder.let_go)
        self.folder: TempFolder | None = TempFolder(parent)

    def let_go(self) -> None:
        self.folder = None


@pytest.mark.parametrize("fork", [os.fork, fork_in_c])
def test_a_child_that_lets_go_of_its_parents_folder_leaves_it(tmp_path, fork):
    holder = _Holder(tmp_path)
    assert holder.folder is not None
    (holder.folder.path / "spilled").write_bytes(b"x")
    assert Child(gc.collect, fork).problem() == ""
    assert (holder.folder.path / "spilled").exists()
    holder.folder.close()
    assert not holder.folder.path.exists()


def test_the_embedded_engines_temporary_folder_survives_a_fork(tmp_path):
    engine = DuckDBEngine(tmp_path, temp_folder=tmp_path / "temp")
    path = engine.temp_folder
    assert problem_in_child(lambda: None) == ""
    assert path.exists()
    engine.close()
    assert not path.exists()
