"""Folders named `column=value`, whose values are keys, times or features: filters leave out folders, never rows."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.clock import to_micros
from headwater.offline.engines.duckdb.files import ParquetFiles
from headwater.planning.partitions import partitions
from headwater.testing import rounds
from headwater.testing.oracle import Fact, OracleView, SourceRow, answer, facts, known_entities, online_answer

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = ("a", "b", "NULL", "50% off", "x=y", "é b")
TYPES = {"k": pa.string(), "day": pa.date32(), "shop": pa.string(), "t": pa.timestamp("us", "UTC"), "x": pa.int64()}

rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from([*KEYS, None]),
            "day": st.one_of(st.integers(0, 5), st.none()),
            "hour": st.integers(0, 23),
            "shop": st.sampled_from(["007", "x", "", None]),
            "x": st.one_of(st.none(), st.integers(0, 9)),
        }
    ),
    min_size=1,
    max_size=14,
).filter(lambda rows: any(row["day"] is not None for row in rows))  # of NULLs alone it is not said what they would be
spine_of = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-10, 200)), min_size=1, max_size=8)


def write(root: Path, rows: list[dict[str, Any]], folders: tuple[str, ...]) -> None:
    """Rows in files of at most two, in folders of some of their columns."""

    def place(row: dict[str, Any]) -> str:
        texts = {name: "__HIVE_DEFAULT_PARTITION__" if row[name] is None else quote(str(row[name])) for name in folders}
        return "/".join(f"{name}={text}" for name, text in texts.items())

    for folder, found in groupby(sorted(rows, key=place), place):
        mine = list(found)
        (root / folder).mkdir(parents=True)
        columns = {n: pa.array([row[n] for row in mine], kind) for n, kind in TYPES.items() if n not in folders}
        for i in range(0, len(mine), 2):
            pq.write_table(pa.table(columns).slice(i, 2), root / folder / f"part-{i}.parquet")


def shown(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("k", "x", "shop")) for row in rows]


@settings(max_examples=rounds(3), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=rows_of,
    folders=st.sampled_from([("k",), ("day",), ("shop",), ("k", "day"), ("day", "k"), ("shop", "day")]),
    event=st.sampled_from(["day", "t"]),
    ttl=st.sampled_from([None, "1d", "40h"]),
    delay=st.sampled_from(["0s", "30h"]),
    spine=spine_of,
    hours=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    asked=st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True),
)
def test_every_road_gives_the_rows_of_the_contract(
    rows: list[dict[str, Any]],
    folders: tuple[str, ...],
    event: str,
    ttl: str | None,
    delay: str,
    spine: list[tuple[str, int]],
    hours: list[int],
    asked: list[str],
) -> None:
    for row in rows:
        day = row["day"]
        row["t"] = None if day is None else FIRST + timedelta(days=day, hours=row["hour"])
        row["day"] = None if day is None else (FIRST + timedelta(days=day)).date()
    known: dict[str, OracleView] = {
        "v": OracleView(
            {"shop": None, "x": None},
            ttl={None: 0, "1d": 24, "40h": 40}[ttl] * 3_600_000_000,
            delay={"0s": 0, "30h": 30}[delay] * 3_600_000_000,
        )
    }
    of = known["v"]
    fact = facts(of, [SourceRow((r["k"],), {"shop": r["shop"], "x": r["x"]}, _nanos(r[event])) for r in rows])

    def says(key: str, at: datetime) -> tuple[Any, ...]:
        values = answer(of, fact, (), (key,), to_micros(at)).values
        return key, values["x"], values["shop"]

    clock = [FIRST - timedelta(days=1)]
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), rows, folders)
        view = hw.FeatureView(
            "v",
            entity=hw.Entity("k", join_keys={"k": hw.String}),
            source=hw.ParquetSource(root, event_time=event, delay=delay),
            features=[hw.Feature("x", hw.Int64), hw.Feature("shop", hw.String)],
            ttl=ttl,
        )
        with hw.FeatureStore.in_memory([view], clock=lambda: clock[0]) as store:
            given_rows = [{"k": key, "timestamp": FIRST + timedelta(hours=hour)} for key, hour in spine]
            for part in (given_rows, given_rows[:1]):
                found = store.get_historical_features(part, ["v:*"]).to_pylist()
                assert shown(found) == [says(row["k"], row["timestamp"]) for row in part]
            for hour in hours:
                clock[0] += timedelta(hours=hour)
                if hour % 2:
                    store.materialize(entities=[{"k": key} for key in asked])
                    assert online(store, asked) == [wanted(of, fact, key, clock[0]) for key in asked]
                store.materialize()
                assert online(store, KEYS) == [wanted(of, fact, key, clock[0]) for key in KEYS]
                found = store.get_historical_features(None, ["v:*"], at=clock[0]).to_pylist()
                there = known_entities(fact, (), to_micros(clock[0]))
                assert sorted(shown(found)) == sorted(says(key, clock[0]) for (key,) in there)


def _nanos(at: date | datetime | None) -> int | None:
    if at is None:
        return None
    return to_micros(at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)) * 1000


def online(store: hw.FeatureStore, keys: Any) -> list[tuple[Any, ...]]:
    found = store.get_online_features(["v:x", "v:shop"], list(keys)).to_dict()
    return list(zip(found["k"], found["x"], found["shop"], strict=True))


def wanted(of: OracleView, rows: list[Fact], key: str, now: datetime) -> tuple[Any, ...]:
    """What is online of a key once all rows that are known by now are materialized."""
    there = [row for row in rows if row.known_at <= to_micros(now)]
    values = online_answer(of, there, (), (key,), to_micros(now)).values
    return key, values["x"], values["shop"]


def days(root: Path, count: int) -> hw.FeatureView:
    for i in range(1, count + 1):
        (root / f"day=2026-01-{i:02}").mkdir(parents=True)
        file = root / f"day=2026-01-{i:02}/p.parquet"
        pq.write_table(pa.table({"k": ["a", "b"], "x": [i * 10, i * 10 + 1]}), file)
        os.utime(file, (1, 1))  # one that was just written may be written again unseen
    return hw.FeatureView(
        "v",
        entity=hw.Entity("k", join_keys={"k": hw.String}),
        source=hw.ParquetSource(str(root), event_time="day"),
        features=[hw.Feature("x", hw.Int64)],
        ttl="1d",
    )


def test_a_run_reads_the_folders_that_are_later_than_the_last_one(tmp_path: Path) -> None:
    """The rows that a filter on a folder's time leaves are those whose values are fetched; the others are not read."""
    view = days(tmp_path, 9)
    clock = [FIRST + timedelta(days=5)]
    with hw.FeatureStore.in_memory([view], clock=lambda: clock[0]) as store:
        store.materialize()
        damaged = tmp_path / "day=2026-01-02/p.parquet"
        data = bytearray(damaged.read_bytes())
        part = pq.read_metadata(damaged).row_group(0).column(1)
        start = part.dictionary_page_offset or part.data_page_offset
        data[start : start + part.total_compressed_size] = b"\xff" * part.total_compressed_size
        damaged.write_bytes(data)
        os.utime(damaged, (1, 1))
        clock[0] += timedelta(days=2)
        store.materialize()
        assert store.get_online_features(["v:x"], ["a", "b"]).to_dict()["x"] == [80, 81]


@pytest.mark.parametrize(
    ("folders", "plain"),
    [
        (["k=a", "k=b"], True),
        (["k=a b", "k=a%20c"], True),
        (["k=NULL", "k=b"], False),
        (["k=", "k=b"], False),
        (["k=__HIVE_DEFAULT_PARTITION__", "k=b"], False),
        (["k=a%2Fb%3Dc", "k=b"], False),
        (["k=a/k=b", "k=b"], False),
        (["k=[a]", "k=b"], False),
    ],
)
def test_what_versions_of_duckdb_read_in_different_ways_is_not_left_to_it(folders: list[str], plain: bool) -> None:
    files = [f"/data/{folder}/part.parquet" for folder in folders]
    read = ParquetFiles(files, Path("/data"), partitions(files, "/data", ["x"]))
    assert read.as_duckdb_reads_them is plain
