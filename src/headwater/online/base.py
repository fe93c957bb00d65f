"""What an online store must do: move bytes to keys in batches; it knows no feature and no codec."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Self

from headwater.clock import Clock, system_clock
from headwater.errors import ConfigError, Unavailable
from headwater.forks import OfOneProcess
from headwater.types import ConsistencyLevel
from headwater.urls import without_password
from headwater.values import Value


class PutOutcome(IntEnum):
    """What a put did with a row.

    Attributes:
        SUPERSEDED: what is stored is greater, or a delete hides the row; nothing changed.
        APPLIED: the row is stored.
        TIE: a source row of the same times with other values is stored; nothing changed, the source decides.
        TOO_LARGE: the row is larger than the store takes (`Capabilities.max_row_bytes`); nothing changed.
    """

    SUPERSEDED = 0
    APPLIED = 1
    TIE = 2
    TOO_LARGE = 3


Row = tuple[bytes, bytes]
"""A stored key and its packed row."""

Change = tuple[bytes, int, bytes | None]
"""A stored key, the write sequence that its row must have, and what is to replace it (None: nothing)."""

HighWater = tuple[bytes, int]
"""A meta key, and the number that is kept under it (8 bytes, big-endian) at least."""

Epoch = tuple[bytes, bytes]
"""A meta key, and what `OnlineStore.epoch` gave of it."""


class Capabilities(Value, frozen=True):
    """What a store can do beyond the least; the core asks this, never the vendor.

    Attributes:
        levels: the consistency levels it can give. More than one kind of read is a power (`powers.LeveledReads`).
        expiry: whether it drops rows at `expires_in`; a store without expiry keeps them.
        local: whether rows are on this machine, a call away in microseconds: an event loop may wait for them.
        shared: whether another process that opens the same URL sees the same rows.
        max_row_bytes: the longest row that it takes, whatever its key; None: as long as there is room. Longer ones are
            named, counted and never put.
        max_key_bytes: the longest key that it takes; None: all (they have at most `keys.LONGEST` bytes).
        windows: whether it keeps the rows of window views: `compare_and_put` knows their sequence, and holds within an
            epoch; one entry tells how far all rows of a version are filled.
        product: what messages call the store; empty: its class's name.
    """

    levels: frozenset[ConsistencyLevel]
    expiry: bool = False
    local: bool = False
    shared: bool = True
    max_row_bytes: int | None = None
    max_key_bytes: int | None = None
    windows: bool = False
    product: str = ""

    def takes(self, key: bytes, row: bytes) -> bool:
        """Whether a row is within the limits."""
        return (self.max_row_bytes is None or len(row) <= self.max_row_bytes) and (
            self.max_key_bytes is None or len(key) <= self.max_key_bytes
        )


class OnlineStore(OfOneProcess, ABC):
    """Bytes under keys, in batches.

    Rows begin with the header of `headwater.online.rows.codec`; `headwater.online.guard` says when one may replace
    another.
    Every method is safe to call from several threads; `put`, `compare_and_put` and `put_meta` are atomic for each key,
    also between processes.

    Attributes:
        clock: what `until` is compared with, UTC; the feature store sets its own where it makes a store from a URL.
    """

    capabilities: Capabilities
    clock: Clock = staticmethod(system_clock)

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """Open a store by its URL (`lmdb:.headwater/online`); the caller closes it.

        Args:
            url: the URL; its scheme is the name of the store's entry point.
            folder: the project's folder, at which relative paths start.

        Returns:
            The store.

        Raises:
            ConfigError: the URL is not valid for this store.
        """
        raise ConfigError(
            f"{cls.__name__} cannot be created from a URL ({without_password(url)!r}): give the store object"
        )

    @abstractmethod
    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Read the bytes stored under keys.

        Args:
            keys: any number of keys; repeats are allowed.

        Returns:
            For each key, in order, its bytes, or None if there are none.
        """

    @abstractmethod
    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        """Put each row where the guard allows it, in the order given.

        When it returns, the rows are as durable as the store makes them. When it raises, some of the rows may have
        been put: to put the same rows again is harmless.

        Args:
            rows: keys and rows.
            until: microseconds by `clock`: what reaches the store later is not applied. Compared in the very step that
                applies a row, so that a put which was held up never undoes what came after it. None: no bound.
            expires_in: seconds from now after which the store may drop the rows, those with a tombstone aside; a row
                put without it never expires. A store without expiry ignores it.
            high_water: the number under its key is raised to at least this in the same step as the rows.

        Returns:
            For each row what became of it.

        Raises:
            FormatError: a stored row was written by a newer headwater.
            Unavailable: the store cannot be reached, or `until` is over.
        """

    @abstractmethod
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
        """Replace the row whose write sequence is `sequence` (0: no row is there) as it is, or remove it (None).

        `codec.emptied`, `codec.replaced` and `guard.deleted_row` make rows with a sequence of their own; the row never
        expires.

        Args:
            key: what it is stored under.
            sequence: `codec.sequence_of` what was read.
            row: what to store.
            until: as in `put`.
            high_water: as in `put`; raised also where the sequence is another.
            epoch: as in `put_meta`, compared in the step that replaces the row: of a store of several parts that part
                which has the key. Where nothing can be lost but with the whole store it may be compared just before.

        Returns:
            Whether the stored sequence, and the epoch, was that one.

        Raises:
            FormatError: what is stored was written by a newer headwater.
            Unavailable: the store cannot be reached, or `until` is over.
        """

    def compare_and_put_all(
        self,
        changes: Sequence[Change],
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
        epoch: Epoch | None = None,
    ) -> list[bool]:
        """`compare_and_put` of many keys, each for itself; a store that can do many at once does better than this.

        Args:
            changes: key, sequence and row of each, as `compare_and_put` takes them; no key is there twice.
            until: as in `put`.
            high_water: as in `put`.
            epoch: as in `compare_and_put`.

        Returns:
            For each whether the stored sequence, and the epoch, was the one given.
        """
        return [self.compare_and_put(*change, until=until, high_water=high_water, epoch=epoch) for change in changes]

    @abstractmethod
    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: Epoch | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        """Write meta entries (keys of `keys.META_PREFIX`) as they are, None removes one: all of them, or none.

        Args:
            entries: key → bytes.
            expected: key → the bytes that must be there (None: nothing).
            epoch: a key and what `epoch(key)` gave: it must be the same still. Compared in the step that writes.
            high_water: as in `put`; raised where the entries are written.

        Returns:
            Whether everything was as expected; else nothing was written.
        """

    @abstractmethod
    def epoch(self, key: bytes) -> bytes:
        """Which life of the store this is: the token under a meta key, put there where there is none.

        A store that can lose rows without losing the token (a failover to a replica that lags) adds what tells of it.
        Rows put, and a watermark written, under one epoch are there together or were lost together.

        Args:
            key: the meta key that holds the token.

        Returns:
            The token; it is created if there is none.
        """

    @abstractmethod
    def delete(self, keys: Iterable[bytes]) -> None:
        """Remove keys without a guard.

        Args:
            keys: the keys; one that does not exist is ignored.
        """

    @abstractmethod
    def scan(self, prefix: bytes) -> Iterator[Row]:
        """Read every key with a prefix.

        Args:
            prefix: the first bytes of the keys; empty for all.

        Returns:
            Keys with their bytes, in the store's own order; rows written during the scan may be missing.
        """

    @abstractmethod
    def info(self) -> Mapping[str, str | int]:
        """Facts about the store for `status`.

        Returns:
            kind, place, entries, bytes and warnings.
        """

    def not_erased(self) -> Sequence[str]:
        """What may still hold removed rows and must be erased by the operator (snapshots, replicas).

        Returns:
            A sentence for each; empty if there is nothing.
        """
        return ()

    def close(self) -> None:
        """Release clients and files this object opened; closing twice is a no-op."""


def new_token() -> bytes:
    """A token for a store's epoch that no other has."""
    return os.urandom(16)


def too_late(where: str) -> Unavailable:
    """The error for what reaches a store after its `until`."""
    return Unavailable(
        f"{where}: the write took too long and was not applied; run it again (the next materialize puts online what "
        "is in the offline log)"
    )


def compared(expected: Mapping[bytes, bytes | None] | None, epoch: Epoch | None) -> dict[bytes, bytes | None]:
    """What must be there for `put_meta`, of a store whose epoch is the token under its key and nothing else."""
    return dict(expected or {}) | (dict([epoch]) if epoch is not None else {})


def raised(stored: bytes | None, number: int) -> bytes | None:
    """What to store under the key of a high-water mark; None where it is that high already."""
    if stored is not None and len(stored) == 8 and int.from_bytes(stored, "big") >= number:
        return None
    return number.to_bytes(8, "big")
