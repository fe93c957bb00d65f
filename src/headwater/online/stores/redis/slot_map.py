"""Which shard of a Redis Cluster has which slots, as a map that is wrong at worst until a node says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headwater.online.stores.redis.slots import META_SLOTS, SLOTS, meta_slot, slot_of, slot_ranges, slot_set
from headwater.online.stores.redis.url import Address, RedisLocation

if TYPE_CHECKING:
    from headwater.online.stores.redis.cluster_records import NodeState


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
