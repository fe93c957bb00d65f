"""How firm a recommendation is: the weights at which it changes, and how often each system leads at random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from headwater.advisor.profiles import Profile
from headwater.advisor.requirements import CRITERIA, Requirements
from headwater.advisor.result import ArchitectureScore, Sensitivity, Span, Verdict, WeightChange
from headwater.advisor.scoring import (
    LACKING,
    LIMITS,
    MET_EXACTLY,
    ROOM,
    TIE,
    leaders,
    need_verdict,
    ranked,
)

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Scores = Mapping[str, ArchitectureScore]
Criteria = Mapping[str, Mapping[str, Span]]
Parts = Mapping[str, Mapping[str, Mapping[str, Span]]]

_LIMIT_PARTS = {"max_latency_ms": "latency", "min_throughput_qps": "throughput", "freshness_minutes": "freshness"}


def analyse(
    requirements: Requirements,
    profiles: Mapping[str, Profile],
    parts: Parts,
    criteria: Criteria,
    scores: Scores,
    *,
    seed: int,
    draws: int,
) -> Sensitivity:
    """Everything about the firmness of the first place.

    Args:
        requirements: what is asked for.
        profiles: system -> its profile.
        parts: system -> criterion -> part -> score.
        criteria: system -> criterion -> score.
        scores: system -> total.
        seed: of the draws.
        draws: how many.
    """
    return Sensitivity(
        weights=tuple(weight_changes(requirements.weights, criteria, scores)),
        second_choice=second_choice(scores),
        first_places=first_places(requirements, profiles, parts, scores, seed=seed, draws=draws),
        draws=draws,
        seed=seed,
        ranges_could_change_it=bool(challengers(scores)),
    )


def second_choice(scores: Scores) -> str | None:
    """The best of those behind the first place that qualify as the first does."""
    first = leaders(scores)
    if not first:
        return None
    rest = [n for n in ranked(scores) if n not in first and scores[n].qualified is scores[first[0]].qualified]
    return rest[0] if rest else None


def challengers(scores: Scores) -> list[str]:
    """The systems that could come first, each taken alone: their best is above the worst of the first."""
    first = leaders(scores)
    if not first:
        return []
    worst = min(scores[name].low for name in first)
    open_ties = first if first[1:] and any(scores[n].high - scores[n].low > TIE for n in first) else []
    others = [n for n in ranked(scores) if n not in first and scores[n].qualified is not False]
    return [*open_ties, *(name for name in others if scores[name].high > worst + TIE)]


def weight_changes(weights: Mapping[str, float], criteria: Criteria, scores: Scores) -> list[WeightChange]:
    """For each criterion the nearest weights, either way, at which another system leads.

    A weight w leaves the others their proportions, so a total is (1 - w) rest + w criterion: a straight line, and two
    systems change places where their lines cross.
    """
    first = leaders(scores)
    if not first:
        return [WeightChange(name, weights[name], None, None, None, None) for name in CRITERIA]
    field = [name for name in ranked(scores) if scores[name].qualified is scores[first[0]].qualified]
    changes = []
    for criterion in CRITERIA:
        lines = {name: _line(criterion, weights, criteria[name]) for name in field}
        lower, lower_leader = _crossing(lines, first, weights[criterion], 0.0)
        higher, higher_leader = _crossing(lines, first, weights[criterion], 1.0)
        changes.append(WeightChange(criterion, weights[criterion], lower, lower_leader, higher, higher_leader))
    return changes


def _line(criterion: str, weights: Mapping[str, float], scores: Mapping[str, Span]) -> tuple[float, float]:
    """A system's totals with the criterion's weight at 0 and at 1."""
    others = {name: weights[name] for name in CRITERIA if name != criterion}
    if not any(others.values()):
        others = dict.fromkeys(others, 1.0)
    whole = math.fsum(others.values())
    return math.fsum(w * scores[name].value for name, w in others.items()) / whole, scores[criterion].value


def _crossing(
    lines: Mapping[str, tuple[float, float]], first: Sequence[str], now: float, end: float
) -> tuple[float | None, str | None]:
    """The nearest weight from `now` towards `end` beyond which another system leads, and which."""
    if now == end:
        return None, None
    at_end = {name: line[int(end)] for name, line in lines.items()}
    best = max(first, key=lambda name: at_end[name])
    if any(at_end[best] - at_end[name] > TIE for name in first):
        return now, best  # a tie, which the least change breaks
    found: tuple[float, float, str] | None = None
    for name, line in lines.items():
        ahead = at_end[name] - at_end[best]
        if name in first or ahead <= TIE:
            continue
        behind = lines[best][0] + (lines[best][1] - lines[best][0]) * now - (line[0] + (line[1] - line[0]) * now)
        share = max(behind, 0.0) / (max(behind, 0.0) + ahead)
        if found is None or (share, -ahead) < found[:2]:
            found = (share, -ahead, name)
    return (None, None) if found is None else (now + (end - now) * found[0], found[2])


def grades(ratios: Floats) -> Floats:
    """`scoring.grade` for many ratios at once."""
    beyond = np.maximum(ratios, 1)
    return np.where(ratios <= 1, 1 - ROOM * np.minimum(ratios, 1), MET_EXACTLY / beyond / beyond)


def first_places(
    requirements: Requirements,
    profiles: Mapping[str, Profile],
    parts: Parts,
    scores: Scores,
    *,
    seed: int,
    draws: int,
) -> dict[str, float]:
    """System -> the share of draws that it wins among those in which anything qualifies, a tie shared.

    A draw has a random weighting (Dirichlet, all equal), each range's figure uniform within it, each open figure's
    score uniform from 0 to 1, and each capability that is not known there or not with even chance. A system's draws
    depend on the seed and on its name, so that they are the same whoever else is compared.
    """
    weightings = np.random.default_rng(seed).dirichlet(np.ones(len(CRITERIA)), draws)
    names = ranked(scores)
    totals = np.full((draws, len(names)), -np.inf)
    for place, name in enumerate(names):
        if scores[name].qualified is not False:
            rng = np.random.default_rng([seed, *name.encode()])
            drawn, has_all = _drawn(requirements, profiles[name], parts[name], rng, draws)
            totals[:, place] = np.where(has_all, (weightings * drawn).sum(axis=1), -np.inf)
    best = totals.max(axis=1, initial=-np.inf)
    counted = np.isfinite(best)
    if not counted.any():
        return dict.fromkeys(names, 0.0)
    wins = totals[counted] >= best[counted, None] - TIE
    shares = (wins / wins.sum(axis=1, keepdims=True)).mean(axis=0)
    return {name: float(share) for name, share in zip(names, shares, strict=True)}


def _drawn(
    requirements: Requirements,
    profile: Profile,
    parts: Mapping[str, Mapping[str, Span]],
    rng: np.random.Generator,
    draws: int,
) -> tuple[Floats, Flags]:
    """The criteria of each draw, and whether the system has all that is required in it."""
    columns: dict[tuple[str, str], Floats] = {}
    for requirement, part in _LIMIT_PARTS.items():
        asked = getattr(requirements, requirement)
        uniform = rng.random(draws)  # drawn even where it is not used: one requirement must not move another's draws
        if asked is None:
            continue
        ends = profile.figure(LIMITS[requirement]).ends
        if ends is None:
            columns["performance", part] = uniform
        elif ends[0] < ends[1]:
            figures = ends[0] + (ends[1] - ends[0]) * uniform
            with np.errstate(over="ignore"):  # a ratio beyond all numbers is infinite: its grade is 0
                ratios = asked / figures if requirement == "min_throughput_qps" else figures / asked
            columns["performance", part] = grades(ratios)
    has_all = np.ones(draws, dtype=np.bool_)
    if requirements.needs:
        missed = np.zeros(draws)
        for need in requirements.needs:
            verdict = need_verdict(need, profile)
            has = rng.random(draws) < 0.5 if verdict is Verdict.UNKNOWN else np.full(draws, verdict is Verdict.MET)
            missed += ~has
            has_all &= has
        columns["flexibility", "needs"] = LACKING**missed
    drawn = np.empty((draws, len(CRITERIA)))
    for place, criterion in enumerate(CRITERIA):
        one = [columns.get((criterion, part), np.full(draws, span.value)) for part, span in parts[criterion].items()]
        drawn[:, place] = np.mean(one, axis=0)
    return drawn, has_all
