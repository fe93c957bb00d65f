"""AsyncFeatureStore beside FeatureStore: the same results, the same errors."""

import asyncio
import gc
import threading
import warnings
from datetime import UTC, datetime, timedelta

import pytest

import headwater as hw
from headwater.compute.reading.follow import follow
from headwater.errors import EntityKeyError, SessionRequired, Unavailable, UsageError

NOW = datetime(2024, 1, 2, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "spend",
    entity=USER,
    source=hw.PushSource(event_time="at"),
    features=[hw.Feature("total", hw.Float64, default=-1.0), hw.Feature("city", hw.String)],
    ttl="12h",
    freshness_sla="1h",
)
ROWS = [
    {"user": i, "at": NOW - timedelta(minutes=40 * i), "total": float(i), "city": None if i == 3 else f"c{i}"}
    for i in range(30)
]


@pytest.fixture(params=["memory:", "lmdb:online", "redis"])
def sync(request, tmp_path):
    online = request.param
    if online == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        online = server.url
    store = hw.FeatureStore(tmp_path, online=online, clock=lambda: NOW)
    store.apply([VIEW])
    store.write("spend", ROWS)
    yield store
    store.close()


def run(coroutine):
    return asyncio.run(coroutine)


def on(sync, work):
    """Run something with an asynchronous store of its own event loop, whose client ends with it."""

    async def whole():
        store = hw.AsyncFeatureStore.of(sync)
        try:
            return await work(store)
        finally:
            await sync.services.async_clients.fetcher().reads.close()

    return asyncio.run(whole())


@pytest.mark.parametrize("kind", ["redis", "dynamodb"])
def test_one_store_on_several_event_loops_leaves_no_client_of_any_open(request, tmp_path, kind):
    server = request.getfixturevalue(f"{kind}_server")
    if kind == "redis":
        server.client.flushall()
    with hw.FeatureStore(tmp_path, online=server.url if kind == "redis" else server.url(), clock=lambda: NOW) as sync:
        sync.apply([VIEW])
        sync.write("spend", ROWS[:3])
        store = hw.AsyncFeatureStore.of(sync)
        readers = []

        async def read():
            if not readers:
                readers.append(await store.prepare(["spend:total"]))
            found = [await store.get_online_features(["spend:total"], [1]), await readers[0].read([1])]
            assert [one.to_dict()["total"] for one in found] == [[1.0], [1.0]]
            assert (await store.status()).reads is not None

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(3):
                asyncio.run(read())
                gc.collect()
            # two at once
            threads = [threading.Thread(target=lambda: asyncio.run(read())) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            gc.collect()
        assert [str(one.message) for one in told if issubclass(one.category, ResourceWarning)] == []

        async def close():
            await read()
            await store.close()
            with pytest.raises(Unavailable, match="was closed"):
                await readers[0].read([1], deadline="5s")

        asyncio.run(close())


READS = [
    {"entities": [3, 1, 99, 1, 29]},
    {"entities": {"user": list(range(30))}, "stale": "drop"},
    {"entities": [{"user": 2}], "max_age": "5m"},
    {"entities": [1, 2], "now": NOW + timedelta(days=3)},
    {"entities": [1], "consistency": "strong"},
    {"entities": []},
]


@pytest.mark.parametrize("asked", READS, ids=str)
def test_reads_give_what_the_synchronous_store_gives(sync, asked):
    async def read(store):
        reader = await store.prepare(["spend:*"])
        return [await store.get_online_features(["spend:*"], **asked), await reader.read(**asked)]

    expected = sync.get_online_features(["spend:*"], **asked)
    for found in on(sync, read):
        assert found.to_dict() == expected.to_dict()
        assert found.statuses == expected.statuses
        assert found.event_times == expected.event_times


@pytest.mark.parametrize(
    "asked, error",
    [
        ({"entities": ["x"]}, EntityKeyError),
        ({"entities": [1], "consistency": "session"}, SessionRequired),
        ({"entities": [1], "stale": "sometimes"}, UsageError),
        ({"entities": [1], "request": {"hour": 3}}, UsageError),
    ],
    ids=str,
)
def test_errors_are_the_same(sync, asked, error):
    async def read(store):
        await store.get_online_features(["spend:total"], **asked)

    with pytest.raises(error) as told:
        sync.get_online_features(["spend:total"], **asked)
    with pytest.raises(error) as told_too:
        on(sync, read)
    assert str(told.value) == str(told_too.value)


def test_everything_else_is_there_too(tmp_path):
    async def walk():
        async with hw.AsyncFeatureStore(tmp_path, clock=lambda: NOW) as store:
            assert (await store.plan([VIEW])).stages
            await store.apply([VIEW])
            session = store.session()
            report = await store.write("spend", ROWS, session=session)
            assert report.applied == 30
            await store.materialize()
            found = await store.get_online_features(["spend:total"], [1], consistency="session", session=session)
            assert found.to_dict()["total"] == [1.0]
            await store.delete("spend", [1], session=session)
            assert (await store.get_online_features(["spend:total"], [1])).to_dict()["total"] == [-1.0]
            history = await store.get_historical_features(None, ["spend:total"], at=NOW)
            table = await asyncio.to_thread(history.to_arrow)
            assert table.num_rows == 29
            assert "spend" in str(await store.status())
            return store

    store = run(walk())
    with pytest.raises(Unavailable, match="closed"):
        run(store.get_online_features(["spend:total"], [1]))


def test_many_reads_at_once_and_cancelled_ones(sync):
    async def reads(store):
        reader = await store.prepare(["spend:total"])
        tasks = [asyncio.create_task(reader.read([i % 30])) for i in range(200)]
        for task in tasks[::3]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        fresh = await reader.read([5])
        return found, fresh

    found, fresh = on(sync, reads)
    for i, result in enumerate(found):
        if i % 3:
            assert result.to_dict() == sync.get_online_features(["spend:total"], [i % 30]).to_dict()
        else:
            assert isinstance(result, asyncio.CancelledError)
    assert fresh.to_dict()["total"] == [5.0]


def test_an_event_loop_never_looks_at_the_registry(sync, monkeypatch):
    """Another reader saw that the registry changed: the look, and what follows from it, are a thread's all the same."""
    names = []

    def traced(*given):
        names.append(threading.current_thread().name)
        return follow(*given)

    monkeypatch.setattr("headwater.compute.reading.follow.follow", traced)

    async def reads(store):
        slow = await store.prepare(["spend:total"], registry_refresh="5m")
        fast = await store.prepare(["spend:total"], registry_refresh="0s")
        await slow.read([1])
        more = hw.FeatureView(
            "other", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)]
        )
        await asyncio.to_thread(sync.apply, [more])
        await fast.read([1])
        await slow.read([1])

    on(sync, reads)
    assert len(names) == 2 and threading.main_thread().name not in names


def test_kept_rows_and_shared_round_trips_by_settings(tmp_path):
    (tmp_path / "headwater.toml").write_text('[online]\ncache = "1m"\ncoalesce = true\n')
    with hw.FeatureStore(tmp_path, clock=lambda: NOW) as store:
        store.apply([VIEW])
        store.write("spend", ROWS)

        def total(**asked):
            return store.get_online_features(["spend:total"], [1], **asked).to_dict()["total"]

        assert total() == [1.0]
        store.write("spend", [{"user": 1, "at": NOW, "total": 7.0, "city": "x"}])
        assert total() == [1.0]
        assert total(consistency="strong") == [7.0]
