"""Window rows made and put by processes of an engine: each part by a function that was pickled, some of them twice."""

import pickle
import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import headwater as hw
from headwater.compute.materializing import window_sink
from headwater.compute.windows.history import WindowHistory
from headwater.errors import StoreError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.sink import Executors

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
PARTS = 4
SHOP = hw.Entity("shop", join_keys={"shop": hw.Int64})


class KeyEngine(DuckDBEngine):
    """The embedded engine, which deals keys to functions as if it had processes; every other one runs twice."""

    executors = Executors.LOCAL
    fails_after = None
    between = staticmethod(lambda: None)
    parts = 0

    def each_key(self, request, function, answer):
        packed, rows = pickle.dumps(function), pa.Table.from_batches(list(self.events(request)))
        part = pc.bit_wise_and(rows.column("shop"), PARTS - 1)
        for number in range(PARTS):
            if number == self.fails_after:
                raise StoreError("an executor was lost")
            own = rows.filter(pc.equal(part, number))
            for _ in range(1 + number % 2):
                said = list(pickle.loads(packed)(iter(own.to_batches(max_chunksize=7))))
                self.between()
            assert all(batch.schema == answer for batch in said)
            self.parts += 1
            yield from said


@pytest.fixture(params=["lmdb", "redis", "cluster", "dynamodb"])
def place(request, tmp_path):
    """The URL of an empty store that processes share."""
    if request.param == "lmdb":
        return f"lmdb:{tmp_path}/online"
    if request.param == "dynamodb":
        return request.getfixturevalue("dynamodb_server").url(timeout=30)
    server = request.getfixturevalue("redis_server" if request.param == "redis" else "redis_cluster")
    for node in [server] if request.param == "redis" else server.shards:
        node.client.flushall()
    return server.url


@pytest.fixture
def asked_here(monkeypatch):
    """The keys whose rows the run makes itself."""
    keys, before = set(), WindowHistory.rebuilt

    def rebuilt(self, version, request):
        keys.update(request.keys)
        return before(self, version, request)

    monkeypatch.setattr(WindowHistory, "rebuilt", rebuilt)
    return keys


def view_of(rows, *more, version="1.0.0"):
    return hw.FeatureView(
        "sales",
        entity=SHOP,
        source=hw.TableSource(rows, event_time="at", event_id="number"),
        features=[
            hw.Aggregation("amount", "sum", "1d"),
            hw.Aggregation("amount", "max", "2d"),
            hw.Aggregation(None, "count", "2d"),
            hw.Aggregation("amount", "last_n", None, n=3, where="amount > 0", name="recent"),
            *more,
        ],
        columns={"amount": hw.Float64},
        version=version,
    )


def project(tmp_path, engine, seed=0, url=None):
    chance = random.Random(seed)
    rows = [
        {
            "shop": chance.randrange(20),
            "at": NOON - timedelta(minutes=chance.randrange(5_000)),
            "amount": chance.choice([1.0, 2.5, -3.0, None]),
            "number": chance.choice([None, 1, 2, 3]),
        }
        for _ in range(300)
    ]
    schema = pa.schema(
        [("shop", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("amount", pa.float64()), ("number", pa.int64())]
    )
    sales = view_of(pa.Table.from_pylist(rows, schema))
    url = url or f"lmdb:{tmp_path}/online"
    store = hw.FeatureStore(tmp_path, offline=engine, online=url, clock=lambda: NOON)
    store.apply([SHOP, sales])
    late = [
        {
            "shop": chance.randrange(24),
            "at": NOON - timedelta(minutes=chance.randrange(900)),
            "amount": 7.0,
            "number": n,
        }
        for n in (None, 1, 9, None, 2)
    ]
    store.write("sales", pa.Table.from_pylist(late, schema))
    store.delete("sales", [3, 23, 40])
    return store


def check(store):
    """Assert that what is online is what history says, of keys without a row too."""
    keys = list(range(42))
    spine = pa.table({"shop": pa.array(keys, pa.int64()), "timestamp": [NOON + timedelta(seconds=1)] * len(keys)})
    history = store.get_historical_features(spine, ["sales:*"]).to_arrow()
    online = store.get_online_features(["sales:*"], keys, now=NOON + timedelta(seconds=1)).to_dict()
    for name in history.column_names:
        if name != "timestamp":
            assert online[name] == history.column(name).to_pylist(), name


def test_rows_made_by_processes_of_an_engine_are_what_history_says(tmp_path, place, monkeypatch, asked_here):
    """In a fill, and where rows are there already."""
    monkeypatch.setattr(window_sink, "AT_ONCE", 3)
    seed = len(place)
    with project(tmp_path, engine := KeyEngine(tmp_path), seed, place) as store:
        (filled,) = store.materialize().runs
        assert engine.parts == PARTS
        check(store)
        # deletes alone name these
        assert len(asked_here) <= 2
        store.write("sales", pa.table({"shop": [1, 30], "at": [NOON] * 2, "amount": [5.0, 6.0], "number": [50, 51]}))
        store.materialize()
        assert engine.parts == PARTS  # a run of a filled version is this process's
        check(store)
        asked_here.clear()
        (forced,) = store.materialize(["sales"], force=True).runs
        assert engine.parts == 2 * PARTS
        assert forced.rows >= filled.rows + 2
        assert len(asked_here) <= 3
        check(store)
    (tmp_path / "plain").mkdir()
    with project(tmp_path / "plain", DuckDBEngine(tmp_path / "plain"), seed) as store:
        assert store.materialize().runs[0].rows == filled.rows


@pytest.mark.parametrize("force", [False, True])
def test_what_is_written_while_they_put_is_not_lost(tmp_path, force):
    engine = KeyEngine(tmp_path)
    with project(tmp_path, engine) as store:
        number = iter(range(100, 200))

        def write():
            shops = [0, 1, 2, 5, 31]
            rows = {"shop": shops, "at": [NOON] * 5, "amount": [1.0] * 5, "number": [next(number) for _ in shops]}
            assert force <= (store.write("sales", pa.table(rows)).applied == len(shops))
            store.delete("sales", [2])
            if force:  # what was acknowledged is never gone again
                check(store)

        if force:
            store.materialize()
        engine.between = write
        store.materialize(["sales"], force=force)
        engine.between = lambda: None
        check(store)
        store.materialize()
        check(store)


def test_what_was_purged_stays_hidden_in_a_version_that_is_filled_anew(tmp_path):
    """The source still has the rows, and no row of the version names the key."""
    rows = pa.table({"shop": [5, 6, 7] * 3, "at": [NOON - timedelta(hours=1)] * 9, "amount": [1.0] * 9})
    rows = rows.append_column("number", pa.array(range(9), pa.int64()))
    engine = KeyEngine(tmp_path)
    with hw.FeatureStore(tmp_path, offline=engine, online=f"lmdb:{tmp_path}/online", clock=lambda: NOON) as store:
        store.apply([SHOP, view_of(rows)])
        store.materialize()
        store.delete("sales", [5, 6], purge=True)
        store.apply([view_of(rows, hw.Aggregation("amount", "min", "2d"), version="2.0.0")])
        store.materialize()
        assert engine.parts == 2 * PARTS
        online = store.get_online_features(["sales@2.0.0:rows_count_2d"], [5, 6, 7], now=NOON + timedelta(seconds=1))
        assert online.to_dict()["rows_count_2d"] == [0, 0, 3]


def test_a_fill_that_lost_its_processes_is_gone_on_with(tmp_path):
    engine = KeyEngine(tmp_path)
    engine.fails_after = 2
    with project(tmp_path, engine) as store:
        with pytest.raises(StoreError, match="an executor was lost"):
            store.materialize()
        read = store.get_online_features(["sales:rows_count_2d"], [0, 1])
        assert read.statuses["rows_count_2d"] == [hw.Status.UNAVAILABLE] * 2
        engine.fails_after = None
        store.materialize()
        check(store)
