"""Files below folders named `column=value`: those above a source's root, and those of partitions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.definitions.source import Source
from tests.matrices import share
from tests.servers.s3 import S3Server

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
ROWS = {"user": [1, 2], "at": pa.array([NOON] * 2, pa.timestamp("us", "UTC")), "x": [7, 8]}
ABOVE = ["x=99/user=5/at=2020-01-01/__position=3/__row=1", "X=99/x=1/x=2"]


def parquet(folder: Path) -> Source:
    pq.write_table(pa.table(ROWS), folder / "d.parquet")
    return hw.ParquetSource("d.parquet", event_time="at")


def parquet_folder(folder: Path) -> Source:
    (folder / "d").mkdir()
    for i in range(2):
        pq.write_table(pa.table(ROWS).slice(i, 1), folder / f"d/{i}.parquet")
    return hw.ParquetSource("d", event_time="at")


def parquet_glob(folder: Path) -> Source:
    parquet_folder(folder)
    return hw.ParquetSource("d/*.parquet", event_time="at")


def parquet_absolute(folder: Path) -> Source:
    parquet_folder(folder)
    return hw.ParquetSource(str(folder / "d"), event_time="at")


def csv(folder: Path) -> Source:
    pa.csv.write_csv(pa.table(ROWS), folder / "d.csv")
    return hw.CSVSource("d.csv", event_time="at")


def csv_folder(folder: Path) -> Source:
    (folder / "c").mkdir()
    for i in range(2):
        pa.csv.write_csv(pa.table(ROWS).slice(i, 1), folder / f"c/{i}.csv")
    # of the columns that a query reads
    schema = {"user": hw.Int64, "at": hw.Timestamp, "x": hw.Int64}
    return hw.CSVSource("c", event_time="at", schema=schema)


def query_of_parquet(folder: Path) -> Source:
    return hw.SQLSource("SELECT * FROM d", tables={"d": parquet_folder(folder)}, event_time="at")


def query_of_csv(folder: Path) -> Source:
    return hw.SQLSource("SELECT * FROM d", tables={"d": csv_folder(folder)}, event_time="at")


def push(_: Path) -> Source:
    return hw.PushSource(event_time="at")


KINDS = [parquet, parquet_folder, parquet_glob, parquet_absolute, csv, csv_folder, query_of_parquet, query_of_csv, push]


@pytest.mark.parametrize(("kind", "above"), share(product(KINDS, ABOVE), 2))
def test_a_folder_above_the_project_replaces_no_column(
    tmp_path: Path, kind: Callable[[Path], Source], above: str
) -> None:
    project = tmp_path / above / "project"
    project.mkdir(parents=True)
    view = hw.FeatureView("v", entity=USER, source=kind(project), features=[hw.Feature("x", hw.Int64)])
    clock = [NOON]
    with hw.FeatureStore(project, online="memory:", clock=lambda: clock[0]) as store:
        store.apply([USER, view])
        written = [{"user": user, "at": NOON, "x": x} for user, x in ((2, 80), (3, 90))]
        store.write("v", written if kind is not push else [*written, {"user": 1, "at": NOON, "x": 7}])
        clock[0] += timedelta(minutes=1)
        # the write buffer is compacted into a file
        store.materialize(force=True)
        spine = pa.table({"user": [1, 2, 3, 5], "timestamp": [clock[0]] * 4})
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [7, 80, 90, None]
        assert store.get_online_features(["v:x"], [1, 2, 3, 5]).to_dict()["x"] == [7, 80, 90, None]
        store.delete("v", [2], purge=True)
        clock[0] += timedelta(hours=1)
        store.materialize()
        spine = pa.table({"user": [1, 2, 3], "timestamp": [clock[0]] * 3})
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == [7, None, 90]


def on_disk(folder: Path, server: S3Server) -> Source:
    return hw.ParquetSource("d", event_time="at")


def as_query(folder: Path, server: S3Server) -> Source:
    return hw.SQLSource("SELECT * FROM d", tables={"d": hw.ParquetSource("d")}, event_time="at")


def in_bucket(folder: Path, server: S3Server) -> Source:
    bucket = server.make_bucket()
    for file in folder.rglob("*.parquet"):
        server.client.upload_file(str(file), bucket, f"{folder.name}/{file.relative_to(folder)}")
    return hw.ParquetSource(server.url(f"{bucket}/{folder.name}/d"), event_time="at")


@pytest.mark.parametrize("above", ["plain", "shop=99"])
@pytest.mark.parametrize("road", [on_disk, as_query, in_bucket])
def test_partitions_are_the_same_columns_on_every_road(
    tmp_path: Path, s3_server: S3Server, road: Callable[[Path, S3Server], Source], above: str
) -> None:
    project = tmp_path / above
    for user, (shop, day, n) in enumerate(
        [("007", "2026-05-30", "3"), ("12", "2026-05-31", "__HIVE_DEFAULT_PARTITION__"), ("a%20b", "2026-06-01", "-1")]
    ):
        folder = project / f"d/shop={shop}/day={day}/x=5/n={n}"
        folder.mkdir(parents=True)
        rows = {"user": [user], "at": pa.array([NOON], pa.timestamp("us", "UTC")), "x": [user * 10]}
        pq.write_table(pa.table(rows), folder / "part.parquet")
    features = [("shop", hw.String), ("day", hw.Date), ("n", hw.Int64), ("x", hw.Int64)]
    view = hw.FeatureView(
        "v", entity=USER, source=road(project, s3_server), features=[hw.Feature(*pair) for pair in features]
    )
    with hw.FeatureStore(project, online="memory:", registry="sqlite://", clock=lambda: NOON) as store:
        store.apply([USER, view])
        spine = pa.table({"user": [0, 1, 2], "timestamp": [NOON] * 3})
        found = store.get_historical_features(spine, ["v:*"]).to_arrow().drop_columns(["user", "timestamp"])
    day = NOON.replace(year=2026, month=5, day=30).date()
    assert found.to_pylist() == [
        {"shop": "007", "day": day, "n": 3, "x": 0},
        {"shop": "12", "day": day + timedelta(days=1), "n": None, "x": 10},
        {"shop": "a b", "day": day + timedelta(days=2), "n": -1, "x": 20},
    ]


def test_partitions_of_csv_files_are_cast_as_their_columns_are(tmp_path: Path) -> None:
    for user, shop in enumerate(["007", "12"]):
        folder = tmp_path / f"c/shop={shop}/x=9"
        folder.mkdir(parents=True)
        (folder / "part.csv").write_text(f"user,at,x\n{user},2024-03-10 11:00:00,{user * 10}\n")
    view = hw.FeatureView(
        "v",
        entity=USER,
        source=hw.CSVSource("c", event_time="at"),
        features=[hw.Feature("shop", hw.Int64), hw.Feature("x", hw.Int64)],
    )
    with hw.FeatureStore(tmp_path, online="memory:", registry="sqlite://", clock=lambda: NOON) as store:
        store.apply([USER, view])
        spine = pa.table({"user": [0, 1], "timestamp": [NOON] * 2})
        found = store.get_historical_features(spine, ["v:*"]).to_arrow()
    assert (found["shop"].to_pylist(), found["x"].to_pylist()) == ([7, 12], [0, 10])
