"""Views as tables of a query: all rows of another view, superseded ones too, with the times of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from headwater.definitions.feature import Feature
from headwater.definitions.names import twin
from headwater.definitions.source import Source
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
        read: its features that the query reads, once they are known: `apply` works them out, and a star stands for
            them from then on.
        rows: the data of the version that is read, where a query is to run (`offline.base.ViewInput`); never stored.
    """

    kind: ClassVar[str] = "view"
    not_compared: ClassVar[tuple[str, ...]] = ("read", "rows")
    view: FeatureView
    read: tuple[str, ...] = ()
    rows: Any = None

    def __hash__(self) -> int:
        return hash(self.view)

    @lazy
    def columns(self) -> Mapping[str, DType]:
        """Column → dtype, in order."""
        features = {feature.name: feature.dtype for feature in self.features}
        return {**self.view.join_keys, **features, EVENT_TIME: Timestamp, KNOWN_AT: Timestamp}

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that are columns, in the view's order."""
        return tuple(f for f in self.view.feature_list if not self.read or f.name in self.read)

    def names_in(self, names: frozenset[str] | None) -> tuple[str, ...]:
        """The features that a query reads; all where it may read any, or names none: rows are made by what makes all.

        Args:
            names: those that the query has, in lower case; None: they cannot be told.
        """
        features = tuple(feature.name for feature in self.features)
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


def table_problems(table: ViewTable) -> Iterator[str]:
    """What keeps a view from being a table."""
    view = table.view
    if view.aggregations:
        yield (
            f"view {view.name!r} has window aggregations, whose values hold for an instant: there are no rows; "
            "query the view's source, or a view of its rows"
        )
        return
    for name in (EVENT_TIME, KNOWN_AT):
        taken = name if name in (own := [*view.join_keys, *view.feature_names]) else twin(name, own)
        if taken is not None:
            yield f"view {view.name!r} has a column {taken!r}, the name of the table's time {name!r}: rename it there"
