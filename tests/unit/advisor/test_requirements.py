"""Requirements: what is accepted, and what the errors say."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.advisor.requirements import CRITERIA, DEFAULT_WEIGHTS, Requirements
from headwater.errors import ConfigError, UsageError
from headwater.testing import rounds


def test_nothing_is_required():
    assert Requirements.of(None) == Requirements.of({}) == Requirements()
    assert Requirements().stated == {}
    assert Requirements().weights == pytest.approx(DEFAULT_WEIGHTS)


def test_what_is_stated_keeps_its_order_and_its_normal_form():
    asked = Requirements.of({"needs": ["Streaming", "streaming"], "max_latency_ms": 10, "flexibility_importance": 0})
    assert asked.to_dict() == {"max_latency_ms": 10.0, "flexibility_importance": 0.0, "needs": ["streaming"]}


def test_names_may_be_one_text():
    assert Requirements(needs="streaming, governance").needs == ("streaming", "governance")  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers():
    assert Requirements(max_latency_ms=np.int64(3), team_size=np.float32(2)).max_latency_ms == 3  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown requirement 'max_latency'; did you mean 'max_latency_ms'"):
        Requirements.of({"max_latency": 10})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_latency_ms", 0, "more than 0"),
        ("max_latency_ms", -1, "more than 0"),
        ("max_latency_ms", True, "must be a number"),
        ("max_latency_ms", "10", "must be a number"),
        ("min_throughput_qps", math.nan, "finite"),
        ("min_throughput_qps", 10**400, "finite"),
        ("freshness_minutes", math.inf, "finite"),
        ("team_size", 0, "more than 0"),
        ("cost_preference", "lo", "one of low, balanced, premium; did you mean 'low'?"),
        ("cost_preference", 1, "one of low, balanced, premium"),
        ("flexibility_importance", 1.1, "from 0 to 1"),
        ("flexibility_importance", True, "must be a number"),
        ("flexibility_importance", "hgh", "did you mean 'high'?"),
        ("ops_skill", "hig", "did you mean 'high'?"),
        ("needs", [1], "list of names"),
        ("needs", [""], "none of them empty"),
        ("needs", 3, "list of names"),
        ("required_online_stores", {"redis": 1}, "list of names"),
        ("decision_weights", [1], "a table of criteria"),
        ("decision_weights", {"speed": 1}, "unknown criterion 'speed'"),
        ("decision_weights", {"performence": 1}, "did you mean 'performance'?"),
        ("decision_weights", {"cost": -1}, "must not be negative"),
        ("decision_weights", {"cost": math.nan}, "finite"),
        ("decision_weights", {"cost": False}, "must be a number"),
        ("decision_weights", {"cost": 0, "performance": 0}, "at least one weight"),
    ],
)
def test_a_value_that_is_not_possible_is_named(name: str, value: object, said: str):
    with pytest.raises(UsageError) as bad:
        Requirements.of({name: value})
    assert str(bad.value).startswith(f"{name} = ")
    assert said in str(bad.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageError, match=r"(?s)max_latency_ms.*ops_skill"):
        Requirements(max_latency_ms=0, ops_skill="none")


def test_requirements_are_a_mapping():
    with pytest.raises(UsageError, match="a mapping or Requirements, not list"):
        Requirements.of(["max_latency_ms"])  # type: ignore[arg-type]


def test_a_file_of_requirements(tmp_path: Path):
    file = tmp_path / "r.toml"
    file.write_text('max_latency_ms = 10\nneeds = ["streaming"]\n[decision_weights]\ncost = 1\n')
    assert Requirements.from_file(file) == Requirements(10, needs=("streaming",), decision_weights={"cost": 1})
    file.write_text("max_latency_ms = 0\n")
    with pytest.raises(ConfigError, match=r"r\.toml: max_latency_ms = 0: must be more than 0"):
        Requirements.from_file(file)
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        Requirements.from_file(tmp_path / "none.toml")


def test_one_weight_takes_all():
    weights = Requirements(decision_weights={"cost": 7}).weights
    assert weights["cost"] == 1
    assert sum(weights.values()) == 1


@settings(max_examples=rounds(50))
@given(st.dictionaries(st.sampled_from(CRITERIA), st.floats(0, 1e308), min_size=1).filter(lambda w: any(w.values())))
def test_weights_add_up_to_one_in_their_proportions(given_weights: dict[str, float]):
    weights = Requirements(decision_weights=given_weights).weights
    assert math.fsum(weights.values()) == pytest.approx(1)
    assert all(weight >= 0 for weight in weights.values())
    greatest = max(given_weights, key=given_weights.__getitem__)
    for name in CRITERIA:
        share = given_weights.get(name, 0.0) / given_weights[greatest]
        assert weights[name] == pytest.approx(weights[greatest] * share)
