"""Files that are replaced while history reads them: one state of them, or an error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import SourceError
from headwater.offline.engines.duckdb.workspace import DuckDBWorkspace

NOW = datetime(2026, 10, 1, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
SIZE = 1000


def write(path: Path, first: int, size: int = SIZE, **columns: Any) -> None:
    """Replace a file at once, as writers do, by one with its rows in another order."""
    users = (np.arange(size) + first) % SIZE
    rows = {"user": users, "at": [datetime(2026, 1, 2)] * size, "x": users * 1.0} | columns
    pq.write_table(pa.table(rows), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    write(tmp_path / "a.parquet", 0)
    source = hw.ParquetSource("a.parquet", event_time="at")
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)])
    with hw.FeatureStore.in_memory([USER, view], path=tmp_path, clock=lambda: NOW) as store:
        yield store


def before_the_answer(monkeypatch: pytest.MonkeyPatch, replace: Callable[[int], None]) -> None:
    """Call this with 0, 1, … before the values of chosen rows are read."""
    stream, calls = DuckDBWorkspace.stream, iter(range(100))

    def replaced(self: DuckDBWorkspace, *args: Any) -> Any:
        replace(next(calls))
        return stream(self, *args)

    monkeypatch.setattr(DuckDBWorkspace, "stream", replaced)


@pytest.mark.parametrize("size", [SIZE, SIZE // 2])
def test_a_source_that_is_replaced_is_read_again(store, tmp_path, monkeypatch, size) -> None:
    def replace(call: int) -> None:
        if call == 0:
            write(tmp_path / "a.parquet", 7, size)

    before_the_answer(monkeypatch, replace)
    spine = pa.table({"user": np.arange(SIZE), "timestamp": [NOW] * SIZE})
    there = {(i + 7) % SIZE for i in range(size)}
    result = store.get_historical_features(spine, ["v:x"])
    assert result.to_arrow()["x"].to_pylist() == [float(i) if i in there else None for i in range(SIZE)]
    counts = result.metadata.views["v"]
    assert (counts.matched, counts.no_row) == (size, SIZE - size)


@pytest.mark.parametrize("size", [SIZE, SIZE // 2])
def test_a_source_that_is_replaced_again_and_again_is_refused(store, tmp_path, monkeypatch, size) -> None:
    before_the_answer(monkeypatch, lambda call: write(tmp_path / "a.parquet", call + 1, size))
    spine = pa.table({"user": np.arange(SIZE), "timestamp": [NOW] * SIZE})
    with pytest.raises(SourceError, match=r"a\.parquet changed while it was read, 3 times in a row"):
        store.get_historical_features(spine, ["v:x"]).to_arrow()


def test_a_source_that_goes_away_is_an_error(store, tmp_path, monkeypatch) -> None:
    before_the_answer(monkeypatch, lambda _: (tmp_path / "a.parquet").unlink(missing_ok=True))
    spine = pa.table({"user": np.arange(SIZE), "timestamp": [NOW] * SIZE})
    with pytest.raises(SourceError):
        store.get_historical_features(spine, ["v:x"]).to_arrow()


def test_a_spine_that_is_replaced_is_read_again(store, tmp_path, monkeypatch) -> None:
    spine = tmp_path / "spine.parquet"
    write(spine, 0, timestamp=[NOW] * SIZE)

    def replace(call: int) -> None:
        if call == 0:
            write(spine, 5, timestamp=[NOW] * SIZE)

    before_the_answer(monkeypatch, replace)
    table = store.get_historical_features(spine, ["v:x"], full_names=True).to_arrow()
    assert table["v__x"].to_pylist() == [float(user) for user in table["user"].to_pylist()]
    assert table["user"][0].as_py() == 5


def test_files_that_are_added_do_not_matter(store, tmp_path, monkeypatch) -> None:
    before_the_answer(monkeypatch, lambda call: write(tmp_path / f"b{call}.parquet", 0))
    spine = pa.table({"user": [3], "timestamp": [NOW]})
    assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [3.0]
