"""What a store holds beside rows, under keys that no entity can have: watermarks, the log's id, the epoch's token, …"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headwater.clock import MIN_MICROS
from headwater.digests import blake2b
from headwater.errors import FormatError
from headwater.online.base import OnlineStore
from headwater.online.rows.keys import META_PREFIX, namespace
from headwater.planning.watermark import Watermark

META_VERSION = 2
_WATERMARK, _LOG_ID, _GREATEST, _TOKEN, _MENDED, _PURGE, _EMPTIED, _PLACE, _FILL, _WINDOW_RUN, _RUN_ENDS = (
    b"w",
    b"l",
    b"g",
    b"t",
    b"c",
    b"p",
    b"e",
    b"r",
    b"f",
    b"n",
    b"x",
)
_HEAD = struct.Struct(">BQQ")
_SIGN = -MIN_MICROS


def watermark_key(project: str, view: str, version: str) -> bytes:
    """Where the watermark of a view version is kept."""
    return META_PREFIX + _WATERMARK + namespace(project, view, version)


def fill_record_key(project: str, view: str, version: str) -> bytes:
    """Where the fill record of a window version is kept (`rows.windows.record`)."""
    return META_PREFIX + _FILL + namespace(project, view, version)


def is_fill_record(key: bytes) -> bool:
    """Whether a fill record is kept under a key: it is true of rows that are read no earlier than it."""
    return key.startswith(META_PREFIX + _FILL)


def window_run_key(project: str, view: str, version: str) -> bytes:
    """Where the number of the last run over a window version is kept."""
    return META_PREFIX + _WINDOW_RUN + namespace(project, view, version)


def run_ends_key(project: str, view: str, version: str) -> bytes:
    """Where it is kept until when the runs of a view version that put from several processes may put."""
    return META_PREFIX + _RUN_ENDS + namespace(project, view, version)


def pack_run_ends(ends: Mapping[str, int]) -> bytes | None:
    """The ends of runs as they are stored, None where there are no runs.

    Args:
        ends: id of a run → microseconds by the store's own clock.
    """
    return msgspec.msgpack.encode(dict(sorted(ends.items()))) if ends else None


def run_ends(data: bytes | None) -> dict[str, int]:
    """The ends of runs that are stored; none where the bytes are damaged: then no run goes on."""
    try:
        return {} if data is None else msgspec.msgpack.decode(data, type=dict[str, int])
    except msgspec.MsgspecError:
        return {}


def pack_watermark(project: str, view: str, version: str, watermark: Watermark) -> bytes:
    """A watermark as it is stored, with the names it belongs to; of two the lesser has the lesser bytes."""
    rest = msgspec.msgpack.encode([project, view, version, watermark.token, watermark.files])
    return _HEAD.pack(META_VERSION, watermark.end + _SIGN, watermark.position) + rest


def unpack_watermark(data: bytes) -> tuple[str, str, str, Watermark]:
    """(project, view, version, watermark) of a stored one.

    Raises:
        FormatError: bytes of a newer headwater, or damaged.
    """
    if not data or data[0] >= 0x80:
        # of the first version: a list of MessagePack
        project, view, version, end, position = _unpack(data, "watermark", (str, str, str, int, int))
        return project, view, version, Watermark(end, position)
    if data[0] < 0x10:
        _refuse_newer(data[0], "watermark")
    if data[0] != META_VERSION or len(data) < _HEAD.size:
        raise FormatError("the watermark in the online store is damaged")
    _, end, position = _HEAD.unpack_from(data)
    project, view, version, token, files = _decoded(data[_HEAD.size :], "watermark", (str, str, str, bytes, int))
    return project, view, version, Watermark(end - _SIGN, position, token, files)


def read_watermarks(
    store: OnlineStore, project: str, versions: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Watermark | None]:
    """The watermarks of (view, version) pairs; None where the store has none.

    Raises:
        FormatError: a watermark of a newer headwater, or of another version (two names of one digest).
    """
    pairs = list(versions)
    stored = store.multi_get([watermark_key(project, *pair) for pair in pairs])
    marks: dict[tuple[str, str], Watermark | None] = {}
    for pair, data in zip(pairs, stored, strict=True):
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
    return META_PREFIX + _GREATEST + _digest(project)


def token_key(project: str) -> bytes:
    """Where the token of the store's epoch is kept."""
    return META_PREFIX + _TOKEN + _digest(project)


def mended_key(project: str) -> bytes:
    """Where it is kept up to which log position the store was mended after the registry was restored."""
    return META_PREFIX + _MENDED + _digest(project)


def emptied_key(project: str, view: str, version: str) -> bytes:
    """Where it is kept that the rows of a retired version were removed; whatever brings them back, loses it."""
    return META_PREFIX + _EMPTIED + namespace(project, view, version)


def number_of(data: bytes | None) -> int:
    """The number of a high-water mark; 0 where there is none."""
    return int.from_bytes(data, "big") if data is not None and len(data) == 8 else 0


def purges_prefix(project: str, view: str) -> bytes:
    """What the keys of a view's purges begin with."""
    return META_PREFIX + _PURGE + namespace(project, view, "")


def purge_entry(project: str, view: str, digest: bytes, through: int, position: int) -> dict[bytes, bytes | None]:
    """The entry of a purge: what is left of it in the store once the row is gone.

    Args:
        project: the project.
        view: the view.
        digest: the salted digest of the key.
        through: D, microseconds.
        position: P.
    """
    key = purges_prefix(project, view) + digest + position.to_bytes(8, "big")
    return {key: msgspec.msgpack.encode([1, through])}


def read_purges(store: OnlineStore, project: str, view: str) -> list[tuple[bytes, int, int]]:
    """(digest, D, P) of each purge that the store knows of a view.

    Raises:
        FormatError: bytes of a newer headwater, or damaged.
    """
    prefix = purges_prefix(project, view)
    purges = []
    for key, data in store.scan(prefix):
        (through,) = _unpack(data, "purge", (int,))
        purges.append((key[len(prefix) : -8], through, int.from_bytes(key[-8:], "big")))
    return purges


def _digest(project: str) -> bytes:
    return blake2b(project.encode(), digest_size=8).digest()


def log_id_key(project: str) -> bytes:
    """Where the id of the project's offline log is kept."""
    return META_PREFIX + _LOG_ID + _digest(project)


def pack_log_id(project: str, log_id: str) -> bytes:
    """The id of an offline log as it is stored."""
    return msgspec.msgpack.encode([1, project, log_id])


def unpack_log_id(data: bytes) -> tuple[str, str]:
    """(project, log id) of a stored one.

    Raises:
        FormatError: bytes of a newer headwater, or damaged.
    """
    project, log_id = _unpack(data, "log id", (str, str))
    return project, log_id


def location_key(project: str) -> bytes:
    """Where it is kept where the registry is that the store was written from."""
    return META_PREFIX + _PLACE + _digest(project)


def pack_location(host: str, path: str, device: int, inode: int, store: str) -> bytes:
    """Where a registry is, as it is stored."""
    return msgspec.msgpack.encode([1, host, os.fsencode(path), device, inode, os.fsencode(store)])


def unpack_location(data: bytes) -> tuple[str, str, int, int, str]:
    """What `pack_location` was given.

    Raises:
        FormatError: bytes of a newer headwater, or damaged.
    """
    host, path, device, inode, store = _unpack(data, "location of the registry", (str, bytes, int, int, bytes))
    return host, os.fsdecode(path), device, inode, os.fsdecode(store)


def _unpack(data: bytes, what: str, types: tuple[type, ...]) -> list[Any]:
    """The fields of a list of MessagePack that begins with the version 1."""
    fields = _list(data, what)
    if fields and isinstance(fields[0], int):
        _refuse_newer(fields[0], what, 1)
    return _of_types(fields[1:], what, types)


def _decoded(data: bytes, what: str, types: tuple[type, ...]) -> list[Any]:
    return _of_types(_list(data, what), what, types)


def _list(data: bytes, what: str) -> list[Any]:
    try:
        fields = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as bad:
        raise FormatError(f"the {what} in the online store is damaged: {bad}") from bad
    if not isinstance(fields, list):
        raise FormatError(f"the {what} in the online store is damaged")
    return fields


def _of_types(fields: list[Any], what: str, types: tuple[type, ...]) -> list[Any]:
    if len(fields) != len(types) or not all(map(isinstance, fields, types)):
        raise FormatError(f"the {what} in the online store is damaged")
    return fields


def _refuse_newer(version: int, what: str, known: int = META_VERSION) -> None:
    if version > known:
        raise FormatError(f"the {what} in the online store was written by a newer headwater: upgrade this one")
