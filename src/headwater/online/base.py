"""What an online store must do: move bytes to keys in batches; it knows no feature, codec or clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from headwater.errors import ConfigError
from headwater.forks import OfOneProcess
from headwater.types import ConsistencyLevel


@dataclass(frozen=True)
class Capabilities:
    """What a store can do beyond the least; the core asks this, never the vendor.

    Attributes:
        levels: the consistency levels it can give. More than one kind of read is a power (`powers.LeveledReads`).
        atomic_meta: whether `put` writes rows and meta in one transaction.
        expiry: whether `put` takes `expires_in`.
        local: whether rows lie on this machine, a call away in microseconds: an event loop may wait for them.
    """

    levels: frozenset[ConsistencyLevel]
    atomic_meta: bool = False
    expiry: bool = False
    local: bool = False


class OnlineStore(OfOneProcess, ABC):
    """Bytes under keys, in batches.

    Rows begin with the header of `headwater.online.codec`; `headwater.online.guard` says when one may replace another.
    Every method is safe to call from several threads; `put` and `compare_and_put` are atomic for each key, also
    between processes.
    """

    capabilities: Capabilities

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """A store of its own for a URL (`lmdb:.headwater/online`); who makes it closes it.

        Args:
            url: with the scheme that the entry point is named by.
            folder: the project's, which relative paths start from.

        Raises:
            ConfigError: a URL of another form.
        """
        raise ConfigError(f"{cls.__name__} cannot be made from a URL ({url!r}): give the store object")

    @abstractmethod
    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The bytes under each key, None where there is none; order and repeats are kept."""

    @abstractmethod
    def put(self, rows: Iterable[tuple[bytes, bytes]], meta: Mapping[bytes, bytes] | None = None) -> list[bool]:
        """Put each row where the guard allows it, in the order given; then write `meta` entries as they are.

        A store that says so in its capabilities has one argument more, `expires_in: int | None = None`: seconds from
        now after which it may drop the rows, those with a D aside; a row put without it loses what it had.

        When it returns, the rows are as durable as the store makes them. When it raises, some of the rows may have
        been put, and `meta` not: to put the same rows again is harmless.

        Returns:
            For each row whether it was applied (False: superseded by what is stored).

        Raises:
            FormatError: a stored row was written by a newer headwater.
        """

    @abstractmethod
    def compare_and_put(self, key: bytes, sequence: int, row: bytes | None) -> bool:
        """Replace the row whose write sequence is `sequence` (0: no row is there) as it is, or remove it (None).

        `codec.emptied` and `codec.replaced` make rows with the next sequence.

        Returns:
            Whether the stored sequence was that one.
        """

    @abstractmethod
    def delete(self, keys: Iterable[bytes]) -> None:
        """Remove keys without a guard; one that is not there is a no-op."""

    @abstractmethod
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every key with a prefix, and its bytes, in the store's own order; rows written meanwhile may be missing."""

    @abstractmethod
    def info(self) -> Mapping[str, str | int]:
        """What `status` shows: kind, place, entries, bytes, warnings."""

    @abstractmethod
    def close(self) -> None:
        """Release clients and files this object opened; closing twice is a no-op."""
