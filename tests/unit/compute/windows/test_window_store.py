"""Window rows of a real store after writes, deletes and runs are what brute force says of its log and source."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import headwater as hw
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing import SCALE
from tests.unit.compute.windows.stores import AGGREGATIONS, KEYS, MINUTE, WindowStore


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a case makes hundreds of small transactions."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="headwater-test-", dir=shared)) if shared.is_dir() else tmp_path
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Steps:
    """Random writes, deletes, files and runs."""

    def __init__(self, w: WindowStore, seed: int) -> None:
        self.w, self.r = w, random.Random(seed)
        self.number = 0
        self.times: dict[str, Any] = {}

    def row(self) -> dict[str, Any]:
        r = self.r
        self.number += 1
        key, at = r.choice(KEYS), self.w.clock + r.choice([-200, -90, -31, -30, -5, -1, 0, 0, 20]) * MINUTE
        name = f"{key}{r.randrange(8)}" if r.random() < 0.5 else None
        if name is not None:
            at = self.times.setdefault(name, at)
        seen = max(at, self.w.clock + r.choice([-40, -3, 0, 0, 7]) * MINUTE)
        kind = r.choice(["a", "b", None])
        return {"k": key, "at": at, "seen": seen, "id": name, "n": r.choice([self.number, None]), "kind": kind}

    def step(self) -> None:
        w, r = self.w, self.r
        w.clock += r.choice([0, 0, 1, 5, 30]) * MINUTE
        what = r.random()
        if what < 0.5:
            rows = [self.row() for _ in range(r.choice([1, 1, 3, 8]))]
            if r.random() < 0.4:
                rows = [{name: value for name, value in row.items() if name != "seen"} for row in rows]
            report = w.store.write("v", rows)
            assert report.applied + report.future == len(rows)
        elif what < 0.6:
            w.store.delete("v", [r.choice(KEYS)])
        elif what < 0.7 and w.files:
            w.grow_source([self.row() for _ in range(r.choice([1, 4]))])
        elif what < 0.72:
            w.lose_record()
        elif what < 0.78:
            w.store.materialize(force=True)
        elif what < 0.84:
            w.store.materialize(entities=[r.choice(KEYS)])
        else:
            w.store.materialize()


@pytest.mark.parametrize("files", [False, True], ids=["written", "files"])
@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_rows_are_what_brute_force_says(fast_folder: Path, kind: str, files: bool) -> None:
    compared = 0
    for seed in range(4 * SCALE):
        folder = fast_folder / str(seed)
        online = MemoryOnlineStore() if kind == "memory" else LMDBOnlineStore(folder / "rows")
        w = WindowStore(folder, online, files=files)
        steps = Steps(w, seed)
        for _ in range(25):
            steps.step()
            if steps.r.random() < 0.2:
                w.store.materialize()
                compared += w.check()
        w.clock += 60 * MINUTE
        w.store.materialize()
        compared += w.check()
        w.store.close()
        online.close()
    assert compared > 5


def test_a_written_row_is_there_at_once(fast_folder: Path) -> None:
    w = WindowStore(fast_folder, MemoryOnlineStore())
    steps = Steps(w, 1)
    for _ in range(40):
        w.clock += steps.r.choice([0, 1, 7]) * MINUTE
        row = steps.row() | {"id": None}
        if row["seen"] <= w.clock:
            w.store.write("v", [row])
        assert w.check() == len(KEYS)
    w.store.delete("v", ["a"])
    assert w.check() == len(KEYS)
    w.store.close()


def test_a_version_with_a_source_is_filled_by_its_first_run(fast_folder: Path) -> None:
    w = WindowStore(fast_folder, MemoryOnlineStore(), files=True)
    assert w.row("a") is None
    row = Steps(w, 2).row() | {"seen": w.clock, "at": w.clock}
    assert w.store.write("v", [row]).future == 1
    assert w.row("a") is None
    w.store.materialize()
    assert w.check() == len(KEYS)
    w.store.close()


def test_a_new_version_is_filled_beside_the_first(fast_folder: Path) -> None:
    w = WindowStore(fast_folder, MemoryOnlineStore())
    steps = Steps(w, 3)
    w.store.write("v", [steps.row() | {"seen": w.clock} for _ in range(9)])
    w.store.apply([replace(w.definition(), features=[*AGGREGATIONS, hw.Aggregation("n", "min", "1h")])])
    assert w.row("a", "1.1.0") is None
    w.clock += MINUTE
    w.store.materialize()
    w.clock += 60 * MINUTE
    w.store.write("v", [steps.row() | {"id": None} for _ in range(9)])
    w.clock += 60 * MINUTE
    w.store.materialize()
    assert w.check("1.0.0") == w.check("1.1.0") == len(KEYS)
    assert w.store.context.registry.refresh().view("v").live == "1.1.0"
    w.store.close()
