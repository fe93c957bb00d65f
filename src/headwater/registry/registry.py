"""FeatureRegistry: the registry as it is written, one revision a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.clock import Clock, system_clock, to_micros
from headwater.database.database import Database
from headwater.deferred import deferred
from headwater.errors import RegistryConflict, RegistryError, UsageError, brief
from headwater.planning.snapshot import ModelVersion, RegistrySnapshot
from headwater.planning.watermark import Watermark
from headwater.registry.migrations import migrate
from headwater.registry.reader import REFRESH, RegistryReader

if TYPE_CHECKING:
    from headwater.planning.plan import Plan
    from headwater.planning.stages import Stage
    from headwater.registry import api_keys, models, writes
else:
    api_keys = deferred("headwater.registry.api_keys")
    models = deferred("headwater.registry.models")
    writes = deferred("headwater.registry.writes")


def open_registry(
    url: str,
    folder: Path,
    project: str,
    *,
    clock: Clock = system_clock,
    refresh: timedelta = REFRESH,
    make: bool = True,
) -> FeatureRegistry:
    """Open the registry of a project; `close` it in the end.

    Args:
        url: an SQLAlchemy URL; a relative SQLite path is relative to `folder`; `sqlite://` lives in memory.
        folder: the project's folder.
        project: the project's name; empty: the one that the registry has, else the folder's, which it then keeps.
        clock: what a migration notes as its time.
        refresh: how long a snapshot is used before it is looked at again.
        make: make it now where it is not there yet; else with the first write, and until then it is empty.

    Raises:
        ConfigError: a URL that cannot be read.
        RegistryError: the registry is that of another project.
        StoreReadOnly, Unavailable, FormatError: what the database said.
    """
    folder_name = folder.resolve().name or "headwater"
    database = Database(url, folder)
    return FeatureRegistry(database, project, folder_name=folder_name, clock=clock, refresh=refresh, make=make)


def rename_project(url: str, folder: Path, name: str, *, clock: Clock = system_clock) -> str:
    """Give the project of a registry another name; what it was called before.

    Keys in online stores begin with the name: versions are filled again under the new one by the next run, and rows
    under the old one stay until they are removed there. Open stores keep the old name: stop them first.

    Raises:
        UsageError: no name that keys can begin with.
        RegistryError: there is no registry yet.
    """
    if not name or name != name.strip() or not name.isprintable():
        raise UsageError(f"{brief(name)} is not a valid name: use one without control characters or surrounding spaces")
    database = Database(url, folder)
    try:
        if not database.exists():
            raise RegistryError(
                f"registry {database.place} does not exist yet: set project = {name!r} in headwater.toml, then apply"
            )
        registry = FeatureRegistry(database, "", folder_name=name, clock=clock)
        writes.rename(database, name)
        return registry.project
    finally:
        database.close()


class FeatureRegistry(RegistryReader):
    """A registry that can be written.

    Args:
        database: its database; `close` closes it.
        project: the project's name; a registry belongs to one project. Empty: the name that it has, and keeps whatever
            its folder is called later.
        folder_name: the name of a registry that has none yet, where `project` is empty.
        clock: what a migration notes as its time.
        refresh: how long a snapshot is used before it is looked at again.
        make: make its tables now where there are none; else with the first write.
    """

    def __init__(
        self,
        database: Database,
        project: str,
        *,
        folder_name: str = "headwater",
        clock: Clock = system_clock,
        refresh: timedelta = REFRESH,
        make: bool = True,
    ) -> None:
        super().__init__(database, project or folder_name, refresh=refresh)
        self._named = bool(project)
        self._clock = clock
        self._made: int | None = None
        """The generation of the database's file whose tables were made, or were there."""
        if make or database.exists():
            self.make()

    @property
    def api_keys(self) -> api_keys.APIKeys:
        """The API keys of this project's servers; the tables are made where there are none."""
        self.make()
        return api_keys.APIKeys(self.engine, self._clock)

    def make(self) -> None:
        """Make the database's tables where there are none; every write does so first.

        Raises:
            RegistryError: the registry is that of another project.
            StoreReadOnly, Unavailable, FormatError: what the database said.
        """
        with self._lock:
            if self._made is not None and self._made == self.database.generation:
                return
            before = self._made
            self.database.make_folder()
            migrate(self.database, to_micros(self._clock()))
            self._made = self.database.generation
            try:
                owner = self.setting("project") or self.get_or_set("project", self.project)
                if (self._named or before is not None) and owner != self.project:
                    raise RegistryError(
                        f"registry {self.database.place}: belongs to project {owner!r}, not {self.project!r}; give "
                        f"each project a database of its own ([registry] url), or set project = {owner!r} in "
                        f"headwater.toml; to call this one {self.project!r} from now on, run: "
                        f"headwater rename-project {self.project}"
                    )
                self.project = owner
            except BaseException:
                self._made = before
                raise

    def _is_there(self) -> bool:
        if self._made is not None or self.database.exists():
            self.make()  # somebody else made it meanwhile, or replaced it
        return self._made is not None

    def apply(self, plan: Plan, *, now: datetime, log_head: int = 0, who: str = "") -> RegistrySnapshot:
        """Run a plan's stages in one transaction: all of it or nothing; a plan of none is a no-op.

        Args:
            plan: made on this registry.
            now: UTC; what the new and changed versions have as their time.
            log_head: the offline log's head, which new versions remember.
            who: for the change log.

        Returns:
            The registry after it.

        Raises:
            RegistryConflict: the registry was changed since the plan was made; nothing was changed by this one.
            StoreReadOnly, StorageFull, Unavailable: what the database said.
        """
        if not plan.stages:
            return self.refresh()
        return self.commit(plan.stages, plan.revision, now=now, log_head=log_head, who=who, what="apply")

    def commit(
        self, stages: Iterable[Stage], revision: int, *, now: datetime, what: str, log_head: int = 0, who: str = ""
    ) -> RegistrySnapshot:
        """Run stages that were planned on a revision, in one transaction.

        Raises:
            RegistryConflict: the registry is at another revision.
        """
        self.make()
        stages = tuple(stages)
        written = writes.commit(self, stages, revision, now=now, what=what, log_head=log_head, who=who)
        if not written:
            raise RegistryConflict.since(f"registry {self.database.place}", revision)
        return self.refresh()

    def log_model(
        self,
        name: str,
        service: tuple[str, str],
        *,
        uri: str,
        training_set: str | None,
        now: datetime,
        who: str = "",
    ) -> ModelVersion:
        """Register a model as the next version of its name, with the version of the service that it takes.

        Args:
            name: the model's.
            service: name and version of the service.
            uri: where the model is.
            training_set: `name@version` of what it was trained on; None: not known.
            now: when it was logged (UTC).
            who: for the change log.

        Raises:
            StoreReadOnly, StorageFull, Unavailable: what the database said.
        """
        self.make()
        made = models.add_model(self, name, service, uri=uri, training_set=training_set, now=now, who=who)
        self.refresh()
        return made

    def get_or_set(self, name: str, value: str | None = None) -> str:
        """A setting's value, stored once and for all by whoever asks first.

        Args:
            name: at most 64 letters.
            value: what is stored where there is none yet; left out, a new random id.
        """
        self.make()
        found = self.setting(name)
        if found is not None:
            return found
        return writes.set_once(self.database, name, value)

    def change_setting(self, name: str, change: Callable[[str], str]) -> None:
        """Give a setting that is there another value.

        Args:
            name: its name.
            change: makes it of the one that it has; of several at once each sees the last.
        """
        self.make()
        writes.change_setting(self.database, name, change)

    def record_watermarks(
        self, marks: Mapping[tuple[str, str], Watermark], *, now: datetime, rows: int = 0, took: timedelta = timedelta()
    ) -> None:
        """Note how far versions are materialized, as the online store has it; no revision is taken.

        Args:
            marks: (view, version) → how far.
            now: when (aware).
            rows, took: what the run looked at that brought them there, and how long it took; a run without rows leaves
                the note of the one before.
        """
        if not marks:
            return
        self.make()
        writes.record_watermarks(self.database, marks, now=now, rows=rows, took=took)

    def close(self) -> None:
        """Close the database's connections."""
        self.database.close()

    def __repr__(self) -> str:
        known = self.latest
        held = "not read yet" if known is None else f"revision {known.revision}, {counted(known)}"
        return f"<FeatureRegistry {self.project} ({self.database.place}): {held}>"


def counted(snapshot: RegistrySnapshot) -> str:
    """How many views, services and entities are registered: `2 views, 1 service, 1 entity`."""
    kinds = (("view", "views"), ("service", "services"), ("entity", "entities"))
    sizes = (len(snapshot.views), len(snapshot.services), len(snapshot.entities))
    return ", ".join(f"{size} {one if size == 1 else many}" for size, (one, many) in zip(sizes, kinds, strict=True))
