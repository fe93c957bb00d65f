"""Dtypes and their Arrow forms, statuses, and the closed sets users may also write as text."""

from __future__ import annotations

import enum
import re
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.values import Value

_FIXED = {"int32": 4, "int64": 8, "float32": 4, "float64": 8, "bool": 1, "timestamp": 8, "date": 4}
_ARROW: dict[str, pa.DataType] = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}
_NUMPY = {
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
    "float64": "<f8",
    "bool": "|u1",
    "timestamp": "<i8",
    "date": "<i4",
}
_NAMED = re.compile(r"(array|embedding)<(.+)>$")


UNITS = ("s", "ms", "us", "ns")
"""The units of Arrow's timestamps, the finest last."""


class DType(Value, frozen=True):
    """A feature's or join key's type.

    Attributes:
        name: `int32`, `int64`, `float32`, `float64`, `bool`, `string`, `bytes`, `timestamp` (microseconds, UTC),
            `date`, `array` or `embedding`.
        element: the element type of an array.
        dim: the length of an embedding (of float32).
    """

    name: str
    element: DType | None = None
    dim: int | None = None

    def __str__(self) -> str:
        if self.name == "array":
            return f"array<{self.element}>"
        return f"embedding<{self.dim}>" if self.name == "embedding" else self.name

    def __repr__(self) -> str:
        if self.name == "array":
            return f"Array({self.element!r})"
        return f"Embedding({self.dim})" if self.name == "embedding" else self.name.capitalize()

    @classmethod
    def parse(cls, text: str) -> DType:
        """The dtype that `str()` wrote."""
        found = _NAMED.match(text)
        if found is None:
            if text not in _ARROW:
                raise ValueError(f"{text!r} is not a dtype; they are {', '.join(_ARROW)}, array<…>, embedding<…>")
            return cls(text)
        inner = found.group(2)
        return cls("array", element=cls.parse(inner)) if found.group(1) == "array" else cls("embedding", dim=int(inner))

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in results: lists for arrays, fixed-size lists of float32 for embeddings."""
        if self.name == "array":
            assert self.element is not None
            return pa.list_(self.element.arrow)
        if self.name == "embedding":
            assert self.dim is not None
            return pa.list_(pa.float32(), self.dim)
        return _ARROW[self.name]

    @property
    def width(self) -> int | None:
        """Bytes of a stored value, None where it varies."""
        if self.name == "embedding":
            assert self.dim is not None
            return 4 * self.dim
        return _FIXED.get(self.name)

    @property
    def numpy(self) -> np.dtype[Any] | None:
        """The little-endian NumPy form of a stored scalar (bool as uint8, times as integers), None where it varies."""
        form = _NUMPY.get(self.name)
        return None if form is None else np.dtype(form)

    @property
    def numeric(self) -> bool:
        """Whether a value is one number (bool included), so that it fits a matrix."""
        return self.name in ("int32", "int64", "float32", "float64", "bool")

    def accepts(self, value: Any) -> bool:
        """Whether a Python value (a default, say) is of this type without a cast that loses something."""
        if value is None:
            return True
        match self.name:
            case "int32" | "int64":
                bits = 31 if self.name == "int32" else 63
                return (
                    isinstance(value, (int, np.integer))
                    and not isinstance(value, bool)
                    and -(2**bits) <= value < 2**bits
                )
            case "float32" | "float64":
                return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            case "bool":
                return isinstance(value, (bool, np.bool_))
            case "string":
                return isinstance(value, str) and is_utf8(value)
            case "bytes":
                return isinstance(value, (bytes, bytearray))
            case "timestamp":
                return isinstance(value, datetime)
            case "date":
                return isinstance(value, date) and not isinstance(value, datetime)
            case "array":
                element = self.element
                return (
                    isinstance(value, (list, tuple, np.ndarray))
                    and element is not None
                    and all(element.accepts(v) for v in value)
                )
            case _:
                return (
                    isinstance(value, (list, tuple, np.ndarray))
                    and len(value) == self.dim
                    and all(Float32.accepts(v) and v is not None for v in value)
                )


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


Int32 = DType("int32")
Int64 = DType("int64")
Float32 = DType("float32")
Float64 = DType("float64")
Bool = DType("bool")
String = DType("string")
Bytes = DType("bytes")
Timestamp = DType("timestamp")
Date = DType("date")


def Array(element: DType) -> DType:
    """A list of any length; elements may be NULL."""
    return DType("array", element=element)


def Embedding(dim: int) -> DType:
    """A vector of `dim` float32 numbers, none of them NULL."""
    return DType("embedding", dim=dim)


def fits(given: pa.DataType, dtype: DType) -> bool:
    """Whether a column of an Arrow type is, by its type alone, one of a dtype's values or of such as it widens.

    Integers fit wider integers and floats (a float holds every whole number that its mantissa does; a value beyond is
    an error when it is read), decimals (SQL's sums) an int64 or float64 likewise, any width of floats a wider one,
    plain, large, view and dictionary-encoded text a string, timestamps of any unit and dates a timestamp, lists by
    their elements; a column of NULLs fits everything.
    """
    return bool(_fits(given, dtype))


def _fits(given: pa.DataType, dtype: DType) -> Any:
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_null(given) or given == dtype.arrow:
        return True
    match dtype.name:
        case "int32" | "int64":
            bits = 32 if dtype.name == "int32" else 64
            signed = pa.types.is_signed_integer(given) and given.bit_width <= bits
            decimal = bits == 64 and pa.types.is_decimal(given) and given.scale == 0
            return signed or decimal or (pa.types.is_unsigned_integer(given) and given.bit_width < bits)
        case "float32" | "float64":
            narrow = pa.types.is_floating(given) and given.bit_width <= (32 if dtype.name == "float32" else 64)
            decimal = dtype.name == "float64" and pa.types.is_decimal(given)
            return narrow or decimal or pa.types.is_integer(given)
        case "string":
            return pa.types.is_large_string(given) or pa.types.is_string_view(given)
        case "bytes":
            return (
                pa.types.is_large_binary(given)
                or pa.types.is_binary_view(given)
                or pa.types.is_fixed_size_binary(given)
            )
        case "timestamp":
            return pa.types.is_timestamp(given) or pa.types.is_date(given)
        case "date":
            return pa.types.is_date(given)
        case "array" | "embedding":
            listed = pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given)
            return listed and _fits(given.value_type, dtype.element or Float32)
    return False


def is_list(given: pa.DataType) -> bool:
    """Whether a column is one of lists, of whatever kind."""
    return bool(pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given))


def a_dtype(dtype: DType) -> str:
    """A dtype with its article: `an int64`, `a string`."""
    return str(dtype) if dtype.name == "bytes" else f"{'an' if str(dtype)[0] in 'aei' else 'a'} {dtype}"


def leaf_dtype(dtype: DType) -> DType:
    """What an array holds in the end; any other dtype itself."""
    while dtype.name == "array" and dtype.element is not None:
        dtype = dtype.element
    return dtype


def leaf_type(given: pa.DataType) -> pa.DataType:
    """What lists of an Arrow type hold in the end; any other type itself."""
    while is_list(given):
        given = given.value_type
    return given


def castable(given: pa.DataType, dtype: DType) -> bool:
    """Whether values of an Arrow type may become a dtype's: each is then held to `value_rule.cast_value`.

    Numbers of every kind (integers, floats, decimals) a number of any dtype, text a string, timestamps of any unit and
    dates a timestamp, lists by their elements; a column of NULLs fits everything.
    """
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_null(given):
        return True
    match dtype.name:
        case "int32" | "int64" | "float32" | "float64":
            return bool(pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_decimal(given))
        case "bool":
            return bool(pa.types.is_boolean(given))
        case "array":
            return is_list(given) and castable(given.value_type, dtype.element or Float32)
        case "embedding":
            other = pa.types.is_fixed_size_list(given) and given.list_size != dtype.dim
            return is_list(given) and not other and castable(given.value_type, Float32)
    return fits(given, dtype)


def key_castable(given: pa.DataType, dtype: DType) -> bool:
    """`castable` for a join key: a date is not a timestamp there, as the instant of the day is not known."""
    inner = given.value_type if pa.types.is_dictionary(given) else given
    return castable(inner, dtype) and not (dtype.name == "timestamp" and pa.types.is_date(inner))


def fitting_dtype(given: pa.DataType) -> DType | None:
    """The dtype that a column of an Arrow type fits as it is; None where none does."""
    if pa.types.is_dictionary(given):
        return fitting_dtype(given.value_type)
    if pa.types.is_fixed_size_list(given) and fits(given.value_type, Float32):
        return Embedding(given.list_size)
    if pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given):
        element = fitting_dtype(given.value_type)
        return None if element is None else Array(element)
    scalars = (Bool, Int32, Int64, Float32, Float64, String, Bytes, Date, Timestamp)
    # an integer too wide for int64 is no float: it would lose digits
    return next(
        (d for d in scalars if fits(given, d) and (d.name[:5] != "float" or not pa.types.is_integer(given))), None
    )


def declare_hint(given: pa.DataType) -> str:
    """The end of an error about a column that does not fit its feature: how to declare it, or to cast it."""
    dtype = fitting_dtype(given)
    cast = "cast the column in the data or in a SQLSource"
    return f"; no dtype fits: {cast}" if dtype is None else f"; declare it hw.{dtype!r}, or {cast}"


class Status(enum.StrEnum):
    """What stands behind one value, online and in history."""

    PRESENT = "PRESENT"
    NULL = "NULL"
    STALE = "STALE"
    EXPIRED = "EXPIRED"
    NOT_KNOWN = "NOT_KNOWN"
    NOT_FOUND = "NOT_FOUND"
    UNAVAILABLE = "UNAVAILABLE"
    ERROR = "ERROR"


STATUSES: tuple[Status, ...] = tuple(Status)
"""A status's place in this tuple is its code in columns of uint8."""


class FeatureKind(enum.StrEnum):
    """How a feature's values are compared and summarised."""

    NUMERICAL = "numerical"
    CATEGORICAL = "categorical"
    EMBEDDING = "embedding"

    @classmethod
    def of(cls, dtype: DType) -> FeatureKind:
        """The kind that a dtype implies.

        Args:
            dtype: the dtype of a feature.

        Returns:
            EMBEDDING for embeddings, NUMERICAL for numbers, else CATEGORICAL.
        """
        if dtype.name == "embedding":
            return cls.EMBEDDING
        numbers = dtype.numeric and dtype.name != "bool"
        return cls.NUMERICAL if numbers else cls.CATEGORICAL


class ConsistencyLevel(enum.StrEnum):
    """What a read may miss."""

    EVENTUAL = "eventual"
    MONOTONIC_READ = "monotonic_read"
    SESSION = "session"
    STRONG = "strong"


class StalePolicy(enum.StrEnum):
    """What a read does with a value older than its SLA."""

    FLAG = "flag"
    DROP = "drop"
    REFRESH = "refresh"


class WriteTarget(enum.StrEnum):
    """Where `write` puts rows."""

    ONLINE = "online"
    OFFLINE = "offline"
    BOTH = "both"
