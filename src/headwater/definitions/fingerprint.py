"""What of a definition makes a version, as plain data, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.clock import duration_micros
from headwater.deferred import deferred
from headwater.definitions.defaults import encode_value
from headwater.definitions.feature import Feature
from headwater.definitions.sources import TEXT_SOURCES, CSVSource, JSONSource, PushSource, Source, SQLSource
from headwater.definitions.view import FeatureView

if TYPE_CHECKING:
    from headwater.definitions import query_parts
else:
    query_parts = deferred("headwater.definitions.query_parts")  # SQLGlot takes long to import


def _source_meaning(source: Source, columns: frozenset[str] | None = None) -> dict[str, Any]:
    """What of a source makes its rows; with `columns`, what makes these columns of them."""
    meaning: dict[str, Any] = {
        "kind": source.kind,
        "event_time": source.event_time,
        "created_time": source.created_time,
        "event_id": source.event_id,
        # rows given to `write` know no delay; releases before took one and left it without effect
        "delay": 0 if isinstance(source, PushSource) else duration_micros(source.delay_time),
    }
    if source.timezone not in (None, "UTC"):
        meaning["timezone"] = source.timezone
    if isinstance(source, CSVSource):
        # an option at its default is left out, so that a later release may add some
        meaning |= source.format.meaning | {"nulls": sorted(source.nulls)}
    if isinstance(source, JSONSource):
        meaning |= {} if source.lines else {"lines": False}
    if isinstance(source, TEXT_SOURCES) and source.schema:
        meaning |= _schema_meaning(source.schema, columns)
    if isinstance(source, SQLSource):
        query = (
            query_parts.canonical_sql(source.query) if columns is None else query_parts.part_of(source.query, columns)
        )
        read = None if columns is None else query_parts.names_in(query)
        meaning["query"] = query
        meaning["tables"] = {name: _source_meaning(table, read) for name, table in sorted(source.tables.items())}
    if isinstance(source, PushSource) and source.schema is not None:
        meaning |= _schema_meaning(source.schema, columns) or ({} if columns else {"schema": {}})
    return meaning


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
        "features": {f.name: _feature_meaning(f) for f in sorted(view.feature_list, key=lambda f: f.name)},
    }


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


def digest(data: Any) -> str:
    """Sixteen hex digits that name plain data."""
    return hashlib.blake2b(msgspec.json.encode(data, order="sorted"), digest_size=8).hexdigest()


def fingerprint(view: FeatureView) -> str:
    """The name of a view's meaning."""
    return digest(meaning(view))


def column_fingerprints(view: FeatureView) -> dict[str, str]:
    """Feature → the name of what makes its values: the view's meaning as far as it concerns this feature.

    Another feature of the view, added, altered or removed, changes none of it; of a query the items of other columns
    count only where they may decide which rows there are (`query_parts`).
    """
    source, rows = view.source, _row_meaning(view)
    times = (source.event_time, source.created_time, source.event_id, *map(view.key_column, view.join_keys))
    shared = [name for name in times if name is not None]
    return {
        f.name: digest([rows, _source_meaning(source, _lower([*shared, f.source_column])), f.name, _feature_meaning(f)])
        for f in view.feature_list
    }


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
