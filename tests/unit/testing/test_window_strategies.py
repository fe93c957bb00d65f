"""Strategies of window views: what they draw is sound."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from headwater.definitions.aggregation_checks import aggregation_problems, column_problems
from headwater.definitions.sources import ParquetSource, PushSource
from headwater.planning.diff import plan
from headwater.planning.snapshot import RegistrySnapshot
from headwater.testing.window_strategies import COLUMNS, aggregation_lists, window_views


@given(aggregation_lists(conditions=["n > 0 AND s IN ('a')"]))
def test_aggregations_are_sound(given_aggregations):
    for made in given_aggregations:
        assert aggregation_problems(made) == []
        assert column_problems(made, COLUMNS) == []
        assert made.dtype(COLUMNS) is not None


@given(st.data())
def test_views_can_be_applied(data):
    source = data.draw(st.sampled_from([PushSource(event_time="t"), ParquetSource("x.parquet", event_time="t")]))
    view = data.draw(window_views(source, conditions=["b OR day IS NULL"]))
    made = plan(RegistrySnapshot("p"), [view], None, whole_project=False, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert [stage.version for stage in made.stages] == [None, "1.0.0"]
