"""What a measurement of one's own store found: its figures, what is needed to replicate them, and its saved form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from headwater.advisor.profiles import load, number_text
from headwater.errors import FormatError, brief

NAME = "yours (measured)"
"""The name of the profile that a measurement becomes."""
FORMAT = 1
"""The version of the saved form; a reader refuses later ones."""
ENOUGH_FOR_P99 = 100
"""Of fewer reads no p99 is given."""


@dataclass(frozen=True)
class MeasuredFigure:
    """One figure of one set of features, or of the store.

    Attributes:
        name: which one: `read_p50_ms`, `read_p99_ms`, `reads_per_second`, `history_rows_per_second`,
            `materialization_rows_per_second`, `freshness_minutes`, `behind_minutes`.
        of: the features: a service or view by its name; empty for the whole store.
        batch: entities of a read, rows of a spine; 0 where that means nothing.
        unit: of the value.
        value: over all repeats; None: unknown.
        repeats: its value in each repeat; empty where there were none.
        samples: how many reads or runs it rests on.
        unknown: why the value is unknown; empty where it is not.
    """

    name: str
    of: str
    batch: int
    unit: str
    value: float | None = None
    repeats: tuple[float, ...] = ()
    samples: int = 0
    unknown: str = ""

    @property
    def label(self) -> str:
        """Its name for people: `read_p99_ms, batch 1, delay_model`."""
        batch = f", batch {self.batch}" if self.batch else ""
        return f"{self.name}{batch}{f', {self.of}' if self.of else ''}"


@dataclass(frozen=True)
class MeasuredFeatures:
    """A set of features that was measured.

    Attributes:
        name: of the service or view; the references, joined, where features were named one by one.
        kind: `service`, `view` or `features`.
        versions: view label → version.
        columns: how many features.
        join_keys: join key → dtype.
        keys: how many entities were drawn.
        looked_at: from how many rows of the store.
        whole: whether these are all rows of the views that gave the keys.
        found: the share of the rows of all the entities and views that the store had.
    """

    name: str
    kind: str
    versions: Mapping[str, str]
    columns: int
    join_keys: Mapping[str, str]
    keys: int
    looked_at: int
    whole: bool
    found: float


@dataclass(frozen=True)
class Machine:
    """Where it was measured, without the machine's name.

    Attributes:
        system: the operating system.
        processor: the model.
        cpus: of the machine.
        usable_cpus: those that this process may use.
        memory_gib: of the machine; None where it cannot be told.
        load: processes that wanted to run when it began, over the last minute; None where it cannot be told.
    """

    system: str
    processor: str
    cpus: int
    usable_cpus: int
    memory_gib: float | None
    load: float | None


@dataclass(frozen=True)
class Measurement:
    """One measurement of a store.

    Attributes:
        project: its name.
        at: when it began (UTC).
        seconds: how long it took.
        asked_seconds, max_keys: its bounds.
        machine: where it ran.
        versions: package → version: Python, headwater, the clients and engines installed.
        online, offline, registry: what the store's parts say of themselves, without passwords.
        features: what was measured, and by which keys.
        figures: what was found.
        how: how keys were drawn and reads made, in sentences.
        notes: what was left out, and why.
        reads: rows asked of the online store, in all.
        format: of the saved form.
    """

    project: str
    at: datetime
    seconds: float
    asked_seconds: float
    max_keys: int
    machine: Machine
    versions: Mapping[str, str]
    online: Mapping[str, str | int]
    offline: str
    registry: str
    features: tuple[MeasuredFeatures, ...]
    figures: tuple[MeasuredFigure, ...]
    how: tuple[str, ...]
    notes: tuple[str, ...] = ()
    reads: int = 0
    format: int = field(default=FORMAT, kw_only=True)

    def figure(self, name: str, batch: int = 0, of: str = "") -> MeasuredFigure | None:
        """One measured figure.

        Args:
            name: the figure's name, e.g. `read_p50_ms`.
            batch: the number of keys per read, for figures of reads.
            of: the service or view that it was measured on.

        Returns:
            The figure, or None if it was not measured.
        """
        for found in self.figures:
            if (found.name, found.batch, found.of) == (name, batch, of):
                return found
        return None

    def worst(self, name: str, batch: int = 0) -> MeasuredFigure | None:
        """The worst known value of a figure: the longest time, or the lowest rate.

        Args:
            name: the figure's name.
            batch: the number of keys per read, for figures of reads.

        Returns:
            The figure, or None if none is known.
        """
        known = [f for f in self.figures if f.name == name and f.batch == batch and f.value is not None]
        if not known:
            return None
        pick = min if name.endswith("_per_second") else max
        return pick(known, key=lambda found: found.value or 0.0)

    @property
    def where(self) -> str:
        """Where and when, in a few words: what a source says."""
        return (
            f"measured: in one process on {self.machine.usable_cpus} of {self.machine.cpus} CPUs "
            f"({self.machine.processor}), online store {self.online.get('kind', 'unknown')}, "
            f"{self.at.date().isoformat()}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The measurement as plain data.

        Returns:
            A dict that `json.dumps` accepts.
        """
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def to_json(self) -> bytes:
        """The measurement in its saved form.

        Returns:
            JSON, indented.
        """
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    @classmethod
    def from_json(cls, data: bytes | str) -> Measurement:
        """Read a saved measurement.

        Args:
            data: JSON as `to_json` wrote it.

        Returns:
            The measurement.

        Raises:
            FormatError: the data is not a measurement, is damaged, or was saved by a newer headwater.
        """
        try:
            found = msgspec.json.decode(data)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as bad:
            raise FormatError(f"this is not a saved measurement: {brief(str(bad))}") from None
        version = found.get("format") if isinstance(found, dict) else None
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise FormatError("this is not a saved measurement: it has no 'format'")
        if version > FORMAT:
            raise FormatError(f"the measurement has format {brief(version)}, this headwater reads {FORMAT}: upgrade it")
        try:
            return msgspec.convert(found, cls)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as bad:
            raise FormatError(f"the saved measurement is damaged: {brief(str(bad))}") from None

    def as_profile(self) -> dict[str, dict[str, Any]]:
        """The measurement in the form of a profiles' file: one profile, "yours (measured)".

        Figures are those measured, the worst of the features; what cannot be measured (levels, capabilities, the cost
        model) is headwater's own profile's, and its sources say so.

        Returns:
            The name of the profile → its fields, as in a file of profiles.
        """
        base = load()["headwater"].to_dict()
        sources = {name: f"headwater's own profile, not measured: {text}" for name, text in base["sources"].items()}
        sources |= {name: _NOT_MEASURED for name in _JUDGED if name not in sources}
        latency, rate = self.worst("read_p99_ms", 1), self.worst("reads_per_second", 1)
        fresh, kind = self.figure("freshness_minutes"), str(self.online.get("kind", "unknown"))
        profile = base | {
            "serving_latency_p99_ms": _value(latency, "variable"),
            "throughput_qps": _value(rate, "variable"),
            "feature_freshness_minutes": _value(fresh, "configurable"),
            "online_stores": [kind],
            "provides_online": [kind.split()[0].lower()],
            "measured": self._lines(),
            "components": base["components"]
            | {"online_store": kind, "feature_registry": f"its own, in {self.registry}"},
        }
        sources |= {
            "serving_latency_p99_ms": self._source(
                latency, "p99 of single-key reads from inside the process, values as Python objects; no server between"
            ),
            "throughput_qps": self._source(rate, "single-key reads one after another in one thread: a floor"),
            "feature_freshness_minutes": self._source(fresh, "p95 from a stale read to a newer row that can be read"),
            "provides_online": f"the store's configuration ({self.at.date().isoformat()})",
            "online_stores": f"the store's configuration ({self.at.date().isoformat()})",
            "measured": self.where,
        }
        return {NAME: profile | {"sources": sources}}

    def _source(self, figure: MeasuredFigure | None, what: str) -> str:
        if figure is None or figure.value is None:
            why = figure.unknown if figure is not None and figure.unknown else "it was not measured"
            return f"unknown: {why}"
        return f"{self.where}: {what}{f' ({figure.of})' if figure.of else ''}"

    def _lines(self) -> list[str]:
        """Every known figure in a line of its own."""
        known = [f"{f.label}: {number_text(f.value)} {f.unit}" for f in self.figures if f.value is not None]
        return [f"{self.where}; {self.seconds:.1f} s", *known]


_NOT_MEASURED = "headwater's own profile, not measured"
_JUDGED = (
    *("setup_complexity", "operational_overhead", "flexibility", "lock_in", "time_to_market", "budget_class"),
    *("ops_skill", "cost_model", "capabilities"),
)


def _rounded(value: float) -> float:
    """Three significant digits: more would be noise."""
    return float(f"{value:.3g}")


def _value(figure: MeasuredFigure | None, unknown: str) -> float | str:
    return unknown if figure is None or figure.value is None else _rounded(figure.value)
