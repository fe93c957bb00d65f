"""Fill records on a Redis Cluster: what each shard claims of its rows, and what that says of the whole: pure functions.

A shard's claim names the slots that it speaks for. Of the shard's other slots, whose rows came from elsewhere, it says
which fill is under way, and which fill rows that are there must have to be read; a missing row means nothing there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from headwater.errors import FormatError
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.record import FillRecord, decode_record, encode_record, least
from headwater.online.stores.redis.slots import ALL_SLOTS, slot_ranges, slot_set

_FRAME = b"\0hwfill\1"
_Fields = tuple[list[str], int, str, list[tuple[int, int]], bytes, bytes]


@dataclass(frozen=True)
class NodeState:
    """What a node says of itself.

    Attributes:
        id: the node's.
        epoch: the config epoch of its shard, which grows where the shard takes over slots.
        replication: the id of the replication that it has.
    """

    id: str
    epoch: int
    replication: str


@dataclass(frozen=True)
class Claim:
    """A fill record as a shard keeps it.

    Attributes:
        nodes: ids of the shard's nodes, the primary's first, when it was written.
        state: of that primary.
        slots: those that it speaks for, a set.
        record: true of their rows.
        others: what it says of the shard's other slots, which have no completed fill; None: as `record`.
    """

    nodes: tuple[str, ...]
    state: NodeState
    slots: int
    record: FillRecord
    others: FillRecord | None = None

    def spoken(self, here: NodeState) -> int:
        """The slots that it speaks for where it is found.

        None where another shard wrote it (its slot has moved), or where the shard has taken over slots since, as one
        of its own may have been away meanwhile. A node that took over from the one that wrote it has no row less than
        the claim, which was copied behind them.
        """
        same = here.replication == self.state.replication
        holds = here.epoch == self.state.epoch if same else here.id in self.nodes
        return self.slots if holds else 0

    def pack(self) -> bytes:
        """As it is stored."""
        others = b"" if self.others is None else encode_record(self.others)
        state, ranges = self.state, list(slot_ranges(self.slots))
        fields = [self.nodes, state.epoch, state.replication, ranges, encode_record(self.record), others]
        return _FRAME + msgspec.msgpack.encode(fields)


def unpack_claim(stored: bytes | None) -> Claim | None:
    """The claim of what a shard has stored; None where there is none that can be read.

    Raises:
        FormatError: a newer headwater wrote it.
    """
    if stored is None:
        return None
    if stored[:-1].startswith(_FRAME[:-1]) and stored[len(_FRAME) - 1] > _FRAME[-1]:
        raise FormatError("the fill record was written by a newer headwater; upgrade this one")
    if not stored.startswith(_FRAME):
        return None
    try:
        fields = msgspec.convert(msgspec.msgpack.decode(stored[len(_FRAME) :]), _Fields)
        nodes, epoch, replication, ranges, data, others = fields
        record = decode_record(data)
        rest = decode_record(others) if others else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, Damaged):
        return None
    return Claim(tuple(nodes), NodeState(nodes[0], epoch, replication), slot_set(ranges), record, rest)


def claimed(data: bytes, nodes: Sequence[str], state: NodeState, slots: int, stored: bytes | None) -> bytes:
    """What a shard stores of a fill record that is written for the whole cluster.

    Args:
        data: the record.
        nodes: ids of the shard's nodes, its primary's first.
        state: of its primary.
        slots: those that may be spoken for.
        stored: what it has. Where a fill begins in a cluster some of whose slots have no completed one, the others keep
            theirs.
    """
    new, old = decode_record(data), unpack_claim(stored)
    if not new.fill and old is not None and old.record.fill:
        kept = old.record._replace(filling=new.filling, base=new.base)
        return Claim(tuple(nodes), state, old.spoken(state) & slots, kept, new).pack()
    return Claim(tuple(nodes), state, slots, new).pack()


def whole_record(claims: Iterable[tuple[Claim | None, NodeState, int]]) -> bytes | None:
    """The fill record of a cluster as a whole.

    Where every slot is spoken for under one fill, the least that shards say: what one of them has beyond it is done
    again, which changes nothing. Else there is no completed fill; the one under way is the latest that a shard knows.

    Args:
        claims: of each shard its claim, its state and its slots.
    """
    known, spoken, whole = list[FillRecord](), 0, True
    for claim, state, slots in claims:
        if claim is None:
            whole = False
            continue
        mine = claim.spoken(state) & slots
        spoken |= mine
        whole = whole and claim.record.fill > 0
        known += [claim.record] if claim.others is None else [claim.record, claim.others]
    if not known:
        return None
    if whole and spoken == ALL_SLOTS and len({record.fill for record in known if record.fill}) == 1:
        return encode_record(least(record for record in known if record.fill))
    filling = max(record.filling for record in known)
    bases = {record.base for record in known if record.filling == filling}
    base = bases.pop() if len(bases) == 1 else None
    return encode_record(FillRecord(0, filling, base=base))
