"""An online store on one SQLite file: what a third party writes to add a store."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from headwater.clock import to_micros
from headwater.errors import ConfigError, Unavailable
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

_BATCH = 500  # SQLite takes at least 999 parameters a statement
_PUT = "INSERT INTO rows VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET row = excluded.row"


class SQLiteOnlineStore(OnlineStore):
    """Rows in one table; a put begins by taking the write lock, so that it is atomic, also between processes."""

    capabilities = Capabilities(levels=frozenset(ConsistencyLevel))

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._open: sqlite3.Connection | None = sqlite3.connect(
            path, timeout=60, isolation_level=None, check_same_thread=False
        )
        self._open.execute("PRAGMA journal_mode = WAL")
        self._open.execute("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID")

    @classmethod
    def from_url(cls, url: str, folder: Path) -> SQLiteOnlineStore:
        """The store of `sqlitekv:path`."""
        path = url.partition(":")[2]
        if not path:
            raise ConfigError(f"{url!r} names no file; write sqlitekv:path/to/file")
        return cls(folder / path)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: dict[bytes, bytes] = {}
        wanted = list(dict.fromkeys(keys))
        with self._reading() as connection:
            for start in range(0, len(wanted), _BATCH):
                some = wanted[start : start + _BATCH]
                marks = ",".join("?" * len(some))
                found.update(connection.execute(f"SELECT key, row FROM rows WHERE key IN ({marks})", some))
        return [found.get(key) for key in keys]

    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        outcomes = []
        with self._writing(until) as connection:
            for key, row in rows:
                merged = merge(self._get(connection, key), row)
                if isinstance(merged, bytes):
                    self._set(connection, key, merged)
                    merged = PutOutcome.APPLIED
                outcomes.append(merged)
            self._raise(connection, high_water)
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
        with self._writing(until) as connection:
            self._raise(connection, high_water)
            if epoch is not None and self._get(connection, epoch[0]) != epoch[1]:
                return False
            if not stands_at(self._get(connection, key), sequence):
                return False
            self._set(connection, key, row)
        return True

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: Epoch | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        wanted = compared(expected, epoch)
        with self._writing() as connection:
            if any(self._get(connection, key) != data for key, data in wanted.items()):
                return False
            for key, data in entries.items():
                self._set(connection, key, data)
            self._raise(connection, high_water)
        return True

    def epoch(self, key: bytes) -> bytes:
        with self._writing() as connection:
            token = self._get(connection, key) or new_token()
            self._set(connection, key, token)
        return token

    def delete(self, keys: Iterable[bytes]) -> None:
        with self._writing() as connection:
            connection.executemany("DELETE FROM rows WHERE key = ?", ((key,) for key in keys))

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        last = prefix
        compare = ">="
        while True:
            with self._reading() as connection:
                page = connection.execute(
                    f"SELECT key, row FROM rows WHERE key {compare} ? ORDER BY key LIMIT 1000", (last,)
                ).fetchall()
            for key, row in page:
                if not key.startswith(prefix):
                    return
                yield key, row
            if not page:
                return
            last, compare = page[-1][0], ">"

    def info(self) -> Mapping[str, str | int]:
        with self._reading() as connection:
            entries, size = connection.execute(
                "SELECT count(*), coalesce(sum(length(key) + length(row)), 0) FROM rows"
            ).fetchone()
        return {"kind": "sqlitekv", "place": str(self.path), "entries": entries, "bytes": size, "warnings": ""}

    def close(self) -> None:
        with self._lock:
            if self._open is not None:
                self._open.close()
            self._open = None

    @staticmethod
    def _get(connection: sqlite3.Connection, key: bytes) -> bytes | None:
        found = connection.execute("SELECT row FROM rows WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]

    @staticmethod
    def _set(connection: sqlite3.Connection, key: bytes, data: bytes | None) -> None:
        if data is None:
            connection.execute("DELETE FROM rows WHERE key = ?", (key,))
        else:
            connection.execute(_PUT, (key, data))

    def _raise(self, connection: sqlite3.Connection, high_water: HighWater | None) -> None:
        if high_water is not None:
            data = raised(self._get(connection, high_water[0]), high_water[1])
            if data is not None:
                self._set(connection, high_water[0], data)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._open is None:
                raise Unavailable(f"{self.path}: the store was closed")
            yield self._open

    @contextmanager
    def _writing(self, until: int | None = None) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if until is not None and to_micros(self.clock()) > until:
                    raise too_late(str(self.path))
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
