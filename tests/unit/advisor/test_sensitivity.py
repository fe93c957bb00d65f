"""Sensitivity: the weights at which the leader changes, and the shares of random draws."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from headwater.advisor.comparator import FeatureStoreArchitectureComparator
from headwater.advisor.requirements import CRITERIA, Requirements
from headwater.advisor.result import ArchitectureComparison
from headwater.advisor.scoring import TIE, grade
from headwater.advisor.sensitivity import grades
from headwater.testing import rounds
from tests.unit.advisor.strategies import asked

COMPARATOR = FeatureStoreArchitectureComparator()
BUSY = {
    "max_latency_ms": 10,
    "min_throughput_qps": 5_000,
    "needs": ["streaming"],
    "vendor_risk_tolerance": "low",
    "cost_preference": "low",
}


def compare(requirements: Mapping[str, Any], **more: Any) -> ArchitectureComparison:
    """With few draws."""
    return COMPARATOR.compare_architectures(requirements, **{"draws": 300, **more})


def shifted(weights: Mapping[str, float], criterion: str, weight: float) -> dict[str, float]:
    """The weights with one of them replaced, the others in their proportions (alike where all of them are 0)."""
    others = {name: weights[name] for name in CRITERIA if name != criterion}
    if not any(others.values()):
        others = dict.fromkeys(others, 1.0)
    whole = sum(others.values())
    return {criterion: weight, **{name: (1 - weight) * value / whole for name, value in others.items()}}


def totals(comparison: ArchitectureComparison, weights: Mapping[str, float]) -> dict[str | None, float]:
    """The totals at other weights of those that qualify as the first does."""
    group = next(iter(comparison.architecture_scores.values())).qualified
    return {
        name: math.fsum(weights[c] * comparison.detailed_analysis[name].criteria[c].value for c in CRITERIA)
        for name, score in comparison.architecture_scores.items()
        if score.qualified is group
    }


def leads(comparison: ArchitectureComparison, weights: Mapping[str, float]) -> set[str | None]:
    """Who leads at other weights, by brute force."""
    found = totals(comparison, weights)
    return {name for name, total in found.items() if total >= max(found.values()) - TIE}


@settings(max_examples=rounds(50), deadline=None)
@given(asked())
def test_the_leader_changes_just_beyond_the_weight_and_not_before_it(requirements: dict[str, Any]):
    comparison = compare(requirements, draws=1)
    if next(iter(comparison.architecture_scores.values())).qualified is False:
        return
    if comparison.recommendation is None and not comparison.tied:
        return  # nothing is asked for
    first = set(comparison.tied) or {comparison.recommendation}
    for change in comparison.sensitivity.weights:
        for weight, leader, end in (
            (change.lower, change.lower_leader, 0.0),
            (change.higher, change.higher_leader, 1.0),
        ):
            reached = end if weight is None else weight
            for share in (0.5, 1.0):
                nearer = change.weight + (reached - change.weight) * share
                assert leads(comparison, shifted(comparison.weights, change.criterion, nearer)) & first
            if weight is not None:
                assert leader in leads(comparison, shifted(comparison.weights, change.criterion, weight))
                at_end = totals(comparison, shifted(comparison.weights, change.criterion, end))
                assert at_end[leader] > min(at_end[name] for name in first)


def test_the_least_change_of_a_tie_breaks_it():
    comparison = compare({"vendor_risk_tolerance": "low", "decision_weights": {"vendor_lock_in_risk": 1}})
    assert comparison.tied == ("custom", "feast", "headwater")
    change = comparison.sensitivity.weights[-1]
    assert (change.criterion, change.lower, change.lower_leader) == ("vendor_lock_in_risk", 1.0, "headwater")
    assert change.higher is None


@pytest.mark.parametrize("requirements", [{}, BUSY, {"needs": ["self_hosted", "governance"]}])
def test_shares_add_up_to_one(requirements: dict[str, Any]):
    shares = compare(requirements).sensitivity.first_places
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(COMPARATOR.profiles)


def test_shares_are_zero_where_nothing_qualifies():
    sensitivity = compare({"needs": ["managed", "self_hosted"]}).sensitivity
    assert not any(sensitivity.first_places.values())
    assert sensitivity.second_choice is None
    assert not sensitivity.ranges_could_change_it


def test_the_same_seed_gives_the_same_shares():
    assert compare(BUSY).sensitivity == compare(BUSY).sensitivity
    assert compare(BUSY, seed=1).sensitivity.first_places != compare(BUSY).sensitivity.first_places
    assert sum(compare(BUSY, seed=2**80).sensitivity.first_places.values()) == pytest.approx(1)


def test_a_disqualified_system_is_first_in_no_draw():
    assert compare(BUSY).sensitivity.first_places["headwater"] == 0


def test_a_system_whose_need_is_open_is_first_in_some_draws_only_where_it_has_it():
    needs = {"needs": ["streaming"], "vendor_risk_tolerance": "low", "decision_weights": {"vendor_lock_in_risk": 1}}
    needs["allow_closed"] = True
    both = compare(needs, systems=["custom", "tecton"], draws=4_000).sensitivity.first_places
    assert 0 < both["custom"] < 0.5


def test_draws_of_a_system_do_not_depend_on_who_else_is_compared():
    pair = compare(BUSY, systems=["feast", "custom"]).sensitivity.first_places
    more = compare(BUSY, systems=["feast", "custom", "headwater"]).sensitivity.first_places
    assert pair["feast"] == more["feast"]


@settings(max_examples=rounds(25), deadline=None)
@given(asked())
def test_removing_a_loser_never_changes_the_winner(requirements: dict[str, Any]):
    whole = compare(requirements, draws=1)
    first = set(whole.tied) or {whole.recommendation}
    for loser in whole.architecture_scores:
        if loser not in first:
            rest = [name for name in COMPARATOR.profiles if name != loser]
            less = compare(requirements, draws=1, systems=rest)
            assert (less.recommendation, less.tied) == (whole.recommendation, whole.tied)
            for name in rest:
                assert less.architecture_scores[name] == whole.architecture_scores[name]


def test_ranges_change_it_only_where_they_could():
    tight = {"max_latency_ms": 5, "decision_weights": {"performance": 1}, "required_online_stores": ["dynamodb"]}
    comparison = compare(tight)
    assert comparison.sensitivity.ranges_could_change_it
    assert any("its serving_latency_p99_ms (variable)" in said for said in comparison.recommendation_reasoning)
    assert not compare({"needs": ["streaming"]}, systems=["feast", "tecton"]).sensitivity.ranges_could_change_it


def test_many_grades_are_those_of_one():
    ratios = np.array([0, 0.2, 1, 1.0001, 3, 1e200, np.inf])
    assert grades(ratios) == pytest.approx([grade(ratio) for ratio in ratios.tolist()])


def test_limits_beyond_all_measure_have_an_answer():
    extreme = {"max_latency_ms": 1e308, "min_throughput_qps": 1e308, "freshness_minutes": 5e-324}
    assert sum(compare(extreme).sensitivity.first_places.values()) == pytest.approx(1)
    assert sum(compare({**extreme, "max_latency_ms": 5e-324}).sensitivity.first_places.values()) == pytest.approx(1)


def test_requirements_may_be_given_as_their_class():
    assert COMPARATOR.compare_architectures(Requirements(**BUSY), draws=5).recommendation == "feast"
