"""Materialize: 1M rows of Parquet into 100k entities online, beside DuckDB's arg_max and LMDB's putmulti.

Ours guards every row, keeps times and the watermark, and answers ties by the contract; the raw side keeps the values
alone, as msgpack. Each measurement is a process of its own with a new store, ours and raw by turns; imports and apply
come before. Bytes a value are the blocks of the store's file that are in use after it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import lmdb
import msgspec

from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import alternately, answer_side
from benchmarks.projects import NAMES, Events, make_project, open_project, views, warm_up, write_events


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The call."""
    with tempfile.TemporaryDirectory(dir=given["scratch"]) as scratch:
        folder = Path(scratch)
        warm_up(folder)
        make_project(folder / "project")
        with open_project(folder / "project", Events(1, 1).end) as store:
            store.apply(views(given["events"]))
            began = time.perf_counter()
            report = store.materialize()
            seconds = time.perf_counter() - began
            size = store.status().online["bytes"]
    run = report.runs[0]
    return {"seconds": seconds, "keys": run.applied, "bytes": size}


def raw(given: dict[str, Any]) -> dict[str, Any]:
    """The newest row of each key by DuckDB, packed one by one, put in order in one transaction."""
    with tempfile.TemporaryDirectory(dir=given["scratch"]) as scratch, duckdb.connect(":memory:") as database:
        path = Path(scratch) / "raw"
        environment = lmdb.open(str(path), map_size=1 << 34)
        encode = msgspec.msgpack.Encoder().encode
        row = ", ".join(f"{name} := {name}" for name in NAMES)
        began = time.perf_counter()
        table = database.sql(
            f"SELECT user, unnest(arg_max(struct_pack({row}), event_time)) FROM read_parquet('{given['events']}') "
            "GROUP BY user"
        ).to_arrow_table()
        users = table.column("user").to_pylist()
        columns = [table.column(name).to_pylist() for name in NAMES]
        keys = [b"0:%d" % user for user in users]
        rows = sorted(zip(keys, map(encode, zip(*columns, strict=True)), strict=True))
        with environment.begin(write=True) as txn, txn.cursor() as cursor:
            cursor.putmulti(rows)
        seconds = time.perf_counter() - began
        environment.close()
        size = (path / "data.mdb").stat().st_blocks * 512
    return {"seconds": seconds, "keys": len(rows), "bytes": size}


def measure(options: Options) -> list[Figure]:
    """The target's size, then a tenth and ten times as many rows."""
    keys = 10_000 if options.quick else 100_000
    runs = options.runs or (1 if options.quick else 7)
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for share in (10, 1, 100):
            rows = keys * share
            path = Path(scratch) / f"events{share}.parquet"
            write_events(path, Events(rows, keys), options.seed + share)
            given = {"scratch": scratch, "events": str(path)}
            found = alternately(
                "benchmarks.materialize", ("ours", "raw"), given, runs if share == 10 else max(1, runs // 2)
            )
            figures.append(_seconds(found, rows, 0.7 if share == 10 else None))
            if share == 10:
                figures.append(_bytes(found))
    return figures


def _seconds(found: dict[str, list[dict[str, Any]]], rows: int, target: float | None) -> Figure:
    seconds = {side: sorted(a["seconds"] for a in answers) for side, answers in found.items()}
    more = {
        "best": f"{seconds['ours'][0]:.2f} / {seconds['raw'][0]:.2f}",
        "peak MB": round(max(a["peak_mb"] for a in found["ours"])),
        "raw MB": round(max(a["peak_mb"] for a in found["raw"])),
    }
    what = f"materialize {rows:,} rows, {found['ours'][0]['keys']:,} entities"
    mine, theirs = median(seconds["ours"]), median(seconds["raw"])
    return Figure(what, mine, theirs, "s", target, "value", len(seconds["ours"]), more)


def _bytes(found: dict[str, list[dict[str, Any]]]) -> Figure:
    a_value = {side: median(a["bytes"] / a["keys"] / len(NAMES) for a in answers) for side, answers in found.items()}
    what = f"bytes per float64 value, {found['ours'][0]['keys']:,} entities x {len(NAMES)}"
    return Figure(what, a_value["ours"], a_value["raw"], "bytes", 25.0, "value", len(found["ours"]))


if __name__ == "__main__" and not answer_side({"ours": ours, "raw": raw}):
    run_script("materialize", __doc__ or "", measure)
