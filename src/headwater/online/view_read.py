"""What a reader knows of a view beforehand, and what one read found of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headwater.online.decode import RowDecoder
from headwater.online.decoded import DecodedRows
from headwater.types import DType


@dataclass(frozen=True, slots=True)
class ReadView:
    """What a prepared reader knows of one view.

    Attributes:
        label: the view's name in the request, or its alias.
        version: its version.
        key_columns: the request's columns that find its rows.
        decoder: reads its rows; its slots are the features asked for.
        timed: whether its rows have event times.
        ttl: microseconds, None for no limit.
        slas: of each feature asked for, microseconds, None for none.
        defaults: of each feature asked for, None for none.
    """

    label: str
    version: str
    key_columns: tuple[str, ...]
    decoder: RowDecoder
    timed: bool
    ttl: int | None
    slas: tuple[int | None, ...]
    defaults: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One output column: which view it is from, and which of the features asked for there."""

    name: str
    view: int
    feature: int
    dtype: DType


@dataclass(eq=False, slots=True)
class ViewRead:
    """One view's rows in one read, by distinct key.

    Attributes:
        view: what is known of it beforehand.
        rows: its rows.
        inverse: for each row of the answer its place among them; None where they are the same.
        future: places of rows not known yet.
        expired: places of rows older than the ttl.
        missing: all places that have no value to show, so that the default stands in.
    """

    view: ReadView
    rows: DecodedRows
    inverse: list[int] | None
    future: list[int]
    expired: list[int]
    missing: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.missing = [*self.rows.absent, *self.future, *self.expired]
