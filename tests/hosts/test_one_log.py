"""A host whose log, or whose log's folder, is another one than the others' is refused for writes, by name."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import LogMismatch, StoreError, Unavailable
from tests.hosts.conftest import USER, clicks
from tests.servers.redis import RedisServer

AT = datetime(2024, 1, 1, tzinfo=UTC)


def row(key: int, number: int) -> dict[str, object]:
    return {"user": key, "at": AT, "created_time": AT, "id": number, "amount": 1.0}


def refused(folder: Path, match: str) -> None:
    """Every way to write is refused; reading online goes on."""
    with hw.FeatureStore(folder) as host:
        for to in ("both", "offline", "online"):
            with pytest.raises(LogMismatch, match=match):
                host.write("clicks", [row(2, 2)], to=to)
        with pytest.raises(LogMismatch, match=match):
            host.delete("clicks", [1])
        with pytest.raises(LogMismatch, match=match):
            host.materialize()
        assert host.get_online_features(["clicks:id"], [1]).to_dict() == {"user": [1], "id": [1]}


def test_hosts_with_one_folder_write_and_read_each_others_rows(make_host):
    with hw.FeatureStore(make_host("a")) as a, hw.FeatureStore(make_host("b")) as b:
        a.apply([USER, clicks()])
        a.write("clicks", [row(1, 1)])
        a.materialize()
        b.write("clicks", [row(2, 2)])
        b.materialize()
        found = a.get_online_features(["clicks:id"], [1, 2], consistency="strong").to_dict()
        assert found["id"] == [1, 2]
        spine = {"user": [1, 2], "timestamp": [datetime(2025, 1, 1, tzinfo=UTC)] * 2}
        for host in (a, b):
            assert host.get_historical_features(pa.table(spine), ["clicks:id"]).to_arrow()["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize("rolled", [False, True])
def test_a_host_with_a_folder_of_its_own(make_host, tmp_path, rolled):
    with hw.FeatureStore(make_host("a")) as a:
        a.apply([USER, clicks()])
        a.write("clicks", [row(1, 1)])
        if rolled:
            a.materialize()
    other = tmp_path / "own-log"
    refused(make_host("b", log=other), f"{other.name}: is not the folder of offline log .* no log.json in it")
    assert not other.exists()
    with hw.FeatureStore(make_host("c")) as c:
        assert c.write("clicks", [row(3, 3)]).applied == 1


def test_a_host_that_was_there_before_the_folder_was_marked_does_not_roll_into_its_own(make_host, tmp_path):
    with hw.FeatureStore(make_host("a")) as a:
        a.apply([USER, clicks()])
        with hw.FeatureStore(make_host("b", log=tmp_path / "own-log")) as b:
            b.write("clicks", [row(1, 1)])  # the first of all: its folder is the log's now
            with pytest.raises(LogMismatch, match="is not the folder"):
                a.write("clicks", [row(2, 2)])
            b.materialize()
    assert list((tmp_path / "own-log").glob("*.parquet")) and not (tmp_path / "log").exists()


def test_a_folder_of_the_same_log_under_another_mark(make_host, tmp_path):
    with hw.FeatureStore(make_host("a")) as a:
        a.apply([USER, clicks()])
        a.write("clicks", [row(1, 1)])
    marked = (tmp_path / "log" / "log.json").read_text()
    other = tmp_path / "other"
    other.mkdir()
    (other / "log.json").write_text(marked.replace('"folder": "', '"folder": "x'))
    refused(make_host("b", log=other), "belongs to another folder")


def test_a_host_that_lacks_the_rolled_files_is_told_when_it_reads_history(make_host, tmp_path):
    with hw.FeatureStore(make_host("a")) as a:
        a.apply([USER, clicks()])
        a.write("clicks", [row(1, 1)])
        a.materialize()
    told = pytest.raises(StoreError, match="is missing; it held 1 row")
    with hw.FeatureStore(make_host("b", log=tmp_path / "elsewhere")) as b, told:
        b.get_historical_features(None, ["clicks:id"], at=datetime(2025, 1, 1, tzinfo=UTC)).to_arrow()


@pytest.mark.parametrize("folder", ["log", "other-log"])
def test_a_host_with_a_registry_of_its_own(make_host, postgres_server, tmp_path, folder):
    with hw.FeatureStore(make_host("a")) as a:
        a.apply([USER, clicks()])
        a.write("clicks", [row(1, 1)])
        a.materialize()
    database = postgres_server.make_database()
    host = make_host("b", log=tmp_path / folder, registry=postgres_server.url(database))
    with hw.FeatureStore(host) as b:
        b.apply([USER, clicks()])
        match = "the folder belongs to offline log" if folder == "log" else "holds the rows of offline log"
        with pytest.raises(LogMismatch, match=match):
            b.write("clicks", [row(2, 2)])
        with pytest.raises(LogMismatch, match=match):
            b.materialize()
    postgres_server.drop_database(database)


def test_rows_for_the_log_alone_need_no_online_store(make_host, tmp_path):
    host = make_host("a")
    with RedisServer(tmp_path / "redis") as server:
        with hw.FeatureStore(host, online=server.url) as a:
            a.apply([USER, clicks()])
        server.kill()
        with hw.FeatureStore(host, online=server.url) as a:
            assert a.write("clicks", [row(1, 1)], to="offline").applied == 1
            with pytest.raises(Unavailable):
                a.write("clicks", [row(1, 2)])
        server.start()
        with hw.FeatureStore(host, online=server.url) as a:
            a.materialize()
            assert a.get_online_features(["clicks:id"], [1]).to_dict() == {"user": [1], "id": [1]}
