"""Views that a query reads, as the versions whose columns are meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from headwater.definitions.query_checks import Columns
from headwater.definitions.query_lineage import origins
from headwater.definitions.query_parts import names_of
from headwater.definitions.source import Source
from headwater.definitions.source_checks import Read, Schemas
from headwater.definitions.sources import SQLSource, view_tables
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import ViewTable
from headwater.errors import HeadwaterError, VersionNotFound
from headwater.planning.pins import pin
from headwater.planning.snapshot import RegistrySnapshot


def columns_of(schemas: Schemas | None) -> Columns:
    """The names of a source's columns, as the checks of queries ask for them."""

    def columns(source: Source) -> tuple[str, ...] | None:
        if isinstance(source, ViewTable):
            return tuple(source.columns)
        try:
            found = None if schemas is None else schemas(source)
        except HeadwaterError:
            return None  # what is wrong with it is said of the view that reads it
        read = found.schema if isinstance(found, Read) else found
        return None if read is None else tuple(read.names)

    return columns


def with_pinned_views(snapshot: RegistrySnapshot, view: FeatureView) -> FeatureView:
    """A definition whose query reads registered versions of views.

    Args:
        snapshot: the registry, with what the plan adds so far.
        view: the definition, as it was written.

    Raises:
        NotFound: no registered version of a view has the definition that the query is given.
    """
    source = _pinned(snapshot, view.source)
    return view if source is view.source else replace(view, source=source)


def _pinned(snapshot: RegistrySnapshot, source: Source) -> Source:
    if not isinstance(source, SQLSource) or not any(True for _ in view_tables(source)):
        return source
    names = names_of(source.query)
    tables = {
        name: _of_version(snapshot, table, names) if isinstance(table, ViewTable) else _pinned(snapshot, table)
        for name, table in source.tables.items()
    }
    return replace(source, tables=tables)


def _of_version(snapshot: RegistrySnapshot, table: ViewTable, names: frozenset[str] | None) -> ViewTable:
    """The table as that of the registered version which has the view's definition."""
    try:
        made_from = pin(snapshot, table.view).version
    except VersionNotFound as bad:
        raise VersionNotFound(f"its query reads view {table.view.name!r}: {bad}") from bad
    view = snapshot.view(table.view.name).version(made_from).view
    return replace(table, view=view, read=table.names_in(names))


def read_lines(view: FeatureView) -> Iterator[str]:
    """What a plan says of a new version whose query reads views: which versions, and what each feature is made of."""
    tables = dict.fromkeys(view_tables(view.source))
    for table in tables:
        yield f"reads {table.view.name} {table.view.version}: {', '.join(table.read)}"
    if not tables or not isinstance(view.source, SQLSource):
        return
    names = {name: t.view.name if isinstance(t, ViewTable) else name for name, t in view.source.tables.items()}
    known = {name: tuple(t.columns) if isinstance(t, ViewTable) else None for name, t in view.source.tables.items()}
    for feature in view.feature_list:
        found = origins(view.source.query, feature.source_column, known)
        if found:
            yield f"{feature.name} is made of {', '.join(f'{names[table]}:{column}' for table, column in found)}"


def with_views_of(view: FeatureView, stored: FeatureView) -> FeatureView:
    """A definition of the same meaning as a stored one, whose query reads the versions that the stored one was made of.

    Args:
        view: the definition.
        stored: the registered version's.
    """
    source = _stored(view.source, stored.source)
    return view if source is view.source else replace(view, source=source)


def _stored(source: Source, stored: Source) -> Source:
    if isinstance(source, ViewTable) and isinstance(stored, ViewTable):
        return stored
    if not isinstance(source, SQLSource) or not isinstance(stored, SQLSource):
        return source
    if not any(True for _ in view_tables(source)):
        return source
    tables = {n: _stored(t, stored.tables[n]) if n in stored.tables else t for n, t in source.tables.items()}
    return replace(source, tables=tables)
