"""Reads of 100 keys while another process materializes 1M rows into the same embedded store, beside the same idle.

The raw column is the same read of a raw LMDB environment that nobody writes to, between ours: what the machine itself
adds while its cores are busy shows there.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import raw_reads
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import ROOT, environment
from benchmarks.projects import (
    START,
    Events,
    Features,
    make_project,
    open_project,
    random_features,
    views,
    write_events,
)
from benchmarks.raw_reads import Reads, percentiles

DAYS = 6.0
KEYS = 100


def write(folder: Path, at: list[str]) -> None:
    """The writing process: each word `go` on its input is a run to the next instant."""
    for instant in at:
        with open_project(folder, datetime.fromisoformat(instant)) as store:
            print("ready", flush=True)
            sys.stdin.readline()
            report = store.materialize()
            print(f"done {report.runs[0].rows}", flush=True)


def measure(options: Options) -> list[Figure]:
    """Idle and busy by turns, a run of 1M new rows each."""
    users, table, rows = sizes(options)
    with tempfile.TemporaryDirectory() as scratch:
        raw = raw_reads.fill(Path(scratch) / "raw", users, [table])
        found = watch(Path(scratch) / "project", users, rows, raw_reads.lists(raw, 1), options)
        raw.close()
    return figures(found, rows, "embedded", "the same of a raw environment that nobody writes to")


def sizes(options: Options) -> tuple[list[Any], Features, int]:
    """The users, what the raw side has of them, and how many rows a run has."""
    entities, rows = (2_000, 20_000) if options.quick else (100_000, 1_000_000)
    return list(range(entities)), random_features(entities, 1, options.seed)[0], rows


def watch(
    folder: Path, users: list[Any], rows: int, raw: Reads, options: Options, online: Mapping[str, str] | None = None
) -> dict[str, list[Any]]:
    """Read a project of its own, by turns with a raw store, while another process materializes into it and does not.

    Args:
        folder: the project's.
        users: its entities.
        rows: of a run.
        raw: reads of the raw store.
        options: how many runs.
        online: settings of its online store; None: embedded.

    Returns:
        What `figures` takes: latencies in microseconds by round and side, seconds and rows of each run.
    """
    runs = options.runs or (2 if options.quick else 7)
    instants = _project(folder, len(users), rows, runs, options.seed, online)
    with open_project(folder, instants[-1]) as store:
        reader = store.prepare(["view0:*"])
        sides: tuple[Reads, Reads] = (lambda keys: reader.read(keys).to_dict(), raw)
        return _watched(folder, instants, sides, random.Random(options.seed), users)


def _project(
    folder: Path, entities: int, rows: int, runs: int, seed: int, online: Mapping[str, str] | None
) -> list[datetime]:
    """A store that holds a first part of its data, the other parts beside it; the instants at which each is over."""
    make_project(folder, online=online)
    parts = [Events(rows, entities, DAYS, START + i * timedelta(days=DAYS + 5)) for i in range(runs + 1)]
    for i, part in enumerate(parts):
        write_events(folder / "events" / f"{i:02d}.parquet", part, seed + i)
    with open_project(folder, parts[0].end) as store:
        store.apply(views("events/*.parquet", ttl=None))
        store.materialize()
    return [part.end for part in parts]


def _watched(
    folder: Path, instants: list[datetime], sides: tuple[Reads, Reads], rng: random.Random, users: list[Any]
) -> dict[str, list[Any]]:
    """Latencies in microseconds, idle and busy, of each round and side."""
    command = [sys.executable, "-m", "benchmarks.read_beside_writes", "--write", str(folder)]
    command += [instant.isoformat() for instant in instants[1:]]
    found: dict[str, list[Any]] = {"idle": [], "busy": [], "seconds": [], "rows": []}
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    ) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        for _ in instants[1:]:
            assert writer.stdout.readline() == "ready\n"
            # as long as the last run took, so that idle and busy are about equally many
            found["idle"].append(_reads(sides, rng, users, _after((found["seconds"] or [1.0])[-1])))
            writer.stdin.write("go\n")
            writer.stdin.flush()
            began = time.perf_counter()
            answer: list[str] = []
            found["busy"].append(_reads(sides, rng, users, _finished(writer.stdout, answer)))
            found["seconds"].append(time.perf_counter() - began)
            found["rows"].append(int(answer[0].split()[1]))
    return found


def _after(seconds: float) -> Callable[[], bool]:
    began = time.perf_counter()
    return lambda: time.perf_counter() - began > seconds


def _finished(lines: Any, answer: list[str]) -> Callable[[], bool]:
    def finished() -> bool:
        if select.select([lines], [], [], 0)[0]:
            answer.append(lines.readline())
        return bool(answer)

    return finished


def _reads(
    sides: tuple[Reads, Reads], rng: random.Random, users: list[Any], over: Callable[[], bool]
) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    turn = 0
    while not over():
        keys = rng.sample(users, KEYS)
        turn += 1
        for side in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            sides[side](keys)
            times[side].append((time.perf_counter() - began) * 1e6)
    return times


def figures(found: dict[str, list[Any]], rows: int, kind: str, beside: str) -> list[Figure]:
    """Ours, busy beside idle; then the raw store's, which `beside` names."""
    pooled = {
        state: [percentiles(x for times in found[state] for x in times[side]) for side in (0, 1)]
        for state in ("idle", "busy")
    }
    reads = sum(len(times[0]) for times in found["busy"])
    more = {
        "reads": reads,
        "p50": f"{pooled['busy'][0][0]:.0f} / {pooled['idle'][0][0]:.0f}",
        "runs of s": f"{median(found['seconds']):.2f}",
        "rows a run": min(found["rows"]),
        "worst": f"{max(max(times[0]) for times in found['busy']):.0f}",
    }
    name = f"p99 of {KEYS}-key reads, {kind}, while {rows:,} rows are materialized, beside idle"
    runs = len(found["busy"])
    return [
        Figure(name, pooled["busy"][0][1], pooled["idle"][0][1], "µs", 2.0, "ratio", runs, more),
        Figure(
            beside,
            pooled["busy"][1][1],
            pooled["idle"][1][1],
            "µs",
            runs=runs,
            more={"p50": f"{pooled['busy'][1][0]:.0f} / {pooled['idle'][1][0]:.0f}"},
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), sys.argv[3:])
    else:
        run_script("read_beside_writes", __doc__ or "", measure)
