"""Stars over views: they stand for the features that there were when the version with that text was made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headwater.deferred import deferred
from headwater.definitions.source import Source
from headwater.definitions.sources import SQLSource, view_tables
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import ViewTable
from headwater.planning.snapshot import RegistrySnapshot

if TYPE_CHECKING:
    from headwater.definitions import fingerprint as fingerprints
    from headwater.definitions import query_parts
else:
    fingerprints = deferred("headwater.definitions.fingerprint")
    query_parts = deferred("headwater.definitions.query_parts")  # SQLGlot takes long to import


def with_kept_stars(snapshot: RegistrySnapshot, view: FeatureView) -> FeatureView:
    """A definition in whose query a star stands for the features that a registered version of the same text read.

    Features that are added to a view later are not among them, as in services, until the query's own text changes or
    what is read does.

    Args:
        snapshot: the registry.
        view: the definition, as it was written.
    """
    record = snapshot.views.get(view.name) if isinstance(view.name, str) else None
    if record is None or not has_star(view):
        return view
    for version in sorted(record.active, key=lambda version: version.revision, reverse=True):
        kept = with_stars_of(view, version.view)
        if kept is not view:
            return kept
    return view


def has_star(view: FeatureView) -> bool:
    """Whether its query may read columns of views that it does not name."""
    source = view.source
    if not isinstance(source, SQLSource) or not any(True for _ in view_tables(source)):
        return False
    return query_parts.names_of(source.query) is None


def with_stars_of(view: FeatureView, stored: FeatureView) -> FeatureView:
    """A definition whose stars stand for what they stand for in a stored one of the same text; else as it is.

    Args:
        view: the definition; its query has a star.
        stored: that of a registered version.
    """
    mine, theirs = view.source, stored.source
    if not isinstance(mine, SQLSource) or not isinstance(theirs, SQLSource):
        return view
    if query_parts.canonical_sql(mine.query) != query_parts.canonical_sql(theirs.query):
        return view
    tables = {name: _kept(table, theirs.tables.get(name)) for name, table in mine.tables.items()}
    if all(table is mine.tables[name] for name, table in tables.items()):
        return view
    return replace(view, source=replace(mine, tables=tables))


def _kept(table: Source, stored: Source | None) -> Source:
    if not isinstance(table, ViewTable) or not isinstance(stored, ViewTable) or table.read:
        return table
    mine, theirs = (fingerprints.ColumnFingerprints(of.view) for of in (table, stored))
    same = all(name in mine and mine[name] == theirs[name] for name in stored.read)
    return replace(table, read=stored.read) if same else table
