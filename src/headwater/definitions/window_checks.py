"""What is wrong with a window view as a whole, and with the columns of its source that its aggregations read."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from headwater.definitions.aggregation_checks import column_problems, view_problems
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import TEXT_SOURCES, PushSource, view_tables
from headwater.definitions.view import FeatureView
from headwater.errors import nearest
from headwater.types import DType


def window_view_problems(view: FeatureView) -> list[str]:
    """What is wrong with a window view as a whole, but for each aggregation and its columns."""
    plain = [feature.name for feature in view.features if isinstance(feature, Feature)]
    problems = view_problems(view.aggregations)
    if plain:
        problems.append(
            f"features: {plain[0]!r} is a Feature and {view.aggregations[0].feature_name!r} an Aggregation: a view has "
            "features of one kind; put the others into a view of their own"
        )
    if view.ttl_time is not None:
        problems.append("ttl: a window view takes none, since each window says how old its events may be; omit ttl=")
    source = view.source
    if isinstance(source, Source) and source.event_time is None:
        problems.append("source: a window view needs events, whose source names its event_time=")
    if isinstance(source, Source) and source.valid_to is not None:
        problems.append(
            "source: valid_to= cannot be combined with aggregations: events do not end; omit it, or declare features"
        )
    if any(True for _ in view_tables(source)):
        problems.append(
            "source: a window view cannot have a query over other views yet: aggregate the rows of a source, or "
            "compute the aggregates in the query and declare them as features"
        )
    for name, dtype in view.columns.items():
        if name not in view.columns_read:
            read = ", ".join(view.columns_read) or "none"
            problems.append(
                f"columns: no aggregation reads {name!r}; they read {read}{nearest(name, view.columns_read)}"
            )
        elif not isinstance(dtype, DType):
            problems.append(f"columns: {name!r} is {dtype!r}; give a dtype such as hw.Float64")
    return problems


def aggregation_column_problems(view: FeatureView, schema: pa.Schema | None) -> Iterator[tuple[str, str]]:
    """A window view's columns have dtypes that are known, and that its functions and conditions take.

    Args:
        view: a window view; a plain one has no such problems.
        schema: the columns of its source; None: they cannot be known.

    Yields:
        (feature, problem).
    """
    if view.problems:
        # its dtypes are worked out once it has no other problem
        return
    unknown: set[str] = set()
    for made in view.aggregations:
        lacking = [name for name in made.columns_read if name not in view.columns]
        for name in lacking:
            if name not in unknown and (schema is None or name in schema.names):
                yield (
                    made.feature_name,
                    _undeclared(name, view.source, None if schema is None else schema.field(name).type),
                )
        unknown |= set(lacking)
        if not lacking:
            yield from ((made.feature_name, problem) for problem in column_problems(made, view.columns))


def _undeclared(name: str, source: Source, given: pa.DataType | None) -> str:
    declare = f"columns={{{name!r}: hw.Float64}} of the view"
    if isinstance(source, (PushSource, *TEXT_SOURCES)):
        schema = f"{type(source).__name__}(…, schema={{{name!r}: hw.Float64}})"
        return f"nothing declares what column {name!r} holds: give {schema}, or {declare}"
    if given is None or pa.types.is_null(given):
        return f"the dtype of column {name!r} is not known: declare it, {declare}"
    return (
        f"column {name!r} is {given}, which no dtype fits as it is: declare what it is read as, {declare}, or cast it"
    )
