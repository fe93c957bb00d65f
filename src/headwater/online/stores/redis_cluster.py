"""A Redis Cluster: which shard holds which key, and reads that ask all shards concerned at once."""

from __future__ import annotations

import binascii
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from headwater.errors import ConsistencyLost, HeadwaterError, Unavailable
from headwater.online.powers import UNREAD, Reading
from headwater.online.stores.redis_marks import Cover, covers, of_shard, place
from headwater.online.stores.redis_reads import FIND, Answer, Clock, Command, Nodes, Plan, Question, read
from headwater.online.stores.redis_url import Address, RedisPlace
from headwater.types import ConsistencyLevel

SLOTS = 16_384


class Moved(Unavailable):
    """A slot is elsewhere by now, or on its way.

    Attributes:
        owner: who is to be asked; None: nobody answers for several of its keys at once until it has arrived.
        asking: whether it is only on its way there, so that the map stays as it is.
    """

    def __init__(self, message: str, owner: Address | None = None, asking: bool = False) -> None:
        super().__init__(message)
        self.owner = owner
        self.asking = asking


def slot_of(key: bytes) -> int:
    """The slot of a key; what stands between the first braces, where there is anything, decides alone."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


@lru_cache(maxsize=256)
def tag_of(slot: int) -> bytes:
    """A text between braces that lies in a slot."""
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % SLOTS != slot:
        number += 1
    return b"{%d}" % number


@dataclass(frozen=True)
class Shard:
    """A primary, its replicas, and the first of its slots, by which sessions name it."""

    primary: Address
    replicas: tuple[Address, ...]
    first: int

    @property
    def name(self) -> str:
        """Stands before its marks."""
        return f"{self.first}/"


@dataclass
class Slots:
    """The cluster's map; wrong at worst until a node says that a slot has moved.

    Attributes:
        place: the URL's.
        shards: in order of their first slots.
    """

    place: RedisPlace
    shards: tuple[Shard, ...] = ()
    _starts: list[int] = field(default_factory=list)
    _owners: list[Shard] = field(default_factory=list)

    def learn(self, ranges: Sequence[Sequence[Any]]) -> None:
        """Take an answer to CLUSTER SLOTS."""
        by_primary: dict[Address, tuple[int, tuple[Address, ...]]] = {}
        spans: list[tuple[int, Address]] = []
        for start, _, *nodes in ranges:
            addresses = [(node[0].decode() or self.place.hosts[0][0], int(node[1])) for node in nodes]
            first = min(int(start), by_primary.get(addresses[0], (SLOTS, ()))[0])
            by_primary[addresses[0]] = (first, tuple(addresses[1:]))
            spans.append((int(start), addresses[0]))
        found = {address: Shard(address, replicas, first) for address, (first, replicas) in by_primary.items()}
        self.shards = tuple(sorted(found.values(), key=lambda shard: shard.first))
        spans.sort()
        self._starts, self._owners = [start for start, _ in spans], [found[address] for _, address in spans]

    def shard(self, key: bytes) -> Shard:
        """The shard of a key."""
        return self._owners[bisect_right(self._starts, slot_of(key)) - 1]

    def by_shard(self, keys: Sequence[bytes]) -> dict[Shard, list[int]]:
        """Shard → places of its keys."""
        found: dict[Shard, list[int]] = {}
        for i, key in enumerate(keys):
            found.setdefault(self.shard(key), []).append(i)
        return found

    def turn(self, shard: Shard) -> Address:
        """One of a shard's replicas; the primary where it has none."""
        return random.choice(shard.replicas) if shard.replicas else shard.primary


def find_shards(slots: Slots, owner: Address | None = None) -> Plan[None]:
    """Read the map from the first node that answers; a slot's new owner knows before others that it is.

    Raises:
        Unavailable: none does.
    """
    told = ""
    known = tuple(shard.primary for shard in slots.shards)
    for host in dict.fromkeys((*([owner] if owner else ()), *slots.place.hosts, *known)):
        answer = (yield [Question(host, (("CLUSTER", "SLOTS"),), FIND)])[0]
        if isinstance(answer, HeadwaterError):
            told = str(answer)
        elif answer[0]:
            slots.learn(answer[0])
            return
    raise Unavailable(f"{slots.place.shown}: no node of the cluster answers: {told or 'it has no slots yet'}")


def read_cluster(
    slots: Slots,
    keys: Sequence[bytes],
    level: ConsistencyLevel,
    marks: Mapping[str, int] | None,
    clock: Clock,
    partial: bool,
) -> Plan[Reading]:
    """Rows by a level's guarantee: of replicas for eventual reads, else of the shards' primaries.

    Args:
        slots: the map.
        keys: what to read.
        level: the level.
        marks: what the session has seen; None: there is none.
        clock: the deadline.
        partial: whether rows of a shard that does not answer are left unread, rather than an error.
    """
    if not slots.shards:
        yield from find_shards(slots)
    rows: list[bytes | None] = [UNREAD] * len(keys)
    seen: dict[str, int] = {}
    wanted = list(range(len(keys)))
    for last in (False, True):
        groups = slots.by_shard([keys[i] for i in wanted])
        places = {shard: [wanted[i] for i in part] for shard, part in groups.items()}
        eventual = level is ConsistencyLevel.EVENTUAL and marks is None and not last
        questions = [
            _question(slots, shard, [keys[i] for i in part], eventual, marks, clock) for shard, part in places.items()
        ]
        answers = yield questions
        wanted, failed, asked = [], None, dict[Address, list[int]]()
        for (shard, part), answer in zip(places.items(), answers, strict=True):
            if isinstance(answer, HeadwaterError):
                if not isinstance(answer, Unavailable):
                    raise answer
                wanted, failed = [*wanted, *part], answer
                continue
            found = answer[-len(part) :]
            if marks is not None:
                found = answer[2:-1]
                seen |= _checked(shard, answer, of_shard(marks, shard.name), level)
            for i, row in zip(part, found, strict=True):
                if not isinstance(row, Moved):
                    rows[i] = row
                elif row.asking and row.owner:
                    asked.setdefault(row.owner, []).append(i)
                else:
                    wanted, failed = [*wanted, i], row
        for i, row in (yield from _on_their_way(keys, asked, clock)):
            if isinstance(row, Unavailable):
                wanted, failed = [*wanted, i], row
            else:
                rows[i] = row
        if failed is None:
            break
        if last or clock.over:
            if partial:
                break
            raise failed
        yield from find_shards(slots, failed.owner if isinstance(failed, Moved) else None)
    return Reading(rows, seen if marks is None else {**_elsewhere(slots, marks, seen), **seen})


def _on_their_way(
    keys: Sequence[bytes], asked: Mapping[Address, Sequence[int]], clock: Clock
) -> Plan[list[tuple[int, bytes | Unavailable | None]]]:
    """Rows, by their places, that have left their node for the one that takes over their slot."""
    if not asked:
        return []
    answers = yield [
        Question(node, tuple(c for i in part for c in (("ASKING",), ("GET", keys[i]))), clock.left, each=True)
        for node, part in asked.items()
    ]
    found: list[tuple[int, bytes | Unavailable | None]] = []
    for part, answer in zip(asked.values(), answers, strict=True):
        if isinstance(answer, HeadwaterError) and not isinstance(answer, Unavailable):
            raise answer
        found += zip(part, [answer] * len(part) if isinstance(answer, Unavailable) else answer[1::2], strict=True)
    return found


def _question(
    slots: Slots, shard: Shard, keys: Sequence[bytes], eventual: bool, marks: Mapping[str, int] | None, clock: Clock
) -> Question:
    # a cluster refuses MGET over several slots: one GET a key, sent at once
    gets: tuple[Command, ...] = tuple(("GET", key) for key in keys)
    if eventual and shard.replicas:
        return Question(slots.turn(shard), (("READONLY",), *gets), clock.left, each=True)
    if marks is None:
        return Question(shard.primary, gets, clock.left, each=True)
    replication = ("INFO", "replication")
    return Question(shard.primary, (("INFO", "server"), replication, *gets, replication), clock.left, each=True)


def _checked(shard: Shard, answer: Answer, marks: Mapping[str, int], level: ConsistencyLevel) -> dict[str, int]:
    """The marks of a shard that was read, where they cover those of the session."""
    assert not isinstance(answer, HeadwaterError)
    before, after = place(answer[1], answer[0]), place(answer[-1], answer[0])
    strict = level in (ConsistencyLevel.SESSION, ConsistencyLevel.MONOTONIC_READ)
    if strict and covers(before, marks) is not Cover.YES:
        raise ConsistencyLost(
            f"shard at {shard.primary[0]}:{shard.primary[1]}: what this session has seen is not there any more; go on "
            "with the error's .session",
            marks=after.marks(shard.name),
        )
    return after.marks(shard.name)


def _elsewhere(slots: Slots, marks: Mapping[str, int], seen: Mapping[str, int]) -> dict[str, int]:
    """The marks of shards that were not read now."""
    read = {shard.name for shard in slots.shards if any(part.startswith(shard.name) for part in seen)}
    return {part: mark for part, mark in marks.items() if not any(part.startswith(name) for name in read)}


def read_plan(
    nodes: Nodes,
    slots: Slots | None,
    keys: Sequence[bytes],
    level: ConsistencyLevel,
    marks: Mapping[str, int] | None,
    deadline: float | None,
) -> Plan[Reading]:
    """The plan of a read; with a deadline, rows of a node that does not answer in time are left unread."""
    clock = Clock(deadline)
    if slots is not None:
        return read_cluster(slots, keys, level, marks, clock, deadline is not None)
    return read(nodes, keys, level, marks, clock)
