"""Consistency and skew by their formulas, one value at a time and by columns."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from headwater.skew import consistency, consistency_column, skew
from headwater.testing import rounds
from headwater.types import FeatureKind

NUMBERS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324])
WORDS = st.none() | st.sampled_from(["", "a", "b"])
VECTORS = st.none() | st.lists(st.floats(width=32), min_size=2, max_size=2)
PAIRS = {
    FeatureKind.NUMERICAL: st.lists(st.tuples(NUMBERS, NUMBERS)),
    FeatureKind.CATEGORICAL: st.lists(st.tuples(WORDS, WORDS)),
    FeatureKind.EMBEDDING: st.lists(st.tuples(VECTORS, VECTORS)),
}
TYPES = {
    FeatureKind.NUMERICAL: pa.float64(),
    FeatureKind.CATEGORICAL: pa.string(),
    FeatureKind.EMBEDDING: pa.list_(pa.float32(), 2),
}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1.0, 1.0, 1.0),
        (2.0, 1.0, 0.5),
        (1, 2, 0.5),
        (0, 0, 1.0),
        (0.0, -0.0, 1.0),
        (0, 5, 0.0),
        (-1.0, 1.0, 0.0),
        (None, None, 1.0),
        (None, 0.0, 0.0),
        (0.0, None, 0.0),
        (math.nan, math.nan, 1.0),
        (math.nan, 1.0, 0.0),
        (math.inf, math.inf, 1.0),
        (math.inf, 1.0, 0.0),
        (1e308, -1e308, 0.0),
        (2**62, 2**62, 1.0),
    ],
)
def test_numbers(a: Any, b: Any, expected: float) -> None:
    assert consistency(a, b) == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("a", "a", 1.0),
        ("a", "b", 0.0),
        (True, True, 1.0),
        (b"x", b"x", 1.0),
        (None, "a", 0.0),
        ([1, None], [1, None], 1.0),
    ],
)
def test_categories(a: Any, b: Any, expected: float) -> None:
    assert consistency(a, b, "categorical") == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 0.0], [2.0, 0.0], 1.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([1.0, 0.0], [-1.0, 0.0], 0.0),
        ([1.0, 1.0], [1.0, 0.0], 1 / math.sqrt(2)),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0),
        ([1e200, 0.0], [1e-200, 0.0], 1.0),
        ([1.0], [1.0, 0.0], 0.0),
        (None, [1.0], 0.0),
    ],
)
def test_embeddings(a: Any, b: Any, expected: float) -> None:
    assert consistency(a, b, "embedding") == pytest.approx(expected)


@pytest.mark.parametrize("kind", list(FeatureKind))
@settings(max_examples=rounds(40), deadline=None)
@given(data=st.data())
def test_a_column_is_its_values_one_by_one(kind: FeatureKind, data: st.DataObject) -> None:
    pairs = data.draw(PAIRS[kind])
    a, b = ([pair[i] for pair in pairs] for i in (0, 1))
    columns = (pa.array(a, TYPES[kind]), pa.array(b, TYPES[kind]))
    found = consistency_column(*columns, kind)
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, [consistency(x, y, kind) for x, y in pairs], atol=1e-12)
    np.testing.assert_allclose(found, consistency_column(*columns[::-1], kind), atol=1e-12)
    chunked = [pa.chunked_array([column]) for column in columns]
    np.testing.assert_array_equal(found, consistency_column(*chunked, kind))


def test_columns_may_be_numpy_or_lists() -> None:
    np.testing.assert_array_equal(consistency_column(np.array([1, 2, 0]), [1.0, 4.0, None]), [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(consistency_column(np.eye(2), np.ones((2, 2)) * [1, 0], "embedding"), [1.0, 0.0])
    np.testing.assert_array_equal(consistency_column([True, False], [True, True], "categorical"), [1.0, 0.0])
    with pytest.raises(ValueError, match="2 and 1"):
        consistency_column([1, 2], [1])


def test_skew() -> None:
    assert skew([1.0, 2.0, None], [1.5, 4.0, 9.0]) == 1.25
    assert skew([None], [None]) is None
    assert skew([], []) is None
    assert skew([math.nan], [math.nan]) == 0.0
    assert skew([math.nan], [1.0]) == math.inf
    assert skew(["a", "b", None], ["a", "c", "d"], "categorical") == 0.5
    assert skew([[1.0, 2.0]], [[1.0, 4.0]], "embedding") == 1.0
    assert skew([[1.0]], [[1.0, 4.0]], "embedding") == 1.0
