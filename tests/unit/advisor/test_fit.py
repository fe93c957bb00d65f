"""Fit: the sentence of each requirement."""

from collections.abc import Mapping
from typing import Any

import pytest

from headwater.advisor.fit import components, fits, missed_by, room_left, warnings
from headwater.advisor.profiles import FeatureStoreComponent, load
from headwater.advisor.requirements import Requirements
from headwater.advisor.result import Fit


def fit(asked: Mapping[str, Any], system: str, **over: Any) -> Fit:
    """The only entry."""
    (found,) = fits(Requirements.of(asked), load({system: over})[system])
    return found


@pytest.mark.parametrize(
    ("asked", "system", "verdict", "sentence"),
    [
        (
            {"max_latency_ms": 20},
            "feast",
            "met",
            "p99 of 10 ms against at most 20 ms: met with half the limit to spare (unsourced claim)",
        ),
        ({"max_latency_ms": 10}, "feast", "met", "p99 of 10 ms against at most 10 ms: met exactly (unsourced claim)"),
        (
            {"max_latency_ms": 5},
            "feast",
            "missed",
            "p99 of 10 ms against at most 5 ms: missed by 2.0x (unsourced claim)",
        ),
        (
            {"max_latency_ms": 9.8},
            "feast",
            "missed",
            "p99 of 10 ms against at most 9.8 ms: missed by 2.0% (unsourced claim)",
        ),
        (
            {"max_latency_ms": 10},
            "sagemaker",
            "unknown",
            "p99 of 8 to 20 ms against at most 10 ms: unknown, met at 8, missed by 2.0x at 20 (low: a published "
            "comparison; high: featurestoreorg/featurestore-benchmarks, batch 1)",
        ),
        (
            {"max_latency_ms": 10},
            "custom",
            "unknown",
            "the p99 of a read is variable, against at most 10 ms: unknown, no single figure exists (unsourced claim)",
        ),
        (
            {"min_throughput_qps": 5_000},
            "feast",
            "met",
            "10,000 reads a second against at least 5,000: met, 2.0x what is asked (unsourced claim)",
        ),
        (
            {"min_throughput_qps": 40_000},
            "feast",
            "missed",
            "10,000 reads a second against at least 40,000: missed by 4.0x (unsourced claim)",
        ),
        (
            {"freshness_minutes": 1},
            "tecton",
            "met",
            "features 1 minute old against at most 1: met exactly (unsourced claim)",
        ),
        (
            {"cost_preference": "low"},
            "tecton",
            "missed",
            "priced as managed service premium, against a preference for low: missed by 1.00 of the price scale",
        ),
        (
            {"vendor_risk_tolerance": "low"},
            "tecton",
            "missed",
            "high lock-in, against a low tolerance of it: missed by 2 levels",
        ),
        (
            {"team_size": 2},
            "custom",
            "missed",
            "8 to run it (high overhead), against a team of 2: missed by 4.0x",
        ),
        (
            {"ops_skill": "medium"},
            "custom",
            "missed",
            "high skill in operations is needed, against medium: missed by 1 level",
        ),
        ({"budget_class": "high"}, "tecton", "met", "high budget is needed, against high: met"),
        (
            {"flexibility_importance": "high"},
            "sagemaker",
            "missed",
            "low flexibility, against an importance of high: missed by 0.67",
        ),
        (
            {"required_online_stores": ["redis"]},
            "sagemaker",
            "missed",
            "online stores sagemaker against redis: missed: it lacks redis",
        ),
        ({"required_offline_stores": ["oracle"]}, "custom", "met", "offline stores any store against oracle: met"),
        ({"needs": ["managed"]}, "sagemaker", "met", "has managed: met (unsourced claim)"),
        (
            {"needs": ["streaming"]},
            "custom",
            "unknown",
            "whether it has streaming depends or is not known: unknown, not counted as met (unsourced claim)",
        ),
    ],
)  # fmt: skip
def test_a_sentence_gives_figures_source_and_by_how_much(
    asked: dict[str, Any], system: str, verdict: str, sentence: str
):
    found = fit(asked, system)
    assert (found.verdict, found.sentence) == (verdict, sentence)


def test_only_stores_and_needs_are_hard_and_each_has_an_entry_of_its_own():
    asked = Requirements(
        5, needs=("streaming", "managed"), required_online_stores=("redis",), decision_weights={"cost": 1}
    )
    found = fits(asked, load()["feast"])
    assert [(f.requirement, f.hard) for f in found] == [
        ("max_latency_ms", False),
        ("required_online_stores: redis", True),
        ("needs: streaming", True),
        ("needs: managed", True),
    ]


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(2, "by 2.0x"), (1.04, "by 4.0%"), (1.00001, "by less than 0.1%"), (float("inf"), "by more than a million times")],
)
def test_how_much_is_missed(ratio: float, said: str):
    assert missed_by(ratio) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (0.5, "met with half the limit to spare"),
        (0.26, "met with 74% of the limit to spare"),
        (0.995, "met with 0.5% of the limit to spare"),
        (0.0001, "met with 99% of the limit to spare"),
        (0.99999, "just met"),
        (1, "met exactly"),
    ],
)
def test_how_much_room_is_left(ratio: float, said: str):
    assert room_left(ratio) == said


def test_every_part_is_filled_or_not_stated():
    feast = components(load()["feast"])
    assert list(feast) == list(FeatureStoreComponent)
    assert feast[FeatureStoreComponent.ONLINE_STORE] == "Redis, DynamoDB, Datastore"
    assert feast[FeatureStoreComponent.SERVING_LAYER] == "not stated"
    assert components(load()["tecton"])[FeatureStoreComponent.MONITORING_SYSTEM] == "built in"
    named = load({"feast": {"components": {"serving_layer": "its Python server"}}})["feast"]
    assert components(named)[FeatureStoreComponent.SERVING_LAYER] == "its Python server"


def test_a_product_that_was_bought_or_closed_is_warned_of():
    assert "bought by Databricks" in warnings(load()["tecton"])[0]
    assert "legacy online tables" in warnings(load()["databricks"])[0]
    assert warnings(load()["feast"]) == []


@pytest.mark.parametrize("status", ["deprecated since May", "closed to new users", "reaches its end of life in 2027"])
def test_the_words_of_a_status_warn(status: str):
    assert warnings(load({"feast": {"status": status}})["feast"]) == [f"feast: {status} (unsourced claim)."]
