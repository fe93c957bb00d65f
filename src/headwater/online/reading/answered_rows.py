"""The rows of one view as a result shows them: decoded here, or received from a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AnsweredRows(Protocol):
    """The rows of one view as a result shows them; see `DecodedRows`, whose attributes these are."""

    size: int
    at: int | NDArray[np.int64]
    absent: list[int]
    expired: list[int]
    missing: list[int]
    not_known: list[int]
    damaged: dict[int, str]
    has_nulls: bool

    @property
    def gone(self) -> set[int]:
        """Positions that have no row to show."""

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
        """Where a column is NULL; None where it never is."""
