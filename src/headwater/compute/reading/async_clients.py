"""Clients of the online store on event loops: one for each loop that reads, which ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from headwater import forks
from headwater.compute.context import StoreContext
from headwater.compute.reading.async_reads import async_reads
from headwater.online.fetching.fetcher import AsyncFetcher
from headwater.online.meta import token_key


class _Client:
    """The client of one event loop, which ends with it.

    A loop that shuts down (as `asyncio.run` does at its end) closes the asynchronous generators that were begun on it:
    so one of them holds the client.
    """

    def __init__(self, fetcher: AsyncFetcher) -> None:
        self.fetcher = fetcher
        self._held = self._hold()
        with suppress(StopIteration):
            self._held.__anext__().send(None)

    async def _hold(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.fetcher.reads.close()

    async def close(self) -> None:
        """End its connections; twice is a no-op."""
        await self._held.aclose()


class AsyncClients(forks.OfOneProcess):
    """The clients of a store object; a child of a fork has none.

    Args:
        context: the store's parts and settings.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._clients: dict[asyncio.AbstractEventLoop, _Client] = {}
        forks.after_fork(self, AsyncClients._in_child)

    def _in_child(self) -> None:
        # to close a client of the parent's event loop would take its sockets from that loop
        forks.abandon(self._clients)
        self._clients = {}

    def fetcher(self) -> AsyncFetcher:
        """What gets rows for reads on the running event loop."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for other in [other for other in self._clients if other.is_closed()]:
                self._clients.pop(other, None)
            client = self._clients[loop] = _Client(self._new())
        return client.fetcher

    def _new(self) -> AsyncFetcher:
        context = self._context
        reads, settings = async_reads(context.online), context.settings.reads
        return AsyncFetcher(reads, settings, lambda: context.store_name, token_key(context.project))

    def existing(self) -> AsyncFetcher | None:
        """What `fetcher` made for the running event loop; None where nothing was read on it."""
        client = self._clients.get(asyncio.get_running_loop())
        return None if client is None else client.fetcher

    async def close(self) -> None:
        """End the clients of every event loop; twice is a no-op."""
        clients, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        for loop, client in clients.items():
            if loop is here:
                await client.close()
            elif loop.is_running():
                # of another thread
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(client.close(), loop))
