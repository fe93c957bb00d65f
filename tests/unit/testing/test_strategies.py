"""The strategies reach what they are for: every status, ties down to the content, the log over the source."""

from collections import Counter

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings

from headwater.testing.cases import plain, plain_rows
from headwater.testing.dense import dense_case
from headwater.testing.oracle import answer
from headwater.testing.strategies import entity_cases, history_cases
from headwater.types import Status

SEEDED = settings(
    max_examples=60, derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def test_history_cases_reach_every_status_and_tie():
    seen = Counter()

    # a row of the log that beats one of the source is rare
    @settings(SEEDED, max_examples=120)
    @given(history_cases())
    def look(case):
        assert len(case.expected()) == case.spine.num_rows == len(case.instants)
        case.request()
        for view in case.views:
            found = view.facts()
            rows = Counter((fact.key, fact.event, fact.created, fact.from_log) for fact in found)
            then = [answer(view.oracle, found, (), fact.key, fact.known_at) for fact in found]
            for given_ in [*case.answers(view), *then]:
                seen[given_.status] += 1
                fact = given_.fact
                if fact is not None:
                    seen["log" if fact.from_log else "source"] += 1
                    seen["tied"] += rows[fact.key, fact.event, fact.created, False] > 2
                    seen["beaten"] += fact.from_log and rows[fact.key, fact.event, fact.created, False] > 0
                    seen["inexact"] += any(value is None for value in given_.values.values())

    look()
    wanted = [Status.PRESENT, Status.NOT_FOUND, Status.NOT_KNOWN, Status.EXPIRED, "log", "source", "tied", "inexact"]
    assert all(seen[what] >= 5 for what in wanted), seen
    assert seen["beaten"] >= 1


def test_entity_cases_list_their_entities():
    sizes = Counter()

    @SEEDED
    @given(entity_cases())
    def look(case):
        sizes[len(case.instants)] += 1
        for view in case.views:
            if view.key_columns:
                for key in zip(*case.keys.values(), strict=True):
                    assert None not in key
                    answer(view.oracle, view.facts(), view.tombstones, key, case.at)

    look()
    assert len(sizes) >= 3


def test_a_dense_case_is_the_same_for_a_seed():
    first, second = (dense_case(rows=100, spine=10, keys=3, span=30, seed=5) for _ in range(2))
    assert first.spine.equals(second.spine)
    assert plain_rows(first.expected()) == plain_rows(second.expected())
    assert isinstance(first.views[0].selection.view.source.table, pa.Table)


def test_values_are_compared_as_their_meaning():
    assert plain(float("nan")) == plain(float("nan"))
    assert plain([0.0, None]) == plain([-0.0, None])
    assert repr(plain(-0.0)) == "0.0"
