"""Fifty writers on the same keys of a window view, killed with SIGKILL like the runs beside them: no event is lost or
counted twice. A fill that is killed goes on where it was."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from headwater.compute.windows.driving import fill_records
from headwater.errors import HeadwaterError
from headwater.online.base import OnlineStore
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.windows.codec import decode_row
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing.window_project import BEGIN, KEYS, MINUTE, WindowProject
from tests.processes import PROCESSES

HOSTS, WRITERS, BATCHES = 5, 10, 3
NOW = BEGIN + timedelta(hours=3)


def online_of(folder: Path) -> OnlineStore:
    place = folder / "online.url"
    return RedisOnlineStore(place.read_text()) if place.exists() else LMDBOnlineStore(folder / "rows", sync=False)


@pytest.fixture(params=["lmdb", "redis"])
def folder(request: Any, tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        (made / "online.url").write_text(server.url)
    return made


def rows_of(writer: int, batch: int) -> list[dict[str, Any]]:
    """Rows of a writer: each event of an id is written by three writers."""
    r = random.Random(writer * 100 + batch)
    rows = []
    for i in range(4):
        number = writer * 1_000 + batch * 10 + i + 1
        key, at, name = r.choice(KEYS), NOW - r.randrange(200) * MINUTE, None
        if i == 0:
            key, at, name = KEYS[batch], NOW - (writer // 3) * MINUTE, f"shared{writer // 3}"
        rows.append({"k": key, "at": at, "seen": NOW - r.randrange(3) * MINUTE, "id": name, "n": number, "kind": "a"})
    return [row | {"seen": max(row["seen"], row["at"])} for row in rows]


def write(folder: str, host: int, told: Connection) -> None:
    """Ten writers in a process of their own; each acknowledged batch is told."""
    w = WindowProject.again(Path(folder), online_of(Path(folder)), NOW)
    lock = threading.Lock()

    def one(writer: int) -> None:
        for batch in range(BATCHES):
            w.store.write("v", rows_of(writer, batch))
            with lock:
                told.send((writer, batch))

    threads = [threading.Thread(target=one, args=(host * WRITERS + i,)) for i in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send(None)


def run(folder: str, told: Connection) -> None:
    """Runs and deletes, one after another, until it is killed."""
    w = WindowProject.again(Path(folder), online_of(Path(folder)), NOW)
    told.send(None)
    r = random.Random()
    while True:
        try:
            if r.random() < 0.2:
                w.store.delete("v", [r.choice(KEYS)])
            else:
                w.store.materialize(force=r.random() < 0.3)
        except HeadwaterError:
            # another run went on instead
            time.sleep(0.01)


@contextmanager
def begun(*works: tuple[Any, ...]) -> Iterator[list[tuple[Any, Connection]]]:
    """A process for each function and its arguments; none is left when the block ends."""
    found: list[tuple[Any, Connection]] = []
    try:
        for work, *args in works:
            telling, told = PROCESSES.Pipe(duplex=False)
            process = PROCESSES.Process(target=work, args=(*args, told), daemon=True)
            process.start()
            told.close()
            found.append((process, telling))
        yield found
    finally:
        for process, _ in found:
            process.kill()  # one that has ended is let alone
            process.join(60)


def received(telling: Connection) -> list[Any]:
    found = []
    try:
        while (each := telling.recv()) is not None:
            found.append(each)
    except EOFError:
        pass
    return found


def test_fifty_writers_and_runs_are_killed(folder: Path) -> None:
    w = WindowProject(folder, online_of(folder))
    w.clock = NOW
    works = [(write, str(folder), host) for host in range(HOSTS)] + [(run, str(folder))] * 2
    with begun(*works) as processes:
        hosts, runs = processes[:HOSTS], processes[HOSTS:]
        for process, telling in runs:
            telling.recv()
            assert process.is_alive()
        r = random.Random()
        for process, _ in (hosts[0], hosts[1], *runs):
            time.sleep(r.random() * 0.7)
            process.kill()
        acknowledged = [each for _, telling in hosts for each in received(telling)]
        for process, _ in processes:
            process.join(60)
    assert w.problems() == []
    logged = {row.values["n"] for row in w.logged()[0]}
    assert {row["n"] for writer, batch in acknowledged for row in rows_of(writer, batch)} <= logged
    w.clock += timedelta(seconds=30)
    w.store.materialize()
    assert w.problems() == [] and w.check() == len(KEYS)
    w.store.close()
    w.online.close()


MANY = 400


def fill(folder: str, told: Connection) -> None:
    """A fill in small parts, slowly."""
    keep_keys()
    w = WindowProject.again(Path(folder), online_of(Path(folder)), NOW, files=True)
    online = w.store.context.online
    swap = online.compare_and_put_all

    def slowly(*args: Any, **options: Any) -> Any:
        told.send(len(args[0]))
        time.sleep(0.05)
        return swap(*args, **options)

    online.compare_and_put_all = slowly  # type: ignore[method-assign]
    w.store.materialize()
    told.send(None)


def keep_keys() -> None:
    """Parts of some twenty keys."""
    from headwater.compute.windows import dealing, rebuilding

    dealing.PART, rebuilding.MOST_KEYS = 4_000, 20


def test_a_fill_that_is_killed_goes_on_where_it_was(folder: Path) -> None:
    w = WindowProject(folder, online_of(folder), files=True)
    w.clock = NOW
    at = NOW - MINUTE
    w.grow_source(
        [{"k": f"k{i}", "at": at, "seen": at, "id": None, "n": i, "kind": "a"} for i in range(MANY)]
        + [{"k": key, "at": at, "seen": at, "id": None, "n": 1, "kind": "b"} for key in KEYS]
    )
    with begun((fill, str(folder))) as ((process, telling),):
        for _ in range(6):
            telling.recv()
        process.kill()
        process.join(60)
    (record,) = fill_records(w.store.context, [("v", "1.0.0")]).values()
    assert record is not None and not record.fill and record.base is not None
    runs = rebuilt_by(w)
    assert 80 <= len(runs) <= MANY
    w.clock += MINUTE
    more = {"k": "k0", "at": w.clock, "seen": w.clock, "id": None, "n": 7, "kind": "a"}
    w.grow_source([more])
    w.store.materialize()
    after = rebuilt_by(w)
    (record,) = fill_records(w.store.context, [("v", "1.0.0")]).values()
    assert record is not None and record.fill == record.filling and record.base is None
    assert len(after) == MANY + len(KEYS)
    # rows of the first process are as they were, but for the key that has another row since
    changed = [key for key in runs if after[key] != runs[key]]
    assert len(changed) <= 1
    assert w.check() == len(KEYS)
    w.store.close()
    w.online.close()


SLICES = 12


def fold(folder: str, told: Connection) -> None:
    """A fold in slices of a transaction or two, slowly."""
    small_slices()
    w = WindowProject.again(Path(folder), online_of(Path(folder)), NOW)
    online = w.store.context.online
    swap = online.compare_and_put_all

    def slowly(*args: Any, **options: Any) -> Any:
        told.send(len(args[0]))
        time.sleep(0.05)
        return swap(*args, **options)

    online.compare_and_put_all = slowly  # type: ignore[method-assign]
    w.store.materialize()
    told.send(None)


def small_slices() -> None:
    """Slices of some ten rows, which are folded whatever history has."""
    from headwater.compute.windows import log_slices

    log_slices._SOONER, log_slices._ROW = 0, 60 << 20


def write_more(folder: str, told: Connection) -> None:
    """What a writer puts while a run folds."""
    w = WindowProject.again(Path(folder), online_of(Path(folder)), NOW)
    for number in range(1_000, 1_020):
        w.store.write("v", [{"k": KEYS[0], "at": NOW, "seen": NOW, "id": None, "n": number, "kind": "b"}])
        time.sleep(0.03)
    told.send(None)


def test_a_run_that_is_killed_between_slices_goes_on_where_it_was(folder: Path) -> None:
    w = WindowProject(folder, online_of(folder))
    w.clock = NOW
    ends = []
    for i in range(SLICES):
        # what writers that were killed left
        rows = [
            {
                "k": r.choice(KEYS),
                "at": NOW - r.randrange(200) * MINUTE,
                "seen": NOW,
                "id": None,
                "n": 10 * i + j,
                "kind": "a",
            }
            for j, r in enumerate([random.Random(i)] * 8)
        ]
        w.store.write("v", rows, to="offline")
        ends.append(w.store.context.log.head_position())
    with begun((fold, str(folder)), (write_more, str(folder))) as ((process, telling), (writer, _)):
        # rows that are rebuilt come before the first slice
        while telling.recv() is not None and low_of(w) < ends[2]:
            pass
        process.kill()
        process.join(60)
        assert low_of(w) in ends[2:-1]
        assert w.problems() == []
        writer.join(60)
    w.clock += timedelta(seconds=30)
    report = w.store.materialize()
    # the slices of the first run are not read again
    assert report.runs[0].rows < SLICES * 8 + 20
    assert w.problems() == [] and w.check() == len(KEYS)
    w.store.close()
    w.online.close()


def low_of(w: WindowProject) -> int:
    """Up to which position the rows are complete."""
    (record,) = fill_records(w.store.context, [("v", "1.0.0")]).values()
    assert record is not None
    return record.low


def rebuilt_by(w: WindowProject) -> dict[bytes, int]:
    """Key → the number of the run that made its row."""
    view = w.view()
    assert view.windows is not None
    stored = w.online.scan(RowEncoder("windows", view).prefix)
    return {key: decode_row(view.windows, data).run for key, data in stored}
