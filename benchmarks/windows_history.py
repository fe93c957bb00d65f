"""Windows in history: 30 columns (6 functions over 5 windows) for 1M spine rows from 10M events.

Count, sum, mean, min, max and last of one float64 over 1 hour (in hops of 5 minutes), 1 day and 7 days (1 hour), 30
days (1 day) and a lifetime. Events of 30 days, 98% of them known within a minute and 2% up to a day later; or all an
hour late. Beside it DuckDB's as-of join of the one column on the same files, which knows nothing of windows or created
times. Each measurement is the whole call to a consumed Arrow table, in a process of its own, by turns; what is compared
is CPU seconds of the process, all threads, since others may use the cores.

`--rows 10000000` measures the whole; by default it is a tenth of that, with `--quick` a hundredth.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import alternately, answer_side
from benchmarks.projects import make_project, open_project

FUNCTIONS = ("count", "sum", "mean", "min", "max", "last")
WINDOWS = ("1h", "1d", "7d", "30d", None)
_START = 1_704_067_200_000_000
_DAY = 86_400_000_000
_SPAN = 30 * _DAY
END = datetime.fromtimestamp((_START + _SPAN) / 1e6, UTC)


@dataclass(frozen=True)
class Shape:
    """Events of a kind.

    Attributes:
        name: what figures call it.
        keys: for each 10M events.
        zipf: whether some keys have far more events than others (exponent 1.1).
        hour: whether all events are known an hour late.
        late: the share of events that are known late, at random; the others within a minute.
        latest: how late these are at most, microseconds.
        target: of the ratio to the raw join.
    """

    name: str
    keys: int
    zipf: bool = False
    hour: bool = False
    late: float = 0.02
    latest: int = _DAY
    target: float | None = None


SHAPES = (
    Shape("100,000 keys", 100_000, target=2.0),
    Shape("1,000 keys", 1_000, target=2.2),
    Shape("Zipf keys", 100_000, zipf=True, target=2.6),
    Shape("100,000 keys, an hour late", 100_000, hour=True, target=1.6),
)


def write_data(folder: Path, shape: Shape, rows: int, seed: int, spine_rows: int | None = None) -> None:
    """Events and spine of a shape, as Parquet files; unless said, with a spine row for each ten events."""
    random = np.random.default_rng(seed)
    keys = max(10, shape.keys * rows // 10_000_000) if shape.keys > 1_000 else shape.keys
    ranks = np.arange(1, keys + 1, dtype=np.float64) ** -1.1
    shares = np.cumsum(ranks / ranks.sum())

    def drawn(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if not shape.zipf:
            return random.integers(0, keys, size)
        return np.minimum(np.searchsorted(shares, random.random(size)), keys - 1)

    event = np.sort(_START + random.integers(0, _SPAN, rows))
    prompt = random.integers(0, 60_000_000, rows)
    late = np.where(random.random(rows) < shape.late, random.integers(0, shape.latest, rows), prompt)
    created = event + (3_600_000_000 if shape.hour else late)
    table = pa.table(
        {
            "user": drawn(rows),
            "event_time": _times(event),
            "created_at": _times(created),
            "x": random.normal(0, 10, rows),
        }
    )
    pq.write_table(table, folder / "events.parquet")
    size = rows // 10 if spine_rows is None else spine_rows
    spine = {"user": drawn(size), "timestamp": _times(_START + random.integers(0, _SPAN, size))}
    pq.write_table(pa.table(spine), folder / "spine.parquet")


def _times(micros: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(micros, pa.timestamp("us", tz="UTC"))


def view() -> list[Any]:
    """The entity and the window view."""
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    aggregations = [hw.Aggregation("x", function, window) for window in WINDOWS for function in FUNCTIONS]
    source = hw.ParquetSource("events.parquet", event_time="event_time", created_time="created_at")
    return [user, hw.FeatureView("windows", entity=user, source=source, features=aggregations)]


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The call."""
    folder = Path(given["folder"])
    make_project(folder, given["memory"])
    spine = pq.read_table(folder / "spine.parquet")
    with open_project(folder, END) as store:
        store.get_historical_features(spine.slice(0, 1), ["windows:x_count_1h"]).to_arrow()
        began, cpu = time.perf_counter(), time.process_time()
        result = store.get_historical_features(spine, given.get("features", ["windows:*"]))
        table = result.to_arrow()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert table.num_rows == spine.num_rows
    return {"seconds": seconds, "cpu": cpu, "matched": result.metadata.views["windows"]["matched"]}


def raw(given: dict[str, Any]) -> dict[str, Any]:
    """DuckDB's as-of join of one column."""
    folder = Path(given["folder"])
    spine = pq.read_table(folder / "spine.parquet")
    with tempfile.TemporaryDirectory() as scratch:
        config = {"temp_directory": scratch, **({"memory_limit": given["memory"]} if given["memory"] else {})}
        with duckdb.connect(":memory:", config=config) as database:
            database.execute("SET TimeZone = 'UTC'")
            database.register("spine", spine)
            began, cpu = time.perf_counter(), time.process_time()
            table = database.sql(
                f"SELECT s.*, f.x FROM spine s ASOF LEFT JOIN read_parquet('{folder}/events.parquet') f "
                "ON s.user = f.user AND s.timestamp >= f.event_time"
            ).to_arrow_table()
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert table.num_rows == spine.num_rows
    return {"seconds": seconds, "cpu": cpu}


def measure(options: Options) -> list[Figure]:
    """All shapes, and one under a limit."""
    rows = 100_000 if options.quick else options.rows or 1_000_000
    runs = options.runs or (1 if options.quick else 3)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, shape in enumerate(SHAPES):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            write_data(folder, shape, rows, options.seed + number)
            make_project(folder)
            with open_project(folder, END) as store:
                store.apply(view())
            figures.append(_compare(f"{_size(rows)}, {shape.name}", folder, None, runs, shape.target))
            if not number:
                figures.append(_compare(f"{_size(rows)}, {shape.name}, limit 300MB", folder, "300MB", runs, 1.9))
    return figures


def _compare(what: str, folder: Path, memory: str | None, runs: int, target: float | None) -> Figure:
    found = alternately("benchmarks.windows_history", ("ours", "raw"), {"folder": str(folder), "memory": memory}, runs)
    cpu = {side: median(a["cpu"] for a in answers) for side, answers in found.items()}
    more = {
        "peak MB": round(max(a["peak_mb"] for a in found["ours"])),
        "raw MB": round(max(a["peak_mb"] for a in found["raw"])),
        "seconds": " / ".join(f"{median(a['seconds'] for a in found[side]):.2f}" for side in ("ours", "raw")),
    }
    return Figure(what, cpu["ours"], cpu["raw"], "CPU s", target, runs=runs, more=more)


def _size(rows: int) -> str:
    return f"windows, {rows // 10:,} x {rows:,} events x {len(FUNCTIONS) * len(WINDOWS)}"


if __name__ == "__main__" and not answer_side({"ours": ours, "raw": raw}):
    run_script("windows_history", __doc__ or "", measure)
