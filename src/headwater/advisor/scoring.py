"""The scores: a system's parts, criteria and total for stated requirements, each from 0 to 1.

Every formula is in docs/advisor.md under the name of its part. A part that was not asked for scores 1 for every system.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from headwater.advisor.profiles import COST_MODELS, LEVELS, Figure, Profile
from headwater.advisor.requirements import CRITERIA, PREFERENCES, Requirements
from headwater.advisor.result import ArchitectureScore, Span, Verdict

TIE = 1e-9
"""Totals that differ by no more than this are a tie."""

ROOM = 0.3
"""What is lost between a limit with all the room there is and one that is just met."""
MET_EXACTLY = 1 - ROOM

EFFORT: Mapping[str, float] = {"low": 1.0, "medium": 0.6, "high": 0.2}
CHOICE: Mapping[str, float] = {"low": 0.33, "medium": 0.67, "high": 1.0}
LOCK: Mapping[str, float] = {"low": 0.0, "medium": 0.5, "high": 1.0}
CAUTION: Mapping[str, float] = {"low": 1.0, "medium": 0.6, "high": 0.2}
PEOPLE: Mapping[str, int] = {"low": 1, "medium": 3, "high": 8}
PRICE: Mapping[str, float] = {model: place / 4 for place, model in enumerate(COST_MODELS)}
PREFERRED_PRICE: Mapping[str, float] = {preference: place / 2 for place, preference in enumerate(PREFERENCES)}
CLASH = 0.8
"""What is lost where preference and price model are at opposite ends."""
LACKING = 0.5
"""What each need that is lacking leaves: a product, not a share, so that one more need never raises a score."""
ALL = Span(1.0, 1.0, 1.0)
OPEN = Span(0.0, 0.5, 1.0)

GROUPS: Mapping[bool | None, int] = {True: 0, None: 1, False: 2}
"""The order of the ranking's groups by `qualified`."""

LIMITS: Mapping[str, str] = {
    "max_latency_ms": "serving_latency_p99_ms",
    "min_throughput_qps": "throughput_qps",
    "freshness_minutes": "feature_freshness_minutes",
}
"""Requirement -> the profile's figure that it bounds."""


def grade(ratio: float) -> float:
    """The score of a figure by its ratio to the limit: 1 at 0, 0.7 at 1, then falling with the square."""
    return 1 - ROOM * ratio if ratio <= 1 else MET_EXACTLY / (ratio * ratio)


def ratio_of(requirement: str, asked: float, figure: float) -> float:
    """How much of a limit a figure takes: up to 1 it is met, beyond it is missed by that factor."""
    return asked / figure if requirement == "min_throughput_qps" else figure / asked


def open_ratio(low: float, high: float) -> Span:
    """The span of scores between two ratios."""
    ends = sorted((grade(low), grade(high)))
    return Span(ends[0], (ends[0] + ends[1]) / 2, ends[1])


def parts(requirements: Requirements, profile: Profile) -> dict[str, dict[str, Span]]:
    """Criterion -> part -> score."""
    return {
        "performance": {
            "latency": _limit(requirements, profile, "max_latency_ms"),
            "throughput": _limit(requirements, profile, "min_throughput_qps"),
            "freshness": _limit(requirements, profile, "freshness_minutes"),
        },
        "cost": {
            "preference": _exact(_preference(requirements, profile)),
            "budget": _exact(levels_short(requirements.budget_class, profile.budget_class)),
        },
        "operational_complexity": {
            "burden": _exact((EFFORT[profile.setup_complexity] + EFFORT[profile.operational_overhead]) / 2),
            "skill": _exact(levels_short(requirements.ops_skill, profile.ops_skill)),
            "team": _exact(_team(requirements, profile)),
        },
        "flexibility": {
            "importance": _exact(1 - requirements.importance * (1 - CHOICE[profile.flexibility])),
            "needs": _needs(requirements, profile),
        },
        "time_to_market": {"effort": _exact(EFFORT[profile.time_to_market])},
        "vendor_lock_in_risk": {"lock_in": _exact(_lock_in(requirements, profile))},
    }


def criteria(scored: Mapping[str, Mapping[str, Span]]) -> dict[str, Span]:
    """Criterion -> the mean of its parts."""
    return {name: _mean(list(scored[name].values())) for name in CRITERIA}


def total(weights: Mapping[str, float], scores: Mapping[str, Span], qualified: bool | None) -> ArchitectureScore:
    """The weighted mean of the criteria."""
    return ArchitectureScore(
        total_score=_bounded(math.fsum(weights[name] * scores[name].value for name in CRITERIA)),
        low=_bounded(math.fsum(weights[name] * scores[name].low for name in CRITERIA)),
        high=_bounded(math.fsum(weights[name] * scores[name].high for name in CRITERIA)),
        qualified=qualified,
    )


def qualifies(requirements: Requirements, profile: Profile) -> bool | None:
    """Whether each required store and need is there; None where the profile leaves one open and lacks none.

    A system that is only maintained, or closed to new users, does not qualify unless `allow_closed` is set.
    """
    if profile.closed and not requirements.allow_closed:
        return False
    verdicts = [store_verdict(store, profile.provides_online) for store in requirements.required_online_stores]
    verdicts += [store_verdict(store, profile.provides_offline) for store in requirements.required_offline_stores]
    verdicts += [need_verdict(need, profile) for need in requirements.needs]
    if Verdict.MISSED in verdicts:
        return False
    return None if Verdict.UNKNOWN in verdicts else True


def store_verdict(store: str, provided: Sequence[str]) -> Verdict:
    """Whether a store is among those that a profile provides; "any" on either side matches all."""
    return Verdict.MET if store in provided or "any" in provided or (store == "any" and provided) else Verdict.MISSED


def need_verdict(need: str, profile: Profile) -> Verdict:
    """Whether a profile has a capability."""
    if need in profile.capabilities:
        return Verdict.MET
    return Verdict.UNKNOWN if need in profile.unknown_capabilities else Verdict.MISSED


def ranked(scores: Mapping[str, ArchitectureScore]) -> list[str]:
    """The systems, the best first: qualified ones, then open ones, then disqualified ones; equal ones by name."""
    return sorted(scores, key=lambda name: (GROUPS[scores[name].qualified], -scores[name].total_score, name))


def leaders(scores: Mapping[str, ArchitectureScore]) -> list[str]:
    """Who shares the first place; empty where nothing qualifies."""
    order = [name for name in ranked(scores) if scores[name].qualified is not False]
    if not order:
        return []
    best = scores[order[0]]
    return sorted(
        name
        for name in order
        if scores[name].qualified is best.qualified and best.total_score - scores[name].total_score <= TIE
    )


def levels_short(stated: str | None, wanted: str) -> float:
    """1 where the stated level reaches the wanted one, 0.5 for one level short, 0 for two."""
    if stated is None:
        return 1.0
    return 1 - max(0, LEVELS.index(wanted) - LEVELS.index(stated)) / 2


def _limit(requirements: Requirements, profile: Profile, requirement: str) -> Span:
    asked = getattr(requirements, requirement)
    if asked is None:
        return ALL
    figure: Figure = profile.figure(LIMITS[requirement])
    if figure.ends is None:
        return OPEN
    low, high = (ratio_of(requirement, asked, end) for end in figure.ends)
    return open_ratio(low, high)


def _preference(requirements: Requirements, profile: Profile) -> float:
    if requirements.cost_preference is None:
        return 1.0
    return 1 - CLASH * abs(PRICE[profile.cost_model] - PREFERRED_PRICE[requirements.cost_preference])


def _team(requirements: Requirements, profile: Profile) -> float:
    if requirements.team_size is None:
        return 1.0
    return min(1.0, requirements.team_size / PEOPLE[profile.operational_overhead])


def _needs(requirements: Requirements, profile: Profile) -> Span:
    verdicts = [need_verdict(need, profile) for need in requirements.needs]
    if not verdicts:
        return ALL
    missed, unknown = (verdicts.count(verdict) for verdict in (Verdict.MISSED, Verdict.UNKNOWN))
    low, high = LACKING ** (missed + unknown), LACKING**missed
    return Span(low, (low + high) / 2, high)


def _lock_in(requirements: Requirements, profile: Profile) -> float:
    if requirements.vendor_risk_tolerance is None:
        return 1.0
    return 1 - CAUTION[requirements.vendor_risk_tolerance] * LOCK[profile.lock_in]


def _exact(score: float) -> Span:
    return Span(score, score, score)


def _mean(spans: Sequence[Span]) -> Span:
    count = len(spans)
    return Span(
        _bounded(math.fsum(span.low for span in spans) / count),
        _bounded(math.fsum(span.value for span in spans) / count),
        _bounded(math.fsum(span.high for span in spans) / count),
    )


def _bounded(score: float) -> float:
    return min(1.0, max(0.0, score))
