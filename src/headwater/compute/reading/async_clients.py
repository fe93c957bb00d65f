"""Clients of the online store on event loops: one for each loop that reads, which ends with it."""

from __future__ import annotations

from headwater import forks
from headwater.compute.context import StoreContext
from headwater.compute.reading.async_reads import async_reads
from headwater.event_loops import PerLoop
from headwater.online.fetching.fetcher import AsyncFetcher
from headwater.online.meta import token_key


class AsyncClients(forks.OfOneProcess):
    """The clients of a store object; a child of a fork has none.

    Args:
        context: the store's parts and settings.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._clients: PerLoop[AsyncFetcher] = PerLoop(self._new, lambda fetcher: fetcher.reads.close())

    def fetcher(self) -> AsyncFetcher:
        """What gets rows for reads on the running event loop."""
        return self._clients.get()

    def _new(self) -> AsyncFetcher:
        context = self._context
        reads, settings = async_reads(context.online), context.settings.reads
        local = context.online.capabilities.local
        return AsyncFetcher(reads, settings, lambda: context.store_name, token_key(context.project), local)

    def existing(self) -> AsyncFetcher | None:
        """What `fetcher` made for the running event loop; None where nothing was read on it."""
        return self._clients.existing()

    async def close(self) -> None:
        """End the clients of every event loop; twice is a no-op."""
        await self._clients.close()
