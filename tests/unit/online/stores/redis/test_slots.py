"""Slots of a cluster: of keys, and as sets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headwater.online.stores.redis.slots import (
    ALL_SLOTS,
    META_SLOTS,
    SLOTS,
    meta_slot,
    slot_of,
    slot_ranges,
    slot_set,
    tag_of,
)


def test_slots_follow_the_tag():
    assert slot_of(b"123456789") == 12739  # the example of the cluster specification
    assert slot_of(b"a{123456789}b") == 12739
    assert slot_of(b"{}x") != slot_of(b"")
    for slot in (0, 5461, SLOTS - 1):
        assert slot_of(tag_of(slot) + b"anything{else}") == slot


@given(st.sets(st.integers(0, SLOTS - 1), max_size=40))
def test_a_set_of_slots_is_the_same_as_its_ranges(slots):
    bits = slot_set((slot, slot) for slot in slots)
    ranges = list(slot_ranges(bits))
    assert sorted(slots) == [slot for start, end in ranges for slot in range(start, end + 1)]
    assert slot_set(ranges) == bits
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(ranges))


def test_all_slots_are_one_range():
    assert list(slot_ranges(ALL_SLOTS)) == [(0, SLOTS - 1)] and list(slot_ranges(0)) == []


def test_entries_lie_in_the_lowest_of_fixed_slots_where_a_shard_has_one():
    assert meta_slot(slot_set([(5461, 10922)])) == 5632 and 5632 in META_SLOTS
    assert meta_slot(slot_set([(0, 0), (5461, 10922)])) == 0
    assert meta_slot(slot_set([(3, 5)])) == 3
