"""A server whose Redis dies, stands still and comes back, and whose versions change, under load."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import headwater as hw
from tests.servers.headwater_server import HeadwaterServer
from tests.servers.redis import RedisServer
from tests.servers.waiting import wait_until

USER = hw.Entity("user", join_keys={"user": hw.Int64})
AT = datetime(2026, 1, 1, tzinfo=UTC)
READ = {"features": ["events:n"], "entities": [1, 2], "include": ["statuses", "versions"], "deadline_ms": 300}


def events(*more: hw.Feature) -> hw.FeatureView:
    return hw.FeatureView(
        "events", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64), *more]
    )


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", persistence="aof") as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, redis: RedisServer) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "headwater.toml").write_text(f'[online]\nurl = "{redis.url}"\n')
    with hw.FeatureStore(folder) as store:
        store.apply([events()])
        store.write("events", [{"user": user, "at": AT, "n": 10 * user} for user in (1, 2)])
    return folder


@contextmanager
def load(server: HeadwaterServer) -> Iterator[Counter[str]]:
    """Reads all the time, and what their answers were; each within its bound."""
    seen: Counter[str] = Counter()
    wrong: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                status, answer, headers = server("POST", "/v1/features:read", READ, timeout=20)
            except (OSError, http.client.HTTPException) as bad:
                wrong.append(bad)
                return
            if time.monotonic() - began > 15:
                wrong.append(f"{time.monotonic() - began:.1f} s")
            if status == 200:
                values, statuses = answer["columns"]["n"], answer["statuses"]["n"]
                right = {(10, "PRESENT"), (20, "PRESENT"), (None, "UNAVAILABLE")}
                if not set(zip(values, statuses, strict=True)) <= right:
                    wrong.append(answer)
                seen["right" if statuses[0] == "PRESENT" else "unavailable"] += 1
            elif status == 503 and headers["retry-after"] and "online store" in answer["detail"]:
                seen["refused"] += 1
            else:
                wrong.append((status, answer))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]


def ready(server: HeadwaterServer) -> int:
    return server("GET", "/readyz", timeout=20)[0]


@pytest.mark.parametrize("stands_still", [False, True], ids=["killed", "stands still"])
def test_redis_goes_and_comes_back(project: Path, redis: RedisServer, stands_still: bool) -> None:
    with HeadwaterServer(project, workers=2) as server, load(server) as seen:
        wait_until(lambda: seen["right"] > 10, "answers")
        (redis.pause if stands_still else redis.kill)()
        wait_until(lambda: ready(server) == 503, "a server that says that it is not ready")
        assert server("GET", "/healthz")[0] == 200
        wait_until(lambda: seen["refused"] + seen["unavailable"] > 5, "clear errors", 60)
        (redis.unpause if stands_still else redis.start)()
        wait_until(lambda: ready(server) == 200, "a server that is ready again", 60)
        before = seen["right"]
        wait_until(lambda: seen["right"] > before + 10, "answers again", 60)


def test_versions_change_under_load_and_every_answer_is_right(project: Path) -> None:
    with HeadwaterServer(project, workers=2) as server, load(server) as seen, hw.FeatureStore(project) as store:
        wait_until(lambda: seen["right"] > 5, "answers")
        store.apply([events(hw.Feature("m", hw.Int64))], promote=True)
        store.write("events", [{"user": user, "at": AT, "n": 10 * user, "m": 1} for user in (1, 2)])
        store.materialize()
        version = store.get_feature_view("events").version

        def served() -> set[str]:
            return {server("POST", "/v1/features:read", READ)[1]["versions"]["events"] for _ in range(6)}

        wait_until(lambda: served() == {version}, "the new version")
        store.rollback("events")
        wait_until(lambda: served() == {"1.0.0"}, "the old version")
