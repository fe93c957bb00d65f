"""The words that a page and a terminal show for criteria, requirements and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CRITERION: Mapping[str, str] = {
    "performance": "performance",
    "cost": "cost",
    "operational_complexity": "operations",
    "flexibility": "flexibility",
    "time_to_market": "time to market",
    "vendor_lock_in_risk": "lock-in",
}
QUALIFIED: Mapping[bool | None, str] = {True: "qualifies", None: "open", False: "out"}

_LIMITS = {
    "max_latency_ms": "p99 up to {} ms",
    "min_throughput_qps": "{}+ reads/s",
    "freshness_minutes": "fresh to {} min",
    "team_size": "team of {}",
}
_CHOICES = {
    "cost_preference": "cost: {}",
    "flexibility_importance": "flexibility: {}",
    "vendor_risk_tolerance": "vendor risk: {}",
    "ops_skill": "ops skill: {}",
    "budget_class": "budget: {}",
}
_LISTS = {
    "required_online_stores": "online: {}",
    "required_offline_stores": "offline: {}",
    "needs": "need: {}",
}


def requirement(name: str, stated: Mapping[str, Any]) -> str:
    """A requirement as a fit names it, with what was asked for: "p99 up to 10 ms", "online: redis"."""
    kind, _, item = name.partition(": ")
    value = stated.get(kind)
    if kind in _LIMITS and isinstance(value, (int, float)):
        return _LIMITS[kind].format(f"{value:,.10g}")
    if kind in _LISTS:
        named = item or (", ".join(value) if isinstance(value, (list, tuple)) else value)
        return _LISTS[kind].format(str(named).replace("_", " ") if kind == "needs" else named)
    if kind in _CHOICES:
        return _CHOICES[kind].format(f"{value:.10g}" if isinstance(value, float) else value)
    return name


def percent(share: float) -> str:
    """A share as whole percents, never rounded up to all nor down to nothing."""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


QUESTIONS: Mapping[str, str] = {
    "max_latency_ms": "Maximum p99 latency of a read, in milliseconds",
    "min_throughput_qps": "Minimum reads per second",
    "freshness_minutes": "Maximum age of a served feature, in minutes",
    "cost_preference": "Price preference (low, balanced, premium)",
    "flexibility_importance": "Importance of choosing your own components (0 to 1, or low, medium, high)",
    "vendor_risk_tolerance": "Acceptable vendor lock-in (low, medium, high)",
    "required_online_stores": "Required online stores (redis, dynamodb, …)",
    "required_offline_stores": "Required offline stores (snowflake, spark, …)",
    "needs": "Required capabilities (streaming, self_hosted, …)",
    "team_size": "Team size: people who run it",
    "ops_skill": "The team's operations experience (low, medium, high)",
    "budget_class": "Budget class (low, medium, high)",
    "decision_weights": "Weights of the criteria (performance=0.4,cost=0.2)",
}
"""Requirement → the question that asks for it, in the order in which they decide most."""


def verdict(recommendation: str | None, tied: tuple[str, ...], qualified: bool | None, *, stated: bool = True) -> str:
    """The answer in a line."""
    if not stated:
        return "Nothing to rank: no requirements given"
    if tied:
        return f"{', '.join(tied[:-1])} and {tied[-1]} are tied for first place"
    if recommendation is None:
        return "Nothing qualifies"
    return f"Use {recommendation}" if qualified else f"{recommendation}, once its open points have been checked"
