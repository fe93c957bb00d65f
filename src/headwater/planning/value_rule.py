"""Which value of a dtype a given value becomes, and which it does not become: the rule, one value at a time.

Every road of values goes by it: sources, `write`, spines and keys. Columns are cast at once, by Arrow and by SQL; tests
hold both to this.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from headwater.clock import YEARS, from_micros
from headwater.deferred import deferred
from headwater.planning.value_checks import numpy_micros
from headwater.types import DType, a_dtype, is_utf8

fractions = deferred("fractions")

WHOLE = {"float32": 2**24, "float64": 2**53}
"""The greatest integer below which a float dtype holds all; integers beyond are refused."""

FLOAT32_END = (2 - 2.0**-24) * 2.0**127
"""The least number that becomes infinite as a float32."""

BITS = {"int32": 31, "int64": 63}


class Misfit(ValueError):
    """A value that is none of a dtype's; the text says why."""


def cast_value(value: Any, dtype: DType) -> Any:
    """A value as a dtype's: bool, int, float (a float32 exactly), str, bytes, datetime (UTC), date, list, None.

    - A number for a float dtype becomes the nearest that the dtype holds, in one rounding, if it is a float or a
      decimal; only what would overflow to infinity is refused. An integer must be within ±2**53 (`Float32`: ±2**24),
      where none is lost.
    - A number for an integer dtype must be whole and within the dtype's range; a float also below 2**53.
    - Everything else must be of its own kind; a date is midnight (UTC) for a timestamp. NumPy's datetime64 is a time,
      its days are dates too, its NaT is NULL.
    - Elements of arrays go by the same rule, and may be NULL; an embedding has its number of float32, none NULL.

    Raises:
        Misfit: the value does not fit.
    """
    if value is None:
        return None
    match dtype.name:
        case "int32" | "int64":
            return _integer(value, BITS[dtype.name])
        case "float32" | "float64":
            return _float(value, dtype)
        case "bool" if isinstance(value, (bool, np.bool_)):
            return bool(value)
        case "string" if isinstance(value, str) and is_utf8(value):
            return value
        case "bytes" if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        case "timestamp" if isinstance(value, date):
            return _instant(value)
        case "timestamp" if isinstance(value, np.datetime64):
            return _numpy_instant(value)
        case "date" if isinstance(value, date) and not isinstance(value, datetime):
            return value
        case "date" if isinstance(value, np.datetime64) and np.datetime_data(value.dtype) == ("D", 1):
            instant = _numpy_instant(value)
            return None if instant is None else instant.date()
        case "array" if isinstance(value, (list, tuple, np.ndarray)):
            assert dtype.element is not None
            return [cast_value(element, dtype.element) for element in value]
        case "embedding" if isinstance(value, (list, tuple, np.ndarray)):
            return _embedding(value, dtype)
    raise Misfit(f"not {a_dtype(dtype)}")


def _integer(value: Any, bits: int) -> int:
    whole: int
    if isinstance(value, (float, np.floating)):
        if not (math.isfinite(value) and int(value) == value):
            raise Misfit("not a whole number")
        if abs(float(value)) >= 2**53:
            raise Misfit("a float of 2**53 or more, which does not identify an integer")
        whole = int(value)
    elif isinstance(value, Decimal):
        if not (value.is_finite() and value == value.to_integral_value()):
            raise Misfit("not a whole number")
        whole = int(value)
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        whole = int(value)
    else:
        raise Misfit("not a number")
    if not -(1 << bits) <= whole < 1 << bits:
        raise Misfit(f"beyond {bits + 1} bits")
    return whole


def _float(value: Any, dtype: DType) -> float:
    narrow = dtype.name == "float32"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if narrow and math.isfinite(number):
            if abs(number) >= FLOAT32_END:
                raise Misfit("beyond the greatest float32")
            number = float(np.float32(number))
        return number
    if isinstance(value, Decimal):
        if not value.is_finite():
            return float(value)
        number = nearest_float32(value) if narrow else float(value)
        if math.isinf(number):
            raise Misfit(f"beyond the greatest {dtype}")
        return number
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if abs(int(value)) > WHOLE[dtype.name]:
            raise Misfit(beyond_all(dtype))
        return float(value)
    raise Misfit("not a number")


def beyond_all(dtype: DType) -> str:
    """Why a float dtype does not take an integer."""
    return f"an integer beyond 2**{WHOLE[dtype.name].bit_length() - 1}, where a {dtype} does not hold all"


def nearest_float32(value: Decimal) -> float:
    """The float32 nearest to a finite decimal, in one rounding (half to even); infinite where it is beyond all."""
    exact = fractions.Fraction(value)
    if abs(exact) >= fractions.Fraction(FLOAT32_END):
        return math.copysign(math.inf, value)
    near = np.float32(float(value))
    largest = np.finfo(np.float32).max
    around = [np.clip(n, -largest, largest) for n in (np.nextafter(near, -largest), near, np.nextafter(near, largest))]
    best = min(around, key=lambda n: (abs(fractions.Fraction(float(n)) - exact), int(n.view(np.uint32)) & 1))
    return math.copysign(float(best), value)


def _instant(value: Any) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value != value:  # pandas' NaT is a datetime
        raise Misfit("not an instant")
    if getattr(value, "nanosecond", 0):
        raise Misfit("finer than a microsecond")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as bad:
        raise Misfit(YEARS) from bad


def _numpy_instant(value: np.datetime64) -> datetime | None:
    if np.isnat(value):
        return None
    found = numpy_micros(value)
    if found is None:
        raise Misfit(YEARS)
    if not found[1]:
        raise Misfit("finer than a microsecond")
    return from_micros(found[0])


def _embedding(value: Any, dtype: DType) -> list[float]:
    if len(value) != dtype.dim:
        raise Misfit(f"{len(value)} numbers, not {dtype.dim}")
    if any(element is None for element in value):
        raise Misfit("a vector with a NULL")
    return [_float(element, DType("float32")) for element in value]
