"""Services: the one owner of a store object's threads and caches."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headwater import forks
from headwater.compute.context import StoreContext
from headwater.compute.reading.prepared import PreparedReader
from headwater.deferred import deferred
from headwater.forks import lazy
from headwater.interrupts import leaves_nothing
from headwater.online.fetching.fetcher import Fetcher
from headwater.online.meta import token_key
from headwater.planning.snapshot import RegistrySnapshot

if TYPE_CHECKING:
    from headwater.compute.reading import async_clients, async_registry
    from headwater.compute.refreshing import refresh, worker
    from headwater.compute.refreshing import requests as refresh_requests
else:
    # what a process that only serves never needs, or not unless it reads on an event loop
    async_clients = deferred("headwater.compute.reading.async_clients")
    async_registry = deferred("headwater.compute.reading.async_registry")
    refresh = deferred("headwater.compute.refreshing.refresh")
    refresh_requests = deferred("headwater.compute.refreshing.requests")
    worker = deferred("headwater.compute.refreshing.worker")

_PREPARED = 256
"""How many prepared readers are kept for reads that name their features."""


class Services(forks.OfOneProcess):
    """What works beside the calls of one store object; a child of a fork begins with no thread, and the same settings.

    Args:
        context: the store's parts and settings.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._readers: dict[Any, PreparedReader] = {}
        self._lock = forks.lock()
        self._closed = False
        self._flusher: refresh_requests.Flusher | None = None
        self._worker: worker.BackgroundWorker | None = None
        forks.after_fork(self, Services._in_child)

    def _in_child(self) -> None:
        # the threads are the parent's
        self._flusher = self._worker = None

    @lazy
    def fetcher(self) -> Fetcher:
        """Gets rows for reads."""
        context = self._context
        return Fetcher(context.online, context.settings.reads, lambda: context.store_name, token_key(context.project))

    @lazy
    def async_clients(self) -> async_clients.AsyncClients:
        """Get rows for reads on event loops."""
        return async_clients.AsyncClients(self._context)

    @lazy
    def async_registry(self) -> async_registry.AsyncRegistry:
        """The registry for event loops."""
        return async_registry.AsyncRegistry(self._context.registry)

    @property
    def requests(self) -> refresh_requests.RefreshRequests:
        """Takes refresh requests of reads; from the first use on a thread brings them to the queue."""
        if self._flusher is None:
            self._begin()
        return self._requests

    @property
    def refresher(self) -> refresh.Refresher:
        """Refreshes stale rows for reads that wait."""
        if self._flusher is None:
            self._begin()
        return self._refresher

    @lazy
    def _requests(self) -> refresh_requests.RefreshRequests:
        return refresh_requests.RefreshRequests(self._context)

    @lazy
    def _refresher(self) -> refresh.Refresher:
        return refresh.Refresher(self._context, self._requests)

    def _begin(self) -> None:
        """Begin the threads that bring refresh requests to the queue, and work it off where that is configured."""
        requests = self._requests
        with self._lock:
            if self._flusher is not None or self._closed:
                return
            self._flusher = refresh_requests.Flusher(requests)
            if self._context.settings.refreshing.worker:
                self._worker = worker.BackgroundWorker(self._context)

    def flush_requests(self) -> None:
        """Bring the refresh requests that reads have made to the queue now."""
        self._requests.flush()

    @leaves_nothing
    def reader(self, features: Any, full_names: bool | None = None) -> PreparedReader:
        """The reader of some features, which is kept for the next read of the same."""
        key, reader = self._find(features, full_names, self._context.registry.snapshot())
        if reader is None:
            # the read that follows looks whose the store is: one that hangs is waited for once
            reader = PreparedReader(self._context, self, features, full_names=full_names, look=False)
            self._keep(key, reader)
        return reader

    def kept_reader(self, features: Any, full_names: bool | None, snapshot: RegistrySnapshot) -> PreparedReader | None:
        """The reader that is kept for some features of a registry's snapshot; None where none is."""
        return self._find(features, full_names, snapshot)[1]

    def _find(
        self, features: Any, full_names: bool | None, snapshot: RegistrySnapshot
    ) -> tuple[Any, PreparedReader | None]:
        """What the reader of some features is kept under, and the reader."""
        features = tuple(features) if isinstance(features, list) else features
        key = (features, full_names, snapshot.revision)
        try:
            return key, self._readers.get(key)
        except TypeError:  # a set, say, has no hash
            return key, None

    def _keep(self, key: Any, reader: PreparedReader) -> None:
        with suppress(TypeError), self._lock:
            if len(self._readers) >= _PREPARED:
                self._readers.clear()
            self._readers[key] = reader

    async def close_clients(self) -> None:
        """End the clients of event loops; twice is a no-op."""
        if "async_clients" in vars(self):
            await self.async_clients.close()

    def close(self) -> None:
        """End every thread, before the parts are closed; twice is a no-op."""
        with self._lock:
            self._closed = True
            self._readers.clear()
        if "_refresher" in vars(self):
            self._refresher.close()
        flusher, working = self._flusher, self._worker
        self._flusher = self._worker = None
        if flusher is not None:
            flusher.close()
        if working is not None:
            working.close()
