"""Reads with no arguments of their own on an event loop, without a task: where nothing is due but to get the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from headwater.compute.reading.async_clients import AsyncClients
from headwater.compute.reading.async_registry import AsyncRegistry
from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.reading.read_arguments import ReadArguments
from headwater.online.fetching.fetcher import Rows
from headwater.planning.snapshot import RegistrySnapshot

Begin: TypeAlias = Callable[[Sequence[bytes], Callable[[Rows | BaseException], None]], Rows | bool]


class _Services(Protocol):
    @property
    def async_clients(self) -> AsyncClients: ...

    @property
    def async_registry(self) -> AsyncRegistry: ...

    def kept_reader(
        self, features: Any, full_names: bool | None, snapshot: RegistrySnapshot
    ) -> PreparedReader | None: ...


class QuickReads:
    """The steps of such reads: `arguments`, keys by their reader, `begin`, then `ReadArguments.result`.

    A read that needs more, such as a look at the registry, is left to `AsyncPreparedReader.read`, which says what the
    answer is: these steps give the same one, or none.

    Args:
        services: of the store.
    """

    def __init__(self, services: _Services) -> None:
        self._services = services

    @property
    def snapshot(self) -> RegistrySnapshot | None:
        """The registry; None where it has to be read first."""
        return self._services.async_registry.fresh

    @property
    def latest(self) -> RegistrySnapshot | None:
        """The registry as it was read last."""
        return self._services.async_registry.latest

    def arguments(
        self, features: Any, full_names: bool | None, snapshot: RegistrySnapshot | None
    ) -> tuple[PreparedReader, ReadArguments] | None:
        """The reader of some features and the arguments of a read; None where that does more than get its rows.

        Args:
            features: a list of references; a service or its name.
            full_names: as `AsyncFeatureStore.kept_reader`.
            snapshot: the registry.

        Raises:
            ChangeRefused: rows of a version are gone.
        """
        if snapshot is None:
            return None
        reader = self._services.kept_reader(features, full_names, snapshot)
        given = None if reader is None else reader.plain_arguments()
        return None if reader is None or given is None else (reader, given)

    @property
    def begin(self) -> Begin:
        """As `AsyncFetcher.begin`, of the running event loop."""
        return self._services.async_clients.fetcher().begin
