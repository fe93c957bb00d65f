"""The store in this process's memory: for tests, notebooks and `FeatureStore.in_memory`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from headwater import forks
from headwater.clock import to_micros
from headwater.errors import was_closed
from headwater.online.base import (
    Capabilities,
    Epoch,
    HighWater,
    OnlineStore,
    PutOutcome,
    Row,
    compared,
    new_token,
    raised,
    too_late,
)
from headwater.online.guard import merge, stands_at
from headwater.types import ConsistencyLevel


class MemoryOnlineStore(OnlineStore):
    """Rows in a dict; gone with the object."""

    capabilities = Capabilities(levels=frozenset(ConsistencyLevel), local=True, shared=False, windows=True)

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

    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        outcomes, changed = [], dict[bytes, bytes]()
        with self._lock:
            self._check(until)
            for key, row in rows:
                merged = merge(changed.get(key) or self._rows.get(key), row)
                if isinstance(merged, bytes):
                    changed[key] = merged
                    merged = PutOutcome.APPLIED
                outcomes.append(merged)
            # one update, so that a reader beside it sees each row whole
            self._rows.update(changed)
            self._raise(high_water)
        return outcomes

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
        with self._lock:
            self._check(until)
            self._raise(high_water)
            if epoch is not None and self._rows.get(epoch[0]) != epoch[1]:
                return False
            if not stands_at(self._rows.get(key), sequence):
                return False
            self._set(key, row)
            return True

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: Epoch | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        with self._lock:
            self._check(None)
            wanted = compared(expected, epoch)
            if any(self._rows.get(key) != data for key, data in wanted.items()):
                return False
            for key, data in entries.items():
                self._set(key, data)
            self._raise(high_water)
            return True

    def epoch(self, key: bytes) -> bytes:
        with self._lock:
            self._check(None)
            return self._rows.setdefault(key, new_token())

    def _set(self, key: bytes, data: bytes | None) -> None:
        if data is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = data

    def _raise(self, high_water: HighWater | None) -> None:
        if high_water is not None:
            data = raised(self._rows.get(high_water[0]), high_water[1])
            if data is not None:
                self._rows[high_water[0]] = data

    def _check(self, until: int | None) -> None:
        self._check_open()
        if until is not None and to_micros(self.clock()) > until:
            raise too_late("the in-memory online store")

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
            raise was_closed("the in-memory online store was closed")
