"""What nothing could read back is refused at the door, row by row; what is acknowledged can be read in every form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.errors import EntityKeyError, RowsRejected, SpineError
from headwater.testing import rounds

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MICROS = pa.timestamp("us", "UTC")
EARLY = datetime.min.replace(tzinfo=timezone(timedelta(hours=3)))
LATE = datetime.max.replace(tzinfo=timezone(timedelta(hours=-3)))

user = hw.Entity("user", join_keys={"user": hw.Int64})
profile = hw.FeatureView(
    "profile",
    entity=user,
    source=hw.PushSource(event_time="at", created_time="known"),
    features=[
        hw.Feature("name", hw.String),
        hw.Feature("until", hw.Timestamp),
        hw.Feature("born", hw.Date),
        hw.Feature("tags", hw.Array(hw.String)),
        hw.Feature("seen", hw.Array(hw.Timestamp)),
    ],
)
GOOD: dict[str, Any] = {
    "user": 1,
    "at": NOW - timedelta(hours=1),
    "known": NOW - timedelta(hours=1),
    "name": "Müller",
    "until": datetime.max.replace(tzinfo=UTC),
    "born": date.min,
    "tags": ["a", None, "é"],
    "seen": [datetime.min.replace(tzinfo=UTC), None],
}
FEATURES = ["profile:*"]


class Unshowable:
    """An object that cannot even be shown, or compared."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class Nowhere(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        raise RuntimeError


@pytest.fixture
def store() -> Iterator[hw.FeatureStore]:
    with hw.FeatureStore.in_memory([user, profile], clock=lambda: NOW) as made:
        yield made


def text(*pieces: bytes | None) -> pa.Array:
    """Text that nobody checked, as PyArrow reads it from a file."""
    return pa.array(pieces, pa.binary()).view(pa.string())


def far(*numbers: int | None, kind: pa.DataType = MICROS) -> pa.Array:
    width = pa.int32() if kind == pa.date32() else pa.int64()
    return pa.array(numbers, width).view(kind)


def listed(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)


BAD_VALUES = {
    "name": ["\ud800", "a\ud800b" * 100_000, Unshowable(), 5],
    "until": [EARLY, LATE, np.datetime64(10**18, "ms"), NOW.replace(tzinfo=Nowhere()), "2026-06-01T10:00:00Z", "noon"],
    "born": [NOW, "2026-06-01", Unshowable()],
    "tags": [["a", "\ud800"], [5], Unshowable()],
    "seen": [[EARLY], [None, NOW, LATE]],
    "at": [EARLY, LATE, None, float("inf"), np.datetime64(300_000, "Y"), np.datetime64("NaT"), "2026-06-01T10:00:00Z"],
    "known": [EARLY, float("nan"), Unshowable()],
    "user": [1.5, 2**64, "1", None, 10**400, Unshowable()],
}
BAD_COLUMNS = {
    "name": [text(b"ok", b"M\xfcller"), text(b"ok", b"\xff").dictionary_encode()],
    "until": [far(0, 2**60), far(0, 2**60, kind=pa.timestamp("s")), far(0, -(2**50), kind=pa.timestamp("ms", "UTC"))],
    "born": [far(0, 2**30, kind=pa.date32()), far(0, 2**62, kind=pa.date64())],
    "tags": [
        listed(text(b"ok", b"M\xfc")),
        listed(text(b"ok", b"M\xfc").cast(pa.large_binary()).view(pa.large_string())),
    ],
    "seen": [listed(far(0, 2**60)), listed(far(0, -(2**60), kind=pa.timestamp("s")))],
    "at": [far(0, 2**60), far(0, 2**30, kind=pa.date32()), far(0, -(2**63) + 1, kind=pa.timestamp("ms"))],
    "known": [far(0, 2**60)],
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD_VALUES.items() for v in values])
@pytest.mark.parametrize("to", ["both", "offline", "online"])
def test_a_bad_value_is_refused_by_its_row_and_the_others_are_written(
    store: hw.FeatureStore, name: str, value: Any, to: str
) -> None:
    rows = [GOOD, {**GOOD, "user": 2, name: value}, {**GOOD, "user": 3}]
    with pytest.raises(RowsRejected) as refused:
        store.write("profile", rows, to=to)
    assert [problem[:6] for problem in refused.value.problems] == ["row 1:"]
    assert repr(name) in refused.value.problems[0]
    assert len(str(refused.value)) < 1_000
    assert store.write("profile", rows, to=to, errors="report").applied == 2


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("name", "column"), [(n, c) for n, columns in BAD_COLUMNS.items() for c in columns])
@pytest.mark.parametrize("to", ["both", "offline", "online"])
def test_a_bad_value_in_a_column_of_arrow_too(store: hw.FeatureStore, name: str, column: pa.Array, to: str) -> None:
    table = pa.table({n: pa.array([v, v]) for n, v in GOOD.items()} | {"user": pa.array([1, 2]), name: column})
    with pytest.raises(RowsRejected) as refused:
        store.write("profile", table, to=to)
    assert [problem[:6] for problem in refused.value.problems] == ["row 1:"]
    assert refused.value.problems[0].endswith(("not valid UTF-8 text", "outside the years 1 to 9999"))
    assert store.write("profile", table, to=to, errors="report").applied == 1


def test_one_bad_text_bricks_nothing(store: hw.FeatureStore) -> None:
    table = pa.table({n: pa.array([v, v]) for n, v in GOOD.items()} | {"user": pa.array([1, 2])})
    table = table.set_column(table.column_names.index("name"), "name", text(b"M\xfc!", b"ok"))
    assert store.write("profile", table, errors="report").applied == 1
    store.materialize()
    store.materialize(force=True)
    spine = [{"user": 1, "timestamp": NOW}, {"user": 2, "timestamp": NOW}]
    assert store.get_historical_features(spine, ["profile:name"]).to_arrow()["name"].to_pylist() == [None, "ok"]
    store.delete("profile", [1], purge=True)
    store.materialize()


def test_what_the_first_and_last_year_hold_is_read_in_every_form(store: hw.FeatureStore) -> None:
    store.write("profile", [{**GOOD, "name": "a\0b"}])
    online = store.get_online_features(FEATURES, [1])
    assert online.problems == {}
    result = store.get_historical_features([{"user": 1, "timestamp": NOW}], FEATURES)
    want = {n: v for n, v in {**GOOD, "name": "a\0b"}.items() if n in {f.name for f in profile.features}}
    assert {n: v for n, v in online.to_pylist()[0].items() if n != "user"} == want
    assert {n: v for n, v in result.to_arrow().to_pylist()[0].items() if n in want} == want
    for form in (online, result):
        form._repr_html_()
        form.to_pandas()
    online.vectors()


@pytest.mark.parametrize(
    ("dtype", "keys"),
    [
        (hw.String, ["a", "\ud800"]),
        (hw.String, text(b"a", b"\xff")),
        (hw.String, text(b"a", b"\xff").dictionary_encode()),
        (hw.String, pd.Series(["a", "\ud800"], dtype=object)),
        (hw.String, ["a", Unshowable()]),
        (hw.String, ["a", 5]),
        (hw.Timestamp, [NOW, EARLY]),
        (hw.Timestamp, far(0, 2**60)),
        (hw.Timestamp, far(0, 2**60, kind=pa.timestamp("s"))),
        (hw.Timestamp, np.array([0, 10**15], "datetime64[s]")),
        (hw.Timestamp, [NOW, np.datetime64(10**17, "Y")]),
        (hw.Timestamp, [NOW, NOW.replace(tzinfo=Nowhere())]),
        (hw.Date, far(0, 2**30, kind=pa.date32())),
        (hw.Date, np.array([0, 2**40], "datetime64[D]")),
    ],
)
def test_a_key_that_no_row_can_have_is_refused_by_its_row(dtype: hw.DType, keys: Any) -> None:
    entity = hw.Entity("thing", join_keys={"thing": dtype})
    view = hw.FeatureView(
        "things", entity=entity, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)]
    )
    with hw.FeatureStore.in_memory([entity, view], clock=lambda: NOW) as store:
        calls: list[Callable[[], Any]] = [
            lambda: store.get_online_features(["things:x"], keys),
            lambda: store.get_online_features(["things:x"], {"thing": keys}),
            lambda: store.delete("things", keys),
            lambda: store.delete("things", keys, purge=True),
            lambda: store.materialize(entities=keys),
        ]
        for call in calls:
            with pytest.raises(EntityKeyError, match="row 1") as refused:
                call()
            assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        (hw.String, {"thing": text(b"a", b"\xff")}),
        (hw.String, {"thing": text(b"a", b"\xff").dictionary_encode()}),
        (hw.String, {"note": text(b"a", b"\xff")}),
        (hw.String, {"note": pa.StructArray.from_arrays([text(b"a", b"\xff")], ["inner"])}),
        (hw.String, {"timestamp": far(0, 2**60)}),
        (hw.String, {"timestamp": far(0, 2**40, kind=pa.timestamp("s"))}),
        (hw.String, {"timestamp": far(0, 2**30, kind=pa.date32())}),
        (hw.Timestamp, {"thing": far(0, 2**60)}),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_spine_that_nothing_could_read_is_refused_by_its_row(
    dtype: hw.DType, column: dict[str, pa.Array], in_file: bool, tmp_path: Any
) -> None:
    entity = hw.Entity("thing", join_keys={"thing": dtype})
    view = hw.FeatureView(
        "things", entity=entity, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)]
    )
    keys = pa.array(["a", "b"]) if dtype == hw.String else pa.array([NOW, NOW], MICROS)
    spine: Any = pa.table({"thing": keys, "timestamp": pa.array([NOW, NOW], MICROS), **column})
    if in_file:
        pq.write_table(spine, tmp_path / "spine.parquet", allow_truncated_timestamps=True, coerce_timestamps="us") if (
            "timestamp" in column
            and pa.types.is_timestamp(column["timestamp"].type)
            and column["timestamp"].type.unit == "s"
        ) else pq.write_table(spine, tmp_path / "spine.parquet")
        spine = str(tmp_path / "spine.parquet")
    with (
        hw.FeatureStore.in_memory([entity, view], clock=lambda: NOW) as store,
        pytest.raises(SpineError, match="row 1"),
    ):
        store.get_historical_features(spine, ["things:x"]).to_arrow()


def test_half_a_pair_in_a_spine_is_named(store: hw.FeatureStore) -> None:
    for spine in (
        {"user": [1, 2], "timestamp": [NOW, NOW], "note": ["a", "\ud800"]},
        [{"user": 1, "timestamp": NOW, "note": "\ud800"}],
    ):
        with pytest.raises(SpineError, match=r"column 'note', row [01]: '\\ud800' is not valid UTF-8"):
            store.get_historical_features(spine, FEATURES)


PIECES = st.binary(max_size=4) | st.text(max_size=3).map(str.encode)
TIMES = st.integers(-(2**62), 2**62) | st.integers(-(10**12), 10**12)


@settings(max_examples=rounds(4), deadline=None)
@given(st.lists(st.tuples(PIECES, TIMES, TIMES), min_size=1, max_size=5), st.sampled_from(["both", "offline"]))
def test_whatever_is_acknowledged_is_read_online_and_in_history(rows: list[tuple[bytes, int, int]], to: str) -> None:
    view = dataclasses.replace(profile, features=(hw.Feature("name", hw.String), hw.Feature("until", hw.Timestamp)))
    names, untils, events = zip(*rows, strict=True)
    keys = list(range(len(rows)))
    table = pa.table(
        {"user": keys, "name": text(*names), "until": far(*untils), "at": far(*events), "known": far(*events)}
    )
    with hw.FeatureStore.in_memory([user, view], clock=lambda: NOW) as store:
        report = store.write("profile", table, to=to, errors="report")
        assert bool(report.problems) == bool(report.rejected)
        store.materialize()
        spine = pa.table({"user": keys, "timestamp": pa.array([NOW] * len(keys), MICROS)})
        online = store.get_online_features(FEATURES, keys)
        history = store.get_historical_features(spine, FEATURES, include=("status",))
        assert online.problems == {}
        assert online.to_dict()["name"] == history.to_arrow()["name"].to_pylist()
        assert online.to_dict()["until"] == history.to_arrow()["until"].to_pylist()
        online._repr_html_()
        history._repr_html_()
        store.delete("profile", keys, purge=True)
        store.materialize(force=True)
