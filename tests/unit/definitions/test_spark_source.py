"""What Spark reads itself: settings, versions, the registry's form, and the error of another engine."""

import pytest

import headwater as hw
from headwater.definitions.fingerprint import meaning
from headwater.definitions.serialize import source_from_dict, source_to_dict, view_to_dict
from headwater.definitions.source_checks import check_settings

DRIVER = hw.Entity("driver", join_keys={"driver": hw.Int64})
SOURCES = [
    hw.SparkSource(table="db.rides", event_time="at", created_time="seen", event_id="id"),
    hw.SparkSource(query="SELECT * FROM db.rides", event_time="at", delay="5m"),
    hw.SparkSource(path="rides", format="delta", event_time="at"),
]


def view(source):
    return hw.FeatureView("v", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)], version="1.0.0")


@pytest.mark.parametrize("source", SOURCES)
def test_the_registry_gives_it_back(source):
    assert source_from_dict(source_to_dict(source)) == source
    assert not list(check_settings(source))
    assert view_to_dict(view(source))["format"] == 5


def test_a_table_or_path_is_a_location_and_a_query_a_meaning():
    table, query, path = SOURCES
    moved = hw.SparkSource(table="db.rides_2", event_time="at", created_time="seen", event_id="id")
    assert meaning(view(moved)) == meaning(view(table))
    other = hw.SparkSource(path="elsewhere", format="delta", event_time="at")
    assert meaning(view(other)) == meaning(view(path))
    spaced = hw.SparkSource(query="SELECT *\n  FROM db.rides", event_time="at", delay="5m")
    assert meaning(view(spaced)) == meaning(view(query))
    changed = hw.SparkSource(query="SELECT * FROM db.rides WHERE km > 0", event_time="at", delay="5m")
    assert meaning(view(changed)) != meaning(view(query))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "one of table, query and path; none was given"),
        ({"table": "a", "query": "SELECT 1"}, "not table and query"),
        ({"table": "a", "format": "delta"}, "only a path has a format"),
        ({"path": "a"}, "must be the name of a format"),
        ({"query": "DROP TABLE a"}, "must be one SELECT"),
        ({"query": "SELECT 1; SELECT 2"}, "must be one SELECT"),
        ({"query": "SELECT FROM WHERE"}, "query:"),
        ({"table": 7}, "must be text"),
    ],
)
def test_settings_that_contradict_one_another_are_problems(options, problem):
    assert any(problem in found for found in check_settings(hw.SparkSource(event_time="at", **options)))


def test_the_embedded_engine_says_who_reads_it(tmp_path):
    with hw.FeatureStore(tmp_path) as store, pytest.raises(hw.HeadwaterError, match='engine = "spark"'):
        store.apply([DRIVER, view(SOURCES[0])])
