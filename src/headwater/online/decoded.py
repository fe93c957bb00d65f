"""DecodedRows: what stands in the rows found for a list of keys, however they were unpacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.online.row_format import RowFormat


class DecodedRows(ABC):
    """The rows of one view version for a list of keys, and the columns asked for.

    Attributes:
        size: how many keys were asked for.
        absent: places without a row, or with an emptied one.
        damaged: place → what is wrong with the row there.
    """

    def __init__(self, form: RowFormat, size: int) -> None:
        self.form = form
        self.size = size
        self.absent: list[int] = []
        self.damaged: dict[int, str] = {}

    @abstractmethod
    def columns(self) -> list[list[Any]]:
        """Python values of each column asked for, fresh lists; None for a NULL, anything where there is no row."""

    @abstractmethod
    def matrix(self, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
        """A new (keys, columns) matrix of numeric columns; anything where there is no value."""

    @abstractmethod
    def numbers(self, column: int) -> NDArray[Any]:
        """A fixed-width column as stored numbers, an embedding as a matrix; anything where there is no value."""

    @abstractmethod
    def nulls(self, column: int) -> NDArray[np.bool_] | None:
        """Where a column is NULL; None where it never is."""

    @abstractmethod
    def events(self) -> NDArray[np.int64]:
        """Event times, microseconds; anything where there is no row."""

    @abstractmethod
    def created(self) -> NDArray[np.int64]:
        """Created times, microseconds; anything where there is no row."""

    @abstractmethod
    def judge(self, known_until: int, expired_before: int | None) -> tuple[list[int], list[int]]:
        """Places of rows known later than an instant, and of the others whose event time is before another."""


def harmless(numbers: NDArray[Any], places: Mapping[int, str]) -> NDArray[Any]:
    """The numbers with those of damaged rows at 0."""
    if not places:
        return numbers
    out = numbers.copy()
    out[list(places)] = 0
    return out
