"""History with its log: versions, deletes, a position that is fixed at the call."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.errors import DefinitionError, FeatureNotFound, SpineError, UsageError
from headwater.offline.join.result import HistoryResult
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather

TEMP = hw.Feature("temp", hw.Float64, column="temp_f", default=-1.0)
WIND = hw.Feature("wind", hw.Float64)
HOUR = timedelta(hours=1)


def join(bench: Bench, features: Any, *keys: str, at: Any = None, **options: Any) -> HistoryResult:
    when = at or bench.at
    spine = pa.table({"airport": list(keys), "timestamp": pa.array([when] * len(keys), pa.timestamp("us", "UTC"))})
    bench.registry.refresh()
    return historical(bench.context, spine, features, **options)


def temps(bench: Bench, *keys: str, feature: str = "weather:temp", **options: Any) -> list[Any]:
    found: list[Any] = join(bench, [feature], *keys, **options).to_arrow().column(feature.partition(":")[2]).to_pylist()
    return found


def test_source_and_log_together(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR), row("B", 1.0, T0 - HOUR)]
    bench.apply(AIRPORT, weather(features=[TEMP]))
    bench.write("weather", [row("A", 2.0, T0 - 30 * timedelta(minutes=1)), row("C", 3.0)], to="offline")
    assert temps(bench, "A", "B", "C", "D") == [2.0, 1.0, 3.0, -1.0]
    # an event of earlier, known only at its arrival
    assert temps(bench, "A", at=T0 - timedelta(minutes=10)) == [1.0]
    assert temps(bench, "A", at=T0 - timedelta(minutes=10), as_known=False) == [2.0]
    bench.context.log.roll()
    bench.write("weather", [row("A", 4.0)])
    assert temps(bench, "A", "B", "C") == [4.0, 1.0, 3.0]


def test_a_result_is_fixed_to_its_position(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(features=[TEMP]))
    bench.write("weather", [row("A", 1.0)])
    result = join(bench, ["weather:temp"], "A")
    bench.write("weather", [row("A", 2.0)])
    bench.context.log.roll()
    assert result.to_arrow().column("temp").to_pylist() == [1.0]
    bench.delete("weather", ["A"])
    assert result.to_arrow().column("temp").to_pylist() == [1.0]
    assert temps(bench, "A") == [-1.0]


def test_deletes_and_purges_hide_from_their_time_on(bench: Bench) -> None:
    bench.rows["weather"] = [row(key, 1.0, T0 - HOUR) for key in "ABC"]
    bench.apply(AIRPORT, weather(features=[TEMP]))
    bench.delete("weather", ["A"])
    bench.delete("weather", ["B"], purge=True)
    bench.pass_time(seconds=1)
    assert temps(bench, "A", "B", "C") == [-1.0, -1.0, 1.0]
    assert temps(bench, "A", "B", "C", as_known=False) == [-1.0, -1.0, 1.0]
    assert temps(bench, "A", "B", "C", at=T0 - timedelta(seconds=1)) == [1.0, 1.0, 1.0]
    bench.pass_time(seconds=1)
    bench.write("weather", [row("A", 5.0), row("B", 6.0)])
    assert temps(bench, "A", "B") == [5.0, 6.0]


def test_each_version_takes_the_rows_that_it_can(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(features=[TEMP]))
    bench.write("weather", [row("A", 1.0)])
    newer = weather(features=[TEMP, WIND])
    bench.apply(newer)
    bench.pass_time(seconds=1)
    bench.write("weather", [row("B", 2.0, wind=9.0), row("A", 3.0)])
    assert temps(bench, "A", "B") == [3.0, 2.0]
    assert temps(bench, "A", "B", feature="weather@1.1.0:temp") == [-1.0, 2.0]
    found = join(bench, [newer], "A", "B").to_arrow()
    assert found.column("wind").to_pylist() == [None, 9.0]
    with pytest.raises(FeatureNotFound, match=r"weather@1\.1\.0:wind"):
        join(bench, ["weather:wind"], "A")


def test_dtypes_that_changed_between_versions(bench: Bench) -> None:
    def count(dtype: Any) -> hw.FeatureView:
        return hw.FeatureView(
            "c", entity=AIRPORT, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", dtype)]
        )

    bench.apply(AIRPORT, count(hw.Int32))
    bench.write("c", [{"airport": "A", "at": T0, "n": 1}])
    bench.apply(count(hw.Int64))
    bench.write("c", [{"airport": "B", "at": T0, "n": 2}, {"airport": "C", "at": T0, "n": 2**40}])
    bench.apply(count(hw.Float32))
    bench.write("c", [{"airport": "D", "at": T0, "n": 0.1}])
    keys = ["A", "B", "C", "D"]
    assert temps(bench, *keys, feature="c@1.0.0:n") == [1, 2, None, None]
    assert temps(bench, *keys, feature="c@2.0.0:n") == [1, 2, 2**40, None]
    third = temps(bench, *keys, feature="c@3.0.0:n")
    assert third[:3] == [1.0, 2.0, None] and third[3] == pytest.approx(0.1, abs=1e-7)  # 2**40 does not fit a Float32
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        bench.context.versions.promote("c", version, watermarks={}, now=bench.at, force=True)
        bench.materialize(f"c@{version}")
        assert bench.values("c:n", keys) == pytest.approx(temps(bench, *keys, feature=f"c@{version}:n"))


def test_float32_and_float64_versions_share_the_log(bench: Bench) -> None:
    def measure(dtype: Any) -> hw.FeatureView:
        return hw.FeatureView(
            "m", entity=AIRPORT, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", dtype)]
        )

    bench.apply(AIRPORT, measure(hw.Float32))
    bench.apply(measure(hw.Float64))
    assert bench.write("m", [{"airport": "A", "at": T0, "n": 0.1}]).skipped == 0
    assert temps(bench, "A", feature="m@2.0.0:n") == [0.1]
    assert temps(bench, "A", feature="m@1.0.0:n")[0] == pytest.approx(0.1, abs=1e-7)


def test_every_known_entity_at_an_instant(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR), row("B", 2.0, T0 + HOUR)]
    bench.apply(AIRPORT, weather(features=[TEMP]))
    bench.write("weather", [row("C", 3.0)])
    bench.registry.refresh()
    found = historical(bench.context, None, ["weather:temp"], at=bench.at).to_arrow()
    assert sorted(zip(found.column("airport").to_pylist(), found.column("temp").to_pylist(), strict=True)) == [
        ("A", 1.0),
        ("C", 3.0),
    ]


def test_prepare_checks_its_arguments(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.registry.refresh()
    bench.open(settings='[freshness]\nfunction = "exponential"\nhalf_life = "1h"\n')
    reader = bench.reader(["weather:temp"])
    bench.write("weather", [row("A", 1.0)])
    assert reader.read(["A"], now=T0 + HOUR).freshness() == {"weather": [0.5]}
    with pytest.raises(UsageError):
        bench.reader(["weather"])


@pytest.mark.parametrize("empty", [[], {}])
def test_an_empty_list_stands_in_for_a_source(empty: Any) -> None:
    view = hw.FeatureView(
        "weather",
        entity=AIRPORT,
        source=hw.ParquetSource("none.parquet", event_time="at", created_time="known"),
        features=[hw.Feature("temp", hw.Float64, default=1.5)],
    )
    with hw.FeatureStore.in_memory([AIRPORT, view], sources={"weather": empty}, clock=lambda: T0) as store:
        history = store.get_historical_features([{"airport": "JFK", "timestamp": T0}], ["weather:temp"])
        assert history.to_arrow()["temp"].to_pylist() == [1.5]


@pytest.mark.parametrize("features", [None, 5])
def test_what_is_no_list_of_features(bench: Bench, features: Any) -> None:
    with pytest.raises(UsageError, match="a list such as"):
        join(bench, features, "A")


def test_spines_and_instants_that_cannot_mean_anything(tmp_path: Path) -> None:
    spine = pa.table({"airport": ["A"], "timestamp": [T0]})
    twice = pa.Table.from_arrays([*spine.columns, spine["airport"]], names=["airport", "timestamp", "airport"])
    rows = [row("A", 1.0, T0)]
    with hw.FeatureStore.in_memory([AIRPORT, weather()], sources={"weather": rows}, clock=lambda: T0) as store:
        with pytest.raises(UsageError, match="include='stat': write 'status' or 'event_time'; did you mean 'status'"):
            store.get_historical_features(spine, ["weather:temp"], include=("stat",))
        odd = spine.append_column("odd", pa.array([(1, 2, 3)], pa.month_day_nano_interval()))
        with pytest.raises(UsageError, match="month_day_nano_interval; cast that column"):
            store.get_historical_features(odd, ["weather:temp"]).to_parquet(tmp_path / "out.parquet")
        assert not list(tmp_path.iterdir())
        with pytest.raises(SpineError, match="2 columns named 'airport'"):
            store.get_historical_features(twice, ["weather:temp"])
        with pytest.raises(UsageError, match="'yesterday' is not a time"):
            store.get_historical_features(spine.select(["airport"]), ["weather:temp"], at="yesterday")
        offset = spine.set_column(1, "timestamp", spine["timestamp"].cast(pa.timestamp("us", "+05:30")))
        assert store.get_historical_features(offset, ["weather:temp"]).to_polars()["timestamp"].to_list() == [T0]


def test_calls_that_cannot_mean_anything() -> None:
    rows = [row("A", 1.0, T0)]
    wrong: Any = 5
    with hw.FeatureStore.in_memory([AIRPORT, weather()], sources={"weather": rows}, clock=lambda: T0) as store:
        store.materialize()
        calls: list[Callable[[], Any]] = [
            lambda: store.materialize(wrong),
            lambda: store.materialize(start="x"),
            lambda: store.prepare(["weather:temp"], registry_refresh="x"),
            lambda: store.get_online_features(["weather:temp"], ["A"], session=wrong),
            lambda: store.write("weather", rows, session=wrong),
            lambda: store.delete("weather", ["A"], session=wrong),
            lambda: store.get_online_features(["weather:temp"], ["A"]).to_numpy(dtype="foo"),
            lambda: store.get_online_features(["weather:temp"], ["B"]).to_numpy(dtype="int64", missing=float("nan")),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                call()
        with pytest.raises(DefinitionError, match="a list of entities"):
            store.plan(wrong)
        assert store.delete("weather", []).deleted == 0
        assert store.get_online_features({"weather:temp"}, ["A"]).to_dict()["temp"] == [1.0]
        source = replace(weather(), source=wrong)
        with pytest.raises(DefinitionError, match="must be a source"):
            hw.FeatureStore.in_memory([AIRPORT, source], sources={"weather": rows})
