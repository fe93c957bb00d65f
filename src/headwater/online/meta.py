"""What a store holds beside rows: watermarks and the id of the offline log, under keys that no entity can have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from headwater.errors import FormatError
from headwater.online.base import OnlineStore
from headwater.online.keys import META_PREFIX, namespace
from headwater.planning.watermark import Watermark

META_VERSION = 1
_WATERMARK, _LOG_ID = b"w", b"l"


def watermark_key(project: str, view: str, version: str) -> bytes:
    """Where the watermark of a view version lies."""
    return META_PREFIX + _WATERMARK + namespace(project, view, version)


def pack_watermark(project: str, view: str, version: str, watermark: Watermark) -> bytes:
    """A watermark as it is stored, with the names it belongs to."""
    return msgspec.msgpack.encode([META_VERSION, project, view, version, watermark.end, watermark.position])


def unpack_watermark(data: bytes) -> tuple[str, str, str, Watermark]:
    """(project, view, version, watermark) of a stored one.

    Raises:
        FormatError: bytes of a newer headwater, or damaged.
    """
    project, view, version, end, position = _unpack(data, "watermark", (str, str, str, int, int))
    return project, view, version, Watermark(end, position)


def read_watermarks(
    store: OnlineStore, project: str, versions: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Watermark | None]:
    """The watermarks of (view, version) pairs; None where the store has none.

    Raises:
        FormatError: a watermark of a newer headwater, or of another version (two names of one digest).
    """
    pairs = list(versions)
    found = store.multi_get([watermark_key(project, *pair) for pair in pairs])
    marks: dict[tuple[str, str], Watermark | None] = {}
    for pair, data in zip(pairs, found, strict=True):
        if data is None:
            marks[pair] = None
            continue
        *names, mark = unpack_watermark(data)
        if tuple(names) != (project, *pair):
            raise FormatError(
                f"{pair[0]} {pair[1]} has the key prefix of {names[1]} {names[2]} ({names[0]}): rename the view"
            )
        marks[pair] = mark
    return marks


def watermark_entry(project: str, view: str, version: str, watermark: Watermark) -> dict[bytes, bytes | None]:
    """The entry that moves a watermark, for `OnlineStore.put_meta`."""
    return {watermark_key(project, view, version): pack_watermark(project, view, version, watermark)}


def greatest_key(project: str) -> bytes:
    """Where the greatest log position is kept that anything put into the store has; see `OnlineStore.put`."""
    return META_PREFIX + b"g" + _digest(project)


def token_key(project: str) -> bytes:
    """Where the token of the store's epoch is kept."""
    return META_PREFIX + b"t" + _digest(project)


def _digest(project: str) -> bytes:
    return hashlib.blake2b(project.encode(), digest_size=8).digest()


def log_id_key(project: str) -> bytes:
    """Where the id of the project's offline log lies."""
    return META_PREFIX + _LOG_ID + _digest(project)


def pack_log_id(project: str, log_id: str) -> bytes:
    """The id of an offline log as it is stored."""
    return msgspec.msgpack.encode([META_VERSION, project, log_id])


def unpack_log_id(data: bytes) -> tuple[str, str]:
    """(project, log id) of a stored one.

    Raises:
        FormatError: bytes of a newer headwater, or damaged.
    """
    project, log_id = _unpack(data, "log id", (str, str))
    return project, log_id


def _unpack(data: bytes, what: str, types: tuple[type, ...]) -> list[Any]:
    try:
        fields = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as bad:
        raise FormatError(f"the {what} in the online store is damaged: {bad}") from bad
    if isinstance(fields, list) and fields and isinstance(fields[0], int) and fields[0] > META_VERSION:
        raise FormatError(f"the {what} in the online store was written by a newer headwater: upgrade this one")
    if not isinstance(fields, list) or len(fields) != len(types) + 1 or not all(map(isinstance, fields[1:], types)):
        raise FormatError(f"the {what} in the online store is damaged")
    return fields[1:]
