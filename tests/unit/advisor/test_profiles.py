"""Profiles: the package's own, and what users add or lay over them."""

from pathlib import Path

import pytest

import headwater as hw
from headwater.advisor.profiles import CAPABILITIES, UNSOURCED, Figure, load
from headwater.errors import ConfigError, UsageError

OWN = {
    "setup_complexity": "low",
    "operational_overhead": "low",
    "cost_model": "infrastructure_only",
    "flexibility": "medium",
    "lock_in": "low",
    "time_to_market": "low",
    "budget_class": "low",
    "ops_skill": "low",
}


def test_the_package_has_a_profile_of_every_named_system():
    assert sorted(load()) == sorted(system.value for system in hw.FeatureStoreType)
    assert load()[hw.FeatureStoreType.FEAST].name == "feast"


def test_the_packages_profiles_name_only_known_capabilities():
    for profile in load().values():
        assert set(profile.capabilities) | set(profile.unknown_capabilities) <= set(CAPABILITIES)


def test_headwaters_latency_is_a_range_with_room_for_a_network():
    profile = load()["headwater"]
    low, high = profile.serving_latency_p99_ms.ends
    assert high == pytest.approx(low + 5)
    for figure in ("serving_latency_p99_ms", "throughput_qps"):
        assert profile.source(figure).startswith("measured: loopback, 2 cores")


def test_every_part_of_headwater_is_named():
    assert set(load()["headwater"].components) == {part.value for part in hw.FeatureStoreComponent}


def test_a_figure_is_a_number_a_range_or_a_word():
    profiles = load()
    assert profiles["feast"].throughput_qps == Figure(10_000, 10_000)
    assert profiles["sagemaker"].serving_latency_p99_ms.ends == (8, 20)
    assert profiles["custom"].feature_freshness_minutes.written == "configurable"
    assert profiles["custom"].feature_freshness_minutes.open
    assert str(profiles["sagemaker"].throughput_qps) == "10,000 to 20,000"


def test_a_figure_without_a_source_is_an_unsourced_claim():
    assert load()["feast"].source("throughput_qps") == UNSOURCED


def test_a_partial_table_lies_over_the_packages_profile():
    profiles = load({"feast": {"serving_latency_p99_ms": 4.6, "sources": {"serving_latency_p99_ms": "our cluster"}}})
    assert profiles["feast"].serving_latency_p99_ms == Figure(4.6, 4.6)
    assert profiles["feast"].source("serving_latency_p99_ms") == "our cluster"
    assert profiles["feast"].throughput_qps == load()["feast"].throughput_qps
    assert profiles["feast"].source("status") == load()["feast"].source("status")


def test_a_source_does_not_outlive_the_value_it_stood_for():
    assert load({"sagemaker": {"throughput_qps": 1}})["sagemaker"].source("throughput_qps") == UNSOURCED


def test_a_warning_does_not_outlive_the_status_it_stood_for():
    assert load({"tecton": {"status": "active"}})["tecton"].warning == ""


def test_a_capability_that_is_now_known_is_no_longer_unknown():
    custom = load({"custom": {"capabilities": ["self_hosted", "streaming"]}})["custom"]
    assert "streaming" not in custom.unknown_capabilities
    assert "governance" in custom.unknown_capabilities


def test_an_enum_is_a_name():
    assert load({hw.FeatureStoreType.FEAST: {"lock_in": "high"}})["feast"].lock_in == "high"


def test_a_profile_of_its_own_needs_its_levels_only():
    ours = load({"ours": {**OWN, "online_stores": ["Redis"]}})["ours"]
    assert ours.serving_latency_p99_ms.open
    assert ours.provides_online == ("redis",)
    assert load({"ours": ours})["ours"] == ours


def test_a_file_says_the_same_as_a_mapping(tmp_path: Path):
    file = tmp_path / "profiles.toml"
    file.write_text('[feast]\nthroughput_qps = [1, 2]\n[feast.sources]\nthroughput_qps = "us"\n')
    assert load(file) == load({"feast": {"throughput_qps": [1, 2], "sources": {"throughput_qps": "us"}}})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"throughput_qp": 1}, "unknown field 'throughput_qp'; did you mean 'throughput_qps'?"),
        ({"flexibility": "hihg"}, "flexibility = 'hihg': must be one of low, medium, high; did you mean 'high'?"),
        ({"cost_model": "free"}, "cost_model = 'free': must be one of infrastructure_only"),
        ({"throughput_qps": 0}, "throughput_qps = 0: must be more than 0"),
        ({"throughput_qps": -1}, "more than 0"),
        ({"throughput_qps": True}, "must be a number, a range"),
        ({"throughput_qps": float("nan")}, "finite"),
        ({"throughput_qps": float("inf")}, "finite"),
        ({"throughput_qps": 10**400}, "finite"),
        ({"throughput_qps": [2, 1]}, "low end is above"),
        ({"throughput_qps": [1, 2, 3]}, "two ends"),
        ({"throughput_qps": ["a", 2]}, "must be a number"),
        ({"throughput_qps": "varable"}, "did you mean 'variable'?"),
        ({"throughput_qps": None}, "must be a number"),
        ({"capabilities": "streaming"}, "capabilities = 'streaming': Expected `array`"),
        ({"capabilities": [1]}, "Expected `str`"),
        ({"capabilities": ["streaming"], "unknown_capabilities": ["streaming"]}, "unknown_capabilities: streaming"),
        ({"status": 1}, "status = 1: Expected `str`"),
        ({"sources": {"throughput": "x"}}, "unknown key 'throughput'; did you mean 'throughput_qps'?"),
        ({"components": {"online": "x"}}, "unknown key 'online'"),
        ([], "must be a table"),
    ],
)
def test_an_error_names_file_profile_and_field(table: object, said: str, tmp_path: Path):
    with pytest.raises(UsageError, match=r"^profiles: profile 'feast'") as bad:
        load({"feast": table})
    assert said in str(bad.value)


def test_an_error_in_a_file_names_the_file(tmp_path: Path):
    file = tmp_path / "ours.toml"
    file.write_text("[feast]\nlock_in = 3\n")
    with pytest.raises(ConfigError, match=r"ours\.toml: profile 'feast': lock_in = 3: must be one of"):
        load(file)
    file.write_text("[feast\n")
    with pytest.raises(ConfigError, match=r"ours\.toml: not TOML: Expected"):
        load(file)
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_new_profile_says_what_it_lacks_and_the_nearest_name():
    with pytest.raises(
        UsageError, match=r"profile 'fest': setup_complexity, .* are required in a new profile.*did you mean 'feast'"
    ):
        load({"fest": {"throughput_qps": 1}})


@pytest.mark.parametrize("profiles", [3, [1], {1: OWN}, {"": OWN}])
def test_what_is_no_set_of_profiles_is_refused(profiles: object):
    with pytest.raises(UsageError, match=r"^profiles: "):
        load(profiles)  # type: ignore[arg-type]
