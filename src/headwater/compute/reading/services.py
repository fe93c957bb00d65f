"""What readers use of a store's services: what gets rows, and what refreshes those that are stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from headwater.compute.refreshing.refresh import Refresher
    from headwater.compute.refreshing.requests import RefreshRequests
    from headwater.online.fetching.fetcher import Fetcher


class ReadServices(Protocol):
    """Given to readers by whoever owns them (`headwater.compute.services.Services`)."""

    @property
    def fetcher(self) -> Fetcher:
        """Gets rows."""
        ...

    @property
    def requests(self) -> RefreshRequests:
        """Takes reads whose stale rows are to be refreshed by a worker."""
        ...

    @property
    def refresher(self) -> Refresher:
        """Refreshes stale rows for reads that wait."""
        ...
