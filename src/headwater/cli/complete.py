"""Shell completion of names, from the project's registry; silent where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

import headwater as hw
from headwater.cli.run import Run, check_project

if TYPE_CHECKING:
    from headwater.planning.snapshot import AnyViewRecord, RegistrySnapshot


def names(context: typer.Context, incomplete: str) -> list[str]:
    """Views, services and entities, and the features of a view once its colon is typed."""
    snapshot = _snapshot(context)
    if snapshot is None:
        return []
    if ":" in incomplete:
        return _starting(_features(snapshot), incomplete)
    return _starting([*snapshot.views, *snapshot.on_demand, *snapshot.services, *snapshot.entities], incomplete)


def views(context: typer.Context, incomplete: str) -> list[str]:
    """Views alone."""
    snapshot = _snapshot(context)
    return [] if snapshot is None else _starting(list(snapshot.views), incomplete)


def references(context: typer.Context, incomplete: str) -> list[str]:
    """Features and services; after a comma the next one."""
    snapshot = _snapshot(context)
    if snapshot is None:
        return []
    before, comma, last = incomplete.rpartition(",")
    found = _starting([*_features(snapshot), *([] if comma else snapshot.services)], last)
    return [f"{before}{comma}{name}" for name in found]


def entities(context: typer.Context, incomplete: str) -> list[str]:
    """Entities."""
    snapshot = _snapshot(context)
    return [] if snapshot is None else _starting(list(snapshot.entities), incomplete)


def versions(context: typer.Context, incomplete: str) -> list[str]:
    """Versions of the view or service named before."""
    snapshot = _snapshot(context)
    name = str(context.params.get("name", ""))
    if snapshot is None:
        return []
    record = snapshot.views.get(name) or snapshot.on_demand.get(name) or snapshot.services.get(name)
    return [] if record is None else _starting(list(record.versions), incomplete)


def training_sets(context: typer.Context, incomplete: str) -> list[str]:
    """Names of saved training sets."""
    store = _store(context)
    if store is None:
        return []
    try:
        with store:
            return _starting(store.context.training_sets.names(), incomplete)
    except Exception:
        return []


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Names of logged models."""
    snapshot = _snapshot(context)
    return [] if snapshot is None else _starting(sorted(snapshot.models), incomplete)


def _features(snapshot: RegistrySnapshot) -> list[str]:
    records: list[AnyViewRecord] = [*snapshot.views.values(), *snapshot.on_demand.values()]
    return [
        f"{record.name}:{name}"
        for record in records
        if record.live is not None
        for name in (*record.version().view.feature_names, "*")
    ]


def _starting(known: list[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def _snapshot(context: typer.Context) -> RegistrySnapshot | None:
    """The registry as it is; None where anything fails: completion must never write over the prompt."""
    store = _store(context)
    if store is None:
        return None
    try:
        with store:
            return store.registry.snapshot()
    except Exception:
        return None


def _store(context: typer.Context) -> hw.FeatureStore | None:
    before = context.obj if isinstance(context.obj, Run) else Run()
    folder = context.params.get("project") or context.find_root().params.get("project") or before.folder
    try:
        check_project(Path(folder))
        return hw.FeatureStore(folder)
    except Exception:
        return None
