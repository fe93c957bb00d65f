"""The lists of aggregates that a version keeps an entity, worked out from its aggregations once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import gcd
from typing import Any

from headwater.definitions.aggregate_functions import FUNCTIONS, result_dtype
from headwater.definitions.aggregation import Aggregation
from headwater.digests import blake2b
from headwater.planning.windows.kinds import BINS, COUNT, KEPT_WHOLE, KIND_OF, MAX, MIN, SPREAD, TOTAL, state_kind
from headwater.planning.windows.rule import Window
from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import stored_form
from headwater.types import DType
from headwater.values import Value

SUFFIXES, TILES, WHOLE = "suffixes", "tiles", "whole"
"""The shapes of lists: a record a boundary, of all events at or after it; a record a boundary, of its events alone; one
state for the whole row."""
_WITH_N = frozenset({"earliest", "latest", "latest_distinct", "distinct"})


class WindowFeature(Value, frozen=True):
    """One feature of a window version.

    Attributes:
        name: the feature's name.
        function: what is computed.
        window: over what.
        list: the index of the list that answers it.
        column: the dtype of its column; None: rows.
        dtype: of its values.
        n: the length of a list, or N of a distinct count; 0 for other functions.
        q: of a quantile.
        errors: what an overflow gives: `raise` or `null`.
        default: in place of a NULL that is not an overflow, in its stored form.
    """

    name: str
    function: str
    window: Window
    list: int
    column: DType | None
    dtype: DType
    n: int = 0
    q: float | None = None
    errors: str = "raise"
    default: Any = None


class ListLayout(Value, frozen=True, dict=True):
    """One list of aggregates.

    Attributes:
        kind: of its states, one of `kinds`.
        column: whose values; None: rows.
        where: which events, by the condition's text; None: all.
        dtype: of the column; None: rows.
        shape: SUFFIXES, TILES or WHOLE.
        windows: those that it answers.
        n: the greatest length of a list that it answers, or N of a distinct count; else 0.
    """

    kind: str
    column: str | None
    where: str | None
    dtype: DType | None
    shape: str
    windows: tuple[Window, ...]
    n: int = 0

    @cached_property
    def states(self) -> StateKind:
        """How its states are kept."""
        return state_kind(self.kind, self.n)

    @cached_property
    def columns(self) -> bool:
        """Whether its states are columns of numbers in which a window is one record."""
        return self.shape == SUFFIXES and self.numbers

    @cached_property
    def numbers(self) -> bool:
        """Whether its states are columns of numbers."""
        extremes = self.kind in (MIN, MAX) and self.dtype is not None and self.dtype.numpy is not None
        return self.kind in (COUNT, TOTAL, SPREAD) or extremes

    @cached_property
    def lifetime(self) -> bool:
        """Whether it answers a lifetime."""
        return any(window.width is None for window in self.windows)

    @cached_property
    def bounded(self) -> tuple[Window, ...]:
        """Its windows but lifetimes."""
        return tuple(window for window in self.windows if window.width is not None)

    @cached_property
    def name(self) -> str:
        """What tells it from the version's other lists."""
        parts = [self.column or "", self.kind, self.shape, str(self.n) if self.kind == "distinct" else ""]
        return "/".join([*parts, self.where or ""])


class WindowLayout(Value, frozen=True, dict=True):
    """What a version's rows hold.

    Attributes:
        features: in their order.
        lists: in order of name.
        hops: of all windows, each once.
        ids: how many event ids a row keeps.
    """

    features: tuple[WindowFeature, ...]
    lists: tuple[ListLayout, ...]
    hops: tuple[int, ...]
    ids: int = 128

    @cached_property
    def step(self) -> int:
        """What all boundaries are multiples of, microseconds; 1 where there are lifetimes alone."""
        return gcd(*self.hops) or 1

    @cached_property
    def fingerprint(self) -> bytes:
        """Four bytes that rows of another layout do not have."""
        parts = [f"{each.name}/{each.dtype}/{each.n}/{each.lifetime}" for each in self.lists]
        text = "\n".join([*parts, str(sorted(self.hops)), str(sorted(str(each.windows) for each in self.lists))])
        return blake2b(text.encode(), digest_size=4).digest()

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """The `where` conditions, each once."""
        return tuple(sorted({each.where for each in self.lists if each.where is not None}))


def window_layout(aggregations: Iterable[Aggregation], columns: Mapping[str, DType], *, ids: int = 128) -> WindowLayout:
    """The layout of a version's rows.

    Args:
        aggregations: the version's, sound (`definitions.aggregation_checks`).
        columns: the dtypes of the columns that they name.
        ids: how many event ids a row keeps.
    """
    made = [given for each in aggregations for given in each.expanded()]
    wanted: dict[tuple[Any, ...], list[Aggregation]] = {}
    for given in made:
        wanted.setdefault(_list_key(given), []).append(given)
    for key in [key for key in wanted if key[0] == COUNT and (TOTAL, *key[1:]) in wanted]:
        # a total has the count too
        wanted[(TOTAL, *key[1:])] += wanted.pop(key)
    lists = sorted((_list(key, given, columns) for key, given in wanted.items()), key=lambda each: each.name)
    index = {id(given): i for i, each in enumerate(lists) for given in wanted[_key_of(each)]}
    features = tuple(_feature(given, index[id(given)], columns) for given in made)
    hops = tuple(sorted({feature.window.hop for feature in features if feature.window.width is not None}))
    return WindowLayout(features, tuple(lists), hops, ids)


def _window(given: Aggregation) -> Window:
    return Window(given.width, given.hop_micros, given.offset_micros)


def _list_key(given: Aggregation) -> tuple[Any, ...]:
    kind = KIND_OF[given.function]
    n = given.max_distinct if kind == "distinct" else 0
    shape = SUFFIXES
    if kind == BINS or given.offset_micros:
        shape = TILES
    elif kind in KEPT_WHOLE:
        shape = WHOLE
    return kind, given.column, given.where, shape, n


def _key_of(given: ListLayout) -> tuple[Any, ...]:
    return given.kind, given.column, given.where, given.shape, given.n if given.kind == "distinct" else 0


def _list(key: tuple[Any, ...], aggregations: Sequence[Aggregation], columns: Mapping[str, DType]) -> ListLayout:
    kind, column, where, shape, _ = key
    windows = sorted(
        {_window(given) for given in aggregations}, key=lambda w: (w.width is None, w.width, w.hop, w.offset)
    )
    dtype = None if column is None else columns[column]
    n = max(_length(given) for given in aggregations) if kind in _WITH_N else 0
    return ListLayout(kind, column, where, dtype, shape, tuple(windows), n)


def _length(given: Aggregation) -> int:
    if given.function == "count_distinct":
        return given.max_distinct
    return given.n if given.n is not None else 1


def _feature(given: Aggregation, index: int, columns: Mapping[str, DType]) -> WindowFeature:
    column = None if given.column is None else columns[given.column]
    options = FUNCTIONS[given.function].options
    n = _length(given) if {"n", "max_distinct"} & set(options) else 0
    dtype = result_dtype(given.function, column)
    default = stored_form(dtype, given.default)
    return WindowFeature(
        given.feature_name, given.function, _window(given), index, column, dtype, n, given.q, given.errors, default
    )
