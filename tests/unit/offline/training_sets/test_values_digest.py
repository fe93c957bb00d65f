"""The digest of values: the same for equal values however they are held, another for others."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.offline.training_sets.values_digest import ValuesDigest
from headwater.testing import rounds

KINDS = [
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
    pa.large_string(),
    pa.binary(),
    pa.timestamp("us", "UTC"),
    pa.date32(),
    pa.list_(pa.string()),
    pa.list_(pa.float32(), 2),
    pa.struct([("a", pa.int64()), ("b", pa.string())]),
    pa.dictionary(pa.int32(), pa.string()),
    pa.decimal128(9, 2),
    pa.null(),
]


def value_of(kind, number):
    """One of a few values of a type; None for 0."""
    if number == 0 or pa.types.is_null(kind):
        return None
    text = "ab" * (number - 1)
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text
    if pa.types.is_binary(kind):
        return text.encode()
    if pa.types.is_timestamp(kind):
        return datetime(2024, 1, number, tzinfo=UTC)
    if pa.types.is_date(kind):
        return datetime(2024, 1, number).date()
    if pa.types.is_boolean(kind):
        return number % 2 == 0
    if pa.types.is_fixed_size_list(kind):
        return [float(number), None if number == 2 else 1.0]
    if pa.types.is_list(kind):
        return [text] * (number - 1)
    if pa.types.is_struct(kind):
        return {"a": number, "b": None if number == 3 else text}
    return number


def digest(schema, batches):
    found = ValuesDigest(schema)
    for batch in batches:
        found.add(batch)
    return found.hexdigest()


COLUMNS = st.lists(st.lists(st.integers(0, 4), min_size=len(KINDS), max_size=len(KINDS)), min_size=1, max_size=9)


@settings(max_examples=rounds(20), deadline=None)
@given(COLUMNS, st.lists(st.integers(0, 9), max_size=3), st.integers(0, 8), st.sampled_from(range(len(KINDS))))
def test_equal_values_have_one_digest_and_others_another(rows, cuts, row, column):
    schema = pa.schema([(f"c{i}", kind) for i, kind in enumerate(KINDS)])

    def table(numbers):
        values = [[value_of(kind, r[i]) for r in numbers] for i, kind in enumerate(KINDS)]
        return pa.table([pa.array(v, k) for v, k in zip(values, KINDS, strict=True)], schema=schema)

    whole = table(rows)
    ends = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    parts = [
        batch
        for start, end in pairwise(ends)
        for batch in whole.slice(start, end - start).combine_chunks().to_batches()
    ]
    expected = digest(schema, whole.combine_chunks().to_batches())
    assert digest(schema, parts) == expected
    # the same values behind others, so that every array has an offset
    sliced = pa.concat_tables([table([[1] * len(KINDS)]), whole]).combine_chunks().slice(1).to_batches()
    assert digest(schema, sliced) == expected
    row %= len(rows)
    changed = [list(r) for r in rows]
    changed[row][column] = (changed[row][column] + 1) % 5
    other = table(changed)
    same = other.column(column).combine_chunks().to_pylist() == whole.column(column).combine_chunks().to_pylist()
    assert (digest(schema, other.combine_chunks().to_batches()) == expected) == same


def test_what_is_under_a_null_and_names_and_types_count_as_they_should():
    under = [np.array([1.0, 5.0]), np.array([1.0, 7.0])]
    held = [pa.Array.from_buffers(pa.float64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(v.tobytes())]) for v in under]
    schema = pa.schema([("x", pa.float64())])
    one, other = (digest(schema, [pa.record_batch([array], schema=schema)]) for array in held)
    assert one == other
    renamed = pa.schema([("y", pa.float64())])
    assert digest(renamed, [pa.record_batch([held[0]], schema=renamed)]) != one
    integers = pa.schema([("x", pa.int64())])
    zeros = [
        pa.record_batch([pa.array([0], kind)], schema=s) for kind, s in ((pa.float64(), schema), (pa.int64(), integers))
    ]
    assert digest(schema, zeros[:1]) != digest(integers, zeros[1:])


def test_no_rows_and_no_columns_have_a_digest():
    assert len(digest(pa.schema([]), [])) == 64
    schema = pa.schema([("x", pa.string())])
    assert digest(schema, []) == digest(schema, schema.empty_table().to_batches())
