"""FeatureStoreArchitectureComparator: the call, its result, and its errors."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

import headwater as hw
from headwater.advisor.requirements import CRITERIA
from headwater.errors import ConfigError, UsageError
from headwater.testing import rounds
from tests.unit.advisor.strategies import asked, profiles

COMPARATOR = hw.FeatureStoreArchitectureComparator()


def test_an_answer_has_a_score_and_an_analysis_of_every_system_the_best_first():
    comparison = COMPARATOR.compare_architectures({"max_latency_ms": 10, "needs": ["streaming"]})
    assert list(comparison.architecture_scores) == list(comparison.detailed_analysis)
    assert set(comparison.architecture_scores) == set(hw.FeatureStoreType)
    assert comparison.recommendation == next(iter(comparison.architecture_scores))
    feast = comparison.detailed_analysis[hw.FeatureStoreType.FEAST]
    assert set(feast.criteria) == set(CRITERIA)
    assert [fit.requirement for fit in feast.fit] == ["max_latency_ms", "needs: streaming"]
    assert feast.profile.name == "feast"
    assert comparison.architecture_scores["feast"].total_score == pytest.approx(
        sum(comparison.weights[name] * feast.criteria[name].value for name in CRITERIA)
    )
    assert comparison.sensitivity.draws == 10_000


def test_a_criterion_is_the_mean_of_its_parts():
    comparison = COMPARATOR.compare_architectures({"max_latency_ms": 10}, draws=1)
    for analysis in comparison.detailed_analysis.values():
        for name, parts in analysis.parts.items():
            assert analysis.criteria[name].value == pytest.approx(sum(p.value for p in parts.values()) / len(parts))


def test_nothing_asked_for_gives_an_answer():
    assert COMPARATOR.compare_architectures(None, draws=1) == COMPARATOR.compare_architectures({}, draws=1)


def test_it_can_be_written_as_json_and_read_as_text():
    comparison = COMPARATOR.compare_architectures({"max_latency_ms": 10, "needs": ["streaming"]}, draws=10)
    table = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert table["recommendation"] == comparison.recommendation
    assert table["requirements"] == {"max_latency_ms": 10, "needs": ["streaming"]}
    custom = table["detailed_analysis"]["custom"]
    assert custom["profile"]["serving_latency_p99_ms"] == "variable"
    assert custom["fit"][0]["verdict"] == "unknown"
    assert custom["components"]["online_store"] == "any"
    lines = str(comparison).splitlines()
    assert lines[0].split() == ["system", "qualifies", "score", "range", "first", "in", "first", "missed"]
    assert lines[1].startswith(str(comparison.recommendation))
    assert "<table>" in comparison._repr_html_()


def test_own_profiles_are_compared(tmp_path: Path):
    file = tmp_path / "ours.toml"
    file.write_text("[feast]\nserving_latency_p99_ms = 1\n")
    comparison = hw.FeatureStoreArchitectureComparator(file).compare_architectures(
        {"max_latency_ms": 2, "needs": ["open_source"]}, draws=1
    )
    assert comparison.detailed_analysis["feast"].fit[0].verdict == "met"


def test_only_the_named_systems_are_compared():
    comparison = COMPARATOR.compare_architectures(systems=[hw.FeatureStoreType.FEAST, "custom"], draws=1)
    assert set(comparison.architecture_scores) == {"feast", "custom"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"requirements": {"need": ["streaming"]}}, "unknown requirement 'need'; did you mean 'needs'?"),
        ({"requirements": {"needs": ["steaming"]}}, "unknown capability 'steaming'; did you mean 'streaming'?"),
        ({"systems": ["fest"]}, "no profile 'fest'; did you mean 'feast'?"),
        ({"systems": []}, "name at least one"),
        ({"seed": -1}, "seed=-1"),
        ({"draws": 0}, "draws=0"),
        ({"draws": 1.5}, "draws=1.5"),
    ],
)
def test_a_wrong_call_is_refused(call: dict[str, object], said: str):
    with pytest.raises(UsageError) as bad:
        COMPARATOR.compare_architectures(**call)  # type: ignore[arg-type]
    assert said in str(bad.value)


def test_a_need_that_only_some_profile_lists_is_known():
    ours = hw.FeatureStoreArchitectureComparator({"feast": {"capabilities": ["time_travel"]}})
    assert ours.compare_architectures({"needs": ["time_travel"]}, draws=1).recommendation == "feast"


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        hw.FeatureStoreArchitectureComparator(tmp_path / "none.toml")


@settings(max_examples=rounds(50), deadline=None)
@given(asked(), profiles())
def test_whatever_is_asked_and_claimed_there_is_an_answer(requirements: dict[str, object], table: dict[str, object]):
    comparison = hw.FeatureStoreArchitectureComparator({"ours": table}).compare_architectures(requirements, draws=20)
    assert comparison.recommendation_reasoning
    assert sum(comparison.weights.values()) == pytest.approx(1)
    qualified = [name for name, score in comparison.architecture_scores.items() if score.qualified]
    if qualified and not comparison.requirements.asks_nothing:
        assert set(comparison.tied or [comparison.recommendation]) <= set(qualified)
    shares = comparison.sensitivity.first_places
    assert sum(shares.values()) == pytest.approx(1) or not any(shares.values())
    json.dumps(comparison.to_dict(), allow_nan=False)
    assert str(comparison)
