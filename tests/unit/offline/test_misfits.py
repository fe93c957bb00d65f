"""The rule of misfits asks nothing of a dialect where all values of a type fit."""

import pyarrow as pa
import pytest

import headwater as hw
from headwater.offline.engines.duckdb.words import WORDS as DUCKDB
from headwater.offline.engines.spark.words import WORDS as SPARK
from headwater.offline.trees import column
from headwater.planning.value_rule import BITS, WHOLE

DTYPES = {d.name: d for d in (hw.Int32, hw.Int64, hw.Float32, hw.Float64)}
FITS = {name: 2**bits - 1 for name, bits in BITS.items()} | WHOLE


@pytest.mark.parametrize("words", [DUCKDB, SPARK], ids=["duckdb", "spark"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("given", [pa.int8(), pa.int16(), pa.int32(), pa.int64()], ids=str)
def test_integers_are_looked_at_where_some_do_not_fit(words, given, dtype):
    greatest = 2 ** (given.bit_width - 1) - 1
    assert (words.misfit(column("x"), given, dtype) is not None) == (greatest > FITS[dtype.name])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("given", [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()], ids=str)
def test_unsigned_integers_too(given, dtype):
    assert (DUCKDB.misfit(column("x"), given, dtype) is not None) == (2**given.bit_width - 1 > FITS[dtype.name])


@pytest.mark.parametrize("words", [DUCKDB, SPARK], ids=["duckdb", "spark"])
def test_of_lists_the_elements_are(words):
    array = hw.Array(hw.Int32)
    assert words.misfit(column("x"), pa.list_(pa.int16()), array) is None
    assert words.misfit(column("x"), pa.list_(pa.int64()), array) is not None
    assert words.misfit(column("x"), pa.list_(pa.null()), array) is None
    # of an embedding the length too
    assert words.misfit(column("x"), pa.list_(pa.float32()), hw.Embedding(3)) is not None
