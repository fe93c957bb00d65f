"""A project whose window views are computed by Spark: training sets, fills and reads."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.testing import SCALE
from tests.servers.spark import SAIL

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def sales(tmp_path, engine):
    """A table of Spark's: three days of sales of two shops."""
    hours = list(range(0, 72, 5))
    rows = pa.table(
        {
            "shop": pa.array([1 + i % 2 for i in hours], pa.int64()),
            "at": pa.array([NOON - timedelta(hours=h) for h in hours], pa.timestamp("us", "UTC")),
            "amount": pa.array([float(h) for h in hours]),
        }
    )
    pq.write_table(rows, tmp_path / "sales.parquet")
    session = engine.session().spark
    session.sql(f"CREATE TABLE default.sales_of_shops USING parquet LOCATION 'file://{tmp_path}/sales.parquet'")
    yield "SELECT * FROM default.sales_of_shops"
    session.sql("DROP TABLE default.sales_of_shops")


PLACES = ["redis", "memory:", "lmdb:online", "dynamodb"]


# how rows are put is the store's: each is beside one of both
@pytest.mark.parametrize("online", PLACES if SCALE > 1 else PLACES[1:] if SAIL else PLACES[:1])
def test_a_fill_from_spark_is_what_history_says(tmp_path, engine, sales, online, monkeypatch, request):
    """Executors make and put the rows, also where some are there already; rows in memory are this process's."""
    asked, url = [], online
    if online == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        url = server.url
    elif online == "dynamodb":
        url = request.getfixturevalue("dynamodb_server").url(timeout=30)
    each_key = engine.each_key
    monkeypatch.setattr(engine, "each_key", lambda *given: asked.append(given) or each_key(*given))
    shop = hw.Entity("shop", join_keys={"shop": hw.Int64})
    view = hw.FeatureView(
        "sales",
        entity=shop,
        source=hw.SQLSource(sales, event_time="at"),
        features=[
            hw.Aggregation("amount", "sum", "1d"),
            hw.Aggregation("amount", "max", "7d"),
            hw.Aggregation(None, "count", "7d"),
            hw.Aggregation("amount", "last_n", "7d", n=2),
        ],
        columns={"amount": hw.Float64},
    )
    with hw.FeatureStore(tmp_path, offline=engine, online=url, clock=lambda: NOON) as store:
        store.apply([shop, view])
        report = store.materialize()
        assert not report.failed, report
        online = store.get_online_features(["sales:*"], [1, 2, 3]).to_dict()
        history = store.get_historical_features(None, ["sales:*"], at=NOON).to_arrow().sort_by("shop")
        assert history.column("shop").to_pylist() == [1, 2]
        for name in history.column_names:
            assert online[name][:2] == history.column(name).to_pylist(), name
        assert online["rows_count_7d"] == [8, 7, 0]
        # a late event, and a delete
        assert len(asked) == (0 if url == "memory:" else 1)
        late = {"shop": 1, "at": NOON - timedelta(hours=1), "amount": 100.0}
        store.write("sales", pa.Table.from_pylist([late]))
        store.delete("sales", [2])
        store.materialize()
        spine = pa.table({"shop": pa.array([2, 1], pa.int64()), "timestamp": [NOON + timedelta(seconds=1)] * 2})
        history = store.get_historical_features(spine, ["sales:*"]).to_arrow()
        online = store.get_online_features(["sales:*"], [2, 1], now=NOON + timedelta(seconds=1)).to_dict()
        for name in history.column_names:
            if name != "timestamp":
                assert online[name] == history.column(name).to_pylist(), name
        assert online["rows_count_7d"] == [0, 9]
        store.materialize(["sales"], force=True)
        assert len(asked) == (0 if url == "memory:" else 2)
        again = store.get_online_features(["sales:*"], [2, 1], now=NOON + timedelta(seconds=1)).to_dict()
        assert again == online


def test_a_forced_run_makes_every_stored_row_what_history_says(tmp_path, engine):
    """Of keys whose events are gone, moved to other times, or not known yet, in each pair of ways."""
    ways = {
        "kept": NOON - timedelta(hours=1),
        "earlier": NOON - timedelta(days=5),
        "beyond the window": NOON - timedelta(days=40),
        "ahead": NOON + timedelta(hours=2),
        "gone": None,
    }
    cases = [(one, other) for one in ways for other in ways]
    before = [(shop, NOON - timedelta(hours=1 + i)) for shop in range(len(cases)) for i in range(2)]
    after = [(shop, ways[way]) for shop, case in enumerate(cases) for way in case if ways[way] is not None]

    def put(rows):
        shops, times = zip(*rows, strict=True)
        table = pa.table({"shop": pa.array(shops, pa.int64()), "at": pa.array(times, pa.timestamp("us", "UTC"))})
        pq.write_table(table, tmp_path / "visits.parquet")

    shop = hw.Entity("shop", join_keys={"shop": hw.Int64})
    visits = hw.FeatureView(
        "visits",
        entity=shop,
        source=hw.ParquetSource("visits.parquet", event_time="at"),
        features=[hw.Aggregation(None, "count", window) for window in ("7d", None)],
    )
    put(before)
    with hw.FeatureStore(tmp_path, offline=engine, online="lmdb:online", clock=lambda: NOON) as store:
        store.apply([shop, visits])
        store.materialize()
        put(after)
        store.materialize(force=True)
        shops = list(range(len(cases)))
        online = store.get_online_features(["visits:*"], shops).to_dict()
        spine = pa.table({"shop": shops, "timestamp": [NOON] * len(shops)})
        history = store.get_historical_features(spine, ["visits:*"])
        history = history.to_arrow().drop_columns(["timestamp"]).to_pydict()
        assert not [
            (c, cases[s], history[c][s], online[c][s]) for c in history for s in shops if history[c][s] != online[c][s]
        ]
