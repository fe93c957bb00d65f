"""Window views through plan and registry: what completes them, what is refused, what makes a new version."""

import re
from datetime import UTC, datetime

import pyarrow as pa
import pytest

import headwater as hw
from headwater.definitions.fingerprint import ColumnFingerprints, fingerprint
from headwater.definitions.serialize import view_from_dict, view_to_dict
from headwater.definitions.source_checks import Read
from headwater.planning.advance import advance
from headwater.planning.diff import plan
from headwater.planning.resolve import resolve
from headwater.planning.row_reading import RowVersion
from headwater.planning.snapshot import RegistrySnapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CARRIER = hw.Entity("carrier", join_keys={"carrier": hw.String})
SCHEMA = {"delay": hw.Float64, "seats": hw.Int32, "kind": hw.String}
PUSHED = hw.PushSource(event_time="at", schema=SCHEMA)
FILE = hw.ParquetSource("arrivals.parquet", event_time="at")
MEAN = hw.Aggregation("delay", "mean", "7d")
SEATS = hw.Aggregation("seats", "max", "1d", default=0, description="of the day", tags={"a": "b"})
BIG = hw.Aggregation(None, "count", "1h", name="big", where="delay>10 and kind in ('a')")


def arrow(**more):
    columns = {"carrier": pa.string(), "at": pa.timestamp("us"), "delay": pa.float64(), "seats": pa.int32()}
    return pa.schema({**columns, "kind": pa.string(), **more})


def view(*features, source=PUSHED, **more):
    return hw.FeatureView("stats", entity=CARRIER, source=source, features=features or (MEAN, SEATS, BIG), **more)


def planned(snapshot, *definitions, schema=None):
    schemas = None if schema is None else lambda source: schema
    return plan(snapshot, definitions, schemas, whole_project=False, now=NOW)


def applied(*definitions, snapshot=None, schema=None):
    snapshot = snapshot or RegistrySnapshot("p")
    return advance(snapshot, planned(snapshot, *definitions, schema=schema).stages, now=NOW)


def problems(*definitions, schema=None):
    with pytest.raises(hw.DefinitionError) as refused:
        planned(RegistrySnapshot("p"), *definitions, schema=schema)
    return str(refused.value)


def test_the_source_says_what_its_columns_are():
    registered = applied(view(source=FILE), schema=arrow()).view("stats").version().view
    assert registered.columns == {"delay": hw.Float64, "seats": hw.Int32, "kind": hw.String}
    assert [(f.name, f.dtype) for f in registered.feature_list] == [
        ("delay_mean_7d", hw.Float64),
        ("seats_max_1d", hw.Int32),
        ("big", hw.Int64),
    ]
    assert registered.source_columns == registered.columns
    assert registered.feature("seats_max_1d").default == 0


def test_what_is_declared_counts_before_the_source():
    registered = applied(view(source=FILE, columns={"seats": hw.Int64}), schema=arrow()).view("stats").version().view
    assert registered.columns["seats"] == hw.Int64
    assert "columns= says int64" in problems(
        view(source=FILE, columns={"seats": hw.Int64}), schema=arrow(seats=pa.string())
    )


def test_rows_of_a_test_stand_for_the_source():
    rows = arrow(delay=pa.int64())
    snapshot = RegistrySnapshot("p")
    read = Read(rows, hw.TableSource(rows.empty_table(), event_time="at"))
    made = plan(snapshot, [view(MEAN)], lambda source: read, whole_project=False, now=NOW)
    assert advance(snapshot, made.stages, now=NOW).view("stats").version().view.columns == {"delay": hw.Float64}


def test_a_file_that_is_written_in_another_width_makes_no_version():
    latest = hw.Aggregation("seats", "last", "1d")
    snapshot = applied(view(latest, source=FILE), schema=arrow(seats=pa.int64()))
    assert not planned(snapshot, view(latest, source=FILE), schema=arrow(seats=pa.int32())).stages
    again = planned(snapshot, view(latest, source=FILE), schema=arrow(seats=pa.string()))
    assert "seats_last_1d: dtype: int64 → string" in str(again)
    assert "(major)" in str(again)


def test_a_source_that_cannot_be_read_leaves_what_is_registered():
    snapshot = applied(view(source=FILE), schema=arrow())

    def unreadable(source):
        raise hw.SourceError("no such file")

    made = plan(snapshot, [view(source=FILE)], unreadable, whole_project=False, now=NOW)
    assert not made.stages
    assert "cannot be read" in made.warnings[0]


@pytest.mark.parametrize(
    ("features", "more", "problem"),
    [
        ((MEAN, hw.Feature("x", hw.Int64)), {}, "'x' is a Feature and 'delay_mean_7d' an Aggregation"),
        ((MEAN,), {"ttl": "1d"}, "ttl: a window view takes none"),
        ((MEAN,), {"source": hw.PushSource(event_time=None, schema=SCHEMA)}, "needs events, whose source names its ev"),
        ((MEAN,), {"columns": {"dela": hw.Float64}}, "no aggregation reads 'dela'; they read delay; did you mean"),
        ((MEAN,), {"columns": {"delay": "float"}}, "columns: 'delay' is 'float'; give a dtype"),
        ((MEAN, MEAN), {}, "two aggregations are named 'delay_mean_7d'; give one of them name="),
        ((hw.Aggregation("dela", "mean", "7d"),), {}, "the source has no column 'dela'"),
        ((hw.Aggregation("kind", "mean", "7d"),), {}, "stats.kind_mean_7d: mean cannot take a column of String"),
        ((hw.Aggregation("delay", "mean", "7d", name="carrier"),), {}, "join key 'carrier' has this name"),
        ((hw.Aggregation(None, "count", "7d", name="n", where="delay >"),), {}, "stats.n: where: the condition ends"),
        ((hw.Aggregation(None, "count", "7d", name="n", where="kind > 1"),), {}, "kind is a text and 1 a number"),
        ((hw.Aggregation(None, "count", "7d", name="n", where="kin = 'a'"),), {}, "the source has no column 'kin'"),
        (
            (hw.Aggregation("created_time", "max", "1d"),),
            {"columns": {"created_time": hw.Timestamp}},
            "column 'created_time' is reserved for the created time of written rows",
        ),
        ((hw.Aggregation("delay", "mean", "30d", hop="5m"),), {}, "more than 1,024: set hop='1h'"),
        ((MEAN,), {"source": hw.PushSource(event_time="at")}, "nothing declares what column 'delay' holds: give PushS"),
        ((MEAN,), {"source": hw.CSVSource("a.csv", event_time="at")}, "nothing declares what column 'delay' holds: gi"),
    ],
)
def test_what_is_wrong_is_told_at_plan(features, more, problem):
    assert problem in problems(view(*features, **more))


@pytest.mark.parametrize(
    "options",
    [{"entity": None}, {"ttl": "soon"}, {"features": [hw.Aggregation("seats", "sum", "1d", default="z")]}],
    ids=["entity", "ttl", "default"],
)
def test_one_mistake_is_one_problem(options):
    given = {"entity": CARRIER, "features": [SEATS]} | options
    assert problems(hw.FeatureView("v", source=PUSHED, **given)).startswith("1 problem ")


def test_columns_are_for_window_views():
    plain = hw.FeatureView(
        "v", entity=CARRIER, source=PUSHED, features=[hw.Feature("delay", hw.Float64)], columns=SCHEMA
    )
    assert "columns: is for window views" in problems(plain)


def test_a_column_that_fits_no_dtype_is_declared():
    said = problems(view(SEATS, source=FILE), schema=arrow(seats=pa.uint64()))
    assert (
        "column 'seats' is uint64, which no dtype fits as it is: declare what it is read as, columns={'seats'" in said
    )
    assert "the dtype of column 'seats' is not known" in problems(
        view(SEATS, source=FILE), schema=arrow(seats=pa.null())
    )
    made = applied(view(SEATS, source=FILE, columns={"seats": hw.Int64}), schema=arrow(seats=pa.uint64()))
    assert made.view("stats").version().view.columns == {"seats": hw.Int64}


def test_a_view_is_read_back_as_it_was_stored():
    options = [
        hw.Aggregation("seats", "sum", "1d", over="kind", values=("a", "b c"), errors="null", default=-1),
        hw.Aggregation("delay", "quantile", "2d", hop="1h", offset="1d", q=1),
        hw.Aggregation("kind", "last_n", None, n=3, default=["x"]),
        hw.Aggregation("kind", "count_distinct", "1h", max_distinct=50),
    ]
    stored = applied(view(MEAN, SEATS, BIG, *options)).view("stats").version()
    data = view_to_dict(stored.view)
    again = view_from_dict(data)
    assert data["format"] == 3
    assert view_to_dict(again) == data
    assert fingerprint(again) == stored.fingerprint
    assert again.feature_list == stored.view.feature_list
    assert again.feature_names[3:5] == ("seats_sum_1d_a", "seats_sum_1d_b_c")


@pytest.mark.parametrize(
    "changed",
    [
        hw.Aggregation("delay", "sum", "7d", name="delay_mean_7d"),
        hw.Aggregation("seats", "mean", "7d", name="delay_mean_7d"),
        hw.Aggregation("delay", "mean", "6d", name="delay_mean_7d"),
        hw.Aggregation("delay", "mean", "7d", hop="2h"),
        hw.Aggregation("delay", "mean", "7d", offset="1d", name="delay_mean_7d"),
        hw.Aggregation("delay", "mean", "7d", where="seats > 1", name="delay_mean_7d"),
        hw.Aggregation("delay", "mean", "7d", default=1.5),
        hw.Aggregation("delay", "mean", None, name="delay_mean_7d"),
    ],
)
def test_what_makes_values_is_a_new_version(changed):
    snapshot = applied(view(MEAN, SEATS))
    made = planned(snapshot, view(changed, SEATS))
    (stage,) = made.stages
    assert stage.version == "2.0.0"
    before, after = snapshot.view("stats").version().column_fingerprints, ColumnFingerprints(stage.definition)
    assert before["delay_mean_7d"] != after["delay_mean_7d"]
    assert before["seats_max_1d"] == after["seats_max_1d"]


def test_what_makes_no_values_is_no_new_version():
    snapshot = applied(view())
    same = [
        hw.Aggregation(None, "count", "1h", name="big", where="(delay > 10) AND kind IN ('a')"),
        hw.Aggregation("delay", "mean", "168h", hop="1h", name="delay_mean_7d"),
        hw.Aggregation("seats", "max", "24h", default=0, description="other", tags={"c": "d"}),
    ]
    (stage,) = planned(snapshot, view(*same, description="x")).stages
    assert stage.version == "1.0.0"
    assert stage.details == (
        "description: none → x",
        "feature seats_max_1d: description: of the day → other",
        "feature seats_max_1d: tags: a=b → c=d",
    )
    stored, updated = snapshot.view("stats").version().view, stage.definition
    assert [made.where for made in updated.aggregations] == [made.where for made in stored.aggregations]
    assert updated.feature_names == stored.feature_names


def test_another_aggregation_is_a_minor_version_and_leaves_the_others():
    snapshot = applied(view(MEAN))
    (stage,) = planned(snapshot, view(MEAN, BIG)).stages
    assert (stage.version, stage.details[0]) == ("1.1.0", "feature big added (int64)")
    assert re.fullmatch(r"bytes per entity: about [\d.]+ KB at 100 events a day, at most [\d.]+ KB", stage.details[1])
    assert ColumnFingerprints(stage.definition)["delay_mean_7d"] == fingerprint_of(snapshot, "delay_mean_7d")
    (stage,) = planned(applied(view(MEAN, BIG)), view(MEAN)).stages
    assert (stage.version, stage.details[0]) == ("2.0.0", "feature big removed")


def fingerprint_of(snapshot, name):
    return snapshot.view("stats").version().column_fingerprints[name]


def test_a_view_object_means_the_version_with_its_aggregations():
    plain = view(source=FILE)
    snapshot = applied(plain, schema=arrow())
    request = resolve(snapshot, [plain])
    assert request.versions == {"stats": "1.0.0"}
    assert [column.name for column in request.columns] == ["delay_mean_7d", "seats_max_1d", "big"]
    snapshot = applied(view(BIG, source=FILE), snapshot=snapshot, schema=arrow())
    assert resolve(snapshot, [plain["big"]]).versions == {"stats": "1.0.0"}
    assert resolve(snapshot, [view(BIG, source=FILE)]).versions == {"stats": "2.0.0"}
    with pytest.raises(hw.VersionNotFound):
        resolve(snapshot, [view(MEAN, source=FILE)])
    with pytest.raises(hw.VersionNotFound):
        resolve(snapshot, [view(source=FILE, columns={"seats": hw.Int64})])


def test_a_service_of_a_view_object_means_the_version_that_is_applied_with_it():
    latest = hw.Aggregation("seats", "last", "1d")
    given = view(latest, source=FILE)
    snapshot = applied(given, hw.FeatureService("model", [given["seats_last_1d"]]), schema=arrow())
    given = view(latest, source=FILE)
    service = hw.FeatureService("model", [given["seats_last_1d"].rename({"seats_last_1d": "s"})])
    snapshot = applied(given, service, snapshot=snapshot, schema=arrow(seats=pa.string()))
    assert snapshot.service("model").versions["2.0.0"].selections[0].version == "2.0.0"


def test_the_layout_of_a_window_version():
    snapshot = applied(
        view(), hw.FeatureView("plain", entity=CARRIER, source=PUSHED, features=[hw.Feature("delay", hw.Float64)])
    )
    request = resolve(snapshot, ["stats:big", "plain:delay"])
    windows = request.views[0].windows
    assert [feature.name for feature in windows.features] == ["delay_mean_7d", "seats_max_1d", "big"]
    assert windows.conditions == ("delay > 10 AND kind IN ('a')",)
    assert request.views[1].windows is None
    assert RowVersion(request.views[0]).needs == {
        "at": (None,),
        "carrier": (hw.String,),
        "delay": (hw.Float64,),
        "seats": (hw.Int32,),
        "kind": (hw.String,),
    }
