"""History: 1M spine rows joined to 10M rows of 10 features, beside DuckDB's own wide as-of join on the same files.

Ours answers as known at each row's time, with ties and a ttl; the raw join knows nothing of created times, ties or a
ttl. Each measurement is the whole call to a consumed Arrow table, in a process of its own, ours and raw by turns: the
first over these files, for which no index is kept, so that it makes one. The second training set is the same call in
another process, which finds that index; beside it stands the first.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow.parquet as pq

from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import alternately, answer_side, in_process
from benchmarks.projects import NAMES, Events, make_project, open_project, views, warm_up, write_events, write_spine

MANY_KEYS, FEW_KEYS = 100_000, 1_000


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The call, the first over its files unless it is to be another."""
    folder = Path(given["folder"])
    if not given.get("again"):
        shutil.rmtree(folder / ".headwater" / "indexes", ignore_errors=True)
    spine = pq.read_table(folder / "spine.parquet")
    with tempfile.TemporaryDirectory() as scratch:
        warm_up(Path(scratch))
    make_project(folder, given["memory"])
    with open_project(folder, Events(1, 1).end) as store:
        began, cpu = time.perf_counter(), time.process_time()
        result = store.get_historical_features(spine, ["view0:*"])
        table = result.to_arrow()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        counts = result.metadata.views["view0"]
    assert table.num_rows == spine.num_rows
    return {"seconds": seconds, "cpu": cpu, "matched": counts["matched"] / table.num_rows}


def raw(given: dict[str, Any]) -> dict[str, Any]:
    """DuckDB's as-of join with the feature table as it is."""
    folder = Path(given["folder"])
    spine = pq.read_table(folder / "spine.parquet")
    with tempfile.TemporaryDirectory() as scratch:
        config = {"temp_directory": scratch, **({"memory_limit": given["memory"]} if given["memory"] else {})}
        with duckdb.connect(":memory:", config=config) as database:
            database.execute("SET TimeZone = 'UTC'")
            database.register("spine", spine)
            features = ", ".join(f"f.{name}" for name in NAMES)
            began, cpu = time.perf_counter(), time.process_time()
            table = database.sql(
                f"SELECT s.*, {features} FROM spine s ASOF LEFT JOIN read_parquet('{folder}/events.parquet') f "
                "ON s.user = f.user AND s.timestamp >= f.event_time"
            ).to_arrow_table()
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert table.num_rows == spine.num_rows
    return {"seconds": seconds, "cpu": cpu}


def second(given: dict[str, Any]) -> dict[str, Any]:
    """The call once more, in a process that finds what another left."""
    return ours({**given, "again": True})


def measure(options: Options) -> list[Figure]:
    """All sizes, key counts and limits."""
    rows = 100_000 if options.quick else 10_000_000
    runs = options.runs or (1 if options.quick else 5)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        many = _data(Path(scratch) / "many", rows, MANY_KEYS if not options.quick else 1_000, options.seed)
        figures.append(_compare(f"{_size(rows)}, {_count(many)} keys", many, None, runs, 0.95))
        figures.append(_again(f"{_size(rows)}, {_count(many)} keys, second training set", many, runs))
        figures.append(_compare(f"{_size(rows)}, {_count(many)} keys, limit 1GB", many, "1GB", runs, None))
        figures.append(_compare(f"{_size(rows)}, {_count(many)} keys, limit 500MB", many, "500MB", runs, 0.6))
        few = _data(Path(scratch) / "few", rows, FEW_KEYS if not options.quick else 10, options.seed + 7)
        figures.append(_compare(f"{_size(rows)}, {_count(few)} keys", few, None, runs, 1.15))
        figures.append(_compare(f"{_size(rows)}, {_count(few)} keys, limit 500MB", few, "500MB", runs, None))
        most = _data(Path(scratch) / "most", rows, rows // 10, options.seed + 8)
        figures.append(_compare(f"{_size(rows)}, {_count(most)} keys", most, None, runs, 0.95))
        for part in (100, 10):
            small = _data(Path(scratch) / f"part{part}", rows // part, MANY_KEYS // part, options.seed + part)
            figures.append(_compare(f"{_size(rows // part)}, {_count(small)} keys", small, None, runs, None))
    peak = Figure("most memory, without a limit", figures[0].more["peak MB"], figures[0].more["raw MB"], "MB", 800.0)
    return [*figures, Figure(**{**peak.__dict__, "of": "value", "runs": runs})]


def _data(folder: Path, rows: int, keys: int, seed: int) -> tuple[Path, int]:
    events = Events(rows, keys)
    write_events(folder / "events.parquet", events, seed)
    write_spine(folder / "spine.parquet", rows // 10, events, seed)
    make_project(folder)
    with open_project(folder, events.end) as store:
        store.apply(views("events.parquet"))
    return folder, keys


def _compare(what: str, data: tuple[Path, int], memory: str | None, runs: int, target: float | None) -> Figure:
    found = alternately("benchmarks.history", ("ours", "raw"), {"folder": str(data[0]), "memory": memory}, runs)
    seconds = {side: sorted(a["seconds"] for a in answers) for side, answers in found.items()}
    peaks = {side: max(a["peak_mb"] for a in answers) for side, answers in found.items()}
    more = {
        "peak MB": round(peaks["ours"]),
        "raw MB": round(peaks["raw"]),
        "best": f"{seconds['ours'][0]:.2f} / {seconds['raw'][0]:.2f}",
        "CPU s": _cpu(found["ours"], found["raw"]),
        "matched": f"{found['ours'][0]['matched']:.0%}",
    }
    return Figure(what, median(seconds["ours"]), median(seconds["raw"]), "s", target, runs=runs, more=more)


def _again(what: str, data: tuple[Path, int], runs: int) -> Figure:
    """The second training set beside the first."""
    first, other = [], []
    time.sleep(2.5)  # of files that were just written no index is made
    for _ in range(runs):
        given = {"folder": str(data[0]), "memory": None}
        first.append(in_process("benchmarks.history", "ours", given))
        other.append(in_process("benchmarks.history", "second", given))
    one, two = (median(answer["seconds"] for answer in answers) for answers in (other, first))
    peak = round(max(answer["peak_mb"] for answer in other))
    return Figure(what, one, two, "s", 0.6, runs=runs, more={"peak MB": peak, "CPU s": _cpu(other, first)})


def _cpu(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """CPU seconds of both, the best of each: where others use the cores these tell more than the clock."""
    least = [min(answer["cpu"] for answer in answers) for answers in (one, other)]
    return f"{least[0]:.2f} / {least[1]:.2f} = {least[0] / least[1]:.2f}x"


def _size(rows: int) -> str:
    return f"history {rows // 10:,} x {rows:,} rows x {len(NAMES)}"


def _count(data: tuple[Path, int]) -> str:
    return f"{data[1]:,}"


if __name__ == "__main__" and not answer_side({"ours": ours, "raw": raw, "second": second}):
    run_script("history", __doc__ or "", measure)
