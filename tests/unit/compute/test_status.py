"""What `status` says of freshness: whether the newest row online meets its view's SLA now."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import headwater as hw
from headwater.cli.status import _sla
from headwater.compute import status as statuses
from headwater.online.fetching.fetcher import ReadCounts
from tests.servers.redis import RedisServer

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
USER = hw.Entity("user", join_keys={"user": hw.Int64})


def store_of(*ages: timedelta, sla: str | None = "2h", event_time: str | None = "at") -> hw.FeatureStore:
    rows = [{"user": number, "at": NOON - age, "x": 1.0} for number, age in enumerate(ages)]
    source = hw.TableSource(rows or {"user": [], "at": [], "x": []}, event_time=event_time)
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)], freshness_sla=sla)
    store = hw.FeatureStore.in_memory([view], clock=lambda: NOON)
    store.materialize()
    return store


def told(store: hw.FeatureStore, now: datetime = NOON) -> tuple[datetime | None, bool | None, str]:
    with store:
        found = store.status(now)
    version = found.versions[0]
    return version.newest, version.fresh, "" if version.freshness_sla is None else _sla(version, found.now)


def test_the_newest_row_decides() -> None:
    assert told(store_of(HOUR, 5 * HOUR)) == (NOON - HOUR, True, "2h met (newest 1h)")
    assert told(store_of(2 * HOUR)) == (NOON - 2 * HOUR, True, "2h met (newest 2h)")
    assert told(store_of(HOUR), NOON + 2 * HOUR) == (NOON - HOUR, False, "2h missed (newest 3h)")


def test_nothing_is_said_without_an_sla_a_time_or_a_row() -> None:
    assert told(store_of(HOUR, sla=None)) == (None, None, "")
    assert told(store_of(HOUR, event_time=None)) == (None, None, "2h unknown")
    assert told(store_of()) == (None, None, "2h unknown")


def test_of_many_rows_only_a_newer_one_can_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "LOOKED_AT", 2)
    assert told(store_of(HOUR, HOUR, HOUR))[1:] == (True, "2h met (newest 1h)")
    assert told(store_of(3 * HOUR, 3 * HOUR, HOUR))[1:] == (None, "2h unknown (newest seen 3h)")


def test_what_was_deleted_is_no_row() -> None:
    store = store_of(HOUR, 5 * HOUR)
    store.delete("v", [0])
    assert told(store)[1:] == (False, "2h missed (newest 5h)")


async def _read_and_ask(folder: Path) -> ReadCounts:
    async with hw.AsyncFeatureStore(folder) as store:
        for _ in range(4):
            await store.get_online_features(["v:x"], [1, 2])
        return (await store.status()).reads


def test_reads_are_told_with_what_the_cache_and_shared_round_trips_saved(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.client.flushall()
    settings = f'[online]\nurl = "{redis_server.url}"\ncache = "1m"\ncoalesce = true\n'
    (tmp_path / "headwater.toml").write_text(f'project = "p"\n{settings}')
    source = hw.PushSource(event_time="at")
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)])
    with hw.FeatureStore(tmp_path) as store:
        store.apply([view])
        store.write("v", [{"user": 1, "at": NOON, "x": 1.0}])
        assert store.status().reads == ReadCounts()
        assert store.status().reads.hit_ratio is None
        for _ in range(4):
            store.get_online_features(["v:x"], [1, 2])
        assert store.status().reads == ReadCounts(6, 2, 1, 1)
        assert store.status().reads.hit_ratio == 0.75
    # one more: whose rows these are was not known
    assert asyncio.run(_read_and_ask(tmp_path)) == ReadCounts(6, 2, 2, 2)
