"""The embedded store: one LMDB environment in a folder, many reader processes beside one writer at a time.

Durability: a put returns when its last transaction is on disk (`sync=False`: in the operating system's hands, which
outlives the process but not the machine). A large put is several transactions, so that other writers get their turn;
`meta` is in the last. Readers never wait for writers, nor hold one up.

The environment is the one thing shared in a process: LMDB lets a path be opened once, so all stores of a path use it,
counted. It is opened when first used, anew after a fork, and anew when the folder was deleted or replaced under it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from headwater.errors import ConfigError, Unavailable, nearest
from headwater.online.base import Capabilities, OnlineStore
from headwater.online.codec import sequence_of
from headwater.online.stores.lmdb_environment import Environment, release, share
from headwater.online.stores.lmdb_rows import CHUNK_ROWS, SCAN_ROWS, chunks, put_chunk, rows_from, runs
from headwater.types import ConsistencyLevel

MAP_SIZE = 1 << 40
"""Address space reserved for the map: costs no disk, and spares growing it while others read."""


class LMDBOnlineStore(OnlineStore):
    """Rows in a folder of this machine.

    Args:
        path: the folder; made when first used.
        map_size: bytes of address space to reserve; less is taken where that much is refused, and grows by itself.
        sync: whether a put waits for the disk.
    """

    capabilities = Capabilities(levels=frozenset(ConsistencyLevel), atomic_meta=True, local=True)

    def __init__(self, path: str | os.PathLike[str], *, map_size: int = MAP_SIZE, sync: bool = True) -> None:
        self._shared = share(Path(path), map_size, sync)
        self._closed = False

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """The store of `lmdb:PATH`, relative to the project's folder; `?sync=off` and `?map_size=BYTES` as options."""
        place, _, query = url.partition(":")[2].partition("?")
        place = place.removeprefix("//") if place.startswith("///") or not place.startswith("/") else place
        options: dict[str, Any] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "sync" and value in ("on", "off"):
                options["sync"] = value == "on"
            elif name == "map_size" and value.isdecimal():
                options["map_size"] = int(value)
            else:
                hint = nearest(name, ("sync", "map_size"))
                raise ConfigError(f"online URL {url!r}: {name}={value!r} is not sync=on|off or map_size=BYTES{hint}")
        if not place:
            raise ConfigError(f"online URL {url!r} names no folder; write lmdb:.headwater/online")
        return cls(folder / place, **options)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._shared.get(keys) if not self._closed else self._open().get(keys)

    def put(self, rows: Iterable[tuple[bytes, bytes]], meta: Mapping[bytes, bytes] | None = None) -> list[bool]:
        shared, applied = self._open(), []
        last = sorted((meta or {}).items())
        for run, final in runs(rows):
            placed = [False] * len(run)
            for chunk, end in chunks(run):
                extra = last if final and end else []
                for i in shared.write(lambda txn, chunk=chunk, extra=extra: put_chunk(txn, run, chunk, extra)):  # type: ignore[misc] # noqa: B023
                    placed[i] = True
            applied += placed
        return applied

    def compare_and_put(self, key: bytes, sequence: int, row: bytes | None) -> bool:
        def swap(txn: Any) -> bool:
            if sequence_of(txn.get(key)) != sequence:
                return False
            if row is None:
                txn.delete(key)
            else:
                txn.put(key, row)
            return True

        return self._open().write(swap)

    def delete(self, keys: Iterable[bytes]) -> None:
        shared, gone = self._open(), sorted(keys)
        for start in range(0, len(gone), CHUNK_ROWS):
            chunk = gone[start : start + CHUNK_ROWS]
            shared.write(lambda txn, chunk=chunk: [txn.delete(key) for key in chunk])  # type: ignore[misc]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        # no transaction is left open between items: it would keep every page freed meanwhile from being used again
        start = prefix
        while True:
            found = self._open().read(lambda txn, start=start: rows_from(txn, start, prefix))  # type: ignore[misc]
            yield from found
            if len(found) < SCAN_ROWS:
                return
            start = found[-1][0] + b"\0"

    def info(self) -> Mapping[str, str | int]:
        shared = self._open()
        entries = shared.read(lambda txn: txn.stat()["entries"])
        return {
            "kind": "lmdb",
            "place": str(shared.path),
            "entries": entries,
            "bytes": shared.data.stat().st_blocks * 512,
            "warnings": "the folder is read-only: reads go on, writes are refused" if shared.read_only else "",
        }

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            release(self._shared)

    def _open(self) -> Environment:
        if self._closed:
            raise Unavailable(f"the online store {self._shared.path} was closed")
        return self._shared
