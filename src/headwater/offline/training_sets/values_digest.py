"""A digest of the values of columns, whatever batches they come in and whatever Arrow keeps under a NULL."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


class ValuesDigest:
    """SHA-256 over the values of some columns, row by row of each column.

    Of each column: a byte a value that says whether it is NULL; the values as they are in memory, little-endian, 0 for
    NULL; of text and bytes the lengths (8 bytes each), then the bytes; of lists the lengths, then the elements as a
    column of their own; of structs the fields. −0.0 and 0.0 differ, and so do the many forms of NaN.

    Args:
        schema: names and types of the columns, which are digested too.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = [_Column() for _ in schema]

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows in."""
        for digest, column in zip(self._columns, batch.columns, strict=True):
            digest.add(column)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        whole = hashlib.sha256()
        for field, column in zip(self._schema, self._columns, strict=True):
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            whole.update(f"{field.name}\0{kind}\0".encode())
            whole.update(column.digest())
        return whole.hexdigest()


class _Column:
    def __init__(self) -> None:
        self._valid, self._lengths, self._data = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._inner: dict[str, _Column] = {}

    def digest(self) -> bytes:
        whole = hashlib.sha256(self._valid.digest() + self._lengths.digest() + self._data.digest())
        for name, inner in sorted(self._inner.items()):
            whole.update(name.encode() + b"\0" + inner.digest())
        return whole.digest()

    def add(self, column: pa.Array) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        kind = column.type
        valid = column.is_valid()
        self._valid.update(_numbers(valid).tobytes())
        if pa.types.is_null(kind):
            return
        if pa.types.is_struct(kind):
            for i, field in enumerate(kind):
                self._part(field.name).add(column.flatten()[i])
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            self._lengths.update(_lengths(pc.list_value_length(column)))
            self._part("element").add(pc.list_flatten(column))
        elif any(is_kind(kind) for is_kind in _TEXTS):
            self._bytes(column.cast(pa.large_binary()))
        elif pa.types.is_boolean(kind):
            self._data.update(_numbers(column.fill_null(False)).tobytes())
        elif _is_fixed(kind):
            self._fixed(column)
        else:
            self._bytes(column.cast(pa.large_string()).cast(pa.large_binary()))

    def _part(self, name: str) -> _Column:
        return self._inner.setdefault(name, _Column())

    def _bytes(self, column: pa.Array) -> None:
        self._lengths.update(_lengths(pc.binary_length(column)))
        for chunk in (column.drop_null(),):
            _, offsets, data = chunk.buffers()
            if data is not None and len(chunk):
                ends = np.frombuffer(offsets, np.int64, len(chunk) + 1, chunk.offset * 8)
                self._data.update(memoryview(data)[int(ends[0]) : int(ends[-1])])

    def _fixed(self, column: pa.Array) -> None:
        width = column.type.bit_width // 8
        if column.null_count:
            # what is under a NULL is anything
            values = np.array(_raw(column, width).reshape(-1, width), copy=True)
            values[~_numbers(column.is_valid()).astype(bool)] = 0
            self._data.update(values.tobytes())
            return
        self._data.update(memoryview(_raw(column, width)))


def _raw(column: pa.Array, width: int) -> Any:
    if not len(column):
        return np.empty(0, np.uint8)
    return np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)


def _is_fixed(kind: pa.DataType) -> bool:
    if pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return bool(pa.types.is_primitive(kind))


def _numbers(flags: pa.Array) -> Any:
    return flags.to_numpy(zero_copy_only=False).astype(np.uint8)


def _lengths(found: pa.Array) -> bytes:
    return np.asarray(found.fill_null(0).to_numpy(zero_copy_only=False), np.int64).tobytes()
