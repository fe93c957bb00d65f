"""Nothing of what was removed stays in the data file, and all that is there stays as it is."""

from __future__ import annotations

import random
import re
import threading
import time
from pathlib import Path

import pytest

from headwater.online.stores.lmdb.pages import check_pages, read_metas
from headwater.online.stores.lmdb.store import LMDBOnlineStore

FOLDER = "online"


def key_of(n: int) -> bytes:
    return f"person{n:05d}@example.com".encode() + b"k" * (n % 60)


def value_of(n: int, version: int, size: int) -> bytes:
    return f"secret {n:05d} {version:03d} ".encode() * max(1, size // 17)


def marks_of(data: bytes) -> set[bytes]:
    """Every key and value that some bytes hold, or the beginning of one."""
    return set(re.findall(rb"secret \d{5} \d{3}|person\d{5}", data))


def left_in(folder: Path, gone: set[bytes]) -> set[bytes]:
    return marks_of((folder / "data.mdb").read_bytes()) & gone


def put(store: LMDBOnlineStore, rows: dict[bytes, bytes]) -> None:
    # as they are: the bytes of a test are no rows that a guard compares
    store._shared.write(lambda txn: [txn.put(key, data) for key, data in rows.items()])


@pytest.mark.parametrize("seed", range(4))
def test_what_was_removed_or_replaced_is_gone_and_the_rest_is_whole(tmp_path: Path, seed: int) -> None:
    store, draw = LMDBOnlineStore(tmp_path / FOLDER, sync=False), random.Random(seed)
    stored: dict[bytes, bytes] = {}
    gone: set[bytes] = set()
    for version in range(12):
        sizes = [10, 60, 300] if draw.random() < 0.7 else [10, 5_000, 20_000]
        fresh = {key_of(n): value_of(n, version, draw.choice(sizes)) for n in draw.sample(range(3_000), 300)}
        gone |= {mark for key in fresh if key in stored for mark in marks_of(stored[key])}
        put(store, fresh)
        stored |= fresh
        removed = draw.sample(sorted(stored), min(len(stored), draw.choice([1, 5, 100])))
        store.delete(removed)
        for key in removed:
            gone |= marks_of(stored.pop(key)) | marks_of(key)
    gone -= marks_of(b" ".join([*stored, *stored.values()]))
    assert left_in(tmp_path / FOLDER, gone)
    store.erase_remains()
    assert not left_in(tmp_path / FOLDER, gone)
    assert dict(store.scan(b"")) == stored
    with (tmp_path / FOLDER / "data.mdb").open("rb") as file:
        check_pages(file.fileno(), max(read_metas(file.fileno()), key=lambda meta: meta.transaction))
    # buffers of before do not bring it back
    for n in range(20):
        put(store, {b"one %d" % n: b"x" * n})
    store.delete([b"one %d" % n for n in range(20)])
    assert not left_in(tmp_path / FOLDER, gone)
    more = {key_of(n): value_of(n, 99, 200) for n in range(0, 3_000, 3)}
    put(store, more)
    stored |= more
    assert store.multi_get(sorted(stored)) == [stored[key] for key in sorted(stored)]
    store.close()
    with_new = LMDBOnlineStore(tmp_path / FOLDER)
    assert dict(with_new.scan(b"")) == stored
    with_new.close()


def test_reads_go_on_meanwhile(tmp_path: Path) -> None:
    store, stop, wrong = LMDBOnlineStore(tmp_path / FOLDER, sync=False), threading.Event(), []
    rows = {key_of(n): value_of(n, 0, 100) for n in range(2_000)}
    put(store, rows)
    kept = [key for i, key in enumerate(rows) if i % 2]

    def read() -> None:
        while not stop.is_set():
            if store.multi_get(kept) != [rows[key] for key in kept]:
                wrong.append("changed")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(0, 2_000, 100):
        store.delete([key for key in list(rows)[i : i + 100] if key not in kept])
        store.erase_remains()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not left_in(tmp_path / FOLDER, marks_of(b" ".join(set(rows) - set(kept))))
    store.close()


def test_a_reader_of_an_old_state_is_waited_for(tmp_path: Path) -> None:
    store = LMDBOnlineStore(tmp_path / FOLDER, sync=False)
    put(store, {key_of(1): b"old secret", key_of(2): b"stays"})
    begun, go = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def read(txn: object) -> None:
        begun.set()
        go.wait(60)
        seen.append(bytes(txn.get(key_of(1))))  # type: ignore[attr-defined]

    reader = threading.Thread(target=lambda: store._shared.read(read))
    reader.start()
    begun.wait(60)
    store.delete([key_of(1)])
    eraser = threading.Thread(target=store.erase_remains)
    eraser.start()
    time.sleep(0.2)
    go.set()
    reader.join()
    eraser.join()
    assert seen == [b"old secret"]
    assert not left_in(tmp_path / FOLDER, marks_of(b"old secret" + key_of(1)))
    store.close()
