"""A run of a window view over rows that the log has since the last run and that no writer put online.

Ours: `materialize` of 20 columns into LMDB, in a process of its own that reads what another wrote. Where the rows are a
tenth of the log or more they are made from history; `slices` takes them slice by slice all the same, as where the log
is ten times as long. Beside each the GROUP BY of the same rows by key and five minutes. `--rows` (a million) says how
many there are.
"""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import answer_side, in_process
from benchmarks.projects import MICROS, START, make_project, open_project
from headwater.compute.windows import log_slices

_WRITE = 20_000
_END = START + timedelta(days=30)
_FUNCTIONS, _WINDOWS = ("count", "sum", "mean", "min", "max"), ("1h", "1d", "7d", None)


def view() -> list[Any]:
    """The view that is written."""
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    source = hw.PushSource(event_time="event_time", created_time="created_at", schema={"x": hw.Float64})
    features = [hw.Aggregation("x", function, window) for window in _WINDOWS for function in _FUNCTIONS]
    return [user, hw.FeatureView("windows", entity=user, source=source, features=features)]


def write(given: dict[str, Any]) -> dict[str, Any]:
    """Rows into the log alone."""
    rows, random = given["rows"], np.random.default_rng(given["seed"])
    times = np.sort(random.integers(0, 30 * 86_400_000_000, rows)) + int(START.timestamp()) * 1_000_000
    columns = {
        "user": random.integers(0, given["keys"], rows),
        "event_time": pa.array(times, MICROS),
        "created_at": pa.array(times, MICROS),
        "x": random.normal(0, 10, rows),
    }
    table = pa.table(columns)
    with open_project(Path(given["folder"]), _END) as store:
        store.apply(view())
        for start in range(0, rows, _WRITE):
            store.write("windows", table.slice(start, _WRITE), to="offline")
    return {}


def fold(given: dict[str, Any]) -> dict[str, Any]:
    """The run."""
    if given["slices"]:
        log_slices._SOONER = 0
    folder = Path(given["folder"])
    make_project(folder, given["memory"])
    with open_project(folder, _END) as store:
        began, cpu = time.perf_counter(), time.process_time()
        store.materialize()
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def grouped(given: dict[str, Any]) -> dict[str, Any]:
    """The aggregates of each key and hop, of the log's files."""
    calls = "count(x), sum(x), min(x), max(x), arg_max(x, event_time)"
    files = f"{given['folder']}/.headwater/log/*.parquet"
    sql = f"SELECT user, epoch_us(event_time) // 300000000 AS hop, {calls} FROM '{files}' GROUP BY ALL"
    with duckdb.connect() as database:
        began, cpu = time.perf_counter(), time.process_time()
        database.sql(sql).to_arrow_table()
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def measure(options: Options) -> list[Figure]:
    """All of it."""
    rows = 100_000 if options.quick else options.rows or 1_000_000
    figures = []
    for how, slices, memory in (("from history", False, None), ("slices", True, None), ("slices", True, "300MB")):
        with tempfile.TemporaryDirectory() as scratch:
            given = {"folder": scratch, "rows": rows, "keys": rows // 100, "seed": options.seed}
            make_project(Path(scratch))
            in_process("benchmarks.windows_folds", "write", given)
            ours = in_process("benchmarks.windows_folds", "fold", {**given, "slices": slices, "memory": memory})
            other = in_process("benchmarks.windows_folds", "grouped", given)
        what = f"a run over {rows:,} rows, {how}" + (f", limit {memory}" if memory else "")
        more = {"peak MB": f"{ours['peak_mb']:,.0f} / {other['peak_mb']:,.0f}", "seconds": f"{ours['seconds']:.1f}"}
        figures.append(Figure(what, ours["cpu"], other["cpu"], "CPU s", None, more=more))
    return figures


if __name__ == "__main__" and not answer_side({"write": write, "fold": fold, "grouped": grouped}):
    run_script("windows_folds", __doc__ or "", measure)
