"""Catalog: registered views and services as users look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.view import FeatureView
from headwater.planning.resolve import resolve, whole_view
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.selections import PinnedSelection
from headwater.planning.service_reads import selections_read
from headwater.planning.snapshot import (
    AnyViewRecord,
    ModelVersion,
    OnDemandRecord,
    OnDemandVersion,
    RegistrySnapshot,
    ServiceVersion,
    ViewRecord,
    ViewVersion,
)
from headwater.planning.summaries import ModelSummary, ServiceSummary, ViewSummary


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
class OnDemandInfo(ViewSummary):
    """One version of an on-demand feature view, with its definition.

    Attributes:
        inputs: what it reads, in order: references (`view@version:feature`) and request fields (`request:field`).
        definition: the view with its version; the function is there as source text.
        registered: the version as it is stored.
        request: what reading it whole means.
    """

    inputs: tuple[str, ...]
    definition: OnDemandFeatureView = field(repr=False)
    registered: OnDemandVersion = field(repr=False)
    request: ResolvedRequest = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ServiceInfo(ServiceSummary):
    """One version of a service, with what it stores.

    Attributes:
        registered: the version as it is stored: expanded, pinned.
        request: what the service means.
    """

    registered: ServiceVersion = field(repr=False)
    request: ResolvedRequest = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ModelInfo(ModelSummary):
    """One version of a logged model, with where it is.

    Attributes:
        uri: where MLflow has it, for its `load_model`.
    """

    uri: str


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


def any_view_info(snapshot: RegistrySnapshot, name: str, version: str | None = None) -> ViewInfo | OnDemandInfo:
    """A version of a view or an on-demand view, the live one by default.

    Raises:
        FeatureViewNotFound, VersionNotFound: with the names there are.
    """
    record = snapshot.any_view(name)
    return view_info(record, version) if isinstance(record, ViewRecord) else _on_demand_info(snapshot, record, version)


def _on_demand_info(snapshot: RegistrySnapshot, record: OnDemandRecord, version: str | None) -> OnDemandInfo:
    registered = record.version(version)
    view = registered.view
    request = resolve(snapshot, [f"{record.name}@{registered.version}:*"], history=True)
    entities = dict.fromkeys(entity.name for part in request.views for entity in part.view.entities)
    return OnDemandInfo(
        name=view.name,
        version=registered.version,
        live=registered.version == record.live,
        versions=tuple(record.versions),
        join_keys=request.join_keys,
        owner=view.owner,
        description=view.description,
        tags=view.tags,
        request_fields=request.request_fields,
        entities=tuple(entities),
        features=view.feature_list,
        source_kind="on_demand",
        ttl=None,
        freshness_sla=None,
        inputs=tuple(input_references(registered)),
        definition=view,
        registered=registered,
        request=request,
    )


def input_references(version: OnDemandVersion) -> Iterator[str]:
    """What an on-demand view reads now, in order: references, and request fields as `request:field`."""
    for item in version.inputs:
        if isinstance(item, PinnedSelection):
            read = version.version_read(item)
            yield from (f"{item.view}@{read}:{name}" for name in item.names)
        else:
            yield f"request:{item.name}"


def service_info(snapshot: RegistrySnapshot, name: str, version: str | None = None) -> ServiceInfo:
    """A version of a service, the live one by default.

    Raises:
        FeatureServiceNotFound, VersionNotFound: with the names there are.
    """
    record = snapshot.service(name)
    service = record.version(version)
    request = resolve(snapshot, f"{name}@{service.version}")
    references = (f"{s.view}@{s.version}:{feature}" for s in selections_read(service) for feature in s.names)
    selected = zip(request.outputs, references, strict=True)
    return ServiceInfo(
        name=service.name,
        version=service.version,
        live=service.version == record.live,
        versions=tuple(record.versions),
        join_keys=request.join_keys,
        owner=service.owner,
        description=service.description,
        tags=service.tags,
        request_fields=request.request_fields,
        selected=tuple((column.name, column.feature.dtype, reference) for column, reference in selected),
        registered=service,
        request=request,
    )


def live_views(snapshot: RegistrySnapshot) -> list[ViewInfo | OnDemandInfo]:
    """The live version of every view that has one, on-demand views last."""
    records: list[AnyViewRecord] = [*snapshot.views.values(), *snapshot.on_demand.values()]
    return [any_view_info(snapshot, record.name) for record in records if record.live is not None]


def live_services(snapshot: RegistrySnapshot) -> list[ServiceInfo]:
    """The live version of every service that has one."""
    return [service_info(snapshot, record.name) for record in snapshot.services.values() if record.live is not None]


def model_info(snapshot: RegistrySnapshot, name: str, version: int | None = None) -> ModelInfo:
    """A version of a logged model, the newest by default.

    Raises:
        NotFound, VersionNotFound: with the names there are.
    """
    return _model(snapshot.model(name, version))


def models(snapshot: RegistrySnapshot) -> list[ModelInfo]:
    """Every version of every logged model, by name and version."""
    return [_model(versions[number]) for _, versions in sorted(snapshot.models.items()) for number in sorted(versions)]


def _model(logged: ModelVersion) -> ModelInfo:
    return ModelInfo(
        name=logged.name,
        version=logged.version,
        service=f"{logged.service}@{logged.service_version}",
        training_set=logged.training_set,
        logged_at=logged.logged_at,
        uri=logged.uri,
    )
