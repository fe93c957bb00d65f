"""Definitions to registry: plan, apply that very plan, and move live pointers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import loader
from headwater.clock import Clock
from headwater.compute import incomplete_rows
from headwater.compute.context import StoreContext
from headwater.compute.materializing import window_fill
from headwater.compute.materializing.sink import out_of_reach
from headwater.compute.opening import StoreParts
from headwater.compute.source_values import check_values
from headwater.compute.sources import with_parts
from headwater.config import load_settings
from headwater.definitions.view import FeatureView
from headwater.errors import (
    ConfigError,
    DefinitionError,
    FeatureViewNotFound,
    RegistryConflict,
    RemovalsRefused,
    nearest,
)
from headwater.observer import Observer
from headwater.offline.index.folder import without_indexes
from headwater.online.eviction import eviction_problem
from headwater.online.powers import Provisioned
from headwater.planning import diff
from headwater.planning.draft import where
from headwater.planning.plan import Plan, check_same_plan
from headwater.planning.pointers import PointerChange, pointer_change
from headwater.planning.window_views import with_known_columns

if TYPE_CHECKING:
    from headwater.offline.base import OfflineEngine

_PLANNED_AGAIN = 2
"""How often `apply` plans again where somebody else has changed the registry meanwhile."""


def in_memory(
    definitions: Iterable[Any],
    sources: Mapping[str, Any],
    clock: Clock,
    path: str | Path,
    observer: Observer,
) -> StoreParts:
    """Parts with nothing on disk, with definitions applied; `FeatureStore.in_memory` says more."""
    settings = load_settings(path, environ={})
    settings = replace(
        settings,
        project=settings.project or "headwater",
        registry_url="sqlite://",
        online_url="memory:",
        offline_training_sets="",
        offline_settings=without_indexes(settings.offline_settings),
    )
    parts = StoreParts(settings, None, None, None, clock, observer, None)
    try:
        definitions = with_parts(definitions)
        views = {d.name: d for d in definitions if isinstance(d, FeatureView)}
        for name, rows in sources.items():
            if name not in views:
                raise FeatureViewNotFound(f"sources: no view {name!r} among the definitions{nearest(name, views)}")
            parts.sources.replace(views[name], rows)
        # values are read when they are asked for
        _applied(parts, definitions, new_text=False)
    except BaseException:
        parts.close()
        raise
    return parts


def plan(parts: StoreParts, definitions: Iterable[Any] | None, *, every_value: bool, new_text: bool = False) -> Plan:
    """What `apply` would do; nothing is written, and a registry that is not there yet is not made.

    Args:
        parts: the store's.
        definitions: entities, views and services; None: the project's files.
        every_value: look at the values of every source.
        new_text: look at those of new sources of text.

    Raises:
        DefinitionError: everything that is wrong, together.
        VersionConflict: changed definitions under versions that are registered.
        ConfigError: the engine computes on other machines, and the online store is on this one.
    """
    whole = definitions is None
    if definitions is None:
        definitions = loader.load_definitions(parts.settings.folder, parts.settings.definitions)
    definitions = with_parts(definitions)
    snapshot, engine = parts.registry.refresh(), parts.open_engine()
    schemas = parts.sources.schemas(engine, definitions)
    now = parts.clock()
    known = with_known_columns(snapshot, definitions, schemas)
    parts.sources.remember(known)
    made = diff.plan(snapshot, known, schemas, whole_project=whole, now=now)
    _check_windows(parts, engine, made)
    problem = None if parts.log_in_memory else out_of_reach(engine, parts.online.capabilities)
    if problem is not None:
        raise ConfigError(problem)
    lacking = incomplete_rows.planned(snapshot, made, parts.open_log, now)
    made = replace(made, definitions=None if whole else tuple(definitions), warnings=(*made.warnings, *lacking))
    if every_value or new_text:
        views = [d for d in known if isinstance(d, FeatureView)]
        check_values(engine, snapshot, views, parts.sources.source_of, now, every=every_value)
    return made


def _check_windows(parts: StoreParts, engine: OfflineEngine, made: Plan) -> None:
    """Refuse new versions of window views where the engine or the online store has no windows, or drops rows.

    Raises:
        DefinitionError: naming views, engine and store.
    """
    views = [s.definition for s in made.stages if isinstance(s.definition, FeatureView) and s.definition.aggregations]
    store, problems = parts.online, []
    for view in views:
        if not engine.windows:
            problems.append(
                f"{where(view)}: {type(engine).__name__} cannot compute window views; use engine = 'duckdb'"
            )
        if not store.capabilities.windows:
            lacking = f"{store.capabilities.product or type(store).__name__} does not support window views yet"
            problems.append(f"{where(view)}: {lacking}; use memory:, lmdb:, redis: or dynamodb:")
    if views and not problems and not parts.settings.online_allow_eviction:
        evicts = eviction_problem(store)
        problems += [] if evicts is None else [f"{', '.join(map(where, views))}: {evicts}"]
    if problems:
        raise DefinitionError("window views that cannot be served:", problems)


def apply(parts: StoreParts, changes: Iterable[Any] | Plan | None, *, promote: bool, allow_removals: bool) -> Plan:
    """Register definitions: all or nothing.

    Args:
        parts: the store's.
        changes: definitions; None: the project's files; a plan: that very plan.
        promote: what is registered goes live as soon as it has caught up.
        allow_removals: whether what is live may be retired.

    Raises:
        DefinitionError, VersionConflict: as `plan`; nothing was changed.
        RemovalsRefused: something live would be retired; nothing was changed.
        RegistryConflict: somebody else applied meanwhile, or the files changed since the plan was made; nothing was
            changed.
        StoreError: the online store needs a table that cannot be made; nothing was changed.
    """
    made = _applied(parts, changes, new_text=True, allow_removals=allow_removals)
    if promote:
        context = parts.context
        context.versions.request_promotion(made, now=context.clock())
        marks = context.watermarks(context.registry.refresh())
        context.versions.go_live(marks, now=context.clock())
    return made


def _applied(
    parts: StoreParts, changes: Iterable[Any] | Plan | None, *, new_text: bool, allow_removals: bool = False
) -> Plan:
    """Apply; where somebody else was first with the same, what is left of it."""
    if isinstance(changes, Plan):
        check_same_plan(changes, plan(parts, changes.definitions, every_value=False, new_text=new_text))
        return _apply(parts.context, changes, allow_removals)
    definitions = None if changes is None else tuple(changes)
    made = plan(parts, definitions, every_value=False, new_text=new_text)
    for _ in range(_PLANNED_AGAIN):
        try:
            return _apply(parts.context, made, allow_removals)
        except RegistryConflict:
            again = plan(parts, definitions, every_value=False)
            if again.stages and not made.has_same_stages(again):
                raise
            made = again
    return _apply(parts.context, made, allow_removals)


def _apply(context: StoreContext, made: Plan, allow_removals: bool) -> Plan:
    if made.removals and not allow_removals:
        raise RemovalsRefused(
            f"{', '.join(made.removals)}: live, and no longer in the project's files; nothing was changed: "
            "'headwater apply --allow-removals' (allow_removals=True) retires what is gone; put back in the files, it "
            "is a new version that the next materialize fills",
            made.removals,
        )
    if isinstance(context.online, Provisioned):
        context.online.provision()
    context.registry.apply(made, now=context.clock(), log_head=context.log.head_position())
    window_fill.fill_empty(context)
    return made


def promote(context: StoreContext, name: str, version: str, *, force: bool) -> PointerChange:
    """Make a version of a view or service live.

    Raises:
        ChangeRefused: it is not materialized as far as the live one (`force` overrides), or is retired.
    """
    marks = context.watermarks(context.registry.refresh())
    stages = context.versions.promote(name, version, watermarks=marks, now=context.clock(), force=force)
    return pointer_change(context.registry.snapshot(), name, stages)


def rollback(context: StoreContext, name: str) -> PointerChange:
    """Make the version of a view or service live that was live before.

    Raises:
        ChangeRefused: none was live before, or it is retired.
    """
    stages = context.versions.rollback(name, now=context.clock())
    return pointer_change(context.registry.snapshot(), name, stages)
