"""Data files that were cut short, overwritten, mixed or replaced: errors that say so, never the end of the process."""

import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest

from headwater.errors import ConfigError, StoreError
from headwater.online.stores.lmdb.pages import Damaged, check_pages, read_metas
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.testing import SCALE
from tests.forked import Forked, run_forked

PAGE = 4_096
KEYS = [f"k{n:05d}".encode() for n in range(3_000)]

# opens each folder given in a process of its own, reads all of it and writes; says how each of them ended
USE_ALL = """
import os, sys
from headwater.errors import StoreError
from headwater.online.stores.lmdb.store import LMDBOnlineStore
keys = [f"k{n:05d}".encode() for n in range(3_000)]
def use(folder):
    store = LMDBOnlineStore(folder, sync=False)
    store.multi_get(keys)
    list(store.scan(b""))
    store.info()
    store.put_meta({key: b"n" * 700 for key in keys[::3]})
    store.delete(keys[::5])
    store.put_meta({key: b"m" * 9_000 for key in keys[::7]})
    store.close()
for folder in sys.argv[1:]:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            use(folder)
        except StoreError as bad:
            os._exit(10 if "is damaged" in str(bad) and "delete it and run materialize" in str(bad) else 11)
        except BaseException:
            os._exit(12)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The bytes of a data file after each of some transactions: rows of all sizes, replaced and deleted."""
    rng, folder, states = random.Random(1), tmp_path_factory.mktemp("states"), []
    with lmdb.open(str(folder), map_size=1 << 30, sync=False) as env:
        for _ in range(8):
            with env.begin(write=True) as txn:
                for key in rng.sample(KEYS, 1_000):
                    txn.put(key, rng.randbytes(rng.choice([1, 100, 150, 3_000, 9_000])))
                for key in rng.sample(KEYS, 100):
                    txn.delete(key)
            states.append((folder / "data.mdb").read_bytes())
    return states


def cut(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def cut_at_a_page(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data) // PAGE) * PAGE]


def overwritten(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 3, 20])):
        start = rng.randrange(len(data) // PAGE) * PAGE
        data[start : start + PAGE] = rng.randbytes(PAGE)
    return data


def headers_overwritten(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 5, 40])):
        data[rng.randrange(len(data) // PAGE) * PAGE + rng.randrange(60)] = rng.randrange(256)
    return data


def bytes_overwritten(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 50, 500])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def a_hole(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    start = rng.randrange(len(data) // PAGE) * PAGE
    end = min(len(data), start + PAGE * rng.randrange(1, 100))
    data[start:end] = bytes(end - start)
    return data


def torn(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    """Some pages of an earlier state, as a copy of a file that is written meanwhile has."""
    older, share = rng.choice(states[:-1]), rng.choice([0.01, 0.5])
    for start in range(0, len(older), PAGE):
        if rng.random() < share:
            data[start : start + PAGE] = older[start : start + PAGE]
    return data


def half_copied(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    older = rng.choice(states[:-1])
    data[: len(older) // 2] = older[: len(older) // 2]
    return data


def swapped(data: bytearray, states: list[bytes], rng: random.Random) -> bytearray:
    one, two = (rng.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]
    return data


Damage = Callable[[bytearray, list[bytes], random.Random], bytearray]
DAMAGES: list[Damage] = [
    cut,
    cut_at_a_page,
    overwritten,
    headers_overwritten,
    bytes_overwritten,
    a_hole,
    torn,
    half_copied,
    swapped,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_ends_in_an_error_and_never_kills(states: list[bytes], tmp_path: Path, damage: Damage) -> None:
    rng, folders = random.Random(damage.__name__), []
    for n in range(2 if SCALE == 1 else 4 * SCALE):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "data.mdb").write_bytes(damage(bytearray(states[-1]), states, rng))
        if n % 2:
            (folder / "lock.mdb").write_bytes(rng.randbytes(rng.choice([0, 10, 8_192, 70_000])))
        folders.append(folder)
    done = run_forked([sys.executable, "-c", USE_ALL, *folders])
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) == len(folders), done.stderr
    # damage may have hit free pages, or the bytes of values
    assert set(codes) <= ({10} if damage in (cut, cut_at_a_page) else {0, 10})


def test_every_state_that_lmdb_leaves_is_whole(states: list[bytes], tmp_path: Path) -> None:
    for state in states:
        (tmp_path / "data.mdb").write_bytes(state)
        assert damage_of(tmp_path / "data.mdb") is None


@pytest.mark.parametrize("seed", range(4 * SCALE))
def test_whatever_is_written_is_whole(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    keys = [rng.randbytes(rng.choice([1, 2, 8, 30, 200, 511])) for _ in range(rng.choice([1, 30, 600]))]
    with lmdb.open(str(tmp_path), map_size=1 << 30, sync=False) as env:
        for _ in range(rng.randint(0, 12)):
            with env.begin(write=True) as txn:
                for key in rng.choices(keys, k=rng.randint(1, 200)):
                    if rng.random() < rng.choice([0.1, 0.9]):
                        txn.put(key, rng.randbytes(rng.choice([0, 9, 500, 2_000, 5_000, 60_000])))
                    else:
                        txn.delete(key)
            assert damage_of(tmp_path / "data.mdb") is None


def damage_of(file: Path) -> str | None:
    """What is wrong with a data file that nobody writes to."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        check_pages(descriptor, max(read_metas(descriptor), key=lambda meta: meta.transaction))
    except Damaged as bad:
        return str(bad)
    finally:
        os.close(descriptor)
    return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "online"


@pytest.fixture
def store(folder: Path) -> Iterator[LMDBOnlineStore]:
    made = LMDBOnlineStore(folder, sync=False)
    made.put_meta(dict.fromkeys(KEYS, b"v" * 100))
    yield made
    made.close()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_short_while_it_is_open_is_an_error(
    store: LMDBOnlineStore, folder: Path, share: float
) -> None:
    size = (folder / "data.mdb").stat().st_size
    os.truncate(folder / "data.mdb", int(size * share))
    for use in (
        lambda: store.multi_get(KEYS),
        lambda: list(store.scan(b"")),
        lambda: store.put_meta({b"k": b"w"}),
        lambda: store.delete(KEYS),
        lambda: store.info(),
    ):
        with pytest.raises(StoreError, match=r"is damaged.*delete it and run materialize"):
            use()
    shutil.rmtree(folder)
    assert store.put_meta({b"k": b"w"})
    assert store.multi_get([b"k"]) == [b"w"]


def test_an_empty_file_is_damage_and_not_a_new_store(folder: Path) -> None:
    folder.mkdir()
    (folder / "data.mdb").touch()
    store = LMDBOnlineStore(folder)
    with pytest.raises(StoreError, match=r"data.mdb is empty\): delete it"):
        store.multi_get([b"k"])
    (folder / "data.mdb").unlink()
    assert store.multi_get([b"k"]) == [None]
    store.close()


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_a_file_that_is_copied_over_in_place_is_opened_again(
    store: LMDBOnlineStore, folder: Path, tmp_path: Path, whole: bool
) -> None:
    backup = shutil.copy(folder / "data.mdb", tmp_path / "backup")
    store.put_meta({b"k00001": b"later", b"new": b"later" * 10_000})
    identity = (folder / "data.mdb").stat().st_ino
    if not whole:
        os.truncate(backup, 8 * PAGE)
    (folder / "data.mdb").write_bytes(Path(backup).read_bytes())
    assert (folder / "data.mdb").stat().st_ino == identity
    time.sleep(0.15)
    if whole:
        assert store.multi_get([b"k00001", b"new"]) == [b"v" * 100, None]
        assert store.put_meta({b"new": b"again"})
        assert store.multi_get([b"k00001", b"new"]) == [b"v" * 100, b"again"]
        assert damage_of(folder / "data.mdb") is None
    else:
        with pytest.raises(StoreError, match="is damaged"):
            store.put_meta({b"new": b"again"})


def test_a_file_that_is_replaced_under_many_processes_is_opened_again_by_all(
    store: LMDBOnlineStore, folder: Path, tmp_path: Path
) -> None:
    backup = shutil.copy(folder / "data.mdb", tmp_path / "backup")
    others = [Forked([sys.executable, "-c", GO_ON, str(folder)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "going on\n"
    for n in range(4):
        shutil.copy(backup, folder / "copy")
        if n % 2:
            (folder / "copy").replace(folder / "data.mdb")
        else:
            (folder / "data.mdb").unlink()
            (folder / "copy").rename(folder / "data.mdb")
        assert store.put_meta({b"n": b"%d" % n})
        time.sleep(0.3)
        assert store.multi_get([KEYS[0], b"n"]) == [b"v" * 100, b"%d" % n]
    for other in others:
        assert other.poll() is None
        other.terminate()
        other.wait()
    assert damage_of(folder / "data.mdb") is None


GO_ON = """
import sys, os
from headwater.errors import Unavailable
from headwater.online.stores.lmdb.store import LMDBOnlineStore
store, n = LMDBOnlineStore(sys.argv[1], sync=False), 0
print("going on", flush=True)
while True:
    n += 1
    assert store.put_meta({b"w%d" % os.getpid(): b"%d" % n})
    try:
        store.multi_get([b"k00000"])
    except Unavailable as bad:
        # at the moment at which there is no file
        assert "was removed" in str(bad)
"""


def test_a_file_that_was_looked_at_is_not_looked_at_again_until_somebody_else_changes_it(
    store: LMDBOnlineStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look(descriptor: int, meta: object) -> None:
        looks.append(meta)
        check_pages(descriptor, meta)  # type: ignore[arg-type]

    monkeypatch.setattr("headwater.online.stores.lmdb.opening.check_pages", look)
    for write in (False, True, True, False):
        store.close()
        store = LMDBOnlineStore(folder, sync=False)
        assert store.multi_get([KEYS[0]]) == [b"v" * 100]
        if write:
            store.put_meta({b"n": b"m"})
    assert not looks
    store.close()
    with (folder / "data.mdb").open("r+b") as data:
        data.seek(100 * PAGE)
        data.write(b"\xff" * PAGE)
    store = LMDBOnlineStore(folder)
    with suppress(StoreError):
        store.multi_get(KEYS)
    assert looks
    store.close()


def test_what_others_write_into_the_file_while_it_is_open_is_not_noted_as_looked_at(
    store: LMDBOnlineStore, folder: Path
) -> None:
    data = (folder / "data.mdb").read_bytes()
    with (folder / "data.mdb").open("r+b") as file:
        for page in range(2, len(data) // PAGE):
            # the pages of the keys in use later, free ones now or then
            if data[page * PAGE + 10] == 2 and KEYS[2_000] in data[page * PAGE : page * PAGE + PAGE]:
                file.seek(page * PAGE + 1_000)
                file.write(bytes(3_000))
    store.put_meta({b"z": b"z"})
    store.close()
    with pytest.raises(StoreError, match="is damaged"):
        LMDBOnlineStore(folder).multi_get([KEYS[2_000]])


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_of_a_project_are_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = LMDBOnlineStore(tmp_path / ".headwater" / "online")
        store.put_meta({b"k": b"v"})
        store.close()
    finally:
        os.umask(before)
    for path in (tmp_path / ".headwater", *(tmp_path / ".headwater").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_files_that_an_earlier_release_left_open_to_others_are_narrowed(tmp_path: Path) -> None:
    folder = tmp_path / ".headwater" / "online"
    folder.mkdir(parents=True)
    lmdb.open(str(folder)).close()
    assert stat.S_IMODE((folder / "data.mdb").stat().st_mode) & 0o077
    store = LMDBOnlineStore(folder)
    assert store.multi_get([b"k"]) == [None]
    for path in (folder, folder / "data.mdb", folder / "lock.mdb"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    store.close()


def test_a_url_with_a_host_is_refused_and_its_password_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the URL of a folder") as refused:
        LMDBOnlineStore.from_url("lmdb://user:secret@host/rows", tmp_path)
    assert "secret" not in str(refused.value) and not list(tmp_path.iterdir())
