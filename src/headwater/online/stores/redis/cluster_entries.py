"""What is kept beside rows on the shards of a cluster, and what it says of the whole: pure functions.

An entry that says how far rows are complete (a watermark, a fill record) is true of rows of the same shard. So each
shard has its own, which names the slots that it speaks for, and the cluster as a whole has an entry only where every
slot is spoken for. Others are of the store as a whole (the log's id, the epoch's token, the greatest position, purges):
each shard's copy counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from headwater.errors import FormatError
from headwater.online.meta import is_fill_record
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.cluster_records import NodeState, claimed, unpack_claim, whole_record
from headwater.online.stores.redis.slots import ALL_SLOTS, meta_slot, slot_ranges, slot_set

_OF_THE_STORE = frozenset(META_PREFIX + letter for letter in (b"l", b"g", b"t", b"p", b"r", b"n", b"x"))
_WATERMARK = META_PREFIX + b"w"
_FRAME = b"\0hwshard\1"
_LETTER = len(META_PREFIX) + 1
_NUMBER = 8
"""Bytes of a high-water mark."""


def is_of_store(key: bytes) -> bool:
    """Whether a meta entry is of the store as a whole, rather than of the rows of some slots."""
    return key[:_LETTER] in _OF_THE_STORE


@dataclass(frozen=True)
class ShardState:
    """What a primary says of its shard.

    Attributes:
        text: as it says it; the write script compares it.
        id: the node's.
        epoch: its config epoch, which grows with every slot that it takes over.
        slots: a set, without those on their way to another shard.
        leaving: those.
        replicas: ids of its replicas.
        replication: the id of its replication.
    """

    text: bytes
    id: str
    epoch: int
    slots: int
    leaving: int
    replicas: tuple[str, ...]
    replication: str

    @classmethod
    def parse(cls, text: bytes, replicas: Iterable[bytes], replication: bytes) -> ShardState:
        """The state of what the script `shard_read` gives."""
        node, epoch, *words = text.decode().split()
        leaving = slot_set((slot, slot) for slot in (int(w[1:].partition("->-")[0]) for w in words if "->-" in w))
        ranges = [word.partition("-") for word in words if not word.startswith("[")]
        slots = slot_set((int(start), int(end or start)) for start, _, end in ranges)
        ids = tuple(replica.decode() for replica in replicas)
        return cls(text, node, int(epoch), slots & ~leaving, slots & leaving, ids, replication.decode())

    @property
    def nodes(self) -> list[str]:
        """The ids of all its nodes, its own first."""
        return [self.id, *self.replicas]

    @property
    def of_node(self) -> NodeState:
        """The primary's own."""
        return NodeState(self.id, self.epoch, self.replication)


@dataclass(frozen=True)
class ShardRead:
    """What one shard has beside rows.

    Attributes:
        state: the shard's.
        slot: in which it keeps that.
        token: its token of the epoch.
        values: by key, as they are stored.
    """

    state: ShardState
    slot: int
    token: bytes | None
    values: Mapping[bytes, bytes | None]


@dataclass(frozen=True)
class StartShard:
    """A shard as it was when a run began.

    Attributes:
        id, replicas, epoch, replication, slots, slot, token: see `ShardState` and `ShardRead`.
    """

    id: str
    replicas: tuple[str, ...]
    epoch: int
    replication: str
    slots: int
    slot: int
    token: bytes


def all_slots_once(reads: Sequence[ShardRead]) -> bool:
    """Whether shards that were asked one after the other have every slot between them, and none twice."""
    owned = [read.state.slots | read.state.leaving for read in reads]
    return sum(slots.bit_count() for slots in owned) == ALL_SLOTS.bit_count() and _union(owned) == ALL_SLOTS


def _union(sets: Iterable[int]) -> int:
    union = 0
    for slots in sets:
        union |= slots
    return union


def framed(data: bytes, state: ShardState, slots: int) -> bytes:
    """An entry as a shard keeps it, which speaks for some of its slots."""
    fields = [state.nodes, state.epoch, state.replication, list(slot_ranges(slots)), data]
    return _FRAME + msgspec.msgpack.encode(fields)


def entry_of(key: bytes, data: bytes, state: ShardState, slots: int, stored: bytes | None) -> bytes:
    """What a shard stores of an entry of rows, which may speak for some of its slots, in place of what it has."""
    if is_fill_record(key):
        return claimed(data, state.nodes, state.of_node, slots, stored)
    return framed(data, state, slots)


def unframed(stored: bytes, state: ShardState) -> tuple[int, bytes]:
    """The slots that an entry speaks for where it is found, and the entry itself.

    It speaks for none where another shard wrote it (its slot has moved), or where the shard has taken over slots since,
    as one of its own may have been away meanwhile. An entry of an earlier release speaks for all of the shard's slots.

    Raises:
        FormatError: damaged, or of a newer headwater.
    """
    if not stored.startswith(_FRAME):
        return state.slots, stored
    try:
        fields = msgspec.msgpack.decode(stored[len(_FRAME) :])
        nodes, epoch, replication, ranges, data = msgspec.convert(
            fields, tuple[list[str], int, str, list[tuple[int, int]], bytes]
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as bad:
        raise FormatError(f"a metadata entry of a Redis Cluster is damaged: {bad}") from bad
    same_process = nodes[:1] == [state.id] and replication == state.replication
    if state.id not in nodes or (same_process and epoch != state.epoch):
        return 0, data
    return slot_set(ranges) & state.slots, data


def of_rows(key: bytes, reads: Sequence[ShardRead]) -> bytes | None:
    """An entry of rows as the whole cluster has it; None where some slot is not spoken for.

    Where shards differ, since a write of it stopped half-way, the lesser of watermarks and numbers counts, of others
    none.
    """
    if is_fill_record(key):
        return whole_record((unpack_claim(r.values.get(key)), r.state.of_node, r.state.slots) for r in reads)
    entries, spoken = set[bytes](), 0
    for read in reads:
        stored = read.values.get(key)
        if stored is None:
            return None
        slots, data = unframed(stored, read.state)
        spoken |= slots
        entries.add(data)
    if spoken != ALL_SLOTS:
        return None
    return min(entries) if len(entries) == 1 or _in_order(key, entries) else None


def _in_order(key: bytes, entries: Iterable[bytes]) -> bool:
    """Whether the lesser bytes say less: of numbers, and of watermarks but for the first version's."""
    if all(len(entry) == _NUMBER for entry in entries):
        return True
    versions = {entry[:1] for entry in entries}
    return key.startswith(_WATERMARK) and len(versions) == 1 and max(versions) < b"\x80"


def of_store(values: Iterable[bytes | None]) -> bytes | None:
    """An entry of the store as a whole, of what its shards have: the greatest of numbers, else the least bytes."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return max(present) if all(len(value) == _NUMBER for value in present) else min(present)


def pack_epoch(reads: Iterable[ShardRead]) -> bytes:
    """The epoch that shards are in."""
    states = [(read.state, read.slot, read.token or b"") for read in sorted(reads, key=lambda read: read.state.id)]
    return _packed(
        StartShard(state.id, state.replicas, state.epoch, state.replication, state.slots, slot, token)
        for state, slot, token in states
    )


def _packed(shards: Iterable[StartShard]) -> bytes:
    fields = [(s.id, s.replicas, s.epoch, s.replication, list(slot_ranges(s.slots)), s.slot, s.token) for s in shards]
    return msgspec.msgpack.encode(fields)


def unpack_epoch(data: bytes) -> list[StartShard]:
    """The shards of `pack_epoch`."""
    fields: list[Any] = msgspec.msgpack.decode(data)
    return [
        StartShard(node, tuple(replicas), epoch, replication, slot_set(ranges), slot, token)
        for node, replicas, epoch, replication, ranges, slot, token in fields
    ]


def history_of(start: Iterable[StartShard], slot: int) -> bytes | None:
    """The replication id of the shard that had a slot when an epoch began; None where none had."""
    return next((shard.replication.encode() for shard in start if shard.slots >> slot & 1), None)


def still_held(start: Iterable[StartShard], now: Iterable[StartShard]) -> list[StartShard] | None:
    """The shards in whose rows work may go on that began in an epoch; None where a token is another.

    Not those that are gone, nor those that keep their entries in another slot by now: their token is not where it was.
    """
    found = {shard.id: shard for shard in now}
    held = [shard for shard in start if shard.id in found and found[shard.id].slot == shard.slot]
    return None if any(found[shard.id].token != shard.token for shard in held) else held


def narrowed(epoch: bytes, now: bytes) -> bytes:
    """An epoch without the slots that are elsewhere by now, or on their way, and without shards that are not held."""
    start, there = unpack_epoch(epoch), {shard.id: shard for shard in unpack_epoch(now)}
    held = {shard.id for shard in still_held(start, there.values()) or ()}
    return _packed(replace(s, slots=s.slots & there[s.id].slots if s.id in held else 0) for s in start)


def spoken_for(start: Iterable[StartShard], reads: Sequence[ShardRead]) -> dict[str, int] | None:
    """Id of a shard → the slots whose rows a run may speak for that began in an epoch; None where rows may be lost.

    Left out are slots that were elsewhere when it began, and shards that have taken over slots since (one of their own
    may have been away meanwhile) or that keep their entries in another slot by now.
    """
    now = {read.state.id: read for read in reads}
    spoken = {}
    for shard in start:
        read = now.get(shard.id)
        if read is None:
            # all its slots have moved away, or a replica has taken over
            if any(other.state.id in shard.replicas for other in reads):
                return None
            continue
        if read.state.replication != shard.replication:
            return None
        if read.slot != shard.slot:
            continue
        if read.token != shard.token:
            return None
        if read.state.epoch == shard.epoch:
            spoken[shard.id] = shard.slots & read.state.slots
    return spoken


def avoiding(slots: int, avoided: Iterable[int]) -> int:
    """`meta_slot` of a shard, but for slots that are on their way."""
    left = slots & ~_union(1 << slot for slot in avoided)
    return meta_slot(left or slots)


def with_values(read: ShardRead, values: Mapping[bytes, bytes | None]) -> ShardRead:
    """A shard's read with more values, where it has none."""
    return replace(read, values={**values, **{k: v for k, v in read.values.items() if v is not None}})
