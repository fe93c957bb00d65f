"""What entries on the shards of a cluster say of the whole, case by case."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import FormatError
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.cluster_entries import (
    ShardRead,
    ShardState,
    all_slots_once,
    framed,
    is_of_store,
    of_rows,
    of_store,
    pack_epoch,
    spoken_for,
    unframed,
    unpack_epoch,
)
from headwater.online.stores.redis.slots import ALL_SLOTS, slot_ranges, slot_set

WATERMARK, OTHER = META_PREFIX + b"w of it", META_PREFIX + b"e of it"
HALF = slot_set([(0, 8191)])


def state(name, slots, epoch=1, replicas=(), replication="r"):
    return ShardState(b"", name, epoch, slots, 0, tuple(replicas), replication + name)


A, B = state("a", HALF, replicas=("a2",)), state("b", ALL_SLOTS & ~HALF)


def read(of, slot=0, token=b"t", **values):
    return ShardRead(of, slot, token, {WATERMARK: values.get("w"), OTHER: values.get("f")})


def test_a_shard_s_own_words_are_parsed():
    found = ShardState.parse(b"abc 7 0-5 9 100-102 [5->-def] [300-<-ghi]", [b"r1", b"r2"], b"f" * 40)
    assert (found.id, found.epoch, found.nodes, found.replication) == ("abc", 7, ["abc", "r1", "r2"], "f" * 40)
    assert list(slot_ranges(found.slots)) == [(0, 4), (9, 9), (100, 102)]
    assert list(slot_ranges(found.leaving)) == [(5, 5)]
    assert ShardState.parse(b"abc 7 ", [], b"f").slots == 0


@given(st.sets(st.integers(0, 16_383), max_size=20), st.binary(max_size=20))
def test_an_entry_speaks_for_the_slots_that_it_names_where_the_shard_has_them_still(slots, data):
    named = slot_set((slot, slot) for slot in slots)
    assert unframed(framed(data, A, named), A) == (named & A.slots, data)


@pytest.mark.parametrize(
    ("now", "speaks"),
    [
        (A, True),
        (state("a2", HALF, epoch=9), True),  # its replica has taken over
        (replace(A, replicas=()), True),
        (state("a", HALF, epoch=2, replication="after a restart "), True),
        (state("a", HALF, epoch=2), False),  # it has taken over slots since
        (state("b", HALF), False),  # the entry's slot has moved to another shard
    ],
)
def test_an_entry_speaks_for_nothing_where_its_rows_may_have_been_elsewhere(now, speaks):
    assert unframed(framed(b"x", A, HALF), now) == (HALF if speaks else 0, b"x")


@pytest.mark.parametrize("bad", [b"", b"\xc1", b"\x93\1\2\3", b"\x90" * 2_000])
def test_a_damaged_entry_is_named(bad):
    with pytest.raises(FormatError, match="damaged"):
        unframed(framed(b"", A, 0)[: len(b"\0hwshard\1")] + bad, A)


def test_every_slot_must_be_spoken_for():
    of_a, of_b = framed(b"\2x", A, HALF), framed(b"\2x", B, B.slots)
    assert of_rows(WATERMARK, [read(A, w=of_a), read(B, w=of_b)]) == b"\2x"
    assert of_rows(WATERMARK, [read(A, w=of_a), read(B)]) is None
    assert of_rows(WATERMARK, [read(A, w=of_a), read(B, w=framed(b"\2x", B, B.slots & ~(1 << 9000)))]) is None
    # an entry of another shard, in a slot that has moved
    assert of_rows(WATERMARK, [read(A, w=of_a), read(B, w=of_a)]) is None
    assert of_rows(WATERMARK, []) is None


@pytest.mark.parametrize(
    ("first", "second", "watermark", "other"),
    [
        (b"\2b", b"\2a", b"\2a", None),
        (b"\x96b", b"\x96a", None, None),
        (b"\2b", b"\x96a", None, None),
        (bytes(8), bytes(7) + b"\1", bytes(8), bytes(8)),
    ],
)
def test_where_shards_differ(first, second, watermark, other):
    entries = framed(first, A, HALF), framed(second, B, B.slots)
    reads = [read(shard, w=entry, f=entry) for shard, entry in zip((A, B), entries, strict=True)]
    assert (of_rows(WATERMARK, reads), of_rows(OTHER, reads)) == (watermark, other)


def test_entries_of_the_whole_store():
    assert [is_of_store(META_PREFIX + name) for name in (b"l", b"g1", b"t", b"p2", b"w", b"f", b"")] == [True] * 4 + [
        False
    ] * 3
    assert of_store([None, None]) is None
    assert of_store([(7).to_bytes(8, "big"), None, (300).to_bytes(8, "big")]) == (300).to_bytes(8, "big")
    assert of_store([b"log b", None, b"log a"]) == b"log a"


def test_whether_shards_have_every_slot_once():
    assert all_slots_once([read(A), read(B)])
    assert not all_slots_once([read(A)])
    assert not all_slots_once([read(A), read(B), read(state("c", 1))])
    assert all_slots_once([read(replace(A, slots=HALF & ~1, leaving=1)), read(B)])


START = unpack_epoch(pack_epoch([read(A), read(B, slot=8192, token=b"u")]))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([read(A), read(B, 8192, b"u")], {"a": HALF, "b": B.slots}),
        # a flush, another token, a restart, a failover
        ([read(A, token=None), read(B, 8192, b"u")], None),
        ([read(A, token=b"v"), read(B, 8192, b"u")], None),
        ([read(state("a", HALF, replication="s")), read(B, 8192, b"u")], None),
        ([read(state("a2", HALF)), read(B, 8192, b"u")], None),
        # slots that have moved: away from a shard, to a shard, the slot of its entries, all of them
        ([read(replace(A, slots=HALF & ~(1 << 7))), read(B, 8192, b"u")], {"a": HALF & ~(1 << 7), "b": B.slots}),
        ([read(A), read(replace(B, epoch=2), 8192, b"u")], {"a": HALF}),
        ([read(A, slot=256, token=None), read(B, 8192, b"u")], {"b": B.slots}),
        ([read(state("b", ALL_SLOTS, epoch=2), 0, None)], {}),
        # a shard that has joined
        ([read(A), read(B, 8192, b"u"), read(state("c", 1), token=None)], {"a": HALF, "b": B.slots}),
    ],
)
def test_what_a_run_may_speak_for(now, expected):
    assert spoken_for(START, now) == expected
