"""Statements of events as window versions take them: times, what orders them, stored values, which conditions hold."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from headwater.planning.windows.digest import digested_bytes, xxh64
from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.values import Entry

_TIME = struct.Struct("<q")


class WindowEvent(NamedTuple):
    """A statement, by a row of the log or of the source, that an event happened; times in microseconds (UTC).

    Attributes:
        event: its event time.
        created: its created time.
        from_log: whether the log has it, not the source.
        position: its own log position; 0 of the source.
        values: the version's columns, in their stored form.
        holds: the `where` conditions of the version that are true of it.
        id: the digest of its event id and event time (`event_digest`); None: it has no event id.
    """

    event: int
    created: int
    from_log: bool
    position: int
    values: Mapping[str, Any]
    holds: frozenset[str] = frozenset()
    id: int | None = None

    @property
    def known_at(self) -> int:
        """max(event time, created time)."""
        return max(self.event, self.created)

    @property
    def order(self) -> tuple[int, bool, int]:
        """Of the statements of one event the least counts."""
        return max(self.event, self.created), self.from_log, self.position


def is_hidden(known_at: Any, from_log: Any, position: Any, through: Any, delete_position: Any) -> Any:
    """Whether a delete hides a statement, or which of many it hides: numbers, or arrays of them.

    Args:
        known_at: max(event time, created time).
        from_log: whether the log has the statement.
        position: its log position.
        through: D of the delete.
        delete_position: P of it.
    """
    return (known_at <= through) | (from_log & (position < delete_position))


def event_columns(columns: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """What the columns that a version aggregates are called in batches of events, by name.

    Each by its own name, but for those that a join key has, or a time could: a join key may be another column of the
    source than the one of its name.

    Args:
        columns: the version's columns.
        keys: the names of its join keys.
    """
    taken = frozenset(keys)
    return {name: f"__column_{name}" if name in taken or name.startswith("__") else name for name in columns}


def event_digest(event_id: Any, event: int) -> int:
    """64 bits that tell one event of a key from another: of its id (in the stored form) and its event time.

    A whole float is the id that the integer is; `event_ids.event_digests` does whole columns.
    """
    if isinstance(event_id, float) and event_id.is_integer() and abs(event_id) < 2**63:
        event_id = int(event_id)
    return xxh64(_TIME.pack(event) + digested_bytes(event_id))


def entry_for(given: ListLayout, event: WindowEvent) -> Entry | None:
    """What an event is in a list; None where its condition does not hold, or its value is NULL."""
    if given.where is not None and given.where not in event.holds:
        return None
    if given.column is None:
        return Entry(event.event, event.created, event.from_log, event.position)
    value = event.values[given.column]
    return None if value is None else Entry(event.event, event.created, event.from_log, event.position, value)
