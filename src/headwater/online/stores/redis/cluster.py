"""Reads of a Redis Cluster, which ask all shards concerned at once, and follow slots that have moved."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headwater.deferred import deferred
from headwater.errors import ConsistencyLost, HeadwaterError, Unavailable
from headwater.online.meta import is_fill_record
from headwater.online.powers import UNREAD, Reading
from headwater.online.stores.redis.errors import Moved
from headwater.online.stores.redis.reads import FIND, Answer, Command, Deadline, Nodes, Plan, Question, read
from headwater.online.stores.redis.replication import Cover, ReplicationPosition, covers, histories, position_of
from headwater.online.stores.redis.slot_map import Shard, Slots
from headwater.online.stores.redis.slots import slot_of
from headwater.online.stores.redis.url import Address
from headwater.types import ConsistencyLevel

if TYPE_CHECKING:
    from headwater.online.stores.redis import cluster_claims
else:
    # reads of plain views alone do not load it
    cluster_claims = deferred("headwater.online.stores.redis.cluster_claims")

FOLLOWED = 5
"""How often slots that move while they are asked for are followed."""
_POSITION: tuple[Command, ...] = (("INFO", "server"), ("INFO", "replication"))


def find_shards(slots: Slots, moved: Mapping[int, Address] | None = None) -> Plan[None]:
    """Read the map from the first node that answers; a slot's new owner knows before others that it is.

    Args:
        slots: the map.
        moved: slots that nodes have said are elsewhere, and where.

    Raises:
        Unavailable: none does.
    """
    reason = ""
    known = [node for shard in slots.shards for node in (shard.primary, *shard.replicas)]
    for host in dict.fromkeys((*(moved or {}).values(), *slots.location.hosts, *known)):
        answer = (yield [Question(host, (("CLUSTER", "SLOTS"),), FIND)])[0]
        if isinstance(answer, HeadwaterError):
            reason = str(answer)
        elif answer[0]:
            slots.learn(answer[0], moved)
            return
    raise Unavailable(f"{slots.location.shown}: no node of the cluster answers: {reason or 'it has no slots yet'}")


@dataclass
class _Round:
    """What one question to each shard has come to.

    Attributes:
        missing: the keys' indices that were not read.
        moved: slot → its owner, as a node said.
        asked: node → the keys' indices that are on their way there.
        failed: why something is missing.
        positions: shard → where it was before and after the rows.
    """

    missing: list[int] = field(default_factory=list)
    moved: dict[int, Address] = field(default_factory=dict)
    asked: dict[Address, list[int]] = field(default_factory=dict)
    failed: Unavailable | None = None
    positions: dict[Shard, tuple[ReplicationPosition, ReplicationPosition]] = field(default_factory=dict)

    def miss(self, index: int, why: Unavailable) -> None:
        """Take note of a key that was not read; what does not answer at all weighs more than what has moved."""
        self.missing.append(index)
        if self.failed is None or isinstance(self.failed, Moved):
            self.failed = why


def read_cluster(
    slots: Slots,
    keys: Sequence[bytes],
    level: ConsistencyLevel,
    marks: Mapping[str, int] | None,
    limit: Deadline,
    partial: bool,
) -> Plan[Reading]:
    """Rows by a level's guarantee: of replicas for eventual reads, else of the shards' primaries.

    Args:
        slots: the map.
        keys: what to read.
        level: the level.
        marks: what the session has seen; None: there is none.
        limit: the deadline.
        partial: whether rows of a shard that does not answer are left unread, rather than an error.
    """
    if slots.stale:
        yield from find_shards(slots)
    rows: list[bytes | None] = [UNREAD] * len(keys)
    positions: dict[Shard, tuple[ReplicationPosition, ReplicationPosition]] = {}
    records = [i for i, key in enumerate(keys) if is_fill_record(key)]
    claims, wanted = None, list(range(len(keys)))
    if records:
        claims = cluster_claims.ClaimReads(slots, [keys[i] for i in records])
        wanted = [i for i in wanted if i not in set(records)]
    for attempt in range(FOLLOWED):
        eventual = level is ConsistencyLevel.EVENTUAL and marks is None and not attempt
        result = yield from _ask(slots, keys, wanted, rows, _How(eventual, marks is not None, limit, claims))
        positions |= result.positions
        if claims is not None and result.failed is None and not limit.over:
            wanted = claims.unsure(keys, rows)
            if wanted and attempt < FOLLOWED - 1:
                yield from find_shards(slots)
                continue
        if result.failed is None:
            break
        last = attempt == FOLLOWED - 1 or (attempt > 0 and not isinstance(result.failed, Moved))
        if last or limit.over:
            if partial:
                break
            raise result.failed
        wanted = result.missing
        yield from find_shards(slots, result.moved)
    if claims is not None:
        found = claims.entries()
        for i in records:
            rows[i] = found[keys[i]]
    if marks is None:
        return Reading(rows, {})
    return Reading(rows, (yield from _seen(slots, level, marks, positions, limit)))


@dataclass(frozen=True)
class _How:
    """How shards are asked.

    Attributes:
        eventual: whether replicas may answer.
        placed: whether they say where they are before and after the rows.
        limit: the deadline.
        claims: takes the fill records that are asked for with the rows.
    """

    eventual: bool
    placed: bool
    limit: Deadline
    claims: cluster_claims.ClaimReads | None


@dataclass(frozen=True)
class _Asked:
    """What a shard is asked: a question, and where in the answer the parts of it are.

    Attributes:
        question: for the node.
        rows: where the rows begin.
        state: where what the node says of itself begins, to the end.
    """

    question: Question
    rows: int
    state: int


def _ask(
    slots: Slots, keys: Sequence[bytes], wanted: Sequence[int], rows: list[bytes | None], how: _How
) -> Plan[_Round]:
    """Ask each shard once for its rows, by their indices, and those on their way where they are."""
    result, claims = _Round(), how.claims
    groups = {shard: [wanted[i] for i in part] for shard, part in slots.by_shard([keys[i] for i in wanted]).items()}
    asked = [_asked(shard, [keys[i] for i in part], how) for shard, part in groups.items()]
    answers = yield [each.question for each in asked]
    for (shard, part), each, answer in zip(groups.items(), asked, answers, strict=True):
        if isinstance(answer, HeadwaterError):
            for i in part:
                result.miss(i, _unavailable(answer))
            continue
        if how.placed:
            last = answer[each.rows + len(part)]
            result.positions[shard] = position_of(answer[1], answer[0]), position_of(last, answer[0])
        stored = answer[each.rows - 1] if claims is not None else ()
        if isinstance(stored, Moved):
            # what the shard has beside its rows is elsewhere by now: rows are not read before it
            if stored.owner:
                result.moved[shard.meta] = stored.owner
            for i in part:
                result.miss(i, stored)
            continue
        there, away = list[bytes](), list[bytes]()
        for i, row in zip(part, answer[each.rows : each.rows + len(part)], strict=True):
            if not isinstance(row, Moved):
                rows[i] = row
                there.append(keys[i])
            elif row.asking and row.owner:
                result.asked.setdefault(row.owner, []).append(i)
                away.append(keys[i])
            else:
                if row.owner:
                    result.moved[slot_of(keys[i])] = row.owner
                result.miss(i, row)
        if claims is not None:
            node = each.question.node
            claims.take(node, stored, answer[each.state :], there)
            claims.away(stored, node, away)
    yield from _on_their_way(keys, rows, result, how.limit)
    return result


def _unavailable(answer: HeadwaterError) -> Unavailable:
    """An error that others may be asked after; any other is raised."""
    if not isinstance(answer, Unavailable):
        raise answer
    return answer


def _on_their_way(keys: Sequence[bytes], rows: list[bytes | None], result: _Round, limit: Deadline) -> Plan[None]:
    """Read the rows that have left their node for the one that takes over their slot."""
    if not result.asked:
        return
    answers = yield [
        Question(node, tuple(c for i in part for c in (("ASKING",), ("GET", keys[i]))), limit.left, each=True)
        for node, part in result.asked.items()
    ]
    for part, answer in zip(result.asked.values(), answers, strict=True):
        read_ = [_unavailable(answer)] * len(part) if isinstance(answer, HeadwaterError) else answer[1::2]
        for i, row in zip(part, read_, strict=True):
            if isinstance(row, Unavailable):
                result.miss(i, row)
            else:
                rows[i] = row


def _asked(shard: Shard, keys: Sequence[bytes], how: _How) -> _Asked:
    eventual, claims = how.eventual and bool(shard.replicas), how.claims
    node = random.choice(shard.replicas) if eventual else shard.primary
    before, behind = ((), ()) if not how.placed else (_POSITION, _POSITION[1:])
    if eventual:
        # taken back at once: the connection is used again when this node is asked as a primary, or was one meanwhile
        before, behind = (("READONLY",),), (("READWRITE",),)
    state: tuple[Command, ...] = ()
    if claims is not None:
        before, state = (*before, claims.before(shard)), claims.behind(node)
    # a cluster refuses MGET over several slots: one GET a key, sent at once
    commands = (*before, *(("GET", key) for key in keys), *behind, *state)
    end = len(before) + len(keys) + len(behind)
    return _Asked(Question(node, commands, how.limit.left, each=True), len(before), end)


def _seen(
    slots: Slots,
    level: ConsistencyLevel,
    marks: Mapping[str, int],
    positions: Mapping[Shard, tuple[ReplicationPosition, ReplicationPosition]],
    limit: Deadline,
) -> Plan[dict[str, int]]:
    """The marks of the shards that were read, which have all that the session has seen of them, and of the others.

    A shard is known by its history, not by the name it had: its first slot may have moved.
    """
    after = {part: mark for shard, (_, at) in positions.items() for part, mark in at.marks(shard.name).items()}
    read_now = {shard.name for shard in positions}
    elsewhere, open_ = dict[str, int](), list[dict[str, int]]()
    for name, history in histories(marks):
        if any(covers(before, history) is Cover.YES for before, _ in positions.values()):
            continue
        elsewhere |= {name + part: mark for part, mark in history.items()}
        if name in read_now or not any(shard.name == name for shard in slots.shards):
            open_.append(history)
    if open_ and level in (ConsistencyLevel.SESSION, ConsistencyLevel.MONOTONIC_READ):
        others = [shard for shard in slots.shards if shard not in positions]
        answers = yield [Question(shard.primary, _POSITION, limit.left) for shard in others]
        _all_known(open_, answers, after, slots)
    return {**elsewhere, **after}


def _all_known(
    open_: Sequence[Mapping[str, int]], answers: Sequence[Answer], after: Mapping[str, int], slots: Slots
) -> None:
    """Make sure that some other shard has each of these histories.

    Raises:
        ConsistencyLost: none has.
        Unavailable: a shard that might have it does not answer.
    """
    there = [position_of(answer[1], answer[0]) for answer in answers if not isinstance(answer, HeadwaterError)]
    if all(any(covers(at, history) is Cover.YES for at in there) for history in open_):
        return
    for answer in answers:
        if isinstance(answer, HeadwaterError):
            raise answer
    raise ConsistencyLost(
        f"{slots.location.shown}: data that this session has seen was lost (in a failover or restart); continue with "
        "the error's .session",
        marks=after,
    )


def read_plan(
    nodes: Nodes,
    slots: Slots | None,
    keys: Sequence[bytes],
    level: ConsistencyLevel,
    marks: Mapping[str, int] | None,
    deadline: float | None,
) -> Plan[Reading]:
    """The plan of a read; with a deadline, rows of a node that does not answer in time are left unread."""
    limit = Deadline(deadline)
    if slots is not None:
        return read_cluster(slots, keys, level, marks, limit, deadline is not None)
    return read(nodes, keys, level, marks, limit)
