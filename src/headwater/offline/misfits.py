"""Which values of a column do not fit a dtype: what `value_rule.cast_value` refuses, as a condition in SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pyarrow as pa

from headwater.planning.value_rule import BITS, WHOLE
from headwater.types import DType, Float32


class Misfits(ABC):
    """The rule; a dialect says its parts. Each is given a value as SQL: a column, or an element of a list."""

    def condition(self, sql: str, given: pa.DataType, dtype: DType, depth: int = 0) -> str | None:
        """The condition of a value that does not fit; None where all of the type do.

        Args:
            sql: the value.
            given: its type, which `types.castable` says may become the dtype.
            dtype: what it is to become.
            depth: in how many lists the value is.
        """
        if pa.types.is_dictionary(given):
            given = given.value_type
        if pa.types.is_null(given):
            return None
        match dtype.name:
            case "int32" | "int64":
                return self._integer(sql, given, dtype)
            case "float32" | "float64":
                return self._float(sql, given, dtype)
            case "string":
                return self.text(sql)
            case "timestamp" | "date":
                return self.time(sql, given, dtype)
            case "array" | "embedding":
                of_length = [] if dtype.name == "array" else self.embedding(sql, dtype.dim or 0)
                inside = self.elements(sql, given.value_type, dtype.element or Float32, depth)
                conditions = [*of_length, *([] if inside is None else [inside])]
                return self.of_list(sql, conditions) if conditions else None
        return None

    def elements(self, sql: str, given: pa.DataType, dtype: DType, depth: int) -> str | None:
        """The condition of a list with an element that does not fit; None where all of the type do."""
        x = f"x{depth}"
        inside = self.condition(x, given, dtype, depth + 1)
        return None if inside is None else self.any_element(sql, x, inside)

    def _integer(self, sql: str, given: pa.DataType, dtype: DType) -> str | None:
        bits = BITS[dtype.name]
        if pa.types.is_floating(given):
            # of a float only what is below 2**53 is surely the number that was meant
            return self.not_whole(sql, 2 ** min(bits, 53), least=bits < 53)
        if pa.types.is_decimal(given):
            return self.decimal_for_integer(sql, given, dtype)
        return _outside(sql, given, -(2**bits), 2**bits - 1)

    def _float(self, sql: str, given: pa.DataType, dtype: DType) -> str | None:
        if pa.types.is_integer(given):
            return _outside(sql, given, -WHOLE[dtype.name], WHOLE[dtype.name])
        if dtype.name == "float32" and pa.types.is_float64(given):
            return self.beyond_float32(sql)
        return None  # no decimal is beyond 10**38

    @abstractmethod
    def not_whole(self, sql: str, end: int, *, least: bool) -> str:
        """Of a float: not a whole number from -end to end, without end, and without -end unless `least`."""

    @abstractmethod
    def decimal_for_integer(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        """Of a decimal: not a whole number, or beyond an integer dtype."""

    @abstractmethod
    def beyond_float32(self, sql: str) -> str:
        """Of a finite float64: at least `value_rule.FLOAT32_END`."""

    def text(self, sql: str) -> str | None:
        """Of text: it is not valid UTF-8; None in an engine that holds no such text."""
        return None

    @abstractmethod
    def time(self, sql: str, given: pa.DataType, dtype: DType) -> str | None:
        """Of a timestamp or date: what no timestamp or date of headwater's is."""

    @abstractmethod
    def embedding(self, sql: str, dim: int) -> list[str]:
        """Of a list: it has another length, or NULLs."""

    @abstractmethod
    def any_element(self, sql: str, x: str, condition: str) -> str:
        """Of a list: a condition of an element x holds for any."""

    @abstractmethod
    def of_list(self, sql: str, conditions: list[str]) -> str:
        """Of a list: any of the conditions holds."""


def _outside(sql: str, given: pa.DataType, least: int, greatest: int) -> str | None:
    """Of an integer: less than the least or beyond the greatest; None where no value of the type is."""
    signed = pa.types.is_signed_integer(given)
    if not signed and 2**given.bit_width - 1 <= greatest:
        return None
    if signed and least <= -(2 ** (given.bit_width - 1)) and 2 ** (given.bit_width - 1) - 1 <= greatest:
        return None
    beyond = f"{sql} > {greatest}"
    return f"({beyond} OR {sql} < {least})" if signed else beyond
