"""Window views as users meet them: the catalog, the command, JSON over HTTP, and what is refused."""

import json
from datetime import UTC, datetime

import pytest

import headwater as hw
from headwater.cli import main
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.serving.openapi import document
from headwater.wire.catalog import aggregation_document, view_document, view_in

NOW = datetime(2026, 1, 31, 2, 37, tzinfo=UTC)
DEFINITIONS = """
import headwater as hw

carrier = hw.Entity("carrier", join_keys={"carrier": hw.String})
arrivals = hw.PushSource(event_time="at", schema={"delay": hw.Float64, "kind": hw.String})
stats = hw.FeatureView(
    "stats", entity=carrier, source=arrivals, freshness_sla="1h",
    features=[
        hw.Aggregation("delay", "mean", "7d", description="in minutes"),
        hw.Aggregation(None, "count", "1h", name="late", where="delay>10 and kind in ('a')"),
        hw.Aggregation("kind", "last_n", None, n=3, default=["x"], name="kinds", tags={"a": "b"}),
        hw.Aggregation(None, "rate", "1d", offset="7d"),
    ])
"""


def definitions():
    names = {}
    exec(DEFINITIONS, names)  # the same text as the project's file
    return [names["stats"]]


@pytest.fixture
def store():
    with hw.FeatureStore.in_memory(definitions(), clock=lambda: NOW) as made:
        yield made


def test_the_catalog_says_what_is_computed(store):
    info = store.get_feature_view("stats")
    assert info.columns == [
        ("delay_mean_7d", hw.Float64, "mean of delay over 7d; in minutes"),
        ("late", hw.Int64, "count of rows over 1h, where delay > 10 AND kind IN ('a')"),
        ("kinds", hw.Array(hw.String), "last 3 of kind over a lifetime"),
        ("rows_rate_1d_before_7d", hw.Float64, "count a second of rows over 1d before 7d ago"),
    ]
    assert info.output_schema.names == ["carrier", "delay_mean_7d", "late", "kinds", "rows_rate_1d_before_7d"]
    assert "<td>mean of delay over 7d; in minutes</td>" in info._repr_html_()
    found = store.registry.get_feature_definition("stats:late")
    assert found.transformation_logic == "count of rows over 1h, where delay > 10 AND kind IN ('a'), every 5m"
    assert found.dependencies == ("push:delay", "push:kind")
    assert found.source_query == "SELECT carrier, at, delay, kind FROM push"
    assert store.registry.get_feature_definition("stats:rows_rate_1d_before_7d").dependencies == ("push:at",)


def test_a_view_is_the_same_on_the_other_side_of_http(store):
    info = store.get_feature_view("stats")
    document = json.loads(json.dumps(view_document(info)))
    assert document["features"][1]["aggregation"] == {
        "column": None,
        "function": "count",
        "window": "1h",
        "hop": "5m",
        "where": "delay > 10 AND kind IN ('a')",
    }
    there = view_in(document)
    assert there.columns == info.columns
    assert there.features == info.features
    assert [aggregation_document(made) for made in there.aggregations] == [
        feature["aggregation"] for feature in document["features"]
    ]
    assert [(made.feature_name, made.default, dict(made.tags)) for made in there.aggregations][2] == (
        "kinds",
        ["x"],
        {"a": "b"},
    )


def test_a_plain_view_says_nothing_of_aggregations():
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("e", join_keys={"k": hw.String}),
        source=hw.PushSource(event_time="at"),
        features=[hw.Feature("x", hw.Float64)],
    )
    with hw.FeatureStore.in_memory([view]) as plain:
        document = view_document(plain.get_feature_view("v"))
    assert "aggregation" not in document["features"][0]
    assert view_in(document).aggregations == ()


def test_an_example_of_a_write_has_the_columns_of_the_source(store):
    made = document(store.list_feature_views(), keys=False)
    example = made["paths"]["/v1/features:write"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert [*example["rows"][0]] == ["carrier", "delay", "kind", "at"]


def test_the_command_explains_windows(tmp_path, capsys):
    (tmp_path / "features.py").write_text(DEFINITIONS)
    (tmp_path / "headwater.toml").write_text('project = "p"\ndefinitions = ["features.py"]\n')
    assert main(["plan", "--project", str(tmp_path)]) == 0
    assert "bytes per entity: about " in capsys.readouterr().out
    assert main(["apply", "--project", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["show", "stats", "--json", "--project", str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["columns"] == {"delay": "float64", "kind": "string"}
    assert 0 < shown["bytes_per_entity"]["typical"] < shown["bytes_per_entity"]["largest"]
    first = shown["features"][0]
    assert first["computes"] == "mean of delay over 7d"
    assert first["counts_now"].endswith(":00, 7 days before, to now; late ones count when known")
    assert first["aggregation"] == {"column": "delay", "function": "mean", "window": "7d", "hop": "1h"}
    assert main(["show", "stats", "--project", str(tmp_path)]) == 0
    assert "late ones count when known" in capsys.readouterr().out
    assert main(["show", "stats:late", "--project", str(tmp_path)]) == 0


def test_rows_of_a_window_view_go_to_the_log(store):
    with pytest.raises(hw.UsageError, match=r"'stats' is a window view: .* write to='both'"):
        store.write("stats", [{"carrier": "AA", "at": NOW, "delay": 1.0, "kind": "a"}], to="online")
    with pytest.raises(hw.RowsRejected) as refused:
        store.write("stats", [{"carrier": "AA", "at": NOW, "delay": 1.0}], to="offline")
    assert "no column 'kind' (read by an aggregation)" in str(refused.value)
    with pytest.raises(hw.RowsRejected) as refused:
        store.write("stats", [{"carrier": "AA", "at": NOW, "delay": 1, "kind": "a", "late": 3}], to="offline")
    assert "'late': that feature is computed from events; write the source's columns: 'delay', 'kind'" in str(
        refused.value
    )


def test_a_store_or_engine_without_windows_is_refused_at_plan(tmp_path):
    class Plain(MemoryOnlineStore):
        capabilities = MemoryOnlineStore.capabilities.__class__(MemoryOnlineStore.capabilities.levels)

    class NoWindows(DuckDBEngine):
        windows = False

    refusing = hw.FeatureStore(tmp_path, online=Plain(), offline=NoWindows())
    with refusing, pytest.raises(hw.DefinitionError) as refused:
        refusing.plan(definitions())
    assert "NoWindows cannot compute window views; use engine = 'duckdb'" in str(refused.value)
    assert "Plain does not support window views yet; use memory:, lmdb:, redis: or dynamodb:" in str(refused.value)


def test_stores_over_a_network_have_windows():
    from headwater.online.stores.dynamodb.store import DynamoDBOnlineStore
    from headwater.online.stores.redis.store import RedisOnlineStore

    assert DynamoDBOnlineStore.capabilities.windows
    assert RedisOnlineStore("redis+cluster://127.0.0.1:1").capabilities.windows
    assert RedisOnlineStore("redis://127.0.0.1:1").capabilities.windows
