"""How Redis is read: which nodes are asked what, by level. Plans without a client, which the store's two clients run.

A plan is a generator: it yields questions for several nodes at once and is sent, for each, the answers or the error.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headwater.errors import ConsistencyLost, HeadwaterError, Unavailable
from headwater.online.powers import Reading
from headwater.online.stores.redis.replication import (
    Cover,
    ReplicationPosition,
    all_there,
    covers,
    has_all,
    markers_of,
    position_of,
)
from headwater.online.stores.redis.scripts import MARKERS
from headwater.online.stores.redis.url import Address, RedisLocation
from headwater.types import ConsistencyLevel
from headwater.values import Value

T = TypeVar("T")
Command = tuple[Any, ...]
REST = 1.0
"""Seconds that a node which did not answer, or a replica without its primary, is left alone."""
_LOOK = 1.0
"""Seconds after which a replica is looked at again: whether it hears its primary."""
FIND = 1.0
"""Seconds that each node may take to say what it is."""

_REPLICATION: Command = ("INFO", "replication")
_SERVER: Command = ("INFO", "server")
_MARKER: Command = ("HMGET", MARKERS, "s", "n")


class Question(Value, frozen=True):
    """Commands for one node; with `each`, one that it sends elsewhere has a `Moved` as its own answer."""

    node: Address
    commands: tuple[Command, ...]
    timeout: float | None = None
    sentinel: bool = False
    each: bool = False


Answer = list[Any] | HeadwaterError
Plan = Generator[list[Question], list[Answer], T]


@dataclass
class Nodes:
    """What is known of the servers behind a URL; wrong at worst for as long as it takes to be told otherwise.

    Attributes:
        location: the URL's.
        primary: where it was last.
        replicas: of it.
        resting: node → until when it is left alone (monotonic).
        looked: replica → when it was last seen to hear its primary.
        missing: why no primary was found; reads that need it fail at once until `missing_until`.
    """

    location: RedisLocation
    primary: Address | None = None
    replicas: tuple[Address, ...] = ()
    resting: dict[Address, float] = field(default_factory=dict)
    looked: dict[Address, float] = field(default_factory=dict)
    missing: str = ""
    missing_until: float = 0.0

    def __post_init__(self) -> None:
        if self.location.kind == "single":
            self.replicas = self.location.hosts[1:]
            if not self.replicas:
                self.primary = self.location.hosts[0]

    @property
    def alone(self) -> bool:
        """Whether there is but one server, which nobody takes over from."""
        return self.location.kind == "single" and len(self.location.hosts) == 1

    def in_turn(self) -> list[Address]:
        """The replicas that may be asked, any of them first."""
        now = time.monotonic()
        able = [node for node in self.replicas if node != self.primary and self.resting.get(node, 0.0) <= now]
        if not able:
            return []
        first = random.randrange(len(able))
        return able[first:] + able[:first]

    def rest(self, node: Address) -> None:
        """Leave a node alone for a while."""
        self.resting[node] = time.monotonic() + REST


def one(question: Question) -> Plan[list[Any]]:
    """The answers of one node; its error is raised."""
    answer = (yield [question])[0]
    if isinstance(answer, HeadwaterError):
        raise answer
    return answer


def find(nodes: Nodes) -> Plan[Address]:
    """Where the primary is now.

    Raises:
        Unavailable: no node, or more than one that nobody follows, says it is the primary.
    """
    if nodes.missing_until > time.monotonic():
        raise Unavailable(nodes.missing)
    ask = _ask_sentinels if nodes.location.kind == "sentinel" else _ask_all
    try:
        nodes.primary, nodes.replicas = yield from ask(nodes)
    except Unavailable as bad:
        nodes.missing, nodes.missing_until = str(bad), time.monotonic() + REST
        raise
    nodes.resting.pop(nodes.primary, None)
    return nodes.primary


def _ask_all(nodes: Nodes) -> Plan[tuple[Address, tuple[Address, ...]]]:
    """By ROLE among the named hosts: the primary that most replicas follow."""
    hosts = nodes.location.hosts
    found = yield [Question(host, (("ROLE",),), FIND) for host in hosts]
    followers = {
        host: len(answer[0][2])
        for host, answer in zip(hosts, found, strict=True)
        if not isinstance(answer, HeadwaterError) and answer[0][0] == b"master"
    }
    shown = nodes.location.shown
    if not followers:
        reason = "; ".join(str(answer) for answer in found if isinstance(answer, HeadwaterError))
        raise Unavailable(f"{shown}: no host is the primary{': ' + reason if reason else ''}")
    most = max(followers.values())
    chosen = [host for host, count in followers.items() if count == most]
    if len(chosen) > 1:
        names = " and ".join(f"{host}:{port}" for host, port in chosen)
        raise Unavailable(f"{shown}: {names} both report that they are the primary: make the old one a replica")
    return chosen[0], tuple(host for host in hosts if host != chosen[0])


def _ask_sentinels(nodes: Nodes) -> Plan[tuple[Address, tuple[Address, ...]]]:
    """By Sentinel, and the primary's own word that it is one."""
    service, reason = nodes.location.service, ""
    commands = (("SENTINEL", "get-master-addr-by-name", service), ("SENTINEL", "replicas", service))
    for sentinel in nodes.location.hosts:
        answer = (yield [Question(sentinel, commands, FIND, sentinel=True)])[0]
        if isinstance(answer, HeadwaterError) or answer[0] is None:
            reason = str(answer) if isinstance(answer, HeadwaterError) else f"knows no {service!r}"
            continue
        primary = (answer[0][0].decode(), int(answer[0][1]))
        role = (yield [Question(primary, (("ROLE",),), FIND)])[0]
        if isinstance(role, HeadwaterError) or role[0][0] != b"master":
            reason = str(role) if isinstance(role, HeadwaterError) else f"{primary[0]}:{primary[1]} is a replica now"
            continue
        return primary, tuple(_replica(fields) for fields in answer[1] if _healthy(fields))
    raise Unavailable(f"{nodes.location.shown}: no Sentinel knows a primary: {reason}")


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=False))


def _replica(fields: Sequence[bytes]) -> Address:
    found = _fields(fields)
    return found[b"ip"].decode(), int(found[b"port"])


def _healthy(fields: Sequence[bytes]) -> bool:
    flags = _fields(fields).get(b"flags", b"")
    return b"down" not in flags and b"disconnected" not in flags


class Deadline:
    """What is left of a read's deadline."""

    def __init__(self, deadline: float | None) -> None:
        self._until = None if deadline is None else time.monotonic() + deadline

    @property
    def left(self) -> float | None:
        """Seconds, at least a moment."""
        return None if self._until is None else max(1e-3, self._until - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self._until is not None and time.monotonic() >= self._until


def read(
    nodes: Nodes, keys: Sequence[bytes], level: ConsistencyLevel, marks: Mapping[str, int] | None, limit: Deadline
) -> Plan[Reading]:
    """Rows by a level's guarantee; see `LeveledReads.read`."""
    if level is ConsistencyLevel.STRONG:
        return (yield from strong(nodes, keys, marks is not None, limit))
    if level is ConsistencyLevel.EVENTUAL:
        return (yield from _eventual(nodes, keys, marks is not None, limit))
    return (yield from _covering(nodes, keys, marks or {}, limit))


def strong(nodes: Nodes, keys: Sequence[bytes], placed: bool, limit: Deadline) -> Plan[Reading]:
    """Rows of the primary, which says in the same breath that it is one."""
    get: Command = ("MGET", *keys)
    if nodes.alone and not placed:
        return Reading((yield from one(Question(nodes.location.hosts[0], (get,), limit.left)))[0], {})
    if placed:
        found, at, _ = yield from _at_primary(nodes, get, limit)
        return Reading(found, at.marks())
    for known in (True, False):
        primary = yield from _primary(nodes, known)
        try:
            role, rows = yield from one(Question(primary, (("ROLE",), get), limit.left))
        except Unavailable:
            nodes.rest(primary)
            if not known or limit.over:
                raise
            continue
        if role[0] == b"master":
            return Reading(rows, {})
        nodes.primary = None
    raise Unavailable(f"{nodes.location.shown}: a failover is in progress")


def _primary(nodes: Nodes, known: bool) -> Plan[Address]:
    """Where the primary is: as known, or looked up again; at once an error where it just did not answer."""
    if not known and nodes.alone:
        raise Unavailable(f"{nodes.location.shown} does not respond")
    if known and nodes.primary is not None and nodes.resting.get(nodes.primary, 0.0) <= time.monotonic():
        return nodes.primary
    return (yield from find(nodes))


def _at_primary(
    nodes: Nodes, get: Command, limit: Deadline, marks: Mapping[str, int] | None = None
) -> Plan[tuple[list[bytes | None], ReplicationPosition, bool]]:
    """Rows of the primary, where it was after them, and whether it had what marks say before them."""
    seen = markers_of(marks or {})
    commands = (_SERVER, _REPLICATION, markers_asked(seen), get, _MARKER, _REPLICATION)
    for known in (True, False) if not nodes.alone else (True,):
        primary = yield from _primary(nodes, known)
        try:
            server, first, (newest, *words), rows, marker, last = yield from one(
                Question(primary, commands, limit.left)
            )
        except Unavailable:
            nodes.rest(primary)
            if not known or nodes.alone or limit.over:
                raise
            continue
        before, after = position_of(first, server), position_of(last, server, marker)
        if (before.primary or nodes.alone) and before.id == after.id:
            return rows, after, has_all(before, marks or {}, seen, newest, words)
        nodes.primary = None
    raise Unavailable(f"{nodes.location.shown}: a failover is in progress")


def markers_asked(seen: Sequence[tuple[int, str]]) -> Command:
    """The command that asks for the newest marker's number, and the words of some."""
    return ("HMGET", MARKERS, "s", *(number for number, _ in seen))


def _eventual(nodes: Nodes, keys: Sequence[bytes], placed: bool, limit: Deadline) -> Plan[Reading]:
    """Rows of a replica that hears its primary, else of the primary, else of the replica that heard it longest."""
    get: Command = ("MGET", *keys)
    cut_off: list[tuple[int, Reading]] = []
    for replica in nodes.in_turn():
        look = placed or time.monotonic() - nodes.looked.get(replica, -_LOOK) >= _LOOK
        commands = (_REPLICATION, get, _MARKER, _REPLICATION) if placed else (_REPLICATION, get) if look else (get,)
        try:
            found = yield from one(Question(replica, commands, limit.left))
        except Unavailable:
            nodes.rest(replica)
            if limit.over:
                raise
            continue
        if not look:
            return Reading(found[0], {})
        at = position_of(found[0])
        reading = Reading(found[1], position_of(found[3], marker=found[2]).marks() if placed else {})
        if at.linked:
            nodes.looked[replica] = time.monotonic()
            return reading
        cut_off.append((at.offset, reading))
    try:
        return (yield from strong(nodes, keys, placed, limit))
    except Unavailable:
        if not cut_off:
            raise
        return max(cut_off, key=lambda found: found[0])[1]


def _covering(nodes: Nodes, keys: Sequence[bytes], marks: Mapping[str, int], limit: Deadline) -> Plan[Reading]:
    """Rows of a replica that has what the marks say, else of the primary, else of another such replica."""
    get: Command = ("MGET", *keys)
    replicas = nodes.in_turn()
    for replica in replicas[:1]:
        found = yield from _if_covered(nodes, replica, get, marks, limit)
        if found is not None:
            return found
    try:
        rows, after, had_all = yield from _at_primary(nodes, get, limit, marks)
    except Unavailable:
        for replica in replicas[1:] or nodes.in_turn():
            found = yield from _if_covered(nodes, replica, get, marks, limit)
            if found is not None:
                return found
        raise
    if had_all:
        return Reading(rows, after.marks())
    raise ConsistencyLost(
        f"{nodes.location.shown}: data that this session has seen was lost (in a failover or restart); continue with "
        "the error's .session",
        marks=after.marks(),
    )


def _if_covered(
    nodes: Nodes, replica: Address, get: Command, marks: Mapping[str, int], limit: Deadline
) -> Plan[Reading | None]:
    """Rows of a replica; None where it does not have what the marks say."""
    seen = markers_of(marks)
    commands = (_REPLICATION, markers_asked(seen), get, _MARKER, _REPLICATION)
    try:
        first, (newest, *words), rows, marker, second = yield from one(Question(replica, commands, limit.left))
    except Unavailable:
        nodes.rest(replica)
        return None
    before, after = position_of(first), position_of(second, marker=marker)
    # one that says it is a primary is none that we know of: its history may be another
    if before.primary or before.id != after.id or covers(before, marks) is not Cover.YES:
        return None
    if not all_there(seen, newest, words):
        return None
    return Reading(rows, after.marks())
