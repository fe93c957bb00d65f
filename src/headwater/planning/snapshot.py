"""The registry as one immutable value: what every plan is made from."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headwater.deferred import deferred
from headwater.definitions.entity import Entity
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import view_tables
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
from headwater.values import Value

if TYPE_CHECKING:
    from headwater.definitions import fingerprint as fingerprints
    from headwater.definitions.on_demand import OnDemandFeatureView, RequestField
    from headwater.planning import on_demand_meaning
    from headwater.planning.windows import layout as window_layouts
    from headwater.types import DType
else:
    fingerprints = deferred("headwater.definitions.fingerprint")
    on_demand_meaning = deferred("headwater.planning.on_demand_meaning")
    window_layouts = deferred("headwater.planning.windows.layout")


def version_key(version: str) -> tuple[int, ...]:
    """Versions in order: 1.10.0 after 1.9.0."""
    return tuple(int(part) for part in version.split("."))


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


class PinnedSelection(Value, frozen=True):
    """Features of one view version as a service or another view reads them: expanded, in order.

    The version is the one that the reader was made from: its columns are those that the reader has for ever. Which
    version is read for them is said by `reads`.
    """

    view: str
    version: str
    names: tuple[str, ...]
    alias: str | None = None
    join_key_map: Mapping[str, str] = msgspec.field(default_factory=dict)
    renames: Mapping[str, str] = msgspec.field(default_factory=dict)

    def only(self, names: tuple[str, ...]) -> PinnedSelection:
        """The same with some of its features."""
        return replace(self, names=names, renames={n: new for n, new in self.renames.items() if n in names})


class Reads:
    """What reads features of views: a version of a service, of an on-demand view, or of a view over views.

    Attributes:
        selections: what it reads, in order, each of the view version that it was made from.
        reads: (view, version that it was made from) → the version that is read for it now, which has the same columns
            with the same fingerprints; one that is missing is read itself.
    """

    __slots__ = ()
    selections: tuple[PinnedSelection, ...]
    reads: Mapping[tuple[str, str], str]

    @property
    def views_read(self) -> tuple[tuple[str, str], ...]:
        """(view, version) of all that is read for its selections, each once, in order."""
        return tuple(dict.fromkeys((s.view, self.version_read(s)) for s in self.selections))

    def version_read(self, selection: PinnedSelection) -> str:
        """The version of a view that is read for one of its selections."""
        made = (selection.view, selection.version)
        return self.reads.get(made, selection.version)


Upstream = Mapping[tuple[str, str], Any]
"""(view, version that a reader was made from) → that version itself, whose fingerprints are part of the reader's."""


class ViewVersion(Reads, Value, frozen=True, dict=True):
    """One immutable version of a view.

    Attributes:
        view: the definition, with `version` filled in and what is changed in place up to date.
        automatic: whether `apply` numbered it, so that it goes live by itself.
        created_at, updated_at: when it was applied first, and changed in place last (UTC).
        retired_at: when it was retired; None while it is active.
        revision: the registry revision that added it.
        held: whether it was rolled back from, so that only `promote` makes it live again.
        log_head: the offline log's head when it was applied.
        caught_up: whether it was live, or once materialized as far as the live one.
        reads: of a view over other views, which versions of those are read now; see `Reads`.
        upstream: of such a view, the versions that it was made from.
    """

    view: FeatureView
    automatic: bool
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None = None
    revision: int = 0
    held: bool = False
    log_head: int = 0
    caught_up: bool = False
    reads: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)
    upstream: Upstream = msgspec.field(default_factory=dict)

    @property
    def version(self) -> str:
        """`major.minor.patch`."""
        assert self.view.version is not None
        return self.view.version

    @lazy
    def selections(self) -> tuple[PinnedSelection, ...]:
        """What its query reads of other views; nothing where it reads sources alone."""
        tables = view_tables(self.view.source)
        return tuple(PinnedSelection(t.view.name, t.view.version or "", t.read) for t in tables)

    @lazy
    def fingerprint(self) -> str:
        """The name of its meaning, worked out by this release: what SQL means is not said by the one that stored it."""
        return fingerprints.fingerprint(self.view)

    @lazy
    def windows(self) -> window_layouts.WindowLayout | None:
        """The lists that a window version keeps an entity, of all its features; None of a plain view."""
        view = self.view
        return window_layouts.window_layout(view.aggregations, view.columns) if view.aggregations else None

    @lazy
    def column_fingerprints(self) -> Mapping[str, str]:
        """Feature → the name of what makes its values, each worked out when it is first asked for."""
        return fingerprints.ColumnFingerprints(self.view)


class OnDemandVersion(Reads, Value, frozen=True, dict=True):
    """One immutable version of an on-demand feature view.

    Attributes:
        view: the definition, with `version` filled in and what is changed in place up to date; its `inputs` are left
            out.
        inputs: request fields, and features of the versions that it was made from, in order.
        automatic: whether `apply` numbered it, so that it goes live by itself.
        created_at, updated_at: when it was applied first, and changed in place last (UTC).
        retired_at: when it was retired; None while it is active.
        revision: the registry revision that added it.
        held: whether it was rolled back from, so that only `promote` makes it live again.
        caught_up: whether it was live, or all that it reads once had caught up.
        reads: which versions of its inputs are read now; see `Reads`.
        upstream: the versions that it was made from.
    """

    view: OnDemandFeatureView
    inputs: tuple[RequestField | PinnedSelection, ...]
    automatic: bool
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None = None
    revision: int = 0
    held: bool = False
    caught_up: bool = False
    reads: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)
    upstream: Upstream = msgspec.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name

    @property
    def version(self) -> str:
        """`major.minor.patch`."""
        assert self.view.version is not None
        return self.view.version

    @lazy
    def selections(self) -> tuple[PinnedSelection, ...]:
        """The features among its inputs."""
        return tuple(item for item in self.inputs if isinstance(item, PinnedSelection))

    @lazy
    def arguments(self) -> Mapping[str, DType]:
        """What its function is given: name → dtype, in the order of the inputs."""
        return on_demand_meaning.arguments(self)

    @lazy
    def fingerprint(self) -> str:
        """The name of its meaning."""
        return on_demand_meaning.fingerprint(self)

    @lazy
    def column_fingerprints(self) -> Mapping[str, str]:
        """Feature → the name of what makes its values, that of its inputs included."""
        return on_demand_meaning.column_fingerprints(self)


class ServiceVersion(Reads, Value, frozen=True):
    """One immutable version of a service.

    Attributes:
        selections: its columns, in order, each of the view version that it was made from.
        automatic: whether `apply` numbered it.
        created_at, updated_at: when it was applied first, and changed in place last (UTC).
        text: its list as it was written, an item each; None in one that an earlier release stored.
        reads: (view, version that it was made from) → the version that is read for it now, which has the same columns
            with the same fingerprints; one that is missing is read itself.
        held: whether it was rolled back from, so that only `promote` makes it live again.
    """

    name: str
    version: str
    selections: tuple[PinnedSelection, ...]
    automatic: bool
    created_at: datetime
    updated_at: datetime
    full_names: bool = False
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    retired_at: datetime | None = None
    revision: int = 0
    held: bool = False
    text: tuple[str, ...] | None = None
    reads: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)


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
