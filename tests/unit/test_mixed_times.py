"""Naive times, aware ones and dates beside each other, on every road of rows: each is the instant of its own kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headwater as hw
from tests.matrices import share

NOW = datetime(2026, 2, 1, tzinfo=UTC)
SENSOR = hw.Entity("sensor", join_keys={"sensor": hw.String})
TEN = datetime(2026, 1, 1, 10)
GIVEN: dict[str, tuple[Any, int]] = {
    "naive": (TEN, 15),
    "aware": (TEN.replace(tzinfo=UTC), 10),
    "east": (TEN.replace(tzinfo=timezone(timedelta(hours=2))), 8),
    "pandas": (pd.Timestamp(TEN), 15),
    "numpy": (np.datetime64(TEN), 15),
    "date": (date(2026, 1, 1), 5),
}
"""A time and the hour of the day (UTC) at which it is, the zone being New York's."""

_NAMES = list(GIVEN)
ORDERS = [_NAMES, _NAMES[1:] + _NAMES[:1], _NAMES[::-1], ["numpy", "east", "date"]]

Rows = Sequence[dict[str, Any]]


def frame(rows: Rows) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]})


FORMS: dict[str, Callable[[Rows], Any]] = {
    "dicts": list,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "pandas": frame,
    "series": lambda rows: {name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]},
    "numpy": lambda rows: {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]},
}


def hours(store: hw.FeatureStore, names: Sequence[str]) -> dict[str, int]:
    """The hour of each sensor's event time."""
    spine = [{"sensor": name, "timestamp": NOW} for name in names]
    found = store.get_historical_features(spine, ["load:watts"], include=("event_time",)).to_pylist()
    return {row["sensor"]: row["load__event_time"].hour for row in found}


def view(source: Any) -> hw.FeatureView:
    return hw.FeatureView("load", entity=SENSOR, source=source, features=[hw.Feature("watts", hw.Int64)])


@pytest.mark.parametrize(("form", "names"), share(product(FORMS, ORDERS), 4))
def test_each_time_is_of_its_own_kind(form: str, names: Sequence[str]) -> None:
    made = FORMS[form]
    want = {name: GIVEN[name][1] for name in names}
    rows = [{"sensor": name, "at": GIVEN[name][0], "watts": 1} for name in names]
    source = hw.TableSource(made(rows), event_time="at", timezone="America/New_York")
    assert hours(hw.FeatureStore.in_memory([view(source)], clock=lambda: NOW), names) == want

    pushed = hw.FeatureStore.in_memory(
        [view(hw.PushSource(event_time="at", timezone="America/New_York"))], clock=lambda: NOW
    )
    pushed.write("load", made(rows), created="event")
    assert hours(pushed, names) == want

    spine = made([{"sensor": name, "timestamp": GIVEN[name][0]} for name in names])
    hourly = [
        {"sensor": name, "at": datetime(2026, 1, 1, hour, tzinfo=UTC), "watts": hour}
        for name in names
        for hour in range(24)
    ]
    known = hw.FeatureStore.in_memory([view(hw.TableSource(hourly, event_time="at"))], clock=lambda: NOW)
    found = known.get_historical_features(spine, ["load:watts"], timezone="America/New_York").to_pylist()
    assert [row["watts"] for row in found] == list(want.values())


def test_the_table_of_a_query_has_the_query_s_zone() -> None:
    rows = [{"sensor": name, "at": GIVEN[name][0], "watts": 1} for name in ("aware", "naive", "east")]
    source = hw.SQLSource(
        "SELECT * FROM readings",
        tables={"readings": hw.TableSource(rows)},
        event_time="at",
        timezone="America/New_York",
    )
    store = hw.FeatureStore.in_memory([view(source)], clock=lambda: NOW)
    assert hours(store, ["aware", "naive", "east"]) == {"aware": 10, "naive": 15, "east": 8}


def test_clock_changes_are_counted_beside_aware_times() -> None:
    twice, never, aware = datetime(2025, 11, 2, 1, 30), datetime(2025, 3, 9, 2, 30), datetime(2025, 1, 1, tzinfo=UTC)
    rows = [{"sensor": "a", "at": at, "watts": 1} for at in (aware, twice, never)]
    source = hw.TableSource(rows, event_time="at", timezone="America/New_York")
    store = hw.FeatureStore.in_memory([view(source)], clock=lambda: NOW)
    spine = [{"sensor": "a", "timestamp": at} for at in (aware, twice, never)]
    found = store.get_historical_features(spine, ["load:watts"], timezone="America/New_York")
    assert [row["watts"] for row in found.to_pylist()] == [1, 1, 1]
    said = "\n".join(found.metadata.warnings)
    assert said.count("1 naive times are in an hour that a clock change repeats") == 2
    assert said.count("1 naive times are in an hour that a clock change skips") == 2


def test_a_key_of_times_may_mix_them() -> None:
    at = hw.Entity("slot", join_keys={"slot": hw.Timestamp})
    slots = [date(2026, 1, 1), datetime(2026, 1, 1, 17, tzinfo=UTC), datetime(2026, 1, 1, 18)]
    rows = [{"slot": slot, "watts": i} for i, slot in enumerate(slots)]
    for order in permutations(rows):
        store = hw.FeatureStore.in_memory(
            [
                hw.FeatureView(
                    "load", entity=at, source=hw.TableSource(list(order)), features=[hw.Feature("watts", hw.Int64)]
                )
            ],
            clock=lambda: NOW,
        )
        store.materialize()
        found = store.get_online_features(["load:watts"], frame(order)[["slot"]]).to_dict()["watts"]
        assert found == [row["watts"] for row in order]
        spine = [{"slot": row["slot"], "timestamp": NOW} for row in order]
        assert [row["watts"] for row in store.get_historical_features(spine, ["load:watts"]).to_pylist()] == found


def test_a_date_feature_takes_no_time() -> None:
    rows = [{"sensor": "a", "day": date(2026, 1, 1)}, {"sensor": "b", "day": TEN}]
    for order in (rows, rows[::-1]):
        definition = hw.FeatureView(
            "days", entity=SENSOR, source=hw.TableSource(order), features=[hw.Feature("day", hw.Date)]
        )
        with pytest.raises(hw.HeadwaterError, match="'day' is timestamp"):
            hw.FeatureStore.in_memory([definition], clock=lambda: NOW)
