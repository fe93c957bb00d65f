"""What of a definition makes a version, as plain data, and its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.clock import duration_micros
from headwater.deferred import deferred
from headwater.definitions.defaults import encode_value
from headwater.definitions.feature import Feature
from headwater.definitions.sources import TEXT_SOURCES, CSVSource, JSONSource, PushSource, Source, SQLSource
from headwater.definitions.view import FeatureView
from headwater.digests import blake2b

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
        meaning["tables"] = {name: _source_meaning(table, read, of_query=True) for name, table in tables}
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
            self._known[name] = _column_fingerprint(self._view, self._view.features_by_name[name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.feature_names)

    def __len__(self) -> int:
        return len(self._view.feature_names)

    def __contains__(self, name: object) -> bool:
        return name in self._view.features_by_name


def _column_fingerprint(view: FeatureView, feature: Feature) -> str:
    source = view.source
    times = (source.event_time, source.created_time, source.event_id, *map(view.key_column, view.join_keys))
    columns = frozenset(name.lower() for name in (*times, feature.source_column) if name is not None)
    return digest([_row_meaning(view), _source_meaning(source, columns), feature.name, _feature_meaning(feature)])
