"""Freshness: how fresh a value of some age is, between 0 and 1, over scalars and NumPy columns."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from headwater.values import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FreshnessFunction(enum.StrEnum):
    """How freshness falls with age."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"


@overload
def linear(age: float, sla: float) -> float: ...
@overload
def linear(age: NDArray[Any], sla: float) -> NDArray[np.float64]: ...
def linear(age: float | NDArray[Any], sla: float) -> float | NDArray[np.float64]:
    """F = max(0, 1 − age/SLA): 1 when new, 0 from the SLA on.

    Args:
        age: now − event time, in any unit; a negative age counts as 0, NaN gives NaN.
        sla: the freshness SLA in the same unit; with 0, only an age of 0 is fresh.

    Returns:
        A number from 0 to 1, or a float64 array of the shape of `age`.
    """
    if sla <= 0:
        fresh: NDArray[np.float64] = np.where(np.asarray(age) > 0, 0.0, 1.0)
        return fresh if isinstance(age, np.ndarray) else float(fresh)
    if isinstance(age, np.ndarray):
        score: NDArray[np.float64] = np.clip(1.0 - np.maximum(age, 0) / sla, 0.0, 1.0)
        return score
    return max(0.0, 1.0 - max(age, 0) / sla) if age == age else age


@overload
def exponential(age: float, half_life: float) -> float: ...
@overload
def exponential(age: NDArray[Any], half_life: float) -> NDArray[np.float64]: ...
def exponential(age: float | NDArray[Any], half_life: float) -> float | NDArray[np.float64]:
    """F = 2^(−age/half_life): a half after each half-life.

    Args:
        age: now − event time, in any unit; a negative age counts as 0, NaN gives NaN.
        half_life: in the same unit, greater than 0.

    Returns:
        A number from 0 to 1, or a float64 array of the shape of `age`.
    """
    if isinstance(age, np.ndarray):
        score: NDArray[np.float64] = np.exp2(-np.maximum(age, 0) / half_life)
        return score
    return float(2.0 ** (-max(age, 0) / half_life)) if age == age else age


class Freshness(Value, frozen=True):
    """The function a project measures freshness by.

    Attributes:
        function: linear or exponential.
        half_life: microseconds, for the exponential one; None: the SLA.
    """

    function: FreshnessFunction = FreshnessFunction.LINEAR
    half_life: int | None = None

    @overload
    def score(self, age: float, sla: int | None) -> float: ...
    @overload
    def score(self, age: NDArray[Any], sla: int | None) -> NDArray[np.float64]: ...
    def score(self, age: float | NDArray[Any], sla: int | None) -> float | NDArray[np.float64]:
        """Freshness at an age, both in microseconds; 1 where no SLA nor half-life says what is late."""
        if self.function is FreshnessFunction.EXPONENTIAL:
            half_life = self.half_life or sla
            if half_life:
                return exponential(age, half_life)
        elif sla is not None:
            return linear(age, sla)
        return np.ones(len(age)) if isinstance(age, np.ndarray) else 1.0
