"""Folds that take the log slice by slice, or rebuild their keys instead: rows are what brute force says, and no slice
has more rows than a transaction has, or than are held at once."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.compute.windows import log_slices
from headwater.compute.windows.driving import fill_records
from headwater.compute.windows.history import WindowHistory
from headwater.compute.windows.log_slices import LogSlices, ends_of
from headwater.compute.windows.requests import DueBatches
from headwater.offline.log import log as offline_log
from headwater.online.rows.windows.record import SourceThrough
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.testing import SCALE
from headwater.testing.window_project import KEYS, MINUTE, RandomSteps, WindowProject

MODES = {
    "slices of a row or a transaction": {"_ROW": 1 << 40, "_SOONER": 0, "_LARGE": 1 << 40},
    "rebuilt since history is short": {"_MANY": 3, "_SOONER": 1 << 40},
    "rebuilt since there is too much": {"_ROW": 1 << 40, "_SOONER": 0, "_LARGE": 2},
}


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 20), st.integers(1, 5))
def test_slices_end_at_transactions(sizes: list[int], most: int, together: int) -> None:
    positions = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    table = pa.table({"__position": positions, "__rows": sizes})
    ends = ends_of(table.to_batches(together), most, positions[-1])
    assert set(ends) <= set(positions) and ends[-1] == positions[-1]
    for after, through in pairwise([0, *ends]):
        mine = [size for size, position in zip(sizes, positions, strict=True) if after < position <= through]
        assert sum(mine) <= most or len(mine) == 1


@pytest.mark.parametrize("mode", MODES)
def test_rows_are_what_brute_force_says(tmp_path: Any, monkeypatch: Any, mode: str) -> None:
    for name, value in MODES[mode].items():
        monkeypatch.setattr(log_slices, name, value)
    monkeypatch.setattr(offline_log, "HEAD_ROWS", 5)
    compared, slices = 0, list[DueBatches]()
    due = LogSlices.due

    def noted(self: LogSlices, asked: DueBatches) -> Any:
        if asked.after < asked.through:
            slices.append(asked)
        return due(self, asked)

    monkeypatch.setattr(LogSlices, "due", noted)
    for seed in range(SCALE):
        folder = tmp_path / str(seed)
        folder.mkdir()
        online = LMDBOnlineStore(folder / "rows", sync=False)
        w = WindowProject(folder, online, files=seed % 3 == 2)
        w.store.materialize()
        steps, r = RandomSteps(w, seed), random.Random(seed)
        for _ in range(3):
            for _ in range(4):
                w.clock += r.choice([0, 1, 5, 30]) * MINUTE
                rows = [steps.row() for _ in range(r.choice([1, 1, 3, 8]))]
                # what a writer that was killed leaves
                w.store.write("v", rows, to=r.choice(["offline", "both"]))
                if r.random() < 0.2:
                    w.store.delete("v", [r.choice(KEYS)])
            w.clock += r.choice([0, 10, 60]) * MINUTE
            w.store.materialize()
            assert w.problems() == []
            compared += w.check()
            (record,) = fill_records(w.store.context, [("v", "1.0.0")]).values()
            assert record is not None and record.low == w.store.context.log.head_position()
        w.store.close()
        online.close()
    assert compared > 3 * SCALE
    several = any(before.through == each.after and before.since == each.since for before, each in pairwise(slices))
    assert several == (mode == "slices of a row or a transaction")


def test_a_slice_takes_what_is_in_it(tmp_path: Any) -> None:
    """Whatever the files are cut like."""
    online = LMDBOnlineStore(tmp_path / "rows", sync=False)
    w = WindowProject(tmp_path, online)
    steps = RandomSteps(w, 1)
    ends = []
    for i in range(12):
        w.clock += timedelta(seconds=1)
        w.store.write("v", [steps.row() for _ in range(3)], to="offline")
        ends.append(w.store.context.log.head_position())
        if i in (3, 7):
            w.store.context.log.roll()
    history = WindowHistory(w.store.context, w.view())
    slices = LogSlices(history, 1 << 30, 10**6)
    keys = history.named(SourceThrough(), ends[-1])
    everything = history.batches(sorted(keys), 0, ends[-1])
    for after, through in [
        (0, ends[-1]),
        (ends[2], ends[3]),
        (ends[3], ends[8]),
        (ends[1], ends[9]),
        (ends[8], ends[9]),
    ]:
        due = slices.due(DueBatches(after, through, 0, 0))
        wanted = {k: [b for b in mine if after < b.position <= through] for k, mine in everything.items()}
        assert {key: each.fresh for key, each in due.items()} == {key: mine for key, mine in wanted.items() if mine}
        some = set(sorted(keys)[:2])
        assert slices.due(DueBatches(after, through, 0, 0, some)) == {k: each for k, each in due.items() if k in some}
    w.store.close()
    online.close()
