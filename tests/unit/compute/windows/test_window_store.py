"""Window rows of a real store after writes, deletes and runs are what brute force says of its log and source."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import headwater as hw
from headwater.compute.windows import dealing, history, keeping, large_keys, rebuilding
from headwater.compute.windows.large_keys import LargeKey
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing import rounds
from headwater.testing.window_project import AGGREGATIONS, KEYS, MINUTE, RandomSteps, WindowProject, steps_agree


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a case makes hundreds of small transactions."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="headwater-test-", dir=shared)) if shared.is_dir() else tmp_path
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("files", [False, True], ids=["written", "files"])
@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_rows_are_what_brute_force_says(fast_folder: Path, kind: str, files: bool) -> None:
    compared, first = 0, 2 * (kind == "lmdb") + files
    for seed in range(first, 4 * rounds(3, simplest=False), 4):
        folder = fast_folder / str(seed)
        online = MemoryOnlineStore() if kind == "memory" else LMDBOnlineStore(folder / "rows")
        w = WindowProject(folder, online, files=files)
        compared += steps_agree(w, seed, 25)
        w.store.close()
        online.close()
    assert compared > 5


def test_rows_made_in_small_parts_are_what_brute_force_says(fast_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "AT_ONCE", 1)
    monkeypatch.setattr(history, "AT_ONCE", 1)
    monkeypatch.setattr(rebuilding, "MOST_KEYS", 1)
    monkeypatch.setattr(dealing, "PART", 1)
    monkeypatch.setattr(large_keys, "_SAMPLE", 1)
    pieces, whole = list[int](), LargeKey.pieces

    def counted(self: LargeKey, more: Any) -> Any:
        given = list(whole(self, more))
        pieces.append(len(given))
        return iter(given)

    monkeypatch.setattr(LargeKey, "pieces", counted)
    for seed in range(rounds(2, simplest=False)):
        online = MemoryOnlineStore()
        w = WindowProject(fast_folder / str(seed), online, files=seed % 2 == 0)
        assert steps_agree(w, 100 + seed, 25) > 5
        w.store.close()
        online.close()
    assert max(pieces) > 2


def test_a_written_row_is_there_at_once(fast_folder: Path) -> None:
    w = WindowProject(fast_folder, MemoryOnlineStore())
    steps = RandomSteps(w, 1)
    for _ in range(40):
        w.clock += steps.random.choice([0, 1, 7]) * MINUTE
        row = steps.row() | {"id": None}
        if row["seen"] <= w.clock:
            w.store.write("v", [row])
        assert w.check() == len(KEYS)
    w.store.delete("v", ["a"])
    assert w.check() == len(KEYS)
    w.store.close()


def test_a_version_with_a_source_is_filled_by_its_first_run(fast_folder: Path) -> None:
    w = WindowProject(fast_folder, MemoryOnlineStore(), files=True)
    assert w.row("a") is None
    row = RandomSteps(w, 2).row() | {"seen": w.clock, "at": w.clock}
    assert w.store.write("v", [row]).future == 1
    assert w.row("a") is None
    w.store.materialize()
    assert w.check() == len(KEYS)
    w.store.close()


def test_a_new_version_is_filled_beside_the_first(fast_folder: Path) -> None:
    w = WindowProject(fast_folder, MemoryOnlineStore())
    steps = RandomSteps(w, 3)
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


def test_an_event_older_than_the_ids_of_its_row_counts_online_from_the_next_run_on() -> None:
    begin = datetime(2026, 1, 31, tzinfo=UTC)
    now, second = begin, timedelta(seconds=1)
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    source = hw.PushSource(event_time="at", event_id="id", schema={"id": hw.Int64})
    view = hw.FeatureView(
        "clicks", entity=user, source=source, features=[hw.Aggregation(None, "count", "7d", name="n")]
    )
    store = hw.FeatureStore.in_memory([user, view], clock=lambda: now)

    def online() -> list[int]:
        counts: list[int] = store.get_online_features(["clicks:n"], [1]).to_dict()["n"]
        return counts

    newest = [{"user": 1, "at": begin + i * second, "id": i} for i in range(129)]
    now += 129 * second
    store.write("clicks", newest)
    store.write("clicks", [{"user": 1, "at": begin + second, "id": 200}])
    assert online() == [130]
    store.write("clicks", [{"user": 1, "at": begin - second, "id": 201}])
    now += second
    found = store.get_historical_features([{"user": 1, "timestamp": now}], ["clicks:n"]).to_pylist()
    assert (online(), found[0]["n"]) == ([130], 131)
    store.materialize()
    assert online() == [131]
    store.close()
