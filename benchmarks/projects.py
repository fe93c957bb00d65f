"""Projects and data that the benchmarks share: views of ten float64 features, Parquet files from a seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import headwater as hw

NAMES = [f"f{i}" for i in range(10)]
START = datetime(2024, 1, 1, tzinfo=UTC)
MICROS = pa.timestamp("us", tz="UTC")
Features = NDArray[np.float64]
_MINUTE = 60_000_000
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Events:
    """A table of events.

    Attributes:
        rows: how many.
        keys: how many entities they are of.
        days: how long a time they span, from `start`.
        start: when they begin.
        repeated: the share of rows with the key and event time of the row before; half of them with its created time
            too, so that only their values tell them apart.
        late: the share known up to three days after its event; the others are known after ten minutes on average.
    """

    rows: int
    keys: int
    days: float = 90.0
    start: datetime = START
    repeated: float = 0.02
    late: float = 0.05

    @property
    def end(self) -> datetime:
        """When the last is over and known."""
        return self.start + timedelta(days=self.days + 4)


def write_events(path: Path, events: Events, seed: int) -> None:
    """Events as one Parquet file, in order of event time, as logs are: user, event_time, created_time, f0 … f9."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [("user", pa.int64()), ("event_time", MICROS), ("created_time", MICROS), *((n, pa.float64()) for n in NAMES)]
    )
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for batch in _batches(events, seed):
            writer.write_table(pa.Table.from_arrays(batch, schema=schema), row_group_size=122_880)


def _batches(events: Events, seed: int) -> Iterator[list[pa.Array]]:
    rng = np.random.default_rng(seed)
    start = int(events.start.timestamp() * 1e6)
    for first in range(0, events.rows, _CHUNK):
        rows = min(_CHUNK, events.rows - first)
        share = events.days * 86_400e6 / events.rows
        event = start + (np.sort(rng.uniform(first, first + rows, rows)) * share).astype(np.int64) // _MINUTE * _MINUTE
        user = rng.integers(0, events.keys, rows)
        late = rng.random(rows) < events.late
        wait = np.where(late, rng.uniform(0, 3 * 86_400e6, rows), rng.exponential(600e6, rows)).astype(np.int64)
        created = event + wait
        again = np.flatnonzero(rng.random(rows) < events.repeated)
        again = again[again > 0]
        user[again], event[again] = user[again - 1], event[again - 1]
        exact = again[::2]
        created[exact] = created[exact - 1]
        yield [
            pa.array(user),
            pa.array(event, MICROS),
            pa.array(created, MICROS),
            *(pa.array(column) for column in rng.standard_normal((len(NAMES), rows))),
        ]


def write_spine(path: Path, rows: int, events: Events, seed: int) -> None:
    """A spine of random users at random times, in no order: user, timestamp, label."""
    rng = np.random.default_rng(seed + 1)
    start, week = int(events.start.timestamp() * 1e6), 7 * 86_400e6
    times = start + rng.uniform(week, events.days * 86_400e6, rows).astype(np.int64)
    table = pa.table(
        {
            "user": pa.array(rng.integers(0, events.keys, rows)),
            "timestamp": pa.array(times, MICROS),
            "label": pa.array(rng.random(rows)),
        }
    )
    pq.write_table(table, path)


def views(path: str, *, count: int = 1, ttl: str | None = "7d", key: hw.DType = hw.Int64) -> list[hw.FeatureView]:
    """Views `view0`, `view1` … of ten float64 features each; `path` may name the view as `{view}`."""
    user = hw.Entity("user", join_keys={"user": key})
    return [
        hw.FeatureView(
            f"view{v}",
            entity=user,
            version="1.0.0",
            source=hw.ParquetSource(path.format(view=v), event_time="event_time", created_time="created_time"),
            features=[hw.Feature(f"v{v}_{name}", hw.Float64, column=name) for name in NAMES],
            ttl=ttl,
            freshness_sla="1d",
        )
        for v in range(count)
    ]


def open_project(folder: Path, now: datetime) -> hw.FeatureStore:
    """The embedded store of a folder, on a clock that stands at `now`."""
    return hw.FeatureStore(folder, clock=lambda: now)


def make_project(
    folder: Path, memory_limit: str | None = None, online: Mapping[str, str | bool | int] | None = None
) -> None:
    """An empty project; `online` is that section of its settings, none for the embedded store."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        'project = "bench"',
        "[online]",
        *(f"{key} = {json.dumps(value)}" for key, value in (online or {}).items()),
    ]
    lines += [] if memory_limit is None else ["[offline]", f'memory_limit = "{memory_limit}"']
    (folder / "headwater.toml").write_text("\n".join(lines) + "\n")
    (folder / "features.py").touch()


def random_features(users: int, count: int, seed: int) -> list[Features]:
    """A table (users x features) for each of some views."""
    return [np.random.default_rng(seed + v).standard_normal((users, len(NAMES))) for v in range(count)]


def write_tables(folder: Path, users: Sequence[Any], tables: Sequence[Features], now: datetime) -> None:
    """`view0.parquet` … with one row for each user, an hour old."""
    when = pa.array([now - timedelta(hours=1)] * len(users), MICROS)
    for v, table in enumerate(tables):
        columns = {name: table[:, i] for i, name in enumerate(NAMES)}
        pq.write_table(
            pa.table({"user": users, "event_time": when, "created_time": when, **columns}), folder / f"view{v}.parquet"
        )


def filled_project(
    folder: Path,
    users: Sequence[Any],
    tables: Sequence[Features],
    key: hw.DType = hw.Int64,
    online: Mapping[str, str | bool | int] | None = None,
) -> hw.FeatureStore:
    """A store with a row of each view, a table each, for each user."""
    make_project(folder, online=online)
    write_tables(folder, users, tables, datetime.now(UTC))
    store = hw.FeatureStore(folder)
    store.apply(views("view{view}.parquet", count=len(tables), key=key))
    store.materialize()
    return store


def warm_up(folder: Path) -> None:
    """Do all that is measured once on a handful of rows, so that modules are imported."""
    path, events = folder / "warm" / "events.parquet", Events(100, 10)
    make_project(folder / "warm")
    write_events(path, events, 1)
    with open_project(folder / "warm", events.end) as store:
        store.apply(views("events.parquet"))
        spine = pa.table({"user": pa.array([1, 2]), "timestamp": pa.array([events.end] * 2, MICROS)})
        store.get_historical_features(spine, ["view0:*"]).to_arrow()
        store.materialize()
        store.get_online_features(["view0:*"], [1, 2]).to_dict()
