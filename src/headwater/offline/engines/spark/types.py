"""Spark's types as Arrow's, and Arrow's as those in which Spark keeps uploaded columns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_PLAIN = {
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "void": pa.null(),
}
_KEPT = frozenset(kind for name, kind in _PLAIN.items() if name != "void")
_UNKNOWN = pa.struct([])
"""Of a type that no column of a view can have: intervals, variants, types of users."""


def arrow_schema(schema: Any) -> pa.Schema:
    """The Arrow types of the columns of a Spark `StructType`."""
    return pa.schema([pa.field(f.name, arrow_type(f.dataType)) for f in schema.fields])


def arrow_type(kind: Any) -> pa.DataType:
    """The Arrow type of a Spark type."""
    name = kind.typeName()
    if name == "decimal":
        return pa.decimal128(kind.precision, kind.scale)
    if name == "array":
        return pa.list_(arrow_type(kind.elementType))
    if name == "struct":
        return pa.struct([pa.field(f.name, arrow_type(f.dataType)) for f in kind.fields])
    if name == "map":
        return pa.map_(arrow_type(kind.keyType), arrow_type(kind.valueType))
    if name in ("varchar", "char"):
        return pa.string()
    return _PLAIN.get(kind.simpleString(), _UNKNOWN)


def kept_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type, one that Spark reads from Parquet, in which values of a type are kept and ordered as before."""
    if pa.types.is_dictionary(kind):
        return kept_type(kind.value_type)
    if kind in _KEPT or pa.types.is_decimal128(kind):
        return kind
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_timestamp(kind):
        return pa.int64() if kind.unit == "ns" else pa.timestamp("us", tz=None if kind.tz is None else "UTC")
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(kept_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, kept_type(f.type)) for f in kind])
    return pa.bool_() if pa.types.is_null(kind) else kind


def kept(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values in the form of `kept_type`."""
    given = values.type
    if given == kind:
        return values
    if pa.types.is_dictionary(given):
        return kept(values.dictionary_decode(), kind)
    if pa.types.is_time32(given):
        return values.cast(pa.int32()).cast(kind)
    if pa.types.is_list(kind) and pa.types.is_fixed_size_list(given):
        return _lists(values, kind)
    return values.cast(kind)


def _lists(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists of one length as lists; what stands behind a NULL one is left out."""
    inside = kept(values.flatten(), kind.value_type)
    lengths = pc.if_else(values.is_valid(), values.type.list_size, 0)
    ends = pc.cumulative_sum(lengths.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    mask = pa.concat_arrays([values.is_null(), pa.array([False])])
    offsets = pc.if_else(mask, pa.scalar(None, pa.int32()), offsets)
    return pa.ListArray.from_arrays(offsets, inside, type=kind)


def given_back(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values that Spark wrote, in the type that was asked for."""
    given = values.type
    if given == kind:
        return values
    if pa.types.is_fixed_size_list(kind) and not pa.types.is_fixed_size_list(given):
        return _fixed(values, kind)
    if pa.types.is_timestamp(given) and pa.types.is_timestamp(kind) and given.tz is None and kind.tz is not None:
        return values.cast(pa.timestamp(given.unit)).cast(pa.int64()).cast(kind)
    return values.cast(kind)


def _fixed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists of one length, as such; Arrow's own cast reads beyond the elements where every list is NULL."""
    size, there = kind.list_size, values.is_valid()
    elements = values.flatten().cast(kind.value_type)
    number = pc.subtract(pc.cumulative_sum(there.cast(pa.int64())), 1)
    if values.null_count == len(values):
        return pa.nulls(len(values), kind)
    packed = pa.FixedSizeListArray.from_arrays(elements, type=kind)
    return packed.take(pc.if_else(there, number, pa.scalar(None, pa.int64()))) if size else values.cast(kind)


def shaped(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch that Spark gave, in the types asked for."""
    columns = [given_back(c, f.type) for c, f in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
