"""Definitions as plain, JSON-able data with a format version, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from headwater.clock import MICROSECOND
from headwater.deferred import deferred
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.defaults import canonical, decode_value, encode_value
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import (
    CSVSource,
    JSONSource,
    ParquetSource,
    PushSource,
    SparkSource,
    SQLSource,
    TableSource,
    view_tables,
)
from headwater.definitions.transforms import TransformSource, tables_of
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import ViewTable
from headwater.errors import FormatError
from headwater.types import DType

if TYPE_CHECKING:
    from headwater.definitions import csv_format
else:
    csv_format = deferred("headwater.definitions.csv_format")

FORMAT = 6
"""The greatest that is read here; a definition is written in the least that says all of it."""
_SPARK = ("table", "query", "path", "format")
_VALID = ("valid_from", "valid_to")

PLACE = "registry"
"""Where a definition read back says that it was written."""


def entity_to_dict(entity: Entity) -> dict[str, Any]:
    """An entity as plain data; join keys in order."""
    return {
        "format": 1,
        "name": entity.name,
        "join_keys": [[name, str(dtype)] for name, dtype in entity.join_keys.items()],
        "description": entity.description,
        "tags": dict(entity.tags),
    }


def entity_from_dict(data: Mapping[str, Any]) -> Entity:
    """The entity that `entity_to_dict` wrote.

    Raises:
        FormatError: data of a newer format.
    """
    _check_format(data, "entity")
    keys = {name: DType.parse(dtype) for name, dtype in data["join_keys"]}
    return Entity(data["name"], keys, data["description"], data["tags"], place=PLACE)


def source_to_dict(source: Source) -> dict[str, Any]:
    """A source as plain data; a table in memory without its rows."""
    data: dict[str, Any] = {
        "kind": source.kind,
        "event_time": source.event_time,
        "created_time": source.created_time,
        "event_id": source.event_id,
        "delay": _micros(source.delay_time),
    }
    if source.timezone is not None:
        data["timezone"] = source.timezone
    data |= {name: getattr(source, name) for name in _VALID if getattr(source, name) is not None}
    match source:
        case ParquetSource():
            data["path"] = str(source.path)
        case CSVSource():
            data["path"], data["nulls"] = str(source.path), list(source.nulls)
            data |= {name: value for name, value in source.format.meaning.items() if name != "nulls"}
            if not source.types_found:
                data["schema"] = None if source.schema is None else _columns(source.schema)
            if source.kept_types is not None:
                data["kept_types"] = _columns(source.kept_types)
        case JSONSource():
            data["path"], data["lines"] = str(source.path), source.lines
            if source.schema is not None:
                data["schema"] = _columns(source.schema)
        case SQLSource():
            data["query"] = source.query
            data["tables"] = [[name, source_to_dict(table)] for name, table in source.tables.items()]
        case TransformSource():
            data |= {"name": source.name, "text": source.text, "imports": list(source.imports)}
            data |= {"schema": _columns(source.schema), "context": _micros(source.context)}
            data["tables"] = [[name, source_to_dict(table)] for name, table in source.tables.items()]
        case ViewTable():
            data["view"], data["read"] = view_to_dict(source.view), list(source.read)
        case SparkSource():
            given = {name: getattr(source, name) for name in _SPARK}
            data |= {name: str(value) for name, value in given.items() if value is not None}
        case PushSource() if source.schema is not None:
            data["schema"] = [[name, str(dtype)] for name, dtype in source.schema.items()]
    return data


def source_from_dict(data: Mapping[str, Any]) -> Source:
    """The source that `source_to_dict` wrote; a table in memory has no rows.

    Raises:
        FormatError: a kind of source that this headwater does not know.
    """
    times: dict[str, Any] = {name: data[name] for name in ("event_time", "created_time", "event_id")}
    times |= {"delay": data["delay"] * MICROSECOND, "timezone": data.get("timezone")}
    times |= {name: data.get(name) for name in _VALID}
    match data["kind"]:
        case "spark":
            own: dict[str, Any] = {name: data.get(name) for name in _SPARK}
            return SparkSource(**own, **times)
        case "parquet":
            return ParquetSource(data["path"], **times)
        case "csv":
            options = {name: data[name] for name in csv_format.CSV_OPTIONS if name in data} | {
                "nulls": tuple(data["nulls"])
            }
            return CSVSource(
                data["path"],
                schema=_schema(data),
                types_found="schema" not in data,
                kept_types=_schema(data, "kept_types"),
                **options,
                **times,
            )
        case "json":
            return JSONSource(data["path"], lines=data["lines"], schema=_schema(data), **times)
        case "sql":
            tables = {name: source_from_dict(table) for name, table in data["tables"]}
            return SQLSource(data["query"], tables=tables, **times)
        case "transform":
            return TransformSource(
                name=data["name"],
                text=data["text"],
                imports=tuple(data["imports"]),
                schema=_schema(data) or {},
                context=_duration(data["context"]),
                tables={name: source_from_dict(table) for name, table in data["tables"]},
                **times,
            )
        case "view":
            return ViewTable(view=view_from_dict(data["view"]), read=tuple(data["read"]), **times)
        case "table":
            return TableSource(**times)
        case "push":
            return PushSource(schema=_schema(data), **times)
    raise FormatError(f"a source of kind {data['kind']!r} was written by a newer headwater; upgrade this one")


def _columns(schema: Mapping[str, DType]) -> list[list[str]]:
    return [[name, str(dtype)] for name, dtype in schema.items()]


def _schema(data: Mapping[str, Any], name: str = "schema") -> dict[str, DType] | None:
    columns = data.get(name)
    return None if columns is None else {name: DType.parse(dtype) for name, dtype in columns}


def feature_to_dict(feature: Feature) -> dict[str, Any]:
    """A feature as plain data; the default in the form of its dtype."""
    return {
        "name": feature.name,
        "dtype": str(feature.dtype),
        "column": feature.column,
        "description": feature.description,
        "default": encode_value(feature.dtype, feature.default),
        "kind": None if feature.kind is None else str(feature.kind),
        "freshness_sla": _micros(feature.freshness_sla),
        "owner": feature.owner,
        "tags": dict(feature.tags),
    }


def feature_from_dict(data: Mapping[str, Any]) -> Feature:
    """The feature that `feature_to_dict` wrote."""
    dtype = DType.parse(data["dtype"])
    return Feature(
        data["name"],
        dtype,
        column=data["column"],
        description=data["description"],
        default=decode_value(dtype, data["default"]),
        kind=data["kind"],
        freshness_sla=_duration(data["freshness_sla"]),
        owner=data["owner"],
        tags=data["tags"],
        place=PLACE,
    )


def aggregation_to_dict(aggregation: Aggregation, columns: Mapping[str, DType]) -> dict[str, Any]:
    """An aggregation of one feature (`over` expanded) as plain data; the default in the form of its dtype.

    Args:
        aggregation: the aggregation.
        columns: the dtypes of the source's columns.
    """
    dtype = aggregation.dtype(columns)
    return {
        "name": aggregation.feature_name,
        "function": aggregation.function,
        "column": aggregation.column,
        "window": _micros(aggregation.window),
        "hop": aggregation.hop_micros or None,
        "offset": _micros(aggregation.offset),
        "where": aggregation.where,
        "n": aggregation.n,
        "q": aggregation.q,
        "max_distinct": aggregation.max_distinct,
        "errors": aggregation.errors,
        "dtype": str(dtype),
        "default": aggregation.default if dtype is None else encode_value(dtype, canonical(dtype, aggregation.default)),
        "description": aggregation.description,
        "tags": dict(aggregation.tags),
    }


def aggregation_from_dict(data: Mapping[str, Any]) -> Aggregation:
    """The aggregation that `aggregation_to_dict` wrote."""
    return Aggregation(
        data["column"],
        data["function"],
        _duration(data["window"]),
        name=data["name"],
        where=data["where"],
        hop=_duration(data["hop"]),
        offset=_duration(data["offset"]),
        n=data["n"],
        q=data["q"],
        max_distinct=data["max_distinct"],
        errors=data["errors"],
        default=None if data["default"] is None else decode_value(DType.parse(data["dtype"]), data["default"]),
        description=data["description"],
        tags=data["tags"],
        place=PLACE,
    )


def view_to_dict(view: FeatureView) -> dict[str, Any]:
    """A view as plain data, its entities within, so that a version never changes with them."""
    windows = {} if not view.aggregations else {"columns": _columns(view.columns)}
    return {
        "format": _format(view),
        "name": view.name,
        "version": view.version,
        "entities": [entity_to_dict(entity) for entity in view.entities],
        "source": source_to_dict(view.source),
        "features": [aggregation_to_dict(made, view.columns) for made in view.aggregations]
        or [feature_to_dict(feature) for feature in view.feature_list],
        **windows,
        "join_key_map": dict(view.join_key_map),
        "ttl": _micros(view.ttl),
        "freshness_sla": _micros(view.freshness_sla),
        "availability_sla": view.availability_sla,
        "owner": view.owner,
        "description": view.description,
        "tags": dict(view.tags),
    }


def view_from_dict(data: Mapping[str, Any]) -> FeatureView:
    """The view that `view_to_dict` wrote, equal in fingerprint.

    Raises:
        FormatError: data of a newer format.
    """
    _check_format(data, "feature view")
    return FeatureView(
        data["name"],
        entity=[entity_from_dict(entity) for entity in data["entities"]],
        source=source_from_dict(data["source"]),
        features=[
            aggregation_from_dict(feature) if "function" in feature else feature_from_dict(feature)
            for feature in data["features"]
        ],
        version=data["version"],
        join_key_map=data["join_key_map"],
        columns=_schema(data, "columns") or {},
        ttl=_duration(data["ttl"]),
        freshness_sla=_duration(data["freshness_sla"]),
        availability_sla=data["availability_sla"],
        owner=data["owner"],
        description=data["description"],
        tags=data["tags"],
        place=PLACE,
    )


def _check_format(data: Mapping[str, Any], what: str) -> None:
    if data["format"] > FORMAT:
        raise FormatError(
            f"{what} {data.get('name')!r} has format {data['format']}; this headwater reads {FORMAT}: upgrade it"
        )


def _format(view: FeatureView) -> int:
    """The least format that says all of a view."""
    if view.source.valid_to is not None:
        return 6
    if any(isinstance(source, SparkSource) for source in (view.source, *tables_of(view.source).values())):
        return 5
    if isinstance(view.source, TransformSource) or any(True for _ in view_tables(view.source)):
        return 4
    return 3 if view.aggregations else 2 if _is_new(view.source) else 1


def _is_new(source: Source) -> bool:
    """Whether a source says something that format 1 has no word for: its readers would read other values."""
    if source.timezone is not None:
        return True
    if isinstance(source, SQLSource):
        return any(map(_is_new, source.tables.values()))
    return isinstance(source, CSVSource) and bool(source.format.meaning.keys() - {"nulls"})


def _micros(value: timedelta | str | None) -> int | None:
    assert not isinstance(value, str)
    return None if value is None else value // MICROSECOND


def _duration(micros: int | None) -> timedelta | None:
    return None if micros is None else micros * MICROSECOND
