"""Profiles of feature store architectures: the package's own, and those that users add or override."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import Any

import msgspec

from headwater.config import read_toml
from headwater.errors import ConfigError, UsageError, brief, nearest


class FeatureStoreType(StrEnum):
    """The systems that the package has profiles of."""

    FEAST = "feast"
    TECTON = "tecton"
    SAGEMAKER = "sagemaker"
    DATABRICKS = "databricks"
    CUSTOM = "custom"
    HEADWATER = "headwater"


class FeatureStoreComponent(StrEnum):
    """The parts of a feature store."""

    OFFLINE_STORE = "offline_store"
    ONLINE_STORE = "online_store"
    FEATURE_REGISTRY = "feature_registry"
    SERVING_LAYER = "serving_layer"
    COMPUTATION_ENGINE = "computation_engine"
    MONITORING_SYSTEM = "monitoring_system"


LEVELS = ("low", "medium", "high")
COST_MODELS = (
    "infrastructure_only",
    "pay_per_compute_storage",
    "aws_pay_per_use",
    "managed_service_dbu",
    "managed_service_premium",
)
CAPABILITIES = (
    "streaming",
    "on_demand",
    "governance",
    "self_hosted",
    "embedded",
    "open_source",
    "window_aggregations",
    "vector_search",
    "monitoring",
    "managed",
)
UNSOURCED = "unsourced claim"
_CLOSED = re.compile(
    r"\b(only (been )?maintain(s|ed)?|maintenance|deprecated|discontinued|sunset|retired|unmaintained|archived"
    r"|closed|end[- ]of[- ](life|sale|support)|ended)\b"
)
OPEN_WORDS = ("variable", "configurable")

_LEVELS = (
    "setup_complexity",
    "operational_overhead",
    "flexibility",
    "lock_in",
    "time_to_market",
    "budget_class",
    "ops_skill",
)
_FIGURES = ("serving_latency_p99_ms", "throughput_qps", "feature_freshness_minutes")
_TEXTS = ("architecture_pattern", "status", "warning")
_NAMES = ("provides_online", "provides_offline", "capabilities", "unknown_capabilities")
_LISTS = ("online_stores", "offline_stores", "strengths", "limitations", "ideal_for", "measured")
_TABLES = ("components", "sources")
_NEEDED = (*_LEVELS, "cost_model")


def number_text(value: float) -> str:
    """A number as people write it: 10,000, 0.46, 8."""
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}" if value < 1e15 else f"{value:.3g}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Figure:
    """A figure of a profile: a number (`low` equals `high`), a range, or open.

    Attributes:
        low: the lower end; None where no single figure exists.
        high: the upper end; None where no single figure exists.
        word: "variable" or "configurable" where no single figure exists.
    """

    low: float | None = None
    high: float | None = None
    word: str = "variable"

    @property
    def open(self) -> bool:
        """Whether no single figure exists."""
        return self.low is None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends; None where it is open."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def written(self) -> float | list[float] | str:
        """As in a profile's file."""
        if self.low is None or self.high is None:
            return self.word
        return self.low if self.low == self.high else [self.low, self.high]

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return self.word
        if self.low == self.high:
            return number_text(self.low)
        return f"{number_text(self.low)} to {number_text(self.high)}"


@dataclass(frozen=True)
class Profile:
    """What is known and claimed of one system; `profiles.toml` explains the fields.

    Attributes:
        name: the system.
        warning: what a newcomer must know before a start; empty where there is nothing.
        components: part -> what fills it, where that is stated.
        sources: field -> where its value comes from; a figure without one is an unsourced claim.
    """

    name: str
    setup_complexity: str
    operational_overhead: str
    cost_model: str
    flexibility: str
    lock_in: str
    time_to_market: str
    budget_class: str
    ops_skill: str
    architecture_pattern: str = "not stated"
    online_stores: tuple[str, ...] = ()
    offline_stores: tuple[str, ...] = ()
    provides_online: tuple[str, ...] = ()
    provides_offline: tuple[str, ...] = ()
    serving_latency_p99_ms: Figure = Figure()
    throughput_qps: Figure = Figure()
    feature_freshness_minutes: Figure = Figure()
    capabilities: tuple[str, ...] = ()
    unknown_capabilities: tuple[str, ...] = ()
    status: str = "not stated"
    warning: str = ""
    strengths: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()
    ideal_for: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    components: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def closed(self) -> bool:
        """Whether by its status it is only maintained, or closed to new users."""
        status = self.status.strip().lower()
        return not status.startswith("active") and _CLOSED.search(status) is not None

    def source(self, name: str) -> str:
        """Where the value of a field comes from; "unsourced claim" where nobody says."""
        return self.sources.get(name, UNSOURCED)

    def figure(self, name: str) -> Figure:
        """One of the three figures, by its field's name."""
        found = getattr(self, name)
        assert isinstance(found, Figure)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The form of the file, without the name."""
        table = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return {key: _written(value) for key, value in table.items()}


def load(profiles: str | Path | Mapping[str, Any] | None = None) -> dict[str, Profile]:
    """The package's profiles, with the user's over them.

    Args:
        profiles: a TOML file or a mapping of its form: name -> table of fields (or a `Profile`). A name that the
            package has too needs only the fields that differ; a source of the package's is dropped where the value
            that it stood for is replaced.

    Raises:
        ConfigError: a file that is missing or not TOML, an unknown field, a bad value; with file, profile and field.
        UsageError: the same in a mapping.
    """
    found = dict(_package())
    if profiles is None:
        return found
    if isinstance(profiles, (str, Path)):
        place, tables = str(profiles), read_toml(Path(profiles))
        error: type[Exception] = ConfigError
    elif isinstance(profiles, Mapping):
        place, tables, error = "profiles", dict(profiles), UsageError
    else:
        raise UsageError(f"profiles: a path or a mapping of profiles, not {type(profiles).__name__}")
    try:
        for key, table in tables.items():
            profile = _given(key, table, found, place)
            found[profile.name] = profile
    except _BadProfile as bad:
        raise error(str(bad)) from None
    return found


_PACKAGE = "profiles.toml"


class _BadProfile(Exception):
    """What is wrong, with its place; `load` turns it into the error that fits."""


@cache
def _package() -> Mapping[str, Profile]:
    tables = tomllib.loads((files("headwater.advisor") / _PACKAGE).read_text(encoding="utf-8"))
    return {name: Profile(**_checked(name, table, _PACKAGE)) for name, table in tables.items()}


def _given(key: Any, table: Any, known: Mapping[str, Profile], place: str) -> Profile:
    if not isinstance(key, str) or not key.strip():
        raise _BadProfile(f"{place}: the name of a profile must be a non-empty text, not {brief(key)}")
    name = str(key)
    if isinstance(table, Profile):
        table = table.to_dict()
    values = _checked(name, table, place)
    if name in known:
        return Profile(**_merged(known[name], values))
    missing = [needed for needed in _NEEDED if needed not in values]
    if missing:
        raise _BadProfile(
            f"{place}: profile {brief(name)}: {', '.join(missing)} are required in a new profile{nearest(name, known)}"
        )
    for side in ("online", "offline"):
        values.setdefault(f"provides_{side}", tuple(s.strip().lower() for s in values.get(f"{side}_stores", ())))
    return Profile(**values)


def _merged(base: Profile, values: dict[str, Any]) -> dict[str, Any]:
    merged = {f.name: getattr(base, f.name) for f in fields(base)}
    merged["sources"] = {k: v for k, v in base.sources.items() if k not in values} | values.get("sources", {})
    merged["components"] = {**base.components, **values.get("components", {})}
    if "status" in values:
        merged["warning"] = ""
    merged |= {key: value for key, value in values.items() if key not in _TABLES}
    for side in ("online", "offline"):
        if f"{side}_stores" in values and f"provides_{side}" not in values:
            merged[f"provides_{side}"] = tuple(store.strip().lower() for store in values[f"{side}_stores"])
    for mine, other in (("capabilities", "unknown_capabilities"), ("unknown_capabilities", "capabilities")):
        if mine in values and other not in values:
            merged[other] = tuple(name for name in merged[other] if name not in values[mine])
    return merged


def _checked(name: str, table: Any, place: str) -> dict[str, Any]:
    where = f"{place}: profile {brief(name)}"
    if not isinstance(table, Mapping):
        raise _BadProfile(f"{where}: must be a table of fields, not {brief(table)}")
    known = {f.name for f in fields(Profile)} - {"name"}
    values: dict[str, Any] = {"name": name}
    for key, value in table.items():
        if key not in known:
            raise _BadProfile(f"{where}: unknown field {brief(str(key))}{nearest(str(key), known)}")
        try:
            values[str(key)] = _value(str(key), value)
        except (ValueError, msgspec.ValidationError) as bad:
            raise _BadProfile(f"{where}: {key} = {brief(value)}: {bad}") from None
    both = sorted({*values.get("capabilities", ())} & {*values.get("unknown_capabilities", ())})
    if both:
        raise _BadProfile(f"{where}: unknown_capabilities: {', '.join(both)} cannot be in capabilities too")
    return values


def _value(key: str, value: Any) -> Any:
    if key in _FIGURES:
        return _figure(value)
    if key in _LEVELS:
        return one_of(value, LEVELS)
    if key == "cost_model":
        return one_of(value, COST_MODELS)
    if key in _TEXTS:
        return msgspec.convert(value, str)
    if key in _TABLES:
        known = [part.value for part in FeatureStoreComponent] if key == "components" else _SOURCED
        return _table(value, known)
    texts = tuple(msgspec.convert(value, list[str]))
    if key in _NAMES:
        texts = tuple(dict.fromkeys(text.strip().lower() for text in texts))
        if "" in texts:
            raise ValueError("a name must not be empty")
    return texts


_SOURCED = tuple(f.name for f in fields(Profile) if f.name not in ("name", "sources"))


def _table(value: Any, known: Any) -> dict[str, str]:
    table = {str(key): text for key, text in msgspec.convert(value, dict[str, str]).items()}
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {brief(key)}{nearest(key, known)}")
    return table


def one_of(value: Any, known: tuple[str, ...]) -> str:
    """A text that must be one of some.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"must be one of {', '.join(known)}{nearest(str(value), known)}")
    return str(value)


def _figure(value: Any) -> Figure:
    if isinstance(value, Figure):
        return value
    if isinstance(value, str):
        return Figure(word=one_of(value, OPEN_WORDS))
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError("a range has two ends: [low, high]")
        low, high = map(_positive, value)
        if low > high:
            raise ValueError("the range's low end is above its high end")
        return Figure(low, high)
    number = _positive(value)
    return Figure(number, number)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"must be a number, a range [low, high], or one of {', '.join(map(repr, OPEN_WORDS))}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise ValueError("must be more than 0 and finite")
    return number


def _written(value: Any) -> Any:
    if isinstance(value, Figure):
        return value.written
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
