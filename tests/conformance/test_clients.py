"""One suite over the store and its clients: the same calls give equal results and the same errors."""

from __future__ import annotations

import asyncio
import inspect
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.planning.request_values import is_values
from headwater.planning.summaries import ModelSummary, ServiceSummary, ViewSummary
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from headwater.testing import rounds
from headwater.wire.words import for_client, over_http
from tests.servers.threaded_server import ThreadedServer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = datetime(2026, 1, 1, 11, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53 + 1, -(2**53) - 1])
FLOAT64 = st.floats() | st.sampled_from([-0.0, math.nan, math.inf])
FLOAT32 = st.floats(width=32)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    lambda time: time.replace(fold=0)
)
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "i32": (hw.Int32, st.integers(-(2**31), 2**31 - 1)),
    "i64": (hw.Int64, INT64),
    "f32": (hw.Float32, FLOAT32),
    "f64": (hw.Float64, FLOAT64),
    "flag": (hw.Bool, st.booleans()),
    "text": (hw.String, st.text(max_size=5)),
    "raw": (hw.Bytes, st.binary(max_size=5)),
    "seen": (hw.Timestamp, TIMES),
    "day": (hw.Date, st.dates()),
    "numbers": (hw.Array(hw.Int64), st.lists(st.none() | INT64, max_size=3)),
    "floats": (hw.Array(hw.Float64), st.lists(st.none() | FLOAT64, max_size=3)),
    "times": (hw.Array(hw.Timestamp), st.lists(st.none() | TIMES, max_size=3)),
    "raws": (hw.Array(hw.Bytes), st.lists(st.none() | st.binary(max_size=3), max_size=3)),
    "nested": (hw.Array(hw.Array(hw.Int64)), st.lists(st.none() | st.lists(st.none() | INT64, max_size=2), max_size=2)),
    "vector": (hw.Embedding(2), st.lists(FLOAT32, min_size=2, max_size=2)),
}
KEYS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "i32": (hw.Int32, st.integers(-(2**31), 2**31 - 1)),
    "i64": (hw.Int64, INT64),
    "flag": (hw.Bool, st.booleans()),
    "text": (hw.String, st.text(max_size=5)),
    "raw": (hw.Bytes, st.binary(max_size=5)),
    "seen": (hw.Timestamp, TIMES),
    "day": (hw.Date, st.dates()),
}
ALL = hw.FeatureView(
    "all",
    entity=USER,
    source=hw.PushSource(event_time="at", created_time="known"),
    features=[hw.Feature(name, dtype) for name, (dtype, _) in VALUES.items()],
    freshness_sla="1h",
)
SOME = hw.FeatureView(
    "some",
    entity=USER,
    source=hw.PushSource(event_time="at"),
    features=[
        hw.Feature("n", hw.Int64, default=-1),
        hw.Feature("x", hw.Float64, column="x_col"),
        hw.Feature("s", hw.String),
    ],
    ttl="2d",
    freshness_sla="2h",
)
ROUTE = hw.Entity("route", join_keys={"origin": hw.String, "dest": hw.String})
DELAYS = hw.FeatureView(
    "delays", entity=ROUTE, source=hw.PushSource(event_time="at"), features=[hw.Feature("late", hw.Float32)]
)
TIERS = hw.FeatureView(
    "tiers",
    entity=USER,
    source=hw.PushSource(valid_from="at", valid_to="until"),
    features=[hw.Feature("tier", hw.String, default="none"), hw.Feature("points", hw.Int64)],
    freshness_sla="2h",
)
CONSTANTS = hw.FeatureView(
    "constants", entity=(), source=hw.PushSource(event_time="at"), features=[hw.Feature("rate", hw.Float64)]
)
DEFAULTS = hw.FeatureView(
    "defaults",
    entity=[USER, ROUTE],
    source=hw.PushSource(event_time="at"),
    features=[
        hw.Feature("i32", hw.Int32, default=-1, owner="me", tags={"pii": "no"}),
        hw.Feature("i64", hw.Int64, default=2**60 + 1, kind="categorical", column="other"),
        hw.Feature("f32", hw.Float32, default=math.nan, freshness_sla="90s"),
        hw.Feature("f64", hw.Float64, default=-math.inf, description="é"),
        hw.Feature("flag", hw.Bool, default=False),
        hw.Feature("text", hw.String, default=""),
        hw.Feature("raw", hw.Bytes, default=b"\x00\xff"),
        hw.Feature("seen", hw.Timestamp, default=datetime(2026, 1, 1, 11, 30, 0, 5, tzinfo=UTC)),
        hw.Feature("day", hw.Date, default=date(2026, 1, 1)),
        hw.Feature("times", hw.Array(hw.Timestamp), default=[AT, None]),
        hw.Feature("vector", hw.Embedding(2), default=[0.5, math.inf]),
    ],
    join_key_map={"user": "who"},
    ttl="36h",
    freshness_sla=timedelta(microseconds=90_000_001),
    owner="team",
    description="with a default\nof each",
    tags={"a": "b", "é": ""},
)


@hw.on_demand(
    inputs=[hw.RequestField(name, dtype) for name, (dtype, _) in VALUES.items()],
    features=[hw.Feature(f"{name}_again", dtype) for name, (dtype, _) in VALUES.items()],
    mode="rows",
    nulls="pass",
)
def echo(row: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_again": value for name, value in row.items()}


@hw.on_demand(
    inputs=[SOME["n", "x"], hw.RequestField("limit", hw.Int64)],
    features=[hw.Feature("over", hw.Bool), hw.Feature("ratio", hw.Float64)],
    errors="null",
    description="over the limit",
)
def risk(n: Any, x: Any, limit: Any) -> dict[str, Any]:
    if (limit == 0).any():
        raise ValueError("no limit")
    return {"over": n > limit, "ratio": x / limit}


@hw.on_demand(inputs=[risk["ratio"]], features=[hw.Feature("strict", hw.Float64)], mode="rows")
def strict(row: dict[str, Any]) -> dict[str, Any]:
    return {"strict": row["ratio"]}


@hw.on_demand(inputs=[hw.RequestField("by", hw.Int64)], features=[hw.Feature("part", hw.Float64)], mode="rows")
def part(row: dict[str, Any]) -> dict[str, Any]:
    return {"part": 1 / row["by"]}


VISITS = hw.FeatureView(
    "visits",
    entity=USER,
    source=hw.PushSource(event_time="at", schema={"spent": hw.Float64}),
    features=[hw.Aggregation("spent", "sum", "1d", name="spent_1d")],
)


@hw.on_demand(inputs=[VISITS["spent_1d"], SOME["n"]], features=[hw.Feature("each", hw.Float64)], nulls="pass")
def each(spent_1d: Any, n: Any) -> dict[str, Any]:
    return {"each": spent_1d / n}


KEYED = [
    hw.FeatureView(
        f"by_{name}",
        entity=hw.Entity(name, join_keys={f"{name}_key": dtype}),
        source=hw.PushSource(event_time="at"),
        features=[hw.Feature("n", hw.Int64)],
    )
    for name, (dtype, _) in KEYS.items()
]
GOOD = {"user": 1, "at": AT, "n": 1, "x_col": 0.5, "s": "a"}
MOVING = ("position", "through", "pending_until", "found")
MODEL = hw.FeatureService(
    "model", [SOME["n"], DELAYS["late"]], owner="team", description="scores", tags={"stage": "test"}
)
RISKY = hw.FeatureService("risky", [SOME["n"], risk, strict])
WHOLE = hw.FeatureService("whole", [SOME, DELAYS["late"].rename({"late": "delay"})], full_names=True)


@dataclass
class Door:
    """A store or client; its methods are called as those of a store for threads."""

    name: str
    door: Any
    run: Callable[[Any], Any]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.door, name)

        def call(*arguments: Any, **named: Any) -> Any:
            found = method(*arguments, **named)
            return self.run(found) if inspect.isawaitable(found) else found

        return call


@dataclass
class Doors:
    """All of them, over one store."""

    all: list[Door]
    url: str

    @property
    def store(self) -> Door:
        return self.all[0]

    def same(self, call: Callable[[Door], Any], shown: Callable[[Any], Any] = repr) -> Any:
        """What a call gives, equal through all of them; or raises."""
        first, *others = [(door.name, shown(call(door))) for door in self.all]
        for name, result in others:
            assert result == first[1], name
        return first[1]

    def refuse(self, call: Callable[[Door], Any], kind: type[hw.HeadwaterError]) -> str:
        """The message of an error, the same through all of them, but for what is another call with a client."""
        said = {}
        for door in self.all:
            with pytest.raises(hw.HeadwaterError) as caught:
                call(door)
            assert type(caught.value) is kind, (door.name, caught.value)
            said[door.name] = str(caught.value)
        assert len({for_client(over_http(text)) for text in said.values()}) == 1, said
        return said["store"]


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    store = hw.FeatureStore.in_memory(
        [
            ALL,
            SOME,
            TIERS,
            DELAYS,
            CONSTANTS,
            DEFAULTS,
            *KEYED,
            echo,
            risk,
            strict,
            part,
            VISITS,
            each,
            MODEL,
            WHOLE,
            RISKY,
        ],
        clock=lambda: NOON,
    )
    asynchronous = hw.AsyncFeatureStore.of(store)
    app = App(asynchronous, ServerSettings(deadline=30))
    with store, ThreadedServer(app) as server, asyncio.Runner() as runner:
        made: dict[str, Any] = {"store": store, "async store": hw.AsyncFeatureStore.of(store)}
        for form in ("arrow", "json"):
            made[f"client {form}"] = hw.Client(server.url, form=form, timeout="30s")
            made[f"async client {form}"] = hw.AsyncClient(server.url, form=form, timeout="30s")
        yield Doors([Door(name, door, runner.run) for name, door in made.items()], server.url)
        for name, door in made.items():
            if "client" in name:
                closed = door.close()
                if closed is not None:
                    runner.run(closed)


def everything(result: Any) -> dict[str, Any]:
    """All that a result says; NaN is equal to NaN."""
    forms = {
        "dict": result.to_dict(),
        "columns": result.columns,
        "dtypes": result.dtypes,
        "versions": result.versions,
        "statuses": result.statuses,
        "codes": {name: codes.tolist() for name, codes in result.status_codes().items()},
        "event_times": result.event_times,
        "read_at": result.read_at,
        "freshness": result.freshness(),
        "problems": result.problems,
        "rows": result.to_pylist(),
        "vectors": result.vectors(),
        "later": [vector.calculate_freshness(NOON + timedelta(hours=1)) for vector in result.vectors()],
        "arrow": (result.to_arrow().schema.to_string(), result.to_arrow().to_pydict()),
        "pandas": (result.to_pandas().dtypes.to_dict(), result.to_pandas().to_dict("list")),
        "html": result._repr_html_(),
        "text": repr(result),
        "len": len(result),
    }
    numbers = [
        name for name in result.columns if result.dtypes[name].numeric or result.dtypes[name].name == "embedding"
    ]
    if numbers:
        matrix = result.to_numpy(columns=numbers, dtype=np.float64, missing=-7.0)
        forms["matrix"] = (matrix.shape, matrix.tolist())
    return {name: repr(form) for name, form in forms.items()}


@settings(max_examples=rounds(15), deadline=None)
@given(data=st.data())
def test_every_value_of_every_dtype_goes_and_comes_alike(doors: Doors, data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(
            st.fixed_dictionaries({name: st.none() | values for name, (_, values) in VALUES.items()}),
            min_size=1,
            max_size=3,
        )
    )
    count = len(rows)
    for d, door in enumerate(doors.all):
        given_rows = [{"user": d * 10 + i, "at": AT, "known": AT, **row} for i, row in enumerate(rows)]
        door.delete("all", [row["user"] for row in given_rows])
        door.write("all", [{**row, "known": NOON + timedelta(microseconds=1)} for row in given_rows])
    users = [d * 10 + i for d in range(len(doors.all)) for i in range(count)]
    shown = doors.same(lambda door: door.get_online_features(["all:*"], [*users, 999, users[0], None]), everything)
    assert shown
    values = doors.store.get_online_features(["all:*"], users).to_dict()
    for name in VALUES:
        assert all(
            repr(values[name][d * count : (d + 1) * count]) == repr(values[name][:count]) for d in range(len(doors.all))
        ), name


@settings(max_examples=rounds(12), deadline=None)
@given(data=st.data())
def test_values_of_a_request_go_and_come_alike(doors: Doors, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    request, wanted = {}, {}
    for name, (dtype, values) in VALUES.items():
        every, one = data.draw(st.lists(st.none() | values, min_size=count, max_size=count)), data.draw(values)
        # of lists some are one for each row, whatever was meant
        repeated = data.draw(st.booleans()) and not is_values(one, dtype, count)
        request[name] = one if repeated else every
        wanted[f"{name}_again"] = [one] * count if repeated else every
    shown = doors.same(lambda door: door.get_online_features(["echo:*"], [{}] * count, request=request), everything)
    assert shown
    found = doors.store.get_online_features(["echo:*"], [{}] * count, request=request).to_dict()
    assert repr(found) == repr(wanted)


def test_on_demand_features_are_the_same_through_all(doors: Doors) -> None:
    doors.store.write("some", [{"user": 7, "at": AT, "n": 9, "x_col": 0.5, "s": "a"}])
    doors.store.write("some", [{"user": 8, "at": AT, "n": 1, "x_col": 900.0, "s": None}])
    for limit in (2, [2, 0, 2], np.array([1, 2, 3]), [None, 1, 1]):
        for options in ({}, {"stale": "drop", "max_age": "1m"}, {"now": AT - timedelta(days=9)}, {"full_names": True}):
            doors.same(
                lambda door: door.get_online_features("risky", [7, 9, 7], request={"limit": limit}, **options),  # noqa: B023
                everything,
            )
    doors.store.write("visits", [{"user": 7, "at": AT, "spent": 4.5}, {"user": 7, "at": AT, "spent": 9.0}])
    # what it reads is not among what was asked for, and the answer is not of it
    for features in (["each:each"], ["each:each", "some:x"], ["each:each", "visits:spent_1d"]):
        doors.same(lambda door: door.get_online_features(features, [7, 9, None]), everything)  # noqa: B023
    found = doors.store.get_online_features(["each:each"], [7])
    assert (found.to_dict(), found.versions) == (
        {"user": [7], "each": [1.5]},
        {"each": "1.0.0"},
    )
    statuses = doors.store.get_online_features("risky", [7, 9, 7], request={"limit": [2, 2, 0]}).statuses
    assert statuses["ratio"] == ["PRESENT", "NULL", "ERROR"] == statuses["strict"]
    for door in doors.all:
        reader = door.prepare("risky")
        assert dict(reader.request_fields) == {"limit": hw.Int64}
        assert dict(reader.join_keys) == {"user": hw.Int64}


@settings(max_examples=rounds(12), deadline=None)
@given(data=st.data())
def test_keys_of_every_dtype_in_every_form(doors: Doors, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(KEYS)))
    key, view = f"{name}_key", f"by_{name}"
    values = data.draw(st.lists(KEYS[name][1], min_size=1, max_size=4, unique_by=repr))
    for i, (value, door) in enumerate(zip(values, doors.all, strict=False)):
        door.write(view, [{key: value, "at": AT, "n": i}])
    forms: list[Any] = [
        [*values, None, values[0]],
        [{key: value} for value in values],
        {key: values},
        {key: values[0]},
        pa.table({key: pa.array(values, KEYS[name][0].arrow)}),
        pa.table({key: pa.array(values, KEYS[name][0].arrow), "other": list(range(len(values)))}),
    ]
    if name in ("i64", "text", "flag"):
        forms += [pd.DataFrame({key: values}), pd.Series(values), pl.DataFrame({key: values})]
    for form in forms:
        doors.same(lambda door, form=form: door.get_online_features([f"{view}:n"], form), everything)
    gone, door = values[-1], data.draw(st.sampled_from(doors.all))
    assert door.delete(view, [{key: gone}]).deleted == 1
    statuses = doors.same(lambda door: door.get_online_features([f"{view}:n"], {key: [gone]}).statuses)
    assert statuses == repr({"n": [hw.Status.NOT_FOUND]})


def test_services_repeated_keys_and_global_views(doors: Doors) -> None:
    doors.store.write("some", [{"user": 7, "at": AT, "n": 1, "x_col": 0.5, "s": "a"}])
    for door in doors.all:
        assert door.write("delays", {"origin": ["JFK"], "dest": ["BOS"], "at": [AT], "late": [1.5]}).applied == 1
        assert door.write("constants", [{"at": AT, "rate": 0.25}]).applied == 1
    for features in ("model", "model@1.0.0", ["some:*", "delays:*", "constants:*"], ["constants:rate"]):
        for entities in (
            {"user": 7, "origin": ["JFK", "EWR"], "dest": "BOS"},
            [{"user": 7, "origin": "JFK", "dest": "BOS"}] * 2,
            {"user": [], "origin": [], "dest": []},
        ):
            if features != ["constants:rate"]:
                doors.same(lambda door: door.get_online_features(features, entities), everything)  # noqa: B023
    for entities in (None, {}, [{}], [{}, {}], []):
        doors.same(lambda door: door.get_online_features("constants:rate", entities), everything)  # noqa: B023
    doors.same(lambda door: door.get_online_features(["some:n"], [7, 8], full_names=True), everything)


def test_ages_policies_and_instants(doors: Doors) -> None:
    for age in (1, 3, 72):
        row = {"user": 100 + age, "at": NOON - timedelta(hours=age), "n": age, "x_col": None, "s": "b"}
        doors.store.write("some", [row])
    users = [101, 103, 172, 999]
    for options in (
        {},
        {"stale": "drop"},
        {"stale": hw.StalePolicy.FLAG, "max_age": "30m"},
        {"max_age": timedelta(hours=5), "consistency": "strong"},
        {"now": NOON + timedelta(days=3)},
        {"now": "2026-01-01T09:00:00", "stale": "drop"},
        {"consistency": hw.ConsistencyLevel.EVENTUAL, "now": date(2026, 1, 4)},
    ):
        doors.same(lambda door: door.get_online_features(["some:*"], users, **options), everything)  # noqa: B023


def test_rows_that_end(doors: Doors) -> None:
    for place, door in enumerate(doors.all):
        for user, ends in enumerate((None, NOON, NOON + timedelta(hours=1)), start=10 * place):
            row = {"user": user, "at": AT, "tier": "gold", "points": user, "until": ends}
            assert door.write("tiers", [row], created="event").applied == 1
    users = [user for place in range(len(doors.all)) for user in range(10 * place, 10 * place + 4)]
    for options in ({}, {"stale": "drop"}, {"now": NOON + timedelta(hours=1)}, {"now": NOON - timedelta(minutes=1)}):
        doors.same(lambda door: door.get_online_features(["tiers:*"], users, **options), everything)  # noqa: B023
    found = doors.store.get_online_features(["tiers:tier"], users).to_dict()["tier"]
    assert found == ["gold", "none", "gold", "none"] * len(doors.all)


def test_prepared_readers_are_the_same(doors: Doors) -> None:
    doors.store.write("some", [{"user": 7, "at": AT, "n": 1, "x_col": 0.5, "s": "a"}])
    readers = {door.name: (door, door.prepare(["some:*"], "strong")) for door in doors.all}
    shown = set()
    for door, reader in readers.values():
        again = Door(door.name, reader, door.run)
        result = again.read([7, 8], deadline="20s", max_age="1s")
        again.refresh()
        shown.add(
            repr((everything(result), dict(reader.join_keys), dict(reader.versions), dict(reader.request_fields)))
        )
        with pytest.raises(hw.UsageError, match="cannot be pickled"):
            pickle.dumps(reader)
    assert len(shown) == 1


def test_rows_in_every_form(doors: Doors) -> None:
    names = ["user", "at", "n", "x_col", "s"]
    columns = {"user": [1, 2], "at": [AT, AT], "n": [1, None], "x_col": [0.5, math.nan], "s": ["a", None]}
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    table = pa.table(columns)
    forms: list[Any] = [
        *(rows, tuple(rows), columns, table, table.to_batches()[0], pd.DataFrame(columns), pl.DataFrame(columns)),
        table.set_column(4, "s", table.column("s").dictionary_encode()),
        pd.DataFrame(columns).astype({"s": "category"}),
        {"user": 1, "at": AT, "n": 1, "x_col": 0.5, "s": "a"},
        [{"user": 1, "at": AT, "n": np.int64(2), "x_col": np.float32(0.5), "s": "a"}],
        [{"user": 1, "at": datetime(2026, 1, 1, 11), "n": 3, "x_col": 1, "s": "a"}],
        [],
    ]
    for form in forms:

        def written(door: Door, form: Any = form) -> tuple[str, str]:
            doors.store.delete("some", [1, 2])
            report = door.write("some", form)
            found = doors.store.get_online_features(["some:*"], [1, 2])
            return repr((report.applied, report.rejected, report.problems, report.durable, report.unread)), repr(
                (found.to_dict(), found.statuses)
            )

        doors.same(written)


def test_what_writes_and_deletes_report(doors: Doors) -> None:
    good = {"user": 1, "at": AT, "n": 1, "x_col": 0.5, "s": "a"}
    lacking = {"user": 2, "at": AT, "n": 1}
    reports = [
        lambda door: door.write("some", [good, lacking, {**good, "n": 1.5}], errors="report"),
        lambda door: door.write("some", [good], "offline"),
        lambda door: door.write("some", [good], to="online"),
        lambda door: door.write("some", [{**good, "at": NOON + timedelta(days=1)}]),
        lambda door: door.write("some", [{**good, "at": NOON - timedelta(days=9)}], created="event"),
        lambda door: door.delete("some", [1, 5], purge=True),
        lambda door: door.delete("delays", {"origin": "JFK", "dest": ["BOS", "EWR"]}),
        lambda door: door.delete("constants", None),
    ]
    for call in reports:

        def report(door: Door, call: Any = call) -> Mapping[str, Any]:
            doors.store.delete("some", [1, 2])
            found = call(door)
            return repr(
                {k: v for k, v in vars(found).items() if k not in ("position", "through", "pending_until", "found")}
            )

        doors.same(report)
        assert type(call(doors.all[-1])) is type(call(doors.store))


BAD_READS: list[tuple[str, type[hw.HeadwaterError], Callable[[Door], Any]]] = [
    ("feature", hw.FeatureNotFound, lambda d: d.get_online_features(["some:m"], [1])),
    ("view", hw.FeatureViewNotFound, lambda d: d.get_online_features(["smoe:n"], [1])),
    ("service", hw.FeatureServiceNotFound, lambda d: d.get_online_features("modle", [1])),
    ("version", hw.VersionNotFound, lambda d: d.get_online_features(["some@9.9.9:n"], [1])),
    ("bare view", hw.UsageError, lambda d: d.get_online_features(["some"], [1])),
    ("none", hw.UsageError, lambda d: d.get_online_features([], [1])),
    ("twice", hw.UsageError, lambda d: d.get_online_features(["some:n", "by_i64:n"], {"user": [1], "i64_key": [1]})),
    ("key type", hw.EntityKeyError, lambda d: d.get_online_features(["some:n"], ["1"])),
    ("fraction", hw.EntityKeyError, lambda d: d.get_online_features(["some:n"], [1.5])),
    ("wide", hw.EntityKeyError, lambda d: d.get_online_features(["some:n"], [2**70])),
    ("half", hw.EntityKeyError, lambda d: d.get_online_features(["by_text:n"], ["\ud800"])),
    ("key name", hw.EntityKeyError, lambda d: d.get_online_features(["some:n"], [{"usr": 1}])),
    ("key lacks", hw.EntityKeyError, lambda d: d.get_online_features(["delays:late"], [{"origin": "JFK"}])),
    ("lengths", hw.EntityKeyError, lambda d: d.get_online_features(["delays:late"], {"origin": ["A"], "dest": []})),
    ("one", hw.EntityKeyError, lambda d: d.get_online_features(["some:n"], 7)),
    ("set", hw.EntityKeyError, lambda d: d.get_online_features(["some:n"], {7})),
    ("level", hw.UsageError, lambda d: d.get_online_features(["some:n"], [1], consistency="strnog")),
    ("policy", hw.UsageError, lambda d: d.get_online_features(["some:n"], [1], stale="x")),
    ("age", hw.UsageError, lambda d: d.get_online_features(["some:n"], [1], max_age="5")),
    ("negative", hw.UsageError, lambda d: d.get_online_features(["some:n"], [1], max_age=timedelta(-1))),
    ("now", hw.UsageError, lambda d: d.get_online_features(["some:n"], [1], now="yesterday")),
    ("request", hw.UsageError, lambda d: d.get_online_features(["some:n"], [1], request={"hour": 1})),
    ("no request", hw.UsageError, lambda d: d.get_online_features("risky", [1])),
    ("request name", hw.UsageError, lambda d: d.get_online_features("risky", [1], request={"limti": 1})),
    ("request value", hw.UsageError, lambda d: d.get_online_features("risky", [1], request={"limit": "x"})),
    ("request fraction", hw.UsageError, lambda d: d.get_online_features("risky", [1], request={"limit": 1.5})),
    ("request length", hw.UsageError, lambda d: d.get_online_features("risky", [1], request={"limit": [1, 2]})),
    ("request form", hw.UsageError, lambda d: d.get_online_features("risky", [1], request=[1])),
    ("raises", hw.OnDemandError, lambda d: d.get_online_features(["part:*"], [{}], request={"by": 0})),
    ("session", hw.SessionRequired, lambda d: d.get_online_features(["some:n"], [1], consistency="session")),
    ("prepared level", hw.UsageError, lambda d: d.prepare(["some:n"], "sesion")),
    ("prepared", hw.FeatureNotFound, lambda d: d.prepare(["some:m"])),
    ("refresh", hw.UsageError, lambda d: d.prepare(["some:n"], registry_refresh="5")),
    ("write view", hw.FeatureViewNotFound, lambda d: d.write("smoe", [{"user": 1}])),
    ("row", hw.RowsRejected, lambda d: d.write("some", [{"user": 1}, {"user": None, "at": AT, "n": 1.5}])),
    ("values", hw.RowsRejected, lambda d: d.write("some", {"user": ["x", "y"], "at": [AT, AT], "n": [1, 2]})),
    (
        "mixed",
        hw.RowsRejected,
        lambda d: d.write("some", [{"user": 1, "at": AT, "n": v, "x_col": 1, "s": ""} for v in (1, "x")]),
    ),
    ("not rows", hw.DataError, lambda d: d.write("some", [1, 2])),
    ("to", hw.UsageError, lambda d: d.write("some", [], to="nowhere")),
    ("errors", hw.UsageError, lambda d: d.write("some", [], errors="ignore")),
    ("created", hw.UsageError, lambda d: d.write("some", [], created="now")),
    ("durability", hw.ConsistencyNotSupported, lambda d: d.write("some", [], durability=2)),
    ("get view", hw.FeatureViewNotFound, lambda d: d.get_feature_view("smoe")),
    ("get view of a feature", hw.FeatureViewNotFound, lambda d: d.get_feature_view("some:n")),
    ("get odd view", hw.FeatureViewNotFound, lambda d: d.get_feature_view("a/b?c=d#é %2F")),
    ("get version", hw.VersionNotFound, lambda d: d.get_feature_view("some", "9.9.9")),
    ("get empty version", hw.VersionNotFound, lambda d: d.get_feature_view("some", "")),
    ("get service", hw.FeatureServiceNotFound, lambda d: d.get_feature_service("modle")),
    ("get version of service", hw.VersionNotFound, lambda d: d.get_feature_service("model", "1.0")),
    ("get entity", hw.EntityNotFound, lambda d: d.get_entity("usr")),
    ("get view as entity", hw.EntityNotFound, lambda d: d.get_entity("some")),
    ("delete view", hw.FeatureViewNotFound, lambda d: d.delete("smoe", [1])),
    ("delete key", hw.EntityKeyError, lambda d: d.delete("some", [{"usr": 1}])),
    ("delete null", hw.EntityKeyError, lambda d: d.delete("some", [1, None])),
    ("delete fraction", hw.EntityKeyError, lambda d: d.delete("some", [1.5])),
]


@pytest.mark.parametrize(("kind", "call"), [pytest.param(k, c, id=name) for name, k, c in BAD_READS])
def test_errors_are_the_same(doors: Doors, kind: type[hw.HeadwaterError], call: Callable[[Door], Any]) -> None:
    assert doors.refuse(call, kind)


def summary(info: Any) -> dict[str, Any]:
    """What the store and its clients say of a version of a view or service."""
    names = ["name", "version", "live", "versions", "join_keys", "owner", "description", "tags", "features", "columns"]
    if isinstance(info, ViewSummary):
        names += ["entities", "source_kind", "ttl", "freshness_sla"]
    said = {name: getattr(info, name) for name in names}
    said["tags"] = dict(said["tags"])
    return said | {"schema": str(info.output_schema), "request": dict(info.request_fields), "html": info._repr_html_()}


def test_what_is_registered_is_listed_the_same(doors: Doors) -> None:
    doors.same(lambda door: door.list_feature_views(), lambda infos: repr([summary(info) for info in infos]))
    doors.same(lambda door: door.list_feature_services(), lambda infos: repr([summary(info) for info in infos]))
    doors.same(lambda door: door.list_entities())
    assert {info.name for info in doors.all[-1].list_feature_views()} >= {"all", "some", "defaults", "constants"}
    for door in doors.all:
        assert door.list_entities() == doors.store.list_entities()
        assert all(isinstance(info, ViewSummary) for info in door.list_feature_views())
        assert all(isinstance(info, ServiceSummary) for info in door.list_feature_services())


def test_one_of_what_is_registered_is_the_same(doors: Doors) -> None:
    for version in (None, "1.0.0"):
        for name in ("all", "some", "defaults", "constants", "by_text", "risk", "strict", "echo"):
            doors.same(lambda door: door.get_feature_view(name, version), lambda i: repr(summary(i)))  # noqa: B023
        for name in ("model", "whole", "risky"):
            doors.same(lambda door: door.get_feature_service(name, version), lambda i: repr(summary(i)))  # noqa: B023
    for name in ("user", "route"):
        doors.same(lambda door: door.get_entity(name))  # noqa: B023
    assert doors.all[-1].get_feature_view("some").features == SOME.feature_list


def test_logged_models_are_listed_and_shown_the_same(doors: Doors) -> None:
    store = doors.store.door
    assert doors.same(lambda door: door.list_models()) == "[]"
    made = {"uri": "models:/m-1", "now": NOON}
    store.registry.log_model("scorer", ("model", "1.0.0"), training_set="risks@2", **made)
    store.registry.log_model("scorer", ("whole", "1.0.0"), training_set=None, **made)
    store.registry.log_model("other", ("model", "1.0.0"), training_set=None, **made)

    def said(found: Any) -> Any:
        assert isinstance(found, ModelSummary)
        return [getattr(found, name) for name in ("name", "version", "service", "training_set", "logged_at")]

    doors.same(lambda door: door.list_models(), lambda found: repr([said(each) for each in found]))
    client = doors.all[-1]
    assert [(m.name, m.version) for m in client.list_models()] == [("other", 1), ("scorer", 1), ("scorer", 2)]
    for version in (None, 1, 2):
        doors.same(lambda door: door.get_model("scorer", version), lambda found: repr(said(found)))  # noqa: B023
    assert store.get_model("scorer", 1).uri == "models:/m-1" and client.get_model("scorer").service == "whole@1.0.0"
    doors.refuse(lambda door: door.get_model("scorers"), hw.NotFound)
    doors.refuse(lambda door: door.get_model("scorer", 3), hw.VersionNotFound)


def test_versions_of_what_is_registered(doors: Doors) -> None:
    changed = hw.FeatureView(
        "delays",
        entity=ROUTE,
        source=hw.PushSource(event_time="at"),
        features=[*DELAYS.features, hw.Feature("early", hw.Int32)],
        version="1.1.0",
    )
    store = doors.store.door
    store.apply([ALL, SOME, changed, CONSTANTS, DEFAULTS, *KEYED, echo, risk, strict, part, MODEL, WHOLE, RISKY])
    try:
        for version in (None, "1.0.0", "1.1.0"):
            doors.same(lambda door: door.get_feature_view("delays", version), lambda i: repr(summary(i)))  # noqa: B023
        assert doors.all[-1].get_feature_view("delays").versions == ("1.0.0", "1.1.0")
    finally:
        store.promote("delays", "1.0.0")


def test_the_status_is_the_same(doors: Doors) -> None:
    doors.store.write("some", [GOOD])
    for now in (None, "2026-01-02T00:00:00Z"):
        doors.same(lambda door: door.status(now), lambda status: repr(replace(status, reads=None)))  # noqa: B023
    assert type(doors.all[-1].status()) is type(doors.store.status())
    doors.refuse(lambda door: door.status("noon"), hw.UsageError)


def test_problems_of_rows_are_listed(doors: Doors) -> None:
    for door in doors.all:
        with pytest.raises(hw.RowsRejected) as rejected:
            door.write("some", [{"user": 1}, {"user": 2, "at": AT}])
        assert len(rejected.value.problems) == 2 and rejected.value.problems[1].startswith("row 1: ")


def test_sessions_go_from_one_to_the_other(doors: Doors) -> None:
    for door in doors.all:
        session = door.session()
        for other in doors.all:
            row = {"user": 1, "at": AT, "n": 1, "x_col": 0.5, "s": "a"}
            other.write("some", [row], session=session)
            session = hw.Session.from_token(session.token)
            found = door.get_online_features(["some:n"], [1], consistency="session", session=session)
            assert found.to_dict()["n"] == [1]
            other.delete("some", [1], session=session)
            assert session.store == doors.store.session().store
        wrong = hw.Session("another:store")
        with pytest.raises(hw.UsageError, match=r"[Ss]ession"):
            door.get_online_features(["some:n"], [1], session=wrong)
        with pytest.raises(hw.UsageError, match="from_token"):
            door.get_online_features(["some:n"], [1], session="token")
