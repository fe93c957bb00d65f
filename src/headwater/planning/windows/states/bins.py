"""Quantiles: how many values are in each bin of `quantile_bins`."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.planning.windows.quantile_bins import bin_of, midpoint, rank_of
from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import Entry

Bins = Mapping[int, int]
MOST_BINS = 2_048
"""In a tile of a row."""


class QuantileBins(StateKind):
    """Bin → how many values."""

    def add(self, state: Bins | None, entry: Entry) -> Bins:
        """One value more."""
        code = bin_of(float(entry.value))
        return {code: 1} if state is None else {**state, code: state.get(code, 0) + 1}

    def merged(self, state: Bins, other: Bins) -> Bins:
        """Both."""
        bins = dict(state)
        for code, count in other.items():
            bins[code] = bins.get(code, 0) + count
        return bins

    def quantile(self, state: Bins, q: float) -> float:
        """The midpoint of the bin of a quantile's rank."""
        rank, count = rank_of(q, sum(state.values())), 0
        for code in sorted(state):
            count += state[code]
            if count >= rank:
                return midpoint(code)
        raise AssertionError("a quantile's rank is at most the number of values")
