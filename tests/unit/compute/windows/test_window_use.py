"""Window views in daily use: repeated requests, sessions, durability, reads that refresh, the command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.cli import main
from headwater.compute.writing.repeated import delete_once, write_once
from headwater.errors import ConsistencyLost
from headwater.offline.log.requests import LEASE, Request
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.testing.window_project import BEGIN, KEYS, MINUTE, WindowProject
from tests.processes import PROCESSES
from tests.servers.headwater_server import HeadwaterServer
from tests.servers.redis import RedisReplicas, RedisServer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.String})
FEATURES = [
    hw.Aggregation("amount", "sum", "1h", name="spent"),
    hw.Aggregation(None, "count", None, name="visits"),
]
SPEND = hw.FeatureView(
    "spend",
    entity=USER,
    source=hw.PushSource(event_time="at", schema={"amount": hw.Float64}),
    features=FEATURES,
)
ASKED = ["spend:visits", "spend:spent"]


def visit(user: str, minutes: float = 0, amount: float = 1.0) -> dict[str, Any]:
    return {"user": user, "at": NOON - timedelta(minutes=minutes), "amount": amount}


def visits(store: Any, *users: str, **options: Any) -> list[int | None]:
    found: list[int | None] = store.get_online_features(ASKED, {"user": list(users)}, **options).to_dict()["visits"]
    return found


# requests that are sent again


def test_a_write_that_is_sent_again_over_http_counts_once(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path) as store:
        store.apply([USER, SPEND])
    at = datetime.now(UTC).isoformat()
    body = {"view": "spend", "rows": [{"user": "a", "at": at, "amount": 2.0}] * 2}
    read = {"features": ASKED, "entities": ["a"]}
    with HeadwaterServer(tmp_path, workers=2) as server:
        for n in range(4):
            status, answer, headers = server("POST", "/v1/features:write", body, {"Idempotency-Key": "one"})
            assert status == 200 and answer["applied"] >= 1 and ("idempotency-replayed" in headers) == bool(n)
            assert server("POST", "/v1/features:read", read)[1]["columns"]["visits"] == [2]
        # without a key each is two events more
        server("POST", "/v1/features:write", body)
        assert server("POST", "/v1/features:read", read)[1]["columns"]["visits"] == [4]


def request(key: str) -> Request:
    return Request("", sha256(key.encode()).digest(), b"")


def killed_at_the_put(folder: str, what: str, told: Connection) -> None:
    w = WindowProject.again(Path(folder), LMDBOnlineStore(Path(folder) / "rows"), BEGIN + MINUTE)

    def kill(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    w.online.compare_and_put_all = w.online.compare_and_put = kill  # type: ignore[method-assign]
    if what == "write":
        write_once(w.store.context, request("one"), "v", rows())
    else:
        delete_once(w.store.context, request("one"), "v", ["a"])
    told.send("not killed")


def rows() -> list[dict[str, Any]]:
    return [{"k": "a", "at": BEGIN, "seen": None, "id": None, "n": n, "kind": "a"} for n in (1, 2)]


@pytest.mark.parametrize("folds", [False, True], ids=["", "a run between"])
@pytest.mark.parametrize("what", ["write", "delete"])
def test_a_request_whose_worker_was_killed_between_log_and_put_counts_once(
    tmp_path: Path, what: str, folds: bool
) -> None:
    w = WindowProject(tmp_path, LMDBOnlineStore(tmp_path / "rows"))
    w.store.write("v", [rows()[0] | {"n": 7}])
    told_here, told = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=killed_at_the_put, args=(str(tmp_path), what, told), daemon=True)
    child.start()
    told.close()
    child.join(120)
    told_here.close()
    assert child.exitcode == -signal.SIGKILL
    head = w.store.context.log.head_position()
    w.clock += 2 * MINUTE
    if folds:
        w.clock += MINUTE
        w.store.materialize()
    do = (
        (lambda: write_once(w.store.context, request("one"), "v", rows()))
        if what == "write"
        else (lambda: delete_once(w.store.context, request("one"), "v", ["a"]))
    )
    w.clock += timedelta(microseconds=LEASE)
    for before in (False, True):
        _, done_before = do()
        assert done_before == before
        assert w.store.context.log.head_position() == head
        count = w.store.get_online_features(["v:of_a"], {"k": ["a"]}).to_dict()["of_a"]
        assert count == [3 if what == "write" else 0]
        assert w.check() == len(KEYS) and w.problems() == []
    w.store.close()
    w.online.close()


# sessions and durability


def test_a_session_reads_its_own_writes_and_deletes_from_replicas(
    redis_replicas: RedisReplicas, tmp_path: Path
) -> None:
    redis_replicas.primary.client.flushall()
    with hw.FeatureStore(tmp_path, online=redis_replicas.url, clock=lambda: NOON) as store:
        store.apply([USER, SPEND])
        session = store.session()
        for n in range(1, 20):
            report = store.write("spend", [visit("a", n)], session=session, durability=n % 3)
            assert report.durable
            for level in ("session", "monotonic_read"):
                assert visits(store, "a", "b", consistency=level, session=session) == [n, 0]
        store.delete("spend", ["a"], session=session)
        assert visits(store, "a", consistency="session", session=session) == [0]


def test_a_session_whose_store_lost_its_rows_is_told_and_then_reads_what_is_filled_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client.flushall()
    with hw.FeatureStore(tmp_path, online=redis_server.url, clock=lambda: NOON) as store:
        store.apply([USER, SPEND])
        session = store.session()
        store.write("spend", [visit("a", 1), visit("a", 2)], session=session)
        assert visits(store, "a", consistency="session", session=session) == [2]
        redis_server.client.flushall()
        with pytest.raises(ConsistencyLost) as lost:
            visits(store, "a", consistency="session", session=session)
        session = lost.value.session
        result = store.get_online_features(ASKED, {"user": ["a"]}, consistency="session", session=session)
        assert result.statuses["visits"] == [hw.Status.UNAVAILABLE] and "not filled" in result.problems["a"]
        store.materialize()
        assert visits(store, "a", consistency="session", session=store.session()) == [2]


def test_a_write_that_no_replica_confirms_is_applied_and_says_so(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.client.flushall()
    (tmp_path / "headwater.toml").write_text('[online]\ndurable_within = "50ms"\n')
    with hw.FeatureStore(tmp_path, online=redis_server.url, clock=lambda: NOON) as store:
        store.apply([USER, SPEND])
        report = store.write("spend", [visit("a")], durability=1)
        assert report.applied == 1 and not report.durable and visits(store, "a") == [1]


# reads that refresh


class Sourced:
    """A window view of Parquet files with an SLA of an hour, on a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.files = folder, NOON, 0
        (folder / "source").mkdir()
        self.grow(visit("a", 90), visit("b", 80))
        source = hw.ParquetSource(str(folder / "source"), event_time="at")
        self.view = hw.FeatureView("spend", entity=USER, source=source, features=FEATURES, freshness_sla="1h")
        self.store = hw.FeatureStore(folder, clock=lambda: self.now)
        self.store.apply([USER, self.view])
        self.store.materialize()

    def grow(self, *rows: dict[str, Any]) -> None:
        self.files += 1
        path = self.folder / "source" / f"{self.files}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows)), path)


@pytest.fixture
def sourced(tmp_path: Path) -> Iterator[Sourced]:
    made = Sourced(tmp_path)
    with made.store:
        yield made


@pytest.mark.parametrize("kind", ["store", "prepared", "asynchronous"])
def test_a_read_refreshes_stale_windows_of_its_keys_alone(sourced: Sourced, kind: str) -> None:
    sourced.now = NOON + timedelta(hours=2)
    sourced.grow(visit("a", -115), visit("b", -110))
    assert visits(sourced.store, "a", "b") == [1, 1]
    given: dict[str, Any] = {"stale": "refresh"}

    async def read() -> Any:
        async with hw.AsyncFeatureStore.of(sourced.store) as store:
            reader = await store.prepare(ASKED)
            return await reader.read({"user": ["a"]}, refresh_budget="20s", **given)

    if kind == "asynchronous":
        result = asyncio.run(read())
    else:
        reader = sourced.store.prepare(ASKED)
        result = reader.read({"user": ["a"]}, refresh_budget="20s", **given)
    assert (result.to_dict()["visits"], result.statuses["visits"]) == ([2], [hw.Status.PRESENT])
    if kind != "asynchronous":
        assert visits(sourced.store, "a", "b") == [2, 1]
        sourced.store.materialize()
        assert visits(sourced.store, "a", "b") == [2, 2]


def test_entities_without_events_and_those_that_are_fresh_are_not_recomputed(sourced: Sourced) -> None:
    reader = sourced.store.prepare(ASKED)
    refresher = reader.services.refresher
    entities = {"user": ["a", "b", "never", None]}
    assert reader.read(entities, stale="refresh", max_age="3h").to_dict()["visits"] == [1, 1, 0, None]
    sourced.now = NOON + timedelta(hours=2)
    assert reader.read({"user": ["never", None]}, stale="refresh").to_dict()["visits"] == [0, None]
    assert refresher.runs == 0
    sourced.grow(visit("b", -110))
    # nothing newer of a: it is flagged, and left alone for a while
    for _ in range(2):
        result = reader.read(entities, stale="refresh", refresh_budget="20s")
        assert result.to_dict()["visits"] == [1, 2, 0, None]
        assert result.statuses["visits"][:2] == [hw.Status.STALE, hw.Status.PRESENT]
    assert refresher.runs == 1


def test_a_worker_refreshes_what_stale_reads_ask_for(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text("[freshness]\nrefresh = true\n")
    made = Sourced(tmp_path)
    with made.store as store:
        made.now = NOON + timedelta(hours=2)
        made.grow(visit("a", -115), visit("b", -110))
        assert visits(store, "a", "never") == [1, 0]
        store.flush_refresh_requests()
        store.worker().run(once=True)
        assert visits(store, "a", "b", "never") == [2, 1, 0]


# the command


def test_the_command_over_a_window_view(sourced: Sourced, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*line: str) -> Any:
        capsys.readouterr()
        code = main([*line, "--project", str(sourced.folder), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, out + err
        return json.loads(out)

    def visited() -> dict[str, Any]:
        (row,) = run("get", "--features", ",".join(ASKED), "--key", "user=a")["rows"]
        found: dict[str, Any] = row["features"]["visits"]
        return found

    sourced.store.close()
    assert (visited()["value"], visited()["status"]) == (1, "STALE")
    assert "spend" in json.dumps(run("status"))
    assert "visits" in json.dumps(run("show", "spend"))
    assert not run("verify")["damaged"]
    sourced.grow(visit("a", 10))
    (done,) = run("materialize")["runs"]
    assert done["view"] == "spend"
    assert visited()["value"] == 2
