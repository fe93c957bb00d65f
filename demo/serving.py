"""The demo's serving step: the last day's departures, with how fresh and how sure each value is."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from screen import clock_time, say, step, table

import headwater as hw


def serve(
    store: hw.FeatureStore, departures: pd.DataFrame, predict: Callable[[pd.DataFrame], np.ndarray], now: datetime
) -> None:
    """Read the features of all departures in one call, show their state, and predict."""
    with step(f"Serve the {len(departures)} departures of the next day, at {clock_time(now)}"):
        reader = store.prepare("delay_model")
        keys, request = asked(reader, departures)
        started = time.perf_counter()
        result = reader.read(keys, request)
        values = result.to_pandas()
        taken = 1000 * (time.perf_counter() - started)
        say(f"{len(keys)} vectors of {len(result.statuses)} values, keys to frame: {taken:.1f} ms")
        _show_statuses(result)
        _show_likely_late(departures, values, result, predict)
        _compare_with_history(store, keys.assign(**request), values, now)


def asked(reader: Any, departures: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The keys of the departures, and what a request says of each."""
    return departures[list(reader.join_keys)], {name: departures[name] for name in reader.request_fields}


def with_features(departures: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """The flights with the features read for them."""
    return departures.join(values.drop(columns=[name for name in values if name in departures]))


def _show_statuses(result: Any) -> None:
    """How many values of each view are in which state, and how fresh its rows are."""
    freshness, counts = result.freshness(), {}
    for column, statuses in result.statuses.items():
        counts.setdefault(column.partition("__")[0], Counter()).update(statuses)
    states = [status for status in hw.Status if any(status in count for count in counts.values())]
    rows = []
    for label, count in counts.items():
        known = [value for value in freshness[label] if value is not None]
        rows.append((label, *(f"{count[s]:,}" for s in states), f"{fmean(known):.2f}" if known else "-"))
    table(
        "Values by status, and the mean freshness (1 is new, 0 is older than the SLA)",
        ["view", *states, "freshness"],
        rows,
    )


def _show_likely_late(
    departures: pd.DataFrame,
    values: pd.DataFrame,
    result: Any,
    predict: Callable[[pd.DataFrame], np.ndarray],
) -> None:
    """The flights that the model holds most likely to be late, with what it saw and what happened."""
    frame = with_features(departures, values).assign(probability=predict)
    rows = []
    for place, flight in frame.nlargest(6, "probability").iterrows():
        seen = [
            f"{_number(flight[f'{name}_delay'])} {result.statuses[f'{name}_delay'][place]}"
            for name in ("carrier", "route", "aircraft")
        ]
        happened = "cancelled" if pd.isna(flight["arr_delay"]) else f"{flight['arr_delay']:.0f} min"
        rows.append((flight["flight"], flight["dest"], f"{flight['probability']:.0%}", *seen, happened))
    table(
        "Most likely late; mean delay of the last arrivals of its carrier, route and aircraft",
        ["flight", "to", "late?", "carrier", "route", "aircraft", "what happened"],
        rows,
        left=2,
    )


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f}"


def _compare_with_history(store: hw.FeatureStore, keys: pd.DataFrame, values: pd.DataFrame, now: datetime) -> None:
    """What is served is what the training join gives at the same instant."""
    history = store.get_historical_features(keys, "delay_model", at=now).to_pandas()
    features = [name for name in values if name not in keys]
    served, joined = (f[features].to_numpy(dtype="float64", na_value=np.nan) for f in (values, history))
    same = (served == joined) | (np.isnan(served) & np.isnan(joined))
    say(f"Online beside the training join at the same instant: {same.size:,} values, {int((~same).sum())} differ.")
