"""A set of features under measurement, and the figures that its times come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headwater.advisor.measurement import ENOUGH_FOR_P99, MeasuredFeatures, MeasuredFigure
from headwater.advisor.sampling import Entities
from headwater.compute.reading.prepared import PreparedReader

BATCHES = (1, 100)
"""Entities of a read."""


@dataclass
class Target:
    """What is measured, and what was found so far.

    Attributes:
        name: of the service or view.
        kind: `service`, `view` or `features`.
        reader: reads them.
        features: as they were asked for.
        entities: that are read.
        found: the share of the rows asked for that the store had.
        batches: entities of a read → what is read in turn.
        reads: entities of a read → the seconds of each read, repeat by repeat.
        history: seconds of each join.
        no_history: why there is none.
    """

    name: str
    kind: str
    reader: PreparedReader
    features: Any
    entities: Entities = field(default_factory=lambda: Entities({}, (), 0, False))
    found: float = 0.0
    batches: dict[int, list[dict[str, list[Any]]]] = field(default_factory=dict)
    reads: dict[int, list[list[float]]] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    no_history: str = ""


def described(target: Target) -> MeasuredFeatures:
    """What was measured, and by which keys."""
    reader, entities = target.reader, target.entities
    return MeasuredFeatures(
        target.name,
        target.kind,
        dict(reader.versions),
        len(reader.request.columns),
        {name: str(dtype) for name, dtype in reader.join_keys.items()},
        len(entities),
        entities.looked_at,
        entities.whole,
        round(target.found, 4),
    )


def figures_of(target: Target) -> list[MeasuredFigure]:
    """The figures of reads and history; those that are unknown say why."""
    figures = []
    for batch in BATCHES:
        repeats = [np.array(took) for took in target.reads.get(batch, ())]
        names = (("read_p50_ms", "ms"), ("read_p99_ms", "ms"), ("reads_per_second", "reads/s"))
        if not repeats:
            why = f"{len(target.entities):,} keys are too few for a batch of {batch}"
            figures += [MeasuredFigure(name, target.name, batch, unit, unknown=why) for name, unit in names]
            continue
        whole = np.concatenate(repeats)
        few = "" if len(whole) >= ENOUGH_FOR_P99 else f"{len(whole)} reads are too few for a p99: give it more seconds"
        for (name, unit), measured in zip(names, (_p50, _p99, _rate), strict=True):
            why = few if name == "read_p99_ms" else ""
            value = None if why else measured(whole)
            values = () if why else tuple(measured(took) for took in repeats)
            figures.append(MeasuredFigure(name, target.name, batch, unit, value, values, len(whole), why))
    return [*figures, _history(target)]


def _history(target: Target) -> MeasuredFigure:
    size = len(target.entities)
    took = target.history[1:] or target.history
    if not took:
        return MeasuredFigure("history_rows_per_second", target.name, size, "rows/s", unknown=target.no_history)
    rates = tuple(size / each for each in took)
    value = size * len(took) / sum(took)
    return MeasuredFigure("history_rows_per_second", target.name, size, "rows/s", value, rates, len(took))


def _p50(took: Any) -> float:
    return float(np.percentile(took, 50)) * 1e3


def _p99(took: Any) -> float:
    return float(np.percentile(took, 99, method="higher")) * 1e3


def _rate(took: Any) -> float:
    return len(took) / float(took.sum())
