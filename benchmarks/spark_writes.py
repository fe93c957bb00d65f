"""Rows that Spark's executors (local[2]) put online through the guard, beside the same rows only read by them.

Run it in Spark's own environment: `.venv-spark/bin/python -m benchmarks.spark_writes`. One million rows of ten float64
are Parquet files in the form in which a run has them, each of another entity. What is measured is one pass of
`mapInArrow` over them, once into an empty store and once again, as a run that goes on after it was killed; raw reads
the same batches and drops them. CPU is that of all processes of Spark on this machine, workers included, and of the
server where there is one; with two cores as many rows a second are put as go into two seconds of it. Last the whole
run: `materialize` of a view over such rows as Parquet, the newest row of each entity chosen in between; raw is the put
alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.servers import redis_server
from headwater.compute.materializing.shared_lease import SharedLease
from headwater.compute.materializing.sink import sink_of
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.engines.spark.executors import OnExecutor
from headwater.offline.sink import COUNTS, Puts, Shape, counts_of
from headwater.online.meta import token_key
from headwater.planning.resolve import whole_view
from tests.servers.spark import local_session

FEATURES, FILES = 10, 8
USER = hw.Entity("user", join_keys={"user": hw.Int64})
TARGET = 60_000
"""Rows a second that two cores are to put into LMDB."""
_TICK = os.sysconf("SC_CLK_TCK")
_SETTINGS = {"spark__sql__codegen__wholeStage": "true", "spark__sql__codegen__factoryMode": "FALLBACK"}


def nothing(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The base: batches come, and go."""
    rows = sum(batch.num_rows for batch in batches)
    yield pa.RecordBatch.from_pydict({"counts": [str(rows).encode()]}, schema=COUNTS)


def cpu_seconds(roots: list[int]) -> float:
    """CPU seconds of processes, of all that they started, and of those of these that have ended."""
    parents, spent = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)], spent[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))

    def is_ours(pid: int) -> bool:
        while pid > 1:
            if pid in roots:
                return True
            pid = parents.get(pid, 0)
        return False

    return sum(ticks for pid, ticks in spent.items() if is_ours(pid)) / _TICK


def write_rows(folder: Path, rows: int, seed: int) -> pa.Schema:
    """The rows of a run as Parquet, one entity each, dealt to the files by key as Spark's tasks have them."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    schema = pa.schema([(n, pa.int64()) for n in ("event", "created", "position", "k0")])
    for i in range(FEATURES):
        schema = schema.append(pa.field(f"f{i}", pa.float64()))
    for i in range(FILES):
        keys = np.arange(i, rows, FILES)
        times = 1_700_000_000_000_000 + keys
        columns = {"event": times, "created": times, "position": pa.nulls(len(keys), pa.int64()), "k0": keys}
        columns |= {f"f{j}": random.normal(size=len(keys)) for j in range(FEATURES)}
        pq.write_table(pa.table(columns, schema), folder / f"{i}.parquet")
    return schema


def measured(frame: Any, function: Callable[..., Any], roots: list[int]) -> tuple[float, float, list[bytes]]:
    """CPU and wall seconds of one pass, and its answers."""
    cpu, wall = cpu_seconds(roots), time.perf_counter()
    answers = [bytes(row[0]) for row in frame.mapInArrow(function, "counts binary").collect()]
    return cpu_seconds(roots) - cpu, time.perf_counter() - wall, answers


def figures(options: Options) -> list[Figure]:
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    runs = options.runs or (1 if options.quick else 3)
    found = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        spark = local_session(folder / "spark", **_SETTINGS)
        stack.callback(spark.stop)
        schema = write_rows(folder / "rows", rows, options.seed)
        frame = spark.read.parquet(f"file://{folder}/rows")
        server = stack.enter_context(redis_server())
        roots = [os.getpid(), server.client.info("server")["process_id"]]
        read = OnExecutor(nothing, schema, COUNTS)
        for _ in range(2):  # code is compiled, workers are started
            measured(frame, read, roots)
        for name, url in (("LMDB", f"lmdb:{folder}/online"), ("Redis", server.url)):
            project = folder / name
            project.mkdir()
            taken: dict[str, list[tuple[float, float]]] = {"read": [], "put": [], "again": []}
            for run in range(runs):
                place = f"{url}-{run}" if name == "LMDB" else url
                server.client.flushall()
                with hw.FeatureStore(project, online=place) as store:
                    sink = _sink(store)
                    put = OnExecutor(Puts(Shape.of(_version(store)), sink), schema, COUNTS)
                    for what, function in (("read", read), ("put", put), ("again", put)):
                        cpu, wall, answers = measured(frame, function, roots)
                        taken[what].append((cpu, wall))
                        if function is put:
                            _check(answers, rows)
            middle = {what: [median(some) for some in zip(*times, strict=True)] for what, times in taken.items()}
            for what, title in (("put", "put into an empty store"), ("again", "put again, as after a kill")):
                cpu, wall = middle[what]
                found.append(
                    Figure(
                        f"{rows:,} rows, {name}: {title}",
                        cpu / rows * 1e6,
                        middle["read"][0] / rows * 1e6,
                        "µs of CPU a row",
                        target=2e6 / TARGET if name == "LMDB" else None,
                        of="value",
                        runs=runs,
                        more={"rows/s on 2 cores": round(2 * rows / cpu), "rows/s seen": round(rows / wall)},
                        note=f"load {os.getloadavg()[0]:.1f}",
                    )
                )
            found.append(_whole(folder, spark, name, place, rows, runs, roots, middle["put"][0]))
    return found


def _whole(
    folder: Path, spark: Any, name: str, place: str, rows: int, runs: int, roots: list[int], put: float
) -> Figure:
    """All of `materialize`, each time into an empty store; the first run, in which Spark compiles, aside."""
    source, taken = folder / "source", list[tuple[float, float]]()
    if not source.exists():
        write_source(source, rows)
    for run in range(runs + 1):
        project = folder / f"whole-{name}-{run}"
        project.mkdir()
        with redis.Redis.from_url(place) if name == "Redis" else nullcontext() as client:
            if client is not None:
                client.flushall()
        engine = SparkEngine(project, session=spark)
        online = place if name == "Redis" else f"lmdb:{project}/online"
        with hw.FeatureStore(project, online=online, offline=engine) as store:
            store.apply([USER, _view(hw.ParquetSource(str(source), event_time="at"))])
            cpu, wall = cpu_seconds(roots), time.perf_counter()
            (report,) = store.materialize().runs
            taken.append((cpu_seconds(roots) - cpu, time.perf_counter() - wall))
            assert report.applied == rows, report
        engine.close()
    cpu, wall = [median(some) for some in zip(*taken[1:], strict=True)]
    return Figure(
        f"{rows:,} rows, {name}: the whole run",
        cpu / rows * 1e6,
        put / rows * 1e6,
        "µs of CPU a row",
        target=2e6 / TARGET if name == "LMDB" else None,
        of="value",
        runs=runs,
        more={
            "rows/s on 2 cores": round(2 * rows / cpu),
            "rows/s seen": round(rows / wall),
            "first run, CPU s": round(taken[0][0], 1),
        },
        note=f"load {os.getloadavg()[0]:.1f}",
    )


def write_source(folder: Path, rows: int) -> None:
    """The same number of rows as a user's Parquet files."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for i in range(FILES):
        keys = np.arange(i, rows, FILES)
        columns = {"user": keys, "at": pa.array(1_700_000_000_000_000 + keys, pa.timestamp("us", "UTC"))}
        columns |= {f"f{j}": random.normal(size=len(keys)) for j in range(FEATURES)}
        pq.write_table(pa.table(columns), folder / f"{i}.parquet")


def _version(store: hw.FeatureStore) -> Any:
    record = store.context.registry.refresh().view("users")
    return whole_view(record, record.version())


def _view(source: Any) -> hw.FeatureView:
    features = [hw.Feature(f"f{i}", hw.Float64) for i in range(FEATURES)]
    return hw.FeatureView("users", entity=USER, source=source, features=features)


def _sink(store: hw.FeatureStore) -> Any:
    """The sink of a run of a view of these rows."""
    store.apply([USER, _view(hw.PushSource(event_time="at"))])
    context = store.context
    context.online.epoch(token_key(context.project))
    (token,) = context.online.multi_get([token_key(context.project)])
    lease = SharedLease(context, _version(store))
    lease.write(lease.next_end() + 3_600_000_000)
    return sink_of(context, _version(store), lease, token or b"", 0)


def _check(answers: list[bytes], rows: int) -> None:
    counts = [
        part
        for answer in answers
        for part in counts_of(pa.RecordBatch.from_pydict({"counts": [answer]}, schema=COUNTS))
    ]
    assert sum(part.applied for part in counts) == sum(part.keys for part in counts) == rows, counts


if __name__ == "__main__":
    run_script("spark_writes", __doc__ or "", figures)
