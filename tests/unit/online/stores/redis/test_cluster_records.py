"""What shards of a cluster claim of their rows, and what that says of the whole."""

from __future__ import annotations

import pytest

from headwater.errors import FormatError
from headwater.online.rows.windows.record import FillBase, FillRecord, SourceThrough, decode_record, encode_record
from headwater.online.stores.redis.cluster_records import Claim, NodeState, claimed, unpack_claim, whole_record
from headwater.online.stores.redis.slots import ALL_SLOTS

HALF = (1 << 8192) - 1
OTHER = ALL_SLOTS & ~HALF
A, B = NodeState("a", 3, "ra"), NodeState("b", 4, "rb")
DONE = FillRecord(10, 10, 50, 60, SourceThrough(2, 40))
BASE = FillBase(7, 8, SourceThrough(1, 9))


def claim(state=A, slots=HALF, record=DONE, others=None):
    return Claim((state.id, state.id + "2"), state, slots, record, others)


def whole(*claims):
    found = whole_record(claims)
    return None if found is None else decode_record(found)


def test_a_claim_is_read_as_it_was_written():
    for each in (claim(), claim(others=FillRecord(0, 12)), claim(record=FillRecord(0, 5, base=BASE), slots=0)):
        assert unpack_claim(each.pack()) == each
    assert unpack_claim(None) is None and unpack_claim(b"else") is None and unpack_claim(claim().pack()[:-2]) is None
    newer = claim().pack()
    with pytest.raises(FormatError, match="newer headwater"):
        unpack_claim(newer[:7] + b"\2" + newer[8:])


@pytest.mark.parametrize(
    ("here", "speaks"),
    [
        (A, True),
        # slots were taken over since: one of its own may have been away
        (NodeState("a", 4, "ra"), False),
        # a replica, and one that has joined since
        (NodeState("a2", 3, "ra"), True),
        (NodeState("new", 3, "ra"), True),
        # a replica that took over, and the same node after a restart
        (NodeState("a2", 9, "rx"), True),
        (NodeState("a", 3, "rx"), True),
        # another shard, to which the slot of the entry has moved
        (B, False),
    ],
)
def test_where_a_claim_speaks(here, speaks):
    assert claim().spoken(here) == (HALF if speaks else 0)


def test_the_whole_is_what_the_least_of_shards_says():
    ahead = DONE.raised(80, 90, SourceThrough(3, 70))
    both = (claim(), A, HALF), (claim(B, OTHER, ahead), B, OTHER)
    assert whole(*both) == DONE
    assert whole(*both[:1]) == FillRecord(0, 10)
    assert whole((None, A, HALF), both[1]) == FillRecord(0, 10)
    assert whole((None, A, HALF), (None, B, OTHER)) is None
    # fills that differ, and slots that came from elsewhere
    assert whole((claim(record=FillRecord(9, 11, base=BASE)), A, HALF), both[1]) == FillRecord(0, 11, base=BASE)
    assert whole(both[0], (both[1][0], NodeState("b", 5, "rb"), OTHER)).fill == 0
    # a fill under way that not all shards know
    going = DONE._replace(filling=12, base=BASE)
    assert whole((claim(record=going), A, HALF), both[1]) == DONE._replace(filling=12)


def test_a_fill_that_begins_takes_nothing_from_the_slots_that_are_filled():
    began = encode_record(FillRecord(0, 12))
    kept = unpack_claim(claimed(began, ["a"], A, HALF | 1 << 9000, claim().pack()))
    assert (kept.slots, kept.record, kept.others) == (HALF, DONE._replace(filling=12), FillRecord(0, 12))
    # where they came from elsewhere nothing is spoken for, but which fill rows that are there must have is known
    moved = unpack_claim(claimed(began, ["b"], B, OTHER, claim().pack()))
    assert (moved.slots, moved.record.fill, moved.others) == (0, 10, FillRecord(0, 12))
    assert unpack_claim(claimed(began, ["a"], A, HALF, None)) == Claim(("a",), A, HALF, FillRecord(0, 12))
    done = encode_record(FillRecord(12, 12))
    assert unpack_claim(claimed(done, ["a"], A, HALF, kept.pack())) == Claim(("a",), A, HALF, FillRecord(12, 12))
