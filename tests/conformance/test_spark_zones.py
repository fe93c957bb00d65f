"""Naive times of a zone in Spark's tables and spines are the instants that the rule in Python gives."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

import headwater as hw
from headwater.clock import FIRST_MICROS, LAST_MICROS, to_micros
from headwater.errors import SourceError, SpineError
from headwater.offline.engines.spark.words import WORDS
from headwater.offline.trees import column
from headwater.planning.local_time import local_times
from headwater.testing import RANDOM, SCALE, rounds
from headwater.testing.offline_checks import FEW
from tests.servers.spark import BRIEF, SAIL
from tests.spark_tables import placing

NAIVE, AWARE = pa.timestamp("us"), pa.timestamp("us", "UTC")
AT = datetime(2024, 3, 1, tzinfo=UTC)
DRIVER = hw.Entity("driver", join_keys={"driver": hw.Int64})
ZONES = [
    "America/New_York",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Apia",
    "+05:30",
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("name", ZONES if SAIL else ["America/New_York"])
def test_each_change_of_a_zone_is_where_the_rule_has_it(spark, name, later):
    """The local times around each change, by a microsecond and by hours, and the first and last of all."""
    zone = local_times(name, later=later)
    starts = zone.starts if SCALE > 1 else random.Random(name).sample(zone.starts, min(60, len(zone.starts)))
    near = [start + off for start in starts for off in (-3_600_000_000, -1, 0, 1, 1_800_000_000)]
    locals_ = [n for n in near if FIRST_MICROS < n < LAST_MICROS] + [FIRST_MICROS + 10**11, LAST_MICROS - 10**11, 0]
    instant, kind = WORDS.in_zone(column("n"), zone)
    values = exp.values([(n,) for n in (*locals_, None)], alias="v", columns=["n"])
    query = exp.select(column("n"), instant.as_("instant"), kind.as_("kind")).from_(values)
    found = {row[0]: (row[1], row[2]) for row in spark.sql(query.sql("spark", identify=True)).collect()}
    assert found.pop(None)[0] is None
    assert found == {n: zone.instant(n) for n in locals_}


@settings(FEW, max_examples=rounds(1, simplest=False))
@given(zone=st.sampled_from(ZONES), data=st.data(), not_the_simplest=RANDOM)
def test_a_table_and_a_spine_of_local_times_are_joined_as_their_instants_are(
    tmp_path_factory, engine, spark, zone, data, not_the_simplest
):
    times = st.datetimes(datetime(1900, 1, 1), datetime(2030, 1, 1), allow_imaginary=False)
    edges = [datetime(1970, 1, 1) + timedelta(microseconds=n) for n in local_times(zone, later=True).starts[1:]][-150:]
    near = st.builds(
        lambda at, off: at + timedelta(minutes=off),
        st.sampled_from(edges or [datetime(2011, 12, 30)]),
        st.integers(-70, 70),
    )
    rows = data.draw(st.lists(times | near, min_size=1, max_size=8), label="rows")
    asked = data.draw(st.lists(st.sampled_from(rows) | near, min_size=1, max_size=8), label="spine")
    table = pa.table(
        {"driver": pa.array([1] * len(rows)), "at": pa.array(rows, NAIVE), "km": [float(n) for n in range(len(rows))]}
    )
    spine = pa.table({"row": range(len(asked)), "driver": [1] * len(asked), "timestamp": pa.array(asked, NAIVE)})
    of_rows, of_spine = local_times(zone, later=True), local_times(zone, later=False)
    when = [of_rows.instant(to_micros(t)) for t in rows]
    spines = [of_spine.instant(to_micros(t)) for t in asked]
    folder = tmp_path_factory.mktemp("zones")
    with placing(folder, engine, spark) as place, hw.FeatureStore(folder, offline=engine) as store:
        name = f"zoned_{folder.name}".replace("-", "_")
        place(table, name)
        place(spine, f"{name}_s")
        source = hw.SparkSource(table=name, event_time="at", timezone=zone)
        store.apply(
            [
                DRIVER,
                hw.FeatureView(
                    "rides",
                    entity=DRIVER,
                    source=source,
                    features=[hw.Feature("km", hw.Float64), hw.Feature("when", hw.Timestamp, column="at")],
                ),
            ]
        )
        result = store.get_historical_features(
            f"SELECT * FROM {name}_s", ["rides:km", "rides:when"], timezone=zone, include="event_time"
        )
        found = result.to_arrow().sort_by("row")
    best = [max(((at, km) for km, (at, _) in enumerate(when) if at <= t), default=None) for t, _ in spines]
    assert found["km"].to_pylist() == [None if b is None else float(b[1]) for b in best]
    for name in ("when", "rides__event_time"):
        assert found[name].cast(pa.int64()).to_pylist() == [None if b is None else b[0] for b in best]
    warnings = " ".join(result.metadata.warnings)
    for kind, word in ((1, "repeats"), (2, "skips")):
        for what, changes in (("spine", spines), ("view 'rides'", when)):
            count = sum(change == kind for _, change in changes)
            assert (f"{what}: {count:,} naive times are in an hour that a clock change {word}" in warnings) == (
                count > 0
            )


@pytest.mark.one_in(2)
@pytest.mark.parametrize("micros", [LAST_MICROS + 1, FIRST_MICROS - 1])
@pytest.mark.parametrize("timezone", [None, "+05:30"])
@pytest.mark.parametrize("which", ["at", "made"])
def test_event_and_created_times_outside_of_the_years_1_to_9999_are_refused(
    tmp_path, engine, spark, micros, timezone, which
):
    rows = {"driver": pa.array([1]), "at": pa.array([0]), "made": pa.array([0]), "km": pa.array([1.0])}
    rows[which] = pa.array([micros + (19_800_000_000 if timezone else 0)])
    rows |= {name: rows[name].cast(NAIVE if timezone else AWARE) for name in ("at", "made")}
    with placing(tmp_path, engine, spark) as place, hw.FeatureStore(tmp_path, offline=engine) as store:
        place(pa.table(rows), "far_times")
        source = hw.SparkSource(table="far_times", event_time="at", created_time="made", timezone=timezone)
        store.apply(
            [DRIVER, hw.FeatureView("rides", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)])]
        )
        spine = pa.table({"driver": [1], "timestamp": [datetime(9999, 12, 31, tzinfo=UTC)]})
        with pytest.raises(SourceError, match=rf"view 'rides' .*'{which}'.* outside the years 1 to 9999"):
            if micros > 0:
                store.materialize()
            else:
                store.get_historical_features(spine, ["rides:km"]).to_arrow()


@pytest.mark.parametrize("timezone", ["Asia/Kolkata"] if BRIEF else [None, "Asia/Kolkata"])
def test_times_of_a_column_without_a_type_are_all_null(tmp_path, engine, timezone):
    """Spark's void; such a column is neither of a zone nor of none."""
    query = "SELECT CAST(1 AS BIGINT) AS driver, NULL AS at, CAST(1 AS DOUBLE) AS km"
    source = hw.SparkSource(query=query, event_time="at", timezone=timezone)
    with hw.FeatureStore(tmp_path, offline=engine) as store:
        store.apply(
            [DRIVER, hw.FeatureView("rides", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)])]
        )
        result = store.get_historical_features(pa.table({"driver": [1], "timestamp": [AT]}), ["rides:km"])
        assert result.to_arrow()["km"].to_pylist() == [None]
        assert "1 row" in " ".join(result.metadata.warnings)
        report = store.materialize()["rides"]
        assert report.keys == 0
        spine = "SELECT CAST(1 AS BIGINT) AS driver, NULL AS timestamp FROM (SELECT 1 AS x) AS y"
        with pytest.raises(SpineError, match="has no timestamp"):
            store.get_historical_features(spine, ["rides:km"], timezone=timezone).to_arrow()
