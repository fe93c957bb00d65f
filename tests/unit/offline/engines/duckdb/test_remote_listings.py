"""How often the files of a source in an object store are listed: as seldom as an answer of one state of them allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.offline.engines.duckdb import remote_parquet, sources
from headwater.offline.files.remote import RemoteFiles
from tests.servers.s3 import S3Server

AT = datetime(2024, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
USER = hw.Entity("user", join_keys={"user": hw.Int64})


@pytest.fixture(params=["files", "query"])
def source(request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server) -> hw.ParquetSource | hw.SQLSource:
    bucket = s3_server.make_bucket()
    for user in (1, 2):
        rows = {"user": [user], "time": pa.array([AT], TIME), "n": [10 * user]}
        pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
        s3_server.client.upload_file(str(tmp_path / "rows.parquet"), bucket, f"data/{user}.parquet")
    files = hw.ParquetSource(s3_server.url(f"{bucket}/data/"), event_time="time")
    if request.param == "files":
        return files
    return hw.SQLSource("SELECT * FROM rows", tables={"rows": files}, event_time="time")


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Where each listing was made."""
    made: list[str] = []
    genuine = remote_parquet.list_remote_parquet

    def spy(source: hw.ParquetSource, where: str) -> RemoteFiles:
        made.append(where)
        return genuine(source, where)

    for module in (remote_parquet, sources):
        monkeypatch.setattr(module, "list_remote_parquet", spy)
    yield made


def test_listings_of_an_apply_a_history_and_a_run(tmp_path: Path, source: Any, listed: list[str]) -> None:
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("n", hw.Int64)])
    spine = pa.table({"user": [1, 2, 3], "event_timestamp": pa.array([AT + timedelta(days=1)] * 3, TIME)})

    def count(call: Callable[[], Any]) -> tuple[int, Any]:
        listed.clear()
        result = call()
        return len(listed), result

    (tmp_path / "project").mkdir()
    with hw.FeatureStore(tmp_path / "project") as store:
        assert count(lambda: store.plan([view]))[0] == 1
        assert count(lambda: store.apply([view]))[0] == 1
        # once where it is called, to refuse a source that lacks a column; once where its rows are read
        calls, history = count(lambda: store.get_historical_features(spine, ["v:n"]))
        assert calls == 1
        calls, table = count(history.to_arrow)
        assert calls == 1 and table.column("n").to_pylist() == [10, 20, None]
        # before its files are read, for the read, and after it: a file that changed meanwhile is read again
        assert count(store.materialize)[0] == 3
        assert store.get_online_features(["v:n"], [1, 2, 3]).to_dict()["n"] == [10, 20, None]
