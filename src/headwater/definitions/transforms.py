"""Transformations in Python: a function of Arrow tables as a view's source, for what SQL cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from headwater.clock import parse_duration
from headwater.deferred import deferred
from headwater.definitions.plain_function import OfFunction
from headwater.definitions.source import Source
from headwater.definitions.sources import SQLSource
from headwater.types import DType

function_source = deferred("headwater.definitions.function_source")


class TransformSource(OfFunction, Source, frozen=True, kw_only=True):
    """What a function makes of other sources; `transform` makes one of a function.

    The value can be called like the function.

    Attributes:
        name: the function's name.
        tables: argument of the function → the source whose rows it is given, an Arrow table.
        schema: column → dtype of the Arrow table that the function returns.
        context: how long before an interval of a backfill the function sees rows, a duration; None: it sees all of its
            sources. History and runs give it all rows.
        text: the function's source text.
        imports: the import statements that it uses.
        function: the function itself; None in one that was read from a registry, until it is compiled.
    """

    kind: ClassVar[str] = "transform"
    not_compared: ClassVar[tuple[str, ...]] = ("function",)
    name: str = ""
    tables: Mapping[str, Source] = msgspec.field(default_factory=dict)
    schema: Mapping[str, DType] = msgspec.field(default_factory=dict)
    context: timedelta | str | None = None
    text: str = ""
    imports: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = list(self.problems)
        if self.context is not None:
            try:
                force_setattr(self, "context", parse_duration(self.context))
            except ValueError as bad:
                problems.append(f"context: {bad}")
                force_setattr(self, "context", None)
        if self.function is not None and not self.text:
            found = function_source.source_of(self.function)
            force_setattr(self, "text", found.text)
            force_setattr(self, "imports", found.imports)
            problems += found.problems
        if problems:
            force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.text))

    @property
    def context_time(self) -> timedelta | None:
        """`context` as a timedelta."""
        return self.context  # type: ignore[return-value]

    def _run_by(self) -> str:
        return f"transformation {self.name!r} was read from a registry: only history and runs call it"


def transform(
    *,
    sources: Mapping[str, Source],
    schema: Mapping[str, DType],
    event_time: str | None = None,
    created_time: str | None = None,
    valid_from: str | None = None,
    valid_to: str | None = None,
    delay: timedelta | str | None = None,
    event_id: str | None = None,
    timezone: str | None = None,
    context: timedelta | str | None = None,
) -> Callable[[Callable[..., Any]], TransformSource]:
    """A decorator that makes a view's source of a function over Arrow tables.

    The function is kept in the registry as source text with the imports that it uses, and runs from there in this
    process: `[offline] run_code = false` refuses that. It must be deterministic and read nothing but its arguments; no
    row that it returns may say that it was known before what it was made of.

    Args:
        sources: parameter of the function → the source whose rows it is given, all of them, as a `pyarrow.Table`.
        schema: column → dtype of the `pyarrow.Table` that it returns; other columns are left out.
        event_time: the column with the time at which a row became true; None: rows are always valid.
        created_time: the column with the time at which a row became known; required where a source has one.
        valid_from: says what `event_time` says, of a table whose rows also end: give one of the two.
        valid_to: the column with the time at which a row ends; NULL: it has not ended.
        delay: how long after its event time a row becomes known where no column says so; None: at its event time.
        event_id: the column that identifies an event.
        timezone: the time zone of naive times and dates; None: UTC.
        context: how long before an interval of a backfill the function sees rows; None: it sees all.

    Returns:
        The decorator; what it makes is the `source=` of a view.
    """

    def decorated(function: Callable[..., Any]) -> TransformSource:
        return TransformSource(
            name=getattr(function, "__name__", ""),
            tables=sources,
            schema=schema,
            event_time=event_time,
            created_time=created_time,
            valid_from=valid_from,
            valid_to=valid_to,
            delay=timedelta(0) if delay is None else delay,
            event_id=event_id,
            timezone=timezone,
            context=context,
            function=function,
        )

    return decorated


def tables_of(source: Source) -> Mapping[str, Source]:
    """The sources that a query or a transformation reads, by their names in it; of any other source none."""
    return source.tables if isinstance(source, (SQLSource, TransformSource)) else {}
