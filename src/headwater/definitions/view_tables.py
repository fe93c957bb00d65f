"""Views as tables of a query: all rows of another view, superseded ones too, with the times of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from headwater.definitions.names import twin
from headwater.definitions.sources import Source, SQLSource
from headwater.definitions.view import FeatureView
from headwater.forks import lazy
from headwater.types import DType, Timestamp

EVENT_TIME = "event_time"
KNOWN_AT = "known_at"
"""The columns of the times in the table that a view is."""


class ViewTable(Source, frozen=True, kw_only=True):
    """A view as a table of a query.

    Its columns are the view's join keys, its features, `event_time` and `known_at`, max(event time, created time); both
    are NULL in rows that are valid always, and of those that `write` took `known_at` is not. Rows that a delete hides,
    or that have a NULL key or time, are not in it.

    Attributes:
        view: the view's definition; in the registry that of the version whose columns are meant, number included.
        rows: the data of the version that is read, where a query is to run (`offline.base.ViewInput`); never stored.
    """

    kind: ClassVar[str] = "view"
    not_compared: ClassVar[tuple[str, ...]] = ("rows",)
    view: FeatureView
    rows: Any = None

    def __hash__(self) -> int:
        return hash(self.view)

    @lazy
    def columns(self) -> Mapping[str, DType]:
        """Column → dtype, in order."""
        features = {feature.name: feature.dtype for feature in self.view.feature_list}
        return {**self.view.join_keys, **features, EVENT_TIME: Timestamp, KNOWN_AT: Timestamp}

    def names_in(self, names: frozenset[str] | None) -> tuple[str, ...]:
        """The features that a query reads; all where it may read any, or names none: rows are made by what makes all.

        Args:
            names: those that the query has, in lower case; None: they cannot be told.
        """
        features = self.view.feature_names
        if names is None:
            return features
        return tuple(name for name in features if name.lower() in names) or features


def as_source(table: Any) -> Any:
    """A table of a query as a source: a view, registered or not, stands for all of its rows."""
    registered = getattr(table, "registered", None)  # what get_feature_view returns
    view = getattr(registered, "view", table)
    if not isinstance(view, FeatureView):
        return table
    return ViewTable(view=view, event_time=EVENT_TIME, created_time=KNOWN_AT)


def view_tables(source: Any) -> Iterator[ViewTable]:
    """The views that a source reads, by any of the queries in it."""
    if isinstance(source, ViewTable):
        yield source
    elif isinstance(source, SQLSource) and isinstance(source.tables, Mapping):
        for table in source.tables.values():
            yield from view_tables(table)


def with_views(source: Source, tables: Mapping[int, ViewTable]) -> Source:
    """The source with other tables in place of views that it reads.

    Args:
        source: a source.
        tables: identity of a table → what takes its place.
    """
    if isinstance(source, ViewTable):
        return tables.get(id(source), source)
    if not isinstance(source, SQLSource) or not any(True for _ in view_tables(source)):
        return source
    return replace(source, tables={name: with_views(table, tables) for name, table in source.tables.items()})


def table_problems(table: ViewTable) -> Iterator[str]:
    """What keeps a view from being a table."""
    view = table.view
    if view.aggregations:
        yield (
            f"view {view.name!r} has window aggregations, whose values hold for an instant: they have no rows to query; "
            "query the view's source, or a view of its rows"
        )
        return
    for name in (EVENT_TIME, KNOWN_AT):
        taken = name if name in (own := [*view.join_keys, *view.feature_names]) else twin(name, own)
        if taken is not None:
            yield f"view {view.name!r} has a column {taken!r}, which is the table's time {name!r}: rename it in the view"
