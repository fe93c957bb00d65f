"""A measurement of one's own store: reads and history on keys that it has, read-only, bounded in time and load."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.advisor.measured_target import BATCHES, Target, described, figures_of
from headwater.advisor.measurement import MeasuredFigure, Measurement
from headwater.advisor.sampling import ViewSample, draw, entities_of
from headwater.advisor.surroundings import machine, registry_kind, versions_of
from headwater.advisor.timed import Pace, Stop, TookTooLong, within
from headwater.clock import MIN_MICROS
from headwater.compute.context import StoreContext
from headwater.compute.reading.historical import historical
from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.services import Services
from headwater.errors import (
    ChangeRefused,
    FeatureViewNotFound,
    HeadwaterError,
    StoreError,
    UsageError,
    VersionNotFound,
)
from headwater.observer import Observer, Progress
from headwater.planning.resolved import ResolvedView
from headwater.planning.snapshot import RegistrySnapshot
from headwater.types import STATUSES, Status
from headwater.urls import without_password

REPEATS = 5
MOST_FEATURES = 4
"""So many services (or views) are measured at most, those with the most features first."""
SAMPLING, READING, HISTORY = 0.15, 0.5, 0.9
"""Shares of the time: the first two of all, the last of what these leave."""
AT = "headwater_measured_at"
"""The spine's time column."""
_SEED = 11
_STEP = "measure"
_NOT_FOUND = STATUSES.index(Status.NOT_FOUND)


def measure(
    context: StoreContext,
    *,
    features: Any = None,
    seconds: float = 10.0,
    max_keys: int = 1_000,
    observer: Observer | None = None,
    pace: Pace | None = None,
) -> Measurement:
    """Measure a store on a sample of the keys it has.

    Nothing is written: no row, no hint of a refresh, nothing in the registry or the log. Reads take at most half of
    the time and 20,000 rows a second, in bursts of at most 50 ms; history runs one query at a time and rests as long.

    Args:
        context: the store's parts and settings.
        features: references, views, selections, or a service; None: each live service, else each live view, at most
            four, those with the most features.
        seconds: how long it may take in all; a read or a query under way is ended, or waited for by the store's own
            time-outs.
        max_keys: how many keys are drawn at most, and how many rows a spine has.
        observer: receives progress; None: the store's.
        pace: another limit of the load.

    Raises:
        UsageError: bounds that mean nothing.
        FeatureViewNotFound: nothing is registered.
        NotFound: `features` names what is not there.
        StoreError: the online store holds no rows of what is to be measured.
        Unavailable: a store cannot be reached.
    """
    if not 0 < seconds < float("inf"):
        raise UsageError(f"seconds={seconds!r}: must be more than 0")
    if max_keys < 1:
        raise UsageError(f"max_keys={max_keys!r}: must be at least 1")
    return _Measuring(context, seconds, max_keys, observer or context.observer, pace or Pace()).run(features)


def check_registered(snapshot: RegistrySnapshot) -> None:
    """Refuse a registry that holds no view.

    Raises:
        FeatureViewNotFound: saying what to do.
    """
    if not snapshot.views:
        raise FeatureViewNotFound("nothing is registered, so nothing can be measured: run `headwater apply`")


class _Measuring:
    """One measurement under way."""

    def __init__(self, context: StoreContext, seconds: float, max_keys: int, observer: Observer, pace: Pace) -> None:
        # kept rows would be measured instead of the store, and hints of stale rows would be written
        settings = context.settings
        reads = replace(settings.reads, cache=0.0)
        refreshing = replace(settings.refreshing, requests=False)
        self.context = replace(context, settings=replace(settings, reads=reads, refreshing=refreshing))
        self.services = Services(self.context)
        # opened now, so that no figure has what that takes
        context.engine, context.log  # noqa: B018
        self.seconds, self.max_keys, self.observer, self.pace = seconds, max_keys, observer, pace
        self.rng = random.Random(_SEED)
        self.notes: list[str] = []
        self.rows_read = 0
        self.began = time.monotonic()
        self.steps = 0

    def run(self, features: Any) -> Measurement:
        context, at = self.context, self.context.clock()
        surroundings = machine()
        snapshot = context.registry.snapshot()
        check_registered(snapshot)
        online = dict(context.online.info())
        targets = self._targets(snapshot, features)
        targets = self._sampled(targets)
        self._read(targets)
        for left, target in zip(range(len(targets), 0, -1), targets, strict=True):
            self._join(target, HISTORY * (self.began + self.seconds - time.monotonic()) / left)
        figures = [figure for target in targets for figure in figures_of(target)]
        figures += self._recorded(snapshot, targets)
        self._tell(done=True)
        warnings = online.pop("warnings", "")
        online["place"] = without_password(str(online.get("place", "")))
        if warnings:
            self.notes.append(f"the online store warns: {warnings}")
        return Measurement(
            context.project,
            at,
            round(time.monotonic() - self.began, 3),
            self.seconds,
            self.max_keys,
            surroundings,
            versions_of(),
            online,
            type(context.engine).__name__,
            registry_kind(context.registry),
            tuple(described(target) for target in targets),
            tuple(figures),
            self._how(),
            tuple(self.notes),
            self.rows_read,
        )

    # what, and by which keys

    def _targets(self, snapshot: RegistrySnapshot, features: Any) -> list[Target]:
        if features is not None:
            reader = self._reader(features)
            service = reader.request.service
            name = service[0] if service is not None else _names(features, reader)
            return [Target(name, "features" if service is None else "service", reader, features)]
        services = [record.name for record in snapshot.services.values() if record.live is not None]
        views = [record.name for record in snapshot.views.values() if record.live is not None]
        found = self._prepared("service", services) or self._prepared("view", views)
        if not found:
            raise FeatureViewNotFound("no version of any view is live: run `headwater materialize`, or `promote` one")
        found.sort(key=lambda target: (-len(target.reader.request.columns), target.name))
        self.notes += [f"{t.kind} {t.name!r} was not measured: {MOST_FEATURES} are" for t in found[MOST_FEATURES:]]
        return found[:MOST_FEATURES]

    def _reader(self, features: Any) -> PreparedReader:
        reader = PreparedReader(self.context, self.services, features)
        if reader.request_fields:
            raise UsageError(f"it needs values of a request: {', '.join(reader.request_fields)}")
        return reader

    def _prepared(self, kind: str, names: Sequence[str]) -> list[Target]:
        targets = []
        for name in names:
            features = name if kind == "service" else [f"{name}:*"]
            try:
                targets.append(Target(name, kind, self._reader(features), features))
            except (ChangeRefused, VersionNotFound, UsageError) as bad:
                self.notes.append(f"{kind} {name!r} was not measured: {bad}")
        return targets

    def _sampled(self, targets: list[Target]) -> list[Target]:
        views: dict[tuple[str, str], ResolvedView] = {}
        for view in (view for target in targets for view in target.reader.request.views):
            views.setdefault((view.name, view.version), view)
        samples: dict[tuple[str, str], ViewSample] = {}
        for key, view in views.items():
            samples[key] = draw(self.context, view, self.max_keys, SAMPLING * self.seconds / len(views), self.rng)
            self.rows_read += samples[key].looked_at
            self._tell()
        kept = []
        for target in targets:
            entities = entities_of(target.reader.request, samples)
            if entities is None:
                empty = sorted({v.name for v in target.reader.request.views if not samples[v.name, v.version].keys})
                self.notes.append(f"{target.kind} {target.name!r} was not measured: no rows of {', '.join(empty)}")
                continue
            target.entities = entities
            kept.append(target)
        if not kept:
            names = ", ".join(sorted({name for name, _ in views}))
            raise StoreError(
                f"the online store has no rows of {names}, so nothing can be measured: run `headwater materialize`"
            )
        for target in kept:
            self._warm_up(target)
        return kept

    def _warm_up(self, target: Target) -> None:
        """Open connections, find out how many rows there are, and make the batches that are read."""
        size, first = len(target.entities), max(BATCHES)
        places = list(range(size))
        result = target.reader.read(target.entities.some(places[:first]))
        self._count(target, min(size, first))
        codes = list(result.status_codes().values())
        target.found = 1.0 - float(np.mean([np.mean(code == _NOT_FOUND) for code in codes]))
        for batch in BATCHES:
            if batch > size:
                continue
            shuffled = self.rng.sample(places, size)
            parts = [shuffled[i : i + batch] for i in range(0, size - batch + 1, batch)]
            target.batches[batch] = [target.entities.some(part) for part in parts]
            target.reads[batch] = []

    # reads

    def _read(self, targets: list[Target]) -> None:
        slots = [(target, batch, cycle(parts)) for target in targets for batch, parts in target.batches.items()]
        began, share = time.monotonic(), READING * self.seconds
        slot = share / (REPEATS * max(1, len(slots)))
        ends = began + slot
        for repeat in range(REPEATS):
            for target, batch, parts in slots:
                # a slow store gets fewer repeats, one whose last rest went on for a little longer all of them
                if repeat and time.monotonic() > began + 1.1 * share + self.pace.burst / self.pace.share:
                    return
                target.reads[batch].append(self._repeat(target, batch, parts, ends))
                ends += slot
                self._tell()

    def _repeat(self, target: Target, batch: int, parts: Any, until: float) -> list[float]:
        """Read until a time, in bursts, once at least; seconds of each read."""
        took: list[float] = []
        read, clock = target.reader.read, time.perf_counter
        rows_each = batch * len(target.reader.request.views)
        left = until - time.monotonic()
        pace = replace(self.pace, burst=min(self.pace.burst, max(0.0, left) * self.pace.share))
        while True:
            busy, rows = 0.0, 0
            while not rows or not pace.over(busy, rows):
                asked = next(parts)
                started = clock()
                read(asked).to_dict()
                took.append(clock() - started)
                busy += took[-1]
                rows += rows_each
                if time.monotonic() >= until:
                    break
            self.rows_read += rows
            time.sleep(pace.rest(busy, rows))
            if time.monotonic() >= until:
                return took

    def _count(self, target: Target, entities: int) -> None:
        self.rows_read += entities * len(target.reader.request.views)

    # history

    def _join(self, target: Target, seconds: float) -> None:
        """Run the point-in-time join over the sample as often as there is time for, five times at most."""
        spine = self._spine(target)
        left = seconds
        for _ in range(REPEATS + 1):
            started = time.perf_counter()
            try:
                within(left, lambda stop: self._joined(spine, target.features, stop))
            except TookTooLong:
                if not target.history:
                    allowed = f"the {max(0.0, seconds):.1f} s that were left for it: give it more seconds"
                    target.no_history = f"one join of {spine.num_rows:,} rows takes longer than {allowed}"
                return
            except (HeadwaterError, OSError) as bad:
                target.no_history = f"history cannot be read: {bad}"
                return
            finally:
                self._tell()
            took = time.perf_counter() - started
            target.history.append(took)
            left -= 2 * took
            if left < took:
                return
            time.sleep(took)

    def _joined(self, spine: pa.Table, features: Any, stop: Stop) -> None:
        history = historical(self.context, spine, features, timestamp_column=AT)
        stop.calls(history.cancel)
        history.to_arrow()

    def _spine(self, target: Target) -> pa.Table:
        """The keys drawn, each at the time its row was known; now, where it has none or that is yet to come."""
        now = self.context.now()
        times = [now if known == MIN_MICROS else min(known, now) for known in target.entities.known]
        keys = target.reader.join_keys
        columns = {name: pa.array(target.entities.columns[name], keys[name].arrow) for name in keys}
        return pa.table(columns | {AT: pa.array(times, pa.timestamp("us", "UTC"))})

    # what is recorded

    def _recorded(self, snapshot: RegistrySnapshot, targets: Sequence[Target]) -> list[MeasuredFigure]:
        try:
            time_to_fresh = self.context.refresh_records.read().time_to_fresh
            fresh = MeasuredFigure("freshness_minutes", "", 0, "min", unknown="no refresh was recorded")
            if time_to_fresh.p95 is not None:
                minutes = time_to_fresh.p95.total_seconds() / 60
                fresh = MeasuredFigure("freshness_minutes", "", 0, "min", minutes, samples=time_to_fresh.count)
        except StoreError as bad:
            fresh = MeasuredFigure("freshness_minutes", "", 0, "min", unknown=f"records of refreshes: {bad}")
        return [*self._rates(targets), fresh, *self._behind(snapshot, targets)]

    def _rates(self, targets: Sequence[Target]) -> list[MeasuredFigure]:
        """Rows a second of the last run that found rows, of each view that was measured."""
        runs, figures = self.context.registry.last_runs(), []
        for name, version in sorted(_versions(targets)):
            rows, took = runs.get((name, version), (0, timedelta()))
            rate = rows / took.total_seconds() if rows and took else None
            why = "" if rate is not None else "no run that found rows was recorded"
            about = f"{name}@{version}"
            figures.append(
                MeasuredFigure("materialization_rows_per_second", about, 0, "rows/s", rate, samples=rows, unknown=why)
            )
        return figures

    def _behind(self, snapshot: RegistrySnapshot, targets: Sequence[Target]) -> list[MeasuredFigure]:
        """How long ago each view that was measured was materialized up to."""
        marks, now = self.context.watermarks(snapshot), self.context.now()
        figures = []
        for name, version in sorted(_versions(targets)):
            mark = marks.get((name, version))
            known = mark is not None and mark.end > MIN_MICROS
            minutes = max(0, now - mark.end) / 60e6 if mark is not None and known else None
            why = "" if known else "it was never materialized"
            figures.append(MeasuredFigure("behind_minutes", f"{name}@{version}", 0, "min", minutes, unknown=why))
        return figures

    def _how(self) -> tuple[str, ...]:
        local = self.context.online.capabilities.local
        share, rows = self.pace.share, self.pace.rows
        return (
            f"keys: drawn at random (seed {_SEED}) from the first rows, at most {100 if local else 10} for each key, "
            "that the online store gives of each view, in its own order",
            f"reads: one after another in one thread of one process, keys in random order, values made Python objects; "
            f"at most {share:.0%} of the time and {rows:,.0f} rows a second; kept rows (online cache) are passed by",
            "history: the point-in-time join of the drawn keys at the times their rows were known, whole, to Arrow; "
            "a first run that others follow is not counted; the source's size, not the spine's, may decide the rate",
            f"repeats: up to {REPEATS}, in turn over the whole time; a figure is of all of them together",
        )

    def _tell(self, done: bool = False) -> None:
        self.steps += 1
        spent = min(self.seconds, time.monotonic() - self.began)
        self.observer(Progress(_STEP, round(spent), round(self.seconds), "s", done))


def _names(features: Any, reader: PreparedReader) -> str:
    if isinstance(features, str):
        return features
    return ", ".join(f"{reader.request.views[c.view].label}:{c.feature.name}" for c in reader.request.columns[:8])


def _versions(targets: Sequence[Target]) -> set[tuple[str, str]]:
    """The view versions that were measured."""
    return {(view.name, view.version) for target in targets for view in target.reader.request.views}
