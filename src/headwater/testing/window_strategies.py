"""Hypothesis strategies for window views: aggregations of every function and option, sound by construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from headwater.definitions.aggregate_functions import FUNCTIONS, dtype_problem
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.names import repeated
from headwater.definitions.source import Source
from headwater.definitions.view import FeatureView
from headwater.types import Array, Bool, Date, DType, Float64, Int32, Int64, String, Timestamp

HOPS = (1, 2, 5, 7, 10)
"""Microseconds; most of them no multiple of another."""
COLUMNS: Mapping[str, DType] = {
    **{"x": Float64, "n": Int64, "i": Int32, "s": String, "b": Bool},
    **{"at": Timestamp, "day": Date, "a": Array(Int64)},
}
"""Columns of a source of events, but for its keys and times."""


@st.composite
def aggregations(
    draw: Callable[..., Any],
    columns: Mapping[str, DType] = COLUMNS,
    *,
    conditions: Sequence[str] = (),
    hops: Sequence[int] = HOPS,
    longest: int = 40,
    offsets: bool = True,
    name: str = "f",
) -> Aggregation:
    """An aggregation that is sound over some columns.

    Args:
        draw: given by Hypothesis.
        columns: the dtypes of the source's columns.
        conditions: what `where` may be, beside none.
        hops: of which its hop is one, microseconds.
        longest: by how much its window may exceed the hop, microseconds.
        offsets: whether it may have an offset.
        name: its name.
    """
    function = draw(st.sampled_from(list(FUNCTIONS)))
    takes = FUNCTIONS[function]
    possible: list[str | None] = [None] if takes.rows == "must" else []
    possible += [c for c, dtype in columns.items() if takes.rows != "must" and dtype_problem(function, dtype) is None]
    if takes.rows == "may":
        possible.append(None)
    options: dict[str, Any] = {}
    if "n" in takes.options:
        options["n"] = draw(st.integers(1, 3))
    if "q" in takes.options:
        options["q"] = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    if "max_distinct" in takes.options:
        options["max_distinct"] = draw(st.sampled_from([16, 20]))
    window = None
    if not takes.lifetime or draw(st.integers(0, 3)):
        hop = draw(st.sampled_from(hops))
        window = timedelta(microseconds=hop + draw(st.integers(0, longest)))
        options["hop"] = timedelta(microseconds=hop)
        if offsets and draw(st.integers(0, 3)) == 0:
            options["offset"] = timedelta(microseconds=draw(st.integers(1, max(1, longest // 2))))
    where = draw(st.sampled_from([None, None, *conditions]))
    column = draw(st.sampled_from(possible))
    return Aggregation(column, function, window, where=where, name=name, **options)


def aggregation_lists(
    columns: Mapping[str, DType] = COLUMNS, *, most: int = 6, **options: Any
) -> st.SearchStrategy[list[Aggregation]]:
    """One to some aggregations, named `f0`, `f1`, …; options are those of `aggregations`."""
    lists = st.lists(aggregations(columns, **options), min_size=1, max_size=most)
    return lists.map(lambda given: [replace(made, name=f"f{i}") for i, made in enumerate(given)])


@st.composite
def window_views(
    draw: Callable[..., Any],
    /,
    source: Source,
    columns: Mapping[str, DType] = COLUMNS,
    *,
    name: str = "windows",
    entity: Entity | None = None,
    **options: Any,
) -> FeatureView:
    """A window view of some aggregations over a source.

    Args:
        draw: given by Hypothesis.
        source: with an event time.
        columns: the dtypes of the source's columns, as the view declares those that it reads.
        name: the view's.
        entity: its entity; None: one of a key of text, `k`.
        options: those of `aggregation_lists`.
    """
    given = draw(aggregation_lists(columns, **options))
    entity = entity or Entity("key", join_keys={"k": String})
    assert not repeated(made.feature_name for made in given)
    read = dict.fromkeys(column for made in given for column in made.columns_read)
    return FeatureView(
        name, entity=entity, source=source, features=given, columns={column: columns[column] for column in read}
    )
