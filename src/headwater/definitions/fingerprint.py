"""What of a definition makes a version, as plain data, and its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.clock import duration_micros
from headwater.deferred import deferred
from headwater.definitions.aggregate_functions import MAX_DISTINCT
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.conditions import ConditionError, canonical_condition
from headwater.definitions.defaults import canonical, encode_value
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import TEXT_SOURCES, CSVSource, JSONSource, PushSource, SparkSource, SQLSource
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import ViewTable
from headwater.digests import blake2b
from headwater.types import DType

if TYPE_CHECKING:
    from headwater.definitions import query_parts
else:
    query_parts = deferred("headwater.definitions.query_parts")  # SQLGlot takes long to import


def _source_meaning(source: Source, columns: frozenset[str] | None = None, *, of_query: bool = False) -> dict[str, Any]:
    """What of a source makes its rows; with `columns`, what makes these columns of them.

    Args:
        source: the source.
        columns: the names of columns, in lower case.
        of_query: whether it is a table of a query: its times are naive without a time zone, and instants in UTC.
    """
    meaning: dict[str, Any] = {
        "kind": source.kind,
        "event_time": source.event_time,
        "created_time": source.created_time,
        "event_id": source.event_id,
        # rows given to `write` know no delay; releases before took one and left it without effect
        "delay": 0 if isinstance(source, PushSource) else duration_micros(source.delay_time),
    }
    # valid_from is the event time by another name
    if source.valid_to is not None:
        meaning["valid_to"] = source.valid_to
    if source.timezone is not None and (of_query or source.timezone != "UTC"):
        meaning["timezone"] = source.timezone
    if isinstance(source, CSVSource):
        # an option at its default is left out, so that a later release may add some
        meaning |= source.format.meaning | {"nulls": sorted(source.nulls)}
    if isinstance(source, JSONSource):
        meaning |= {} if source.lines else {"lines": False}
    if isinstance(source, TEXT_SOURCES) and source.schema:
        meaning |= _schema_meaning(source.schema, columns)
    if isinstance(source, SQLSource):
        part = None if columns is None else query_parts.part_of(source.query, columns)
        meaning["query"] = query_parts.canonical_sql(source.query) if part is None else part.text
        read = None if part is None else part.names
        tables = sorted(source.tables.items())
        meaning["tables"] = {
            name: _table_meaning(table, query_parts.names_of(source.query) if part is None else read)
            if isinstance(table, ViewTable)
            else _source_meaning(table, read, of_query=True)
            for name, table in tables
        }
    if isinstance(source, SparkSource):
        if source.query is not None:
            meaning["query"] = " ".join(source.query.split())
        if source.format is not None:
            meaning["format"] = source.format.lower()
    if isinstance(source, TransformSource):
        # any part of the function may make any of its columns
        meaning |= {"function": source.text, "imports": list(source.imports)}
        meaning |= _schema_meaning(source.schema, columns)
        meaning["tables"] = {name: _source_meaning(t, of_query=True) for name, t in sorted(source.tables.items())}
        if source.context_time is not None:
            meaning["context"] = duration_micros(source.context_time)
    if isinstance(source, PushSource) and source.schema is not None:
        meaning |= _schema_meaning(source.schema, columns) or ({} if columns else {"schema": {}})
    return meaning


def _table_meaning(table: ViewTable, names: frozenset[str] | None) -> dict[str, Any]:
    """What of a view makes the rows of the table that it is: of its features those that the query reads."""
    prints = ColumnFingerprints(table.view)
    read = {name: prints[name] for name in sorted(table.names_in(names))}
    return {"kind": table.kind, "view": table.view.name, "features": read}


def _schema_meaning(schema: Mapping[str, Any], columns: frozenset[str] | None) -> dict[str, Any]:
    found = {name: str(dtype) for name, dtype in sorted(schema.items()) if columns is None or name.lower() in columns}
    return {"schema": found} if found else {}


def meaning(view: FeatureView) -> dict[str, Any]:
    """The parts of a view that a version fixes; two views of equal meaning are the same version.

    Left out, since `apply` updates them in place: descriptions, owners, tags, SLAs, kinds, locations of data, order.
    """
    return {
        **_row_meaning(view),
        "source": _source_meaning(view.source),
        "features": {name: _value_meaning(view, name) for name in sorted(view.feature_names)},
    }


def _value_meaning(view: FeatureView, name: str) -> dict[str, Any]:
    aggregation = view.aggregations_by_name.get(name)
    if aggregation is not None:
        return _aggregation_meaning(aggregation, view.columns)
    return _feature_meaning(view.features_by_name[name])


def _row_meaning(view: FeatureView) -> dict[str, Any]:
    return {
        "entity": [[e.name, [[key, str(dtype)] for key, dtype in e.join_keys.items()]] for e in view.entities],
        "join_key_map": {k: v for k, v in sorted(view.join_key_map.items()) if k != v},
        "ttl": duration_micros(view.ttl_time),
    }


def _feature_meaning(feature: Feature) -> dict[str, Any]:
    return {
        "dtype": str(feature.dtype),
        "column": feature.source_column,
        "default": encode_value(feature.dtype, feature.default),
    }


def _aggregation_meaning(given: Aggregation, columns: Mapping[str, DType]) -> dict[str, Any]:
    """What of an aggregation makes its values; an option at its default is left out: a later release may add some."""
    dtype = given.dtype(columns)
    found: dict[str, Any] = {
        "dtype": str(dtype),
        "function": given.function,
        "window": given.width,
        "columns": {name: str(columns.get(name)) for name in sorted(given.columns_read)},
    }
    if given.column is not None:
        found["column"] = given.column
    if given.width is not None:
        found["hop"] = given.hop_micros
    if given.offset_micros:
        found["offset"] = given.offset_micros
    if given.where is not None:
        found["where"] = _where_meaning(given.where)
    if given.n is not None:
        found["n"] = given.n
    if given.q is not None:
        found["q"] = float(given.q)
    if given.max_distinct != MAX_DISTINCT:
        found["max_distinct"] = given.max_distinct
    if given.errors != "raise":
        found["errors"] = given.errors
    if given.default is not None:
        found["default"] = given.default if dtype is None else encode_value(dtype, canonical(dtype, given.default))
    return found


def _where_meaning(where: str) -> str:
    try:
        return canonical_condition(where)
    except ConditionError:
        return where  # the checks say what is wrong with it


def digest(data: Any) -> str:
    """Sixteen hex digits that name plain data."""
    return blake2b(msgspec.json.encode(data, order="sorted"), digest_size=8).hexdigest()


def fingerprint(view: FeatureView) -> str:
    """The name of a view's meaning."""
    return digest(meaning(view))


class ColumnFingerprints(Mapping[str, str]):
    """Feature → the name of what makes its values, each worked out when it is first asked for.

    That is the view's meaning as far as it concerns the feature. Another feature of the view, added, altered or
    removed, changes none of it; of a query the items of other columns count only where they may decide which rows
    there are (`query_parts`).
    """

    def __init__(self, view: FeatureView) -> None:
        self._view = view
        self._known: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = _column_fingerprint(self._view, name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.feature_names)

    def __len__(self) -> int:
        return len(self._view.feature_names)

    def __contains__(self, name: object) -> bool:
        return name in self._view.features_by_name


def _column_fingerprint(view: FeatureView, name: str) -> str:
    source, aggregation = view.source, view.aggregations_by_name.get(name)
    feature = view.features_by_name[name]  # of a name that is not there, a KeyError
    read = (feature.source_column,) if aggregation is None else aggregation.columns_read
    times = (*source.times, source.event_id, *map(view.key_column, view.join_keys))
    columns = frozenset(name.lower() for name in (*times, *read) if name is not None)
    return digest([_row_meaning(view), _source_meaning(source, columns), name, _value_meaning(view, name)])
