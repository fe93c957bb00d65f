"""Numbers of few bytes, and single values, inside stored window rows.

A whole number is 7 bits a byte, the low ones first, the top bit set in all bytes but the last; a signed one is doubled
first, and its complement where it is negative (zigzag). A value: of a fixed width as it is, little-endian; text and
bytes behind their length; an array behind its number of elements, each behind a byte that is 0 where it is NULL.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from headwater.online.rows.values import Damaged
from headwater.types import DType, Float32

_FIXED = {
    "int32": struct.Struct("<i"),
    "int64": struct.Struct("<q"),
    "float32": struct.Struct("<f"),
    "float64": struct.Struct("<d"),
    "bool": struct.Struct("<B"),
    "timestamp": struct.Struct("<q"),
    "date": struct.Struct("<i"),
}
_LONGEST = 10
"""Bytes of a 64-bit number."""


def put_number(to: bytearray, number: int) -> None:
    """Append a number that is not negative."""
    while number > 0x7F:
        to.append(number & 0x7F | 0x80)
        number >>= 7
    to.append(number)


def put_rising(to: bytearray, numbers: Sequence[int], before: int) -> None:
    """Append how many numbers there are, and each as its distance from the one before.

    Args:
        to: appended to.
        numbers: ascending.
        before: the one before the first.
    """
    put_number(to, len(numbers))
    append = to.append
    for number in numbers:
        distance = number - before
        while distance > 0x7F:
            append(distance & 0x7F | 0x80)
            distance >>= 7
        append(distance)
        before = number


def put_signed(to: bytearray, number: int) -> None:
    """Append a number of at most 64 bits and a sign."""
    put_number(to, number * 2 if number >= 0 else -number * 2 - 1)


def put_value(to: bytearray, dtype: DType, value: Any) -> None:
    """Append a value in its stored form, not NULL."""
    form = _FIXED.get(dtype.name)
    if form is not None:
        to += form.pack(value)
    elif dtype.name in ("array", "embedding"):
        put_number(to, len(value))
        for element in value:
            to.append(element is not None)
            if element is not None:
                put_value(to, _element(dtype), element)
    else:
        data = value.encode() if dtype.name == "string" else value
        put_number(to, len(data))
        to += data


def _element(dtype: DType) -> DType:
    return Float32 if dtype.element is None else dtype.element


class Bytes:
    """Stored bytes that are read from front to back.

    Args:
        data: the bytes.
        at: where to begin.
        end: where they end; None: at their own end.
    """

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            Damaged: there are fewer.
        """
        start, self.at = self.at, self.at + size
        if size < 0 or self.at > self.end:
            raise Damaged("a window row cut short")
        return self.data[start : self.at]

    def number(self) -> int:
        """What `put_number` wrote.

        Raises:
            Damaged: it is not whole.
        """
        result = 0
        for i in range(_LONGEST):
            byte = self.take(1)[0]
            result |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return result
        raise Damaged("a number of more than 64 bits")

    def signed(self) -> int:
        """What `put_signed` wrote.

        Raises:
            Damaged: it is not whole.
        """
        number = self.number()
        return -(number + 1 >> 1) if number & 1 else number >> 1

    def rising(self, number: int) -> list[int]:
        """What `put_rising` wrote.

        Args:
            number: the one before the first.

        Raises:
            Damaged: they are not whole.
        """
        count, data, at, end = self.number(), self.data, self.at, self.end
        numbers = []
        for _ in range(count):
            if at >= end:
                raise Damaged("a window row cut short")
            byte = data[at]
            at += 1
            distance = byte & 0x7F
            shift = 7
            while byte > 0x7F:
                if at >= end:
                    raise Damaged("a window row cut short")
                byte = data[at]
                at += 1
                distance |= (byte & 0x7F) << shift
                shift += 7
                if shift > 7 * _LONGEST:
                    raise Damaged("a number of more than 64 bits")
            number += distance
            numbers.append(number)
        self.at = at
        return numbers

    def value(self, dtype: DType) -> Any:
        """What `put_value` wrote.

        Raises:
            Damaged: it is not whole, or text that is not UTF-8.
        """
        form = _FIXED.get(dtype.name)
        if form is not None:
            return form.unpack(self.take(form.size))[0]
        if dtype.name in ("array", "embedding"):
            element = _element(dtype)
            return tuple(self.value(element) if self.take(1)[0] else None for _ in range(self.number()))
        data = self.take(self.number())
        if dtype.name != "string":
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as bad:
            raise Damaged("text that is not UTF-8") from bad
