"""The dtypes of the source's columns that a window view reads: those declared, else those of the source's schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from headwater.definitions.aggregation import Aggregation
from headwater.definitions.conditions import canonical_condition
from headwater.definitions.sources import TEXT_SOURCES, PushSource
from headwater.definitions.view import FeatureView
from headwater.types import DType, Timestamp, castable, fitting_dtype


def declared_columns(view: FeatureView) -> dict[str, DType]:
    """The dtypes that a view declares itself: by `columns`, by its source's schema, of join keys and times.

    A file that says the types of its columns itself (Parquet) is not asked here: there `columns` alone is declared.
    """
    source = view.source
    declared: dict[str, DType] = {}
    if isinstance(source, (PushSource, *TEXT_SOURCES)):
        times = {name: Timestamp for name in (source.event_time, source.created_time) if name is not None}
        keys = {view.key_column(key): dtype for key, dtype in view.join_keys.items()}
        declared = {**times, **keys, **(getattr(source, "schema", None) or {})}
    declared |= view.columns
    return {name: declared[name] for name in view.columns_read if name in declared}


def with_columns(
    view: FeatureView, schema: pa.Schema | None, before: Iterable[Mapping[str, DType]] = ()
) -> FeatureView:
    """A window view with the dtypes of all columns that its aggregations read, as far as they can be known.

    Args:
        view: the view; a plain one is returned as it is.
        schema: its source's columns; None: not known.
        before: the columns of registered versions, the first preferred: a dtype that the source's column can still be
            cast to stays.
    """
    if not view.aggregations:
        return view
    before = list(before)
    columns = declared_columns(view)
    for name in view.columns_read:
        dtype = columns.get(name) or _found(name, schema, before)
        if dtype is not None:
            columns[name] = dtype
    # in the order of reading; what is declared and not read stays, for the checks to name
    columns = {name: columns[name] for name in view.columns_read if name in columns}
    return replace(view, columns={**columns, **{n: d for n, d in view.columns.items() if n not in columns}})


def _found(name: str, schema: pa.Schema | None, before: Iterable[Mapping[str, DType]]) -> DType | None:
    known = [columns[name] for columns in before if name in columns]
    if schema is None:
        return known[0] if known else None
    if schema.names.count(name) != 1:
        return None
    given = schema.field(name).type
    if pa.types.is_null(given):
        return known[0] if known else None
    return next((dtype for dtype in known if castable(given, dtype)), None) or fitting_dtype(given)


def stored_form(view: FeatureView) -> FeatureView:
    """A sound window view as it is registered: an aggregation for each feature, its condition in one way of writing."""
    return replace(view, features=tuple(map(_stored, view.aggregations))) if view.aggregations else view


def _stored(made: Aggregation) -> Aggregation:
    where = None if made.where is None else canonical_condition(made.where)
    return replace(made, name=made.feature_name, where=where)
