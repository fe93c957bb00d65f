"""A measurement of one's own store: what it finds, that it writes nothing, and that it keeps its bounds."""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

import headwater as hw
from headwater.advisor import measure as measuring
from headwater.advisor.comparator import FeatureStoreArchitectureComparator
from headwater.advisor.measure import measure
from headwater.advisor.measured_change import compare_measurements, differences
from headwater.advisor.measurement import NAME, MeasuredFigure, Measurement
from headwater.advisor.profiles import load
from headwater.advisor.timed import Pace, Stop, TookTooLong, within
from headwater.compute.settings import RefreshSettings
from headwater.errors import FeatureNotFound, FeatureViewNotFound, FormatError, StoreError, Unavailable, UsageError
from headwater.online.base import OnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from tests.forked import run_forked
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.waiting import at_most, wait_until

NOW = datetime.now(UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
ITEM = hw.Entity("item", join_keys={"item": hw.String})
QUICK = {"seconds": 0.4, "max_keys": 300}


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"user": i, "item": f"i{i % 50}", "at": NOW - timedelta(minutes=i), "x": 1.0 * i, **more} for i in range(count)
    ]


def view(name: str, count: int = 400, entity: hw.Entity = USER, **more: Any) -> hw.FeatureView:
    source = more.pop("source", None) or hw.TableSource(rows(count), event_time="at")
    features = [hw.Feature(f"{name}_x", hw.Float64, column="x")]
    return hw.FeatureView(name, entity=entity, source=source, features=features, **more)


def store_of(folder: Path, *definitions: Any, online: str | OnlineStore | None = None) -> hw.FeatureStore:
    store = hw.FeatureStore(folder, online=online)
    store.apply(definitions)
    store.materialize()
    return store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[hw.FeatureStore]:
    """A store on LMDB: stale rows, hints of them switched on, two views in a service and one by itself."""
    users, items = view("users", freshness_sla="1m"), view("items", entity=ITEM)
    alone = view("alone", 20)
    with store_of(folder, USER, ITEM, users, items, alone, hw.FeatureService("both", [users, items])) as store:
        settings = replace(store.context.settings, refreshing=RefreshSettings(requests=True))
        store.context = replace(store.context, settings=settings)
        yield store


def measured(context: Any, seconds: float, *sampled: str, **more: Any) -> Measurement:
    """A measurement that had time for every key, for history and each repeat: a busy host takes more seconds.

    Args:
        context: the store's.
        seconds: that it has at first.
        sampled: figures of single keys that have to be known.
        more: passed on.
    """
    while True:
        found = measure(context, seconds=seconds, **more)
        lacks = [features.name for features in found.features if not features.whole]
        for figure in found.figures:
            if "give it more seconds" in figure.unknown and (figure.name[:4] != "read" or figure.name in sampled):
                lacks += [figure.name] if figure.batch != 100 else []
            if figure.name == "read_p50_ms" and figure.repeats and len(figure.repeats) < measuring.REPEATS:
                lacks.append(figure.name)
        if not lacks or seconds > 60:
            return found
        seconds *= 2


@pytest.fixture(scope="module")
def found(store: hw.FeatureStore) -> Measurement:
    return measured(store.context, 1.6, "read_p99_ms", max_keys=300)


def known(found: Measurement, name: str, batch: int, of: str) -> MeasuredFigure:
    figure = found.figure(name, batch, of)
    assert figure is not None and figure.value is not None, found.figures
    return figure


# what it finds


def test_reads_at_both_batches_and_history_are_measured_on_keys_of_the_store(found: Measurement) -> None:
    for batch in (1, 100):
        p50, rate = (known(found, name, batch, "both") for name in ("read_p50_ms", "reads_per_second"))
        assert p50.value and rate.value and 0 < p50.value < 1e3 and rate.value > 1
        assert len(p50.repeats) == 5 and p50.samples >= 5
    p99, p50 = known(found, "read_p99_ms", 1, "both"), known(found, "read_p50_ms", 1, "both")
    assert p99.value and p50.value and p99.value >= p50.value and p99.samples >= 100
    history = known(found, "history_rows_per_second", 300, "both")
    assert history.value and history.value > 10 and history.samples == len(history.repeats)


def test_it_says_what_was_measured_and_by_which_keys(found: Measurement) -> None:
    (both,) = found.features
    assert (both.name, both.kind, both.columns, both.keys) == ("both", "service", 2, 300)
    assert both.versions == {"users": "1.0.0", "items": "1.0.0"}
    assert both.join_keys == {"user": "int64", "item": "string"}
    assert both.whole and both.looked_at == 400 + 50 and both.found == 1.0
    assert any("drawn at random" in line for line in found.how)


def test_it_says_where_it_was_measured(found: Measurement) -> None:
    assert found.machine.cpus >= found.machine.usable_cpus >= 1 and found.machine.processor
    assert found.versions["headwater"] and found.versions["duckdb"] and found.versions["python"].startswith("CPython")
    assert found.online["kind"] == "lmdb" and found.registry == "sqlite" and found.offline == "DuckDBEngine"
    assert found.at.tzinfo is not None and found.seconds > 0 and found.asked_seconds >= 1.6


def test_what_nobody_recorded_is_unknown(found: Measurement) -> None:
    figure = found.figure("freshness_minutes")
    assert figure is not None and figure.value is None and "record" in figure.unknown
    behind = known(found, "behind_minutes", 0, "users@1.0.0")
    assert behind.value is not None and 0 <= behind.value < 10


def test_the_materialization_rate_is_that_of_the_last_run_with_rows(tmp_path: Path) -> None:
    with store_of(tmp_path, USER, view("v", 5)) as store:
        rows, took = store.context.registry.last_runs()["v", "1.0.0"]
        figure = measure(store.context, seconds=0.2).figure("materialization_rows_per_second", 0, "v@1.0.0")
    assert rows == 5 and timedelta() < took < timedelta(minutes=1)
    assert figure is not None and figure.samples == 5 and figure.value == pytest.approx(5 / took.total_seconds())


def test_freshness_attained_is_what_refreshes_recorded(tmp_path: Path) -> None:
    with store_of(tmp_path, USER, view("v", 5)) as store:
        store.context.refresh_records.add({"newer": 2}, [("v", 30_000_000), ("v", 30_000_000)], now=1)
        figure = measure(store.context, seconds=0.2).figure("freshness_minutes")
    assert figure is not None and figure.value == pytest.approx(0.5) and figure.samples == 2


def test_each_live_view_is_measured_where_there_is_no_service(tmp_path: Path) -> None:
    with store_of(tmp_path, USER, *(view(name, 20) for name in "abcdef")) as store:
        found = measured(store.context, **QUICK)
    assert [features.name for features in found.features] == ["a", "b", "c", "d"]
    assert [note for note in found.notes if "'e'" in note or "'f'" in note]
    figure = found.figure("read_p50_ms", 100, "a")
    assert figure is not None and figure.value is None and "20 keys are too few" in figure.unknown


def test_features_can_be_named(store: hw.FeatureStore) -> None:
    assert measure(store.context, features="both", **QUICK).features[0].kind == "service"
    named = measure(store.context, features=["alone:alone_x"], **QUICK)
    assert (named.features[0].name, named.features[0].kind) == ("alone:alone_x", "features")
    with pytest.raises(FeatureNotFound, match="alone_x"):
        measure(store.context, features=["alone:alone_y"], **QUICK)


def test_keys_are_drawn_from_all_rows_alike(store: hw.FeatureStore) -> None:
    (target,) = measuring._Measuring(store.context, 1.0, 100, lambda _: None, Pace())._targets(
        store.registry.snapshot(), ["users:users_x"]
    )
    drawn = measuring.draw(store.context, target.reader.request.views[0], 100, 60.0, random.Random(1))
    users = [key for (key,) in drawn.keys]
    assert len(set(users)) == 100 and max(users) > 300 and users != sorted(users)


def test_a_view_without_a_key_is_measured(tmp_path: Path) -> None:
    source = hw.TableSource([{"at": NOW, "x": 1.0}], event_time="at")
    everywhere = hw.FeatureView("g", entity=[], source=source, features=[hw.Feature("x", hw.Float64)])
    with store_of(tmp_path, everywhere) as store:
        found = measured(store.context, **QUICK)
    assert found.features[0].keys == 1 and known(found, "read_p50_ms", 1, "g").value


def test_a_source_that_is_gone_leaves_history_unknown(tmp_path: Path) -> None:
    store_of(tmp_path, USER, view("v", 120)).close()
    with hw.FeatureStore(tmp_path) as other:  # a table lives in the process that had it
        found = measured(other.context, **QUICK)
    history = found.figure("history_rows_per_second", 120, "v")
    assert history is not None and history.value is None and "history cannot be read" in history.unknown
    assert known(found, "read_p50_ms", 100, "v").value


# read-only


def contents(folder: Path, store: hw.FeatureStore) -> dict[str, Any]:
    """All that is stored: files but for locks, the registry's tables, the online rows, the log's position."""
    held = ("lock.mdb", "-shm", "-wal")
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(held)
    }
    tables = sa.MetaData()
    with store.registry.engine.connect() as connection:
        tables.reflect(connection)
        registry = {name: [tuple(row) for row in connection.execute(sa.select(t))] for name, t in tables.tables.items()}
    online = sorted(store.context.online.scan(b""))
    return {"files": files, "registry": registry, "online": online, "log": store.context.log.head_position()}


def test_nothing_is_written(folder: Path, store: hw.FeatureStore) -> None:
    before = contents(folder, store)
    assert before["files"] and before["online"]
    queued = store.context.refresh_queue.counts(0)
    measure(store.context, **QUICK)
    assert contents(folder, store) == before
    assert store.context.refresh_queue.counts(0) == queued


def test_the_same_reads_would_have_noted_stale_rows(folder: Path, store: hw.FeatureStore) -> None:
    # that nothing is written, though rows are stale and hints are on, is the measurement's doing
    assert store.context.settings.refreshing.requests
    assert (
        measuring._Measuring(store.context, 1.0, 10, lambda _: None, Pace()).context.settings.refreshing.requests
        is False
    )


READ_ONLY = """
import os, sys
import headwater as hw
import headwater.online.stores.lmdb.store
from headwater.advisor.measure import measure

with hw.FeatureStore.in_memory([]) as warm:  # imports everything, which the other user may not
    warm.status()
if os.getuid() == 0:  # whom no permission stops
    os.setuid(12345)
with hw.FeatureStore(sys.argv[1]) as store:
    seconds = 1.5
    # as the message says, where the host is busy
    while seconds < 100:
        found = measure(store.context, seconds=seconds)
        if not any("give it more seconds" in figure.unknown for figure in found.figures) and found.features[0].whole:
            break
        seconds *= 2
for figure in (found.figure("read_p50_ms", 100, "v"), found.figure("history_rows_per_second", 150, "v")):
    print(figure.value or figure.unknown)
"""


def test_a_folder_that_nobody_may_write_is_measured() -> None:
    # pytest's own folder is closed to other users
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "rows.csv"
        table.write_text("user,at,x\n" + "".join(f"{i},{NOW.isoformat()},1.5\n" for i in range(150)))
        store_of(folder, USER, view("v", source=hw.CSVSource("rows.csv", event_time="at"))).close()
        for path in [*folder.rglob("*"), folder]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        said = run_forked([sys.executable, "-c", READ_ONLY, name])
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
    assert said.returncode == 0, said.stderr
    read, history = map(float, said.stdout.splitlines())
    assert read > 0 and history > 0


def test_a_user_of_redis_who_may_only_read_can_measure(redis_server: RedisServer, tmp_path: Path) -> None:
    client = redis_server.client
    client.flushall()
    client.acl_setuser(
        "looker", enabled=True, passwords=["+s3cret"], keys=["*"], categories=["+@read", "+@connection"],
        commands=["+info", "+eval_ro", "+evalsha_ro"],
    )  # fmt: skip
    store_of(tmp_path, USER, view("v", 250), online=redis_server.url).close()
    before = {key: client.dump(key) for key in client.scan_iter()}
    url = redis_server.url.replace("//", "//looker:s3cret@")
    with hw.FeatureStore(tmp_path, online=url) as store:
        found = measured(store.context, 1.0)
    client.acl_deluser("looker")
    assert {key: client.dump(key) for key in client.scan_iter()} == before
    assert known(found, "read_p50_ms", 1, "v").value and known(found, "reads_per_second", 100, "v").value
    assert found.online["kind"] == "redis" and b"s3cret" not in found.to_json()
    client.flushall()


# bounds


class SlowStore(MemoryOnlineStore):
    """Rows in this process, that take a while."""

    seconds = 0.0
    scan_seconds = 0.0

    def multi_get(self, keys: Any) -> Any:
        time.sleep(self.seconds)
        return super().multi_get(keys)

    def scan(self, prefix: bytes) -> Any:
        for pair in super().scan(prefix):
            time.sleep(self.scan_seconds)
            yield pair


def measuring_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "headwater-measure"]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[hw.FeatureStore, SlowStore]]:
    online = SlowStore()
    with store_of(tmp_path, USER, view("v", 300), online=online) as store:
        yield store, online


def test_load_is_bounded(slow: tuple[hw.FeatureStore, SlowStore]) -> None:
    store, _ = slow
    with at_most(3):
        found = measure(store.context, seconds=1.0, max_keys=100, pace=Pace(rows=1_000))
    # what is looked at, one warm-up, and of the half of a second for reads a repeat's last burst more
    assert found.reads <= 300 + 100 + 0.5 * 1_000 + 10 * 100


def test_reads_leave_half_of_the_time_to_others() -> None:
    pace = Pace()
    assert pace.rest(0.05, 10) == pytest.approx(0.05) and pace.rest(0.05, 2_000) == pytest.approx(0.05)
    assert pace.rest(0.01, 2_000) == pytest.approx(0.09)
    assert pace.over(0.05, 1) and pace.over(0.0, 1_000) and not pace.over(0.04, 999)


def test_a_slow_look_at_the_keys_ends_in_time_with_the_keys_found(slow: tuple[hw.FeatureStore, SlowStore]) -> None:
    store, online = slow
    online.scan_seconds = 0.02
    with at_most(2):
        found = measure(store.context, seconds=1.0)
    assert 1 <= found.features[0].keys < 50 and not found.features[0].whole


SLOW_SQL = """SELECT CAST(a.range % 100 AS BIGINT) AS "user", TIMESTAMPTZ '2024-01-01' AS at,
    CAST(sum(hash(a.range * b.range) % 7) AS DOUBLE) AS x FROM range(100) a, range(4000000000) b GROUP BY ALL"""


def test_a_history_that_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    with store_of(tmp_path, USER, view("v", 150)) as store:
        slow = store.context
        slow.sources.source_of = lambda version: hw.SQLSource(SLOW_SQL, event_time="at")
        with at_most(4):
            found = measure(slow, seconds=1.0)
        # of as many rows as there was time to find
        (history,) = (figure for figure in found.figures if figure.name == "history_rows_per_second")
        assert history.value is None and "takes longer than the 0." in history.unknown
        assert known(found, "read_p50_ms", 1, "v").value
        # the engine goes on to work, and closes at once
        slow.sources.source_of = lambda version: version.view.source
        with at_most(2):
            store.close()


@pytest.mark.parametrize("part", ["scan_seconds", "seconds", "history"])
def test_ctrl_c_ends_it_at_once(slow: tuple[hw.FeatureStore, SlowStore], part: str) -> None:
    store, online = slow
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))

    def source_of(version: Any) -> hw.SQLSource:
        if threading.current_thread().name == "headwater-measure" and not timer.is_alive():
            timer.start()
        return hw.SQLSource(SLOW_SQL, event_time="at")

    if part == "history":
        store.context.sources.source_of = source_of
    else:
        setattr(online, part, 0.05)
    with at_most(5), pytest.raises(KeyboardInterrupt):
        if part != "history":
            timer.start()
        measure(store.context, seconds=3.0 if part == "history" else 60.0)
    wait_until(lambda: not measuring_threads(), "the end of the work")
    online.seconds = 0.0
    assert store.get_online_features(["v:v_x"], [7]).to_dict()["v_x"] == [7.0]


def test_work_ends_in_time() -> None:
    assert within(1.0, lambda stop: 7) == 7
    woken = threading.Event()

    def waiting(stop: Stop) -> bool:
        stop.calls(woken.set)
        return woken.wait(60) and stop.is_set()

    assert within(0.05, waiting) is True
    with pytest.raises(KeyError):
        within(1.0, lambda stop: {}["x"])
    with pytest.raises(TimeoutError, match="its own"):
        within(1.0, lambda stop: (_ for _ in ()).throw(TimeoutError("its own")))

    ended = threading.Event()

    def deaf(stop: Stop) -> None:
        ended.wait(60)

    with pytest.raises(TookTooLong):
        within(0.05, deaf, patience=0.05)
    ended.set()


def test_what_ends_work_is_called_also_where_it_comes_late() -> None:
    stop, called = Stop(), []
    stop.calls(lambda: called.append("before"))
    stop.set()
    stop.calls(lambda: called.append("after"))
    assert called == ["before", "after"]


def test_work_that_is_stopped_took_too_long_whatever_its_engine_makes_of_it() -> None:
    def translated(stop: Stop) -> None:
        while not stop.is_set():
            time.sleep(0.01)
        raise StoreError("the engine was interrupted")

    with pytest.raises(TookTooLong):
        within(0.05, translated)


def test_a_join_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.parquet"
    query = "SELECT 1 AS user, TIMESTAMP '2024-01-01' AS at, CAST(sum(a.i * d.i) AS DOUBLE) AS x FROM n a, n b, n d"
    source = hw.SQLSource(query, tables={"n": hw.ParquetSource(str(numbers))}, event_time="at")
    pq.write_table(pa.table({"i": [1]}), numbers)
    with hw.FeatureStore(tmp_path) as store:
        store.apply([USER, view("slow", source=source)])
        store.materialize()
        pq.write_table(pa.table({"i": pa.array(range(20_000), pa.int64())}), numbers)
        ended = measure(store.context, **QUICK)
    (figure,) = [found for found in ended.figures if found.name == "history_rows_per_second"]
    assert figure.value is None and "takes longer than" in figure.unknown
    wait_until(lambda: not measuring_threads(), "the end of the join")


# errors


def test_bounds_that_mean_nothing_are_refused(store: hw.FeatureStore) -> None:
    for bad in ({"seconds": 0}, {"seconds": -1}, {"seconds": float("nan")}, {"max_keys": 0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            measure(store.context, **bad)


def test_a_store_with_nothing_registered_says_so(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path) as store, pytest.raises(FeatureViewNotFound, match="headwater apply"):
        measure(store.context)


def test_a_store_without_rows_says_so(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path) as store:
        store.apply([USER, view("v", 5)])
        with pytest.raises(StoreError, match=r"no rows of v, .*headwater materialize"):
            measure(store.context, **QUICK)
        store.materialize()
        store.delete("v", list(range(5)))
        with pytest.raises(StoreError, match="no rows of v"):
            measure(store.context, **QUICK)


def test_a_service_without_rows_is_left_out_beside_one_that_has_some(tmp_path: Path) -> None:
    full, empty = view("full", 20), view("empty", source=hw.PushSource(event_time="at"))
    services = [hw.FeatureService("a", [full]), hw.FeatureService("b", [empty])]
    with store_of(tmp_path, USER, full, empty, *services) as store:
        found = measure(store.context, **QUICK)
    assert [features.name for features in found.features] == ["a"]
    assert "service 'b' was not measured: no rows of empty" in found.notes


def test_a_store_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    port = free_port()
    with hw.FeatureStore(tmp_path, online=f"redis://127.0.0.1:{port}/0") as store:
        store.apply([USER, view("v")])
        with pytest.raises(Unavailable, match=str(port)):
            measure(store.context, **QUICK)


# saved, and entered as a profile


def test_a_saved_measurement_is_read_again(found: Measurement) -> None:
    assert Measurement.from_json(found.to_json()) == found
    assert json.loads(found.to_json()) == json.loads(json.dumps(found.to_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"{", "not a saved measurement"),
        (lambda data: b"\xff", "not a saved measurement"),
        (lambda data: b"[1]", "no 'format'"),
        (lambda data: data.replace(b'"format": 1', b'"format": 2'), "format 2, this headwater reads 1: upgrade"),
        (lambda data: data.replace(b'"max_keys": 300', b'"max_keys": "x"'), r"damaged: .*max_keys"),
    ],
)
def test_what_is_no_measurement_is_refused(found: Measurement, change: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Measurement.from_json(change(found.to_json()))


def test_it_is_a_profile_among_the_others(found: Measurement) -> None:
    profile = load(found.as_profile())[NAME]
    p99, rate = known(found, "read_p99_ms", 1, "both"), known(found, "reads_per_second", 1, "both")
    assert profile.serving_latency_p99_ms.low == pytest.approx(p99.value, rel=0.01)
    assert profile.throughput_qps.low == pytest.approx(rate.value, rel=0.01)
    assert profile.feature_freshness_minutes.open
    assert profile.source("serving_latency_p99_ms").startswith("measured: in one process on ")
    assert "not measured" in profile.source("lock_in") and "unknown" in profile.source("feature_freshness_minutes")
    assert profile.provides_online == ("lmdb",) and profile.components["online_store"] == "lmdb"
    answer = FeatureStoreArchitectureComparator(found.as_profile()).compare_architectures({"max_latency_ms": 50})
    assert NAME in answer.architecture_scores


def test_the_worst_of_several_services_enters_the_profile(found: Measurement) -> None:
    slower = MeasuredFigure("read_p99_ms", "other", 1, "ms", 321.0, (320.0, 322.0), 200)
    both = replace(found, figures=(*found.figures, slower))
    assert load(both.as_profile())[NAME].serving_latency_p99_ms.low == 321
    assert "(other)" in load(both.as_profile())[NAME].source("serving_latency_p99_ms")


# two measurements


def with_repeats(found: Measurement, *repeats: float, name: str = "read_p50_ms", batch: int = 1) -> Measurement:
    value = sum(repeats) / len(repeats)
    return replace(found, figures=(MeasuredFigure(name, "both", batch, "ms", value, repeats, 500),))


def test_a_change_is_told_from_noise(found: Measurement) -> None:
    first = with_repeats(found, 1.0, 1.1, 1.2, 1.1, 1.0)
    (slower,) = compare_measurements(first, with_repeats(found, 2.0, 2.1, 2.2, 2.1, 2.0))
    assert slower.change == pytest.approx(2.08 / 1.08 - 1) and (slower.beyond_noise, slower.better) == (True, False)
    (alike,) = compare_measurements(first, with_repeats(found, 1.15, 1.3, 1.3, 1.3, 1.3))
    assert (alike.beyond_noise, alike.better) == (False, None)
    (few,) = compare_measurements(first, with_repeats(found, 9.0))
    assert (few.beyond_noise, few.better) == (None, None) and few.change is not None
    (same,) = compare_measurements(first, first)
    assert (same.change, same.beyond_noise) == (0, False)


def test_a_higher_rate_is_better(found: Measurement) -> None:
    first, later = (with_repeats(found, *(n + i for i in range(5)), name="reads_per_second") for n in (100, 200))
    assert compare_measurements(first, later)[0].better is True
    assert compare_measurements(later, first)[0].better is False


def test_figures_of_other_batches_are_not_compared(found: Measurement) -> None:
    one, other = with_repeats(found, 1.0), with_repeats(found, 1.0, batch=50)
    rows = compare_measurements(one, other)
    assert [(row.earlier, row.later, row.change) for row in rows] == [(None, 1.0, None), (1.0, None, None)]


def test_what_else_changed_is_told(found: Measurement) -> None:
    assert differences(found, found) == ()
    later = replace(found, versions={**found.versions, "redis": "99"}, asked_seconds=500.0)
    told = differences(found, later)
    assert f"seconds asked: {found.asked_seconds}, then 500.0" in told and any(
        line.startswith("version of redis: ") for line in told
    )


def test_a_store_made_slower_is_found_slower(slow: tuple[hw.FeatureStore, SlowStore]) -> None:
    store, online = slow
    # slower by far more than a busy host makes any read
    longer = QUICK | {"seconds": 2.0}
    for _ in range(5):
        online.seconds = 0.0
        first = measure(store.context, **longer)
        online.seconds = 0.03
        later = measure(store.context, **longer)
        rows = {row.figure: row for row in compare_measurements(first, later)}
        row = rows["read_p50_ms, batch 1, v"]
        # repeats of a busy host are spread more widely: then both are measured again
        if row.beyond_noise:
            break
    assert row.change and row.change > 1 and (row.beyond_noise, row.better) == (True, False)
