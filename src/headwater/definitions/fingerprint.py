"""What of a definition makes a version, as plain data, and its fingerprint."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec
import sqlglot
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from headwater.clock import duration_micros
from headwater.definitions.defaults import encode_value
from headwater.definitions.sources import TEXT_SOURCES, CSVSource, JSONSource, PushSource, Source, SQLSource
from headwater.definitions.view import FeatureView


@lru_cache(maxsize=1024)
def canonical_sql(query: str) -> str:
    """A query without comments, layout or letter case of keywords; as written where it does not parse."""
    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError:
        return " ".join(query.split())
    return normalize_identifiers(tree, dialect="duckdb").sql(
        dialect="duckdb", comments=False, normalize_functions="upper"
    )


def _source_meaning(source: Source) -> dict[str, Any]:
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
        meaning["schema"] = {name: str(dtype) for name, dtype in sorted(source.schema.items())}
    if isinstance(source, SQLSource):
        meaning["query"] = canonical_sql(source.query)
        meaning["tables"] = {name: _source_meaning(table) for name, table in sorted(source.tables.items())}
    if isinstance(source, PushSource) and source.schema is not None:
        meaning["schema"] = {name: str(dtype) for name, dtype in sorted(source.schema.items())}
    return meaning


def meaning(view: FeatureView) -> dict[str, Any]:
    """The parts of a view that a version fixes; two views of equal meaning are the same version.

    Left out, since `apply` updates them in place: descriptions, owners, tags, SLAs, kinds, locations of data, order.
    """
    return {
        "entity": [[e.name, [[key, str(dtype)] for key, dtype in e.join_keys.items()]] for e in view.entities],
        "join_key_map": {k: v for k, v in sorted(view.join_key_map.items()) if k != v},
        "source": _source_meaning(view.source),
        "ttl": duration_micros(view.ttl_time),
        "features": {
            f.name: {"dtype": str(f.dtype), "column": f.source_column, "default": encode_value(f.dtype, f.default)}
            for f in sorted(view.feature_list, key=lambda f: f.name)
        },
    }


def digest(data: Any) -> str:
    """Sixteen hex digits that name plain data."""
    return hashlib.blake2b(msgspec.json.encode(data, order="sorted"), digest_size=8).hexdigest()


def fingerprint(view: FeatureView) -> str:
    """The name of a view's meaning."""
    return digest(meaning(view))
