"""Arrow IPC streams from outside: read whole, or refused with a sentence, at a cost that their size bounds."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.testing import rounds
from headwater.wire.arrow_streams import StreamRefused, read_stream, to_stream

TABLE = pa.table({"user": [1, 2, 3], "tags": [[1, 2], None, [3]], "name": ["x", "ä", None]}).replace_schema_metadata(
    {"headwater": "{}"}
)

TENSOR = pa.fixed_shape_tensor(pa.int64(), [1])


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def refusal(data: bytes, rows: int = 1_000, values: int = 100_000) -> StreamRefused:
    with pytest.raises(StreamRefused) as refused:
        read_stream(data, rows, values)
    return refused.value


def test_a_stream_is_read_whole() -> None:
    found = read_stream(stream(TABLE, allow_64bit=True), 3, 12)
    assert found.table.equals(TABLE) and found.metadata == {b"headwater": b"{}"}
    many = pa.concat_tables([TABLE, TABLE])
    assert many.column(0).num_chunks == 2 and read_stream(stream(many), 6, 24).table.equals(many)
    assert read_stream(stream(TABLE.slice(0, 0)), 0, 0).table.num_rows == 0


def test_what_is_written_by_hand_is_a_stream() -> None:
    batch = TABLE.to_batches()[0]
    data = to_stream(TABLE.schema.serialize().to_pybytes(), batch)
    assert ipc.open_stream(data).read_all().equals(TABLE)


def test_a_stream_that_is_cut_anywhere_is_refused() -> None:
    data = stream(TABLE)
    for end in range(len(data)):
        assert refusal(data[:end]), end


@settings(max_examples=rounds(300), deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_stream_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(stream(TABLE))
    for place, byte in changes:
        data[place % len(data)] = byte
    try:
        found = read_stream(bytes(data), 1_000, 100_000)
    except StreamRefused:
        return
    for column in found.table.columns:
        assert len(column.to_pylist()) == found.table.num_rows <= 1_000


@given(data=st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    assert refusal(data) and refusal(stream(TABLE)[:200] + data)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array(["a", "a"]).dictionary_encode(), "dictionary-encoded"),
        (pa.array([{"x": 1}]), "no dtype stands for this type"),
        (pa.array([{"x": 1}]), "struct"),
        (pa.array(["a"], pa.string_view()), "no dtype stands for this type"),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "no dtype stands for this type"),
        (pa.array([[["a"]]], pa.list_(pa.list_(pa.dictionary(pa.int32(), pa.string())))), "dictionary-encoded"),
        (pa.RunEndEncodedArray.from_arrays([1_000_000], ["a"]), "no dtype stands for this type"),
        (pa.ExtensionArray.from_storage(TENSOR, pa.array([[1]], pa.list_(pa.int64(), 1))), "extension types"),
    ],
)
def test_columns_of_other_types_are_named(column: pa.Array, says: str) -> None:
    bad = refusal(stream(pa.table({"odd": column})))
    assert says in str(bad) and "'odd'" in str(bad) and not bad.too_large


def test_deep_lists_twins_and_compressed_buffers_are_refused() -> None:
    kind = pa.int64()
    for _ in range(10):
        kind = pa.list_(kind)
    assert "nested too deep" in str(refusal(stream(pa.table({"deep": pa.array([], kind)}))))
    twins = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["user", "user"])
    assert "two columns are named 'user'" in str(refusal(stream(twins)))
    for codec in ("zstd", "lz4"):
        assert "compressed" in str(refusal(stream(pa.table({"zeros": pa.nulls(10, pa.int64())}), compression=codec)))


def test_more_than_may_be_is_refused_before_it_is_made() -> None:
    zeros = pa.FixedSizeBinaryArray.from_buffers(pa.binary(0), 2**28, [None, pa.py_buffer(b"")])
    long = pa.ListArray.from_arrays(pa.array([0, 2**28], pa.int32()), zeros)
    bombs = [
        pa.table({"nothing": pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])}),
        pa.table({"list": long}),
        pa.table({"list": pa.array([[None] * 100_001])}),
        pa.table({f"c{i}": pa.array([], pa.int64()) for i in range(5_000)}),
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            data = stream(bomb)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0], pa.total_allocated_bytes()
            assert refusal(data).too_large
            assert tracemalloc.get_traced_memory()[1] - before[0] < 8e6
            assert pa.total_allocated_bytes() - before[1] < 8e6
    finally:
        tracemalloc.stop()
    few = pa.RecordBatch.from_arrays([pa.array([1])], ["user"])
    batches = pa.Table.from_batches([few] * 1_025)
    assert "more than 1,024 batches" in str(refusal(stream(batches), rows=10_000))
