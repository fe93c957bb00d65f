"""Rows on a Redis Cluster: each at the shard that has its slot, and what is known of the shards' replicas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from headwater.errors import ConsistencyLost, Unavailable
from headwater.online.base import Change, Epoch, HighWater, PutOutcome, Row
from headwater.online.meta import is_fill_record
from headwater.online.powers import Reading
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.answers import Command
from headwater.online.stores.redis.batches import (
    SCRIPT_BYTES,
    SCRIPT_ROWS,
    WINDOW_BYTES,
    WINDOW_ROWS,
    change_sizes,
    cut,
    row_sizes,
)
from headwater.online.stores.redis.cluster import read_cluster
from headwater.online.stores.redis.cluster_calls import ClusterCalls
from headwater.online.stores.redis.cluster_entries import history_of, narrowed, still_held, unpack_epoch
from headwater.online.stores.redis.cluster_meta import TAGGED, ClusterMeta
from headwater.online.stores.redis.errors import Moved
from headwater.online.stores.redis.reads import Deadline
from headwater.online.stores.redis.replication import (
    Cover,
    ReplicationPosition,
    covers,
    distance,
    histories,
    position_of,
)
from headwater.online.stores.redis.scripts import COMPARE, PUT
from headwater.online.stores.redis.servers import Servers
from headwater.online.stores.redis.single import (
    OUTCOMES,
    WAITING,
    compare_call,
    escaped,
    new_keys,
    read_rows,
    scanned,
    waiting,
)
from headwater.online.stores.redis.slot_map import Shard, Slots
from headwater.online.stores.redis.slots import slot_of, tag_of
from headwater.online.stores.redis.until import Until
from headwater.online.stores.redis.url import Address
from headwater.types import ConsistencyLevel

_POSITION: tuple[Command, ...] = (("INFO", "server"), ("INFO", "replication"))
_YES = ord("1")
_SCANS = 8
"""How often a scan begins again where slots are moved meanwhile."""


class ClusterRedis:
    """The same as `SingleRedis`, over the shards of a cluster.

    Args:
        servers: to ask.
        slots: the map.
    """

    def __init__(self, servers: Servers, slots: Slots) -> None:
        self._servers = servers
        self._slots = slots
        self._calls = ClusterCalls(servers, slots)
        self._meta = ClusterMeta(self._calls)
        self.run_script = self._calls.script
        self.put_meta, self.epoch = self._meta.put, self._meta.epoch

    def primaries(self) -> list[Address]:
        """Where rows are written: one a shard."""
        return [shard.primary for shard in self._calls.refreshed()]

    # rows

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The primaries' bytes under each key, and entries as they are for the whole cluster.

        Fill records that are read with rows are those of the rows' shards.
        """
        whole = dict.fromkeys(key for key in keys if key.startswith(META_PREFIX))
        if any(map(_is_row, keys)):
            whole = {key: None for key in whole if not is_fill_record(key)}
        entries = self._meta.read(list(whole)) if whole else {}
        rows = iter(self._rows([key for key in keys if key not in entries]))
        return [entries[key] if key in entries else next(rows) for key in keys]

    def _rows(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        plan = read_cluster(self._slots, keys, ConsistencyLevel.STRONG, None, Deadline(None), False)
        reading: Reading = self._servers.run(plan)
        return reading.rows

    def put(
        self, rows: Iterable[Row], seconds: int, until: Until | None, high_water: HighWater | None
    ) -> list[PutOutcome]:
        """As `OnlineStore.put`: the rows of a slot go in one script."""
        outcomes, some = list[PutOutcome](), None
        for some in cut(rows, row_sizes, WINDOW_ROWS, WINDOW_BYTES):
            results = [PutOutcome.SUPERSEDED] * len(some)
            slots: dict[int, list[int]] = {}
            for i, (key, _) in enumerate(some):
                slots.setdefault(slot_of(key), []).append(i)
            sizes = partial(_sizes_at, some)
            parts = [part for mine in slots.values() for part in cut(mine, sizes, SCRIPT_ROWS, SCRIPT_BYTES)]
            self._put_parts(some, parts, seconds, until, high_water, results)
            outcomes += results
        if some is None and high_water is not None:
            self._calls.raise_everywhere(high_water)
        return outcomes

    def _put_parts(
        self,
        rows: Sequence[Row],
        parts: Sequence[Sequence[int]],
        seconds: int,
        until: Until | None,
        high_water: HighWater | None,
        outcomes: list[PutOutcome],
    ) -> None:
        """Put rows by their indices; those of a part lie in one slot, and go in one script."""
        firsts, calls = [rows[part[0]][0] for part in parts], list[Command]()
        for first, part in zip(firsts, parts, strict=True):
            keys, values = [rows[i][0] for i in part], [rows[i][1] for i in part]
            # there are no markers in a cluster: the first key stands where theirs does
            fixed = (len(part) + 1, first, *keys, len(part), seconds, b"", b"")
            calls.append(("EVALSHA", PUT.sha, *fixed, *values, until or b""))
        alone: list[list[int]] = []
        answers = self._calls.ask(firsts, calls, (PUT,), high_water=high_water)
        for part, answer in zip(parts, answers, strict=True):
            if not isinstance(answer, Moved):
                for i, digit in zip(part, answer, strict=True):
                    outcomes[i] = OUTCOMES[digit]
            elif len(part) == 1:
                raise answer
            else:
                # the slot is on its way: some keys are here and some there
                alone += ([i] for i in part)
        if alone:
            self._put_parts(rows, alone, seconds, until, high_water, outcomes)

    def compare_and_put_all(
        self, changes: Iterable[Change], until: Until | None, high_water: HighWater | None, epoch: Epoch | None
    ) -> list[bool]:
        """As `OnlineStore.compare_and_put_all`: the rows of a slot go in one script."""
        held = None
        if epoch is not None:
            # a token lies in another slot than the rows: it is compared first, the replication with each row
            held = still_held(unpack_epoch(epoch[1]), unpack_epoch(self.epoch(epoch[0])))
            if held is None:
                if high_water is not None:
                    self._calls.raise_everywhere(high_water)
                return [False for _ in changes]
        done: list[bool] = []
        for some in cut(changes, change_sizes, WINDOW_ROWS, WINDOW_BYTES):
            results = [False] * len(some)
            slots: dict[int, list[int]] = {}
            for i, (key, _, _) in enumerate(some):
                slots.setdefault(slot_of(key), []).append(i)
            calls = list[tuple[list[int], bytes]]()
            for slot, mine in slots.items():
                replication = b"" if held is None else history_of(held, slot)
                if replication is not None:
                    sizes = partial(_change_sizes_at, some)
                    calls += ((list(part), replication) for part in cut(mine, sizes, SCRIPT_ROWS, SCRIPT_BYTES))
            self._compare_parts(some, calls, until, high_water, results)
            done += results
        return done

    def _compare_parts(
        self,
        changes: Sequence[Change],
        parts: Sequence[tuple[list[int], bytes]],
        until: Until | None,
        high_water: HighWater | None,
        done: list[bool],
    ) -> None:
        """Compare rows by their indices; those of a part lie in one slot, and go in one script."""
        firsts, calls = [changes[part[0]][0] for part, _ in parts], list[Command]()
        for first, (part, replication) in zip(firsts, parts, strict=True):
            # there are no markers in a cluster: the first key stands where theirs does
            call = compare_call([changes[i] for i in part], first, b"", until, None, None, replication)
            calls.append(("EVALSHA", COMPARE.sha, *call))
        alone: list[tuple[list[int], bytes]] = []
        answers = self._calls.ask(firsts, calls, (COMPARE,), high_water=high_water)
        for (part, replication), answer in zip(parts, answers, strict=True):
            if not isinstance(answer, Moved):
                for i, digit in zip(part, answer, strict=True):
                    done[i] = digit == _YES
            elif len(part) == 1:
                raise answer
            else:
                # the slot is on its way: some keys are here and some there
                alone += (([i], replication) for i in part)
        if alone:
            self._compare_parts(changes, alone, until, high_water, done)

    def delete(self, keys: Iterable[bytes]) -> None:
        """As `OnlineStore.delete`."""
        source = iter(keys)
        while some := list(islice(source, WINDOW_ROWS)):
            rows = [key for key in some if not key.startswith(META_PREFIX)]
            self._calls.ask(rows, [("UNLINK", key) for key in rows])
            entries = [key for key in some if key.startswith(META_PREFIX)]
            if entries:
                self._meta.delete(entries)

    def scan(self, prefix: bytes) -> Iterator[Row]:
        """As `OnlineStore.scan`: also rows whose slots are moved meanwhile."""
        if META_PREFIX.startswith(prefix) or prefix.startswith(META_PREFIX):
            yield from self._meta.scan(prefix)
        if prefix.startswith(META_PREFIX):
            return
        seen = set[bytes]()
        for _ in range(_SCANS):
            before = self._arrangement()
            nodes = [self._servers.node(address) for address in self.primaries()]
            pages = (keys for node in nodes for keys in scanned(node, escaped(prefix) + b"*"))
            yield from read_rows((new_keys(filter(_is_row, keys), seen) for keys in pages), self._rows)
            if before == self._arrangement():
                return

    def _arrangement(self) -> object:
        """Which shard has which slots, by their own words; another one each time while a slot is on its way."""
        shards = self._calls.each_shard(lambda shard: (("CLUSTER", "NODES"),))
        own = [next(line for line in nodes.splitlines() if b"myself" in line) for _, (nodes,) in shards]
        if any(b"->-" in line or b"-<-" in line for line in own):
            return object()
        return [line.split()[0:1] + line.split()[6:7] + line.split()[8:] for line in own]

    def own_keys(self) -> int:
        """How many keys of all primaries are not rows."""
        shards = self._calls.shards()
        names = [tag_of(shard.meta) + WAITING for shard in shards]
        waits: list[int] = self._calls.ask(names, [("EXISTS", name) for name in names])
        return self._meta.count() + sum(waits)

    # powers

    def last_write(self) -> Mapping[str, int] | None:
        """Nothing: writes leave no markers in a cluster."""
        return None

    def narrowed(self, keys: Sequence[bytes], epoch: Epoch) -> tuple[bytes, set[bytes]]:
        """As `Movable.narrowed`."""
        left = narrowed(epoch[1], self.epoch(epoch[0]))
        start = unpack_epoch(left)
        return left, {key for key in keys if history_of(start, slot_of(key)) is None}

    def marks(self) -> Mapping[str, int]:
        """As `Replicated.marks`."""
        marks: dict[str, int] = {}
        for shard, (server, replication) in self._primaries(()):
            marks |= position_of(replication, server).marks(shard.name)
        return marks

    def _primaries(self, more: Sequence[Command]) -> list[tuple[Shard, list[Any]]]:
        """Every shard and what its primary says, of itself and to more commands."""
        return self._calls.each_shard(
            lambda shard: (*_POSITION, *more), good=lambda answers: position_of(answers[1], answers[0]).primary
        )

    def wait(self, replicas: int, timeout: float) -> int:
        """As `Replicated.wait`: on the shard that has the fewest."""
        counts = self._calls.each_shard(
            lambda shard: waiting(tag_of(shard.meta) + WAITING, replicas, timeout),
            timeout + self._servers.location.timeout,
        )
        return min(int(count) for _, (_, count) in counts)

    def lag(self, marks: Mapping[str, int] | None) -> Mapping[str, int]:
        """As `Replicated.lag`."""
        shards = {shard: position_of(replication, server) for shard, (server, replication) in self._primaries(())}
        wanted: dict[Shard, dict[str, int]] = {shard: {} for shard in shards}
        for _, history in histories(marks or {}):
            mine = [shard for shard, at in shards.items() if covers(at, history) is Cover.YES]
            if not mine:
                raise ConsistencyLost(
                    f"{self._servers.location.shown}: the writes at these positions were lost (in a failover or "
                    "restart)",
                    marks={part: mark for shard, at in shards.items() for part, mark in at.marks(shard.name).items()},
                )
            for shard in mine:
                wanted[shard] |= history
        behind = {}
        for shard, at in shards.items():
            for host, port in shard.replicas:
                behind[f"{host}:{port}"] = self._behind((host, port), at, None if marks is None else wanted[shard])
        return behind

    def _behind(self, replica: Address, primary: ReplicationPosition, marks: Mapping[str, int] | None) -> int:
        """How far a replica is behind marks, or behind its primary now; -1 where it cannot tell."""
        here = {primary.id: primary.offset}
        try:
            there = position_of(self._servers.node(replica).run(_POSITION[1:])[0])
        except Unavailable:
            return -1
        if any(some is not None and covers(there, some) is Cover.YES for some in (marks, here)):
            return 0
        return distance(there, {**here, **(marks or {})})


def _change_sizes_at(changes: Sequence[Change], indices: Sequence[int]) -> list[int]:
    return change_sizes([changes[i] for i in indices])


def _sizes_at(rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
    return row_sizes([rows[i] for i in indices])


def _is_row(key: bytes) -> bool:
    """Whether a key is a row's, rather than one of the store's own."""
    return not key.startswith(META_PREFIX) and TAGGED.match(key) is None
