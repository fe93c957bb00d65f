"""The bins of quantiles: by sign, exponent and the first six bits of the mantissa, so that none is wider than 1/64.

A bin is a whole number in the order of the values: 0 for zero, positive for positive values, its negative for their
negatives; infinities and NaN have bins of their own. `bins_of` does whole columns.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 64
INFINITE_BIN = 1 << 18
NAN_BIN = INFINITE_BIN + 1
_LEAST_EXPONENT = -1073
"""`frexp`'s, of the least double."""


def bin_of(number: float) -> int:
    """The bin of a double."""
    if number != number:
        return NAN_BIN
    if number in (math.inf, -math.inf):
        return INFINITE_BIN if number > 0 else -INFINITE_BIN
    if number == 0.0:
        return 0
    mantissa, exponent = math.frexp(abs(number))
    code = (exponent - _LEAST_EXPONENT) * STEPS + int(mantissa * 2 * STEPS) - STEPS + 1
    return code if number > 0 else -code


GREATEST_BIN = bin_of(sys.float_info.max)


def is_bin(code: int) -> bool:
    """Whether numbers of this bin exist."""
    return abs(code) <= GREATEST_BIN or abs(code) == INFINITE_BIN or code == NAN_BIN


def midpoint(code: int) -> float:
    """The midpoint of a bin, within 1/128 of every value in it; zero, an infinity or NaN as itself."""
    if code == NAN_BIN:
        return math.nan
    size = abs(code)
    if size == INFINITE_BIN:
        return math.copysign(math.inf, code)
    if code == 0:
        return 0.0
    exponent, step = divmod(size - 1, STEPS)
    return math.copysign(math.ldexp(2 * (STEPS + step) + 1, exponent + _LEAST_EXPONENT - 8), code)


def rank_of(q: float, count: int) -> int:
    """Which of `count` values in ascending order is the quantile, from 1: max(1, ceil(q · n)) in doubles."""
    return max(1, math.ceil(q * count))


def bins_of(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """`bin_of` each number of a column."""
    doubles = numbers.astype(np.float64)
    mantissas, exponents = np.frexp(np.abs(np.where(np.isfinite(doubles), doubles, 0.0)))
    steps = (mantissas * (2 * STEPS)).astype(np.int64)
    codes = (exponents.astype(np.int64) - _LEAST_EXPONENT) * STEPS + steps - STEPS + 1
    codes = np.where(doubles < 0, -codes, codes)
    codes = np.where(doubles == 0, 0, codes)
    codes = np.where(np.isinf(doubles), np.where(doubles > 0, INFINITE_BIN, -INFINITE_BIN), codes)
    return np.where(np.isnan(doubles), NAN_BIN, codes)
