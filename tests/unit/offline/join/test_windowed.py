"""Window views in history beside other views: aliases, versions, spines of all kinds, cancelling, memory."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import Cancelled
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.join import windowed
from headwater.testing.window_history_suite import asked as suite_asked

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
AIRPORT = hw.Entity("airport", join_keys={"airport": hw.String})


def at(minutes):
    return NOON + timedelta(minutes=minutes)


def times(minutes):
    return pa.array([at(m) for m in minutes], pa.timestamp("us", "UTC"))


FLIGHTS = pa.table(
    {
        "airport": ["JFK", "JFK", "EWR", "JFK"],
        "landed": times([0, 30, 10, 50]),
        "told": times([0, 30, 10, 200]),
        "delay": pa.array([5, 7, None, 11], pa.int32()),
        "carrier": ["AA", "UA", "AA", "AA"],
    }
)


def delays(path, *more, version=None):
    return hw.FeatureView(
        "delays",
        entity=AIRPORT,
        version=version,
        source=hw.ParquetSource(str(path), event_time="landed", created_time="told"),
        features=[
            hw.Aggregation("delay", "sum", "1h"),
            hw.Aggregation("carrier", "last", None, name="carrier"),
            hw.Aggregation(None, "count", "1h", name="by_aa", where="carrier = 'AA'"),
            *more,
        ],
    )


@pytest.fixture
def store(tmp_path):
    pq.write_table(FLIGHTS, tmp_path / "flights.parquet")
    pq.write_table(pa.table({"airport": ["JFK"], "at": times([-5]), "temp": [40.5]}), tmp_path / "weather.parquet")
    weather = hw.FeatureView(
        "weather",
        entity=AIRPORT,
        source=hw.ParquetSource(str(tmp_path / "weather.parquet"), event_time="at"),
        features=[hw.Feature("temp", hw.Float64)],
    )
    with hw.FeatureStore(tmp_path, clock=lambda: at(600)) as store:
        store.apply([AIRPORT, weather, delays(tmp_path / "flights.parquet")])
        yield store


SPINE = pa.table(
    {
        "origin": ["JFK", "EWR", "LAX", "JFK"],
        "airport": ["EWR", "JFK", "JFK", "JFK"],
        "timestamp": times([40, 40, 90, 200]),
        "label": [1, 2, 3, 4],
    }
)


def test_beside_a_plain_view_and_under_an_alias(store, tmp_path):
    view = delays(tmp_path / "flights.parquet")
    result = store.get_historical_features(
        SPINE,
        [
            "weather:temp",
            "delays:delay_sum_1h",
            view.alias("from", join_key_map={"airport": "origin"})["carrier", "by_aa"],
        ],
        include=("status", "event_time"),
    )
    found = result.to_arrow()
    assert found.column_names == [
        *SPINE.column_names,
        *("temp", "temp__status", "weather__event_time"),
        *("delay_sum_1h", "delay_sum_1h__status", "delays__event_time"),
        *("from__carrier", "from__carrier__status", "from__by_aa", "from__by_aa__status", "from__event_time"),
    ]
    assert found.column("temp").to_pylist() == [None, 40.5, 40.5, 40.5]
    # the last flight is known at minute 200 alone, and lands beyond the hour before it
    assert found.column("delay_sum_1h").to_pylist() == [None, 12, 7, None]
    assert found.column("delay_sum_1h__status").to_pylist() == ["NULL", "PRESENT", "PRESENT", "NULL"]
    assert found.column("from__carrier").to_pylist() == ["UA", "AA", None, "AA"]
    assert found.column("from__by_aa").to_pylist() == [1, 1, 0, 0]
    assert found.column("delays__event_time").to_pylist() == [at(10), at(30), at(30), at(50)]
    assert result.metadata.views["delays"].matched == 4
    assert result.metadata.views["from"].matched == 3
    assert result.metadata.views["from"].no_row == 1
    assert "keys_1" in result.sql()


def test_spines_of_all_kinds(store, tmp_path):
    features = ["delays:delay_sum_1h", "delays:by_aa"]
    expected = store.get_historical_features(SPINE, features).to_arrow()
    pq.write_table(SPINE, tmp_path / "spine.parquet")
    path = tmp_path / "spine.parquet"
    for spine in (
        str(path),
        f"SELECT * FROM '{path}'",
        SPINE.to_pandas(),
        SPINE.to_pandas().astype({"label": "int32"}),
    ):
        found = store.get_historical_features(spine, features).to_arrow()
        assert found.select(features_of(features)).equals(expected.select(features_of(features)))
    assert len(store.get_historical_features(SPINE, features)) == 4
    # consumed again, it runs again
    result = store.get_historical_features(SPINE, features)
    assert result.to_arrow().equals(result.to_arrow())
    assert result.head(1).to_pylist() == expected.slice(0, 1).to_pylist()


def features_of(references):
    return [reference.split(":")[1] for reference in references]


def test_every_entity_at_an_instant_and_as_if_known(store):
    at_once = store.get_historical_features(None, ["delays:delay_sum_1h"], at=at(60)).to_arrow()
    assert sorted(zip(*(column.to_pylist() for column in at_once.columns), strict=True)) == [("EWR", None), ("JFK", 12)]
    late = store.get_historical_features(None, ["delays:delay_sum_1h"], at=at(60), as_known=False)
    assert dict(zip(*(column.to_pylist() for column in late.to_arrow().columns), strict=True)) == {
        "EWR": None,
        "JFK": 23,
    }
    assert late.metadata.as_known is False


def test_two_versions_at_once(store, tmp_path):
    store.apply([delays(tmp_path / "flights.parquet", hw.Aggregation("delay", "max", "1h"))])
    found = store.get_historical_features(
        SPINE, ["delays@1.0.0:delay_sum_1h", "delays@1.1.0:delay_sum_1h", "delays@1.1.0:delay_max_1h"], full_names=True
    ).to_arrow()
    assert found.column("delays__1.0.0__delay_sum_1h").equals(found.column("delays__1.1.0__delay_sum_1h"))
    assert found.column("delays__1.1.0__delay_max_1h").to_pylist() == [None, 7, 7, None]


def test_the_spine_that_is_the_event_log_is_warned_of(store):
    spine = pa.table({"airport": FLIGHTS["airport"], "timestamp": FLIGHTS["landed"]})
    result = store.get_historical_features(spine, ["delays:by_aa"], as_known=False)
    result.to_arrow()
    assert result.metadata.views["delays"].same_instant == 4
    assert "each row leaks into its own features" in " ".join(result.metadata.warnings)


def test_a_where_whose_column_is_missing_and_a_value_that_does_not_fit_name_the_place(store, tmp_path):
    pq.write_table(FLIGHTS.drop_columns(["carrier"]), tmp_path / "flights.parquet")
    with pytest.raises(hw.SourceError, match=r"view 'delays'.*no column 'carrier'"):
        store.get_historical_features(SPINE, ["delays:by_aa"]).to_arrow()


def numbers(size):
    random = np.random.default_rng(1)
    return pa.table(
        {
            "shop": pa.array(random.integers(0, 500, size), pa.int64()),
            "at": pa.array(1_700_000_000_000_000 + random.integers(0, 10**12, size), pa.timestamp("us", "UTC")),
            "n": pa.array(random.integers(-5, 9, size), pa.int64()),
        }
    )


def test_parts_and_answers_in_files_are_the_same(tmp_path):
    table, spine = numbers(30_000), numbers(3_000).rename_columns(["shop", "timestamp", "label"])
    wanted = [
        hw.Aggregation("n", "sum", "1h"),
        hw.Aggregation("n", "last_n", "1d", n=3),
        hw.Aggregation("n", "min", None),
    ]
    answers = []
    for limit in (None, "100MB"):
        engine = DuckDBEngine(memory_limit=limit, temp_folder=tmp_path / "temp")
        try:
            if limit is not None:
                engine._settings["memory_limit"] = limit
                windowed_part, windowed._PART = windowed._PART, 1 << 14
            answers.append(suite_asked(engine, spine, table, *wanted))
        finally:
            if limit is not None:
                windowed._PART = windowed_part
            engine.close()
    assert answers[0].equals(answers[1])
    assert answers[0].num_rows == 3_000


def test_it_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(windowed, "_PART", 1 << 11)
    steps = []
    engine = DuckDBEngine(temp_folder=tmp_path / "temp", observer=steps.append)
    try:
        spine = numbers(100).rename_columns(["shop", "timestamp", "label"])
        suite_asked(engine, spine, numbers(10_000), hw.Aggregation("n", "sum", "1h"))
    finally:
        engine.close()
    told = [step for step in steps if step.step == "windows of sales"]
    done = [step.done for step in told]
    assert len(done) > 5
    assert done == sorted(done)
    assert (told[-1].done, told[-1].total, told[-1].unit) == (100, 100, "%")
    assert [step.finished for step in told] == [False] * (len(told) - 1) + [True]


def test_it_is_cancelled_between_parts(tmp_path, monkeypatch):
    pq.write_table(numbers(50_000), tmp_path / "events.parquet")
    shop = hw.Entity("shop", join_keys={"shop": hw.Int64})
    source = hw.ParquetSource(str(tmp_path / "events.parquet"), event_time="at")
    view = hw.FeatureView("sales", entity=shop, source=source, features=[hw.Aggregation("n", "sum", "1h")])
    began, go_on = threading.Event(), threading.Event()
    answer = windowed.WindowJoin._answer

    def slow(self, *args):
        began.set()
        assert go_on.wait(60)
        return answer(self, *args)

    monkeypatch.setattr(windowed.WindowJoin, "_answer", slow)
    with hw.FeatureStore(tmp_path) as store:
        store.apply([shop, view])
        spine = numbers(100).rename_columns(["shop", "timestamp", "label"])
        result = store.get_historical_features(spine, ["sales:n_sum_1h"])
        raised = []

        def read():
            try:
                result.to_arrow()
            except Cancelled as bad:
                raised.append(bad)

        thread = threading.Thread(target=read)
        thread.start()
        assert began.wait(60)
        result.cancel()
        go_on.set()
        thread.join(60)
        assert len(raised) == 1


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_parts_are_answered_in_order_and_large_ones_alone(at_once):
    at_work, observed, lock = [], [], threading.Lock()

    def answer(part):
        with lock:
            at_work.append(part)
            observed.append((len(at_work), any(each.large for each in at_work)))
        np.sort(np.arange(100_000)[::-1])
        with lock:
            at_work.remove(part)
        return part.numbers.start

    parts = [windowed._Part(range(i, i + 1), None, None, i in (3, 4, 7)) for i in range(12)]
    found = list(windowed._answered(iter(parts), answer, at_once))
    assert [(part.numbers.start, number) for part, number in found] == [(i, i) for i in range(12)]
    assert all(number <= (1 if large else at_once) for number, large in observed)
