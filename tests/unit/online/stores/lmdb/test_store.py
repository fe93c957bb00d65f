import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import lmdb
import pytest

from headwater.errors import ConfigError, StorageFull, StoreError, StoreReadOnly, Unavailable, UsageError
from headwater.online.rows.codec import CACHE_ONLY, encode_batch, header, micros_bytes, replaced, sequence_of
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.planning.layout import RowLayout
from headwater.types import Int64
from tests.forked import Forked
from tests.unit.online.support import batch, make_view

VIEW = make_view({"x": Int64, "y": Int64})
ROOT = Path(__file__).parents[5]


TEMPLATE = encode_batch(RowLayout.of(VIEW), batch(VIEW, [{"user": "u", "x": 0, "y": 0}]))[0]

# writers in processes of their own make rows from a template: both values are the same, and are the event time too
ROWS = """
import sys
from headwater.online.rows.codec import CACHE_ONLY, header, micros_bytes
from headwater.online.stores.lmdb.store import LMDBOnlineStore
template = bytes.fromhex(sys.argv[2])
def row(n):
    return template[:12] + micros_bytes(n) * 2 + CACHE_ONLY + template[35:-16] + n.to_bytes(8, "little") * 2
"""


def row(x: int, event: int = 0) -> bytes:
    return TEMPLATE[:12] + micros_bytes(event) * 2 + CACHE_ONLY + TEMPLATE[35:-16] + x.to_bytes(8, "little") * 2


def start(code: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", ROWS + code, str(folder), TEMPLATE.hex(), *map(str, arguments)]
    return Forked(line, cwd=ROOT, text=True, stdout=subprocess.PIPE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "online"


@pytest.fixture
def store(folder: Path) -> Iterator[LMDBOnlineStore]:
    made = LMDBOnlineStore(folder)
    yield made
    made.close()


def test_rows_of_one_put_replace_each_other_in_the_order_given(store: LMDBOnlineStore) -> None:
    rows = [(b"k", row(1, 5)), (b"a", row(2, 1)), (b"k", row(3, 4)), (b"k", row(4, 5)), (b"k", row(5, 5))]
    assert store.put(rows) == [True, True, False, True, True]
    assert store.multi_get([b"k"]) == [row(5, 5)]


def test_a_put_larger_than_a_transaction_keeps_its_places(
    store: LMDBOnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.online.stores.lmdb.rows.CHUNK_ROWS", 7)
    monkeypatch.setattr("headwater.online.stores.lmdb.rows.RUN_ROWS", 20)
    keys = [f"k{i:03d}".encode() for i in range(60)]
    random.Random(3).shuffle(keys)
    assert store.put([(key, row(1, i % 2)) for i, key in enumerate(keys)], high_water=(b"\0meta", 1)) == [True] * 60
    applied = store.put(((key, row(2, 1)) for i, key in enumerate(keys) if i % 3), high_water=(b"\0meta", 2))
    assert applied == [True] * 40
    assert store.put([(key, row(3, 0)) for key in keys]) == [i % 2 == 0 and i % 3 == 0 for i in range(60)]
    assert store.multi_get([b"\0meta"]) == [(2).to_bytes(8, "big")]
    assert len(list(store.scan(b"k"))) == 60


def test_the_map_grows_by_itself_while_others_read(folder: Path) -> None:
    small = LMDBOnlineStore(folder, map_size=1 << 18)
    small.put([(b"first", row(0))])
    other = start(READ_UNTIL, folder)
    assert other.stdout is not None
    assert other.stdout.readline() == "reading\n"
    stop, failures = threading.Event(), []

    def read() -> None:
        while not stop.wait(0.0005):
            if small.multi_get([b"first"]) == [None]:
                failures.append("lost")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(40):
        small.put([(f"k{n}-{i}".encode(), row(i)) for i in range(500)])
    small.put([(b"last", row(1))])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert other.wait(60) == 0
    assert len(list(small.scan(b"k"))) == 20_000
    small.close()


READ_UNTIL = """
import time
store = LMDBOnlineStore(sys.argv[1], map_size=1 << 18)
assert store.multi_get([b"first"])[0]
print("reading", flush=True)
end = time.monotonic() + 60
while not store.multi_get([b"last"])[0]:
    assert store.multi_get([b"first"])[0]
    assert time.monotonic() < end
"""


def test_stores_of_one_path_share_the_environment_and_the_last_closes_it(folder: Path) -> None:
    one, two = LMDBOnlineStore(folder), LMDBOnlineStore(folder / ".." / "online")
    one.put([(b"k", row(1))])
    one.close()
    one.close()
    with pytest.raises(Unavailable, match="closed"):
        one.multi_get([b"k"])
    assert two.multi_get([b"k"]) == [row(1)]
    two.close()
    with lmdb.open(str(folder), create=False) as env, env.begin() as txn:
        assert txn.get(b"k") == row(1)


def test_a_fork_opens_its_own_environment(store: LMDBOnlineStore) -> None:
    store.put([(b"k", row(1))])
    stop = threading.Event()
    reader = threading.Thread(target=lambda: [store.multi_get([b"k"]) for _ in iter(lambda: stop.wait(0.0002), True)])
    reader.start()
    children = []
    for n in range(5):
        child = os.fork()
        if not child:
            found = store.multi_get([b"k"]) == [row(1)] and store.put([(f"c{n}".encode(), row(n))]) == [True]
            os._exit(0 if found else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
    stop.set()
    reader.join()
    assert None not in store.multi_get([f"c{n}".encode() for n in range(5)])


def test_a_folder_deleted_or_replaced_is_seen_at_the_next_call(
    store: LMDBOnlineStore, folder: Path, tmp_path: Path
) -> None:
    store.put([(b"k", row(1))])
    shutil.copytree(folder, tmp_path / "backup")
    store.put([(b"k", row(2))])
    shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(Unavailable, match="was removed or moved while this process had it open"):
            store.multi_get([b"k"])
        assert not folder.exists()
    assert store.put([(b"k", row(3))]) == [True]
    assert store.multi_get([b"k"]) == [row(3)]
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    assert store.multi_get([b"k"]) == [row(1)]
    folder.rename(tmp_path / "moved")
    assert store.put([(b"new", row(4))]) == [True]
    assert store.multi_get([b"k", b"new"]) == [None, row(4)]
    shutil.rmtree(folder)
    store.begin_again()
    assert store.multi_get([b"k"]) == [None]


def test_many_processes_write_the_same_keys(store: LMDBOnlineStore, folder: Path) -> None:
    children = [start(WRITE_ALL, folder, seed) for seed in range(4)]
    assert [child.wait(120) for child in children] == [0] * 4
    for key, stored in store.scan(b"k"):
        told = header(stored)
        assert told is not None
        assert told.event == 299, key
    assert len(list(store.scan(b"k"))) == 10


WRITE_ALL = """
import random
store, rng = LMDBOnlineStore(sys.argv[1], sync=False), random.Random(sys.argv[3])
rows = [row(event) for event in range(300)]
work = [(f"k{k}".encode(), rows[event]) for k in range(10) for event in range(300)]
rng.shuffle(work)
while work:
    store.put([work.pop() for _ in range(min(len(work), rng.randint(1, 60)))])
"""


def test_a_compare_and_put_counts_every_increment_of_many_threads(store: LMDBOnlineStore) -> None:
    def add() -> None:
        for _ in range(25):
            while True:
                stored = store.multi_get([b"k"])[0]
                told = header(stored)
                new = replaced(stored, row(0, 1 if told is None else told.event + 1))
                if store.compare_and_put(b"k", sequence_of(stored), new):
                    break

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = header(store.multi_get([b"k"])[0])
    assert told is not None
    assert told.event == 100


def test_a_writer_killed_at_any_moment_never_tears_a_row_nor_loses_one_it_acknowledged(
    store: LMDBOnlineStore, folder: Path
) -> None:
    rng, seen = random.Random(5), dict[bytes, int]()
    keys = [f"k{i}".encode() for i in range(200)]
    for _ in range(20):
        told, acknowledge = os.pipe()
        writer = os.fork()
        if not writer:
            write_forever(store, acknowledge)
        os.close(acknowledge)
        with os.fdopen(told, "rb") as lines:
            last = int(lines.readline())
            end = time.monotonic() + rng.uniform(0.0, 0.15)
            while time.monotonic() < end:
                check(store.multi_get(keys), keys, seen)
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            last = max([last, *map(int, lines.read().splitlines(keepends=True)[:-1])])
        check(store.multi_get(keys), keys, seen)
        stored = header(store.multi_get([b"done"])[0])
        assert stored is not None
        assert stored.event >= last
    assert store.put([(b"after", row(1))]) == [True]


def check(rows: list[bytes | None], keys: list[bytes], seen: dict[bytes, int]) -> None:
    """Every row is whole (both values the same), and none is older than it was seen before."""
    for key, stored in zip(keys, rows, strict=True):
        if stored is None:
            assert key not in seen
            continue
        told = header(stored)
        assert told is not None
        assert stored[-16:-8] == stored[-8:]
        assert told.event >= seen.get(key, told.event)
        seen[key] = told.event


def write_forever(store: LMDBOnlineStore, acknowledge: int) -> NoReturn:
    """Put all keys at ever later event times, and tell each time once it is put."""
    last = header(store.multi_get([b"done"])[0])
    n = 0 if last is None else last.event
    while True:
        n += 1
        one = row(n, n)
        store.put([(f"k{i}".encode(), one) for i in range(200)] + [(b"done", one)])
        os.write(acknowledge, b"%d\n" % n)


def mounted(place: Path, *options: str) -> bool:
    """Whether this process may mount; where it may not, the tests below run with what it may do."""
    return not subprocess.run(["mount", *options, str(place)], capture_output=True, check=False).returncode


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    place = tmp_path / "disk"
    place.mkdir()
    there = mounted(place, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    yield place if there else None
    if there:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(small_disk: Path | None) -> None:
    if small_disk is None:
        return  # a full file, below, takes the same road
    store, one = LMDBOnlineStore(small_disk / "online"), row(1)
    kept = 0
    with pytest.raises(StorageFull, match="free some space"):
        while True:
            store.put([(f"k{kept + i}".encode(), one) for i in range(100)])
            kept += 100
    assert kept
    keys = [f"k{i}".encode() for i in range(kept)]
    assert None not in store.multi_get(keys)
    assert mounted(small_disk, "-o", "remount,size=8m")
    assert store.put([(b"more", one)]) == [True]
    assert None not in store.multi_get([*keys, b"more"])
    store.close()


def test_a_read_only_folder_serves_reads_and_refuses_writes(folder: Path) -> None:
    first = LMDBOnlineStore(folder)
    first.put([(b"k", row(1))])
    first.close()
    frozen = mounted(folder, "--bind", str(folder)) and mounted(folder, "-o", "remount,ro,bind")
    if not frozen:
        for place in (folder / "data.mdb", folder / "lock.mdb", folder):
            place.chmod(place.stat().st_mode & ~0o222)
    store = LMDBOnlineStore(folder)
    try:
        assert store.multi_get([b"k"]) == [row(1)]
        with pytest.raises(StoreReadOnly, match="read-only"):
            store.put([(b"k", row(2))])
        assert store.multi_get([b"k"]) == [row(1)]
        assert "read-only" in str(store.info()["warnings"])
    finally:
        store.close()
        if frozen:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        else:
            folder.chmod(0o755)
            for place in folder.iterdir():
                place.chmod(0o644)


def test_a_folder_made_writable_again_takes_writes(folder: Path) -> None:
    LMDBOnlineStore(folder).put([(b"k", row(1))])
    store = LMDBOnlineStore(folder)
    store.multi_get([b"k"])
    store._shared._opened.writer = None
    assert store.put([(b"k", row(2))]) == [True]
    store.close()


def test_a_full_file_is_a_clear_error_and_loses_nothing(folder: Path) -> None:
    filler = start(FILL, folder, 1 << 20)
    assert filler.stdout is not None
    told = filler.stdout.read().split()
    assert filler.wait(60) == 0
    assert told[0] == "StorageFull"
    kept = int(told[1])
    store = LMDBOnlineStore(folder)
    assert None not in store.multi_get([f"k{i}".encode() for i in range(kept * 100)])
    assert store.put([(b"more", row(1))]) == [True]
    store.close()


FILL = """
import resource
from headwater.errors import StorageFull
store, one = LMDBOnlineStore(sys.argv[1]), row(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
batches = 0
try:
    while True:
        store.put([(f"k{batches * 100 + i}".encode(), one) for i in range(100)])
        batches += 1
except StorageFull as full:
    assert "free some space" in str(full)
    print("StorageFull", batches)
kept = store.multi_get([f"k{i}".encode() for i in range(batches * 100)])
assert kept and None not in kept
"""


def test_a_path_that_is_no_folder_or_no_lmdb_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match="not a folder"):
        LMDBOnlineStore(tmp_path / "file").multi_get([b"k"])
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="damaged or not an LMDB folder"):
        LMDBOnlineStore(tmp_path / "odd").multi_get([b"k"])


def test_keys_that_lmdb_cannot_hold_are_wrong_use(store: LMDBOnlineStore) -> None:
    with pytest.raises(UsageError, match="1 to 511 bytes"):
        store.put([(b"k" * 512, row(1))])
    with pytest.raises(UsageError, match="1 to 511 bytes"):
        store.put([(b"", row(1))])


def test_a_scan_sees_every_key_once_while_rows_are_written(
    store: LMDBOnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.online.stores.lmdb.rows.SCAN_ROWS", 10)
    monkeypatch.setattr("headwater.online.stores.lmdb.store.SCAN_ROWS", 10)
    keys = [f"k{i:03d}".encode() for i in range(55)]
    store.put([(key, row(1)) for key in keys] + [(b"l", row(1))])
    found = []
    for key, _ in store.scan(b"k"):
        found.append(key)
        store.put([(key, row(2))])
    assert found == keys
    assert len(list(store.scan(b""))) == 56
    assert list(store.scan(b"x")) == []


def test_urls_name_a_folder_and_options(tmp_path: Path) -> None:
    made = LMDBOnlineStore.from_url("lmdb:.headwater/online?sync=off&map_size=1048576", tmp_path)
    made.put([(b"k", row(1))])
    assert made.info()["place"] == str(tmp_path.resolve() / ".headwater" / "online")
    assert made.info()["entries"] == 1
    made.close()
    absolute = LMDBOnlineStore.from_url(f"lmdb:{tmp_path}/other", Path("/nowhere"))
    absolute.put([(b"k", row(1))])
    absolute.close()
    assert (tmp_path / "other" / "data.mdb").exists()
    for url in ("lmdb:", "lmdb:x?sink=off", "lmdb:x?sync=maybe"):
        with pytest.raises(ConfigError, match=r"\[online\] url"):
            LMDBOnlineStore.from_url(url, tmp_path)
