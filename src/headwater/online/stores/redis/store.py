"""Redis: standalone, with replicas, behind Sentinel, or a cluster; the guard runs in the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from headwater.clock import ticker
from headwater.online.base import Capabilities, Change, Epoch, HighWater, OnlineStore, PutOutcome, Row, too_late
from headwater.online.connections import ConnectionCounts
from headwater.online.hints import HintQueue
from headwater.online.powers import Reading
from headwater.online.stores.redis.async_reads import RedisReads
from headwater.online.stores.redis.batches import MAX_ROW_BYTES
from headwater.online.stores.redis.cluster import read_plan
from headwater.online.stores.redis.cluster_rows import ClusterRedis
from headwater.online.stores.redis.info import eviction_policy, info, warnings_of
from headwater.online.stores.redis.queue import RedisHintQueue
from headwater.online.stores.redis.reads import Nodes
from headwater.online.stores.redis.servers import Servers
from headwater.online.stores.redis.single import SingleRedis
from headwater.online.stores.redis.slot_map import Slots
from headwater.online.stores.redis.until import Until, elapsed
from headwater.online.stores.redis.url import RedisLocation, parse_url
from headwater.types import ConsistencyLevel


class RedisOnlineStore(OnlineStore):
    """Rows in Redis, each under its key; a put is atomic for each row, in the server.

    Reads take a replica where the level allows it; writes and strong reads take the primary, which is looked for again
    where it does not answer or is a replica now. A batch of rows is not put at once: who reads meanwhile may see
    some.

    Args:
        location: where Redis is; `from_url` reads one from a URL.
    """

    capabilities = Capabilities(
        levels=frozenset(ConsistencyLevel), expiry=True, max_row_bytes=MAX_ROW_BYTES, windows=True
    )

    def __init__(self, location: RedisLocation | str) -> None:
        self.location = parse_url(location) if isinstance(location, str) else location
        self._slots = Slots(self.location) if self.location.kind == "cluster" else None
        self._nodes = Nodes(self.location)
        self._servers = Servers(self.location)
        self._redis: SingleRedis | ClusterRedis = (
            SingleRedis(self._servers, self._nodes) if self._slots is None else ClusterRedis(self._servers, self._slots)
        )

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """A store for `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`."""
        return cls(parse_url(url, folder))

    def __repr__(self) -> str:
        return f"<RedisOnlineStore {self.location.shown}>"

    def _until(self, until: int | None) -> Until | None:
        if until is None:
            return None
        left = until - ticker(self.clock)()
        if left < 0:
            raise too_late(self.location.shown)
        return Until(elapsed() + left)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._redis.multi_get(keys) if keys else []

    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        return self._redis.put(rows, expires_in or 0, self._until(until), high_water)

    def compare_and_put(
        self,
        key: bytes,
        sequence: int,
        row: bytes | None,
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
        epoch: Epoch | None = None,
    ) -> bool:
        return self._redis.compare_and_put_all([(key, sequence, row)], self._until(until), high_water, epoch)[0]

    def compare_and_put_all(
        self,
        changes: Sequence[Change],
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
        epoch: Epoch | None = None,
    ) -> list[bool]:
        return self._redis.compare_and_put_all(changes, self._until(until), high_water, epoch)

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: Epoch | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        return self._redis.put_meta(entries, expected or {}, epoch, high_water)

    def epoch(self, key: bytes) -> bytes:
        return self._redis.epoch(key)

    def time(self) -> int:
        # of a cluster every host asks the same primary
        node = self._servers.node(min(self._redis.primaries()))
        ((seconds, micros),) = node.run([("TIME",)])
        return int(seconds) * 1_000_000 + int(micros)

    def delete(self, keys: Iterable[bytes]) -> None:
        self._redis.delete(keys)

    def scan(self, prefix: bytes) -> Iterator[Row]:
        return self._redis.scan(prefix)

    def info(self) -> Mapping[str, str | int]:
        entries, used, warnings = -self._redis.own_keys(), 0, list[str]()
        for address in self._redis.primaries():
            asked = (("DBSIZE",), ("INFO", "memory"), ("INFO", "persistence"))
            size, memory, persistence = self._servers.node(address).run(asked)
            fields = info(memory)
            entries, used = entries + size, used + int(fields.get("used_memory", "0"))
            warnings += warnings_of(address, fields, info(persistence))
        return {
            "kind": f"redis {self.location.kind}" if self.location.kind != "single" else "redis",
            "place": self.location.shown,
            "entries": max(0, entries),
            "bytes": used,
            "warnings": "; ".join(dict.fromkeys(warnings)),
        }

    def evicting(self) -> Sequence[str]:
        policies = {
            address: eviction_policy(info(self._servers.node(address).run((("INFO", "memory"),))[0]))
            for address in self._redis.primaries()
        }
        return [
            f"{host}:{port} (maxmemory-policy {policy})"
            for (host, port), policy in policies.items()
            if policy.startswith("allkeys-")
        ]

    def not_erased(self) -> Sequence[str]:
        return (
            f"{self.location.shown}: snapshots and append-only files of Redis, and replicas that are away, hold "
            "rows that were removed until Redis rewrites or drops them (BGREWRITEAOF, BGSAVE)",
        )

    def connections(self) -> ConnectionCounts:
        return self._servers.connections()

    def close(self) -> None:
        self._servers.close()

    # powers

    def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        if not keys:
            return Reading([], marks or {})
        if marks is None and deadline is None and self._slots is None and self._nodes.alone:
            # what the plan of every level asks of a server without replicas, on the shortest road
            return Reading(self._servers.node(self.location.hosts[0]).run((("MGET", *keys),))[0], {})
        return self._servers.run(read_plan(self._nodes, self._slots, keys, level, marks, deadline))

    def last_write(self) -> Mapping[str, int] | None:
        return self._redis.last_write()

    def narrowed(self, keys: Sequence[bytes], epoch: Epoch) -> tuple[bytes, set[bytes]]:
        return self._redis.narrowed(keys, epoch)

    def marks(self) -> Mapping[str, int]:
        return self._redis.marks()

    def wait(self, replicas: int, timeout: float) -> int:
        return self._redis.wait(replicas, timeout)

    def lag(self, marks: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return self._redis.lag(marks)

    def hint_queue(self, name: str, limit: int) -> HintQueue:
        return RedisHintQueue(self._redis.run_script, name, limit)

    def asynchronous(self) -> RedisReads:
        """Reads for the running event loop."""
        return RedisReads(self.location)
