"""The registry as one immutable value: what every plan is made from."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from headwater.definitions.entity import Entity
from headwater.errors import (
    EntityNotFound,
    FeatureServiceNotFound,
    FeatureViewNotFound,
    NotFound,
    VersionNotFound,
    brief,
    listing,
    nearest,
)
from headwater.forks import lazy
from headwater.planning.key_forms import KeyForm, key_form
from headwater.planning.selections import PinnedSelection, Upstream
from headwater.planning.versions import OnDemandVersion, ServiceVersion, ViewVersion, version_key
from headwater.values import Value

__all__ = [
    "AnyRecord",
    "AnyVersion",
    "AnyViewRecord",
    "AnyViewVersion",
    "Kind",
    "ModelVersion",
    "OnDemandRecord",
    "OnDemandVersion",
    "RegistrySnapshot",
    "ServiceRecord",
    "ServiceVersion",
    "ViewRecord",
    "ViewVersion",
    "version_key",
]


class Kind(enum.StrEnum):
    """What is registered."""

    ENTITY = "entity"
    VIEW = "view"
    ON_DEMAND = "on_demand"
    SERVICE = "service"

    @property
    def words(self) -> str:
        """As messages write it: `feature view`."""
        if self is Kind.ON_DEMAND:
            return "on-demand feature view"
        return "entity" if self is Kind.ENTITY else f"feature {self}"


V = TypeVar("V", ViewVersion, OnDemandVersion, ServiceVersion)


def _named(where: str, version: str | None, live: str | None, versions: Mapping[str, Any]) -> str:
    """The version that is meant: the live one, unless another is named; an empty name is not a version.

    Raises:
        VersionNotFound: there is no such version.
    """
    if version is None and live is None:
        active = [number for number, found in versions.items() if found.retired_at is None]
        way = f"name one of {', '.join(active)}, or apply it again" if active else "apply it again"
        raise VersionNotFound(f"{where} was removed, no version is live: {way}")
    wanted = live if version is None else version
    if not isinstance(wanted, str) or wanted not in versions:
        raise VersionNotFound(f"{where} has no version {brief(wanted)}; it has {listing(versions)}")
    return wanted


def _active(versions: Mapping[str, V]) -> tuple[V, ...]:
    alive = [v for v in versions.values() if v.retired_at is None]
    return tuple(sorted(alive, key=lambda v: version_key(v.version)))


class _Record:
    """What a view's record and a service's have in common."""

    versions: Mapping[str, Any]
    live: str | None
    previous: str | None
    waiting: str | None

    def state(self, version: str) -> str:
        """What a version is now.

        `live`, `pending` (goes live by itself once materialized as far), `previous` (to roll back to), `inactive` for
        reads by name, or `retired`.
        """
        if self.versions[version].retired_at is not None:
            return "retired"
        named = {self.live: "live", self.waiting: "pending", self.previous: "previous"}
        return named.get(version, "inactive")


class ViewRecord(_Record, Value, frozen=True, dict=True):
    """All versions of a view.

    Attributes:
        name: the view.
        versions: every version ever applied, retired ones too.
        live: the live version; None where the view was removed.
        previous: the version that was live before it.
        waiting: the version that goes live by itself once it is materialized as far as the live one.
        written: whether rows are given to `write`, or were: those that lack a column of a version are not in it.
    """

    name: str
    versions: Mapping[str, ViewVersion]
    live: str | None
    previous: str | None = None
    waiting: str | None = None
    written: bool = False

    def version(self, version: str | None = None) -> ViewVersion:
        """A version, the live one by default.

        Raises:
            VersionNotFound: naming the versions there are.
        """
        return self.versions[_named(f"feature view {self.name!r}", version, self.live, self.versions)]

    @lazy
    def key_forms(self) -> frozenset[KeyForm]:
        """The forms of the join keys of every version."""
        return frozenset(key_form(version.view) for version in self.versions.values())

    @property
    def active(self) -> tuple[ViewVersion, ...]:
        """The versions not retired, oldest first."""
        return _active(self.versions)


class OnDemandRecord(_Record, Value, frozen=True):
    """All versions of an on-demand feature view; its pointers are those of `ViewRecord`."""

    name: str
    versions: Mapping[str, OnDemandVersion]
    live: str | None
    previous: str | None = None
    waiting: str | None = None

    @property
    def written(self) -> bool:
        """False: it has no rows."""
        return False

    def version(self, version: str | None = None) -> OnDemandVersion:
        """A version, the live one by default.

        Raises:
            VersionNotFound: naming the versions there are.
        """
        return self.versions[_named(f"on-demand feature view {self.name!r}", version, self.live, self.versions)]

    @property
    def active(self) -> tuple[OnDemandVersion, ...]:
        """The versions not retired, oldest first."""
        return _active(self.versions)


class ServiceRecord(_Record, Value, frozen=True):
    """All versions of a service; its pointers are those of `ViewRecord`."""

    name: str
    versions: Mapping[str, ServiceVersion]
    live: str | None
    previous: str | None = None
    waiting: str | None = None

    def version(self, version: str | None = None) -> ServiceVersion:
        """A version, the live one by default.

        Raises:
            VersionNotFound: naming the versions there are.
        """
        return self.versions[_named(f"feature service {self.name!r}", version, self.live, self.versions)]

    @property
    def active(self) -> tuple[ServiceVersion, ...]:
        """The versions not retired, oldest first."""
        return _active(self.versions)


class ModelVersion(Value, frozen=True):
    """A model as it was logged.

    Attributes:
        name, version: the model's; versions are numbered from 1.
        service, service_version: what it takes.
        uri: where the model is.
        training_set: `name@version` of what it was trained on, where that is known.
        logged_at: when (UTC).
    """

    name: str
    version: int
    service: str
    service_version: str
    uri: str
    training_set: str | None
    logged_at: datetime


class RegistrySnapshot(Value, frozen=True):
    """Everything that is registered, at one revision."""

    project: str
    revision: int = 0
    entities: Mapping[str, Entity] = msgspec.field(default_factory=dict)
    views: Mapping[str, ViewRecord] = msgspec.field(default_factory=dict)
    services: Mapping[str, ServiceRecord] = msgspec.field(default_factory=dict)
    on_demand: Mapping[str, OnDemandRecord] = msgspec.field(default_factory=dict)
    models: Mapping[str, Mapping[int, ModelVersion]] = msgspec.field(default_factory=dict)

    def model(self, name: str, version: int | None = None) -> ModelVersion:
        """A model that was logged, the newest version by default.

        Raises:
            NotFound: nobody logged it, with the nearest name.
            VersionNotFound: naming the versions there are.
        """
        found = self.models.get(name)
        if not found:
            there = f"; logged models: {listing(self.models)}" if self.models else "; hw.mlflow.log_model logs one"
            raise NotFound(f"no model {brief(name)} was logged{nearest(name, self.models)}{there}")
        wanted = max(found) if version is None else version
        if wanted not in found:
            raise VersionNotFound(f"model {name!r} has no version {wanted}; it has {listing(sorted(found))}")
        return found[wanted]

    def any_view(self, name: str) -> ViewRecord | OnDemandRecord:
        """The record of a view or an on-demand view.

        Raises:
            FeatureViewNotFound: with the nearest name.
        """
        found = self.on_demand.get(name) if isinstance(name, str) else None
        return self.view(name) if found is None else found

    def linked(self, selections: Iterable[PinnedSelection]) -> Upstream:
        """The versions that a reader of some selections was made from.

        Raises:
            NotFound: there is no such view or version.
        """
        return {(s.view, s.version): self.any_view(s.view).version(s.version) for s in selections}

    def entity(self, name: str) -> Entity:
        """An entity.

        Raises:
            EntityNotFound: with the nearest name.
        """
        if not isinstance(name, str) or name not in self.entities:
            view = f", it is a feature view ('headwater delete {name}' deletes from it alone)"
            named = view if isinstance(name, str) and name in self.views else nearest(name, self.entities)
            raise EntityNotFound(f"no entity {brief(name)}{named}{_registered('entities', self.entities)}")
        return self.entities[name]

    def view(self, name: str) -> ViewRecord:
        """The record of a view.

        Raises:
            FeatureViewNotFound: with the nearest name.
        """
        if not isinstance(name, str) or name not in self.views:
            raise FeatureViewNotFound(
                f"no feature view {brief(name)}{self._meant(name) or nearest(name, [*self.views, *self.on_demand])}"
                f"{_registered('views', [*self.views, *self.on_demand])}"
            )
        return self.views[name]

    def _meant(self, name: object) -> str:
        """What a name that no view has names instead; nothing where that is unknown."""
        if not isinstance(name, str):
            own = getattr(name, "name", None)
            return f"; give its name, {own!r}" if isinstance(own, str) and own in self.views else ""
        if name in self.on_demand:
            return f"; {name!r} is an on-demand feature view, which has no rows of its own"
        if name in self.services:
            return f"; {name!r} is a feature service"
        if name in self.entities:
            return f"; {name!r} is an entity"
        view, colon, feature = name.partition(":")
        if colon and view.partition("@")[0] in {*self.views, *self.on_demand}:
            return f"; give the view alone, {view!r}, without the feature {brief(feature)}"
        return self.holders(name)

    def holders(self, feature: str) -> str:
        """The hint for a feature's name alone: which views have it, and how it is written; nothing where none has."""
        records: list[ViewRecord | OnDemandRecord] = [*self.views.values(), *self.on_demand.values()]
        views = [r.name for r in records if r.live is not None and feature in r.version().view.features_by_name]
        if not views:
            return ""
        return f"; feature {feature!r} is in view {listing(views)}: as a feature write '{views[0]}:{feature}'"

    def service(self, name: str) -> ServiceRecord:
        """The record of a service.

        Raises:
            FeatureServiceNotFound: with the nearest name.
        """
        if not isinstance(name, str) or name not in self.services:
            hint = self.holders(name) if isinstance(name, str) else ""
            hint = hint or nearest(name, self.services)
            raise FeatureServiceNotFound(
                f"no feature service {brief(name)}{hint}{_registered('services', self.services)}"
            )
        return self.services[name]


def _registered(kind: str, names: Iterable[str]) -> str:
    return f"; registered {kind}: {listing(names)}" if names else f"; no {kind} are registered: run `headwater apply`"


AnyRecord = ViewRecord | OnDemandRecord | ServiceRecord
AnyVersion = ViewVersion | OnDemandVersion | ServiceVersion
AnyViewRecord = ViewRecord | OnDemandRecord
AnyViewVersion = ViewVersion | OnDemandVersion
