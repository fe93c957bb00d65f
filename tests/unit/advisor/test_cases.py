"""Written requirement sets, and the answer that an architect would expect of each."""

from dataclasses import dataclass, field
from typing import Any

import pytest

import headwater as hw

COMPARATOR = hw.FeatureStoreArchitectureComparator()


@dataclass(frozen=True)
class Case:
    """What is asked, what is to come of it, and why."""

    why: str
    asked: dict[str, Any]
    first: str | None
    qualified: set[str]
    open: set[str] = field(default_factory=set)
    tied: tuple[str, ...] = ()


CASES = {
    "a startup on one machine": Case(
        "two people, no money, in process: only the two embedded open-source libraries remain, and the cheaper one is "
        "less to set up",
        {
            "max_latency_ms": 50,
            "min_throughput_qps": 500,
            "freshness_minutes": 60,
            "cost_preference": "low",
            "budget_class": "low",
            "team_size": 2,
            "ops_skill": "medium",
            "vendor_risk_tolerance": "low",
            "needs": ["embedded", "open_source"],
        },
        "headwater",
        {"headwater", "feast"},
        open={"custom"},
    ),
    "the startup begins to stream": Case(
        "headwater does not stream, so that the other open-source system is left",
        {"cost_preference": "low", "budget_class": "low", "team_size": 2, "needs": ["streaming", "open_source"]},
        "feast",
        {"feast"},
        open={"custom"},
    ),
    "an AWS shop": Case(
        "its data is in S3 and nobody wants to run anything: the cloud's own service",
        {
            "max_latency_ms": 25,
            "min_throughput_qps": 5_000,
            "freshness_minutes": 30,
            "cost_preference": "balanced",
            "required_offline_stores": ["s3"],
            "needs": ["managed"],
            "team_size": 4,
            "ops_skill": "low",
            "vendor_risk_tolerance": "high",
        },
        "sagemaker",
        {"sagemaker"},
    ),
    "a bank that may not leave its own cluster": Case(
        "self-hosted on its Redis, with streams: managed services are out",
        {
            "max_latency_ms": 20,
            "min_throughput_qps": 5_000,
            "freshness_minutes": 10,
            "needs": ["self_hosted", "streaming"],
            "required_online_stores": ["redis"],
            "vendor_risk_tolerance": "low",
            "team_size": 6,
            "ops_skill": "high",
            "budget_class": "high",
        },
        "feast",
        {"feast"},
        open={"custom"},
    ),
    "the bank's auditors want governance": Case(
        "no self-hosted product has it; one's own build may, if it is built: check first",
        {"needs": ["self_hosted", "governance"], "vendor_risk_tolerance": "low", "team_size": 10, "ops_skill": "high"},
        "custom",
        set(),
        open={"custom"},
    ),
    "a lakehouse team": Case(
        "governed Delta tables: only the lakehouse has both; freshness stays open",
        {
            "needs": ["governance", "streaming"],
            "required_offline_stores": ["delta"],
            "cost_preference": "premium",
            "budget_class": "high",
            "freshness_minutes": 10,
        },
        "databricks",
        {"databricks"},
        open={"custom"},
    ),
    "fraud at any price": Case(
        "fast, streaming windows, somebody else runs it: the managed specialist, with the warning that it was bought",
        {
            "max_latency_ms": 6,
            "min_throughput_qps": 40_000,
            "freshness_minutes": 1,
            "cost_preference": "premium",
            "budget_class": "high",
            "needs": ["streaming", "window_aggregations"],
            "vendor_risk_tolerance": "high",
            "team_size": 3,
            "ops_skill": "low",
            "allow_closed": True,
        },
        "tecton",
        {"tecton", "databricks"},
        open={"custom"},
    ),
    "a store that nobody supports": Case(
        "an engineering team with a store of its own must build",
        {
            "required_online_stores": ["scylladb"],
            "flexibility_importance": 1,
            "team_size": 12,
            "ops_skill": "high",
            "max_latency_ms": 2,
        },
        "custom",
        {"custom"},
    ),
    "many clouds, own choice of parts": Case(
        "Snowflake today, something else tomorrow, no lock-in: pluggable and open, less work than building",
        {
            "required_offline_stores": ["snowflake"],
            "cost_preference": "low",
            "flexibility_importance": "high",
            "vendor_risk_tolerance": "low",
            "team_size": 5,
            "ops_skill": "medium",
        },
        "feast",
        {"feast", "custom"},
    ),
    "both managed and self-hosted": Case(
        "managed and self-hosted at once: nothing is both", {"needs": ["managed", "self_hosted"]}, None, set()
    ),
    "only lock-in counts": Case(
        "three systems have next to none: nothing tells them apart",
        {"vendor_risk_tolerance": "low", "decision_weights": {"vendor_lock_in_risk": 1}},
        None,
        set(hw.FeatureStoreType) - {"tecton"},
        tied=("custom", "feast", "headwater"),
    ),
    "nothing is asked": Case(
        "there is nothing to rank by: what to ask is said",
        {},
        None,
        set(hw.FeatureStoreType) - {"tecton"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_answer_makes_sense(name: str):
    case = CASES[name]
    comparison = COMPARATOR.compare_architectures(case.asked, draws=500)
    scores = comparison.architecture_scores
    assert comparison.recommendation == case.first, case.why
    assert tuple(comparison.tied) == case.tied, case.why
    assert {system for system in scores if scores[system].qualified} == case.qualified
    assert {system for system in scores if scores[system].qualified is None} == case.open


def test_the_answer_changes_when_it_should():
    """Streams are what tells the startup's two answers apart; a need that both have changes nothing."""
    startup = CASES["a startup on one machine"].asked
    for need, first in (("self_hosted", "headwater"), ("streaming", "feast"), ("vector_search", "feast")):
        asked = {**startup, "needs": [*startup["needs"], need]}
        assert COMPARATOR.compare_architectures(asked, draws=1).recommendation == first


def test_money_and_ties_to_a_vendor_turn_the_answer():
    asked = {"required_online_stores": ["redis"], "needs": ["streaming"], "max_latency_ms": 10, "allow_closed": True}
    rich = {**asked, "cost_preference": "premium", "budget_class": "high", "vendor_risk_tolerance": "high"}
    poor = {**asked, "cost_preference": "low", "budget_class": "low", "vendor_risk_tolerance": "low"}
    assert COMPARATOR.compare_architectures(rich, draws=1).recommendation == "tecton"
    assert COMPARATOR.compare_architectures(poor, draws=1).recommendation == "feast"


def test_a_loopback_does_not_win_against_a_network():
    """At a limit within the room for a network headwater's latency is open, not met."""
    comparison = COMPARATOR.compare_architectures({"max_latency_ms": 3}, draws=1)
    assert comparison.detailed_analysis["headwater"].fit[0].verdict == "unknown"
