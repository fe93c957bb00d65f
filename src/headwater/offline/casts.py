"""How values that fit become values of a dtype: what `value_rule.cast_value` makes of them, in SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import pyarrow as pa

from headwater.types import DType, Float32


class Casts(ABC):
    """The rule; a dialect says its parts. Each is given a value as SQL: a column, or an element of a list.

    Args:
        type_name: the dialect's type for a dtype.
    """

    def __init__(self, type_name: Callable[[DType], str]) -> None:
        self._type_name = type_name

    def cast(self, sql: str, given: pa.DataType, dtype: DType, depth: int = 0) -> str:
        """A value in its dtype.

        Args:
            sql: the value, which fits.
            given: its type, which `types.castable` says may become the dtype.
            dtype: what it becomes.
            depth: in how many lists the value is.
        """
        if pa.types.is_dictionary(given):
            given = given.value_type
        plain = self.plain(sql, dtype)
        if pa.types.is_null(given):
            return plain
        if pa.types.is_decimal(given):
            return self.decimal(sql, given, dtype)
        if dtype.name == "timestamp" and pa.types.is_timestamp(given):
            return self.timestamp(sql, given)
        if dtype.name in ("array", "embedding"):
            element, x = dtype.element or Float32, f"x{depth}"
            inside = self.cast(x, given.value_type, element, depth + 1)
            if inside != self.plain(x, element):
                return self.elements(sql, x, inside, dtype)
        return plain

    def plain(self, sql: str, dtype: DType) -> str:
        """The engine's own cast, which is right for all but what is below."""
        return f"CAST({sql} AS {self._type_name(dtype)})"

    @abstractmethod
    def decimal(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        """A decimal as another number, rounded once."""

    @abstractmethod
    def timestamp(self, sql: str, given: pa.DataType) -> str:
        """A timestamp in microseconds."""

    @abstractmethod
    def elements(self, sql: str, x: str, inside: str, dtype: DType) -> str:
        """A list whose elements, called x, become what `inside` says."""
