"""Values as people look at them, in tables and notebooks; data keeps them as they are."""

from __future__ import annotations

import math
import struct
from typing import Any

import pyarrow as pa

from headwater.types import is_list

_FLOAT = struct.Struct("<f")


def short_form(value: Any, kind: pa.DataType) -> Any:
    """A value in its short form: a float32 as its shortest decimal (1.111, not 1.1109999418258667), in lists too."""
    if value is None:
        return None
    if pa.types.is_float32(kind):
        return shortest(value)
    if is_list(kind):
        return [short_form(element, kind.value_type) for element in value]
    return value


def shortest(number: float) -> float:
    """The float of a float32's shortest decimal form; cast to float32 it is the same number again."""
    if not math.isfinite(number):
        return number
    packed = _FLOAT.pack(number)
    for digits in range(1, 9):
        candidate = float(f"{number:.{digits}g}")
        try:
            if _FLOAT.pack(candidate) == packed:
                return candidate
        except OverflowError:
            continue
    return float(f"{number:.9g}")
