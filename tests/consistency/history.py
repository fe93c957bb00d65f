"""What clients did and saw, and whether the level table allows it: a pure function over the record of a run.

Every write of a key has a number of its own, and the greater one is the newer value, whoever wrote it and whenever it
was acknowledged (the numbers are the event times). So *older* is *smaller*, and no row at all is the oldest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

NOTHING = -1
"""Read where there is no row."""

Floors = dict[str, int]
"""Key → the oldest value that may be read."""


@dataclass(frozen=True)
class Event:
    """One thing that a client did; times are of one clock that all clients share.

    Attributes:
        kind: `write` and `read`; `lost`: a read raised ConsistencyLost, and the session went on with the fresh one;
            `gave`: the session's token was handed out; `took`: another session's token was merged into this one.
        started, ended: when it was called, and when it came back.
        session: the session that took part; empty: none.
        level: of a read.
        key: of a read or write.
        value: written or read.
        acknowledged: of a write: it came back without an error; otherwise nobody knows whether it was applied.
        durable: of a write: acknowledged by every replica too.
        token: of `gave` and `took`: which one.
    """

    kind: Literal["write", "read", "lost", "gave", "took"]
    started: float
    ended: float
    session: str = ""
    level: str = ""
    key: str = ""
    value: int = NOTHING
    acknowledged: bool = True
    durable: bool = False
    token: str = ""

    def __str__(self) -> str:
        who = f" in session {self.session}" if self.session else ""
        return f"{self.level or self.kind} of {self.key} at {self.started:.4f}{who} gave {self.value}"


def violations(events: Iterable[Event], breaks: Sequence[float] = ()) -> list[str]:
    """What the level table does not allow.

    Args:
        events: in any order; those of one session do not overlap in time.
        breaks: when an epoch of the primary may have ended: a failover, or a restart that lost data. What was
            acknowledged before one, by the primary alone, need not be there after it for reads outside the session.

    Returns:
        A sentence for each read that is wrong, in order of time.
    """
    ordered = sorted(events, key=lambda event: (event.started, event.ended))
    found = _from_nowhere(ordered)
    found += _strong(ordered, breaks)
    found += _sessions(ordered)
    return [text for _, text in sorted(found)]


def _from_nowhere(events: Sequence[Event]) -> list[tuple[float, str]]:
    """Reads of values that nobody had begun to write."""
    begun: dict[tuple[str, int], float] = {}
    for event in events:
        if event.kind == "write":
            begun.setdefault((event.key, event.value), event.started)
    found = []
    for event in events:
        if event.kind == "read" and event.value != NOTHING:
            since = begun.get((event.key, event.value))
            if since is None or since > event.ended:
                found.append((event.started, f"{event}, which nobody had written"))
    return found


def _strong(events: Sequence[Event], breaks: Sequence[float]) -> list[tuple[float, str]]:
    """Strong reads that miss a write acknowledged before they began, in the same epoch or by every replica."""
    writes = defaultdict(list)
    for event in events:
        if event.kind == "write" and event.acknowledged:
            writes[event.key].append(event)
    found = []
    for read in events:
        if read.kind != "read" or read.level != "strong":
            continue
        missed = [
            write
            for write in writes[read.key]
            if write.value > read.value
            and write.ended < read.started
            and (write.durable or not any(write.started <= at <= read.ended for at in breaks))
        ]
        if missed:
            newest = max(missed, key=lambda write: write.value)
            found.append((read.started, f"{read}, but {newest.value} was acknowledged at {newest.ended:.4f}"))
    return found


@dataclass
class _Seen:
    """What a session has read, and what it has read or written."""

    read: Floors
    both: Floors

    @classmethod
    def nothing(cls) -> _Seen:
        return cls({}, {})

    def copy(self) -> _Seen:
        return _Seen(dict(self.read), dict(self.both))

    def merge(self, other: _Seen) -> None:
        for mine, theirs in ((self.read, other.read), (self.both, other.both)):
            for key, value in theirs.items():
                mine[key] = max(value, mine.get(key, NOTHING))

    def note(self, key: str, value: int, *, read: bool) -> None:
        for floors in (self.read, self.both) if read else (self.both,):
            floors[key] = max(value, floors.get(key, NOTHING))


def _sessions(events: Sequence[Event]) -> list[tuple[float, str]]:
    """Reads of a session that go back behind what it has read (monotonic), or has read or written (session)."""
    seen: dict[str, _Seen] = defaultdict(_Seen.nothing)
    given: dict[str, _Seen] = {}
    found = []
    for event in events:
        if not event.session:
            continue
        mine = seen[event.session]
        if event.kind == "write" and event.acknowledged:
            mine.note(event.key, event.value, read=False)
        elif event.kind == "lost":
            seen[event.session] = _Seen.nothing()
        elif event.kind == "gave":
            given[event.token] = mine.copy()
        elif event.kind == "took":
            mine.merge(given[event.token])
        elif event.kind == "read":
            floors = {"monotonic_read": mine.read, "session": mine.both}.get(event.level, {})
            if event.value < floors.get(event.key, NOTHING):
                found.append((event.started, f"{event}, but the session has seen {floors[event.key]}"))
            mine.note(event.key, event.value, read=True)
    return found
