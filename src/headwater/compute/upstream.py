"""Upstream: the views that a view's query reads, each with the rows of the version that is read for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from headwater.compute.context import StoreContext
from headwater.compute.transforms.compiled import compiled
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, SQLSource, view_tables
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view_tables import ViewTable
from headwater.errors import ConfigError
from headwater.offline.base import LogPart, LogSlice, ViewInput
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import RowVersion
from headwater.planning.service_reads import version_read
from headwater.planning.snapshot import ViewVersion


def bound_source(
    context: StoreContext, version: ViewVersion, until: int | None = None, *, history: bool = False, data: bool = True
) -> Source:
    """A version's source with its data, that of the views which it reads included.

    Args:
        context: the store's parts and settings.
        version: the version.
        until: the log position up to which rows of these views count; None: all there are.
        history: read the newest versions that have the columns, caught up or not.
        data: whether it is to be read; False: to be looked at, without the views' parts of the offline log and without
            compiling functions.
    """
    source = context.sources.source_of(version)
    return _bound(context, version, source, until, history=history, data=data)


def _bound(
    context: StoreContext, version: ViewVersion, source: Source, until: int | None, *, history: bool, data: bool
) -> Source:
    if isinstance(source, TransformSource):
        inner = {
            name: _bound(context, version, table, until, history=history, data=data)
            for name, table in source.tables.items()
        }
        return replace(source, tables=inner, function=_function(context, version, source) if data else None)
    if not isinstance(source, SQLSource) or not _needs_data(source):
        return source
    tables: dict[str, Source] = {}
    for name, table in source.tables.items():
        if not isinstance(table, ViewTable):
            tables[name] = _bound(context, version, table, until, history=history, data=data)
            continue
        view = _version_read(context, version, table, history=history)
        log = log_taken(context, view, until) if data else None
        given = bound_source(context, view.definition, until, history=history, data=data)
        rows = ViewInput(view, None if isinstance(given, PushSource) else given, log)
        tables[name] = replace(table, rows=rows)
    return replace(source, tables=tables)


def _needs_data(source: Source) -> bool:
    """Whether a source reads views, or runs functions."""
    if isinstance(source, (ViewTable, TransformSource)):
        return True
    return isinstance(source, SQLSource) and any(map(_needs_data, source.tables.values()))


def _function(context: StoreContext, version: ViewVersion, source: TransformSource) -> Callable[..., Any]:
    """The function of a transformation, of its text in the registry.

    Raises:
        ConfigError: the settings refuse to run it.
        MissingExtra, OnDemandError: it cannot be compiled.
    """
    what = f"transformation {source.name!r} of {version.view.name} {version.version}"
    if not context.settings.offline_run_code:
        raise ConfigError(f"{what}: it is code from the registry, which [offline] run_code = false refuses to run")
    return compiled(what, source.text, source.imports)


def log_taken(context: StoreContext, view: ResolvedView, until: int | None) -> LogSlice:
    """The rows of the offline log that a version takes, up to a position (None: all there are)."""
    log = context.log.slice(view.name, view.log_keys, until)
    return replace(log, parts=tuple(part for part in log.parts if takes(view, part)))


def takes(view: ResolvedView, part: LogPart) -> bool:
    """Whether a version takes the rows of a part of the log."""
    return part.schema is not None and RowVersion(view).takes(part.schema)


def _version_read(context: StoreContext, version: ViewVersion, table: ViewTable, *, history: bool) -> ResolvedView:
    record = context.registry.snapshot().view(table.view.name)
    made_from = table.view.version
    assert made_from is not None
    number = (
        version_read(record, made_from, table.read, history=True)
        if history
        else version.reads.get((table.view.name, made_from), made_from)
    )
    return whole_view(record, record.version(number))


def views_read(context: StoreContext, version: ViewVersion) -> Iterator[str]:
    """The names of all views whose rows a version is made of, those that are read by way of others too."""
    for table in view_tables(context.sources.source_of(version)):
        yield table.view.name
        read = _version_read(context, version, table, history=False)
        yield from views_read(context, read.definition)


def has_new_rows(context: StoreContext, version: ViewVersion, position: int) -> bool:
    """Whether rows were written to a view that a version reads after a position of the log."""
    return any(context.log.rows_after(name, position) for name in dict.fromkeys(views_read(context, version)))
