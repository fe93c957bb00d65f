"""Catalog: registered views and services as users look at them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from headwater.definitions.feature import Feature
from headwater.definitions.view import FeatureView
from headwater.planning.resolve import ResolvedRequest, resolve, whole_view
from headwater.planning.snapshot import RegistrySnapshot, ServiceVersion, ViewRecord, ViewVersion
from headwater.types import DType


@dataclass(frozen=True)
class ViewInfo:
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
        """The view's name."""
        return self.definition.name

    @property
    def version(self) -> str:
        """`major.minor.patch`."""
        return self.registered.version

    @property
    def features(self) -> tuple[Feature, ...]:
        """Its features, in order."""
        return self.definition.feature_list

    @property
    def join_keys(self) -> dict[str, DType]:
        """Name → dtype of each join key."""
        return self.definition.join_keys

    @property
    def request_fields(self) -> Mapping[str, DType]:
        """What a request must bring beside the keys: nothing."""
        return {}

    @property
    def output_schema(self) -> pa.Schema:
        """The columns that `view:*` gives: keys, then features."""
        keys = [(name, dtype.arrow) for name, dtype in self.join_keys.items()]
        return pa.schema([*keys, *((f.name, f.dtype.arrow) for f in self.features)])

    def _repr_html_(self) -> str:
        caption = f"{self.name} {self.version}{', live' if self.live else ''}"
        return _html(caption, ((f.name, str(f.dtype), f.description) for f in self.features))


@dataclass(frozen=True)
class ServiceInfo:
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
        """The service's name."""
        return self.registered.name

    @property
    def version(self) -> str:
        """`major.minor.patch`."""
        return self.registered.version

    @property
    def features(self) -> tuple[str, ...]:
        """What it reads, as references, in order."""
        return tuple(f"{s.view}@{s.version}:{name}" for s in self.registered.selections for name in s.names)

    @property
    def join_keys(self) -> dict[str, DType]:
        """Column of the spine or request → dtype, of each key."""
        return self.request.join_keys

    @property
    def request_fields(self) -> Mapping[str, DType]:
        """What a request must bring beside the keys: nothing."""
        return {}

    @property
    def output_schema(self) -> pa.Schema:
        """The columns that a read gives: keys, then features."""
        keys = [(name, dtype.arrow) for name, dtype in self.join_keys.items()]
        return pa.schema([*keys, *((c.name, c.feature.dtype.arrow) for c in self.request.columns)])

    def _repr_html_(self) -> str:
        caption = f"{self.name} {self.version}{', live' if self.live else ''}"
        columns = zip(self.request.columns, self.features, strict=True)
        return _html(caption, ((c.name, str(c.feature.dtype), reference) for c, reference in columns))


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


def _html(caption: str, rows: Iterable[tuple[str, ...]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    head = "<tr><th>feature</th><th>dtype</th><th></th></tr>"
    return f"<table><caption>{html.escape(caption)}</caption>{head}{body}</table>"
