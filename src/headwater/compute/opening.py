"""Opening: the parts of a store object, those that settings name and those that are given; and closing them."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headwater import forks
from headwater.clock import Clock
from headwater.compute.claims import Claims
from headwater.compute.context import Once, StoreContext
from headwater.compute.online_location import OnlineLocation
from headwater.compute.settings import ComputeSettings
from headwater.compute.sources import BoundSources
from headwater.config import Settings, load_settings
from headwater.deferred import deferred
from headwater.errors import ConfigError, was_closed
from headwater.forks import lazy
from headwater.loader import OFFLINE_ENGINES, find_plugin, load_plugin
from headwater.observer import Observer
from headwater.online.base import OnlineStore
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.state_files import STATE, narrow_all
from headwater.urls import without_password

if TYPE_CHECKING:
    from headwater.offline.base import OfflineEngine
    from headwater.offline.log import log as logs
else:
    logs = deferred("headwater.offline.log.log")

T = TypeVar("T")


class StoreParts(forks.OfOneProcess):
    """The parts of one store object: what was given stays the caller's, what was opened here is closed here.

    Args:
        settings: of the project.
        registry: URL or registry; None: as the settings say.
        online: URL or store; None: as the settings say.
        offline: the engine's name, or an engine; None: as the settings say.
        clock: the one clock.
        observer: receives progress.
        log_folder: of the offline log; None: in memory.

    Raises:
        ConfigError, MissingExtra: settings that name no store or engine, or one that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        registry: str | FeatureRegistry | None,
        online: str | OnlineStore | None,
        offline: str | OfflineEngine | None,
        clock: Clock,
        observer: Observer,
        log_folder: Path | None,
    ) -> None:
        self.settings, self.clock, self.observer = settings, clock, observer
        self.sources = BoundSources()
        self._log_folder = log_folder
        self._given_engine = None if isinstance(offline, str) else offline
        self._opened: list[Any] = []
        self._lock = forks.lock()
        self.open_engine, self.open_log = Once(self._open_engine), Once(self._open_log)
        try:
            self.registry = (
                registry
                if isinstance(registry, FeatureRegistry)
                # a look at what is registered, or would be, leaves nothing in the folder: the first write makes it
                else self._own(
                    open_registry(settings.registry_url, settings.folder, settings.project, clock=clock, make=False)
                )
            )
            if self._given_engine is None:
                check_engine(settings)
            if isinstance(online, OnlineStore):
                check_store(type(online))
            self.online = online if isinstance(online, OnlineStore) else self._own(open_online(settings, clock))
            self.online_location = (
                None
                if isinstance(online, OnlineStore)
                else OnlineLocation(settings.online_url, settings.folder.absolute())
            )
        except BaseException:
            self.close()
            raise

    @lazy
    def context(self) -> StoreContext:
        """The parts together; registry and log are made where they are not there yet."""
        registry, online = self.registry, self.online
        registry.make()
        return StoreContext(
            registry.project,
            registry,
            online,
            self.open_engine,
            self.open_log,
            self.clock,
            Claims(registry.project, registry, self.open_log, online),
            self.sources,
            ComputeSettings.of(self.settings),
            self.observer,
            online_location=self.online_location,
        )

    def _open_engine(self) -> OfflineEngine:
        return self._given_engine or self._own(open_engine(self.settings, self.observer))

    def _open_log(self) -> logs.OfflineLog:
        tolerance = self.settings.online_clock_tolerance
        return logs.OfflineLog(self.registry.engine, self._log_folder, self.clock, tolerance)

    @property
    def log_in_memory(self) -> bool:
        """Whether the offline log, and with it the whole store, is gone with this process."""
        return self._log_folder is None

    def _own(self, part: T) -> T:
        with self._lock:
            self._opened.append(part)
        return part

    @property
    def project(self) -> str:
        """The project's name, as far as it is known."""
        return self.registry.project if "registry" in vars(self) else self.settings.project

    def __str__(self) -> str:
        settings = self.settings
        registry, online = without_password(settings.registry_url), without_password(settings.online_url)
        return (
            f"{self.project} in {settings.folder}: registry {registry}, online {online}, "
            f"offline {settings.offline_engine}"
        )

    def close(self) -> None:
        """Close what was opened here; twice is a no-op."""
        with self._lock:
            opened, self._opened = self._opened, []
        with ExitStack() as parts:
            for part in opened:
                parts.callback(part.close)


def open_project(
    path: str | Path,
    registry: str | FeatureRegistry | None,
    online: str | OnlineStore | None,
    offline: str | OfflineEngine | None,
    clock: Clock,
    observer: Observer,
) -> StoreParts:
    """The parts of a project, as its settings and these arguments say.

    Args:
        path: the project's folder, or its `headwater.toml`.
        registry, online, offline, clock, observer: as of `StoreParts`.

    Raises:
        ConfigError, MissingExtra: as of `StoreParts`; also a folder that does not exist.
    """
    settings = load_settings(
        path,
        registry_url=registry if isinstance(registry, str) else None,
        online_url=online if isinstance(online, str) else None,
        offline_engine=offline if isinstance(offline, str) else None,
    )
    # an earlier release left it readable by others
    narrow_all(settings.folder / STATE)
    return StoreParts(settings, registry, online, offline, clock, observer, settings.folder / settings.offline_log)


def open_online(settings: Settings, clock: Clock) -> OnlineStore:
    """The online store that the settings' URL names; who asks closes it.

    Raises:
        ConfigError, MissingExtra: as `load_plugin` says, or a URL that the store cannot read.
    """
    location = OnlineLocation(settings.online_url, settings.folder)
    check_store(location.kind)
    store = location.open()
    store.clock = clock
    return store


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
        ConfigError, MissingExtra: as `load_plugin` says; a setting of `[offline.ENGINE]` that the engine does not have.
    """
    kind: type[OfflineEngine] = load_plugin(OFFLINE_ENGINES, settings.offline_engine)
    own = settings.offline_settings.get(settings.offline_engine, {})
    both = {"memory_limit": settings.offline_memory_limit, "threads": settings.offline_threads, **own}
    return kind.open(settings.folder, {name: value for name, value in both.items() if value is not None}, observer)


def check_engine(settings: Settings) -> None:
    """Refuse settings that name no engine; it is not opened, nor imported.

    Raises:
        ConfigError: as `open_engine` says.
    """
    find_plugin(OFFLINE_ENGINES, settings.offline_engine)


class Closed:
    """Stands in for the parts of a store that was closed: whatever is asked of them is refused.

    Args:
        project: the store's, for the error.
    """

    def __init__(self, project: str) -> None:
        self.project = project

    def __getattr__(self, name: str) -> Any:
        raise was_closed(f"this FeatureStore of {self.project!r} was closed: open another, or use it within `with`")

    def __str__(self) -> str:
        return f"{self.project}: closed"

    def close(self) -> None:
        """It is closed."""
