"""Redis: standalone, with replicas, behind Sentinel, or a cluster; the guard runs in the server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from headwater import forks
from headwater.errors import ConsistencyLost, HeadwaterError, Unavailable
from headwater.online.base import Capabilities, OnlineStore
from headwater.online.hints import HintQueue
from headwater.online.keys import META_PREFIX
from headwater.online.powers import Reading
from headwater.online.stores.redis_async import RedisReads
from headwater.online.stores.redis_cluster import Moved, Slots, find_shards, read_cluster, read_plan, slot_of, tag_of
from headwater.online.stores.redis_info import followers, info, warnings_of
from headwater.online.stores.redis_marks import (
    WORD_BITS,
    Cover,
    covers,
    distance,
    has_all,
    markers_of,
    of_shard,
    place,
)
from headwater.online.stores.redis_nodes import Node
from headwater.online.stores.redis_queue import RedisHintQueue
from headwater.online.stores.redis_reads import Clock, Nodes, Plan, Question, find, markers_asked, strong
from headwater.online.stores.redis_scripts import COMPARE, KEPT_MARKERS, MARKERS, PUT, Script
from headwater.online.stores.redis_url import Address, RedisPlace, parse_url
from headwater.types import ConsistencyLevel

T = TypeVar("T")
Row = tuple[bytes, bytes]
_BATCH = 128
"""Rows of one script: the server answers nobody else meanwhile."""
_AHEAD = 16
"""Scripts under way."""
_SCANNED = 1_000
_REPLICATION = ("INFO", "replication")
_WAITING = META_PREFIX + b"waiting"


class RedisOnlineStore(OnlineStore):
    """Rows in Redis, each under its key; a put is atomic for each row, in the server.

    Reads take a replica where the level allows it; writes and strong reads take the primary, which is looked for anew
    where it does not answer or is none any more. A batch of rows is not put at once: who reads meanwhile may see some.

    Args:
        place: where Redis is; `from_url` reads one from a URL.
    """

    capabilities = Capabilities(levels=frozenset(ConsistencyLevel), expiry=True)

    def __init__(self, place: RedisPlace | str) -> None:
        self.place = parse_url(place) if isinstance(place, str) else place
        self._cluster = Slots(self.place) if self.place.kind == "cluster" else None
        self._found = Nodes(self.place)
        self._nodes: dict[tuple[Address, bool], Node] = {}
        self._lock = forks.lock()
        self._last = threading.local()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """A store for `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`."""
        return cls(parse_url(url, folder))

    def __repr__(self) -> str:
        return f"<RedisOnlineStore {self.place.shown}>"

    # asking

    def _node(self, address: Address, sentinel: bool = False) -> Node:
        if self._closed:
            raise Unavailable(f"{self.place.shown} was closed")
        found = self._nodes.get((address, sentinel))
        if found is None:
            with self._lock:
                found = self._nodes.setdefault((address, sentinel), Node(self.place, address, sentinel=sentinel))
        return found

    def _run(self, plan: Plan[T]) -> T:
        """Ask what a plan asks; several nodes at once where it does."""
        try:
            questions = next(plan)
            while True:
                questions = plan.send(self._answers(questions))
        except StopIteration as done:
            found: T = done.value
            return found

    def _answers(self, questions: list[Question]) -> list[list[Any] | HeadwaterError]:
        nodes = [self._node(question.node, question.sentinel) for question in questions]
        sent = [node.send(q.commands, q.timeout) for node, q in zip(nodes, questions, strict=True)]
        found: list[list[Any] | HeadwaterError] = []
        for question, node, pending in zip(questions, nodes, sent, strict=True):
            try:
                found.append(node.receive(pending, question.each))
            except HeadwaterError as bad:
                found.append(bad)
        return found

    def _primary(self) -> Address:
        return self._found.primary or self._run(find(self._found))

    def _primaries(self) -> list[Address]:
        """Where rows are written: one, or one a shard."""
        if self._cluster is None:
            return [self._primary()]
        if not self._cluster.shards:
            self._run(find_shards(self._cluster))
        return [shard.primary for shard in self._cluster.shards]

    def _at_primary(self, work: Callable[[Node], T]) -> T:
        """Do something at the primary; where it is a replica by now nothing was done, and the new one is asked."""
        try:
            return work(self._node(self._primary()))
        except Unavailable as bad:
            if self._found.alone:
                raise
            before, self._found.primary = self._found.primary, None
            if "READONLY" not in str(bad) and "read only" not in str(bad):
                raise
            if self._primary() == before:
                raise
            return work(self._node(self._primary()))

    # rows

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        if self._cluster is None:
            return self._run(strong(self._found, keys, False, Clock(None))).rows
        if any(key.startswith(META_PREFIX) for key in keys):
            return [self._meta(key) if key.startswith(META_PREFIX) else self.multi_get([key])[0] for key in keys]
        plan = read_cluster(self._cluster, keys, ConsistencyLevel.STRONG, None, Clock(None), False)
        return self._run(plan).rows

    def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        if not keys:
            return Reading([], marks or {})
        return self._run(read_plan(self._found, self._cluster, keys, level, marks, deadline))

    def put(
        self,
        rows: Iterable[Row],
        meta: Mapping[bytes, bytes] | None = None,
        *,
        expires_in: int | None = None,
    ) -> list[bool]:
        seconds = b"%d" % (expires_in or 0)
        if self._cluster is not None:
            return self._put_cluster(list(rows), meta or {}, seconds)
        word = _word()
        calls = _calls(iter(rows), meta or {}, seconds, word)
        first = next(calls, None)
        if first is None:
            return []
        second = next(calls, None)
        # the first alone: where the primary has moved it is refused whole, and goes to the new one
        told, node = self._at_primary(lambda node: (node.script(PUT, [first]), node))
        if second is not None:
            told += node.stream(PUT, _chain(second, calls), _AHEAD)
        parts = [answer.partition(b":") for answer in told]
        self._last.marker = int(parts[-1][2]), word
        return [mark == 49 for put, _, _ in parts for mark in put]

    def compare_and_put(self, key: bytes, sequence: int, row: bytes | None) -> bool:
        word = b"" if self._cluster else _word()
        values = [sequence.to_bytes(8, "big"), word]
        if row is not None:
            values.append(row)
        if self._cluster is None:
            call = (2, MARKERS, key, *values)
            number = self._at_primary(lambda node: node.script(COMPARE, [call]))[0]
            if number:
                self._last.marker = number, word
            return bool(number)
        return bool(self._at_slot(COMPARE, [key, key], values))

    def delete(self, keys: Iterable[bytes]) -> None:
        some = iter(keys)
        while batch := list(islice(some, _SCANNED)):
            if self._cluster is None:
                self._at_primary(lambda node, batch=batch: node.run([("UNLINK", *batch)]))  # type: ignore[misc]
                continue
            rows = [key for key in batch if not key.startswith(META_PREFIX)]
            self._at_shards(rows, [("UNLINK", key) for key in rows])
            for key in batch:
                if key.startswith(META_PREFIX):
                    self._at_each_shard(key, lambda node, own: node.run([("UNLINK", own)]))

    def scan(self, prefix: bytes) -> Iterator[Row]:
        seen: set[bytes] = set()
        for address in self._primaries():
            for key, row in self._scan_node(self._node(address), prefix):
                # a meta entry lies on every shard of a cluster, behind a tag
                own = key.partition(b"}")[2] if self._cluster and key[:1] == b"{" and META_PREFIX in key else key
                if own not in seen and own not in (MARKERS, _WAITING) and own.startswith(prefix):
                    seen.add(own)
                    yield own, row

    def _scan_node(self, node: Node, prefix: bytes) -> Iterator[Row]:
        """The keys of one node, some more than once."""
        start = b"".join(b"\\" + bytes((c,)) if c in b"*?[]\\^-" else bytes((c,)) for c in prefix)
        pattern, cursor = (b"*" if self._cluster and META_PREFIX.startswith(prefix) else start + b"*"), b"0"
        while True:
            cursor, keys = node.run([("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED, "TYPE", "string")])[0]
            if keys:
                rows = node.run([("GET", key) for key in keys] if self._cluster else [("MGET", *keys)])
                found = rows if self._cluster else rows[0]
                yield from ((key, row) for key, row in zip(keys, found, strict=True) if row is not None)
            if cursor == b"0":
                return

    # powers

    def marks(self) -> Mapping[str, int]:
        commands = (("INFO", "server"), ("INFO", "replication"))
        if self._cluster is not None:
            found: dict[str, int] = {}
            for address, shard in zip(self._primaries(), self._cluster.shards, strict=True):
                server, replication = self._node(address).run(commands)
                found |= place(replication, server).marks(shard.name)
            return found
        number, word = self._last_marker()
        markers = ("HMGET", MARKERS, "s", "n", number)
        server, replication, (*last, found_word) = self._node(self._primary()).run((*commands, markers))
        if not _still_there(number, word, last[0], found_word):
            self._last.marker = (0, None)
            lost = "what was just written is not there any more: another primary took over, or it lost its data"
            raise Unavailable(f"{self.place.shown}: {lost}")
        return place(replication, server, last).marks()

    def _last_marker(self) -> tuple[int, bytes | None]:
        """What this thread's last write left behind it: the primary may be another one since."""
        found: tuple[int, bytes | None] = getattr(self._last, "marker", (0, None))
        return found

    def wait(self, replicas: int, timeout: float) -> int:
        # WAIT counts what its own connection wrote: this write lies behind all that was acknowledged before it
        commands = (("SET", _WAITING, b"1"), ("WAIT", replicas, max(1, int(timeout * 1000))))
        if self._cluster is None:
            number, word = self._last_marker()
            node = self._node(self._primary())
            asked = (*commands, ("HMGET", MARKERS, "s", number))
            _, count, (newest, found_word) = node.run(asked, timeout + self.place.timeout)
            return int(count) if _still_there(number, word, newest, found_word) else 0
        found = []
        for address, shard in zip(self._primaries(), self._cluster.shards, strict=True):
            own = (("SET", tag_of(shard.first) + _WAITING, b"1"), commands[1])
            found.append(int(self._node(address).run(own, timeout + self.place.timeout)[1]))
        return min(found)

    def lag(self, marks: Mapping[str, int] | None = None) -> Mapping[str, int]:
        if self._cluster is None:
            try:
                primary = self._node(self._primary())
                replicas = self._found.replicas or followers(primary.run((_REPLICATION,))[0])
            except Unavailable:
                if marks is None or not self._found.replicas:
                    raise
                return self._behind(None, self._found.replicas, marks, "")
            return self._behind(primary, replicas, marks, "")
        found: dict[str, int] = {}
        for address, shard in zip(self._primaries(), self._cluster.shards, strict=True):
            mine = None if marks is None else of_shard(marks, shard.name)
            found |= self._behind(self._node(address), shard.replicas, mine, shard.name)
        return found

    def _behind(
        self, primary: Node | None, replicas: Sequence[Address], marks: Mapping[str, int] | None, shard: str
    ) -> dict[str, int]:
        """Replica → how far it is behind marks, or behind its primary now."""
        here: dict[str, int] = {}
        if primary is not None:
            seen = markers_of(marks or {})
            server, replication, words = primary.run((("INFO", "server"), _REPLICATION, markers_asked(seen)))
            at = place(replication, server)
            here = {at.id: at.offset}
            if marks is not None and not has_all(at, marks, seen, words):
                lost = f"{primary.where}: what these marks say is not there any more (a failover or restart lost it)"
                raise ConsistencyLost(lost, marks=at.marks(shard))
        found = {}
        for host, port in replicas:
            try:
                there = place(self._node((host, port)).run((_REPLICATION,))[0])
            except Unavailable:
                found[f"{host}:{port}"] = -1
                continue
            # who has all that the primary has now has what the marks say, whatever history they are of
            has = any(some and covers(there, some) is Cover.YES for some in (marks, here))
            found[f"{host}:{port}"] = 0 if has else distance(there, {**here, **(marks or {})})
        return found

    def hint_queue(self, name: str, limit: int) -> HintQueue:
        return RedisHintQueue(self._script_at, name, limit)

    def _script_at(self, script: Script, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """Run a script where its keys lie, which share a slot."""
        if self._cluster is None:
            call = (len(keys), *keys, *values)
            return self._at_primary(lambda node: node.script(script, [call]))[0]
        return self._at_slot(script, keys, values)

    def asynchronous(self) -> RedisReads:
        """Reads for the running event loop."""
        return RedisReads(self.place)

    def info(self) -> Mapping[str, str | int]:
        entries, used, warnings = 0, 0, list[str]()
        for address in self._primaries():
            asked: list[tuple[Any, ...]] = [("DBSIZE",), ("INFO", "memory"), ("INFO", "persistence")]
            if self._cluster is None:
                asked.append(("EXISTS", MARKERS, _WAITING))
            size, memory, persistence, *own = self._node(address).run(asked)
            fields = info(memory)
            entries, used = entries + size - sum(own), used + int(fields.get("used_memory", "0"))
            warnings += warnings_of(address, fields, info(persistence))
        return {
            "kind": f"redis {self.place.kind}" if self.place.kind != "single" else "redis",
            "place": self.place.shown,
            "entries": entries,
            "bytes": used,
            "warnings": "; ".join(dict.fromkeys(warnings)),
        }

    def close(self) -> None:
        self._closed = True
        for node in list(self._nodes.values()):
            node.close()

    # cluster

    def _at_shards(
        self, keys: Sequence[bytes], commands: Sequence[tuple[Any, ...]], script: Script | None = None
    ) -> list[Any]:
        """The answers to commands, each at the shard that its key lies on, wherever its slot is just now.

        An answer may be a `Moved` without an owner: the slot is on its way, and the command has several keys.
        """
        assert self._cluster is not None
        if not self._cluster.shards:
            self._run(find_shards(self._cluster))
        found: list[Any] = [None] * len(keys)
        left = list(range(len(keys)))
        for last in (False, True):
            missed: list[int] = []
            for shard, part in self._cluster.by_shard([keys[i] for i in left]).items():
                places = [left[i] for i in part]
                answers = self._node(shard.primary).each([commands[i] for i in places], script)
                for i, answer in zip(places, answers, strict=True):
                    if isinstance(answer, Moved) and answer.asking and answer.owner:
                        answer = self._node(answer.owner).each([commands[i]], script, asking=True)[0]
                    found[i] = answer
                    if isinstance(answer, Moved) and answer.owner:
                        missed.append(i)
            if not missed:
                return found
            if last:
                raise found[missed[0]]
            left = missed
            self._run(find_shards(self._cluster, found[missed[0]].owner))
        return found

    def _at_slot(self, script: Script, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """The answer of a script whose keys share a slot."""
        answer = self._at_shards(keys[:1], [("EVALSHA", script.sha, len(keys), *keys, *values)], script)[0]
        if isinstance(answer, Moved):
            raise answer
        return answer

    def _at_each_shard(self, key: bytes, work: Callable[[Node, bytes], list[Any]]) -> list[list[Any]]:
        """Do something with a meta entry, which lies on every shard under a key of its own there."""
        addresses = self._primaries()
        assert self._cluster is not None
        return [
            work(self._node(address), tag_of(shard.first) + key)
            for address, shard in zip(addresses, self._cluster.shards, strict=True)
        ]

    def _meta(self, key: bytes) -> bytes | None:
        """A meta entry; None where some shard lacks it, or they differ: what lost rows lost it too."""
        found = {answers[0] for answers in self._at_each_shard(key, lambda node, own: node.run([("GET", own)]))}
        return found.pop() if len(found) == 1 else None

    def _put_cluster(self, rows: list[Row], meta: Mapping[bytes, bytes], seconds: bytes) -> list[bool]:
        told = [False] * len(rows)
        slots: dict[int, list[int]] = {}
        for i, (key, _) in enumerate(rows):
            slots.setdefault(slot_of(key), []).append(i)
        parts = list(slots.values())
        for start in range(0, len(parts), _SCANNED):
            self._put_parts(rows, parts[start : start + _SCANNED], seconds, told)
        for key, value in meta.items():
            self._at_each_shard(key, lambda node, own, value=value: node.run([("SET", own, value)]))  # type: ignore[misc]
        return told

    def _put_parts(self, rows: Sequence[Row], parts: Sequence[list[int]], seconds: bytes, told: list[bool]) -> None:
        """Put rows by their places; those of a part lie in one slot, and go in one script."""
        firsts, calls = [rows[part[0]][0] for part in parts], []
        for first, part in zip(firsts, parts, strict=True):
            names, values = [rows[i][0] for i in part], [rows[i][1] for i in part]
            # no markers in a cluster: the first key stands where theirs does
            calls.append(("EVALSHA", PUT.sha, len(part) + 1, first, *names, len(part), seconds, b"", *values))
        alone: list[list[int]] = []
        for part, answer in zip(parts, self._at_shards(firsts, calls, PUT), strict=True):
            if not isinstance(answer, Moved):
                for i, mark in zip(part, answer, strict=True):
                    told[i] = mark == 49
            elif len(part) == 1:
                raise answer
            else:
                alone += ([i] for i in part)
        if alone:
            self._put_parts(rows, alone, seconds, told)


def _calls(
    rows: Iterator[Row], meta: Mapping[bytes, bytes], seconds: bytes, marker: bytes
) -> Iterator[tuple[Any, ...]]:
    """The arguments of each call of the put script; the last has the meta entries.

    Each leaves a marker: a reader may have seen its rows before the next one is there.
    """
    batch = list(islice(rows, _BATCH))
    if not batch and not meta:
        return
    while True:
        following = list(islice(rows, _BATCH))
        entries = {} if following else meta
        names, values = [key for key, _ in batch], [row for _, row in batch]
        count = len(batch)
        keys = (MARKERS, *names, *entries)
        yield (len(keys), *keys, count, seconds, marker, *values, *entries.values())
        if not following:
            return
        batch = following


def _still_there(number: int, word: bytes | None, newest: bytes | None, found: bytes | None) -> bool:
    """Whether a marker is in a primary's data, or was let go since for many later ones."""
    return word == found or number <= int(newest or 0) - KEPT_MARKERS


def _word() -> bytes:
    """A marker's word, which no other marker has."""
    return os.urandom(WORD_BITS // 8).hex().encode()


def _chain(first: tuple[Any, ...], rest: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    yield first
    yield from rest
