"""As `test_plain_rows`, with an engine whose processes put the rows of runs and of force: some are run twice, and go on
when their run has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.claims import Claims
from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.sink import Executors, PutCounts, Sink
from tests.interleaved.test_plain_rows import KEYS, US, Mirrored, World, _Stepping, fast_folder, try_seeds
from tests.interleaved.turns import Turns

__all__ = ["fast_folder"]


class Shared(Mirrored):
    """A store that processes open too."""

    capabilities = replace(Mirrored.capabilities, shared=True)


class Location:
    """Where a store of this process is, each of whose calls is a step."""

    def __init__(self, store: Mirrored, turns: Turns) -> None:
        self._store, self._turns = store, turns

    def open(self) -> Any:
        opened = _Stepping(self._store, self._turns)
        opened.close = lambda: None
        return opened


class TurnsEngine(DuckDBEngine):
    """The embedded engine, whose rows are put a few at a time, as by several processes; some parts are put twice."""

    executors = Executors.LOCAL
    world: ForceWorld

    def put_changes(self, request: ChangesRequest, counts: ChangeCounts, sink: Sink) -> Iterator[PutCounts]:
        chance = self.world.random
        for batch in self.changes(request, counts):
            for i in range(batch.num_rows):
                part = batch.slice(i, 1)
                if chance.random() < 0.3:
                    # it was read by itself, and nobody waits for it
                    self.world.left_behind.append((sink, part))
                yield sink.put([part])


class ForceWorld(World):
    """More force runs than elsewhere, and processes that go on by themselves."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.left_behind: list[tuple[Sink, pa.RecordBatch]] = []
        self.extra: set[int] = set()
        """Values of rows that history does not have: a row online with one stays until force."""
        self.had: dict[tuple[Any, ...], list[int]] = {}
        """The values of source rows before they were corrected."""
        super().__init__(folder, seed)

    def make_store(self) -> Mirrored:
        return Shared()

    def open(self, *, plain: bool = False) -> hw.FeatureStore:
        if plain:
            return super().open(plain=True)
        engine = TurnsEngine(self.folder)
        engine.world = self
        store = hw.FeatureStore(self.folder, online=self.online, offline=engine, clock=lambda: self.clock)
        context = store.context
        online: Any = _Stepping(self.online, self.turns)
        where: Any = Location(self.online, self.turns)
        claims = Claims(context.project, context.registry, context.open_log, online)
        store.context = replace(context, online=online, claims=claims, online_location=where)
        self.turns.wrap(context.log, "append", "delete", "begin_run", "slice", "erase", "roll", "deletes_after")
        self.turns.wrap(context.engine, "changes", "list_files")
        self.turns.wrap(context.files, "record")
        self.stores.append(store)
        return store

    def act(self) -> None:
        if self.random.random() < 0.25 and len(self.alive()) < 5:
            self.begin("force", lambda store: store.materialize(force=True))
        if self.random.random() < 0.15 and len(self.alive()) < 5:
            row = self.row(self.random.choice(KEYS), self.random.choice([-3, 0, 1]))
            self.extra.add(row["x"])
            self.begin("cache", lambda store: store.write("v", [row], to="online"))
        if self.random.random() < 0.1:
            name = self.random.choice(sorted(self.files))
            rows = list(self.files[name])
            if len(rows) > 1:
                self.extra.add(rows.pop(self.random.randrange(len(rows)))["x"])
                self.rewrite(name, rows)
        super().act()
        while self.left_behind:
            sink, part = self.left_behind.pop()
            self.processes.append(self.turns.start("twin", lambda sink=sink, part=part: sink.put([part])))

    def settle(self) -> None:
        """As of other worlds; then a force run that nobody disturbs, after which nothing is left out."""
        super().settle()
        for store in self.stores:
            store.close()
        self.host = None
        self.begin("force", lambda store: store.materialize(force=True))
        self.finish()
        while self.left_behind:
            sink, part = self.left_behind.pop()
            self.processes.append(self.turns.start("twin", lambda sink=sink, part=part: sink.put([part])))
        self.finish()
        self.extra = set()
        with self.open(plain=True) as store:
            self.check(store)

    def finish(self) -> None:
        for process in self.alive():
            process.finish()
            assert process.error is None, repr(process.error)

    def corrected(self, row: dict[str, Any]) -> dict[str, Any]:
        """Of other values, or of those that it had before."""
        had = self.had.setdefault((row["k"], row["at"], row["seen"]), [])
        before = [x for x in had if x != row["x"]]
        had.append(row["x"])
        return {**row, "x": self.random.choice(before) if before and self.random.random() < 0.5 else self.values}

    def check(self, store: hw.FeatureStore) -> None:
        online = store.get_online_features(["v:x"], list(KEYS)).to_dict()["x"]
        spine = pa.table({"k": list(KEYS), "timestamp": pa.array([self.clock] * len(KEYS), US)})
        history = store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist()
        for here, there in zip(online, history, strict=True):
            assert here == there or here in self.extra, (online, history, self.clock)


@pytest.mark.parametrize("first", range(2))
def test_online_rows_are_what_history_says_while_processes_put_them(fast_folder: Path, first: int) -> None:
    try_seeds(ForceWorld, fast_folder, first, steps=40)
