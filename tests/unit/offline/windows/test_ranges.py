"""Ranges of events beside their events one by one: which they are, and what is made of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.offline.windows.distinct import events_of
from headwater.offline.windows.exact import IntegerSums
from headwater.offline.windows.merging import Extremes, Spreads, Sums
from headwater.offline.windows.ranges import Aggregates, Table
from headwater.offline.windows.runs import Runs
from headwater.offline.windows.subsets import Rows
from headwater.offline.windows.tiles import Tiles
from headwater.testing import rounds

HOP = 4
ODD = [math.nan, math.inf, -math.inf, 1e308, -1e308, 1e200, 5e-324, -0.0]
"""What would reach windows that it is not in, where values were multiplied by a mask or sums were subtracted."""


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 700])
@pytest.mark.parametrize("longest", [3, 40, 700])
def test_parts_of_ranges_have_each_event_once(size, longest):
    rng = np.random.default_rng(size)
    values = rng.integers(-50, 50, size).astype(np.float64)
    first = rng.integers(0, size + 1, 300)
    last = np.minimum(first + rng.integers(0, longest + 1, 300), size)
    tiles = Tiles(size, longest)
    pieces = tiles.pieces(first, last)
    greatest, least = Extremes(values, greatest=True), Extremes(values.astype(np.int32), greatest=False)
    kinds = (Sums(values), Spreads(values), greatest, least)
    sums, (counts, means, squares), most, fewest = (Table(tiles, k, k.of(None)).of(pieces, 300) for k in kinds)
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        each = values[a:b]
        assert sums[0][i] == each.sum()
        assert counts[i] == len(each)
        if len(each):
            assert (most[0][i], fewest[0][i]) == (each.max(), each.min())
            assert means[i] == pytest.approx(each.mean(), abs=1e-9)
            assert squares[i] == pytest.approx(((each - each.mean()) ** 2).sum(), abs=1e-6)


@settings(max_examples=rounds(30), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 120),
    groups=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    most=st.sampled_from([5, 60, 400]),
    offset=st.booleans(),
)
def test_events_of_windows_are_those_of_the_rule(seed, size, groups, share, most, offset):
    rng = np.random.default_rng(seed)
    event = rng.integers(-200, 200, size)
    known = event + np.where(rng.random(size) < share, rng.integers(0, most, size), 0)
    group, boundary = rng.integers(0, groups, size), event - event % HOP
    order = np.lexsort((known, boundary, group))
    group, boundary, known = group[order], boundary[order], known[order]
    values = rng.integers(-(2**62), 2**62, size)
    runs = Runs(groups, group, boundary, known)
    asked, at = rng.integers(0, groups, 8), rng.integers(-210, 620, 8)
    reach = runs.reach(asked, at)
    greatest, sums = Aggregates(runs, Extremes(values, greatest=True)), IntegerSums(runs, values)
    for width in (HOP, 37, 150, 10_000):
        start = at - width - (at - width) % HOP
        end = at - 2 - (at - 2) % HOP if offset else None
        hits = runs.hits(asked, start, end, reach)
        rows, events = events_of(runs, hits, 0, len(at))
        high, low = sums.of(hits)
        for row in range(len(at)):
            right = (group == asked[row]) & (boundary >= start[row]) & (known <= at[row])
            right &= boundary < end[row] if end is not None else True
            assert sorted(events[rows == row]) == list(np.flatnonzero(right))
            assert hits.counts[row] == right.sum()
            assert (int(high[row]) << 32) + int(low[row]) == sum(map(int, values[right]))
            assert greatest.of(hits)[0][row] == values[right].max(initial=np.iinfo(np.int64).min)


@settings(max_examples=rounds(60), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 150),
    late=st.sampled_from([0.0, 0.1, 1.0]),
    share=st.sampled_from([0.02, 0.2, 0.9]),
    odd=st.lists(st.sampled_from(ODD), min_size=1, max_size=3),
    offset=st.booleans(),
)
def test_a_value_is_in_no_window_but_its_own(seed, size, late, share, odd, offset):
    rng = np.random.default_rng(seed)
    event = rng.integers(-200, 200, size)
    known = event + np.where(rng.random(size) < late, rng.integers(0, 300, size), rng.integers(0, 3, size))
    group, boundary = rng.integers(0, 2, size), event - event % HOP
    order = np.lexsort((known, boundary, group))
    group, boundary, known = group[order], boundary[order], known[order]
    values = np.where(rng.random(size) < share, rng.choice(odd, size), rng.integers(-3, 3, size))
    values[np.isnan(values)] = np.nan
    runs = Runs(2, group, boundary, known)
    asked, at = rng.integers(0, 2, 8), rng.integers(-210, 520, 8)
    reach = runs.reach(asked, at)
    with np.errstate(all="ignore"):
        sums, spreads = Aggregates(runs, Sums(values)), Aggregates(runs, Spreads(values))
    most, least = (Aggregates(runs, Extremes(values, greatest=greatest)) for greatest in (True, False))
    for width in (HOP, 37, 150, 10_000):
        start = at - width - (at - width) % HOP
        end = at - 6 - (at - 6) % HOP if offset else None
        hits = runs.hits(asked, start, end, reach)
        with np.errstate(all="ignore"):
            (total,), (count, _, squares) = sums.of(hits), spreads.of(hits)
        for row in range(len(at)):
            right = (group == asked[row]) & (boundary >= start[row]) & (known <= at[row])
            right &= boundary < end[row] if end is not None else True
            each = values[right]
            assert count[row] == len(each)
            if len(each):
                assert same(most.of(hits)[0][row], np.nan if np.isnan(each).any() else each.max())
                assert same(least.of(hits)[0][row], np.nan if np.isnan(each).all() else np.nanmin(each))
                with np.errstate(all="ignore"):
                    assert_sum(each, total[row])
                    assert_squares(each, squares[row])


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


def assert_sum(each, found):
    finite = each[np.isfinite(each)]
    if sum(abs(int(value)) for value in finite) >= 2**1024:
        return
    exact = math.fsum(finite)
    if len(finite) == len(each):
        assert abs(found - exact) <= len(each) * 2.0**-53 * math.fsum(abs(finite))
    else:
        assert same(found, float(np.sum(each[~np.isfinite(each)])))


def assert_squares(each, found):
    if not np.isfinite(each).all():
        assert math.isnan(found)
    elif (each == each[0]).all():
        assert found == 0
    elif abs(each).max() < 1e150:
        assert found == pytest.approx(((each - each.mean()) ** 2).sum(), rel=1e-9, abs=1e-280)


def test_what_rows_know_is_told_of_the_runs_asked_about():
    rows = Rows(np.zeros(1, np.int64), np.array([100]))
    for size in range(1, 60):
        # runs that are let go of leave their place in memory to the next
        none = np.zeros(size, np.int64)
        assert rows.reach(Runs(1, none, none, np.arange(size))).known[0] == size
