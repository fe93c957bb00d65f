"""CSV: 1M rows of ten numbers into 100k entities and into history, beside DuckDB's own reader into a table.

Ours reads every value by stated rules, one checked cast a dtype, and names the line that does not fit; the raw side
reads the same file with the same column types and nothing else. Each measurement is a process of its own with a new
store, by turns; imports and a small project come before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow.csv
import pyarrow.parquet as pq

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import alternately, answer_side
from benchmarks.projects import NAMES, Events, make_project, open_project, views, warm_up, write_events, write_spine


def write_csv(path: Path, events: Events, seed: int) -> None:
    """The events of `write_events` as CSV, times in ISO 8601."""
    parquet = path.with_suffix(".parquet")
    write_events(parquet, events, seed)
    pyarrow.csv.write_csv(pq.read_table(parquet), path)
    parquet.unlink()


def view_of(path: str) -> hw.FeatureView:
    """The benchmarks' view, over a CSV file."""
    (view,) = views(path)
    return replace(view, source=hw.CSVSource(path, event_time="event_time", created_time="created_time"))


def _ours(given: dict[str, Any], call: Callable[[hw.FeatureStore], object], *, applied: bool = True) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=given["scratch"]) as scratch:
        folder = Path(scratch)
        warm_up(folder)
        make_project(folder / "project")
        with open_project(folder / "project", Events(1, 1).end) as store:
            if applied:
                store.apply([view_of(given["events"])])
            began = time.perf_counter()
            call(store)
            return {"seconds": time.perf_counter() - began}


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """`plan` and `apply`, which reads the first rows."""
    return _ours(given, lambda store: store.apply([view_of(given["events"])]), applied=False)


def materialize(given: dict[str, Any]) -> dict[str, Any]:
    """The call."""
    return _ours(given, lambda store: store.materialize())


def history(given: dict[str, Any]) -> dict[str, Any]:
    """All features for a tenth as many spine rows."""
    return _ours(given, lambda store: store.get_historical_features(given["spine"], ["view0:*"]).to_arrow())


def raw(given: dict[str, Any]) -> dict[str, Any]:
    """DuckDB's reader, its types given, into a table."""
    columns = {"user": "BIGINT", "event_time": "TIMESTAMPTZ", "created_time": "TIMESTAMPTZ"}
    columns |= dict.fromkeys(NAMES, "DOUBLE")
    with duckdb.connect(":memory:") as database:
        began = time.perf_counter()
        database.execute(
            f"CREATE TABLE t AS SELECT * FROM read_csv('{given['events']}', header = true, columns = {columns})"
        )
        return {"seconds": time.perf_counter() - began}


SIDES = {"plan": plan, "materialize": materialize, "history": history, "raw": raw}


def measure(options: Options) -> list[Figure]:
    """The three calls, with the raw reader between."""
    events = Events(100_000, 10_000) if options.quick else Events(1_000_000, 100_000)
    runs = options.runs or (1 if options.quick else 5)
    with tempfile.TemporaryDirectory() as scratch:
        path, spine = Path(scratch) / "events.csv", Path(scratch) / "spine.parquet"
        write_csv(path, events, options.seed)
        write_spine(spine, events.rows // 10, events, options.seed)
        given = {"scratch": scratch, "events": str(path), "spine": str(spine)}
        found = alternately("benchmarks.csv_files", tuple(SIDES), given, runs)
    seconds = {side: [answer["seconds"] for answer in answers] for side, answers in found.items()}
    whats = {"plan": "plan and apply", "materialize": "materialize", "history": f"history, {events.rows // 10:,} rows"}
    return [
        Figure(
            f"CSV of {events.rows:,} rows: {what}",
            median(seconds[side]),
            median(seconds["raw"]),
            "s",
            runs=runs,
            more={"best": f"{min(seconds[side]):.2f} / {min(seconds['raw']):.2f}"},
        )
        for side, what in whats.items()
    ]


if __name__ == "__main__" and not answer_side(SIDES):
    run_script("csv_files", __doc__ or "", measure)
