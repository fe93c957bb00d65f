"""How a store stands as JSON: the same over HTTP and from the command."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from headwater.compute.status import StoreStatus
from headwater.types import Timestamp
from headwater.wire.json_values import to_json


def status_document(status: StoreStatus) -> dict[str, Any]:
    """A status as JSON: times in their one form, durations in seconds."""
    document: dict[str, Any] = _plain(status)
    return document


def status_in(body: bytes) -> StoreStatus:
    """The status that `status_document` wrote.

    Raises:
        msgspec.MsgspecError: it is not one.
    """
    # not strict: seconds are durations
    return msgspec.json.decode(body, type=StoreStatus, strict=False)


def _plain(value: Any) -> Any:
    match value:
        case enum.Enum():
            return value.value
        case datetime():
            return to_json([value], Timestamp)[0]
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value
