"""Arrow IPC streams: written whole, and read within bounds, whatever the bytes are.

PyArrow's reader takes what a stream says of itself at its word: it decompresses, decodes dictionaries and makes as many
values as a length says. So each message is looked at before its body is: a stream of a few bytes cannot stand for more
values than its reader allows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.ipc as ipc

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
METADATA = b"headwater"
"""The key of the schema's metadata under which the JSON document of a request or an answer stands."""
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
MOST_COLUMNS = 4_096
"""Of a table from outside."""
_MOST_BATCHES = 1_024
_DEEPEST = 8
_HEADER = 2
_LENGTH, _NODES, _COMPRESSION = 0, 1, 3


class StreamRefused(ValueError):
    """A stream that is not read.

    Attributes:
        too_large: whether it is more than the reader takes at once, not malformed.
    """

    def __init__(self, message: str, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class Stream:
    """What a stream holds.

    Attributes:
        table: its rows.
        metadata: of its schema.
    """

    table: pa.Table
    metadata: Mapping[bytes, bytes]


def to_stream(schema: bytes, batch: pa.RecordBatch) -> bytes:
    """A stream of one batch.

    Args:
        schema: the batch's schema, serialized; with metadata where there is some.
        batch: the rows.
    """
    body: bytes = batch.serialize().to_pybytes()
    return schema + body + _END


def read_stream(data: bytes, most_rows: int, most_values: int) -> Stream:
    """The rows of a stream from outside.

    Args:
        data: the whole stream.
        most_rows: that it may have.
        most_values: that all columns may have together, elements of lists counted.

    Raises:
        StreamRefused: it is not a stream, is damaged or cut short, has columns of types that no dtype stands for, or
            more than it may.
    """
    try:
        return _read(data, most_rows, most_values)
    except StreamRefused:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, OverflowError, MemoryError, struct.error) as bad:
        said = " ".join(str(bad).split())[:200]
        raise StreamRefused(f"it is not a whole Arrow IPC stream: {said or type(bad).__name__}") from None


def _read(data: bytes, most_rows: int, most_values: int) -> Stream:
    source = pa.BufferReader(data)
    messages = _messages(ipc.MessageReader.open_stream(source))
    first = next(messages, None)
    if first is None or first.type != "schema":
        raise StreamRefused("it does not begin with a schema")
    schema = ipc.read_schema(first)
    _check_schema(schema)
    batches: list[pa.RecordBatch] = []
    rows = values = 0
    for message in messages:
        if message.type != "record batch":
            raise StreamRefused(f"it has a message of the kind {message.type!r}; send record batches alone")
        count, inner = _counts(memoryview(message.metadata))
        rows, values = rows + count, values + inner
        if rows > most_rows:
            raise StreamRefused(f"{rows:,} rows in one request, at most {most_rows:,}: send them in parts", True)
        if values > most_values:
            raise StreamRefused(f"{values:,} values in one request, at most {most_values:,}: send them in parts", True)
        if len(batches) == _MOST_BATCHES:
            raise StreamRefused(f"it has more than {_MOST_BATCHES:,} batches: send fewer, larger ones")
        batch = ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        batches.append(batch)
    if data[source.tell() - len(_END) : source.tell()] != _END:
        raise StreamRefused("it is cut short: its end marker is missing")
    return Stream(pa.Table.from_batches(batches, schema), schema.metadata or {})


def _messages(reader: ipc.MessageReader) -> Iterator[ipc.Message]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _check_schema(schema: pa.Schema) -> None:
    if len(schema) > MOST_COLUMNS:
        raise StreamRefused(f"it has {len(schema):,} columns, at most {MOST_COLUMNS:,}", True)
    names = schema.names
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise StreamRefused(f"two columns are named {twice!r}")
    for field in schema:
        why = _refusal(field.type)
        if why:
            raise StreamRefused(f"column {field.name!r} is {field.type}: {why}")


def _refusal(kind: pa.DataType, depth: int = 0) -> str | None:
    """Why a type is not read; None where it is."""
    if isinstance(kind, pa.BaseExtensionType):
        return "extension types are not read; send their storage"
    types = pa.types
    if types.is_dictionary(kind):
        return "dictionary-encoded columns are not read; send plain ones"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "lists are nested too deep" if depth == _DEEPEST else _refusal(kind.value_type, depth + 1)
    plain = types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal
    times = types.is_date, types.is_timestamp
    texts = types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary
    if any(check(kind) for check in (*plain, *times, *texts)):
        return None
    return "no dtype stands for this type; send numbers, booleans, text, binary, times, dates or lists of these"


def _counts(message: memoryview) -> tuple[int, int]:
    """How many rows a record batch has, and how many values at most: rows and elements of all its columns.

    Raises:
        StreamRefused: the batch is compressed, or its lengths mean nothing.
    """
    root = _Table(message, struct.unpack_from("<I", message, 0)[0])
    batch = root.table(_HEADER)
    if batch.at(_COMPRESSION):
        raise StreamRefused("its buffers are compressed; send them plain")
    place = batch.at(_LENGTH)
    rows = struct.unpack_from("<q", message, place)[0] if place else 0
    lengths = [rows]
    place = batch.at(_NODES)
    if place:
        start = place + struct.unpack_from("<I", message, place)[0]
        (count,) = struct.unpack_from("<I", message, start)
        if 16 * count > len(message):
            raise StreamRefused("its lengths do not add up")
        lengths += struct.unpack_from(f"<{2 * count}q", message, start + 4)[::2]
    if min(lengths) < 0:
        raise StreamRefused("it has a length below 0")
    return rows, sum(lengths[1:])


class _Table:
    """A table of a FlatBuffer: where its fields are."""

    __slots__ = ("_data", "_place", "_vtable", "_width")

    def __init__(self, data: memoryview, place: int) -> None:
        self._data, self._place = data, place
        self._vtable = place - struct.unpack_from("<i", data, place)[0]
        (self._width,) = struct.unpack_from("<H", data, self._vtable)

    def at(self, field: int) -> int:
        """Where a field stands; 0 where the table lacks it."""
        slot = 4 + 2 * field
        if slot + 2 > self._width:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._vtable + slot)[0]
        return self._place + offset if offset else 0

    def table(self, field: int) -> _Table:
        """The table that a field refers to."""
        place = self.at(field)
        if not place:
            raise StreamRefused("a message has no header")
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])
