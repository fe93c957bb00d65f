"""Aggregation: a feature computed over the events of a window of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec.structs import force_setattr, replace

from headwater.clock import parse_duration
from headwater.definitions.aggregate_functions import FUNCTIONS, MAX_DISTINCT, dtype_problem, result_dtype
from headwater.definitions.coerce import as_dict, as_tuple
from headwater.definitions.conditions import condition_columns
from headwater.definitions.feature import Feature
from headwater.definitions.place import Placed
from headwater.definitions.window_hops import default_hop, micros_of
from headwater.definitions.window_names import aggregation_name, value_suffix
from headwater.types import DType

ERRORS = ("raise", "null")


class _Window(Placed, frozen=True):
    """What an aggregation may be given by position."""

    column: str | None
    function: str
    window: timedelta | str | None


class Aggregation(_Window, frozen=True, kw_only=True):
    """A feature computed over the events of a window of time.

    Attributes:
        column: the source's column; None: the function counts rows.
        function: `count`, `sum`, `mean`, `min`, `max`, `last`, …
        window: how far back it reaches, a duration such as `"7d"` or a timedelta; None: all of time (lifetime).
        name: the feature's name; None: made of column, function and window, such as `arr_delay_mean_7d`.
        where: which events count, a condition over the source's columns; None: all of them.
        hop: the steps in which the oldest end of the window moves, a duration; None: 5 minutes up to 12 hours, one
            hour up to 12 days, one day beyond.
        offset: how long before the instant the window ends, a duration; None: it ends there.
        n: the length of a list.
        q: which quantile, 0 to 1.
        max_distinct: up to how many distinct values `count_distinct` is exact.
        over: a column with one aggregation for each of its `values`.
        values: the values of `over`.
        errors: what a sum beyond 64 bits gives: `raise` an error, or `null`.
        default: the value where a window has none; never for a NULL by overflow.
        description: text for readers of the catalog.
        tags: free labels, text → text.
    """

    name: str | None = None
    where: str | None = None
    hop: timedelta | str | None = None
    offset: timedelta | str | None = None
    n: int | None = None
    q: float | None = None
    max_distinct: int = MAX_DISTINCT
    over: str | None = None
    values: Iterable[Any] | None = None
    errors: str = "raise"
    default: Any = None
    description: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        problems: list[str] = []
        for field in ("window", "hop", "offset"):
            value = getattr(self, field)
            if value is None:
                continue
            try:
                force_setattr(self, field, parse_duration(value))
            except ValueError as bad:
                problems.append(f"{field}: {bad}")
                force_setattr(self, field, None)
                if field == "window" and self.name is None:
                    # named as it was written, in its problems alone
                    force_setattr(self, "name", f"{self.column or 'rows'}_{self.function}{value_suffix(value)}")
        if self.values is not None:
            force_setattr(self, "values", as_tuple(self.values, "values", problems))
        force_setattr(self, "tags", as_dict(self.tags, "tags", problems))
        force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.column, self.function, self.window, self.name))

    @property
    def width(self) -> int | None:
        """The window's length in microseconds; None: lifetime."""
        return micros_of(self.window) if isinstance(self.window, timedelta) else None

    @property
    def hop_micros(self) -> int:
        """The hop in microseconds, the default one where none is given; 0: lifetime."""
        if isinstance(self.hop, timedelta):
            return micros_of(self.hop)
        return 0 if self.width is None else default_hop(self.width)

    @property
    def offset_micros(self) -> int:
        """The offset in microseconds."""
        return micros_of(self.offset) if isinstance(self.offset, timedelta) else 0

    @property
    def feature_name(self) -> str:
        """The name that is given, else the one made of column, function, window and offset."""
        if self.name is not None:
            return self.name
        return aggregation_name(self.column, self.function, self.width, self.offset_micros)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns of the source that it reads: its own, then those of its condition and of `over`."""
        own = (self.column,) if isinstance(self.column, str) else ()
        over = (self.over,) if isinstance(self.over, str) else ()
        where = condition_columns(self.where) if isinstance(self.where, str) else ()
        return tuple(dict.fromkeys([*own, *where, *over]))

    def dtype(self, columns: Mapping[str, DType]) -> DType | None:
        """The dtype of its values.

        Args:
            columns: the dtypes of the source's columns.

        Returns:
            The dtype; None where it depends on a column whose dtype is not known, or the function does not take it.
        """
        function = FUNCTIONS.get(self.function) if isinstance(self.function, str) else None
        if function is None or isinstance(function.result, DType):
            return None if function is None else function.result  # type: ignore[return-value]
        column = columns.get(self.column) if isinstance(self.column, str) else None
        if column is None or dtype_problem(function.name, column) is not None:
            return None
        return result_dtype(function.name, column)

    def as_feature(self, columns: Mapping[str, DType]) -> Feature:
        """The feature that its values are, as services and results know it.

        Args:
            columns: the dtypes of the source's columns.

        Returns:
            The feature; without the dtype of its own column it may have none.
        """
        return Feature(
            self.feature_name,
            self.dtype(columns),  # type: ignore[arg-type]
            default=self.default,
            description=self.description,
            tags=self.tags,
            place=self.place,
        )

    def expanded(self) -> tuple[Aggregation, ...]:
        """One aggregation for each value of `over`.

        Returns:
            Each named by its value, with that value as a condition; without `over` the aggregation itself.
        """
        if not isinstance(self.over, str) or self.values is None:
            return (self,)
        return tuple(
            replace(
                self,
                name=f"{self.feature_name}{value_suffix(value)}",
                where=_equals(self.over, value, self.where),
                over=None,
                values=None,
            )
            for value in self.values
        )


def _equals(column: str, value: Any, where: str | None) -> str:
    text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
    quoted = '"' + column.replace('"', '""') + '"'
    return f"{quoted} = {text}" if where is None else f"({where}) AND {quoted} = {text}"


def empty_value(function: str) -> Any:
    """A function's value over no events, as results hold it; None is NULL."""
    empty = FUNCTIONS[function].empty
    return [] if empty == () else empty
