"""The demo's last step: a late correction and late reports are written, and the same reads done again."""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from screen import clock_time, say, step, table
from serving import asked, with_features

import headwater as hw

AIRPORTS = ["EWR", "JFK", "LGA"]
SHOWN = ["weather:temp", "weather:wind_speed", "weather:visibility"]


def correct(
    store: hw.FeatureStore, departures: pd.DataFrame, predict: Callable[[pd.DataFrame], np.ndarray], now: datetime
) -> None:
    """Write a correction of the last report, then the reports that were missing (both made up), and read after each."""
    with step("Correct: the same reads after late rows are written"):
        reader = store.prepare("delay_model")
        keys, request = asked(reader, departures)
        before = predict(with_features(departures, reader.read(keys, request).to_pandas()))
        last_report = now - timedelta(hours=5)
        correction = [_report("LGA", last_report, now, temp=27.0, wind=24.2, visibility=3.0)]
        missing = [
            _report(airport, now - timedelta(hours=1), now, temp=25.0, wind=19.6, visibility=4.0)
            for airport in AIRPORTS
        ]
        seen = [_read(store)]
        for what, rows in (
            (f"a correction of LGA's report of {clock_time(last_report)}", correction),
            (f"the reports of {clock_time(now - timedelta(hours=1))}", missing),
            ("the correction again, as a retry would", correction),
        ):
            report = store.write("weather", rows)
            say(f"write {what}: {report.applied} applied, {report.superseded} superseded")
            seen.append(_read(store))
        titles = ["as materialized", "after the correction", "after the reports", "after the retry"]
        table(
            "Temperature, wind, visibility; status and freshness",
            ["airport", *titles],
            zip(AIRPORTS, *seen, strict=True),
        )
        after = predict(with_features(departures, reader.read(keys, request).to_pandas()))
        changed = int((before != after).sum())
        say(f"{changed} of {len(after)} predictions changed: mean {before.mean():.1%} before, {after.mean():.1%} after")
        _show_history(store, now)


def _report(airport: str, hour: datetime, observed: datetime, temp: float, wind: float, visibility: float) -> dict:
    """A row as the source has it: what it says, of when it is, and when it was known."""
    row = {"origin": airport, "time_hour": hour, "observed_at": observed, "temp_f": temp, "wind_speed": wind}
    return {
        **row,
        "visib": visibility,
        "dewp_f": 20.0,
        "humid": 70.0,
        "wind_dir": 320.0,
        "precip": 0.0,
        "pressure": 1020.0,
    }


def _read(store: hw.FeatureStore) -> list[str]:
    """Each airport's weather in one cell: values, status, freshness."""
    result = store.get_online_features(SHOWN, {"airport": AIRPORTS})
    values, statuses, freshness = result.to_dict(), result.statuses["temp"], result.freshness()["weather"]
    rows = zip(values["temp"], values["wind_speed"], values["visibility"], statuses, freshness, strict=True)
    return [f"{temp:.1f} {wind:.1f} {sight:.1f}\n{status} {fresh:.2f}" for temp, wind, sight, status, fresh in rows]


def _show_history(store: hw.FeatureStore, now: datetime) -> None:
    """The training join knows the late rows from when they were known, not before."""
    times = [now - timedelta(minutes=1), now]
    spine = pd.DataFrame({"airport": "LGA", "timestamp": times})
    temps = store.get_historical_features(spine, ["weather:temp"]).to_pandas()["temp"]
    then = ", ".join(f"{temp:.1f} °F at {clock_time(when)}" for when, temp in zip(times, temps, strict=True))
    say(f"The training join at LGA gives {then}: late rows count from when they were known.")
