"""Windows in history as their work grows: more events, windows, late events; one hot key; a plain query; filling rows.

The work is that of `windows_history`: 30 columns from events of 30 days, a spine row for each ten events. Each
measurement is a process of its own, and CPU seconds are compared. `--rows 10000000` measures the whole; by default it
is a tenth of that, with `--quick` a hundredth. The plain query has a tenth of the spine rows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import answer_side, in_process
from benchmarks.projects import make_project, open_project
from benchmarks.windows_history import END, FUNCTIONS, WINDOWS, Shape, ours, raw, view, write_data

_DAYS = {"1h": (3_600, 300), "1d": (86_400, 3_600), "7d": (7 * 86_400, 3_600), "30d": (30 * 86_400, 86_400)}
_MANY, _FEW = Shape("100,000 keys", 100_000), Shape("1,000 keys", 1_000)
_EVIL = Shape("1,000 keys, every event late at random", 1_000, late=1.0, latest=30 * 86_400_000_000)


def plain(given: dict[str, Any]) -> dict[str, Any]:
    """One range join of spine and events, and a FILTER for each window."""
    folder = Path(given["folder"])
    columns = []
    for window in WINDOWS:
        if window is None:
            condition = "true"
        else:
            width, hop = (1_000_000 * seconds for seconds in _DAYS[window])
            condition = f"e >= (t - {width}) - (t - {width}) % {hop}"
        for call in ("count(e)", "sum(x)", "avg(x)", "min(x)", "max(x)", "arg_max(x, e)"):
            columns.append(f"{call} FILTER ({condition})")
    sql = f"""SELECT n, {", ".join(columns)} FROM (
        SELECT s.n, s.t, epoch_us(f.event_time) AS e, f.x
        FROM (SELECT user, epoch_us("timestamp") AS t, row_number() OVER () AS n FROM '{folder}/spine.parquet') s
        LEFT JOIN '{folder}/events.parquet' f
        ON s.user = f.user AND greatest(epoch_us(f.event_time), epoch_us(f.created_at)) <= s.t
    ) GROUP BY n"""
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect(config={"temp_directory": scratch}) as database:
        began, cpu = time.perf_counter(), time.process_time()
        table = database.sql(sql).to_arrow_table()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert table.num_rows == pq.read_metadata(folder / "spine.parquet").num_rows
    return {"seconds": seconds, "cpu": cpu}


def fill(given: dict[str, Any]) -> dict[str, Any]:
    """Rows of the view filled into LMDB."""
    folder = Path(given["folder"])
    make_project(folder, given["memory"])
    with open_project(folder, END) as store:
        began, cpu = time.perf_counter(), time.process_time()
        store.materialize()
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def grouped(given: dict[str, Any]) -> dict[str, Any]:
    """The aggregates of each key and hop."""
    calls = "count(x), sum(x), min(x), max(x), arg_max(x, event_time)"
    sql = f"""SELECT user, epoch_us(event_time) // 300000000 AS hop, {calls}
        FROM '{given["folder"]}/events.parquet' GROUP BY ALL ORDER BY user, hop"""
    with duckdb.connect() as database:
        began, cpu = time.perf_counter(), time.process_time()
        database.sql(sql).to_arrow_table()
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


class _Runs:
    """Measurements of one size of data.

    Args:
        rows: how many events.
        seed: of the data.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self._seed = rows, seed

    def figure(
        self,
        what: str,
        shape: Shape,
        against: str | dict[str, Any] = "raw",
        target: float | None = None,
        *,
        rows: int | None = None,
        spine: int | None = None,
        side: str = "ours",
        **arguments: Any,
    ) -> tuple[Figure, dict[str, Any]]:
        """A measurement beside another: that of a side, or one made before."""
        rows = self.rows if rows is None else rows
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_data(folder, shape, rows, self._seed, spine)
            make_project(folder)
            with open_project(folder, END) as store:
                store.apply(view())
            given = {"folder": scratch, "memory": None, **arguments}
            found = in_process("benchmarks.windows_growth", side, given)
            other = in_process("benchmarks.windows_growth", against, given) if isinstance(against, str) else against
        more = {
            "peak MB": f"{found['peak_mb']:,.0f} / {other['peak_mb']:,.0f}",
            "seconds": f"{found['seconds']:.1f} / {other['seconds']:.1f}",
        }
        return Figure(what, found["cpu"], other["cpu"], "CPU s", target, more=more), found


def measure(options: Options) -> list[Figure]:
    """All of it."""
    rows = 100_000 if options.quick else options.rows or 1_000_000
    runs = _Runs(rows, options.seed)
    base, first = runs.figure(f"{rows:,} events, raw as-of join beside", _MANY)
    figures = [base]

    def beside(what: str, shape: Shape, target: float | None = None, **arguments: Any) -> None:
        figures.append(runs.figure(what, shape, first, target, **arguments)[0])

    beside(
        f"{4 * rows:,} events, {rows:,} beside",
        Shape("400,000 keys", 100_000),
        4.0,
        rows=4 * rows,
        spine=rows // 10,
    )
    for count in (1, 3):
        beside(f"{count} windows, {len(WINDOWS)} beside", _MANY, features=_features(WINDOWS[:count]))
    for share in (0.0, 0.2, 1.0):
        beside(f"{share:.0%} of events late, 2% beside", Shape("late", 100_000, late=share))
    figures.append(runs.figure(f"{_EVIL.name}, raw as-of join beside", _EVIL, target=6.0)[0])
    one = Shape("one key", 1)
    figures.append(runs.figure(f"one key of {rows:,} events, raw as-of join beside", one, spine=rows // 100)[0])
    spine = rows // 100
    figures.append(runs.figure(f"{spine:,} spine rows, plain query beside", _MANY, "plain", 0.15, spine=spine)[0])
    figures.append(
        runs.figure(
            f"rows of {rows:,} events filled into LMDB, GROUP BY beside",
            _MANY,
            "grouped",
            1.8,
            side="fill",
        )[0]
    )
    return figures


def _features(windows: Sequence[str | None]) -> list[str]:
    return [f"windows:{hw.Aggregation('x', f, w).feature_name}" for w in windows for f in FUNCTIONS]


if __name__ == "__main__" and not answer_side(
    {"ours": ours, "raw": raw, "plain": plain, "fill": fill, "grouped": grouped}
):
    run_script("windows_growth", __doc__ or "", measure)
