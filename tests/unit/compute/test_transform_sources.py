"""Transformations in Python: run from the registry, in history and by runs; what is refused, and what fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import headwater as hw

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
place = hw.Entity("place", join_keys={"k": hw.Int64})
ROWS = [
    {"k": 1, "t": NOON - 4 * HOUR, "x": 2.0},
    {"k": 1, "t": NOON - 2 * HOUR, "x": 3.0},
    {"k": 2, "t": NOON - 3 * HOUR, "x": 7.0},
]
SCHEMA = {"k": hw.Int64, "t": hw.Timestamp, "y": hw.Float64}
OFFSET = 10


def made(function: Callable[..., Any], sources: dict[str, Any] | None = None, **options: Any) -> hw.TransformSource:
    sources = {"events": hw.TableSource(ROWS)} if sources is None else sources
    return hw.transform(sources=sources, schema=SCHEMA, **{"event_time": "t", **options})(function)


def a_view(source: Any) -> hw.FeatureView:
    return hw.FeatureView("v", entity=place, source=source, features=[hw.Feature("y", hw.Float64)])


def a_store(source: Any) -> hw.FeatureStore:
    return hw.FeatureStore.in_memory([a_view(source)], clock=lambda: NOON)


def halves(events: pa.Table) -> pa.Table:
    # of each row its half
    return events.append_column("y", pc.divide(events["x"], 2))


SPINE = [{"k": 1, "timestamp": NOON - age * HOUR} for age in (5, 4, 3, 1)] + [{"k": 2, "timestamp": NOON}]


def test_history_and_runs_have_what_the_function_makes() -> None:
    with a_store(made(halves, delay="30m")) as store:
        found = store.get_historical_features(SPINE, ["v:y"]).to_pylist()
        assert [row["y"] for row in found] == [None, None, 1.0, 1.5, 3.5]
        store.materialize()
        assert store.get_online_features(["v:y"], [1, 2, 3]).to_dict()["y"] == [1.5, 3.5, None]


def test_the_decorated_function_stays_callable() -> None:
    source = made(halves)
    assert source(events=pa.table({"x": [3.0]}))["y"].to_pylist() == [1.5]
    assert "import pyarrow.compute as pc" in source.imports


def test_a_run_takes_what_is_new_in_files(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), file)
    source = made(halves, {"events": hw.ParquetSource(str(file))})
    with a_store(source) as store:
        store.materialize()
        assert store.get_online_features(["v:y"], [1]).to_dict()["y"] == [1.0]
        pq.write_table(pa.Table.from_pylist(ROWS), file)
        store.materialize()
        assert store.get_online_features(["v:y"], [1]).to_dict()["y"] == [1.5]


PROJECT = """
import math
import headwater as hw
import pyarrow as pa

place = hw.Entity("place", join_keys={"k": hw.Int64})

@hw.transform(
    sources={"events": hw.ParquetSource("events.parquet")},
    schema={"k": hw.Int64, "t": hw.Timestamp, "y": hw.Float64},
    event_time="t",
)
def roots(events):
    return events.append_column("y", pa.array([math.sqrt(x) for x in events["x"].to_pylist()]))

v = hw.FeatureView("v", entity=place, source=roots, features=[hw.Feature("y", hw.Float64)])
"""


def a_project(folder: Path, settings: str = "") -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "events.parquet")
    (folder / "features.py").write_text(PROJECT)
    (folder / "headwater.toml").write_text(f'project = "p"\ndefinitions = ["features.py"]\n{settings}')
    return folder


def test_a_process_without_the_project_files_runs_it(tmp_path: Path) -> None:
    with hw.FeatureStore(a_project(tmp_path), clock=lambda: NOON) as store:
        store.apply()
        assert not store.plan().stages
        assert store.registry.get_feature_definition("v:y").dependencies == ("events: events.parquet",)
    (tmp_path / "features.py").write_text("raise RuntimeError('nobody needs this')")
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        found = store.get_historical_features(SPINE, ["v:y"]).to_pylist()
        assert [row["y"] for row in found[1:]] == [math.sqrt(x) for x in (2, 2, 3, 7)]
        store.materialize()
        assert store.get_online_features(["v:y"], [2]).to_dict()["y"] == [math.sqrt(7)]


def test_code_of_the_registry_can_be_refused(tmp_path: Path) -> None:
    with hw.FeatureStore(a_project(tmp_path, "[offline]\nrun_code = false\n"), clock=lambda: NOON) as store:
        store.apply()
        with pytest.raises(hw.ConfigError, match=r"transformation 'roots' of v 1\.0\.0: .* run_code = false refuses"):
            store.get_historical_features(SPINE, ["v:y"])


def test_a_changed_function_is_a_new_version() -> None:
    def again(events: pa.Table) -> pa.Table:
        return events.append_column("y", pc.divide(events["x"], 4))

    again.__name__ = "halves"
    with a_store(made(halves)) as store:
        assert not store.plan([a_view(made(halves))]).stages
        store.apply([a_view(made(again))])
        assert store.get_feature_view("v").versions == ("1.0.0", "2.0.0")
        for number, y in (("1.0.0", 3.5), ("2.0.0", 1.75)):
            found = store.get_historical_features(SPINE[-1:], [f"v@{number}:y"]).to_pylist()
            assert found[0]["y"] == y


def by_place(events: pa.Table, /) -> pa.Table:
    return events


def uses_a_global(events: pa.Table) -> pa.Table:
    return events.append_column("y", pc.add(events["x"], OFFSET))


def takes_two(events: pa.Table, others: pa.Table) -> pa.Table:
    return events


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a global": (lambda: made(uses_a_global), "it uses 'OFFSET', which is not an argument"),
    "parameters": (lambda: made(takes_two), r"parameters of takes_two\(\) are events, others, its sources events"),
    "a parameter by place": (lambda: made(by_place), "'events' of the function cannot be given by name"),
    "a view": (
        lambda: made(halves, {"events": a_view(hw.PushSource(event_time="t"))}),
        "a view is read by queries alone",
    ),
    "a push source": (lambda: made(halves, {"events": hw.PushSource(event_time="t")}), "has no table to read"),
    "a created time": (
        lambda: made(halves, {"events": hw.TableSource(ROWS, event_time="t", created_time="t")}),
        "it has a created time, so what the function returns must say",
    ),
    "a time without column": (lambda: made(halves, event_time="at"), "schema= has no column 'at'"),
    "no sources": (lambda: made(halves, {}), "must map the function's parameters to sources"),
    "context": (lambda: made(halves, context="soon"), "context: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_is_refused(case: str) -> None:
    make, text = REFUSED[case]
    with hw.FeatureStore.in_memory([], clock=lambda: NOON) as store, pytest.raises(hw.DefinitionError, match=text):
        store.plan([a_view(make())])


def raises(events: pa.Table) -> pa.Table:
    raise ValueError("no such thing")


def panics(events: pa.Table) -> pa.Table:
    class Panic(BaseException):
        def __str__(self) -> str:
            raise ValueError

    raise Panic


def returns_rows(events: pa.Table) -> Any:
    return events.to_pylist()


def returns_text(events: pa.Table) -> pa.Table:
    return events.append_column("y", pa.array(["a"] * len(events)))


def returns_twice(events: pa.Table) -> pa.Table:
    return events.append_column("y", events["x"]).append_column("y", events["x"])


def returns_less(events: pa.Table) -> pa.Table:
    return events


FAILS = {
    raises: r"transformation raises\(\) raised ValueError: no such thing in line 2",
    panics: r"transformation panics\(\) raised Panic that cannot be shown in line 6",
    returns_rows: "must return a pyarrow.Table, not list",
    returns_text: "returned column 'y' as string, its schema says float64",
    returns_twice: "returned two columns named 'y'",
    returns_less: "returned no column 'y'; it returned k, t, x",
}


@pytest.mark.parametrize("function", FAILS, ids=lambda function: function.__name__)
def test_a_function_that_fails_names_itself(function: Callable[..., Any]) -> None:
    with a_store(made(function)) as store:
        with pytest.raises(hw.SourceError, match=FAILS[function]):
            store.get_historical_features(SPINE, ["v:y"]).to_arrow()
        with pytest.raises(hw.SourceError, match=FAILS[function]):
            store.materialize()


def test_a_query_reads_what_a_function_makes() -> None:
    query = hw.SQLSource("SELECT k, t, y + 1 AS y FROM h", tables={"h": made(halves)}, event_time="t")
    with a_store(query) as store:
        assert store.get_historical_features(SPINE[-1:], ["v:y"]).to_pylist()[0]["y"] == 4.5
