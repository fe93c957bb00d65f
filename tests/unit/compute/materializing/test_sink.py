"""A run's rows put by processes of an engine: what is sent there, when it puts nothing, and which stores it reaches."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import headwater as hw
from headwater.clock import system_clock, to_micros
from headwater.compute.context import RUN
from headwater.compute.materializing import sink as sink_module
from headwater.compute.materializing.shared_lease import MARGIN, SharedLease, margin, store_time
from headwater.compute.materializing.sink import OnlineSink, sink_of
from headwater.compute.online_location import OnlineLocation
from headwater.errors import ConfigError
from headwater.offline.sink import COUNTS, Executors, PutCounts, Puts, Shape, counts_of
from headwater.online.meta import pack_run_ends, run_ends, token_key
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from tests.executors import ExecutorEngine

NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
ROWS = pa.table({"user": [1, 2, None, 3], "at": [NOW - timedelta(hours=1)] * 4, "x": [1.0, 2.0, 3.0, None]})
VIEW = hw.FeatureView(
    "activity",
    entity=USER,
    source=hw.TableSource(ROWS, event_time="at"),
    features=[hw.Feature("x", hw.Float64)],
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hw.FeatureStore]:
    with hw.FeatureStore(tmp_path, online=f"lmdb:{tmp_path}/online", clock=lambda: NOW) as store:
        store.apply([USER, VIEW])
        yield store


def version(store: hw.FeatureStore) -> ResolvedView:
    record = store.context.registry.refresh().view("activity")
    return whole_view(record, record.version())


def begun(store: hw.FeatureStore, lasts: int = 60_000_000) -> tuple[OnlineSink, SharedLease]:
    """The sink of a run, and what lets it put."""
    context = store.context
    context.online.epoch(token_key(context.project))
    (token,) = context.online.multi_get([token_key(context.project)])
    lease = SharedLease(context, version(store))
    lease.write(store_time(context.online) + lasts)
    sink = sink_of(context, version(store), lease, token or b"", 0)
    assert sink is not None
    return sink, lease


def batch(**columns: list[float | None]) -> pa.RecordBatch:
    rows = {
        "user": [1, 2, None],
        "__event": [5, 5, 5],
        "__created": [5, 5, 5],
        "__origin": [0] * 3,
        "__position": [0] * 3,
    }
    schema = {"user": pa.int64(), "__event": pa.int64(), "__created": pa.int64(), "__origin": pa.int8()}
    schema |= {"__position": pa.int64(), "x": pa.float64()}
    return pa.RecordBatch.from_pydict({**rows, "x": [1.0, 2.0, 3.0], **columns}, schema=pa.schema(schema))


def test_what_is_sent_is_small_and_has_no_row_of_the_source(store: hw.FeatureStore) -> None:
    sink, _ = begun(store)
    sent = pickle.dumps(Puts(Shape.of(version(store)), sink))
    assert len(sent) < 3_000 and b"headwater.offline.engines" not in sent
    assert pickle.loads(sent) == Puts(Shape.of(version(store)), sink)
    assert "secret" not in repr(replace(sink, location=OnlineLocation("redis://me:secret@host/0", Path())))


def test_counts_of_a_part_come_back_with_its_ties(store: hw.FeatureStore) -> None:
    sink, _ = begun(store)
    assert sink.put([batch()]) == PutCounts(keys=2, applied=2)
    assert sink.put(iter([batch(), batch(x=[9.0, 2.0, 3.0])])).keys == 4
    counts = sink.put([batch(x=[9.0, 2.0, 3.0])])
    assert (counts.keys, counts.applied, counts.superseded, counts.stopped) == (2, 1, 0, "")
    assert counts.tied is not None
    assert counts.tied.to_pylist() == [{"user": 1, "__event": 5, "__created": 5}]
    assert sink.put([]) == PutCounts()
    puts = Puts(Shape((("user", hw.Int64),), (("x", hw.Float64),)), sink)
    query = {"event": [5], "created": [5], "position": [None], "k0": [7], "f0": [1.5]}
    types = pa.schema({n: pa.float64() if n == "f0" else pa.int64() for n in query})
    (answer,) = puts(iter([pa.RecordBatch.from_pydict(query, schema=types)]))
    assert answer.schema == COUNTS and list(counts_of(answer)) == [PutCounts(keys=1, applied=1)]
    (answer,) = puts(iter([]))
    assert list(counts_of(answer)) == [PutCounts()]


def test_rows_are_put_some_at_a_time(store: hw.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "ROWS", 2)
    sizes = [
        part.num_rows for part in sink_module._pieces([batch(), batch().slice(0, 1), batch(), batch().slice(0, 0)])
    ]
    assert sum(sizes) == 7 and max(sizes) == 2


def test_nothing_is_put_near_the_end_of_the_lease_nor_after_the_run(store: hw.FeatureStore) -> None:
    sink, lease = begun(store, lasts=MARGIN + 30_000_000)
    lease.write(store_time(store.context.online) + MARGIN - 1)
    assert sink.put([batch()]).stopped == "the run's lease was not renewed"
    lease.write(store_time(store.context.online) + MARGIN + 30_000_000)
    assert sink.put([batch()]).applied == 2
    lease.remove()
    counts = sink.put([batch()])
    assert (counts.keys, counts.stopped) == (0, "the run has ended")
    assert margin(600_000_000) == 10_000_000 and margin(3_000_000) == 1_000_000


def test_ends_of_several_runs_stand_side_by_side_and_those_that_are_over_go(store: hw.FeatureStore) -> None:
    online = store.context.online
    _, one = begun(store)
    _, other = begun(store)
    (data,) = online.multi_get([one.key])
    assert set(run_ends(data)) == {one.run, other.run} and one.key == other.key
    one.write(store_time(online) - 1)
    other.write(store_time(online) + 10_000_000)
    (data,) = online.multi_get([one.key])
    assert set(run_ends(data)) == {other.run}
    other.remove()
    other.remove()
    assert online.multi_get([one.key]) == [None]
    assert pack_run_ends({}) is None and run_ends(b"\xff damaged") == {}


def test_another_store_under_the_same_url_is_not_written_to(store: hw.FeatureStore, tmp_path: Path) -> None:
    sink, _ = begun(store)
    elsewhere = replace(sink, location=OnlineLocation(f"lmdb:{tmp_path}/other", tmp_path))
    counts = elsewhere.put([batch()])
    assert counts.keys == 0 and "is not the online store that the run began with" in counts.stopped
    assert (
        "cannot open the online store"
        in replace(sink, location=OnlineLocation("nowhere:x", tmp_path)).put([batch()]).stopped
    )


def test_a_store_with_a_clock_of_its_own_is_asked_for_the_time(redis_server) -> None:  # type: ignore[no-untyped-def]
    with_clock = RedisOnlineStore(redis_server.url)
    with_clock.clock = lambda: NOW
    assert abs(store_time(with_clock) - to_micros(system_clock())) < 60_000_000
    with_clock.close()


def test_a_host_whose_clock_is_wrong_puts_for_as_long_as_the_lease_lasts(
    redis_server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    redis_server.client.flushall()
    with hw.FeatureStore(tmp_path, online=redis_server.url, clock=lambda: NOW) as store:
        store.apply([USER, VIEW])
        sink, lease = begun(store)
        for wrong in (timedelta(days=1), timedelta(days=-1)):
            monkeypatch.setattr(RedisOnlineStore, "clock", staticmethod(lambda wrong=wrong: system_clock() + wrong))
            assert sink.put([batch()]).applied == 2
        lease.write(store_time(store.context.online) + MARGIN - 1)
        assert sink.put([batch()]).stopped == "the run's lease was not renewed"


def test_a_run_leaves_its_lease_to_what_is_under_way(tmp_path: Path) -> None:
    engine = ExecutorEngine(tmp_path, 2)
    with hw.FeatureStore(tmp_path, online="lmdb:online", offline=engine) as store:
        store.apply([USER, VIEW])
        (run,) = store.materialize().runs
        assert (run.keys, run.applied, run.null_keys) == (3, 3, 1)
        (lease,) = store.context.leases.running(RUN)
        assert timedelta(seconds=0) < lease.expires_at - datetime.now(UTC) <= timedelta(seconds=30)
        assert store.get_online_features(["activity:x"], [1, 3]).to_dict()["x"] == [1.0, None]
    engine.close()


@pytest.mark.parametrize("given", [False, True])
def test_a_store_of_this_process_is_put_into_from_this_process(tmp_path: Path, given: bool) -> None:
    """`memory:`, or a store that was given as an object."""
    engine = ExecutorEngine(tmp_path)
    online = LMDBOnlineStore(tmp_path / "online") if given else "memory:"
    with hw.FeatureStore(tmp_path, online=online, offline=engine, clock=lambda: NOW) as store:
        store.apply([USER, VIEW])
        assert store.materialize().runs[0].applied == 3 and engine.ran == 0
    engine.close()


@pytest.mark.parametrize("online", ["lmdb:online", "memory:"])
def test_a_store_on_this_machine_is_refused_where_the_engine_is_not(tmp_path: Path, online: str) -> None:
    engine = ExecutorEngine(tmp_path, where=Executors.REMOTE)
    with hw.FeatureStore(tmp_path, online=online, offline=engine) as store:
        with pytest.raises(ConfigError, match="computes on others"):
            store.plan([USER, VIEW])
        engine.where = Executors.LOCAL
        store.apply([USER, VIEW])
        engine.where = Executors.REMOTE
        with pytest.raises(ConfigError, match="computes on others"):
            store.materialize()
    engine.close()
