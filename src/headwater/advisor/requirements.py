"""What an architect asks of a feature store: validated, all of it optional."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any

from headwater.advisor.profiles import CAPABILITIES, LEVELS, Profile, one_of
from headwater.config import read_toml
from headwater.errors import ConfigError, UsageError, brief, nearest

DEFAULT_WEIGHTS: Mapping[str, float] = {
    "performance": 0.25,
    "cost": 0.20,
    "operational_complexity": 0.20,
    "flexibility": 0.15,
    "time_to_market": 0.10,
    "vendor_lock_in_risk": 0.10,
}
CRITERIA = tuple(DEFAULT_WEIGHTS)
PREFERENCES = ("low", "balanced", "premium")
IMPORTANCE: Mapping[str, float] = {"low": 0.33, "medium": 0.67, "high": 1.0}

_LIMITS = ("max_latency_ms", "min_throughput_qps", "freshness_minutes", "team_size")
_LISTS = ("required_online_stores", "required_offline_stores", "needs")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "cost_preference": PREFERENCES,
    "vendor_risk_tolerance": LEVELS,
    "ops_skill": LEVELS,
    "budget_class": LEVELS,
}


@dataclass(frozen=True)
class Requirements:
    """What is asked for; whatever is left out counts the same for every system.

    Attributes:
        max_latency_ms: the most that the p99 of a read may be, in milliseconds.
        min_throughput_qps: the least reads a second.
        freshness_minutes: how old a served feature may be at most.
        cost_preference: low, balanced or premium: what kind of price suits.
        flexibility_importance: how much the choice of parts matters: 0 to 1, or low, medium, high.
        vendor_risk_tolerance: how much of a tie to a vendor is acceptable: low, medium, high.
        required_online_stores: each of these must be provided.
        required_offline_stores: each of these must be provided.
        needs: capabilities that it must have.
        team_size: how many people run it.
        ops_skill: what the team knows of running such systems: low, medium, high.
        budget_class: what it may cost to run at all: low, medium, high.
        decision_weights: criterion -> weight; where any are given, only those count. They need not add up to 1.
        allow_closed: whether a system that is only maintained, or closed to new users, may be recommended.

    Raises:
        UsageError: a value that is not possible; all of them are listed.
    """

    max_latency_ms: float | None = None
    min_throughput_qps: float | None = None
    freshness_minutes: float | None = None
    cost_preference: str | None = None
    flexibility_importance: float | str | None = None
    vendor_risk_tolerance: str | None = None
    required_online_stores: tuple[str, ...] = ()
    required_offline_stores: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    team_size: float | None = None
    ops_skill: str | None = None
    budget_class: str | None = None
    decision_weights: Mapping[str, float] = field(default_factory=dict)
    allow_closed: bool = False

    def __post_init__(self) -> None:
        problems = []
        for f in fields(self):
            try:
                object.__setattr__(self, f.name, _value(f.name, getattr(self, f.name)))
            except ValueError as bad:
                problems.append(f"{f.name} = {brief(getattr(self, f.name))}: {bad}")
        if problems:
            raise UsageError("\n  ".join(["requirements:", *problems]) if problems[1:] else problems[0])

    @classmethod
    def of(cls, value: Requirements | Mapping[str, Any] | None) -> Requirements:
        """Requirements from a mapping of names to values; None means no requirements.

        Args:
            value: requirements, a mapping of their names to values, or None.

        Returns:
            The requirements, checked.

        Raises:
            UsageError: an unknown name (the message suggests the nearest), or an invalid value.
        """
        if isinstance(value, Requirements):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise UsageError(f"requirements: a mapping or Requirements, not {type(value).__name__}")
        known = [f.name for f in fields(cls)]
        unknown = [f"unknown requirement {brief(str(n))}{nearest(str(n), known)}" for n in value if n not in known]
        if unknown:
            raise UsageError("\n  ".join([*unknown, f"known are {', '.join(known)}"]))
        return cls(**{str(name): given for name, given in value.items()})

    @classmethod
    def from_file(cls, file: str | Path) -> Requirements:
        """Requirements from a TOML file; its keys are the names of requirements.

        Args:
            file: the path of a TOML file.

        Returns:
            The requirements, checked.

        Raises:
            ConfigError: the file is missing, is not TOML, or has requirements that `of` refuses.
        """
        try:
            return cls.of(read_toml(Path(file)))
        except UsageError as bad:
            raise ConfigError(f"{file}: {bad}") from None

    @property
    def stated(self) -> dict[str, Any]:
        """What is asked for, by name, in order; what is left out is not in it."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value is not False and value not in (None, (), {})}

    @property
    def asks_nothing(self) -> bool:
        """Whether nothing is stated by which systems could be ranked."""
        return not self.stated.keys() - {"allow_closed"}

    @property
    def importance(self) -> float:
        """The importance of flexibility as a number; 0 where it is not stated."""
        value = self.flexibility_importance
        return IMPORTANCE[value] if isinstance(value, str) else float(value or 0.0)

    @property
    def weights(self) -> dict[str, float]:
        """Criterion -> weight, every criterion in it; they add up to 1."""
        given = self.decision_weights or DEFAULT_WEIGHTS
        greatest = max(given.values())
        scaled = {name: given.get(name, 0.0) / greatest for name in CRITERIA}
        total = math.fsum(scaled.values())
        return {name: weight / total for name, weight in scaled.items()}

    def to_dict(self) -> dict[str, Any]:
        """The given requirements as plain data.

        Returns:
            Name → value, for the requirements that were given.
        """
        return {n: list(v) if isinstance(v, tuple) else v for n, v in self.stated.items()}


def check_needs(requirements: Requirements, profiles: Iterable[Profile]) -> None:
    """Refuses needs that are neither known capabilities nor listed by any profile.

    Raises:
        UsageError: with the nearest name.
    """
    known = dict.fromkeys(CAPABILITIES)
    for profile in profiles:
        known |= dict.fromkeys((*profile.capabilities, *profile.unknown_capabilities))
    unknown = [
        f"needs: unknown capability {brief(need)}{nearest(need, known)}"
        for need in requirements.needs
        if need not in known
    ]
    if unknown:
        raise UsageError("\n  ".join([*unknown, f"known are {', '.join(known)}"]))


def _value(name: str, value: Any) -> Any:
    if name in _LISTS:
        return _names(value)
    if name == "allow_closed":
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if name == "decision_weights":
        return _weights(value)
    if value is None:
        return None
    if name in _LIMITS:
        number = _number(value)
        if number <= 0:
            raise ValueError("must be more than 0")
        return number
    if name == "flexibility_importance":
        return _importance(value)
    return one_of(value, _CHOICES[name])


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise ValueError("must be a list of names")
    names = list(value)
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError("must be a list of names, none of them empty")
    if isinstance(value, (set, frozenset)):
        names.sort()
    return tuple(dict.fromkeys(name.strip().lower() for name in names))


def _weights(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of criteria and weights")
    weights = {}
    for name, weight in value.items():
        if name not in CRITERIA:
            raise ValueError(
                f"unknown criterion {brief(str(name))}{nearest(str(name), CRITERIA)}; known are {', '.join(CRITERIA)}"
            )
        weights[str(name)] = _number(weight)
        if weights[str(name)] < 0:
            raise ValueError(f"{name}: a weight must not be negative")
    if weights and not any(weights.values()):
        raise ValueError("at least one weight must be more than 0")
    return weights


def _importance(value: Any) -> float | str:
    if isinstance(value, str):
        return one_of(value, LEVELS)
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"must be from 0 to 1, or one of {', '.join(LEVELS)}")
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number
