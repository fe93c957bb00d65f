"""Window views on Redis servers that drop rows when their memory is full, and on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater as hw
from headwater.errors import ConfigError, DefinitionError
from tests.servers.redis import RedisServer

USER = hw.Entity("user", join_keys={"user": hw.Int64})
SOURCE = hw.PushSource(event_time="at", schema={"amount": hw.Float64})
SPEND = hw.FeatureView(
    "spend", entity=USER, source=SOURCE, features=[hw.Aggregation("amount", "sum", "1h", name="sum")]
)
PLAIN = hw.FeatureView(
    "plain", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("level", hw.Int64)]
)
MEMORY = 100 << 20


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    redis_server.client.flushall()
    yield redis_server
    limit(redis_server, "noeviction", 0)


def limit(server: RedisServer, policy: str, memory: int = MEMORY) -> None:
    server.client.config_set("maxmemory", memory)
    server.client.config_set("maxmemory-policy", policy)


def test_a_redis_that_evicts_rows_is_refused_for_window_views_alone(server: RedisServer, tmp_path: Path) -> None:
    limit(server, "allkeys-lru")
    with hw.FeatureStore(tmp_path, online=server.url) as store:
        for refused in (store.plan, store.apply):
            with pytest.raises(DefinitionError, match=r" spend: .*maxmemory-policy allkeys-lru.*allow_eviction = true"):
                refused([USER, SPEND, PLAIN])
        store.apply([USER, PLAIN])
        store.prepare(["plain:level"])
        for policy, memory in (("volatile-lru", MEMORY), ("noeviction", MEMORY), ("allkeys-lru", 0)):
            limit(server, policy, memory)
            store.plan([USER, SPEND, PLAIN])
        store.apply([USER, SPEND, PLAIN])
        assert store.prepare(["spend:sum"]).read([1]).to_dict()["sum"] == [None]
        limit(server, "allkeys-lfu")
        store.prepare(["plain:level"])
        with pytest.raises(ConfigError, match=r"^spend: .*allkeys-lfu.*noeviction"):
            store.prepare(["plain:level", "spend:sum"])


def test_a_setting_allows_it(server: RedisServer, tmp_path: Path) -> None:
    limit(server, "allkeys-lru")
    (tmp_path / "headwater.toml").write_text("[online]\nallow_eviction = true\n")
    with hw.FeatureStore(tmp_path, online=server.url) as store:
        store.apply([USER, SPEND])
        store.prepare(["spend:sum"])


def test_a_plan_needs_no_server_that_answers(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path, online="redis://127.0.0.1:1/0") as store:
        assert store.plan([USER, SPEND]).stages
