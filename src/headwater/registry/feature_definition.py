"""FeatureDefinition: everything that is registered of one feature in one version, as one frozen value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headwater.deferred import deferred
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import digest
from headwater.definitions.source import Source
from headwater.definitions.sources import SparkSource, SQLSource
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import ViewTable
from headwater.definitions.window_words import in_words, moves
from headwater.planning.catalog import input_references
from headwater.planning.layout import RowLayout
from headwater.planning.snapshot import AnyViewVersion, OnDemandVersion
from headwater.types import DType, FeatureKind

if TYPE_CHECKING:
    from headwater.definitions import query_lineage
else:
    query_lineage = deferred("headwater.definitions.query_lineage")  # SQLGlot takes long to import


@dataclass(frozen=True)
class FeatureDefinition:
    """One feature of one version of a view.

    Attributes:
        feature_name: `view:feature`.
        feature_type: numerical, categorical or embedding.
        data_type: its dtype.
        description: the feature's.
        owner: the feature's, else the view's.
        tags: the view's, with the feature's over them.
        source_query: the query or read that gives the view's rows.
        transformation_logic: the SQL that computes the feature, and of a window view what is computed of its rows;
            empty where a column is taken as it is. Of an on-demand feature the source text of its function.
        dependencies: the source columns or tables that it comes from, `place:column`; of an on-demand feature the
            features that it reads, `view@version:feature`, and `request:field`.
        freshness_sla_minutes: how old it may be before it is stale, the feature's, else the view's; None where unset.
        availability_sla: the share of reads, 0 to 1, that should find a value; None where unset.
        version: of the view.
        schema_version: eight hex digits that name the names and dtypes of the version's features.
        created_at: when the version was applied (UTC).
        updated_at: when it was changed in place last (UTC).
    """

    feature_name: str
    feature_type: FeatureKind
    data_type: DType
    description: str
    owner: str
    tags: Mapping[str, str]
    source_query: str
    transformation_logic: str
    dependencies: tuple[str, ...]
    freshness_sla_minutes: float | None
    availability_sla: float | None
    version: str
    schema_version: str
    created_at: datetime
    updated_at: datetime

    def __hash__(self) -> int:
        return hash((self.feature_name, self.version))

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _restored, ({**values, "tags": dict(self.tags)},)


def _restored(values: dict[str, Any]) -> FeatureDefinition:
    """A definition that was pickled, for which a read-only view of a dict has no form."""
    return FeatureDefinition(**{**values, "tags": MappingProxyType(values["tags"])})


def _define_computed(version: OnDemandVersion, name: str) -> FeatureDefinition:
    view, feature = version.view, version.view.feature(name)
    schema = digest([[f.name, str(f.dtype)] for f in sorted(view.feature_list, key=lambda f: f.name)])
    return FeatureDefinition(
        feature_name=f"{view.name}:{feature.name}",
        feature_type=FeatureKind(feature.kind or FeatureKind.of(feature.dtype)),
        data_type=feature.dtype,
        description=feature.description,
        owner=feature.owner or view.owner,
        tags=MappingProxyType({**view.tags, **feature.tags}),
        source_query="",
        transformation_logic="\n".join([*view.imports, view.source]),
        dependencies=tuple(input_references(version)),
        freshness_sla_minutes=None,
        availability_sla=None,
        version=version.version,
        schema_version=schema[:8],
        created_at=version.created_at,
        updated_at=version.updated_at,
    )


def define(version: AnyViewVersion, name: str) -> FeatureDefinition:
    """The definition of a feature in a version.

    Raises:
        FeatureNotFound: the version has none of that name.
    """
    if isinstance(version, OnDemandVersion):
        return _define_computed(version, name)
    view, feature = version.view, version.view.feature(name)
    sla = feature.freshness_sla or view.sla_time
    return FeatureDefinition(
        feature_name=f"{view.name}:{feature.name}",
        feature_type=FeatureKind(feature.kind or FeatureKind.of(feature.dtype)),
        data_type=feature.dtype,
        description=feature.description,
        owner=feature.owner or view.owner,
        tags=MappingProxyType({**view.tags, **feature.tags}),
        source_query=_source_query(view),
        transformation_logic=_transformation(view, name),
        dependencies=_dependencies(view, feature),
        freshness_sla_minutes=sla.total_seconds() / 60 if isinstance(sla, timedelta) else None,
        availability_sla=view.availability_sla,
        version=version.version,
        schema_version=f"{RowLayout.of(view).fingerprint:08x}",
        created_at=version.created_at,
        updated_at=version.updated_at,
    )


def _source_query(view: FeatureView) -> str:
    """The view's rows as a query that people can read; its source's name stands for a table or a push source."""
    source = view.source
    if isinstance(source, SQLSource):
        return source.query
    if isinstance(source, TransformSource):
        return source.text
    if isinstance(source, SparkSource) and source.query is not None:
        return source.query
    names = {view.key_column(key): key for key in view.join_keys}
    names |= {time: time for time in source.times}
    features = [(feature.source_column, feature.name) for feature in view.feature_list]
    columns = [*names.items(), *([(name, name) for name in view.columns_read] if view.aggregations else features)]
    listed = ", ".join(_quoted(c) if c == name else f"{_quoted(c)} AS {_quoted(name)}" for c, name in columns)
    return f"SELECT {listed} FROM {_place(source)}"


def _quoted(name: str) -> str:
    if name.isidentifier():
        return name
    return '"' + name.replace('"', '""') + '"'


def _place(source: Source) -> str:
    return "'" + source.shown_location.replace("'", "''") + "'" if source.location else source.kind


def _transformation(view: FeatureView, name: str) -> str:
    written = isinstance(view.source, (SQLSource, TransformSource)) or getattr(view.source, "query", None) is not None
    query = _source_query(view) if written else ""
    computed = view.aggregations_by_name.get(name)
    if computed is None:
        return query
    words = ", ".join(filter(None, (in_words(computed), moves(computed))))
    return f"{words} of: {query}" if query else words


def _dependencies(view: FeatureView, feature: Feature) -> tuple[str, ...]:
    source, computed = view.source, view.aggregations_by_name.get(feature.name)
    # a count of rows is one of their times
    columns = (feature.source_column,) if computed is None else computed.columns_read or (source.event_time,)
    if isinstance(source, SQLSource):
        found = [read for column in columns if column is not None for read in _read_by(source, column)]
        return tuple(dict.fromkeys(found))
    if isinstance(source, TransformSource):
        return tuple(f"{name}: {_place_of(table, name)}" for name, table in source.tables.items())
    return tuple(f"{source.shown_location or source.kind}:{column}" for column in columns)


def _read_by(source: SQLSource, column: str) -> Iterator[str]:
    """The columns that a query's column is computed from; its tables where that cannot be told."""
    known = {
        name: tuple(table.columns) if isinstance(table, ViewTable) else None for name, table in source.tables.items()
    }
    found = query_lineage.origins(source.query, column, known)
    if found is None:
        yield from (f"{name}: {_place_of(table, name)}" for name, table in source.tables.items())
        return
    for name, read in found:
        table = source.tables[name]
        if isinstance(table, SQLSource):
            yield from _read_by(table, read)
        else:
            yield f"{_place_of(table, name)}:{read}"


def _place_of(table: Source, name: str) -> str:
    if isinstance(table, ViewTable):
        return table.view.name
    return table.shown_location or (name if table.kind == "table" else table.kind)
