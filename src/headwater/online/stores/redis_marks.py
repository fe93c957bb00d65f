"""Where a Redis node is in the history of its primary, and whether that covers what a session has seen: pure functions.

Marks of a session, by part: `<replication id>` → offset; `p:<run id>` → offset, of a primary's process; `m:<word>` →
number, a marker in the data. In a cluster each stands behind `<first slot of the shard>/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

NO_ID = "0" * 40


class Cover(Enum):
    """Whether a node has all that marks say."""

    YES = "yes"
    NOT_YET = "not yet"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Place:
    """Where a node is.

    Attributes:
        primary: whether it is one.
        id, offset: of the history that it follows, and how far it has applied it.
        before, switch: the id of the history before, and the first offset that is not of it.
        run: the id of the process, of a primary.
        marker: (number, word) of the last marker in its data.
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

    def marks(self, shard: str = "") -> dict[str, int]:
        """What a session that has read here has seen."""
        found = {shard + self.id: self.offset}
        if self.run:
            found[f"{shard}p:{self.run}"] = self.offset
        if self.marker is not None:
            found[f"{shard}m:{self.marker[1]}"] = self.marker[0]
        return found


def info(text: bytes) -> dict[str, str]:
    """The fields of an INFO answer."""
    fields = {}
    for line in text.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value
    return fields


def place(replication: bytes, server: bytes = b"", marker: Sequence[bytes | None] = ()) -> Place:
    """Where a node is, from INFO replication, of a primary INFO server too, and the marker's number and word."""
    fields = info(replication)
    primary = fields.get("role") == "master"
    offset = fields.get("master_repl_offset" if primary else "slave_repl_offset", "0")
    number, word = marker if len(marker) == 2 else (None, None)
    return Place(
        primary=primary,
        id=fields.get("master_replid", ""),
        offset=int(offset),
        before=fields.get("master_replid2", NO_ID),
        switch=int(fields.get("second_repl_offset", "-1")),
        run=info(server).get("run_id", "") if primary else "",
        marker=None if number is None or word is None else (int(number), word.decode()),
        linked=primary or (fields.get("master_link_status") == "up" and fields.get("master_sync_in_progress") == "0"),
    )


def of_shard(marks: Mapping[str, int], shard: str) -> dict[str, int]:
    """The marks of one shard, without its name."""
    return (
        {part[len(shard) :]: mark for part, mark in marks.items() if part.startswith(shard)} if shard else dict(marks)
    )


def covers(place: Place, marks: Mapping[str, int]) -> Cover:
    """Whether a node has all that marks say, as far as ids and offsets tell.

    UNKNOWN: an id that is neither the node's nor the one before it. Of a primary the markers decide then
    (`marker_of`), of a replica its primary must be asked.
    """
    found = Cover.YES
    same_process = place.primary and place.before == NO_ID and f"p:{place.run}" in marks
    for part, mark in marks.items():
        if ":" in part or (part == place.id and mark <= place.offset):
            continue
        if part == place.id:
            # a primary is never behind its own history: its data was put back
            found = Cover.UNKNOWN if place.primary else Cover.NOT_YET
        elif part == place.before and mark < place.switch:
            found = found if place.offset >= mark else Cover.NOT_YET
        elif not same_process:
            # a primary that nobody followed takes another id when its first replica joins: it is the same process
            found = Cover.UNKNOWN
        if found is Cover.UNKNOWN:
            return found
    return found


def marker_of(marks: Mapping[str, int]) -> tuple[int, str] | None:
    """The latest marker among marks: if the data has it, it has all that was before it."""
    found = [(mark, part[2:]) for part, mark in marks.items() if part.startswith("m:")]
    return max(found, default=None)
