"""Slots of a cluster: of keys, as sets, and as the map has them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headwater.online.stores.redis.slots import (
    ALL_SLOTS,
    META_SLOTS,
    SLOTS,
    Slots,
    meta_slot,
    slot_of,
    slot_ranges,
    slot_set,
    tag_of,
)
from headwater.online.stores.redis.url import parse_url

A, B, C = ("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)


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


def entry(start, end, primary, *replicas):
    return [start, end, *([host.encode(), port, b"id"] for host, port in (primary, *replicas))]


def key_in(slot):
    return tag_of(slot) + b"x"


def test_the_map_takes_single_slots_that_nodes_tell_of():
    slots = Slots(parse_url("redis+cluster://127.0.0.1:1"))
    slots.learn([entry(0, 99, A, C), entry(100, SLOTS - 1, B)])
    assert [shard.primary for shard in slots.shards] == [A, B] and slots.shards[0].replicas == (C,)
    assert [slots.shard(key_in(slot)).primary for slot in (0, 99, 100)] == [A, A, B]
    slots.learn([entry(0, 99, A), entry(100, SLOTS - 1, B)], {0: B, 100: C})
    assert [slots.shard(key_in(slot)).primary for slot in (0, 1, 99, 100, 101)] == [B, A, A, C, B]
    assert [(shard.primary, shard.first) for shard in slots.shards] == [(B, 0), (A, 1), (C, 100)]
    slots.learn([entry(0, 0, A), entry(1, SLOTS - 1, B)], {0: B})
    assert [shard.primary for shard in slots.shards] == [B]


def test_a_slot_that_nobody_has_is_asked_of_somebody():
    slots = Slots(parse_url("redis+cluster://127.0.0.1:1"))
    slots.learn([entry(1, SLOTS - 1, A)])
    assert slots.shard(key_in(0)).primary == A


def test_a_node_that_does_not_know_its_own_host_is_the_one_that_was_asked():
    slots = Slots(parse_url("redis+cluster://cache:1"))
    slots.learn([[0, SLOTS - 1, [b"", 7, b"id"]]])
    assert slots.shards[0].primary == ("cache", 7)
