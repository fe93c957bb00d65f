"""On-demand features: CPU time that a function adds to a read and to a history, in each mode.

A function of two features and a request field gives one feature. Beside each figure is the same read, or history, of
the two features alone. Times are of the process's CPU, medians of runs that take turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import NAMES, START, Events, write_events

USER = hw.Entity("user", join_keys={"user": hw.Int64})
FILE = "events.parquet"
VIEW = hw.FeatureView(
    "events",
    entity=USER,
    source=hw.ParquetSource(FILE, event_time="event_time", created_time="created_time"),
    features=[hw.Feature(name, hw.Float64) for name in NAMES],
)
INPUTS = [VIEW["f0", "f1"], hw.RequestField("amount", hw.Float64)]
RATIO = [hw.Feature("ratio", hw.Float64)]


@hw.on_demand(inputs=INPUTS, features=RATIO)
def by_numpy(f0: Any, f1: Any, amount: Any) -> dict[str, Any]:
    return {"ratio": amount * f0 / (f1 + 1.0)}


@hw.on_demand(inputs=INPUTS, features=RATIO, mode="arrow")
def by_arrow(f0: Any, f1: Any, amount: Any) -> dict[str, Any]:
    return {"ratio": pc.divide(pc.multiply(amount, f0), pc.add(f1, 1.0))}


@hw.on_demand(inputs=INPUTS, features=RATIO, mode="pandas")
def by_pandas(frame: Any) -> Any:
    return (frame["amount"] * frame["f0"] / (frame["f1"] + 1.0)).to_frame("ratio")


@hw.on_demand(inputs=INPUTS, features=RATIO, mode="rows")
def by_rows(row: dict[str, Any]) -> dict[str, Any]:
    return {"ratio": row["amount"] * row["f0"] / (row["f1"] + 1.0)}


FUNCTIONS = (by_numpy, by_arrow, by_pandas, by_rows)


def measure(options: Options) -> list[Figure]:
    """Reads of 1, 100 and 1,000 keys, then a history."""
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    events = Events(rows=rows, keys=max(2_000, rows // 10))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_events(folder / FILE, events, options.seed)
        settings = 'project = "on_demand"\n[online]\nurl = "lmdb:.headwater/online?map_size=1073741824"\n'
        (folder / "headwater.toml").write_text(settings)
        with hw.FeatureStore(folder, clock=lambda: events.end) as store:
            store.apply([VIEW, *FUNCTIONS])
            store.materialize()
            return [*_online(store, events, options), *_history(store, events, rows, options)]


def _online(store: hw.FeatureStore, events: Events, options: Options) -> list[Figure]:
    rng = np.random.default_rng(options.seed)
    plain = store.prepare(["events:f0", "events:f1"])
    figures = []
    for count in (1, 100, 1_000):
        keys = rng.choice(events.keys, count, replace=False).tolist()
        reads = (20 if options.quick else 2_000) // (1 if count == 1 else 5 if count == 100 else 20) or 1
        work: list[Callable[[], Any]] = [lambda keys=keys: plain.read(keys).to_dict()]  # type: ignore[misc]
        for view in FUNCTIONS:
            reader = store.prepare(["events:f0", "events:f1", f"{view.name}:ratio"])
            work.append(lambda reader=reader, keys=keys: reader.read(keys, {"amount": 2.5}).to_dict())  # type: ignore[misc]
        alone, *found = _by_turns(work, reads, 3 if options.quick else 9)
        for view, took in zip(FUNCTIONS, found, strict=True):
            more = {"added": f"{1e6 * (took - alone):.0f} µs"}
            what = f"read {count:,} key{'s' * (count > 1)}, mode {view.mode}"
            figures.append(Figure(what, 1e6 * took, 1e6 * alone, "µs CPU", runs=reads, more=more))
    return figures


def _history(store: hw.FeatureStore, events: Events, rows: int, options: Options) -> list[Figure]:
    rng = np.random.default_rng(options.seed + 1)
    start, end = (int(when.timestamp() * 1e6) for when in (START, events.end))
    spine = pa.table(
        {
            "user": rng.integers(0, events.keys, rows),
            "timestamp": pa.array(rng.integers(start, end, rows)).cast(pa.timestamp("us", "UTC")),
            "amount": rng.random(rows),
        }
    )
    features = ["events:f0", "events:f1"]

    def run(more: Sequence[str]) -> Callable[[], Any]:
        return lambda: [b.num_rows for b in store.get_historical_features(spine, [*features, *more]).to_batches()]

    work = [run(()), *(run([f"{view.name}:ratio"]) for view in FUNCTIONS)]
    alone, *found = _by_turns(work, 1, options.runs or (1 if options.quick else 3))
    return [
        Figure(
            f"history of {rows:,} rows, mode {view.mode}",
            took,
            alone,
            "s CPU",
            more={"added": f"{1e9 * (took - alone) / rows:,.0f} ns a row"},
        )
        for view, took in zip(FUNCTIONS, found, strict=True)
    ]


def _by_turns(work: Sequence[Callable[[], Any]], times: int, rounds: int) -> list[float]:
    """CPU seconds of each, the median of rounds in which all take turns."""
    found: list[list[float]] = [[] for _ in work]
    for one in work:
        one()
    for _ in range(rounds):
        for place, one in enumerate(work):
            began = time.process_time()
            for _ in range(times):
                one()
            found[place].append((time.process_time() - began) / times)
    return [median(seconds) for seconds in found]


if __name__ == "__main__":
    run_script("on_demand", __doc__ or "", measure)
