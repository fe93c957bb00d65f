"""The kinds of aggregates, over whole columns: float sums, variances, extremes; see `planning.windows.states`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.offline.windows.ranges import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Sums:
    """Sums of doubles."""

    overlapping = False

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values

    def of(self, events: Ints | None) -> State:
        return (self._values if events is None else self._values[events],)

    def none(self, size: int) -> State:
        return (np.zeros(size),)

    def merged(self, left: State, right: State, out: State | None = None) -> State:
        return (np.add(left[0], right[0], out=None if out is None else out[0]),)

    def scanned(self, state: State) -> State:
        return (np.cumsum(state[0], axis=1),)


class Spreads:
    """(number, mean, M2) of doubles, merged by Chan's rule; see `states.spread`."""

    overlapping = False

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values

    def of(self, events: Ints | None) -> State:
        values = self._values if events is None else self._values[events]
        # 0.0 of a finite value, else NaN
        return np.ones(len(values)), values, values - values

    def none(self, size: int) -> State:
        return np.zeros(size), np.zeros(size), np.zeros(size)

    def merged(self, left: State, right: State, out: State | None = None) -> State:
        a, b = _floats(left), _floats(right)
        count = a[0] + b[0]
        share = np.divide(b[0], count, out=np.zeros_like(count), where=count > 0)
        # of no events there is no mean that could be far away; the square of a great distance, times 0, would be NaN
        empty = a[0] == 0
        distance = np.where(empty | (b[0] == 0), 0.0, b[1] - a[1])
        mean = np.where(empty, b[1], a[1] + distance * share)
        found: State = count, mean, a[2] + b[2] + distance * distance * (a[0] * share)
        if out is None:
            return found
        for values, new in zip(out, found, strict=True):
            values[...] = new
        return out

    def scanned(self, state: State) -> State:
        values = _floats(state)[1]
        count = np.broadcast_to(np.arange(1.0, values.shape[1] + 1), values.shape)
        # from the first value, so that equal ones are at a distance of 0 exactly
        apart = values - values[:, :1]
        means = np.cumsum(apart, axis=1) / count
        before = np.concatenate([np.zeros_like(apart[:, :1]), means[:, :-1]], axis=1)
        squares = np.cumsum((apart - before) * (apart - means), axis=1)
        return np.ascontiguousarray(count), values[:, :1] + means, squares


def _floats(state: State) -> tuple[NDArray[np.float64], ...]:
    return state  # type: ignore[return-value]


class Extremes:
    """The greatest values, or the least; NaN is the greatest."""

    overlapping = True

    def __init__(self, values: NDArray[Any], *, greatest: bool) -> None:
        self._values = values
        self._function: np.ufunc
        if values.dtype.kind == "f":
            self._function = np.maximum if greatest else np.fmin
            self._identity: float = -np.inf if greatest else np.nan
        else:
            self._function = np.maximum if greatest else np.minimum
            self._identity = np.iinfo(values.dtype).min if greatest else np.iinfo(values.dtype).max

    def of(self, events: Ints | None) -> State:
        return (self._values if events is None else self._values[events],)

    def none(self, size: int) -> State:
        return (np.full(size, self._identity, self._values.dtype),)

    def merged(self, left: State, right: State, out: State | None = None) -> State:
        return (self._function(left[0], right[0], out=None if out is None else out[0]),)

    def scanned(self, state: State) -> State:
        return (self._function.accumulate(state[0], axis=1),)
