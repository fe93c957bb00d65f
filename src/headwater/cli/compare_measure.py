"""`headwater compare --measure`: one's own store among the systems, and what changed since an earlier measurement."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headwater.advisor.measure import check_registered
from headwater.advisor.measured_change import MeasuredChange, compare_measurements, differences
from headwater.advisor.measurement import MeasuredFigure, Measurement
from headwater.advisor.profiles import load, number_text
from headwater.cli.run import Run
from headwater.cli.sheet import Drawable, Fields, Line, Sheet
from headwater.errors import ConfigError, FormatError

_NOISE = {True: "beyond noise", False: "within noise", None: ""}


@dataclass(frozen=True)
class Measured:
    """A measurement made for a comparison.

    Attributes:
        found: the measurement.
        changes: each figure beside an earlier one's; empty where none was named.
        differences: what else is not the same.
        saved: where it was saved; None: it was not.
    """

    found: Measurement
    changes: tuple[MeasuredChange, ...] = ()
    differences: tuple[str, ...] = ()
    saved: Path | None = None

    def profiles(self, file: Path | None) -> Mapping[str, Any]:
        """The profiles to compare: those of a file, if any, and the measured one."""
        return {**(load(file) if file is not None else {}), **self.found.as_profile()}

    def to_dict(self) -> dict[str, Any]:
        """What JSON has of it."""
        answer: dict[str, Any] = {"measurement": self.found.to_dict()}
        if self.changes:
            answer |= {"changes": [asdict(change) for change in self.changes], "differences": list(self.differences)}
        return answer | ({"saved": str(self.saved)} if self.saved is not None else {})

    def drawn(self) -> Iterator[Drawable]:
        """What a terminal shows of it."""
        yield Line(f"{self.found.where}; {self.found.seconds:.1f} s", "dim")
        yield Sheet.of("Measured", ["figure", "value", "unit", "why unknown"], map(_row, self.found.figures))
        if self.changes:
            columns = ["figure", "earlier", "later", "unit", "change", "noise"]
            known = [change for change in self.changes if (change.earlier, change.later) != (None, None)]
            yield Sheet.of("Since the earlier measurement", columns, map(_change, known))
        if self.differences:
            yield Fields([("-", line) for line in self.differences], "Other differences")
        if self.saved is not None:
            yield Line(f"saved {self.saved}", "green")


def measured(run: Run, seconds: float, save: Path | None, against: Path | None) -> Measured:
    """Measure the project's store.

    Args:
        run: names the project.
        seconds: how long it may take.
        save: where to save the measurement.
        against: an earlier one, saved.

    Raises:
        ConfigError: a file that cannot be read or written.
        FormatError: `against` is not a measurement.
        HeadwaterError: as `measure` says.
    """
    earlier = None if against is None else _read(against)
    if save is not None and not save.parent.is_dir():
        raise ConfigError(f"{save}: no such folder as {save.parent}")
    with run.store() as store:
        check_registered(store.registry.refresh())
        found = store.measure(minutes=seconds / 60)
    if save is not None:
        _write(save, found)
    run.warn(found.notes)
    if earlier is None:
        return Measured(found, saved=save)
    return Measured(found, compare_measurements(earlier, found), differences(earlier, found), save)


def _read(file: Path) -> Measurement:
    try:
        return Measurement.from_json(file.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as bad:
        raise ConfigError(f"{file}: {bad.strerror or bad}") from None
    except FormatError as bad:
        raise FormatError(f"{file}: {bad}") from None


def _write(file: Path, found: Measurement) -> None:
    try:
        file.write_bytes(found.to_json() + b"\n")
    except OSError as bad:
        raise ConfigError(f"{file}: {bad.strerror or bad}") from None


def _row(figure: MeasuredFigure) -> list[Any]:
    return [figure.label, None if figure.value is None else number_text(figure.value), figure.unit, figure.unknown]


def _change(change: MeasuredChange) -> list[Any]:
    values = [None if value is None else number_text(value) for value in (change.earlier, change.later)]
    share = None if change.change is None else f"{change.change:+.0%}"
    label = _NOISE[change.beyond_noise]
    better = "" if change.better is None else (", better" if change.better else ", worse")
    return [change.figure, *values, change.unit, share, label + better]
