"""Several processes on one registry: one wins, the others get a conflict; a kill leaves the old or the new state."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.errors import RegistryConflict
from headwater.planning.diff import plan
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.types import Float64, String

URL = "sqlite:///registry.db"
NOW = datetime(2024, 1, 1, tzinfo=UTC)
AIRPORT = Entity("airport", {"airport": String})
FORK = multiprocessing.get_context("fork")


def views(who: str, batch: int) -> list[FeatureView]:
    features = [Feature(f"f{n}", Float64) for n in range(5)]
    source = PushSource(event_time="t")
    return [FeatureView(f"{who}_{batch}_{n}", entity=AIRPORT, source=source, features=features) for n in range(10)]


def apply_batches(registry: FeatureRegistry, who: str, count: int, say: Callable[[str], None]) -> None:
    batch = 0
    while batch < count:
        found = plan(registry.refresh(), views(who, batch), whole_project=False, now=NOW)
        try:
            registry.apply(found, now=NOW, who=who)
        except RegistryConflict:
            say("conflict")
            continue
        say(f"applied {batch}")
        batch += 1


def applier(folder: Path, who: str, count: int, pipe: Connection) -> None:
    apply_batches(open_registry(URL, folder, "p"), who, count, pipe.send)
    pipe.send("done")


def planner(folder: Path, who: str, _count: int, pipe: Connection) -> None:
    registry = open_registry(URL, folder, "p")
    found = plan(registry.refresh(), views(who, 0), whole_project=False, now=NOW)
    pipe.send("planned")
    pipe.recv()
    try:
        registry.apply(found, now=NOW)
        pipe.send("applied")
    except RegistryConflict:
        pipe.send("conflict")


@dataclass
class Child:
    process: multiprocessing.process.BaseProcess
    pipe: Connection

    @classmethod
    def start(cls, target: Callable[[Path, str, int, Connection], None], folder: Path, who: str, count: int) -> Child:
        mine, its = FORK.Pipe()
        process = FORK.Process(target=target, args=(folder, who, count, its))
        process.start()
        its.close()
        return cls(process, mine)

    def rest(self) -> list[str]:
        """What it says until it ends."""
        said = []
        try:
            while self.pipe.poll(60):
                said.append(self.pipe.recv())
        except EOFError:
            pass
        self.process.join(60)
        return said


def batches(folder: Path) -> dict[str, int]:
    """Applier and batch → how many of its views are registered, each of them complete."""
    registry = open_registry(URL, folder, "p")
    snapshot = registry.snapshot()
    found: dict[str, int] = {}
    for name, record in snapshot.views.items():
        assert record.live == "1.0.0"
        assert len(record.versions["1.0.0"].view.feature_list) == 5
        batch = name.rpartition("_")[0]
        found[batch] = found.get(batch, 0) + 1
    assert snapshot.revision == len(found) == len({c.revision for c in registry.changes()})
    registry.close()
    return found


def test_of_two_processes_that_planned_on_one_revision_one_wins(tmp_path: Path) -> None:
    both = [Child.start(planner, tmp_path, who, 1) for who in ("a", "b")]
    assert [child.pipe.recv() for child in both] == ["planned", "planned"]
    for child in both:
        child.pipe.send("go")
    assert sorted(child.pipe.recv() for child in both) == ["applied", "conflict"]
    for child in both:
        child.process.join(60)
    assert list(batches(tmp_path).values()) == [10]


def test_many_processes_lose_nothing(tmp_path: Path) -> None:
    children = [Child.start(applier, tmp_path, f"p{n}", 5) for n in range(4)]
    for child in children:
        said = [line for line in child.rest() if line != "conflict"]
        assert said == [*(f"applied {n}" for n in range(5)), "done"]
    assert batches(tmp_path) == {f"p{n}_{batch}": 10 for n in range(4) for batch in range(5)}


def test_a_kill_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    chance = random.Random(7)
    open_registry(URL, tmp_path, "p").close()
    for kill in range(15):
        child = Child.start(applier, tmp_path, f"k{kill}", 10_000)
        time.sleep(chance.uniform(0.02, 0.2))
        child.process.kill()
        acknowledged = [line.split()[1] for line in child.rest() if line.startswith("applied")]
        found = batches(tmp_path)
        assert set(found.values()) <= {10}, "an apply is there whole or not at all"
        assert {f"k{kill}_{batch}" for batch in acknowledged} <= set(found), "what was acknowledged stays"


@pytest.mark.parametrize("attempt", range(8))
def test_a_kill_while_the_registry_is_made(tmp_path: Path, attempt: int) -> None:
    child = Child.start(applier, tmp_path, "k", 1)
    deadline = time.monotonic() + 60
    while not (tmp_path / "registry.db").exists() and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(random.Random(attempt).uniform(0, 0.02))
    child.process.kill()
    child.rest()
    registry = open_registry(URL, tmp_path, "p", clock=lambda: NOW)
    assert registry.snapshot().revision in (0, 1)
    apply_batches(registry, "after", 1, lambda said: None)
    registry.close()
