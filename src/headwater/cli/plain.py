"""Values as JSON and as text: what `--json` prints, and what a cell of a table shows.

Keys, values and names of columns and files may hold anything: no control character of theirs reaches a terminal.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater.clock import format_duration
from headwater.errors import printable, unsafe_characters

_WIDEST_LIST = 6


def plain(value: Any) -> Any:
    """The JSON-able form of a value.

    Times are ISO text with their zone, durations seconds, bytes base64; NaN and the infinities text, since JSON has no
    numbers for them; an object with `to_dict` is asked for it.
    """
    match value:
        case None | bool() | int() | str() if not isinstance(value, enum.Enum):
            return value
        case enum.Enum():
            return plain(value.value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case Path():
            return str(value)
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if not f.name.startswith("_")}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return str(value)


def dumps(value: Any, indent: int | None = 2) -> str:
    """The JSON text of a value; characters that a terminal would obey, and halves of surrogate pairs, are escaped."""
    return unsafe_characters.sub(_escaped, json.dumps(plain(value), indent=indent, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    # the line breaks between items are JSON's own; those of texts are escaped already
    return "\n" if found.group() == "\n" else json.dumps(found.group())[1:-1]


def shown(value: Any) -> str:
    """What a cell shows: `-` for nothing, times to the second in UTC, long lists shortened, text in one line."""
    match value:
        case None:
            return "-"
        case enum.Enum():
            return str(value.value)
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.15g}"
        case datetime():
            return instant(value)
        case timedelta():
            return age(value)
        case bytes() | bytearray():
            return "0x" + bytes(value[:16]).hex() + ("…" if len(value) > 16 else "")
        case list() | tuple():
            inner = [shown(item) for item in value[:_WIDEST_LIST]]
            return "[" + ", ".join(inner + (["…"] if len(value) > _WIDEST_LIST else [])) + "]"
    return printable(str(value))


def instant(when: datetime) -> str:
    """`2026-07-06 12:00:00Z`, with microseconds only where there are any."""
    if when.utcoffset() is None:
        return when.isoformat(sep=" ")
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ") + "Z"


def age(lasting: timedelta) -> str:
    """A duration a person reads at a glance: `3d4h`, `12m`, `45s`, `0.25s`."""
    if abs(lasting) < timedelta(seconds=10):
        return f"{lasting.total_seconds():.3g}s"
    unit = timedelta(seconds=1)
    if abs(lasting) >= timedelta(minutes=10):
        unit = timedelta(minutes=1)
    if abs(lasting) >= timedelta(days=2):
        unit = timedelta(hours=1)
    return format_duration(unit * int(lasting / unit))
