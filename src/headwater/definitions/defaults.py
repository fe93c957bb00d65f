"""Defaults: one Python form of each, and its plain JSON form by dtype."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

from headwater.clock import from_micros, to_micros
from headwater.deferred import deferred
from headwater.types import DType

base64 = deferred("base64")


def canonical(dtype: DType, value: Any) -> Any:
    """A value that `dtype.accepts`, in the one Python form in which results hold it.

    Floats of a float dtype, times aware in UTC, lists for arrays and embeddings; equal defaults then compare equal
    however written.
    """
    if value is None:
        return None
    match dtype.name:
        case "int32" | "int64":
            return int(value)
        case "float32" | "float64":
            return float(value)
        case "bool":
            return bool(value)
        case "bytes":
            return bytes(value)
        case "timestamp":
            return from_micros(to_micros(value))
        case "array":
            assert dtype.element is not None
            return [canonical(dtype.element, item) for item in value]
        case "embedding":
            return [float(item) for item in value]
        case _:
            return value


def encode_value(dtype: DType, value: Any) -> Any:
    """The JSON form of a canonical value: microseconds for timestamps, base64 for bytes, text for NaN and infinity."""
    match dtype.name:
        case _ if value is None:
            return None
        case "float32" | "float64":
            return value if math.isfinite(value) else str(value)
        case "bytes":
            return base64.b64encode(value).decode()
        case "timestamp":
            return to_micros(value)
        case "date":
            return value.isoformat()
        case "array":
            assert dtype.element is not None
            return [encode_value(dtype.element, item) for item in value]
        case "embedding":
            return [item if math.isfinite(item) else str(item) for item in value]
        case _:
            return value


def decode_value(dtype: DType, plain: Any) -> Any:
    """The value that `encode_value` wrote."""
    match dtype.name:
        case _ if plain is None:
            return None
        case "float32" | "float64":
            return float(plain)
        case "bytes":
            return base64.b64decode(plain)
        case "timestamp":
            return from_micros(plain)
        case "date":
            return date.fromisoformat(plain)
        case "array":
            assert dtype.element is not None
            return [decode_value(dtype.element, item) for item in plain]
        case "embedding":
            return [float(item) for item in plain]
        case _:
            return plain
