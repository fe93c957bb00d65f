"""Opening: the online store and the offline engine that settings name; what stands for them once they are closed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from headwater.clock import Clock
from headwater.config import Settings
from headwater.errors import ConfigError, was_closed
from headwater.loader import OFFLINE_ENGINES, ONLINE_STORES, find_plugin, load_plugin
from headwater.observer import Observer
from headwater.online.base import OnlineStore
from headwater.urls import scheme_of

if TYPE_CHECKING:
    from headwater.offline.base import OfflineEngine


def open_online(settings: Settings, clock: Clock) -> OnlineStore:
    """The online store that the settings' URL names; who asks closes it.

    Raises:
        ConfigError, MissingExtra: as `load_plugin` says, or a URL that the store cannot read.
    """
    kind = _kind_of(settings.online_url)
    check_store(kind)
    store = kind.from_url(settings.online_url, settings.folder)
    store.clock = clock
    return store


def _kind_of(url: str) -> type[OnlineStore]:
    """The class of the store that a URL names."""
    scheme = scheme_of(url)
    if scheme:
        try:
            kind: type[OnlineStore] = load_plugin(ONLINE_STORES, scheme)
            return kind
        except ConfigError:
            # what looks like a scheme may be a user, or the first part of a password
            if "@" not in url or url[len(scheme) :].startswith("://"):
                raise
    raise ConfigError("[online] url: is not a URL such as lmdb:.headwater/online or redis://host:6379/0")


def check_store(kind: type[OnlineStore]) -> None:
    """Refuse a store that was written for an earlier headwater.

    Raises:
        ConfigError: naming every method and argument that it lacks.
    """
    lacking = [f"{name}()" for name in sorted(getattr(kind, "__abstractmethods__", ()))]
    for name in ("put", "compare_and_put", "put_meta"):
        if f"{name}()" in lacking:
            continue
        wanted = inspect.signature(getattr(OnlineStore, name)).parameters
        has = inspect.signature(getattr(kind, name)).parameters
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in has.values()):
            continue
        missing = [argument for argument in wanted if argument not in has]
        if missing:
            lacking.append(f"the argument{'s' if len(missing) > 1 else ''} {', '.join(missing)} of {name}()")
    if lacking:
        raise ConfigError(
            f"online store {kind.__module__}.{kind.__qualname__} was written for an earlier headwater: it lacks "
            f"{', '.join(lacking)}; headwater.online.base.OnlineStore says what each does, and headwater.testing has "
            "the suite that proves a store"
        )


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


def check_engine(settings: Settings) -> None:
    """Refuse settings that name no engine; it is not opened, nor imported.

    Raises:
        ConfigError: as `open_engine` says.
    """
    find_plugin(OFFLINE_ENGINES, settings.offline_engine)


class Closed:
    """Stands in for the parts of a store that was closed: whatever is asked of them is refused.

    Args:
        what: the store, for the error.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        raise was_closed(f"{self._what} was closed: open another, or use it within `with`")
