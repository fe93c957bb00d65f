"""Dtypes and the Arrow types that fit them."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from headwater.definitions.source_checks import _RESERVED
from headwater.types import declare_hint, fits, fitting_dtype


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (pa.bool_(), "Bool"),
        (pa.int8(), "Int32"),
        (pa.uint16(), "Int32"),
        (pa.uint32(), "Int64"),
        (pa.int64(), "Int64"),
        (pa.float16(), "Float32"),
        (pa.float64(), "Float64"),
        (pa.decimal128(10, 0), "Int64"),
        (pa.decimal128(10, 2), "Float64"),
        (pa.dictionary(pa.int8(), pa.large_string()), "String"),
        (pa.binary(4), "Bytes"),
        (pa.date32(), "Date"),
        (pa.timestamp("ns", "Europe/Berlin"), "Timestamp"),
        (pa.list_(pa.float64()), "Array(Float64)"),
        (pa.list_(pa.float32(), 3), "Embedding(3)"),
        (pa.list_(pa.list_(pa.string())), "Array(Array(String))"),
    ],
)
def test_the_dtype_that_is_suggested_fits(given: pa.DataType, dtype: str) -> None:
    found = fitting_dtype(given)
    assert found is not None and repr(found) == dtype and fits(given, found)
    assert f"declare it hw.{dtype}" in declare_hint(given)


@pytest.mark.parametrize("given", [pa.uint64(), pa.struct([("a", pa.int64())]), pa.time64("us"), pa.list_(pa.uint64())])
def test_none_is_suggested_where_none_fits(given: pa.DataType) -> None:
    assert fitting_dtype(given) is None
    assert "no dtype fits" in declare_hint(given)


def test_words_of_sql_are_those_of_the_engine() -> None:
    found = duckdb.sql("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'").fetchall()
    words = {word for (word,) in found}
    assert words <= _RESERVED | {"pivot_longer", "pivot_wider", "lambda"}
