"""The embedded store: one LMDB environment in a folder, many reader processes beside one writer at a time.

Durability: a put returns when its last transaction is on disk (`sync=False`: in the operating system's hands, which
outlives the process but not the machine). A large put is several transactions, so that other writers get their turn;
Readers never wait for writers, nor hold one up.

The environment is the one thing shared in a process: LMDB lets a path be opened once, so all stores of a path use it,
counted. It is opened when first used, again after a fork, and again when the folder was deleted or replaced under it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from headwater.clock import to_micros
from headwater.errors import ConfigError, nearest, was_closed
from headwater.online.base import (
    Capabilities,
    Change,
    Epoch,
    HighWater,
    OnlineStore,
    PutOutcome,
    Row,
    compared,
    new_token,
    too_late,
)
from headwater.online.stores.lmdb.environment import Environment, release, share
from headwater.online.stores.lmdb.files import Settings
from headwater.online.stores.lmdb.rows import (
    CHUNK_ROWS,
    MAX_ROW_BYTES,
    SCAN_ROWS,
    chunks,
    compare_and_set,
    put_chunk,
    raise_high_water,
    rows_from,
    runs,
    set_or_delete,
)
from headwater.online.stores.url_options import seconds
from headwater.types import ConsistencyLevel
from headwater.urls import without_password

WAIT = 30.0
"""Seconds to wait for another process, as SQLite's."""

MAP_SIZE = 1 << 40
"""Address space reserved for the map: costs no disk, and spares growing it while others read."""


class LMDBOnlineStore(OnlineStore):
    """Rows in a folder of this machine.

    Args:
        path: the folder; made when first used.
        map_size: bytes of address space to reserve; less is taken where that much is refused, and grows by itself.
        sync: whether a put waits for the disk.
        wait: seconds to wait at most for another process that writes or opens it, before `Unavailable`.
    """

    capabilities = Capabilities(
        levels=frozenset(ConsistencyLevel), local=True, max_row_bytes=MAX_ROW_BYTES, windows=True
    )

    def __init__(
        self, path: str | os.PathLike[str], *, map_size: int = MAP_SIZE, sync: bool = True, wait: float = WAIT
    ) -> None:
        self._shared = share(Settings(Path(path), map_size, sync, wait))
        self._closed = False

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """The store of `lmdb:PATH`, relative to the project's folder; options sync=off, map_size=BYTES, wait=10s."""
        place, _, query = url.partition(":")[2].partition("?")
        place = place.removeprefix("//") if place.startswith("///") or not place.startswith("/") else place
        if place.startswith("//"):
            # a host, and what may be its password, would become the name of a folder
            raise ConfigError(
                f"[online] url: {without_password(url)} is not the URL of a folder; write lmdb:.headwater/online"
            )
        options: dict[str, Any] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "sync" and value in ("on", "off"):
                options["sync"] = value == "on"
            elif name == "map_size" and value.isdecimal():
                options["map_size"] = int(value)
            elif name == "wait":
                options["wait"] = seconds({"wait": value}, "wait", WAIT)
            else:
                hint = nearest(name, ("sync", "map_size", "wait"))
                raise ConfigError(f"[online] url: the options are sync=on|off, map_size=BYTES and wait=30s{hint}")
        if not place:
            raise ConfigError(f"[online] url: {without_password(url)} has no folder; write lmdb:.headwater/online")
        return cls(folder / place, **options)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._shared.get(keys) if not self._closed else self._open().get(keys)

    @property
    def files(self) -> str:
        """As `Removable.files`."""
        return str(self._shared.path.absolute())

    def is_there(self) -> bool:
        """As `Removable.is_there`."""
        return self._shared.is_there()

    def begin_again(self) -> None:
        """As `Removable.begin_again`."""
        if not self._closed:
            self._shared.begin_again()

    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        shared, outcomes = self._open(), list[PutOutcome]()
        for run in runs(rows):
            mine = [PutOutcome.SUPERSEDED] * len(run)
            for chunk in chunks(run):

                def step(txn: Any, run: Sequence[Row] = run, chunk: Sequence[int] = chunk, mine: Any = mine) -> None:
                    self._check(until)
                    put_chunk(txn, run, chunk, mine)
                    raise_high_water(txn, high_water)

                shared.write(step)
            outcomes += mine
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
        return self.compare_and_put_all([(key, sequence, row)], until=until, high_water=high_water, epoch=epoch)[0]

    def compare_and_put_all(
        self,
        changes: Sequence[Change],
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
        epoch: Epoch | None = None,
    ) -> list[bool]:
        shared, done = self._open(), list[bool]()
        for start in range(0, len(changes), CHUNK_ROWS):
            part = changes[start : start + CHUNK_ROWS]

            def swap(txn: Any, part: Sequence[Change] = part) -> list[bool]:
                self._check(until)
                raise_high_water(txn, high_water)
                if epoch is not None and txn.get(epoch[0]) != epoch[1]:
                    return [False] * len(part)
                return [compare_and_set(txn, *change) for change in part]

            done += shared.write(swap)
        return done

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: Epoch | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        wanted = compared(expected, epoch)

        def write(txn: Any) -> bool:
            if any(txn.get(key) != data for key, data in wanted.items()):
                return False
            for key, data in entries.items():
                set_or_delete(txn, key, data)
            raise_high_water(txn, high_water)
            return True

        return self._open().write(write)

    def epoch(self, key: bytes) -> bytes:
        (token,) = self.multi_get([key])
        while not token:
            self.put_meta({key: new_token()}, expected={key: token})
            (token,) = self.multi_get([key])
        return token

    def _check(self, until: int | None) -> None:
        if until is not None and to_micros(self.clock()) > until:
            raise too_late(f"the online store {self._shared.path}")

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
            "bytes": (shared.path / "data.mdb").stat().st_blocks * 512,
            "warnings": "the folder is read-only: reads work, writes fail" if shared.read_only else "",
        }

    def erase_remains(self) -> None:
        """Overwrite what the data file holds of rows that were replaced or removed (see `powers.Erasing`)."""
        self._open().erase_remains()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            release(self._shared)

    def _open(self) -> Environment:
        if self._closed:
            raise was_closed(f"the online store {self._shared.path} was closed")
        return self._shared
