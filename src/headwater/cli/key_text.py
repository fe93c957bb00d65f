"""Join keys as text: what tables show of a key, and what `--key` takes, are one form, so that it can be copied.

Numbers have no separators. Bytes are written as their text where they are printable UTF-8, else as `0x` and hex digits.
Text that a cell could not show as it is stands in double quotes, as JSON writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from headwater.clock import from_micros, to_micros
from headwater.definitions.bytes_text import begins_as_hex, bytes_of_text

if TYPE_CHECKING:
    from headwater.types import DType


def key_text(value: Any) -> Any:
    """What a cell shows of a key; None, times and dates as everywhere."""
    match value:
        case bool():
            return value
        case int():
            return str(value)
        case bytes() | bytearray():
            return _bytes_text(bytes(value))
        case str():
            return value if _shown_as_it_is(value) else json.dumps(value)
    return value


def _shown_as_it_is(text: str) -> bool:
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return bool(text) and text == text.strip() and text.isprintable() and text != "-" and not quoted


def _bytes_text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    plain = _shown_as_it_is(text) and not begins_as_hex(text)
    return text if plain else f"0x{value.hex()}"


def key_value(text: str, dtype: DType) -> Any:
    """The key that a text of the command line means.

    Raises:
        ValueError, OverflowError: text that is not a value of the dtype.
    """
    return _CASTS[dtype.name](text)


def _int(bits: int) -> Callable[[str], int]:
    def cast(text: str) -> int:
        value = int(text)
        if not -(2**bits) <= value < 2**bits:
            raise ValueError(text)
        return value

    return cast


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")


def _string(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text


def _timestamp(text: str) -> datetime:
    return from_micros(to_micros(text))


_CASTS: dict[str, Callable[[str], Any]] = {
    "int32": _int(31),
    "int64": _int(63),
    "bool": _bool,
    "string": _string,
    "bytes": bytes_of_text,
    "timestamp": _timestamp,
    "date": date.fromisoformat,
}
