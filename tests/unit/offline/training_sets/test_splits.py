"""Splits: every row in one part, rows of one instant or key together, the same whatever other rows there are."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import UsageError
from headwater.offline.training_sets.splits import by_hash, by_time, check_sizes, key_places
from headwater.testing import rounds

SIZES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.49))


def one_part_each(parts, rows):
    return (sum(mask.astype(int) for mask in parts.values()) == 1).all() and all(len(m) == rows for m in parts.values())


@settings(max_examples=rounds(30), deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), SIZES)
def test_by_time_the_newest_are_tested_and_no_instant_is_divided(instants, sizes):
    given_ = np.array(instants, np.int64)
    parts = by_time(given_, *sizes)
    assert one_part_each(parts, len(instants))
    order = ["train", "validation", "test"]
    place = np.select([parts[name] for name in order], range(3))
    for earlier in range(len(instants)):
        later = given_ >= given_[earlier]
        assert (place[later] >= place[earlier]).all()
    # at least the share, and no more than the instant at its edge adds
    wanted = round(len(instants) * sizes[0])
    tested = int(parts["test"].sum())
    assert tested >= wanted
    if tested > wanted:
        assert (given_ > given_[parts["test"]].min()).sum() < wanted


@settings(max_examples=rounds(30), deadline=None)
@given(st.lists(st.tuples(st.none() | st.integers(-5, 5), st.text(max_size=2)), min_size=1, max_size=20), st.randoms())
def test_a_key_has_its_place_whatever_the_order_and_the_other_rows(rows, random):
    def places(some):
        table = pa.table([pa.array([a for a, _ in some], pa.int64()), pa.array([b for _, b in some])], ["a", "b"])
        return dict(zip(some, key_places(table, 7), strict=True))

    whole = places(rows)
    shuffled = random.sample(rows, len(rows))
    assert places(shuffled) == whole
    some = shuffled[: len(rows) // 2 + 1]
    assert places(some) == {row: whole[row] for row in some}


def test_places_are_what_they_were_and_even():
    # these numbers are part of what a split is: they never change
    keys = pa.table({"k": pa.array([1, 2, None], pa.int64())})
    assert key_places(keys, 0).round(6).tolist() == PLACES
    for kind in (pa.int32(), pa.float64()):
        other = pa.table({"k": pa.array([1, 2, None], kind)})
        assert (key_places(other, 0) == key_places(keys, 0)).all()
    texts = pa.table({"k": ["1", "2"]})
    assert (key_places(texts, 0) != key_places(keys, 0)[:2]).all()
    encoded = pa.table({"k": pa.array(["1", "2"]).dictionary_encode()})
    assert (key_places(encoded, 0) == key_places(texts, 0)).all()
    many = key_places(pa.table({"k": range(4_000)}), 1)
    assert 0.22 < by_hash(many, 0.25, 0.25)["test"].mean() < 0.28
    assert 0.22 < by_hash(many, 0.25, 0.25)["validation"].mean() < 0.28


PLACES = [0.164828, 0.557327, 0.915895]


@pytest.mark.parametrize("sizes", [(1, 0), (-0.1, 0), (0.5, 0.5), ("a", 0), (True, 0)])
def test_sizes_that_leave_nothing_are_refused(sizes):
    with pytest.raises(UsageError, match="size"):
        check_sizes(*sizes)
