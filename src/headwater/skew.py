"""Consistency and skew: how similar two values of a feature are, online and offline say, as pure formulas.

Consistency(a, b) = 1 - |a - b| / max(|a|, |b|), clamped to [0, 1]; 1 where both are 0 or both NULL, 0 where one is.
Categorical: 1 where equal, else 0. Embedding: the cosine of the angle between them, clamped to [0, 1].
Skew = mean |a - b| over the pairs of which neither is NULL.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.types import FeatureKind

Column = Any
"""An Arrow or NumPy array, or a list."""

Floats = NDArray[np.float64]


def consistency(a: Any, b: Any, kind: FeatureKind | str = FeatureKind.NUMERICAL) -> float:
    """How similar two values are.

    NaN and the infinities are values: NaN equals NaN and differs from every number.

    Args:
        a: a number (numerical), any value (categorical), or a sequence of numbers (embedding); None is NULL.
        b: the value to compare it with, of the same kind.
        kind: how they are compared.

    Returns:
        A number from 0 (different) to 1 (equal).
    """
    kind = FeatureKind(kind)
    if a is None or b is None:
        return float(a is b)
    if kind is FeatureKind.CATEGORICAL:
        return float(_equal(a, b))
    if kind is FeatureKind.EMBEDDING:
        return _cosine(np.asarray(a, np.float64), np.asarray(b, np.float64))
    if _equal(a, b):
        return 1.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return 0.0
    return float(max(0.0, 1.0 - abs(a - b) / max(abs(a), abs(b))))


def _equal(a: Any, b: Any) -> bool:
    """Equality in which NaN equals NaN, within arrays too."""
    if isinstance(a, (list, tuple, np.ndarray)) and isinstance(b, (list, tuple, np.ndarray)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) or (isinstance(a, (float, np.floating)) and bool(a != a) and bool(b != b))


def _cosine(a: Floats, b: Floats) -> float:
    if a.shape != b.shape:
        return 0.0
    return float(_cosines(a[None, :], b[None, :])[0])


def _cosines(a: Floats, b: Floats) -> Floats:
    """Row by row; scaled first, so that no square overflows or vanishes."""
    same = ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
    with np.errstate(all="ignore"):
        a = a / np.abs(a).max(axis=1, initial=0.0, keepdims=True)
        b = b / np.abs(b).max(axis=1, initial=0.0, keepdims=True)
        cosines = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    clamped: Floats = np.clip(np.nan_to_num(cosines, nan=0.0), 0.0, 1.0)
    return np.where(same, 1.0, clamped)


def consistency_column(a: Column, b: Column, kind: FeatureKind | str = FeatureKind.NUMERICAL) -> Floats:
    """`consistency` of each pair of two columns of one length.

    Args:
        a: an Arrow or NumPy array (NaN is a value) or a list (None is NULL).
        b: the column to compare it with, of the same length.
        kind: how they are compared.

    Returns:
        float64 of shape (rows,), each from 0 to 1.

    Raises:
        ValueError: columns of different lengths.
    """
    left, right = _pair(a, b)
    kind = FeatureKind(kind)
    if kind is FeatureKind.EMBEDDING:
        return _embedding_column(left, right)
    nulls_left, nulls_right = _mask(left), _mask(right)
    if kind is FeatureKind.NUMERICAL:
        values = _numerical_column(left, right)
    else:
        values = _equal_column(left, right).astype(np.float64)
    values[nulls_left | nulls_right] = 0.0
    values[nulls_left & nulls_right] = 1.0
    return values


def _pair(a: Column, b: Column) -> tuple[pa.Array, pa.Array]:
    left, right = _array(a), _array(b)
    if len(left) != len(right):
        raise ValueError(f"columns differ in length: {len(left)} and {len(right)}")
    return left, right


def _array(column: Column) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    if isinstance(column, pa.Array):
        return column
    if isinstance(column, np.ndarray) and column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
    return pa.array(column)


def _mask(column: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return mask


def _floats(column: pa.Array) -> Floats:
    """A numerical column as float64, NaN where it is NULL."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values: Floats = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _numerical_column(left: pa.Array, right: pa.Array) -> Floats:
    a, b = _floats(left), _floats(right)
    with np.errstate(all="ignore"):
        values = 1.0 - np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    values[~(np.isfinite(a) & np.isfinite(b))] = 0.0
    values = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
    values[(a == b) | (np.isnan(a) & np.isnan(b))] = 1.0
    return values


def _equal_column(left: pa.Array, right: pa.Array) -> NDArray[np.bool_]:
    plain = not (pa.types.is_nested(left.type) or pa.types.is_floating(left.type))
    if plain and left.type == right.type:
        equal: NDArray[np.bool_] = pc.fill_null(pc.equal(left, right), False).to_numpy(zero_copy_only=False)
        return equal.copy()
    pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
    return np.fromiter((_equal(a, b) for a, b in pairs), np.bool_, len(left))


def _embedding_column(left: pa.Array, right: pa.Array) -> Floats:
    a, b = _matrix(left), _matrix(right)
    if a is not None and b is not None and a.shape == b.shape:
        return _cosines(a, b)
    pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
    return np.array([consistency(a, b, FeatureKind.EMBEDDING) for a, b in pairs], np.float64)


def _matrix(column: pa.Array) -> Floats | None:
    """Vectors of one length without a NULL as a matrix, else None."""
    if not pa.types.is_fixed_size_list(column.type) or column.null_count or column.flatten().null_count:
        return None
    return _floats(column.flatten()).reshape(len(column), column.type.list_size)


def skew(a: Column, b: Column, kind: FeatureKind | str = FeatureKind.NUMERICAL) -> float | None:
    """Mean |a - b| of two columns over the pairs of which neither is NULL; None where there is no such pair.

    Of categories |a - b| is 1 where they differ, of embeddings the mean over their elements (1 where lengths differ);
    a NaN or infinity paired with another value makes it infinite.

    Args:
        a: an Arrow or NumPy array, or a list.
        b: the column to compare it with, of the same length.
        kind: how they are compared.

    Returns:
        The mean, or None if every pair has a NULL.

    Raises:
        ValueError: columns of different lengths.
    """
    left, right = _pair(a, b)
    both = ~(_mask(left) | _mask(right))
    if not both.any():
        return None
    left, right = left.filter(pa.array(both)), right.filter(pa.array(both))
    match FeatureKind(kind):
        case FeatureKind.NUMERICAL:
            gaps = _gaps(_floats(left), _floats(right))
        case FeatureKind.CATEGORICAL:
            gaps = 1.0 - _equal_column(left, right).astype(np.float64)
        case FeatureKind.EMBEDDING:
            gaps = _embedding_gaps(left, right)
    with np.errstate(over="ignore"):
        return float(gaps.mean())


def _gaps(a: Floats, b: Floats) -> Floats:
    with np.errstate(all="ignore"):
        gaps = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.nan_to_num(gaps, nan=np.inf, posinf=np.inf))


def _embedding_gaps(left: pa.Array, right: pa.Array) -> Floats:
    gaps = []
    for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True):
        one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
        gaps.append(1.0 if one.shape != other.shape else float(_gaps(one, other).mean()) if one.size else 0.0)
    return np.array(gaps, np.float64)
