"""Reasoning: the sentences that stand beside a recommendation."""

from typing import Any

import pytest

from headwater.advisor.comparator import FeatureStoreArchitectureComparator
from headwater.advisor.reasoning import listed

COMPARATOR = FeatureStoreArchitectureComparator()


def said(**asked: Any) -> str:
    """All sentences, a line each."""
    return "\n".join(COMPARATOR.compare_architectures(asked, draws=200).recommendation_reasoning)


def test_figures_and_their_sources_are_cited():
    text = said(max_latency_ms=20, needs=["streaming", "open_source"])
    assert text.startswith("Use feast: it scores ")
    assert "It meets 3 of 3 requirements." in text
    assert "p99 of 10 ms against at most 20 ms: met with half the limit to spare (unsourced claim)." in text
    assert "feast has streaming and open_source (github.com/feast-dev/feast, docs:" in text


def test_a_recommended_product_that_was_bought_is_warned_of():
    text = said(needs=["streaming", "window_aggregations"], required_online_stores=["redis"], allow_closed=True)
    assert text.startswith("Use tecton")
    assert "Warning: tecton: it was bought by Databricks in August 2025" in text


def test_a_tie_is_said_to_be_one():
    assert "custom, feast and headwater tie at 1.000 of 1" in said(
        vendor_risk_tolerance="low", decision_weights={"vendor_lock_in_risk": 1}
    )


def test_a_product_that_is_only_maintained_is_not_recommended_unless_that_is_asked_for():
    text = said(needs=["streaming", "window_aggregations"], required_online_stores=["redis"])
    assert not text.startswith("Use tecton")
    assert "tecton is not recommended for a new start: bought by Databricks in August 2025" in text
    assert "allow_closed (--allow-closed) counts it too" in text
    alone = {
        "old": {"status": "closed to new customers since 2024"},
        "new": {"status": "active; its old API is closed"},
    }
    base = FeatureStoreArchitectureComparator().profiles["feast"]
    comparator = FeatureStoreArchitectureComparator(
        {name: {**base.to_dict(), **table, "sources": {}, "warning": ""} for name, table in alone.items()}
    )
    assert comparator.compare_architectures({"max_latency_ms": 50}, systems=["old", "new"]).recommendation == "new"
    none = comparator.compare_architectures({"max_latency_ms": 50}, systems=["old"])
    assert none.recommendation is None and "old is not recommended" in "\n".join(none.recommendation_reasoning)


def test_without_a_requirement_what_to_ask_is_said():
    for asked in ({}, {"allow_closed": True}):
        comparison = FeatureStoreArchitectureComparator().compare_architectures(asked, draws=10)
        assert comparison.recommendation is None and not comparison.tied
        first, *questions = comparison.recommendation_reasoning
        assert first.startswith("No requirements given, so nothing is ranked.")
        assert "Minimum reads per second? (min_throughput_qps)" in questions
        assert str(comparison).startswith(first) and "<table" not in comparison._repr_html_()


def test_nothing_qualifies_and_what_each_system_misses_first():
    text = said(needs=["managed", "self_hosted"])
    assert text.startswith("Nothing qualifies: every system lacks a hard requirement.")
    assert "feast misses needs: managed first: lacks managed" in text
    assert "tecton misses needs: self_hosted first: lacks self_hosted" in text
    assert "Note: needs managed and self_hosted conflict" in text


def test_what_must_be_checked_first_is_said():
    text = said(needs=["self_hosted", "governance"])
    assert (
        "No system is known to meet all hard requirements.\ncustom may: check first whether it has governance." in text
    )
    assert "Use custom only once that is checked" in text


def test_why_a_system_is_out_is_said():
    assert "tecton is out: required_online_stores: lmdb: online stores redis, dynamodb" in said(
        required_online_stores=["lmdb"]
    )


def test_the_second_choice_and_what_tells_them_apart():
    text = said(required_offline_stores=["snowflake"], vendor_risk_tolerance="low", cost_preference="low")
    assert "Second choice: " in text
    assert "feast leads " in text
    assert "random weightings." in text


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ({"budget_class": "low", "cost_preference": "premium"}, "a low budget and a preference for premium"),
        ({"needs": ["managed", "embedded"]}, "needs managed and embedded conflict"),
        ({"needs": ["managed"], "vendor_risk_tolerance": "low"}, "a low tolerance of vendor lock-in"),
        ({"required_online_stores": ["scylladb"]}, "no profile names scylladb as an online store"),
        ({"required_offline_stores": ["oracle"]}, "no profile names oracle as an offline store"),
        ({"max_latency_ms": 5, "decision_weights": {"cost": 1}}, "performance has no weight"),
    ],
)
def test_what_pulls_apart_is_noted(asked: dict[str, Any], note: str):
    notes = [line for line in said(**asked).splitlines() if line.startswith("Note: ")]
    assert any(note in line for line in notes)


def test_a_limit_that_nothing_meets_is_noted():
    text = said(team_size=1, needs=["open_source"], required_online_stores=["redis"])
    assert "Note: no system that may qualify meets team_size." in text


def test_names_in_a_sentence():
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
