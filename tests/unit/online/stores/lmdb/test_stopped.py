"""Processes that stand still, or are killed, at any moment: nobody else waits for them without end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater.errors import StoreError, Unavailable
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from tests.forked import Forked
from tests.servers.waiting import at_most

BOUND = 20.0
"""Seconds in which whatever waits at most a second must have ended, on a host that has much else to do."""

START = """
import sys, threading, time
from headwater.online.stores.lmdb.store import LMDBOnlineStore
store = LMDBOnlineStore(sys.argv[1], sync=False, map_size=1 << 18, wait=float(sys.argv[2]))
def say(word):
    print(word, flush=True)
"""

IN_A_TRANSACTION = """
def hold(txn):
    txn.put(b"k", b"unfinished")
    say("holding")
    time.sleep(600)
store._shared.write(hold)
"""

IN_THE_TABLE_OF_READERS = """
assert store.multi_get([b"k"]) == [b"v"]
assert store._shared._opened.readers.acquire(1)
say("holding")
time.sleep(600)
"""

WRITING = """
n = 0
store.put_meta({b"w": b""})
say("writing")
while True:
    n += 1
    store.put_meta({f"w{n % 500}".encode(): bytes(n % 3000)})
"""

READING = """
def read():
    while True:
        store.multi_get([b"k"])
for _ in range(3):
    threading.Thread(target=read, daemon=True).start()
store.multi_get([b"k"])
say("reading")
time.sleep(600)
"""

OPENING = """
say("opening")
while True:
    store.close()
    store = LMDBOnlineStore(sys.argv[1], sync=False, map_size=1 << 18)
    store.multi_get([b"k"])
"""


def in_a_child(work: Callable[[], bool]) -> bool:
    """What a child process makes of some work."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def opens(folder: Path) -> bool:
    """Whether the folder can be opened and read; where it cannot, a process that stands still is named."""
    again = LMDBOnlineStore(folder, wait=0.5)
    try:
        return again.multi_get([b"k"]) == [b"v"]
    except Unavailable as bad:
        return "(stopped)" in str(bad)


@contextmanager
def process(code: str, folder: Path, wait: float = 0.5) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", START + code, str(folder), str(wait)]
    made = Forked(line, stdout=subprocess.PIPE, text=True)
    try:
        assert made.stdout is not None
        assert made.stdout.readline().endswith("ing\n")
        yield made
    finally:
        made.kill()
        made.wait()


@contextmanager
def stopped(made: subprocess.Popen[str]) -> Iterator[None]:
    made.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, made.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        made.send_signal(signal.SIGCONT)


@contextmanager
def bounded() -> Iterator[None]:
    with at_most(BOUND):
        yield


def written(store: LMDBOnlineStore, value: bytes) -> bool:
    """Whether a write is done, where the host may give the holder of the lock no time for as long as writes wait."""
    began = time.monotonic()
    while True:
        try:
            return store.put_meta({b"n": value})
        except Unavailable:
            if time.monotonic() - began > BOUND:
                raise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "online"


@pytest.fixture
def store(folder: Path) -> Iterator[LMDBOnlineStore]:
    made = LMDBOnlineStore(folder, sync=False, wait=0.5)
    made.put_meta({b"k": b"v", b"other": b"v"})
    yield made
    made.close()


def test_a_writer_that_stands_still_is_named_to_other_writers_and_holds_up_no_reader(
    store: LMDBOnlineStore, folder: Path
) -> None:
    with process(IN_A_TRANSACTION, folder) as writer:
        with stopped(writer), bounded():
            for write in (
                lambda: store.put_meta({b"k": b"w"}),
                lambda: store.delete([b"k"]),
                lambda: store.put([(b"k", b"w" * 60)]),
                lambda: store.compare_and_put(b"k", b"", None),
            ):
                with pytest.raises(Unavailable, match=rf"process {writer.pid} \(stopped\) has held its lock for 0.5 s"):
                    write()
            assert store.multi_get([b"k", b"other"]) == [b"v", b"v"]
            assert dict(store.scan(b"")) == {b"k": b"v", b"other": b"v"}
            assert store.info()["entries"] == 2
        with pytest.raises(Unavailable, match=rf"process {writer.pid} has held its lock"):
            store.put_meta({b"k": b"w"})
    # it was killed, and what it had not committed is gone
    assert store.put_meta({b"other": b"w"})
    assert store.multi_get([b"k", b"other"]) == [b"v", b"w"]


def test_a_reader_without_a_slot_reads_while_the_table_of_readers_is_held(store: LMDBOnlineStore, folder: Path) -> None:
    with process(IN_THE_TABLE_OF_READERS, folder) as other, stopped(other), bounded():
        assert store._shared._opened is not None
        assert store._shared._opened.leave_slots()
        assert store.multi_get([b"k"]) == [b"v"]
        assert dict(store.scan(b"")) == {b"k": b"v", b"other": b"v"}
        assert store.put_meta({b"k": b"w"})
        assert store.multi_get([b"k", b"none"]) == [b"w", None]
    assert store.multi_get([b"k"]) == [b"w"]


def test_a_reader_for_whom_all_is_held_names_the_process(store: LMDBOnlineStore, folder: Path) -> None:
    both = IN_THE_TABLE_OF_READERS.replace("say(", "assert store._shared._opened.writer.acquire(1)\nsay(")
    with process(both, folder) as other, stopped(other), bounded():
        assert store._shared._opened is not None
        assert store._shared._opened.leave_slots()
        with pytest.raises(Unavailable, match=rf"cannot be read: process {other.pid} \(stopped\) has held its lock"):
            store.multi_get([b"k"])
    assert store.multi_get([b"k"]) == [b"v"]


def test_another_process_opens_and_reads_while_a_writer_stands_still(store: LMDBOnlineStore, folder: Path) -> None:
    store.close()
    with process(IN_A_TRANSACTION, folder) as writer, stopped(writer), bounded():
        again = LMDBOnlineStore(folder, wait=0.5)
        assert again.multi_get([b"k"]) == [b"v"]
        assert len(list(again.scan(b""))) == 2
        with pytest.raises(Unavailable, match="stopped"):
            again.put_meta({b"k": b"w"})
        again.close()


def test_a_map_that_another_process_grew_is_read_while_that_stands_still(store: LMDBOnlineStore, folder: Path) -> None:
    small = LMDBOnlineStore(folder, map_size=1 << 18)  # the first one's settings hold: its map is large
    small.close()
    with process(WRITING, folder) as writer:
        time.sleep(0.5)
        with stopped(writer), bounded():
            assert store.multi_get([b"k"]) == [b"v"]
            assert len(list(store.scan(b"w"))) > 0


@pytest.mark.parametrize("code", [WRITING, READING, OPENING], ids=["writing", "reading", "opening"])
def test_a_process_stopped_at_any_moment_holds_nobody_up(store: LMDBOnlineStore, folder: Path, code: str) -> None:
    rng, refused = random.Random(code), 0
    with process(code, folder) as other:
        for n in range(12):
            time.sleep(rng.uniform(0, 0.05))
            # whoever has read once holds a place among the readers, which a fork gives up for a moment
            assert store.multi_get([b"k"]) == [b"v"]
            with stopped(other), bounded():
                threads = [threading.Thread(target=store.multi_get, args=([b"k"],)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert store.multi_get([b"k"]) == [b"v"]
                assert in_a_child(lambda: opens(folder))
                try:
                    store.put_meta({b"n": b"%d" % n})
                except Unavailable as bad:
                    refused += 1
                    assert f"process {other.pid} (stopped)" in str(bad)
            # once it goes on, so do the others
            with bounded():
                assert written(store, b"%d" % n)
    # a reader holds no lock of writers
    assert not refused or code is not READING


def test_a_writer_killed_at_any_moment_holds_nobody_up(store: LMDBOnlineStore, folder: Path) -> None:
    rng = random.Random(1)
    for n in range(5):
        with process(WRITING, folder):
            time.sleep(rng.uniform(0, 0.05))
        with bounded():
            assert store.put_meta({b"n": b"%d" % n})
            assert store.multi_get([b"k", b"n"]) == [b"v", b"%d" % n]


def test_an_opening_killed_at_any_moment_leaves_a_store_that_opens(tmp_path: Path) -> None:
    rng = random.Random(2)
    for n in range(40):
        folder = tmp_path / str(n)
        child = os.fork()
        if not child:
            LMDBOnlineStore(folder).put_meta({b"k": b"v"})
            os._exit(0)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        again = LMDBOnlineStore(folder, wait=0.5)
        assert again.multi_get([b"k"]) in ([None], [b"v"])
        assert again.put_meta({b"k": b"w"})
        again.close()
        names = sorted(file.name for file in folder.iterdir())
        assert names == ["checked", "data.mdb", "lock.mdb", "readers", "waiting"]


def test_threads_write_in_the_order_in_which_they_came(store: LMDBOnlineStore) -> None:
    order: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def hold(txn: object) -> None:
        begun.set()
        go_on.wait()

    first = threading.Thread(target=store._shared.write, args=(hold,))
    first.start()
    begun.wait()
    threads = []
    for n in range(8):
        threads.append(threading.Thread(target=store._shared.write, args=(lambda txn, n=n: order.append(n),)))
        threads[-1].start()
        while len(store._shared._opened.writer._queue) <= n:  # type: ignore[union-attr]
            time.sleep(0.001)
    go_on.set()
    for thread in [first, *threads]:
        thread.join()
    assert order == list(range(8))


def test_a_thread_that_waits_too_long_gives_up_its_place(store: LMDBOnlineStore) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(txn: object) -> None:
        begun.set()
        go_on.wait()

    first = threading.Thread(target=store._shared.write, args=(hold,))
    first.start()
    begun.wait()
    with pytest.raises(Unavailable, match="another thread of this process"):
        store.put_meta({b"k": b"w"})
    go_on.set()
    first.join()
    assert store.put_meta({b"k": b"w"})


def test_a_process_that_writes_without_a_pause_lets_others_write(folder: Path) -> None:
    # a busy host may take its time in the midst of another's write
    store = LMDBOnlineStore(folder, sync=False, wait=BOUND)
    with process(WRITING, folder, BOUND), process(WRITING, folder, BOUND), bounded():
        for n in range(100):
            assert store.put_meta({b"n": b"%d" % n})
    store.close()


def test_a_lock_file_that_was_deleted_or_cut_is_made_again_while_others_read_and_write(
    folder: Path,
) -> None:
    store = LMDBOnlineStore(folder, sync=False)
    store.put_meta({b"k": b"v"})
    with process(WRITING, folder, 30) as writer, process(READING, folder, 30) as reader:
        for n in range(4):
            if n % 2:
                (folder / "lock.mdb").unlink()
            else:
                Path(shutil.copy(folder / "lock.mdb", folder / "copy")).replace(folder / "lock.mdb")
            for _ in range(20):
                time.sleep(0.02)
                assert store.multi_get([b"k"]) == [b"v"]
            assert store.put_meta({b"n": b"%d" % n})
            assert store.multi_get([b"n"]) == [b"%d" % n]
        assert writer.poll() is None
        assert reader.poll() is None
    store.close()


def test_file_systems_without_locks_are_refused_with_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("headwater.file_lock.fcntl.flock", refuse)
    store = LMDBOnlineStore(folder)
    with pytest.raises(StoreError, match="does not support file locks"):
        store.put_meta({b"k": b"v"})
    store.close()
