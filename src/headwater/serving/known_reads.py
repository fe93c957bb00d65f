"""Plain reads that ask for the same as one before them on the same head, but for the entities: what is known of them.

Their bodies begin with the same bytes, up to `"entities"`. What was checked for the first one is not looked at again
for a moment: the registry and whose the store is are looked at every few seconds, and a head is dropped with each
reading of the API keys.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import msgspec

from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.reading.quick import Begin
from headwater.compute.reading.read_arguments import ReadArguments
from headwater.online.reading.entities import EntityBatch
from headwater.planning.snapshot import RegistrySnapshot
from headwater.serving.access import Access
from headwater.serving.bodies import ReadBody
from headwater.types import DType

MOMENT = 0.05
"""Seconds."""
_ENTITIES = b'"entities"'
_NONE = b'"entities":{}}'
_LISTS: dict[str, Any] = {"int64": list[int], "int32": list[int], "string": list[str]}
"""Of join keys: what is taken as it is."""
_DECODER = msgspec.json.Decoder(ReadBody)


class KnownRead:
    """What is known of such reads.

    Attributes:
        snapshot: the registry that it holds for.
        key: the API key's id; None: none is asked for.
        include: what is wanted beside values.
        begin: begins to get rows.
    """

    __slots__ = (
        *("_decode", "_given", "_name", "_prefix", "_reader", "_size", "_until"),
        *("begin", "include", "key", "snapshot"),
    )

    def __init__(
        self,
        prefix: bytes,
        name: str,
        dtype: DType,
        reader: PreparedReader,
        given: ReadArguments,
        snapshot: RegistrySnapshot,
        access: Access,
        include: tuple[str, ...],
        begin: Begin,
    ) -> None:
        self._prefix, self._size, self._until = prefix, len(prefix), time.monotonic() + MOMENT
        self._name, self._decode = name, _decoder_of(name, dtype.name).decode
        self._reader, self._given = reader, given
        self.snapshot, self.include, self.begin = snapshot, include, begin
        self.key = None if access.key is None else access.key.id

    def read(self, body: bytes, snapshot: RegistrySnapshot | None) -> tuple[ReadArguments, EntityBatch] | None:
        """The arguments and the entities of a read; None where it is not such a one, or the moment is over.

        Args:
            body: of its request.
            snapshot: the registry as it was read last.

        Raises:
            msgspec.MsgspecError: its entities are not a list of the one join key, or more follows them.
        """
        if snapshot is not self.snapshot or not body.startswith(self._prefix) or time.monotonic() >= self._until:
            return None
        given = self._reader.plain_again(self._given)
        if given is None:
            return None
        values = self._decode(b"{" + body[self._size :]).entities.values
        return given, EntityBatch(len(values), {self._name: values})


def prefix_of(body: bytes) -> bytes:
    """What stands before the entities of a body."""
    return body[: max(0, body.find(_ENTITIES))]


def known_read(
    prefix: bytes,
    asked: ReadBody,
    reader: PreparedReader,
    given: ReadArguments,
    snapshot: RegistrySnapshot,
    access: Access,
    include: tuple[str, ...],
    begin: Begin,
) -> KnownRead | None:
    """What is known of reads like one that was answered; None where such reads have to be looked at each.

    Args:
        prefix: what stands before its entities.
        asked: the read.
        reader: of its features.
        given: its arguments.
        snapshot: the registry that it was answered by.
        access: what its API key allows.
        include: what it wants beside values.
        begin: began to get its rows.
    """
    if access.key is not None and access.key.expires_at is not None:
        return None
    keys = list(given.reader.join_keys.items())
    if len(keys) != 1 or keys[0][1].name not in _LISTS:
        return None
    try:
        # the bytes are whole fields of the request, before a field `entities` of the request itself
        same = _DECODER.decode(prefix + _NONE)
    except msgspec.MsgspecError:
        return None
    if same != msgspec.structs.replace(asked, entities={}):
        return None
    return KnownRead(prefix, *keys[0], reader, given, snapshot, access, include, begin)


@lru_cache(maxsize=64)
def _decoder_of(name: str, kind: str) -> msgspec.json.Decoder[Any]:
    """What reads `{"entities": {NAME: [...]}}`, and nothing else.

    Args:
        name: of the join key.
        kind: the name of its dtype.
    """
    keys = msgspec.defstruct("Keys", [("values", _LISTS[kind])], rename={"values": name}, forbid_unknown_fields=True)
    return msgspec.json.Decoder(msgspec.defstruct("Entities", [("entities", keys)], forbid_unknown_fields=True))
