"""Two columns compared value by value: NULL equals NULL, NaN equals NaN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.types import is_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING = 1e-9
"""How far computed floats may be apart, relative to the greater: sums are added up in another order elsewhere."""


def different(saved: pa.Array, now: pa.Array) -> NDArray[np.bool_]:
    """In which rows two columns of one type have different values; −0.0 and 0.0 are equal."""
    if saved.equals(now):
        return np.zeros(len(saved), bool)
    if is_list(saved.type) or pa.types.is_nested(saved.type):
        pairs = zip(saved.to_pylist(), now.to_pylist(), strict=True)
        return np.array([not _equal(one, other) for one, other in pairs], bool)
    either = np.asarray(saved.is_valid()) | np.asarray(now.is_valid())
    equal = np.asarray(pc.fill_null(pc.equal(saved, now), False).to_numpy(zero_copy_only=False), bool)
    if pa.types.is_floating(saved.type):
        nan = [
            np.asarray(pc.fill_null(pc.is_nan(each), False).to_numpy(zero_copy_only=False), bool)
            for each in (saved, now)
        ]
        equal = equal | (nan[0] & nan[1])
    found: NDArray[np.bool_] = either & ~equal
    return found


def close(saved: pa.Array, now: pa.Array, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of some rows differ by no more than `ROUNDING`, in columns of floats."""
    one, other = (
        np.asarray(pc.fill_null(each, math.nan).to_numpy(zero_copy_only=False), np.float64) for each in (saved, now)
    )
    with np.errstate(all="ignore"):
        near = np.abs(one - other) <= ROUNDING * np.maximum(np.abs(one), np.abs(other))
    found: NDArray[np.bool_] = rows & near
    return found


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return bool(one == other) and (one is None) == (other is None)
