"""Reading rows of the log: when they are known, by any columns that say so, and which versions take them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater as hw
from headwater.planning.resolve import whole_view
from headwater.planning.row_reading import RowReading, RowVersion
from headwater.planning.snapshot import ViewRecord, ViewVersion

T0 = datetime(2024, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
HOURS = st.none() | st.integers(0, 9)


def micros(hour: int) -> int:
    return int((T0 + timedelta(hours=hour)).timestamp()) * 1_000_000


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), HOURS, HOURS, st.integers(0, 9)), min_size=1, max_size=6),
    own=st.sampled_from(["times", "texts", "none"]),
    reserved=st.booleans(),
    timed=st.booleans(),
)
def test_a_row_is_known_at_the_later_of_its_event_and_the_first_created_time_that_it_has(
    rows: list[tuple[int, int | None, int | None, int]], own: str, reserved: bool, timed: bool
) -> None:
    at = [None if hour is None else T0 + timedelta(hours=hour) for _, hour, _, _ in rows]
    columns: dict[str, Any] = {"at": pa.array([T0 + timedelta(hours=event) for event, *_ in rows], TIME)}
    if own == "times":
        columns["learnt"] = pa.array(at, TIME)
    if own == "texts":
        columns["learnt"] = pa.array([None if hour is None else "then" for _, hour, _, _ in rows], pa.string())
    if reserved:
        hours = [None if hour is None else T0 + timedelta(hours=hour) for _, _, hour, _ in rows]
        columns["created_time"] = pa.array(hours, TIME)
    reading = RowReading(("k",), "at" if timed else None, "learnt")
    arrivals = np.array([micros(hour) for *_, hour in rows])
    expected = []
    for event, learnt, created, arrived in rows:
        carried = [learnt] if own == "times" else []
        carried += [created] if reserved else []
        known = next((hour for hour in carried if hour is not None), arrived)
        expected.append(micros(max(event, known) if timed else known))
    assert reading.known_at(pa.table(columns), arrivals).tolist() == expected


def version(**source: Any) -> RowVersion:
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("user", join_keys={"user": hw.Int64}),
        source=hw.PushSource(**{"event_time": "at", **source}),
        features=[hw.Feature("x", hw.Float64)],
        version="1.0.0",
    )
    one = ViewVersion(view, False, T0, T0)
    return RowVersion(whole_view(ViewRecord("v", {"1.0.0": one}, None), one))


ROWS = {"user": pa.int64(), "at": TIME, "x": pa.float64()}


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({"more": pa.string()}, True),
        ({"x": pa.int64()}, True),
        ({"x": pa.float32()}, True),
        ({"x": pa.string()}, False),
        ({"x": None}, False),
        ({"user": None}, False),
        ({"at": None}, False),
        ({"at": pa.string()}, False),
        ({"learnt": pa.string()}, False),
        ({"learnt": TIME}, True),
    ],
)
def test_a_version_takes_rows_that_have_all_its_columns_in_types_that_it_can_hold(
    changes: dict[str, pa.DataType | None], taken: bool
) -> None:
    types = {name: given for name, given in {**ROWS, **changes}.items() if given is not None}
    assert version(created_time="learnt").takes(pa.schema(list(types.items()))) is taken


def test_what_the_values_of_each_column_are() -> None:
    user = hw.Entity("user", join_keys={"user": hw.Int32})
    view = hw.FeatureView(
        "v",
        entity=user,
        source=hw.PushSource(
            event_time="day", created_time="learnt", event_id="id", schema={"x": hw.Float64, "id": hw.String}
        ),
        features=[hw.Feature("day", hw.Date), hw.Feature("x", hw.Float32), hw.Feature("y", hw.Int64, column="x")],
        join_key_map={"user": "who"},
        version="1.0.0",
    )
    one = ViewVersion(view, False, T0, T0)
    dtypes = RowVersion(whole_view(ViewRecord("v", {"1.0.0": one}, None), one)).dtypes
    # a time that is a feature too is read as that
    assert dtypes == {"day": hw.Date, "who": hw.Int64, "x": hw.Float32, "learnt": hw.Timestamp, "id": hw.String}
