"""Scores: the formulas by hand, and what must hold whatever is asked."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.advisor import scoring
from headwater.advisor.profiles import CAPABILITIES, LEVELS, Profile, load
from headwater.advisor.requirements import Requirements
from headwater.advisor.result import ArchitectureScore, Span
from headwater.advisor.scoring import grade
from headwater.testing import rounds
from tests.unit.advisor.strategies import FIGURES, LIMIT, asked, profiles

PACKAGE = load()


def part(asked: Mapping[str, Any], system: str, criterion: str, name: str, **over: Any) -> Span:
    """One part's score, of a profile of the package's with some fields replaced."""
    profile = load({system: over})[system]
    return scoring.parts(Requirements.of(asked), profile)[criterion][name]


def score(asked: Requirements, profile: Profile) -> ArchitectureScore:
    """A profile's total."""
    criteria = scoring.criteria(scoring.parts(asked, profile))
    return scoring.total(asked.weights, criteria, scoring.qualifies(asked, profile))


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0, 1.0), (0.5, 0.85), (1, 0.7), (1.1, 0.7 / 1.21), (2, 0.175), (10, 0.007)]
)
def test_a_grade_by_hand(ratio: float, expected: float):
    assert grade(ratio) == pytest.approx(expected)


def test_room_scores_more_than_meeting_barely_and_missing_twofold_less_than_by_a_tenth():
    assert grade(0.5) > grade(1) > grade(1.1) > grade(2)


def test_performance_by_hand():
    assert part({"max_latency_ms": 20}, "feast", "performance", "latency").value == pytest.approx(0.85)
    assert part({"max_latency_ms": 5}, "feast", "performance", "latency").value == pytest.approx(0.175)
    assert part({"min_throughput_qps": 5_000}, "feast", "performance", "throughput").value == pytest.approx(0.85)
    assert part({"freshness_minutes": 5}, "feast", "performance", "freshness").value == pytest.approx(0.7)


def test_a_range_scores_between_its_ends_and_an_open_figure_anywhere():
    ranged = part({"max_latency_ms": 10}, "sagemaker", "performance", "latency")
    assert (ranged.low, ranged.value, ranged.high) == pytest.approx((0.175, (0.175 + 0.76) / 2, 0.76))
    assert part({"max_latency_ms": 10}, "custom", "performance", "latency") == Span(0, 0.5, 1)


def test_cost_by_hand():
    assert part({"cost_preference": "low"}, "tecton", "cost", "preference").value == pytest.approx(0.2)
    assert part({"cost_preference": "balanced"}, "sagemaker", "cost", "preference").value == 1
    assert part({"cost_preference": "premium"}, "feast", "cost", "preference").value == pytest.approx(0.4)
    budgets = [part({"budget_class": b}, "tecton", "cost", "budget").value for b in LEVELS]
    assert budgets == [0, 0.5, 1]


def test_operational_complexity_by_hand():
    assert part({}, "feast", "operational_complexity", "burden").value == pytest.approx(0.6)
    assert part({}, "custom", "operational_complexity", "burden").value == pytest.approx(0.2)
    assert part({"ops_skill": "low"}, "custom", "operational_complexity", "skill").value == 0
    assert part({"ops_skill": "medium"}, "custom", "operational_complexity", "skill").value == 0.5
    assert part({"team_size": 2}, "custom", "operational_complexity", "team").value == 0.25
    assert part({"team_size": 20}, "custom", "operational_complexity", "team").value == 1


def test_flexibility_by_hand():
    importance = part({"flexibility_importance": 0.5}, "sagemaker", "flexibility", "importance")
    assert importance.value == pytest.approx(1 - 0.5 * 0.67)
    assert part({"flexibility_importance": "high"}, "tecton", "flexibility", "importance").value == pytest.approx(0.67)
    assert part({"needs": ["streaming"]}, "feast", "flexibility", "needs") == Span(1, 1, 1)
    assert part({"needs": ["streaming", "governance"]}, "feast", "flexibility", "needs") == Span(0.5, 0.5, 0.5)
    assert part({"needs": ["self_hosted", "governance"]}, "custom", "flexibility", "needs") == Span(0.5, 0.75, 1)


def test_time_and_lock_in_by_hand():
    assert part({}, "custom", "time_to_market", "effort").value == pytest.approx(0.2)
    lock = "vendor_lock_in_risk", "lock_in"
    assert part({}, "tecton", *lock).value == 1
    tolerances = [part({"vendor_risk_tolerance": level}, "tecton", *lock).value for level in LEVELS]
    assert tolerances == pytest.approx([0, 0.4, 0.8])


def test_a_total_by_hand():
    asked = Requirements(max_latency_ms=20, cost_preference="low", decision_weights={"performance": 3, "cost": 1})
    performance, cost = (0.85 + 1 + 1) / 3, (1 - 0.8 * 0.25 + 1) / 2
    assert score(asked, PACKAGE["feast"]).total_score == pytest.approx(0.75 * performance + 0.25 * cost)


def test_what_is_not_asked_for_scores_one_for_every_system():
    always = {("operational_complexity", "burden"), ("time_to_market", "effort")}
    for profile in PACKAGE.values():
        for criterion, parts in scoring.parts(Requirements(), profile).items():
            for name, span in parts.items():
                assert span == Span(1, 1, 1) or (criterion, name) in always


@pytest.mark.parametrize(
    ("asked", "system", "expected"),
    [
        ({"required_online_stores": ["redis"]}, "feast", True),
        ({"required_online_stores": ["Redis", "dynamodb"]}, "feast", True),
        ({"required_online_stores": ["redis", "lmdb"]}, "feast", False),
        ({"required_online_stores": ["whatever"]}, "custom", True),
        ({"required_online_stores": ["any"]}, "feast", True),
        ({"required_offline_stores": ["redis"]}, "feast", False),
        ({"needs": ["streaming"]}, "feast", True),
        ({"needs": ["streaming"]}, "custom", None),
        ({"needs": ["streaming", "managed"]}, "custom", False),
        ({"needs": ["streaming"], "required_online_stores": ["x"]}, "headwater", False),
        ({}, "custom", True),
    ],
)
def test_stores_and_needs_disqualify(asked: Mapping[str, Any], system: str, expected: bool | None):
    assert scoring.qualifies(Requirements.of(asked), PACKAGE[system]) is expected


def test_an_unknown_need_ranks_after_those_that_qualify():
    scores = {
        "open": ArchitectureScore(0.9, 0.9, 0.9, None),
        "out": ArchitectureScore(1.0, 1.0, 1.0, False),
        "in": ArchitectureScore(0.1, 0.1, 0.1, True),
    }
    assert scoring.ranked(scores) == ["in", "open", "out"]
    assert scoring.leaders(scores) == ["in"]
    assert scoring.leaders({"out": scores["out"]}) == []


def test_totals_that_differ_by_rounding_are_a_tie():
    scores = {name: ArchitectureScore(0.3 + i * 1e-16, 0, 1, True) for i, name in enumerate("abc")}
    assert scoring.leaders(scores) == ["a", "b", "c"]


def scored(requirements: Mapping[str, Any], table: Mapping[str, Any]) -> ArchitectureScore:
    """The total of a profile's table."""
    return score(Requirements.of(requirements), load({"ours": table})["ours"])


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles())
def test_scores_stay_between_zero_and_one_and_in_order(requirements: dict[str, Any], table: dict[str, Any]):
    found = scored(requirements, table)
    assert 0 <= found.low <= found.total_score + 1e-12 <= found.high + 2e-12 <= 1 + 2e-12
    assert found.high <= 1


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles(), st.sampled_from(sorted(FIGURES)), st.floats(0.1, 1), st.floats(0.1, 1))
def test_a_better_figure_never_lowers_a_score(
    requirements: dict[str, Any], table: dict[str, Any], limit: str, by: float, also: float
):
    figure = table[FIGURES[limit]]
    if isinstance(figure, str):
        return
    low, high = figure if isinstance(figure, list) else (figure, figure)
    better = [low / by, high / min(by, also)] if limit == "min_throughput_qps" else [low * min(by, also), high * by]
    _no_lower(scored(requirements, table), scored(requirements, {**table, FIGURES[limit]: better}))


BETTER = {
    "setup_complexity": "low",
    "operational_overhead": "low",
    "flexibility": "high",
    "lock_in": "low",
    "time_to_market": "low",
    "budget_class": "low",
    "ops_skill": "low",
}


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles(), st.sampled_from(sorted(BETTER)))
def test_a_better_level_never_lowers_a_score(requirements: dict[str, Any], table: dict[str, Any], level: str):
    _no_lower(scored(requirements, table), scored(requirements, {**table, level: BETTER[level]}))


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles(), st.sampled_from(CAPABILITIES))
def test_one_more_capability_never_lowers_a_score(requirements: dict[str, Any], table: dict[str, Any], more: str):
    richer = {
        **table,
        "capabilities": [*{*table["capabilities"], more}],
        "unknown_capabilities": [name for name in table["unknown_capabilities"] if name != more],
    }
    before, after = scored(requirements, table), scored(requirements, richer)
    _no_lower(before, after)
    assert scoring.GROUPS[after.qualified] <= scoring.GROUPS[before.qualified]


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles(), st.sampled_from([*FIGURES, "team_size"]), LIMIT, st.floats(0.01, 1))
def test_a_stricter_limit_never_raises_a_score(
    requirements: dict[str, Any], table: dict[str, Any], limit: str, value: float, by: float
):
    stricter = value / by if limit == "min_throughput_qps" else value * by
    before = scored({**requirements, limit: value}, table)
    after = scored({**requirements, limit: stricter}, table)
    _no_lower(after, before)
    without = scored({name: given for name, given in requirements.items() if name != limit}, table)
    _no_lower(before, without)


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles(), st.sampled_from(CAPABILITIES))
def test_one_more_need_never_raises_a_score(requirements: dict[str, Any], table: dict[str, Any], need: str):
    before = scored(requirements, table)
    after = scored({**requirements, "needs": [*requirements.get("needs", ()), need]}, table)
    _no_lower(after, before)
    assert scoring.GROUPS[after.qualified] >= scoring.GROUPS[before.qualified]


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles())
def test_what_is_unknown_never_counts_as_met(requirements: dict[str, Any], table: dict[str, Any]):
    unknown = set(table["unknown_capabilities"]) & set(requirements.get("needs", ()))
    if unknown:
        assert scored(requirements, table).qualified is not True
    for limit, figure in FIGURES.items():
        if limit in requirements and table[figure] == "variable":
            parts = scoring.parts(Requirements.of(requirements), load({"ours": table})["ours"])
            assert Span(0, 0.5, 1) in parts["performance"].values()


def _no_lower(before: ArchitectureScore, after: ArchitectureScore) -> None:
    for name in ("low", "total_score", "high"):
        assert getattr(after, name) >= getattr(before, name) - 1e-12
