"""The store in this process's memory: for tests, notebooks and `FeatureStore.in_memory`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from headwater import forks
from headwater.errors import Unavailable
from headwater.online.base import Capabilities, OnlineStore
from headwater.online.codec import sequence_of
from headwater.online.guard import merge
from headwater.types import ConsistencyLevel


class MemoryOnlineStore(OnlineStore):
    """Rows in a dict; gone with the object."""

    capabilities = Capabilities(levels=frozenset(ConsistencyLevel), atomic_meta=True, local=True)

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._lock = forks.lock()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """A new, empty store for `memory:`."""
        return cls()

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        rows = self._rows
        self._check_open()
        return list(map(rows.get, keys))

    def put(self, rows: Iterable[tuple[bytes, bytes]], meta: Mapping[bytes, bytes] | None = None) -> list[bool]:
        applied, changed = [], dict[bytes, bytes]()
        with self._lock:
            self._check_open()
            for key, row in rows:
                merged = merge(changed.get(key) or self._rows.get(key), row)
                applied.append(merged is not None)
                if merged is not None:
                    changed[key] = merged
            # one update, so that a reader beside it sees each row whole and meta never before its rows
            self._rows.update(changed)
            self._rows.update(meta or {})
        return applied

    def compare_and_put(self, key: bytes, sequence: int, row: bytes | None) -> bool:
        with self._lock:
            self._check_open()
            if sequence_of(self._rows.get(key)) != sequence:
                return False
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row
            return True

    def delete(self, keys: Iterable[bytes]) -> None:
        with self._lock:
            self._check_open()
            for key in keys:
                self._rows.pop(key, None)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._lock:
            self._check_open()
            found = [(key, row) for key, row in self._rows.items() if key.startswith(prefix)]
        return iter(found)

    def info(self) -> Mapping[str, str | int]:
        return {
            "kind": "memory",
            "place": "this process",
            "entries": len(self._rows),
            "bytes": sum(len(key) + len(row) for key, row in list(self._rows.items())),
            "warnings": "",
        }

    def close(self) -> None:
        self._closed = True
        self._rows = {}

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the in-memory online store was closed")
