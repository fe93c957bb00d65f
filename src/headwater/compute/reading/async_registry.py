"""The registry on an event loop: read again in time, and never there where its database may be waited for."""

from __future__ import annotations

from headwater.event_loops import LOOKUPS
from headwater.planning.snapshot import RegistrySnapshot
from headwater.registry.reader import REFRESH, RegistryReader

_OLD = 2 * REFRESH.total_seconds()
"""Seconds: what was read longer ago, before a while without requests, does for none of them."""


class AsyncRegistry:
    """A registry as it was read last.

    Args:
        registry: the registry.
    """

    def __init__(self, registry: RegistryReader) -> None:
        self._registry = registry
        self._asking = False

    @property
    def fresh(self) -> RegistrySnapshot | None:
        """As it was read last; None where it has to be read again."""
        return None if self._registry.due else self._registry.latest

    @property
    def latest(self) -> RegistrySnapshot | None:
        """As it was read last, however long ago."""
        return self._registry.latest

    async def snapshot(self) -> RegistrySnapshot:
        """As `RegistryReader.snapshot`; one call waits, on a thread, others go on with what is known, unless it is old.

        Raises:
            StoreError: it was never read, and cannot be.
        """
        known = self._registry.latest
        if known is not None and (not self._registry.due or (self._asking and self._registry.age < _OLD)):
            return known
        self._asking = True
        try:
            return await LOOKUPS.run(self._registry.snapshot)
        finally:
            self._asking = False
