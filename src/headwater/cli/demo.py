"""`headwater demo`: the whole road on the sample project, in a folder that is gone afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import headwater as hw
from headwater.cli import later, reports, values
from headwater.cli.init import write_project
from headwater.cli.run import Run, command
from headwater.cli.sheet import Drawable, Line, Lines, Sheet

if TYPE_CHECKING:
    from headwater.store import FeatureStore

AIRPORTS = ["JFK", "LGA", "ORD", "XXX"]
FEATURES = ["weather:temp", "weather:reports"]


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    command(app)(demo)


@dataclass
class _Walk:
    """The steps so far, and what they took."""

    run: Run
    steps: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, command: str, why: str) -> Iterator[dict[str, Any]]:
        """One step: the command it stands for, why, and afterwards how long it took."""
        self.run.say(*([""] if self.steps else []), Line(f"$ {command}", "bold"), Line(why, "dim"))
        record: dict[str, Any] = {"command": command}
        started = time.perf_counter()
        yield record
        record["seconds"] = round(time.perf_counter() - started, 4)
        self.steps.append(record)

    def show(self, *drawables: Drawable) -> None:
        """Draw what a step gave."""
        self.run.say(*drawables)


def demo(run: Run) -> None:
    """Run the whole workflow once, in a temporary folder.

    The sample project: apply, history, materialize, get, and a late correction. Nothing is left behind.
    """
    walk = _Walk(run)
    with closing(later.scratch.TempFolder()) as temporary:
        folder = temporary.path / "demo"
        with walk.step(
            "headwater init demo", "A small project: weather at airports, its data ends at the current time."
        ) as record:
            record["files"] = write_project(folder, datetime.now(UTC))
        walk.show(", ".join(record["files"]))
        with hw.FeatureStore(folder) as store:
            _define(walk, store)
            _train(walk, store, folder)
            _serve(walk, store)
            _correct(walk, store, folder)
    total = sum(step["seconds"] for step in walk.steps)
    sheet = Sheet(["step", "seconds"], [[s["command"].partition(" --")[0], f"{s['seconds']:.3f}"] for s in walk.steps])
    run.say(
        Line(""), sheet, Line(f"{total:.2f} seconds in all; 'headwater init PATH' writes this project to keep", "dim")
    )
    if run.json:
        run.answer({"steps": walk.steps, "seconds": round(total, 4)})


def _define(walk: _Walk, store: FeatureStore) -> None:
    with walk.step(
        "headwater apply", "What features.py defines, compared with the registry, then registered."
    ) as record:
        record["plan"] = plan = store.apply()
    walk.show(Lines(str(plan)))


def _train(walk: _Walk, store: FeatureStore, folder: Path) -> None:
    """Join the training set."""
    spine, out = folder / "data" / "flights.parquet", folder / "train.out.parquet"
    told_as = "headwater history data/flights.parquet --features delay_model -o train.out.parquet"
    with walk.step(told_as, "Each flight with what was known at its departure, nothing later.") as record:
        result = store.get_historical_features(str(spine), "delay_model")
        taken = later.files.write_result(result, str(out), None)
    record["history"], drawn = values.joined(result, taken, out.name)
    walk.show(*drawn)


def _serve(walk: _Walk, store: FeatureStore) -> None:
    """Fill the online store, then read it."""
    with walk.step("headwater materialize", "The newest known row of each airport goes online.") as record:
        record["report"] = report = store.materialize()
    walk.show(*reports.materialized(report))
    _read(walk, store, "JFK is fresh, LGA's station fell silent, ORD's last report is past its ttl, XXX is unknown.")


def _correct(walk: _Walk, store: FeatureStore, folder: Path) -> None:
    """Write a late correction, then read again."""
    why = "JFK's last report again, seven degrees warmer, known only now: to history and online at once."
    with walk.step("headwater write weather data/correction.csv", why) as record:
        dtypes = later.files.source_columns(store.registry.snapshot().view("weather").version().view)
        rows = later.files.read_table(folder / "data" / "correction.csv", dtypes)
        record["report"] = report = store.write("weather", rows)
    walk.show(*reports.written("weather", report))
    _read(walk, store, "The same read again.")


def _read(walk: _Walk, store: FeatureStore, why: str) -> None:
    keys = " ".join(f"--key airport={airport}" for airport in AIRPORTS)
    with walk.step(f"headwater get --features {','.join(FEATURES)} {keys}", why) as record:
        reader = store.prepare(FEATURES)
        result = reader.read({"airport": AIRPORTS})
    record["read"], sheet = values.read(reader.request, result, datetime.now(UTC))
    walk.show(sheet)
