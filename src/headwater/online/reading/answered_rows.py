"""The rows of one view as a result shows them: decoded here, or received from a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AnsweredRows(Protocol):
    """The rows of one view as a result shows them; see `DecodedRows` and `DecodedWindowRows`, which have these.

    Attributes:
        said: what stands before a problem of `damaged`.
        left_out: column → position → why that value alone is UNAVAILABLE.
        since: of a window version up to which known_at it is complete: ages count from that or the event time,
            whichever is later. None: from the event time.
    """

    @property
    def said(self) -> str: ...
    @property
    def left_out(self) -> Mapping[int, Mapping[int, str]]: ...
    @property
    def since(self) -> int | None: ...
    @property
    def has_nulls(self) -> bool: ...

    size: int
    at: int | NDArray[np.int64]
    absent: list[int]
    expired: list[int]
    missing: list[int]
    not_known: list[int]
    damaged: dict[int, str]

    @property
    def gone(self) -> set[int]:
        """Positions that have no row to show."""

    @property
    def timeless(self) -> set[int]:
        """Positions without an event time to show."""

    def events(self) -> NDArray[np.int64]:
        """Event times, microseconds; anything where there is no row."""

    def created(self) -> NDArray[np.int64]:
        """Created times, microseconds; anything where there is no row."""

    def older_places(self, age: int) -> NDArray[np.intp]:
        """The places of rows that are there and more than `age` microseconds old."""

    def columns(self) -> list[list[Any]]:
        """Python values of each column, fresh lists."""

    def matrix(self, columns: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new (rows, columns) matrix of numeric columns; anything where there is no value."""

    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as numbers; anything where there is no value."""

    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column has no value of its own; None where it always has one."""

    def null_statuses(self, column: int) -> NDArray[np.bool_] | None:
        """Where the status of a column is NULL; None where it never is."""
