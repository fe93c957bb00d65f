"""The map of a cluster's slots, as nodes tell it."""

from headwater.online.stores.redis.slot_map import Slots
from headwater.online.stores.redis.slots import SLOTS, tag_of
from headwater.online.stores.redis.url import parse_url

A, B, C = ("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)


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
