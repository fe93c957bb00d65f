"""The slots of a Redis Cluster: which shard has which, as a map that is wrong at worst until a node says otherwise.

What is kept beside rows is on every shard, in a hash in one of its slots: the lowest of a few fixed ones, so that it
is found again after slots have moved.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.url import Address, RedisLocation

if TYPE_CHECKING:
    from headwater.online.stores.redis.cluster_records import NodeState

SLOTS = 16_384
ALL_SLOTS = (1 << SLOTS) - 1
"""Sets of slots are numbers whose bits are the slots."""
META_SLOTS = tuple(range(0, SLOTS, 256))
"""Where entries beside rows are kept, where a shard has one of these."""


def slot_of(key: bytes) -> int:
    """The slot of a key; what stands between the first braces, where there is anything, decides alone."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


@lru_cache(maxsize=1024)
def tag_of(slot: int) -> bytes:
    """A text between braces that belongs to a slot."""
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % SLOTS != slot:
        number += 1
    return b"{%d}" % number


def slot_set(ranges: Iterable[Sequence[int]]) -> int:
    """The set of some ranges, their ends included."""
    slots = 0
    for start, end in ranges:
        slots |= (1 << end + 1) - (1 << start)
    return slots


def slot_ranges(slots: int) -> Iterator[tuple[int, int]]:
    """The ranges of a set, their ends included."""
    at = 0
    while slots:
        skipped = (slots & -slots).bit_length() - 1
        slots >>= skipped
        count = (~slots & (slots + 1)).bit_length() - 1
        yield at + skipped, at + skipped + count - 1
        slots >>= count
        at += skipped + count


_META_SET = slot_set((slot, slot) for slot in META_SLOTS)


def meta_slot(slots: int) -> int:
    """The slot in which a shard with these slots keeps what it has beside rows."""
    fixed = slots & _META_SET or slots
    return (fixed & -fixed).bit_length() - 1


def meta_hash(slot: int) -> bytes:
    """The hash in which a shard keeps its entries beside rows: field by field under their keys."""
    return tag_of(slot) + META_PREFIX + b"entries"


@dataclass(frozen=True, eq=False)
class Shard:
    """A primary, its replicas, and the slots that the map gives it.

    Attributes:
        primary: its address.
        replicas: theirs.
        slots: a set.
        first: the first of them, by which sessions name it.
        meta: see `meta_slot`.
    """

    primary: Address
    replicas: tuple[Address, ...]
    slots: int
    first: int
    meta: int

    @property
    def name(self) -> str:
        """Stands before its marks."""
        return f"{self.first}/"

    @property
    def fixed(self) -> bool:
        """Whether what it has beside rows is found wherever its slots go."""
        return self.meta in META_SLOTS


@dataclass
class Slots:
    """The cluster's map.

    Attributes:
        location: the URL's.
        shards: in order of their first slots; none before the map was read.
        stale: whether it is to be read before it is used again.
        states: node → when it was last asked what it is (monotonic), and what it said.
        looked: when fill records were last looked for again, since what was found did not hold.
    """

    location: RedisLocation
    shards: tuple[Shard, ...] = ()
    stale: bool = True
    states: dict[Address, tuple[float, NodeState]] = field(default_factory=dict)
    looked: float = -1e9
    _owners: list[Shard] = field(default_factory=list)

    def learn(self, ranges: Sequence[Sequence[Any]], moved: Mapping[int, Address] | None = None) -> None:
        """Take an answer to CLUSTER SLOTS, and the owners of single slots that nodes have told since."""
        spans: dict[Address, list[tuple[int, int]]] = {}
        replicas: dict[Address, tuple[Address, ...]] = {}
        for start, end, *nodes in ranges:
            primary, *others = (
                ((node[0] or b"").decode() or self.location.hosts[0][0], int(node[1])) for node in nodes
            )
            spans.setdefault(primary, []).append((int(start), int(end)))
            replicas[primary] = tuple(others)
        for slot, owner in (moved or {}).items():
            for primary, mine in list(spans.items()):
                left = slot_set(mine) & ~(1 << slot)
                if primary == owner:
                    left |= 1 << slot
                spans[primary] = list(slot_ranges(left))
            spans.setdefault(owner, [(slot, slot)])
        shards = [_shard(primary, replicas.get(primary, ()), mine) for primary, mine in spans.items() if mine]
        # a slot without an owner is asked of any shard, which says so
        owners = [shards[0]] * SLOTS
        for shard in shards:
            for start, end in spans[shard.primary]:
                owners[start : end + 1] = [shard] * (end + 1 - start)
        self.shards, self._owners = tuple(sorted(shards, key=lambda shard: shard.first)), owners
        self.stale = False

    def shard(self, key: bytes) -> Shard:
        """The shard of a key."""
        return self._owners[slot_of(key)]

    def by_shard(self, keys: Sequence[bytes]) -> dict[Shard, list[int]]:
        """Shard → places of its keys."""
        found: dict[Shard, list[int]] = {}
        for i, key in enumerate(keys):
            found.setdefault(self.shard(key), []).append(i)
        return found


def _shard(primary: Address, replicas: tuple[Address, ...], ranges: Sequence[tuple[int, int]]) -> Shard:
    slots = slot_set(ranges)
    return Shard(primary, replicas, slots, (slots & -slots).bit_length() - 1, meta_slot(slots))
