"""Windows on Spark: 30 columns (6 functions over 5 windows) from a table of Spark's, beside the embedded engine.

Run it in the environment of `make test-spark`: `.venv-spark/bin/python -m benchmarks.spark_windows`. Events, spine
and windows are those of `windows_history`; Spark runs in local[2], DuckDB reads the same files. What counts is the
processor time of the whole tree of processes, workers and the JVM among them, of a call in a session that has run the
same call before (warm); the first one is given beside it.

`--rows 10000000` measures the whole; by default it is a tenth of that, with `--quick` a hundredth.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import answer_side, in_process
from benchmarks.projects import make_project
from benchmarks.windows_history import END, SHAPES, view, write_data
from headwater.offline.engines.spark.engine import SparkEngine

SETTINGS = {
    "spark.driver.memory": "4g",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def _tree() -> tuple[float, dict[str, float]]:
    """Processor seconds of this process and all below it so far, and their memory, MB, by the JVM's and Python's."""
    seconds, memory = 0.0, {"java MB": 0.0, "python MB": 0.0}
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
            kind = "java MB" if "java" in process.name() else "python MB"
            memory[kind] = max(memory[kind], process.memory_info().rss / 1e6)
    return seconds, memory


def _measured(store: hw.FeatureStore, spine: str, runs: int) -> dict[str, Any]:
    def call() -> int:
        result = store.get_historical_features(spine, ["windows:*"])
        return sum(batch.num_rows for batch in result.to_batches())

    cpu, seconds = [], []
    for _ in range(runs + 1):
        began, used = time.perf_counter(), _tree()[0]
        rows = call()
        seconds.append(time.perf_counter() - began)
        cpu.append(_tree()[0] - used)
    return {"rows": rows, "cold": cpu[0], "cpu": min(cpu[1:]), "seconds": min(seconds[1:]), **_tree()[1]}


def _in_table() -> list[Any]:
    """The view, over a table of Spark's."""
    user, windows = view()
    source = hw.SQLSource("SELECT * FROM default.events", event_time="event_time", created_time="created_at")
    return [user, hw.FeatureView("windows", entity=user, source=source, features=windows.aggregations)]


def _side(given: dict[str, Any], definitions: Callable[[], list[Any]], **options: Any) -> dict[str, Any]:
    folder = Path(given["folder"])
    with hw.FeatureStore(folder, clock=lambda: END, **options) as store:
        store.apply(definitions())
        return _measured(store, str(folder / "spine.parquet"), given["runs"])


def spark(given: dict[str, Any]) -> dict[str, Any]:
    """Windows on executors."""
    folder = Path(given["folder"])
    engine = SparkEngine(folder, master="local[2]", conf=SETTINGS)
    engine.session().spark.sql(f"CREATE TABLE default.events USING parquet LOCATION 'file://{folder}/events.parquet'")
    try:
        return _side(given, _in_table, offline=engine)
    finally:
        engine.close()


def embedded(given: dict[str, Any]) -> dict[str, Any]:
    """The same in this process."""
    return _side(given, view)


def measure(options: Options) -> list[Figure]:
    """Many keys, few keys, and keys of which some have far more events than others."""
    rows = 100_000 if options.quick else options.rows or 1_000_000
    runs = options.runs or (1 if options.quick else 2)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, shape in enumerate(SHAPES[:3]):
            answers = {}
            for side in ("embedded", "spark"):
                folder = Path(scratch) / f"{number}-{side}"
                folder.mkdir()
                write_data(folder, shape, rows, options.seed + number)
                make_project(folder)
                answers[side] = in_process("benchmarks.spark_windows", side, {"folder": str(folder), "runs": runs})
            ours, base = answers["spark"], answers["embedded"]
            assert ours["rows"] == base["rows"] == rows // 10
            more = {
                "cold": round(ours["cold"], 1),
                "wall s": f"{ours['seconds']:.1f} / {base['seconds']:.1f}",
                "java MB": round(ours["java MB"]),
                "python MB": round(ours["python MB"]),
            }
            what = f"windows on Spark, {rows // 10:,} x {rows:,} events x 30, {shape.name}: CPU, beside DuckDB"
            figures.append(Figure(what, ours["cpu"], base["cpu"], "CPU s", None, runs=runs, more=more))
    return figures


if __name__ == "__main__" and not answer_side({"spark": spark, "embedded": embedded}):
    run_script("spark_windows", __doc__ or "", measure)
