"""Training sets of 1M rows x 50 features: saved, loaded and verified, beside the same join in plain `to_parquet`.

Saving is beside `get_historical_features(…).to_parquet(path)` of the same features, so that the difference is what the
manifest costs: digests, statistics, the state of the sources. Loading is beside `pandas.read_parquet` of the same file,
and verifying beside the same join consumed once more. Each measurement is in a process of its own, by turns; CPU
seconds tell more than the clock where others use the cores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import alternately, answer_side
from benchmarks.projects import Events, make_project, open_project, views, warm_up, write_events, write_spine

VIEWS = 5
FEATURES = [f"view{v}:*" for v in range(VIEWS)]


def _measured(
    given: dict[str, Any],
    work: Callable[[hw.FeatureStore, Path], int],
    reads: Callable[[hw.FeatureStore, Path], Path] | None = None,
) -> dict[str, Any]:
    """The seconds of some work on the store of a folder; the file that it reads is in the system's cache."""
    folder = Path(given["folder"])
    with tempfile.TemporaryDirectory() as scratch:
        warm_up(Path(scratch))
    with open_project(folder, Events(1, 1).end) as store:
        store.registry.snapshot()
        if reads is not None:
            with reads(store, folder).open("rb") as file:
                while file.read(1 << 22):
                    pass
        began, cpu = time.perf_counter(), time.process_time()
        rows = work(store, folder)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "rows": rows}


def save(given: dict[str, Any]) -> dict[str, Any]:
    """`save_training_set`."""

    def work(store: hw.FeatureStore, folder: Path) -> int:
        return len(store.save_training_set("bench", str(folder / "spine.parquet"), FEATURES, labels=["label"]))

    return _measured(given, work)


def plain(given: dict[str, Any]) -> dict[str, Any]:
    """The same join, written as Parquet."""

    def work(store: hw.FeatureStore, folder: Path) -> int:
        result = store.get_historical_features(str(folder / "spine.parquet"), FEATURES)
        return int(pq.read_metadata(result.to_parquet(folder / "plain.parquet")).num_rows)

    return _measured(given, work)


def _saved(store: hw.FeatureStore, _: Path) -> Path:
    return store.training_set("bench").file


def load(given: dict[str, Any]) -> dict[str, Any]:
    """`training_set(…).to_pandas("numpy")`."""
    return _measured(given, lambda store, _: len(store.training_set("bench").to_pandas("numpy")), _saved)


def load_plain(given: dict[str, Any]) -> dict[str, Any]:
    """pandas reads the plain file."""
    return _measured(
        given,
        lambda _, folder: len(pd.read_parquet(folder / "plain.parquet")),
        lambda _, folder: folder / "plain.parquet",
    )


def matrix(given: dict[str, Any]) -> dict[str, Any]:
    """`training_set(…).to_numpy("float32")`."""
    return _measured(given, lambda store, _: len(store.training_set("bench").to_numpy("float32")), _saved)


def verify(given: dict[str, Any]) -> dict[str, Any]:
    """`training_set(…).verify()`."""

    def work(store: hw.FeatureStore, _: Path) -> int:
        report = store.training_set("bench").verify()
        assert report.same, str(report)
        return report.rows

    return _measured(given, work)


def join(given: dict[str, Any]) -> dict[str, Any]:
    """The same join, consumed batch by batch."""

    def work(store: hw.FeatureStore, folder: Path) -> int:
        result = store.get_historical_features(str(folder / "spine.parquet"), FEATURES)
        return sum(batch.num_rows for batch in result.to_batches())

    return _measured(given, work)


SIDES = {
    **{"save": save, "plain": plain, "load": load, "load_plain": load_plain},
    **{"matrix": matrix, "verify": verify, "join": join},
}


def measure(options: Options) -> list[Figure]:
    """Saving, loading and verifying."""
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    runs = options.runs or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        events = Events(2 * rows, max(rows // 10, 10))
        for v in range(VIEWS):
            write_events(folder / f"view{v}.parquet", events, options.seed + v)
        write_spine(folder / "spine.parquet", rows, events, options.seed)
        make_project(folder)
        with open_project(folder, events.end) as store:
            store.apply(views("view{view}.parquet", count=VIEWS))
        what = f"{rows:,} x {10 * VIEWS}"
        return [
            _compare(f"save {what}, beside to_parquet", folder, "save", "plain", runs, 1.25),
            _compare(f"load {what} to pandas, beside read_parquet", folder, "load", "load_plain", runs, 1.25),
            _compare(
                f"load {what} to a float32 matrix, beside read_parquet", folder, "matrix", "load_plain", runs, None
            ),
            _compare(f"verify {what}, beside the join", folder, "verify", "join", runs, 1.5),
        ]


def _compare(what: str, folder: Path, ours: str, raw: str, runs: int, target: float | None) -> Figure:
    found = alternately("benchmarks.training_sets", (ours, raw), {"folder": str(folder)}, runs)
    seconds = {side: median(answer["seconds"] for answer in answers) for side, answers in found.items()}
    cpu = {side: min(answer["cpu"] for answer in answers) for side, answers in found.items()}
    peak = {side: round(max(answer["peak_mb"] for answer in answers)) for side, answers in found.items()}
    assert len({answer["rows"] for answers in found.values() for answer in answers}) == 1
    more = {
        "CPU s": f"{cpu[ours]:.2f} / {cpu[raw]:.2f} = {cpu[ours] / cpu[raw]:.2f}x",
        "peak MB": f"{peak[ours]:,} / {peak[raw]:,}",
    }
    return Figure(what, seconds[ours], seconds[raw], "s", target, runs=runs, more=more)


if __name__ == "__main__" and not answer_side(SIDES):
    run_script("training_sets", __doc__ or "", measure)
