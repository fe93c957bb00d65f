"""Catalog: registered views and services as users look at them."""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater.definitions.view import FeatureView
from headwater.planning.resolve import ResolvedRequest, resolve, whole_view
from headwater.planning.service_reads import selections_read
from headwater.planning.snapshot import RegistrySnapshot, ServiceVersion, ViewRecord, ViewVersion
from headwater.planning.summaries import ServiceSummary, ViewSummary


@dataclass(frozen=True, kw_only=True)
class ViewInfo(ViewSummary):
    """One version of a view, with its definition.

    Attributes:
        definition: the view with its version.
        registered: when it was applied, changed in place and retired.
    """

    definition: FeatureView = field(repr=False)
    registered: ViewVersion = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ServiceInfo(ServiceSummary):
    """One version of a service, with what it stores.

    Attributes:
        registered: the version as it is stored: expanded, pinned.
        request: what the service means.
    """

    registered: ServiceVersion = field(repr=False)
    request: ResolvedRequest = field(repr=False)


def view_info(record: ViewRecord, version: str | None = None) -> ViewInfo:
    """A version of a view, the live one by default.

    Raises:
        VersionNotFound: there is no such version.
    """
    registered = record.version(version)
    whole = whole_view(record, registered)
    view = whole.view
    return ViewInfo(
        name=view.name,
        version=registered.version,
        live=whole.live,
        versions=tuple(record.versions),
        join_keys=view.join_keys,
        owner=view.owner,
        description=view.description,
        tags=view.tags,
        entities=tuple(entity.name for entity in view.entities),
        features=view.feature_list,
        source_kind=view.source.kind,
        ttl=view.ttl_time,
        freshness_sla=view.sla_time,
        aggregations=view.aggregations,
        definition=view,
        registered=registered,
    )


def service_info(snapshot: RegistrySnapshot, name: str, version: str | None = None) -> ServiceInfo:
    """A version of a service, the live one by default.

    Raises:
        FeatureServiceNotFound, VersionNotFound: with the names there are.
    """
    record = snapshot.service(name)
    service = record.version(version)
    request = resolve(snapshot, f"{name}@{service.version}")
    references = (f"{s.view}@{s.version}:{feature}" for s in selections_read(service) for feature in s.names)
    selected = zip(request.columns, references, strict=True)
    return ServiceInfo(
        name=service.name,
        version=service.version,
        live=service.version == record.live,
        versions=tuple(record.versions),
        join_keys=request.join_keys,
        owner=service.owner,
        description=service.description,
        tags=service.tags,
        selected=tuple((column.name, column.feature.dtype, reference) for column, reference in selected),
        registered=service,
        request=request,
    )


def live_views(snapshot: RegistrySnapshot) -> list[ViewInfo]:
    """The live version of every view that has one."""
    return [view_info(record) for record in snapshot.views.values() if record.live is not None]


def live_services(snapshot: RegistrySnapshot) -> list[ServiceInfo]:
    """The live version of every service that has one."""
    return [service_info(snapshot, record.name) for record in snapshot.services.values() if record.live is not None]
