"""headwater beside Feast: the same data, the same Redis server, by turns in one run; `make bench-peers` runs it.

Each store reads and writes in processes of its own, Feast in the environment `.venv-peers` (requirements/peers.lock),
with its Redis store as it comes. Reads are a feature service into a dict of lists, from keys to `to_dict()`; Feast's
precomputed services hold one blob an entity, written by hand after each materialization. Feast materializes and joins
history by its default (`file`) offline store, and by its DuckDB one.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, Options, parser_of, publish
from benchmarks.peers.sides import Side
from benchmarks.processes import ROOT
from benchmarks.projects import NAMES, Events, random_features, write_events, write_spine, write_tables
from benchmarks.raw_reads import percentiles
from benchmarks.servers import redis_server, used_memory
from tests.servers.redis import RedisServer

PEERS = ROOT / ".venv-peers" / "bin" / "python"
HEADWATER, FEAST = "benchmarks.peers.headwater_side", "benchmarks.peers.feast_side"
OFFLINE = ("file", "duckdb")
REPEATS = {1: 400, 10: 400, 100: 200, 500: 60, 1_000: 40}
"""Batch → how many reads of it, in four turns."""
TURNS = 4


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        entities: of the views that are read.
        views: how many are read at once.
        repeats: batch → reads.
        keys, rows: entities and rows of a materialization.
        history: rows of the feature table; the spine has a tenth.
        runs: of materializations and joins.
    """

    entities: int
    views: tuple[int, ...]
    repeats: dict[int, int]
    keys: int
    rows: int
    history: int
    runs: int


def sizes(options: Options, whole_history: bool) -> Sizes:
    """By what was asked for."""
    if options.quick:
        return Sizes(500, (1, 5), {1: 8, 100: 8}, 1_000, 10_000, 20_000, options.runs or 1)
    history = 10_000_000 if whole_history else 1_000_000
    return Sizes(10_000, (1, 5, 10), REPEATS, 100_000, 1_000_000, history, options.runs or 3)


@contextmanager
def _headwater(scratch: Path, server: RedisServer, now: datetime) -> Iterator[Side]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with Side(Path(sys.executable), HEADWATER, scratch) as side:
        side.ask("open", folder=str(folder), port=server.port, now=now.isoformat())
        yield side


@contextmanager
def _feast(scratch: Path, server: RedisServer, offline: str = "file", folder: Path | None = None) -> Iterator[Side]:
    folder = folder or Path(tempfile.mkdtemp(dir=scratch))
    with Side(PEERS, FEAST, scratch) as side:
        side.ask("open", folder=str(folder), port=server.port, offline=offline)
        yield side


def measure(options: Options, whole_history: bool = False) -> list[Figure]:
    """Reads, materialization, reads beside it, history."""
    size = sizes(options, whole_history)
    with tempfile.TemporaryDirectory() as scratch:
        return [
            *_reads(Path(scratch), size, options.seed),
            *_materializations(Path(scratch), size, options.seed),
            *_beside(Path(scratch), size, options.seed),
            *_history(Path(scratch), size, options.seed),
        ]


# reads


def _reads(scratch: Path, size: Sizes, seed: int) -> list[Figure]:
    """Every batch size and number of views, with a service and with a precomputed one."""
    now, users, most = datetime.now(UTC), list(range(size.entities)), max(size.views)
    folder = Path(tempfile.mkdtemp(dir=scratch))
    write_tables(folder, users, random_features(size.entities, most, seed), now)
    with redis_server() as server, _headwater(scratch, server, now) as ours, _feast(scratch, server, "duckdb") as feast:
        ours.ask("apply", path=f"{folder}/view{{view}}.parquet", count=most, ttl_days=7)
        ours.ask("materialize", end=now.isoformat())
        feast.ask("apply", paths=[f"{folder}/view{v}.parquet" for v in range(most)], ttl_days=7)
        feast.ask("materialize", start=(now - timedelta(days=1)).isoformat(), end=now.isoformat())
        figures = []
        for views in size.views:
            figures += _services(ours, feast, views, users, size.repeats, seed)
    return figures


def _services(
    ours: Side, feast: Side, views: int, users: list[int], repeats: dict[int, int], seed: int
) -> list[Figure]:
    feast.ask("service", views=views, precomputed=False)
    writing = feast.ask("service", views=views, precomputed=True)
    names = [f"service{views}", f"precomputed{views}"]
    expected = ours.ask("values", views=views, users=users[:20])
    for name in names:
        assert feast.ask("values", service=name, views=views, users=users[:20]) == expected, name
    figures, rng = [], random.Random(seed)
    for batch, count in repeats.items():
        picks = [rng.sample(users, batch) for _ in range(count)]
        found: dict[str, list[float]] = {"ours": [], **{name: [] for name in names}}
        for turn in range(TURNS):
            part = picks[turn::TURNS]
            found["ours"] += ours.ask("read", views=views, picks=part)
            for name in names:
                found[name] += feast.ask("read", service=name, picks=part)
        what = f"read {batch:,} key{'s' * (batch > 1)}, {views} view{'s' * (views > 1)} x {len(NAMES)}"
        mine, service, precomputed = (percentiles(times) for times in found.values())
        figures.append(_latency(what, mine, service))
        figures.append(_latency(f"{what}, precomputed by Feast", mine, precomputed))
    figures.append(
        Figure(f"write the precomputed vectors of {len(users):,} entities, {views} views", None, writing, "s", runs=1)
    )
    return figures


def _latency(what: str, mine: tuple[float, float], theirs: tuple[float, float]) -> Figure:
    more = {"p99": f"{mine[1] / 1e3:.2f} / {theirs[1] / 1e3:.2f}"}
    return Figure(what, mine[0] / 1e3, theirs[0] / 1e3, "ms", more=more)


# materialization


def _materializations(scratch: Path, size: Sizes, seed: int) -> list[Figure]:
    """From nothing, into an emptied server, each time in new processes."""
    events, path = Events(size.rows, size.keys), scratch / "events.parquet"
    write_events(path, events, seed)
    found: dict[str, list[tuple[float, float, float]]] = {"ours": [], **{offline: [] for offline in OFFLINE}}
    with redis_server() as server:
        for _ in range(size.runs):
            for side, runs in found.items():
                runs.append(_materialize(scratch, server, side, path, events))
    what, entities = f"materialize {size.rows:,} rows", round(_median(found["ours"], 2))
    figures = []
    for offline in OFFLINE:
        more = {"peak MB": f"{_median(found['ours'], 1):.0f} / {_median(found[offline], 1):.0f}"}
        ours, theirs = _median(found["ours"], 0), _median(found[offline], 0)
        figures.append(Figure(f"{what}, Feast by its {offline} store", ours, theirs, "s", runs=size.runs, more=more))
    values = size.keys * len(NAMES)
    a_value = (entities / values, _median(found["file"], 2) / values)
    return [*figures, Figure(f"bytes a float64 value, {size.keys:,} entities x {len(NAMES)}", *a_value, "bytes")]


def _median(runs: list[tuple[float, float, float]], place: int) -> float:
    return median(run[place] for run in runs)


def _materialize(
    scratch: Path, server: RedisServer, side: str, path: Path, events: Events
) -> tuple[float, float, float]:
    """Seconds, most memory in MB, and by how many bytes the server's memory grew."""
    server.client.flushall()
    if side == "ours":
        with _headwater(scratch, server, events.end) as ours:
            ours.ask("apply", path=str(path), count=1, ttl_days=7)
            before = used_memory(server)
            seconds = ours.ask("materialize", end=events.end.isoformat())
            return seconds, ours.peak_mb, used_memory(server) - before
    with _feast(scratch, server, side) as feast:
        feast.ask("apply", paths=[str(path)], ttl_days=7)
        before = used_memory(server)
        seconds = feast.ask("materialize", start=events.start.isoformat(), end=events.end.isoformat())
        return seconds, feast.peak_mb, used_memory(server) - before


# reads beside a materialization


def _beside(scratch: Path, size: Sizes, seed: int) -> list[Figure]:
    """100-key reads of a store while another process of the same store materializes rows that are new to it."""
    first = Events(size.rows, size.keys, 6.0)
    second = Events(size.rows, size.keys, 6.0, first.start + timedelta(days=11))
    folder = scratch / "beside"
    for i, events in enumerate((first, second)):
        write_events(folder / f"{i}.parquet", events, seed + i)
    pq.write_table(pa.concat_tables(pq.read_table(folder / f"{i}.parquet") for i in (0, 1)), folder / "both.parquet")
    rng = random.Random(seed)
    users = list(range(size.keys))
    picks = [[rng.sample(users, 100) for _ in range(20)] for _ in range(20)]
    with redis_server() as server:
        ours = _headwater_beside(scratch, server, folder / "both.parquet", first, second, picks)
    with redis_server() as server:
        theirs = _feast_beside(scratch, server, folder / "both.parquet", first, second, picks)
    figures = []
    for place, state in ((0, "nothing is written"), (1, f"{size.rows:,} rows are materialized")):
        mine, other = percentiles(ours[place]), percentiles(theirs[place])
        more = {
            "p50": f"{mine[0] / 1e3:.2f} / {other[0] / 1e3:.2f}",
            "reads": f"{len(ours[place]):,} / {len(theirs[place]):,}",
        }
        figures.append(Figure(f"p99 of 100-key reads while {state}", mine[1] / 1e3, other[1] / 1e3, "ms", more=more))
    return figures


Picks = list[list[list[int]]]


def _headwater_beside(
    scratch: Path, server: RedisServer, path: Path, first: Events, second: Events, picks: Picks
) -> tuple[list[float], list[float]]:
    with _headwater(scratch, server, first.end) as writer, _headwater(scratch, server, second.end) as reader:
        for side in (writer, reader):
            side.ask("apply", path=str(path), count=1, ttl_days=0)
        writer.ask("materialize", end=first.end.isoformat())
        return _idle_and_busy(reader, writer, {"views": 1}, {"end": second.end.isoformat()}, picks)


def _feast_beside(
    scratch: Path, server: RedisServer, path: Path, first: Events, second: Events, picks: Picks
) -> tuple[list[float], list[float]]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with _feast(scratch, server, "duckdb", folder) as writer:
        writer.ask("apply", paths=[str(path)], ttl_days=0)
        writer.ask("service", views=1, precomputed=False)
        writer.ask("materialize", start=first.start.isoformat(), end=first.end.isoformat())
        with _feast(scratch, server, "duckdb", folder) as reader:
            run = {"start": second.start.isoformat(), "end": second.end.isoformat()}
            return _idle_and_busy(reader, writer, {"service": "service1"}, run, picks)


def _idle_and_busy(
    reader: Side, writer: Side, read: dict[str, Any], run: dict[str, str], picks: Picks
) -> tuple[list[float], list[float]]:
    reader.ask("read", picks=picks[0], **read)
    idle: list[float] = []
    for part in picks:
        idle += reader.ask("read", picks=part, **read)
    busy: list[float] = []
    writer.send("materialize", **run)
    while not writer.answered:
        busy += reader.ask("read", picks=picks[len(busy) % len(picks)], **read)
    writer.receive()
    return idle, busy


# history


def _history(scratch: Path, size: Sizes, seed: int) -> list[Figure]:
    """The whole call, in new processes."""
    events, folder = Events(size.history, max(10, size.history // 100)), scratch / "history"
    write_events(folder / "events.parquet", events, seed)
    write_spine(folder / "spine.parquet", size.history // 10, events, seed)
    path, spine = str(folder / "events.parquet"), str(folder / "spine.parquet")
    found: dict[str, list[tuple[float, float, float]]] = {"ours": [], **{offline: [] for offline in OFFLINE}}
    with redis_server() as server:
        for _ in range(size.runs):
            with _headwater(scratch, server, events.end) as ours:
                ours.ask("apply", path=path, count=1, ttl_days=7)
                found["ours"].append(_joined(ours, spine))
            for offline in OFFLINE:
                with _feast(scratch, server, offline) as feast:
                    feast.ask("apply", paths=[path], ttl_days=7)
                    found[offline].append(_joined(feast, spine))
    figures = []
    for offline in OFFLINE:
        more = {
            "peak MB": f"{_median(found['ours'], 1):,.0f} / {_median(found[offline], 1):,.0f}",
            "rows out": f"{_median(found['ours'], 2):,.0f} / {_median(found[offline], 2):,.0f}",
        }
        what = f"history {size.history // 10:,} x {size.history:,} rows x {len(NAMES)}, Feast by its {offline} store"
        seconds = _median(found["ours"], 0), _median(found[offline], 0)
        figures.append(Figure(what, *seconds, "s", runs=size.runs, more=more))
    return figures


def _joined(side: Side, spine: str) -> tuple[float, float, float]:
    answer = side.ask("history", spine=spine)
    return answer["seconds"], side.peak_mb, answer["rows"]


def main() -> int:
    """The command."""
    parser = parser_of("peers", __doc__ or "")
    whole = "history of 1M x 10M rows: Feast takes up to half a minute and 10 GB for each"
    parser.add_argument("--history", action="store_true", help=whole)
    given = parser.parse_args()
    if not PEERS.exists():
        print(f"{PEERS} is not there: `make bench-peers` makes it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch, Side(PEERS, FEAST, Path(scratch)) as feast:
        title = f"Beside Feast {feast.ask('version')}"
    options = Options(given.quick, given.seed, given.runs)
    publish("peers", options, lambda options: measure(options, given.history), title, "Feast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
