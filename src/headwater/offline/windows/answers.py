"""The values of one feature at rows of a spine, from the aggregates over the events of its window."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.definitions.aggregate_functions import is_integer
from headwater.offline.windows import edges
from headwater.offline.windows.distinct import counted_one_by_one
from headwater.offline.windows.lists import NONE
from headwater.offline.windows.runs import Hits
from headwater.offline.windows.subsets import Rows, Subset
from headwater.planning.windows.columns import Column, numbers_to_arrow
from headwater.planning.windows.layout import ListLayout, WindowFeature
from headwater.planning.windows.quantile_bins import midpoint
from headwater.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

_EXACT = 2**53
_VARIANCES = ("var_pop", "var_samp", "stddev_pop", "stddev_samp")
_OF_EVENTS = ("count", "sum", "mean", *_VARIANCES, "min", "max", "first", "last", "quantile")
"""Functions of the events of a window alone, whatever the window is called."""


@dataclass(frozen=True)
class FeatureAnswer:
    """The values of a feature at rows of a spine.

    Attributes:
        dtype: the feature's.
        values: numbers in their stored form, or an Arrow array of any other dtype.
        valid: which of the numbers there are, of the others the window has none; None: all.
        overflow: where a sum of integers is beyond 64 bits; None: nowhere.
    """

    dtype: DType
    values: NDArray[Any] | pa.Array
    valid: Mask | None = None
    overflow: Mask | None = None

    @classmethod
    def joined(cls, parts: Sequence[FeatureAnswer]) -> FeatureAnswer:
        """The rows of several answers, one after the other."""
        if len(parts) == 1:
            return parts[0]
        given = [part.values for part in parts]
        values = pa.concat_arrays(given) if isinstance(given[0], pa.Array) else np.concatenate(given)
        return cls(
            parts[0].dtype,
            values,
            _joined([part.valid for part in parts], given, True),
            _joined([part.overflow for part in parts], given, False),
        )

    def present(self) -> Mask:
        """Where there is a value."""
        if isinstance(self.values, pa.Array):
            return np.asarray(self.values.is_valid())
        return np.ones(len(self.values), bool) if self.valid is None else self.valid

    def arrow(self) -> pa.Array:
        """The values in the Arrow type of the dtype."""
        if isinstance(self.values, pa.Array):
            return self.values
        return numbers_to_arrow(self.values, ~self.present(), self.dtype)


def structure_of(feature: WindowFeature) -> str:
    """Equal of functions that take the same structures over the events."""
    return "sum" if feature.function == "mean" else feature.function


def presence_of(feature: WindowFeature, given: ListLayout) -> Hashable:
    """What says which rows have a value: equal of features that have it at the same rows; None: all have."""
    function = feature.function
    if function in ("count", "rate", "count_distinct") or _is_list(feature):
        return None
    if function == "sum" and is_integer(feature.column):
        return feature.name  # an overflow has none
    return given.where, given.column, feature.window, function in ("var_samp", "stddev_samp")


def asked_once(feature: WindowFeature, subset: Subset, rows: Sequence[Rows]) -> Hashable:
    """What a feature asks of rows: equal of features of one structure whose answers are equal."""
    if feature.function not in _OF_EVENTS:
        return id(feature)
    return feature.function, feature.q, *(each.hits(subset.runs, feature.window) for each in rows)


def _joined(masks: Sequence[Mask | None], values: Sequence[Any], otherwise: bool) -> Mask | None:
    if all(mask is None for mask in masks):
        return None
    filled = [
        np.full(len(given), otherwise) if mask is None else mask for mask, given in zip(masks, values, strict=True)
    ]
    return np.concatenate(filled)


def answer_of(feature: WindowFeature, subset: Subset, rows: Rows) -> FeatureAnswer:
    """A feature at some rows."""
    with np.errstate(all="ignore"):
        return (_lists if _is_list(feature) else _scalars)(feature, subset, rows)


def _is_list(feature: WindowFeature) -> bool:
    return feature.dtype.name == "array" and feature.function.endswith(("_n", "_n_distinct"))


def _scalars(feature: WindowFeature, subset: Subset, rows: Rows) -> FeatureAnswer:
    function, window = feature.function, feature.window
    if function == "count_distinct":
        return _plain(feature, _distinct(feature, subset, rows))
    hits = rows.hits(subset.runs, window)
    counts, some = hits.counts, hits.some
    match function:
        case "count":
            return _plain(feature, counts)
        case "rate":
            assert window.width is not None
            return _plain(feature, _quotients(counts * 1_000_000, window.width))
        case "sum" | "mean":
            return _totals(feature, subset, rows, hits)
        case "var_pop" | "var_samp" | "stddev_pop" | "stddev_samp":
            squares = subset.spreads.of(hits)[2]
            number = counts - 1 if function.endswith("samp") else counts
            found = np.maximum(squares, 0.0) / np.maximum(number, 1)
            # a sum of squares may be a little below 0; NaN stays what it is
            return _plain(feature, np.sqrt(found) if function.startswith("stddev") else found, number > 0)
        case "min" | "max":
            assert subset.column is not None
            values = subset.extremes(greatest=function == "max").of(hits)[0]
            return _of_column(feature, subset.column, _where(some, values), some)
        case "first" | "last":
            assert subset.column is not None
            values = subset.ordered_values
            if len(values):
                values = values.take(_where(some, _places(subset, hits, last=function == "last")))
            else:
                values = np.zeros(len(rows), subset.values.dtype)
            return _of_column(feature, subset.column, values, some)
        case "seconds_since_last":
            newest = _where(some, subset.newest.of(hits)[0], rows.at)
            return _plain(feature, _quotients(rows.at - newest, 1_000_000), some)
        case "quantile":
            return _quantiles(feature, subset, hits)
    raise ValueError(f"{function!r} is not a function")


def _places(subset: Subset, hits: Hits, *, last: bool) -> NDArray[Any]:
    """The first or the last place in the full order of each row's events."""
    if subset.by_time:
        return hits.last - 1 if last else hits.first
    return (subset.last_places if last else subset.first_places).of(hits)[0]


def _plain(feature: WindowFeature, values: NDArray[Any], valid: Mask | None = None) -> FeatureAnswer:
    return FeatureAnswer(feature.dtype, values, valid)


def _of_column(feature: WindowFeature, column: Column, values: NDArray[Any], valid: Mask) -> FeatureAnswer:
    """Values of a column, as the column has them."""
    if column.dictionary is None:
        return FeatureAnswer(feature.dtype, values, valid)
    return FeatureAnswer(feature.dtype, column.arrow(values, valid))


def _where(some: Mask, values: NDArray[Any], otherwise: Any = 0) -> NDArray[Any]:
    """The values, and another where there is none."""
    return values if some.all() else np.where(some, values, otherwise)


def _quotients(numerators: Ints, denominator: int) -> NDArray[np.float64]:
    """The nearest double of each quotient."""
    if denominator < _EXACT and (not len(numerators) or int(np.abs(numerators).max()) < _EXACT):
        return numerators / float(denominator)
    return np.array([int(number) / denominator for number in numerators], np.float64)


def _totals(feature: WindowFeature, subset: Subset, rows: Rows, hits: Hits) -> FeatureAnswer:
    counts, some = hits.counts, hits.some
    if not is_integer(feature.column):
        values: Any = rows.sums(subset, hits)
        return _plain(feature, values / np.maximum(counts, 1) if feature.function == "mean" else values, some)
    totals = subset.integer_sums.of(hits)
    if feature.function == "mean":
        return _plain(feature, totals.doubles() / np.maximum(counts, 1), some)
    values, beyond = totals.integers()
    return FeatureAnswer(feature.dtype, values, some & ~beyond, beyond if beyond.any() else None)


def _quantiles(feature: WindowFeature, subset: Subset, hits: Hits) -> FeatureAnswer:
    assert feature.q is not None
    counts, some = hits.counts, hits.some
    if not some.any():
        return FeatureAnswer(feature.dtype, np.zeros(len(counts)), some)
    rank = np.maximum(1, np.ceil(feature.q * counts).astype(np.int64))
    codes, inverse = np.unique(subset.ranks.of(hits, rank), return_inverse=True)
    middles = np.array([midpoint(int(code)) for code in codes])
    return _plain(feature, middles[inverse.reshape(-1)], some)


def _distinct(feature: WindowFeature, subset: Subset, rows: Rows) -> Ints:
    window = feature.window
    if not window.offset:
        return subset.records.counts(rows.group, edges.starts(window, rows.at), rows.at, feature.n)
    hits = rows.hits(subset.runs, window)
    return counted_one_by_one(subset.runs, hits, subset.digests, feature.n)


def _lists(feature: WindowFeature, subset: Subset, rows: Rows) -> FeatureAnswer:
    assert subset.column is not None
    bounds = rows.bounds(subset.ordered_runs, feature.window)
    lists = subset.lists
    taken = {"last_n": lists.last, "first_n": lists.first, "last_n_distinct": lists.last_distinct}[feature.function]
    places = taken(bounds, rows.at, feature.n)
    there = places != NONE
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return FeatureAnswer(feature.dtype, _list_array(subset.column, subset, places[there], offsets, feature))


def _list_array(column: Column, subset: Subset, places: Ints, offsets: Ints, feature: WindowFeature) -> pa.Array:
    assert feature.dtype.element is not None
    if not len(subset.full_order):
        flat = pa.nulls(0, feature.dtype.element.arrow)
    else:
        flat = column.arrow(column.values[subset.full_order[places]])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat).cast(feature.dtype.arrow)
