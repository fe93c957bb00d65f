"""Opening: the online store and the offline engine that settings name."""

from __future__ import annotations

from headwater.config import Settings
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
