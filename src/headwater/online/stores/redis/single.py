"""Rows on one Redis server, or on a primary that replicas follow: named in the URL, or watched by Sentinel."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from headwater.errors import ConsistencyLost, Unavailable
from headwater.online.base import Change, Epoch, HighWater, PutOutcome, Row, new_token
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.answers import Command
from headwater.online.stores.redis.batches import SCRIPT_BYTES, SCRIPT_ROWS, WINDOW_BYTES, change_sizes, cut, row_sizes
from headwater.online.stores.redis.errors import NotPrimary, NotReached
from headwater.online.stores.redis.info import followers
from headwater.online.stores.redis.nodes import Node
from headwater.online.stores.redis.reads import Deadline, Nodes, find, markers_asked, strong
from headwater.online.stores.redis.replication import (
    ANY_HISTORY,
    WORD_BITS,
    Cover,
    all_there,
    covers,
    distance,
    has_all,
    is_there,
    marker_mark,
    markers_of,
    only_markers,
    position_of,
)
from headwater.online.stores.redis.scripts import COMPARE, EPOCH, MARKERS, PUT, PUT_META, Script
from headwater.online.stores.redis.servers import Servers
from headwater.online.stores.redis.until import Until
from headwater.online.stores.redis.url import Address

T = TypeVar("T")
_AHEAD = 16
"""Scripts under way."""
_SCANNED, _FEW = 1_000, 16
"""Keys of a page of a scan, and how many are read before it is known how long the rows are."""
_ID_SIZE = 40
_SERVER, _REPLICATION = ("INFO", "server"), ("INFO", "replication")
_YES = ord("1")
OUTCOMES = {ord(str(int(outcome))): outcome for outcome in PutOutcome}
"""By the digit that the put script gives."""
WAITING = META_PREFIX + b"waiting"
"""What is written before replicas are waited for."""


class SingleRedis:
    """Writes, and what is known of replicas, where one server is the primary of all rows.

    Args:
        servers: to ask.
        nodes: what is known of them.
    """

    def __init__(self, servers: Servers, nodes: Nodes) -> None:
        self._servers = servers
        self._found = nodes
        self._last = threading.local()

    @property
    def _shown(self) -> str:
        return self._servers.location.shown

    def _primary(self) -> Address:
        return self._found.primary or self._servers.run(find(self._found))

    def _node(self) -> Node:
        return self._servers.node(self._primary())

    def primaries(self) -> list[Address]:
        """Where rows are written."""
        return [self._primary()]

    def _at_primary(self, work: Callable[[Node], T]) -> T:
        """Do something at the primary; where it is gone, or a replica by now, it is done at the new one."""
        try:
            return work(self._node())
        except Unavailable as bad:
            if self._found.alone:
                raise
            before, self._found.primary = self._found.primary, None
            if not isinstance(bad, NotPrimary | NotReached) or self._primary() == before:
                raise
            return work(self._node())

    def run_script(self, script: Script, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """The answer of a script at the primary."""
        call = (len(keys), *keys, *values)
        return self._at_primary(lambda node: node.script(script, [call]))[0]

    # rows

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The primary's bytes under each key."""
        return self._servers.run(strong(self._found, keys, False, Deadline(None))).rows

    def put(
        self, rows: Iterable[Row], seconds: int, until: Until | None, high_water: HighWater | None
    ) -> list[PutOutcome]:
        """As `OnlineStore.put`; each script leaves a marker, as a reader may see its rows before the next one's."""
        word = _word()
        batches = cut(rows, row_sizes, SCRIPT_ROWS, SCRIPT_BYTES)
        first = next(batches, [] if high_water is not None else None)
        if first is None:
            return []
        calls = (_put_call(batch, seconds, until, high_water, word) for batch in batches)
        call, second = _put_call(first, seconds, until, high_water, word), next(calls, None)
        # the first alone: where the primary has moved it is refused whole, and goes to the new one
        answers, node = self._at_primary(lambda node: (node.script(PUT, [call]), node))
        if second is not None:
            answers += node.stream(PUT, _chain(second, calls), _AHEAD)
        parts = [answer.partition(b":") for answer in answers]
        self._last.marker = int(parts[-1][2]), word
        return [OUTCOMES[digit] for digits, _, _ in parts for digit in digits]

    def compare_and_put_all(
        self, changes: Iterable[Change], until: Until | None, high_water: HighWater | None, epoch: Epoch | None
    ) -> list[bool]:
        """As `OnlineStore.compare_and_put_all`."""
        word, done = _word(), list[bool]()
        token, replication = None, b""
        if epoch is not None:
            token, replication = (epoch[0], epoch[1][:-_ID_SIZE]), epoch[1][-_ID_SIZE:]
        for some in cut(changes, change_sizes, SCRIPT_ROWS, SCRIPT_BYTES):
            call = compare_call(some, MARKERS, word, until, high_water, token, replication)
            (answer,) = self._at_primary(lambda node, call=call: node.script(COMPARE, [call]))  # type: ignore[misc]
            digits, _, number = answer.partition(b":")
            if number:
                self._last.marker = int(number), word
            done += (digit == _YES for digit in digits)
        return done

    def delete(self, keys: Iterable[bytes]) -> None:
        """As `OnlineStore.delete`."""
        some = iter(keys)
        while batch := list(islice(some, _SCANNED)):
            self._at_primary(lambda node, batch=batch: node.run([("UNLINK", *batch)]))  # type: ignore[misc]

    def scan(self, prefix: bytes) -> Iterator[Row]:
        """As `OnlineStore.scan`."""
        node, seen = self._node(), {MARKERS, WAITING}
        pages = (new_keys(keys, seen) for keys in scanned(node, escaped(prefix) + b"*"))
        return read_rows(pages, lambda keys: node.run([("MGET", *keys)])[0])

    def own_keys(self) -> int:
        """How many keys are neither rows nor entries."""
        return int(self._node().run([("EXISTS", MARKERS, WAITING)])[0])

    # meta entries

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        expected: Mapping[bytes, bytes | None],
        epoch: Epoch | None,
        high_water: HighWater | None,
    ) -> bool:
        """As `OnlineStore.put_meta`: one script."""
        wanted, replication = dict(expected), b""
        if epoch is not None:
            wanted[epoch[0]], replication = epoch[1][:-_ID_SIZE], epoch[1][-_ID_SIZE:]
        mark, number = high_bytes(high_water)
        keys = (*wanted, *entries, *([mark] if mark else []))
        values = [value for data in (*wanted.values(), *entries.values()) for value in flagged(data)]
        return bool(self.run_script(PUT_META, keys, (len(wanted), replication, number, *values)))

    def epoch(self, key: bytes) -> bytes:
        """As `OnlineStore.epoch`: the token, and the id of the primary's replication behind it."""
        token, replication = self.run_script(EPOCH, [key], [new_token()])
        return bytes(token) + bytes(replication)

    # powers

    def last_write(self) -> Mapping[str, int] | None:
        """The marks of this thread's last write, as far as its own answer says: the marker that it left."""
        number, word = self._last_marker()
        return None if word is None else marker_mark(f"m:{ANY_HISTORY}", number, word.decode())

    def narrowed(self, keys: Sequence[bytes], epoch: Epoch) -> tuple[bytes, set[bytes]]:
        """As `Movable.narrowed`: there is one part."""
        return epoch[1], set()

    def marks(self) -> Mapping[str, int]:
        """As `Replicated.marks`."""
        number, word = self._last_marker()
        markers = ("HMGET", MARKERS, "s", "n", number)
        server, replication, (*last, found_word) = self._node().run((_SERVER, _REPLICATION, markers))
        if not is_there(number, word, last[0], found_word):
            self._last.marker = (0, None)
            lost = "the write was lost: another primary took over, or the primary lost its data"
            raise Unavailable(f"{self._shown}: {lost}")
        return position_of(replication, server, last).marks()

    def _last_marker(self) -> tuple[int, bytes | None]:
        """What this thread's last write left behind it: the primary may be another one since."""
        marker: tuple[int, bytes | None] = getattr(self._last, "marker", (0, None))
        return marker

    def wait(self, replicas: int, timeout: float) -> int:
        """As `Replicated.wait`."""
        number, word = self._last_marker()
        asked = (*waiting(WAITING, replicas, timeout), ("HMGET", MARKERS, "s", number))
        _, count, (newest, found_word) = self._node().run(asked, timeout + self._servers.location.timeout)
        return int(count) if is_there(number, word, newest, found_word) else 0

    def lag(self, marks: Mapping[str, int] | None) -> Mapping[str, int]:
        """As `Replicated.lag`."""
        try:
            primary = self._node()
            replicas = self._found.replicas or followers(primary.run((_REPLICATION,))[0])
            here = self._here(primary, marks)
        except Unavailable:
            if marks is None or not self._found.replicas:
                raise
            replicas, here = self._found.replicas, {}
        return {f"{host}:{port}": self._behind((host, port), here, marks or {}) for host, port in replicas}

    def _here(self, primary: Node, marks: Mapping[str, int] | None) -> dict[str, int]:
        """How far the primary is, which must have what marks say."""
        seen = markers_of(marks or {})
        server, replication, (newest, *words) = primary.run((_SERVER, _REPLICATION, markers_asked(seen)))
        at = position_of(replication, server)
        if marks is not None and not has_all(at, marks, seen, newest, words):
            lost = f"{primary.where}: the writes at these positions were lost (in a failover or restart)"
            raise ConsistencyLost(lost, marks=at.marks())
        return {at.id: at.offset}

    def _behind(self, replica: Address, here: Mapping[str, int], marks: Mapping[str, int]) -> int:
        """How far a replica is behind marks, or behind its primary where there are none; -1 where it cannot tell."""
        seen = markers_of(marks)
        try:
            replication, (newest, *words) = self._servers.node(replica).run((_REPLICATION, markers_asked(seen)))
        except Unavailable:
            return -1
        there = position_of(replication)
        # who has all that the primary has now has what the marks say, whatever history they are of
        has = only_markers(marks) or (bool(marks) and covers(there, marks) is Cover.YES)
        if (has and all_there(seen, newest, words)) or (here and covers(there, here) is Cover.YES):
            return 0
        return distance(there, {**here, **marks})


def waiting(key: bytes, replicas: int, timeout: float) -> tuple[Command, Command]:
    """The commands that wait for replicas.

    WAIT counts what its own connection wrote: this write comes after all that was acknowledged before it.
    """
    return ("SET", key, b"1"), ("WAIT", replicas, max(1, int(timeout * 1000)))


def flagged(data: bytes | None) -> tuple[bytes, bytes]:
    """Bytes, or nothing, as scripts take them."""
    return (b"0", b"") if data is None else (b"1", data)


def high_bytes(high_water: HighWater | None) -> tuple[bytes, bytes]:
    """The key and the number of a high-water mark as scripts take them, both empty where there is none."""
    return (b"", b"") if high_water is None else (high_water[0], high_water[1].to_bytes(8, "big"))


def compare_call(
    changes: Sequence[Change],
    marker_key: bytes,
    word: bytes,
    until: Until | None,
    high_water: HighWater | None,
    token: Epoch | None,
    replication: bytes,
) -> Command:
    """The arguments of the compare script; `replication`: of the epoch, or empty."""
    mark, number = high_bytes(high_water)
    keys = [marker_key, *(key for key, _, _ in changes)]
    keys += [mark] if mark else []
    keys += [token[0]] if token is not None else []
    rows = (part for _, sequence, row in changes for part in (sequence.to_bytes(6, "big"), *flagged(row)))
    fixed = (len(changes), word, number, b"" if token is None else token[1], replication)
    return (len(keys), *keys, *fixed, *rows, until or b"")


def _put_call(
    batch: Sequence[Row], seconds: int, until: Until | None, high_water: HighWater | None, word: bytes
) -> Command:
    mark, number = high_bytes(high_water)
    keys = (MARKERS, *(key for key, _ in batch), *([mark] if mark else []))
    rows = (row for _, row in batch)
    return (len(keys), *keys, len(batch), seconds, word, number, *rows, until or b"")


def scanned(node: Node, pattern: bytes) -> Iterator[list[bytes]]:
    """The keys of a node, some of them more than once."""
    cursor = b"0"
    while True:
        cursor, keys = node.run([("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED, "TYPE", "string")])[0]
        if keys:
            yield keys
        if cursor == b"0":
            return


def new_keys(keys: Iterable[bytes], seen: set[bytes]) -> list[bytes]:
    """The keys that were not seen yet, which they are from now on."""
    new = [key for key in dict.fromkeys(keys) if key not in seen]
    seen.update(new)
    return new


def read_rows(
    pages: Iterable[Sequence[bytes]], get: Callable[[Sequence[bytes]], Sequence[bytes | None]]
) -> Iterator[Row]:
    """Keys and their rows, those that are gone left out; fewer are read at once the longer the rows are."""
    count = _FEW
    for keys in pages:
        start = 0
        while start < len(keys):
            some = keys[start : start + count]
            rows = get(some)
            size = sum(len(row) for row in rows if row is not None) // len(some)
            start += count
            count = max(1, min(_SCANNED, 4 * count, WINDOW_BYTES // max(1, size)))
            yield from ((key, row) for key, row in zip(some, rows, strict=True) if row is not None)


def escaped(prefix: bytes) -> bytes:
    """A pattern of Redis that matches these bytes alone."""
    return b"".join(b"\\" + bytes((c,)) if c in b"*?[]\\^-" else bytes((c,)) for c in prefix)


def _word() -> bytes:
    """A marker's word, which no other marker has."""
    return os.urandom(WORD_BITS // 8).hex().encode()


def _chain(first: Command, rest: Iterator[Command]) -> Iterator[Command]:
    yield first
    yield from rest
