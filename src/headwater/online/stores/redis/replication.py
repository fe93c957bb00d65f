"""Where a Redis node is in the history of its primary, and whether that covers what a session has seen: pure functions.

Marks of a session, by part: `<replication id>` → offset; `p:<run id>` → offset, of a primary's process; `m:<replication
id>` → a marker in the data, its number before its word, so that the later one is the greater; 0: it had none, nothing
was ever written. In a cluster each stands behind `<first slot of the shard>/`, as the shard was when they were read;
its slots may have moved since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from headwater.online.stores.redis.info import info
from headwater.online.stores.redis.scripts import KEPT_MARKERS

NO_ID = "0" * 40
WORD_BITS = 32
"""Of a marker's word, which stands in the data as hexadecimal text."""
NO_MARKER = (0, "0" * (WORD_BITS // 4))
ANY_HISTORY = ""
"""Stands for the replication id where a write's answer alone is known."""


class Cover(Enum):
    """Whether a node has all that marks say."""

    YES = "yes"
    NOT_YET = "not yet"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ReplicationPosition:
    """Where a node is.

    Attributes:
        primary: whether it is one.
        id, offset: of the history that it follows, and how far it has surely applied it.
        most: how far it may have applied it: while a replica waits for a whole copy it has its old rows, but tells
            nothing of where they are from.
        before, switch: the id of the history before, and the first offset that is not of it.
        run: the id of the process, of a primary.
        marker: (number, word) of the last marker in its data; `NO_MARKER`: it has none; None: it was not asked.
        linked: whether a replica hears its primary.
    """

    primary: bool
    id: str
    offset: int
    before: str = NO_ID
    switch: int = -1
    run: str = ""
    marker: tuple[int, str] | None = None
    linked: bool = True
    most: int = 0

    def marks(self, shard: str = "") -> dict[str, int]:
        """What a session that has read here has seen."""
        offset = max(self.offset, self.most)
        found = {shard + self.id: offset}
        if self.run:
            found[f"{shard}p:{self.run}"] = offset
        if self.marker is not None:
            found |= marker_mark(shard + "m:" + self.id, *self.marker)
        return found


def position_of(replication: bytes, server: bytes = b"", marker: Sequence[bytes | None] = ()) -> ReplicationPosition:
    """Where a node is, from INFO replication, of a primary INFO server too, and the marker's number and word."""
    fields = info(replication)
    primary = fields.get("role") == "master"
    offset = fields.get("master_repl_offset" if primary else "slave_repl_offset", "0")
    number, word = marker if len(marker) == 2 else (None, None)
    none = NO_MARKER if len(marker) == 2 else None
    return ReplicationPosition(
        primary=primary,
        id=fields.get("master_replid", ""),
        offset=int(offset),
        before=fields.get("master_replid2", NO_ID),
        switch=int(fields.get("second_repl_offset", "-1")),
        run=info(server).get("run_id", "") if primary else "",
        most=int(fields.get("master_repl_offset", "0")),
        marker=none if number is None or word is None else (int(number), word.decode()),
        linked=primary or (fields.get("master_link_status") == "up" and fields.get("master_sync_in_progress") == "0"),
    )


def marker_mark(part: str, number: int, word: str) -> dict[str, int]:
    """The mark of a marker."""
    return {part: number << WORD_BITS | int(word, 16)}


def histories(marks: Mapping[str, int]) -> list[tuple[str, dict[str, int]]]:
    """(name of its shard then, marks without that name) of each history that marks of a cluster's session are of."""
    result = []
    for part, mark in marks.items():
        shard, slash, history = part.rpartition("/")
        if ":" not in history:
            runs = of_shard(marks, shard + slash)
            result.append((shard + slash, {history: mark, **{p: at for p, at in runs.items() if p.startswith("p:")}}))
    return result


def of_shard(marks: Mapping[str, int], shard: str) -> dict[str, int]:
    """The marks of one shard, without its name."""
    return (
        {part[len(shard) :]: mark for part, mark in marks.items() if part.startswith(shard)} if shard else dict(marks)
    )


def covers(position: ReplicationPosition, marks: Mapping[str, int]) -> Cover:
    """Whether a node has all that marks say, as far as ids and offsets tell.

    UNKNOWN: an id that is neither the node's nor the one before it. Of a primary the markers decide then
    (`markers_of`), of a replica its primary must be asked.
    """
    found = Cover.YES
    runs = [part for part in marks if part.startswith("p:")]
    same_process = position.primary and position.before == NO_ID and runs == [f"p:{position.run}"]
    for part, mark in marks.items():
        if ":" in part or (part == position.id and mark <= position.offset):
            continue
        if part == position.id:
            # a primary is never behind its own history: its data was put back
            found = Cover.UNKNOWN if position.primary else Cover.NOT_YET
        elif part == position.before and mark < position.switch:
            found = found if position.offset >= mark else Cover.NOT_YET
        elif mark or not same_process:
            # a primary that nobody followed is at 0, and takes another id when its first replica joins
            found = Cover.UNKNOWN
        if found is Cover.UNKNOWN:
            return found
    return found


def markers_of(marks: Mapping[str, int]) -> list[tuple[int, str]]:
    """The latest marker of each history among marks: data that has a marker has all that was before it."""
    found = [mark for part, mark in marks.items() if part.startswith("m:") and mark]
    return [(mark >> WORD_BITS, f"{mark & (1 << WORD_BITS) - 1:0{WORD_BITS // 4}x}") for mark in found]


def only_markers(marks: Mapping[str, int]) -> bool:
    """Whether marks say nothing but which markers were left: no offset."""
    return bool(marks) and all(":" in part for part in marks)


def is_there(number: int, word: bytes | None, newest: bytes | None, found: bytes | None) -> bool:
    """Whether a marker is in the data, or was let go since for many later ones.

    Args:
        number: of the marker.
        word: its own.
        newest: the number of the last one in the data; None: it has none.
        found: what the data has under the number.
    """
    return word == found or number <= int(newest or 0) - KEPT_MARKERS


def all_there(seen: Sequence[tuple[int, str]], newest: bytes | None, words: Sequence[bytes | None]) -> bool:
    """The same of several."""
    return all(is_there(n, word.encode(), newest, found) for (n, word), found in zip(seen, words, strict=True))


def has_all(
    primary: ReplicationPosition,
    marks: Mapping[str, int],
    seen: Sequence[tuple[int, str]],
    newest: bytes | None,
    words: Sequence[bytes | None],
) -> bool:
    """Whether a primary has all that marks say: by its ids and offset and the markers in its data, else by these alone.

    Ids and offsets go on where the data was emptied.

    Args:
        primary: where it is.
        marks: of the session.
        seen: their markers.
        newest: the number of the last marker in the data; None: it has none.
        words: what the data has under the numbers of `seen`, None where it has nothing.
    """
    if only_markers(marks) or covers(primary, marks) is Cover.YES:
        return all_there(seen, newest, words)
    if not seen:
        # whatever becomes of data without a row, nothing that the session has seen is lost
        return bool(marks) and all(f"m:{part}" in marks for part in marks if ":" not in part)
    return list(words) == [word.encode() for _, word in seen]


def distance(position: ReplicationPosition, marks: Mapping[str, int]) -> int:
    """How far a node that does not cover marks is behind them, in bytes; -1 where its history is another."""
    wanted = marks.get(position.id, marks.get(position.before))
    return -1 if wanted is None else max(1, wanted - position.offset)
