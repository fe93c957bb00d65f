"""Opening: the online store and the offline engine that settings name; what stands for them once they are closed."""

from __future__ import annotations

from typing import Any

from headwater.config import Settings
from headwater.errors import Unavailable
from headwater.loader import OFFLINE_ENGINES, ONLINE_STORES, load_plugin
from headwater.observer import Observer
from headwater.offline.base import OfflineEngine
from headwater.online.base import OnlineStore


def open_online(settings: Settings) -> OnlineStore:
    """The online store that the settings' URL names; who asks closes it.

    Raises:
        ConfigError, MissingExtra: as `load_plugin` says, or a URL that the store cannot read.
    """
    found: type[OnlineStore] = load_plugin(ONLINE_STORES, settings.online_url.partition(":")[0])
    return found.from_url(settings.online_url, settings.folder)


def open_engine(settings: Settings, observer: Observer) -> OfflineEngine:
    """The offline engine that the settings name; who asks closes it.

    Raises:
        ConfigError, MissingExtra: as `load_plugin` says.
    """
    engine: OfflineEngine = load_plugin(OFFLINE_ENGINES, settings.offline_engine)(
        settings.folder,
        memory_limit=settings.offline_memory_limit,
        threads=settings.offline_threads,
        observer=observer,
    )
    return engine


class Closed:
    """Stands in for the parts of a store that was closed: whatever is asked of them is refused.

    Args:
        what: the store, for the error.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        raise Unavailable(f"{self._what} was closed: open another, or use it within `with`")
