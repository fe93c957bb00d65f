"""Online rows of windows: reads and updates in LMDB and Redis, and bytes an entity, beside the same bytes moved raw.

One float64 column: count, sum, mean, min and max over 1 h, 1 d, 7 d and 30 d: 20 features; text keys; no `event_id`.
Reads count from keys to `to_dict()`, against a fetch of the same bytes. Updates merge an event a key into rows, from
the statements of a transaction to the swapped rows, against reading the same bytes and putting them back: the log is
not in it, and the statements are made before, as the bytes that are put back are. Each event comes as long after the
entity's last as its events are apart, so that nearly each begins a record, and makes another one go. LMDB without
waiting for the disk on either side. Seconds are processor time of this process (Redis's is not in it), medians of
rounds of both sides by turns; reads take other keys each time, and are shown by the clock too.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import lmdb
import redis

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import make_project
from benchmarks.servers import redis_server
from headwater.compute.windows.driving import Driver
from headwater.compute.windows.putting import put
from headwater.compute.windows.requests import Batch
from headwater.online.rows.windows.codec import encode_row
from headwater.online.rows.windows.record import FillRecord, encode_record
from headwater.online.rows.windows.row import blank_row
from headwater.planning.resolve import whole_view
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import WindowLayout
from headwater.testing.window_rows import build_row

FUNCTIONS, WINDOWS = ("count", "sum", "mean", "min", "max"), ("1h", "1d", "7d", "30d")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, DAY = 1_000_000, 86_400_000_000
AT = int(NOW.timestamp()) * SECOND
TOLERANCE = 5 * SECOND
EVENTS_A_DAY = 100
"""Of an entity whose row is read and updated."""
BYTES = {1: 800, 100: 3_800, 10_000: 4_000}
READS = {"LMDB": {1: 20.0, 100: 4.5, 1_000: 2.8}, "Redis": {1: 1.25, 100: 2.0, 1_000: 1.4}}
UPDATES = {"LMDB": {1: 0.25, 100: 0.3, 5_000: 0.2}, "Redis": {1: 0.5, 100: 0.22, 5_000: 0.22}}
Call = Callable[[Any], Any]


def measure(options: Options) -> list[Figure]:
    """Bytes, then both stores."""
    rng = random.Random(options.seed)
    entities, rounds = (2_000, 0.05) if options.quick else (20_000, 1.0)
    figures: list[Figure] = []
    rows: list[bytes] = []
    for store_name in ("LMDB", "Redis"):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = f"lmdb:{folder}/online?sync=off"
            if store_name == "Redis":
                url = stack.enter_context(redis_server()).url
            bench = stack.enter_context(_Bench(folder, url, entities, rng, rows))
            rows = bench.own
            if store_name == "LMDB":
                figures += bench.sizes(options.quick)
            raw = _raw_lmdb(folder / "raw", stack) if store_name == "LMDB" else _raw_redis(url, stack)
            raw.put(list(zip(bench.keys, bench.rows, strict=True)))
            figures += _reads(store_name, bench, raw, rounds, rng)
            figures += _updates(store_name, bench, raw, rounds, rng)
    return figures


class _Raw:
    """A store without us."""

    def __init__(self, get: Callable[[Sequence[bytes]], list[Any]], put: Callable[[list[tuple[bytes, bytes]]], None]):
        self.get, self.put = get, put


def _raw_lmdb(path: Path, stack: ExitStack) -> _Raw:
    environment = stack.enter_context(lmdb.open(str(path), map_size=1 << 36, sync=False, metasync=False))

    def get(keys: Sequence[bytes]) -> list[Any]:
        with environment.begin() as txn:
            read = txn.get
            return [read(key) for key in keys]

    def put_back(rows: list[tuple[bytes, bytes]]) -> None:
        with environment.begin(write=True) as txn:
            for key, row in rows:
                txn.put(key, row)

    return _Raw(get, put_back)


def _raw_redis(url: str, stack: ExitStack) -> _Raw:
    client = redis.Redis.from_url(url)
    stack.callback(client.close)

    def put_back(rows: list[tuple[bytes, bytes]]) -> None:
        client.mset({b"raw" + key: row for key, row in rows})

    return _Raw(lambda keys: client.mget([b"raw" + key for key in keys]), put_back)


class _Bench:
    """A window view whose rows are those of entities with so many events a day for a month.

    Args:
        folder: of the project.
        url: of the online store.
        entities: how many.
        rng: the random numbers.
        rows: the rows that entities share; none: they are made.
    """

    def __init__(self, folder: Path, url: str, entities: int, rng: random.Random, rows: list[bytes]) -> None:
        make_project(folder / "project", online={"url": url})
        self.store = hw.FeatureStore(folder / "project", clock=lambda: NOW)
        user = hw.Entity("user", join_keys={"user": hw.String})
        source = hw.PushSource(event_time="at", schema={"x": hw.Float64})
        features = [hw.Aggregation("x", function, window) for function in FUNCTIONS for window in WINDOWS]
        self.store.apply([user, hw.FeatureView("windows", entity=user, source=source, features=features)])
        self.reader = self.store.prepare(["windows:*"])
        record = self.store.registry.snapshot().view("windows")
        self.view = whole_view(record, record.version(record.live))
        assert self.view.windows is not None
        self.layout: WindowLayout = self.view.windows
        self.users = [f"user-{i:07d}" for i in range(entities)]
        record_key, *self.keys = self.reader._reader.plan_keys(self.users).keys
        self.own = rows or [stored_row(self.layout, EVENTS_A_DAY, rng) for _ in range(4)]
        self.rows = [self.own[i % len(self.own)] for i in range(entities)]
        online = self.store.context.online
        online.put_meta({record_key: encode_record(FillRecord(1, 1, 0, AT))})
        for start in range(0, entities, 2_000):
            part = slice(start, start + 2_000)
            online.compare_and_put_all([(k, 0, row) for k, row in zip(self.keys[part], self.rows[part], strict=True)])
        self.rng, self._position = rng, 1_000_000
        self._last = [AT] * entities
        self.driver = Driver(self.store.context, self.view, 1 << 62)

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def sizes(self, quick: bool) -> list[Figure]:
        """Bytes an entity."""
        out = []
        for events, limit in BYTES.items():
            if not (quick and events > 100):
                size = len(stored_row(self.layout, events, self.rng, days=31))
                what = f"bytes an entity, {events:,} events a day"
                out.append(Figure(what, size, 7_008, "bytes", limit, "value", note="beside dense rings of tiles"))
        return out

    def read(self, picks: list[int]) -> Any:
        """A read of some entities."""
        return self.reader.read([self.users[i] for i in picks]).to_dict()

    def statements(self, picks: list[int]) -> dict[bytes, Batch]:
        """An event for each of some entities, by the keys of their rows."""
        batches = {}
        for i in picks:
            self._position += 1
            at = self._last[i] = self._last[i] + DAY // EVENTS_A_DAY
            event = WindowEvent(at, at, True, self._position, {"x": self.rng.gauss(0, 1)})
            batches[self.keys[i]] = Batch(self._position, at, (event,))
        return batches

    def update(self, batches: dict[bytes, Batch]) -> Any:
        """Put statements into rows."""
        report = self.driver.do(put(self.driver.version, batches))
        assert len(report.applied) == len(batches)


def stored_row(layout: WindowLayout, events_a_day: int, rng: random.Random, days: int = 32) -> bytes:
    """The row of an entity with events spread evenly up to now."""
    times = sorted(AT - rng.randrange(days * DAY) for _ in range(days * events_a_day))
    events = [WindowEvent(at, at, True, i + 1, {"x": rng.gauss(0, 1)}) for i, at in enumerate(times)]
    row = blank_row(layout, fill=1, applied_through=len(events))
    build_row(layout, row, events, TOLERANCE)
    row.sequence = 1 << 32 | 1
    return encode_row(layout, row)


def _by_turns(
    ours: Call, raw: Call, picks: Sequence[list[int]], given: Callable[[list[int]], Any] = list
) -> list[tuple[float, float]]:
    """Processor seconds and seconds by the clock of each, medians of rounds; `given` makes what ours takes, before."""
    found: list[list[tuple[float, float]]] = [[], []]
    for number, some in enumerate(picks):
        mine = given(some)
        for which in (0, 1) if number % 2 else (1, 0):
            began, own = time.perf_counter(), time.process_time()
            (ours, raw)[which]((mine, some)[which])
            found[which].append((time.process_time() - own, time.perf_counter() - began))
    return [(median(own for own, _ in side), median(clock for _, clock in side)) for side in found]


def _reads(store: str, bench: _Bench, raw: _Raw, rounds: float, rng: random.Random) -> list[Figure]:
    out = []
    everyone = range(len(bench.users))
    for count, repeats in {1: 3_000, 10: 1_000, 100: 300, 1_000: 60}.items():
        picks = [rng.sample(everyone, count) for _ in range(max(5, int(repeats * rounds)))]
        (mine, my_clock), (theirs, their_clock) = _by_turns(
            bench.read, lambda some: raw.get([bench.keys[i] for i in some]), picks
        )
        target = READS[store].get(count)
        of = "value" if store == "LMDB" and count == 1 else "ratio"
        what = f"{store}: read of {count:,} keys x 20 features"
        more = {"by the clock": f"{my_clock * 1e6:,.0f} / {their_clock * 1e6:,.0f} µs, {my_clock / their_clock:.2f}x"}
        out.append(Figure(what, mine * 1e6, theirs * 1e6, "µs", target, of, len(picks), more))  # type: ignore[arg-type]
    return out


def _updates(store: str, bench: _Bench, raw: _Raw, rounds: float, rng: random.Random) -> list[Figure]:
    def back(some: list[int]) -> None:
        keys = [bench.keys[i] for i in some]
        raw.put(list(zip(keys, raw.get(keys), strict=True)))

    out = []
    for count, repeats in {1: 2_000, 100: 100, 5_000: 9}.items():
        count = min(count, len(bench.users))
        picks = [rng.sample(range(len(bench.users)), count) for _ in range(max(3, int(repeats * rounds)))]
        (mine, _), (theirs, _) = _by_turns(bench.update, back, picks, bench.statements)
        least = UPDATES[store][min(UPDATES[store], key=lambda known: abs(known - count))]
        what = f"{store}: update of {count:,} keys, an event each"
        more = {
            "events/s": f"{count / mine:,.0f} / {count / theirs:,.0f}",
            "share": f"{theirs / mine:.2f} (>= {least})",
        }
        out.append(Figure(what, mine / count * 1e6, theirs / count * 1e6, "µs", 1 / least, "ratio", len(picks), more))
    return out


if __name__ == "__main__":
    run_script("windows_online", __doc__ or "", measure)
