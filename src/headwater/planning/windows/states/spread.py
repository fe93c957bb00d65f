"""Variances: (number, mean, M2), M2 being the sum of squares of the distances from the mean.

Updated by Welford's rule, merged by Chan's (T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm
for Computing Sample Variances", 1979); never from sums of squares, which lose all digits where the mean is large.
"""

from __future__ import annotations

from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import Entry

Spread = tuple[int, float, float]


class Spreads(StateKind):
    """(number, mean, M2), all in doubles; NaN where a value is not finite."""

    def add(self, state: Spread | None, entry: Entry) -> Spread:
        """One value more."""
        value = float(entry.value)
        if state is None:
            # 0.0 of a finite value, else NaN
            return 1, value, value - value
        count, mean, squares = state
        distance = value - mean
        after = mean + distance / (count + 1)
        return count + 1, after, squares + distance * (value - after)

    def merged(self, state: Spread, other: Spread) -> Spread:
        """Both, by Chan's rule."""
        count, distance = state[0] + other[0], other[1] - state[1]
        mean = state[1] + distance * (other[0] / count)
        return count, mean, state[2] + other[2] + distance * distance * (state[0] * other[0] / count)
