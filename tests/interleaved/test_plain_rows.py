"""Writers, deletes, purges, runs, refreshes and force under kills, pauses, failovers and restores, a step at a time:
afterwards the online rows are what history says, and what was acknowledged is there."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.compute.claims import Claims
from headwater.errors import HeadwaterError
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing import SCALE
from tests.interleaved.turns import Process, Turns

KEYS = ("a", "b", "c")
BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
THING = hw.Entity("thing", join_keys={"k": hw.String})
US = pa.timestamp("us", tz="UTC")


def view(folder: Path) -> hw.FeatureView:
    source = hw.ParquetSource(str(folder / "source"), event_time="at", created_time="seen")
    return hw.FeatureView("v", entity=THING, source=source, features=[hw.Feature("x", hw.Int64)])


class Mirrored(MemoryOnlineStore):
    """A primary whose replica may lack its last operations: a failover loses them, and begins another life."""

    def __init__(self) -> None:
        super().__init__()
        self.life = 0
        self.history: list[dict[bytes, bytes]] = [{}]

    def note(self) -> None:
        if self._rows != self.history[-1]:
            self.history = [*self.history[-40:], dict(self._rows)]

    def fail_over(self, lost: int) -> None:
        self.note()
        self.history = self.history[: max(1, len(self.history) - lost)]
        self._rows = dict(self.history[-1])
        self.life += 1

    def epoch(self, key: bytes) -> bytes:
        return super().epoch(key) + self.life.to_bytes(4, "big")

    def put_meta(self, entries: Any, *, expected: Any = None, epoch: Any = None, high_water: Any = None) -> bool:
        if epoch is not None:
            key, data = epoch
            if data[-4:] != self.life.to_bytes(4, "big"):
                return False
            epoch = key, data[:-4]
        return super().put_meta(entries, expected=expected, epoch=epoch, high_water=high_water)

    def compare_and_put(self, key: bytes, sequence: int, row: bytes | None, **options: Any) -> bool:
        epoch = options.pop("epoch", None)
        if epoch is not None:
            if epoch[1][-4:] != self.life.to_bytes(4, "big"):
                return False
            options["epoch"] = epoch[0], epoch[1][:-4]
        return super().compare_and_put(key, sequence, row, **options)


class World:
    """One project, the hosts that work on it, and what happens to them.

    Attributes:
        schema: of the source's files.
    """

    schema = pa.schema([("k", pa.string()), ("at", US), ("seen", US), ("x", pa.int64())])

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.online = self.make_store()
        self.clock = BEGIN
        self.turns = Turns()
        self.processes: list[Process] = []
        self.stores: list[hw.FeatureStore] = []
        self.values = self.written = 0
        self.acknowledged: list[tuple[str, int]] = []
        self.files: dict[str, list[dict[str, Any]]] = {}
        (folder / "source").mkdir()
        self.rewrite("first.parquet", [self.row("a", -50)])
        with self.open(plain=True) as store:
            store.apply([THING, self.definition()])
        self.host: hw.FeatureStore | None = None

    # what they work on

    def make_store(self) -> Mirrored:
        return Mirrored()

    def definition(self) -> hw.FeatureView:
        return view(self.folder)

    def open(self, *, plain: bool = False) -> hw.FeatureStore:
        store = hw.FeatureStore(self.folder, online=self.online, clock=lambda: self.clock)
        if not plain:
            context = store.context
            online: Any = _Stepping(self.online, self.turns)
            claims = Claims(context.project, context.registry, context.open_log, online)
            store.context = replace(context, online=online, claims=claims)
            self.turns.wrap(context.log, "append", "delete", "begin_run", "slice", "erase", "roll", "deletes_after")
            self.turns.wrap(context.log, "take_number", "restored_at")
            self.turns.wrap(context.engine, "changes", "events", "list_files")
            self.turns.wrap(context.files, "record")
        self.stores.append(store)
        return store

    def row(self, key: str, seconds: float, known: float | None = None) -> dict[str, Any]:
        self.values += 1
        at = self.clock + seconds * SECOND
        seen = at if known is None else self.clock + known * SECOND
        return {"k": key, "at": at, "seen": max(at, seen), "x": self.values}

    def rewrite(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.files[name] = rows
        # beside, and of another time than before, so that nobody takes it for one that is still written to
        beside = self.folder / "new.parquet"
        pq.write_table(pa.Table.from_pylist(rows, self.schema), beside)
        self.written += 1
        os.utime(beside, ns=(self.written * 10**9, self.written * 10**9))
        beside.replace(self.folder / "source" / name)

    # what happens

    def begin(self, what: str, work: Any) -> None:
        if self.host is None or self.random.random() < 0.3:
            self.host = self.open()
        host = self.host
        self.processes.append(self.turns.start(what, lambda: work(host)))

    def alive(self) -> list[Process]:
        self.processes = [process for process in self.processes if not process.done]
        return self.processes

    def stop_all(self) -> None:
        for process in self.alive():
            process.kill()
        self.host = None

    def act(self) -> None:
        r, key = self.random.random, self.random.choice(KEYS)
        chance = r()
        self.clock += self.random.choice([0, 0, 1, 1, 3]) * SECOND
        few = len(self.alive()) < 5
        if chance < 0.25 and few:
            rows = [self.row(key, self.random.choice([-20, -5, -1, 0, 2, 9]), self.random.choice([None, -2, 0, 4]))]
            carried = self.random.random() < 0.6
            given = [row if carried else {n: v for n, v in row.items() if n != "seen"} for row in rows]
            self.begin("write", lambda store: self.write(store, given))
        elif chance < 0.33 and few:
            purge = r() < 0.3
            self.begin("delete", lambda store: store.delete("v", [key], purge=purge))
        elif chance < 0.45 and few:
            self.begin("run", lambda store: store.materialize())
        elif chance < 0.50 and few:
            self.begin("refresh", lambda store: store.materialize(entities=[key]))
        elif chance < 0.55 and few:
            self.begin("force", lambda store: store.materialize(force=True))
        elif chance < 0.68:
            self.change_source(key)
        elif chance < 0.74 and self.alive():
            self.random.choice(self.alive()).kill()
        elif chance < 0.77:
            self.online.fail_over(self.random.choice([0, 1, 2, 5, 1000]))
        elif chance < 0.79:
            self.restore()
        elif chance < 0.82:
            self.clock += timedelta(minutes=11)
        elif chance < 0.86:
            self.backup()
        for _ in range(self.random.choice([0, 1, 3, 8, 20])):
            if self.alive():
                self.random.choice(self.alive()).step()
                self.online.note()

    @staticmethod
    def write(store: hw.FeatureStore, rows: list[dict[str, Any]]) -> Any:
        return store.write("v", rows)

    def change_source(self, key: str) -> None:
        name = self.random.choice([*sorted(self.files), f"more-{len(self.files)}.parquet"])
        rows = list(self.files.get(name, []))
        if rows and self.random.random() < 0.4:
            # corrected under the same times
            i = self.random.randrange(len(rows))
            self.values += 1
            rows[i] = self.corrected(rows[i])
        else:
            rows.append(self.row(key, self.random.choice([-60, -20, -5, 0]), self.random.choice([None, -5, 0])))
        self.rewrite(name, rows)

    def corrected(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "x": self.values}

    def backup(self) -> None:
        with sqlite3.connect(self.folder / ".headwater/registry.db") as source:
            target = sqlite3.connect(self.folder / "backup.db")
            source.backup(target)
            target.close()
        source.close()
        shutil.rmtree(self.folder / "backup-log", ignore_errors=True)
        if (self.folder / ".headwater/log").exists():
            shutil.copytree(self.folder / ".headwater/log", self.folder / "backup-log")

    def restore(self) -> None:
        """With the writers stopped, as the docs ask for."""
        if not (self.folder / "backup.db").exists():
            return
        self.stop_all()
        for store in self.stores:
            store.close()
        self.stores = []
        for file in (self.folder / ".headwater").glob("registry.db*"):
            file.unlink()
        shutil.copy(self.folder / "backup.db", self.folder / ".headwater/registry.db")
        if (self.folder / "backup-log").exists():
            shutil.copytree(self.folder / "backup-log", self.folder / ".headwater/log", dirs_exist_ok=True)

    # what is right

    def settle(self) -> None:
        """Everybody ends, then two runs on a quiet store."""
        for process in self.alive():
            process.finish()
            assert process.error is None or isinstance(process.error, HeadwaterError), repr(process.error)
        self.clock += timedelta(seconds=60)
        with self.open(plain=True) as store:
            for _ in range(2):
                store.materialize()
                self.clock += timedelta(minutes=11)
            self.check(store)

    def check(self, store: hw.FeatureStore) -> None:
        online = store.get_online_features(["v:x"], list(KEYS))
        spine = pa.table({"k": list(KEYS), "timestamp": pa.array([self.clock] * len(KEYS), US)})
        history = store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist()
        assert online.to_dict()["x"] == history, (online.statuses["x"], self.clock)


class _Stepping:
    """An online store each of whose calls is a step."""

    def __init__(self, store: Mirrored, turns: Turns) -> None:
        self._store, self._turns = store, turns

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name in ("clock", "not_erased"):
            return found

        def step(*args: Any, **options: Any) -> Any:
            self._turns.pause()
            return found(*args, **options)

        return step


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a case makes thousands of small transactions."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="headwater-test-", dir=shared)) if shared.is_dir() else tmp_path
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def try_seeds(make: Callable[[Path, int], World], folder: Path, first: int, *, steps: int) -> None:
    """Random orders of steps of a world, those of every second seed; each then settles.

    Args:
        make: the world of a folder and a seed.
        folder: where each has a folder of its own.
        first: the first seed.
        steps: of each.
    """
    for seed in range(first, 2 * SCALE, 2):
        own = folder / f"case{seed}"
        own.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            world = make(own, seed)
            try:
                for _ in range(steps):
                    world.act()
                world.settle()
            except BaseException as bad:
                bad.add_note(f"seed {seed}")
                raise
            finally:
                world.stop_all()
                for store in world.stores:
                    store.close()


@pytest.mark.parametrize("first", range(2))
def test_online_rows_are_what_history_says_after_any_order_of_steps(fast_folder: Path, first: int) -> None:
    try_seeds(World, fast_folder, first, steps=60)
