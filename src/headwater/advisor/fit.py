"""Fit: one sentence a requirement and system, with the figures, their sources, and by how much it is missed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from headwater.advisor.profiles import LEVELS, FeatureStoreComponent, Profile, number_text
from headwater.advisor.requirements import Requirements
from headwater.advisor.result import Fit, Verdict
from headwater.advisor.scoring import (
    CHOICE,
    LIMITS,
    PEOPLE,
    PREFERRED_PRICE,
    PRICE,
    need_verdict,
    ratio_of,
    store_verdict,
)

NOT_STATED = "not stated"

_WHAT = {
    "max_latency_ms": ("p99 of", "ms", "at most"),
    "min_throughput_qps": ("", "reads a second", "at least"),
    "freshness_minutes": ("features", "minutes old", "at most"),
}
_WARNING = re.compile(
    r"\b(bought|acquired|deprecated|closed|discontinued|sunset|retired|unreachable|unmaintained|no longer"
    r"|end[- ]of[- ](life|sale|support)|ends|ended|end date)\b",
    re.IGNORECASE,
)


def fits(requirements: Requirements, profile: Profile) -> list[Fit]:
    """One entry for each stated requirement, in the order of `Requirements`; each store and need has one of its own."""
    found: list[Fit] = []
    for name in requirements.stated:
        if name in LIMITS:
            found.append(_limit(requirements, profile, name))
        elif name in ("required_online_stores", "required_offline_stores"):
            found += _stores(name, getattr(requirements, name), profile)
        elif name == "needs":
            found += [_need(need, profile) for need in requirements.needs]
        elif name in _JUDGED:
            verdict, sentence = _JUDGED[name](requirements, profile)
            found.append(Fit(name, verdict, sentence, hard=False))
    return found


def components(profile: Profile) -> dict[FeatureStoreComponent, str]:
    """What fills each part; "not stated" where the profile does not name it."""
    found = {part: profile.components.get(part.value, NOT_STATED) for part in FeatureStoreComponent}
    for part, stores in (
        (FeatureStoreComponent.ONLINE_STORE, profile.online_stores),
        (FeatureStoreComponent.OFFLINE_STORE, profile.offline_stores),
    ):
        if found[part] == NOT_STATED and stores:
            found[part] = ", ".join(stores)
    if found[FeatureStoreComponent.MONITORING_SYSTEM] == NOT_STATED and "monitoring" in profile.capabilities:
        found[FeatureStoreComponent.MONITORING_SYSTEM] = "built in"
    return found


def warnings(profile: Profile) -> list[str]:
    """What must be known before a start: the profile's warning, else a status that tells of an end."""
    if profile.warning:
        return [f"{profile.name}: {profile.warning} ({profile.source('status')})."]
    if _WARNING.search(profile.status):
        return [f"{profile.name}: {profile.status} ({profile.source('status')})."]
    return []


def missed_by(ratio: float) -> str:
    """By how much a limit is missed: "by 2.0x", or "by 4%" where it is little."""
    if ratio >= 1.1:
        return f"by {ratio:,.1f}x" if ratio < 1e6 else "by more than a million times"
    return f"by {ratio - 1:.1%}" if ratio >= 1.001 else "by less than 0.1%"


def room_left(ratio: float) -> str:
    """How much of a limit is left: "with half the limit to spare"."""
    spare = 1 - ratio
    if spare < 0.0005:
        return "met exactly" if spare == 0 else "just met"
    if abs(spare - 0.5) < 0.005:
        return "met with half the limit to spare"
    share = f"{spare:.1%}" if spare < 0.01 else f"{min(spare, 0.99):.0%}"
    return f"met with {share} of the limit to spare"


def _limit(requirements: Requirements, profile: Profile, name: str) -> Fit:
    asked = getattr(requirements, name)
    figure = profile.figure(LIMITS[name])
    before, unit, bound = _WHAT[name]
    if figure.ends == (1, 1):
        unit = unit.replace("minutes", "minute").replace("reads", "read")
    shown = f"{before} {figure} {unit}".strip()
    limit = f"{bound} {number_text(asked)}{' ' + unit if name == 'max_latency_ms' else ''}"
    source = profile.source(LIMITS[name])
    if figure.ends is None:
        sentence = f"{_CALLED[name]} is {figure.word}, against {limit}: unknown, no single figure exists ({source})"
        return Fit(name, Verdict.UNKNOWN, sentence, hard=False)
    low, high = sorted(ratio_of(name, asked, end) for end in figure.ends)
    if high <= 1:
        said = _met(name, low, high)
        return Fit(name, Verdict.MET, f"{shown} against {limit}: {said} ({source})", hard=False)
    if low > 1:
        least = (
            f"missed {missed_by(low)}"
            if low == high
            else f"missed {missed_by(low)} at best, {missed_by(high)} at worst"
        )
        return Fit(name, Verdict.MISSED, f"{shown} against {limit}: {least} ({source})", hard=False)
    best, worst = figure.ends if name != "min_throughput_qps" else figure.ends[::-1]
    sentence = (
        f"{shown} against {limit}: unknown, met at {number_text(best)}, "
        f"missed {missed_by(high)} at {number_text(worst)} ({source})"
    )
    return Fit(name, Verdict.UNKNOWN, sentence, hard=False)


_CALLED = {
    "max_latency_ms": "the p99 of a read",
    "min_throughput_qps": "the rate of reads",
    "freshness_minutes": "the age of features",
}


def _met(name: str, low: float, high: float) -> str:
    if name != "min_throughput_qps":
        return room_left(high) if low == high else f"{room_left(high)} at worst"
    if high == 1:
        return "met exactly" if low == high else "met exactly at worst"
    times = f"{1 / high:,.1f}x" if high < 1 / 1.05 else f"{1 / high - 1:.1%} more than"
    return f"met, {times} what is asked{' at worst' if low != high else ''}"


def _stores(name: str, asked: tuple[str, ...], profile: Profile) -> list[Fit]:
    side = "online" if name == "required_online_stores" else "offline"
    provided = profile.provides_online if side == "online" else profile.provides_offline
    found = []
    for store in asked:
        verdict = store_verdict(store, provided)
        has = "any store" if "any" in provided else ", ".join(provided) or "none that is stated"
        said = "met" if verdict is Verdict.MET else f"missed: it lacks {store}"
        found.append(Fit(f"{name}: {store}", verdict, f"{side} stores {has} against {store}: {said}", hard=True))
    return found


def _need(need: str, profile: Profile) -> Fit:
    verdict = need_verdict(need, profile)
    source = profile.source("unknown_capabilities" if verdict is Verdict.UNKNOWN else "capabilities")
    said = {
        Verdict.MET: f"has {need}: met",
        Verdict.MISSED: f"lacks {need}: missed",
        Verdict.UNKNOWN: f"whether it has {need} depends or is not known: unknown, not counted as met",
    }[verdict]
    return Fit(f"needs: {need}", verdict, f"{said} ({source})", hard=True)


def _verdict(met: bool) -> Verdict:
    return Verdict.MET if met else Verdict.MISSED


def _said(met: bool, how: str) -> str:
    return "met" if met else f"missed{how}"


def _cost(requirements: Requirements, profile: Profile) -> tuple[Verdict, str]:
    assert requirements.cost_preference is not None
    apart = abs(PRICE[profile.cost_model] - PREFERRED_PRICE[requirements.cost_preference])
    said = _said(apart <= 0.25, f" by {apart:.2f} of the price scale")
    model = profile.cost_model.replace("_", " ")
    return _verdict(
        apart <= 0.25
    ), f"priced as {model}, against a preference for {requirements.cost_preference}: {said}"


def _flexibility(requirements: Requirements, profile: Profile) -> tuple[Verdict, str]:
    met = CHOICE[profile.flexibility] >= requirements.importance
    short = f" by {requirements.importance - CHOICE[profile.flexibility]:.2f}"
    asked = requirements.flexibility_importance
    shown = asked if isinstance(asked, str) else number_text(asked or 0.0)
    return _verdict(met), f"{profile.flexibility} flexibility, against an importance of {shown}: {_said(met, short)}"


def _risk(requirements: Requirements, profile: Profile) -> tuple[Verdict, str]:
    met, said = _at_most(profile.lock_in, requirements.vendor_risk_tolerance)
    return met, f"{profile.lock_in} lock-in, against a {requirements.vendor_risk_tolerance} tolerance of it: {said}"


def _team(requirements: Requirements, profile: Profile) -> tuple[Verdict, str]:
    assert requirements.team_size is not None
    needed = PEOPLE[profile.operational_overhead]
    met = requirements.team_size >= needed
    said = _said(met, f" {missed_by(needed / requirements.team_size)}")
    people = f"{number_text(needed)} to run it ({profile.operational_overhead} overhead)"
    return _verdict(met), f"{people}, against a team of {number_text(requirements.team_size)}: {said}"


def _skill(requirements: Requirements, profile: Profile) -> tuple[Verdict, str]:
    met, said = _at_most(profile.ops_skill, requirements.ops_skill)
    return met, f"{profile.ops_skill} skill in operations is needed, against {requirements.ops_skill}: {said}"


def _budget(requirements: Requirements, profile: Profile) -> tuple[Verdict, str]:
    met, said = _at_most(profile.budget_class, requirements.budget_class)
    return met, f"{profile.budget_class} budget is needed, against {requirements.budget_class}: {said}"


def _at_most(level: str, stated: str | None) -> tuple[Verdict, str]:
    short = LEVELS.index(level) - LEVELS.index(stated or "high")
    return _verdict(short <= 0), _said(short <= 0, f" by {short} level{'s' * (short > 1)}")


_JUDGED: Mapping[str, Callable[[Requirements, Profile], tuple[Verdict, str]]] = {
    "cost_preference": _cost,
    "flexibility_importance": _flexibility,
    "vendor_risk_tolerance": _risk,
    "team_size": _team,
    "ops_skill": _skill,
    "budget_class": _budget,
}
