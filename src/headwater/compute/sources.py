"""Sources with their data: tables that live in one store object, and rows that tests read instead of sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.deferred import deferred
from headwater.definitions.entity import Entity
from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.service import FeatureService
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, SQLSource, TableSource, view_tables
from headwater.definitions.transforms import TransformSource, tables_of
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import DefinitionError, SourceError, UsageError, nearest
from headwater.planning.data_kinds import is_pandas
from headwater.planning.snapshot import ViewVersion

if TYPE_CHECKING:
    from headwater.definitions import fingerprint as fingerprints
    from headwater.definitions import source_checks
    from headwater.offline.base import OfflineEngine
    from headwater.planning import tables
else:
    fingerprints = deferred("headwater.definitions.fingerprint")
    tables = deferred("headwater.planning.tables")
    source_checks = deferred("headwater.definitions.source_checks")  # SQLGlot takes long to import


class BoundSources:
    """What one store object knows of data that the registry cannot hold."""

    def __init__(self) -> None:
        self._rows: dict[str, Any] = {}
        self._inner: dict[str, dict[str, TableSource]] = {}
        self._columns: dict[str, list[str]] = {}
        self._tables: dict[tuple[str, str], Source] = {}

    def replace_rows(self, view: str, rows: Any) -> None:
        """Read these rows instead of the view's source, whatever its version."""
        table = tables.as_table(rows, f"sources[{view!r}]")
        self._columns[view] = table.column_names
        # Python's numbers and pandas' have one width and are taken as such; a stream can be read only once
        self._rows[view] = rows if is_pandas(rows) or isinstance(rows, (list, tuple, Mapping)) else table

    def replace(self, view: FeatureView, data: Any) -> None:
        """Read this data instead of a view's source: rows, or of a query {table: rows}, so that the query runs on them.

        Raises:
            UsageError: tables of a query among which one is not the query's.
        """
        inner = tables_of(view.source)
        if not isinstance(data, Mapping) or not _names_tables(inner, data):
            self.replace_rows(view.name, data)
            return
        self._inner[view.name] = {name: _table_instead(inner[name], name, data[name]) for name in data}

    def remember(self, definitions: Iterable[Any]) -> None:
        """Keep the tables that views among these hold."""
        for item in definitions:
            view = item.view if isinstance(item, FeatureSelection) else item
            if isinstance(view, FeatureView) and isinstance(view.source, Source) and _holds_table(view.source):
                self._tables[view.name, fingerprints.fingerprint(view)] = view.source

    def source_of(self, version: ViewVersion) -> Source:
        """A version's source with its data.

        Raises:
            SourceError: a table that another store object was given.
        """
        view = version.view
        if view.name in self._rows:
            return self._instead(view)
        if view.name in self._inner:
            return self._with_inner(view)
        if not _holds_table(view.source):
            return view.source
        found = self._tables.get((view.name, version.fingerprint))
        if found is None:
            raise SourceError(
                f"view {view.name!r}: its source is a table in memory of the store object that applied it; "
                "apply the definition with this store object, or use ParquetSource"
            )
        return found

    def schemas(self, engine: OfflineEngine, definitions: Iterable[Any]) -> source_checks.Schemas:
        """The columns of the sources of these definitions, as `plan` asks for them."""
        views = [d for d in definitions if isinstance(d, FeatureView)]
        replaced = {
            id(view.source): self._instead(view) if view.name in self._rows else self._with_inner(view)
            for view in views
            if (view.name in self._rows or view.name in self._inner) and isinstance(view.source, Source)
        }

        for view in views:
            for name, table in self._inner.get(view.name, {}).items():
                if name in tables_of(view.source):
                    replaced[id(tables_of(view.source)[name])] = table

        def schema(source: Source) -> pa.Schema | source_checks.Read | None:
            instead = replaced.get(id(source))
            if instead is not None:
                return source_checks.Read(engine.source_schema(instead), instead)
            return None if isinstance(source, PushSource) else engine.source_schema(source)

        return schema

    def _with_inner(self, view: FeatureView) -> Source:
        source = view.source
        assert isinstance(source, (SQLSource, TransformSource))
        return replace(source, tables={**source.tables, **self._inner[view.name]})

    def _instead(self, view: FeatureView) -> TableSource:
        source = view.source
        rows = self._rows[view.name]
        if not self._columns[view.name]:
            rows = pa.table({name: pa.nulls(0) for name in _columns_of(view)})
        return TableSource(
            rows,
            event_time=source.event_time,
            created_time=source.created_time if source.created_time in self._columns[view.name] else None,
            valid_from=source.valid_from,
            valid_to=source.valid_to if source.valid_to in self._columns[view.name] else None,
            event_id=source.event_id,
            delay=source.delay,
            timezone=source.timezone,
        )


def _names_tables(inner: Mapping[str, Source], data: Mapping[Any, Any]) -> bool:
    """Whether a mapping is of the tables that a source reads rather than of columns."""
    named = [name for name in data if name in inner]
    if named and len(named) < len(data):
        other = next(name for name in data if name not in inner)
        raise UsageError(
            f"sources: {other!r} is not a table of the query{nearest(str(other), inner)}; it has {', '.join(inner)}"
        )
    return bool(named)


def _table_instead(source: Source, name: str, rows: Any) -> TableSource:
    tables.as_table(rows, f"sources: table {name!r}")
    return TableSource(
        rows,
        event_time=source.event_time,
        created_time=source.created_time,
        valid_from=source.valid_from,
        valid_to=source.valid_to,
        event_id=source.event_id,
        delay=source.delay,
        timezone=source.timezone,
    )


def _columns_of(view: FeatureView) -> dict[str, None]:
    """The columns of its source that a view reads: what an empty list of rows has."""
    keys = (view.key_column(key) for key in view.join_keys)
    ids = () if view.source.event_id is None else (view.source.event_id,)
    return dict.fromkeys([*keys, *view.source.times, *ids, *view.columns_read])


def _holds_table(source: Source) -> bool:
    if any(map(_holds_table, tables_of(source).values())):
        return True
    return isinstance(source, TableSource)


def with_parts(definitions: Iterable[Any]) -> list[Any]:
    """Definitions and the entities and views that they hold, each once, parts first."""
    found: dict[int, Any] = {}
    named: set[tuple[type, str]] = set()
    if not isinstance(definitions, Iterable):
        raise DefinitionError(f"definitions: must be a list of entities, views and services, not {definitions!r}")
    given = list(definitions)
    for item in given:
        named.add((type(item), getattr(item, "name", "")))
    for item in given:
        for part in (*_parts(item), item):
            key = (type(part), getattr(part, "name", ""))
            if part is item or key not in named:
                found[id(part)] = part
                named.add(key)
    return list(found.values())


def _parts(item: Any) -> Iterable[Any]:
    if isinstance(item, FeatureView):
        yield from (entity for entity in item.entities if isinstance(entity, Entity))
        for table in view_tables(item.source):
            yield from _parts(table.view)
            yield table.view
    if isinstance(item, (FeatureService, OnDemandFeatureView)):
        for view in _views_of(item):
            yield from _parts(view)
            yield view


def views_in(features: Any) -> list[FeatureView]:
    """The view objects in a features argument, inputs of on-demand views included."""
    found: list[FeatureView] = []
    for view in _views_of(features):
        if isinstance(view, FeatureView):
            found.append(view)
        else:
            found += views_in(view)
    return found


def _views_of(features: Any) -> list[FeatureView | OnDemandFeatureView]:
    items = features.items if isinstance(features, FeatureService) else features
    items = features.inputs if isinstance(features, OnDemandFeatureView) else items
    items = items if isinstance(items, (list, tuple)) else (items,)
    views = (item.view if isinstance(item, FeatureSelection) else item for item in items)
    return [view for view in views if isinstance(view, (FeatureView, OnDemandFeatureView))]
