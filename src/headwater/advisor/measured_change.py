"""Two measurements of a store beside each other: what changed, and whether that is beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from headwater.advisor.measurement import Measurement

CHANCE = 0.05
"""Repeats that do not overlap at all are reported as a change where chance alone parts them less often than this."""


@dataclass(frozen=True)
class MeasuredChange:
    """One figure in two measurements.

    Attributes:
        figure: its label.
        unit: of the values.
        earlier, later: its values; None: unknown.
        change: the later one's share above the earlier one (0.1: a tenth more); None where it cannot be told.
        beyond_noise: whether the repeats of the two lie apart, and farther than those of either are spread; None where
            there are too few repeats.
        better: whether the change is for the better; None where it is within noise, or that cannot be told.
    """

    figure: str
    unit: str
    earlier: float | None
    later: float | None
    change: float | None
    beyond_noise: bool | None
    better: bool | None


def compare_measurements(earlier: Measurement, later: Measurement) -> tuple[MeasuredChange, ...]:
    """The figures of two measurements, in the order of the later one; then those that only the earlier one has.

    A change is beyond noise where the repeats do not overlap, and where of repeats that are equal chance parts so
    many at most once in twenty times: 2 n! m! / (n + m)! of n and m repeats (1 in 126 of five and five). Noise that
    lasts longer than a measurement (another process at work, another placement in memory) is hardly in the repeats; so
    the gap between them must also be wider than the wider spread. Still: measure twice before, and twice after.
    """
    before = {(f.name, f.batch, f.of): f for f in earlier.figures}
    after = {(f.name, f.batch, f.of): f for f in later.figures}
    rows = []
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key)
        shown = new or old
        assert shown is not None
        first, second = (None if old is None else old.value), (None if new is None else new.value)
        change = None if first is None or second is None or first == 0 else second / first - 1
        beyond = None
        if old is not None and new is not None and change is not None:
            beyond = _apart(old.repeats, new.repeats)
        better = None
        if beyond and change:
            better = (change > 0) == shown.name.endswith("_per_second")
        rows.append(MeasuredChange(shown.label, shown.unit, first, second, change, beyond, better))
    return tuple(rows)


def differences(earlier: Measurement, later: Measurement) -> tuple[str, ...]:
    """What else differs between two measurements, a line each: changed figures may come from that."""
    parts = {
        "project": (earlier.project, later.project),
        "system": (earlier.machine.system, later.machine.system),
        "processor": (earlier.machine.processor, later.machine.processor),
        "cpus": (earlier.machine.cpus, later.machine.cpus),
        "usable cpus": (earlier.machine.usable_cpus, later.machine.usable_cpus),
        "online store": tuple(f"{m.online.get('kind')} {m.online.get('place')}" for m in (earlier, later)),
        "offline engine": (earlier.offline, later.offline),
        "registry": (earlier.registry, later.registry),
        "seconds asked": (earlier.asked_seconds, later.asked_seconds),
        "keys at most": (earlier.max_keys, later.max_keys),
    }
    for name in dict.fromkeys([*earlier.versions, *later.versions]):
        parts[f"version of {name}"] = (earlier.versions.get(name, "none"), later.versions.get(name, "none"))
    old, new = ({f.name: f for f in m.features} for m in (earlier, later))
    for name in [name for name in new if name in old]:
        parts[f"versions in {name}"] = tuple(
            ", ".join(f"{label} {version}" for label, version in f.versions.items()) for f in (old[name], new[name])
        )
        parts[f"keys of {name}"] = (old[name].keys, new[name].keys)
    return tuple(f"{what}: {one}, then {other}" for what, (one, other) in parts.items() if one != other)


def _apart(one: Sequence[float], other: Sequence[float]) -> bool | None:
    """Whether two sets of repeats lie apart by more than they are spread; None where too few are there to tell."""
    if not one or not other or 2 / comb(len(one) + len(other), len(one)) > CHANCE:
        return None
    gap = max(min(other) - max(one), min(one) - max(other))
    return gap > max(max(one) - min(one), max(other) - min(other))
