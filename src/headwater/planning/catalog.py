"""Catalog: registered views and services as users look at them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from headwater.definitions.feature import Feature
from headwater.definitions.view import FeatureView
from headwater.html_tables import html_table
from headwater.planning.resolve import ResolvedRequest, resolve, whole_view
from headwater.planning.service_reads import selections_read
from headwater.planning.snapshot import RegistrySnapshot, ServiceVersion, ViewRecord, ViewVersion
from headwater.types import DType


class _Info(ABC):
    """What a version of a view and one of a service tell alike."""

    live: bool

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name."""

    @property
    @abstractmethod
    def version(self) -> str:
        """`major.minor.patch`."""

    @property
    @abstractmethod
    def join_keys(self) -> dict[str, DType]:
        """Column of the spine or request → dtype, of each join key."""

    @property
    @abstractmethod
    def columns(self) -> list[tuple[str, DType, str]]:
        """Name, dtype and a note of each feature, in order: its description, or the reference that it is."""

    @property
    def request_fields(self) -> Mapping[str, DType]:
        """What a request must bring beside the keys: nothing."""
        return {}

    @property
    def output_schema(self) -> pa.Schema:
        """The columns that reading it whole gives: keys, then features."""
        keys = [(name, dtype.arrow) for name, dtype in self.join_keys.items()]
        return pa.schema([*keys, *((name, dtype.arrow) for name, dtype, _ in self.columns)])

    def _repr_html_(self) -> str:
        caption = f"{self.name} {self.version}{', live' if self.live else ''}"
        rows = ((name, str(dtype), note) for name, dtype, note in self.columns)
        return html_table(("feature", "dtype", ""), rows, caption=caption)


@dataclass(frozen=True)
class ViewInfo(_Info):
    """One version of a view.

    Attributes:
        definition: the view with its version.
        registered: when it was applied, changed in place and retired.
        live: whether it is the live version.
        versions: every version of the view, oldest first.
    """

    definition: FeatureView
    registered: ViewVersion
    live: bool
    versions: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def version(self) -> str:
        return self.registered.version

    @property
    def features(self) -> tuple[Feature, ...]:
        """Its features, in order."""
        return self.definition.feature_list

    @property
    def join_keys(self) -> dict[str, DType]:
        return self.definition.join_keys

    @property
    def columns(self) -> list[tuple[str, DType, str]]:
        return [(f.name, f.dtype, f.description) for f in self.features]


@dataclass(frozen=True)
class ServiceInfo(_Info):
    """One version of a service.

    Attributes:
        registered: the version as it is stored: expanded, pinned.
        live: whether it is the live version.
        versions: every version of the service, oldest first.
        request: what the service means.
    """

    registered: ServiceVersion
    live: bool
    versions: tuple[str, ...]
    request: ResolvedRequest = field(repr=False)

    @property
    def name(self) -> str:
        return self.registered.name

    @property
    def version(self) -> str:
        return self.registered.version

    @property
    def features(self) -> tuple[str, ...]:
        """What it reads, as references, in order."""
        return tuple(f"{s.view}@{s.version}:{name}" for s in selections_read(self.registered) for name in s.names)

    @property
    def join_keys(self) -> dict[str, DType]:
        return self.request.join_keys

    @property
    def columns(self) -> list[tuple[str, DType, str]]:
        columns = zip(self.request.columns, self.features, strict=True)
        return [(c.name, c.feature.dtype, reference) for c, reference in columns]


def view_info(record: ViewRecord, version: str | None = None) -> ViewInfo:
    """A version of a view, the live one by default.

    Raises:
        VersionNotFound: there is no such version.
    """
    found = record.version(version)
    view = whole_view(record, found)
    return ViewInfo(view.view, found, view.live, tuple(record.versions))


def service_info(snapshot: RegistrySnapshot, name: str, version: str | None = None) -> ServiceInfo:
    """A version of a service, the live one by default.

    Raises:
        FeatureServiceNotFound, VersionNotFound: with the names there are.
    """
    record = snapshot.service(name)
    found = record.version(version)
    request = resolve(snapshot, f"{name}@{found.version}")
    return ServiceInfo(found, found.version == record.live, tuple(record.versions), request)


def live_views(snapshot: RegistrySnapshot) -> list[ViewInfo]:
    """The live version of every view that has one."""
    return [view_info(record) for record in snapshot.views.values() if record.live is not None]


def live_services(snapshot: RegistrySnapshot) -> list[ServiceInfo]:
    """The live version of every service that has one."""
    return [service_info(snapshot, record.name) for record in snapshot.services.values() if record.live is not None]
