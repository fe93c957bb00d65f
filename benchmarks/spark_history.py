"""History on Spark: 1M spine rows joined to 10M rows of 10 features on local[2], beside DuckDB's raw as-of join.

Run it in the environment of `make test-spark`: `.venv-spark/bin/python -m benchmarks.spark_history`. Ours answers as
known at each row's time, with ties and a ttl; the raw join of DuckDB and Spark's own as-of join know nothing of created
times, ties or a ttl. What counts is the processor time of the whole tree of processes, the JVM's among them, of a call
in a session that has run the same call before (warm); the first one is given beside it. With few keys Spark's own
as-of join does not end: it takes spine rows times rows of the key. Java may use huge pages, for both alike.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.history import raw
from benchmarks.processes import answer_side, in_process
from benchmarks.projects import NAMES, Events, make_project, views, write_events, write_spine
from headwater.offline.engines.spark.engine import SparkEngine

MANY_KEYS, FEW_KEYS = 100_000, 1_000
SETTINGS = {
    "spark.driver.memory": "6g",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def tree_cpu() -> float:
    """Processor seconds of this process and all below it, so far."""
    me = psutil.Process()
    seconds = 0.0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


@contextlib.contextmanager
def peaks() -> Iterator[dict[str, float]]:
    """The most resident memory of the JVM and of Python, MB, meanwhile."""
    found, ended = {"java MB": 0.0, "python MB": 0.0}, threading.Event()

    def look() -> None:
        me = psutil.Process()
        while not ended.wait(0.2):
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    kind = "java MB" if "java" in process.name() else "python MB"
                    found[kind] = max(found[kind], process.memory_info().rss / 1e6)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield found
    finally:
        ended.set()
        watch.join()


def measured(call: Callable[[], int], runs: int) -> dict[str, Any]:
    """The call, first cold and then warm."""
    seconds, cpu = [], []
    with peaks() as memory:
        for _ in range(runs + 1):
            began, used = time.perf_counter(), tree_cpu()
            rows = call()
            seconds.append(time.perf_counter() - began)
            cpu.append(tree_cpu() - used)
    return {"rows": rows, "cold": cpu[0], "cpu": min(cpu[1:]), "seconds": min(seconds[1:]), **memory}


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The call through the store."""
    folder = Path(given["folder"])
    engine = SparkEngine(folder, master="local[2]", conf=SETTINGS)
    with hw.FeatureStore(folder, offline=engine, clock=lambda: Events(1, 1).end) as store:
        counts: dict[str, int] = {}

        def call() -> int:
            result = store.get_historical_features(str(folder / "spine.parquet"), ["view0:*"])
            rows = sum(batch.num_rows for batch in result.to_batches())
            counts.update(result.metadata.views["view0"])
            return rows

        answer = measured(call, given["runs"])
    engine.close()
    return {**answer, "matched": counts["matched"] / answer["rows"]}


def asof(given: dict[str, Any]) -> dict[str, Any]:
    """Spark's own as-of join."""
    folder = Path(given["folder"])
    engine = SparkEngine(folder, master="local[2]", conf={**SETTINGS, "spark.sql.join.asofJoin.enabled": "true"})
    spark = engine.session().spark
    for name in ("spine", "events"):
        spark.read.parquet(f"file://{folder}/{name}.parquet").createOrReplaceTempView(name)
    features = ", ".join(f"f.{name}" for name in NAMES)

    def call() -> int:
        spark.sql(
            f"SELECT s.*, {features} FROM spine s ASOF JOIN events f MATCH_CONDITION (s.timestamp >= f.event_time) "
            "ON s.user = f.user"
        ).write.format("noop").mode("overwrite").save()
        return 1

    answer = measured(call, given["runs"])
    engine.close()
    return answer


def measure(options: Options) -> list[Figure]:
    """Both counts of keys."""
    rows = 100_000 if options.quick else options.rows or 10_000_000
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for keys, target in ((MANY_KEYS, 7.5), (FEW_KEYS, 8.5)):
            keys = keys if not options.quick else keys // 100
            folder = Path(scratch) / str(keys)
            events = Events(rows, keys)
            write_events(folder / "events.parquet", events, options.seed)
            write_spine(folder / "spine.parquet", rows // 10, events, options.seed)
            make_project(folder)
            with hw.FeatureStore(folder, clock=lambda end=events.end: end) as store:
                store.apply(views("events.parquet"))
            figures += compare(folder, rows, keys, options.runs or 2, target)
    return figures


def compare(folder: Path, rows: int, keys: int, runs: int, target: float) -> list[Figure]:
    """Ours and DuckDB's by turns; Spark's own where there are many keys."""
    given = {"folder": str(folder), "memory": None, "runs": runs}
    plain = [in_process("benchmarks.spark_history", "raw", given)]
    spark = in_process("benchmarks.spark_history", "ours", given)
    plain.append(in_process("benchmarks.spark_history", "raw", given))
    what = f"Spark, {rows // 10:,} x {rows:,} rows x {len(NAMES)}, {keys:,} keys"
    base = min(answer["cpu"] for answer in plain)
    more = {
        "cold": round(spark["cold"], 1),
        "wall s": round(spark["seconds"], 1),
        "java MB": round(spark["java MB"]),
        "python MB": round(spark["python MB"]),
        "matched": f"{spark['matched']:.0%}",
    }
    figures = [Figure(f"{what}: CPU, beside DuckDB raw", spark["cpu"], base, "s", target, runs=runs, more=more)]
    if keys > FEW_KEYS:
        own = in_process("benchmarks.spark_history", "asof", {**given, "runs": 1})
        more = {"cold": round(own["cold"], 1), "java MB": round(own["java MB"])}
        figures.append(Figure(f"{what}: CPU, beside Spark's ASOF", spark["cpu"], own["cpu"], "s", 1.4, more=more))
    return figures


if __name__ == "__main__" and not answer_side({"ours": ours, "raw": raw, "asof": asof}):
    run_script("spark_history", __doc__ or "", measure)
