"""The contract of history and of online reads as a brute-force reference in plain Python: slow, and obviously right.

Source, log and spine times are integers of nanoseconds since 1970 (UTC), so that every unit fits; arrivals, deletes,
ttl, delay and all answers are microseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, zip_longest
from typing import Any

from headwater.clock import MIN_MICROS
from headwater.definitions.names import OPEN
from headwater.planning.watermark import Watermark
from headwater.types import Status

Key = tuple[Any, ...]
NOT_KNOWN = Status.NOT_KNOWN


@dataclass(frozen=True)
class OracleView:
    """What of a view version the answer depends on.

    Attributes:
        defaults: every feature of the version → its default (None: none).
        ttl: microseconds; 0 is none.
        delay: microseconds after its event time at which a source row is known, where the source names no created time.
        event_time: whether the source names an event time.
        created_time: whether the source names a created time.
        slas: feature → freshness SLA in microseconds, where it has one.
        ends: whether the source names when rows end.
    """

    defaults: Mapping[str, Any]
    ttl: int = 0
    delay: int = 0
    event_time: bool = True
    created_time: bool = False
    slas: Mapping[str, int] = field(default_factory=dict)
    ends: bool = False


@dataclass(frozen=True)
class SourceRow:
    """A row of the source: key, features by name, event and created time (nanoseconds), event id, and when it ends
    (nanoseconds); None is NULL or not named.
    """

    key: Key
    values: Mapping[str, Any]
    event: int | None = None
    created: int | None = None
    event_id: Any = None
    ends: int | None = None


@dataclass(frozen=True)
class LogRow:
    """A row of the offline log; `created` (nanoseconds) is the one it carries, None where it carries none."""

    key: Key
    values: Mapping[str, Any]
    event: int | None
    arrival: int
    position: int
    created: int | None = None
    ends: int | None = None


@dataclass(frozen=True)
class Delete:
    """A tombstone: from reads at or after `through` it hides the key's rows with known_at ≤ `through` (microseconds).

    Rows of the log at positions before `position` are hidden too, whatever their times; a cache-only row has none.
    """

    key: Key
    through: int
    position: int = 0

    def hides(self, row: Fact) -> bool:
        """Whether reads from `through` on do not see the row."""
        earlier = row.from_log and 0 < row.position < self.position
        return self.key == row.key and (row.known_at <= self.through or earlier)


@dataclass(frozen=True)
class Fact:
    """A row in the form that is compared: all times in microseconds.

    Attributes:
        ends: when it ends, `OPEN` where it has not; None where rows of its view do not.
        until: up to when it counts as known.
    """

    key: Key
    values: Mapping[str, Any]
    event: int
    created: int
    from_log: bool
    position: int = 0
    event_id: Any = None
    ends: int | None = None
    until: int = OPEN

    @cached_property
    def known_at(self) -> int:
        """The instant from which the row counts."""
        return max(self.event, self.created)

    @cached_property
    def order(self) -> tuple[Any, ...]:
        """Rules 1 to 5: of two rows that count, the one with the greater order is the answer."""
        content = () if self.from_log else tuple(value_order(self.values[name]) for name in sorted(self.values))
        last = (value_order(self.ends),) if content else ()
        return (self.event, self.created, self.from_log, self.position, value_order(self.event_id), content + last)


@dataclass(frozen=True)
class Answer:
    """What a view says to one key at one instant.

    Attributes:
        status: PRESENT where a row matched, else why there is none.
        fact: the row that matched.
        values: the features' values, defaults filled in.
        statuses: one per feature.
        tie: whether only the features decided between rows of the source with the same times and event id.
        ended: the row that would have matched had it not ended.
    """

    status: Status
    fact: Fact | None
    values: Mapping[str, Any]
    statuses: Mapping[str, Status]
    tie: bool = False
    ended: Fact | None = None


def ceil_micros(nanos: int) -> int:
    """Event and created times round up, so that nothing counts before its time."""
    return -(-nanos // 1000)


def floor_micros(nanos: int) -> int:
    """The spine's times round down, so that nothing after them counts."""
    return nanos // 1000


def value_order(value: Any) -> tuple[Any, ...]:
    """Rule 5 for one value: NULL lowest, NaN highest, text by its UTF-8 bytes, lists by element."""
    if value is None:
        return (0,)
    if isinstance(value, float) and math.isnan(value):
        return (2,)
    if isinstance(value, str):
        return (1, value.encode())
    if isinstance(value, (list, tuple)):
        return (1, tuple(value_order(element) for element in value))
    return (1, value)


def facts(view: OracleView, source: Iterable[SourceRow], log: Iterable[LogRow] = ()) -> list[Fact]:
    """The rows that can count at all: no NULL key, event time or created time, of the log those with every feature."""
    found = []
    for row in source:
        created = row.created if view.created_time else 0
        event = row.event if view.event_time else 0
        if None in row.key or event is None or created is None:
            continue
        event_micros = ceil_micros(event) if view.event_time else MIN_MICROS
        without_created = event_micros + view.delay if view.event_time else MIN_MICROS
        created_micros = ceil_micros(created) if view.created_time else without_created
        fact = Fact(row.key, _only(view, row.values), event_micros, created_micros, False, event_id=row.event_id)
        found.append(replace(fact, ends=_ends(row.ends)) if view.ends else fact)
    for entry in log:
        event = entry.event if view.event_time else 0
        if None in entry.key or event is None or not set(view.defaults) <= set(entry.values):
            continue
        event_micros = ceil_micros(event) if view.event_time else MIN_MICROS
        created_micros = entry.arrival if entry.created is None else ceil_micros(entry.created)
        fact = Fact(entry.key, _only(view, entry.values), event_micros, created_micros, True, entry.position)
        found.append(replace(fact, ends=_ends(entry.ends)) if view.ends else fact)
    return [replace(fact, until=_until(view, fact, found)) for fact in found] if view.ends else found


def _ends(nanos: int | None) -> int:
    return OPEN if nanos is None else ceil_micros(nanos)


def _until(view: OracleView, row: Fact, rows: Iterable[Fact]) -> int:
    """Up to when a row counts as known: at least until the next row of its key was, where that says when it was."""
    assert row.ends is not None
    if row.ends < row.event or row.ends == OPEN:
        return row.ends
    until = row.ends if row.from_log or view.created_time else row.ends + view.delay
    times = (row.event, row.created)
    later = [other for other in rows if other.key == row.key and (other.event, other.created) > times]
    following = min(((other.event, other.created) for other in later), default=times)
    stated = [o for o in later if (o.event, o.created) == following and (o.from_log or view.created_time)]
    return max([until, *(other.created for other in stated)])


def overlapping(rows: Iterable[Fact], keys: Iterable[Key]) -> int:
    """How many neighbouring rows of some keys overlap; of rows that begin at one instant the last known counts."""
    found, keys = 0, set(keys)
    own = [row for row in rows if row.key in keys]
    for row, after in pairwise(sorted(own, key=lambda r: (repr(r.key), r.event, r.created, r.position, r.ends))):
        assert row.ends is not None
        found += row.key == after.key and row.event < after.event < row.ends
    return found


def null_times(view: OracleView, source: Iterable[SourceRow], log: Iterable[LogRow] = ()) -> int:
    """How many rows are left out for a NULL event or created time, of the log among those with every feature."""
    logged = [entry for entry in log if set(view.defaults) <= set(entry.values)]
    events = [*(row.event for row in source), *(entry.event for entry in logged)]
    without_event = [view.event_time and event is None for event in events]
    without_created = [view.created_time and row.created is None for row in source]
    return sum(a or b for a, b in zip_longest(without_event, without_created, fillvalue=False))


def answer(
    view: OracleView, rows: Iterable[Fact], deletes: Sequence[Delete], key: Key, at: int, *, as_known: bool = True
) -> Answer:
    """What history says to a key at an instant (microseconds)."""
    due = [tombstone for tombstone in deletes if tombstone.key == key and tombstone.through <= at]
    own = [row for row in rows if row.key == key and None not in key]
    visible = [row for row in own if not any(tombstone.hides(row) for tombstone in due)] if due else own
    in_time = [row for row in visible if row.event <= at and not _expired(view, row, at)]
    candidates = [row for row in in_time if _known(row, at, as_known)]
    if candidates:
        best = max(candidates, key=lambda row: row.order)
        tie = any(row.order[:-1] == best.order[:-1] and row.order != best.order for row in candidates)
        if best.ends is not None and (best.until if as_known else best.ends) <= at:
            return replace(_absent(view, Status.EXPIRED), tie=tie, ended=best)
        return replace(_matched(view, best), tie=tie)
    if in_time:
        return _absent(view, Status.NOT_KNOWN)
    if any(_known(row, at, as_known) for row in visible):
        return _absent(view, Status.EXPIRED)
    return _absent(view, Status.NOT_KNOWN if visible else Status.NOT_FOUND)


def last_change(rows: Iterable[Fact], deletes: Sequence[Delete], key: Key) -> int:
    """When the row that the online store keeps of a key was known, or the key was deleted, the later (microseconds).

    Args:
        rows: all that were put.
        deletes: all that were put.
        key: the key.
    """
    kept = _kept(rows, deletes, key)
    known = MIN_MICROS if kept is None else kept.known_at
    return max([known, *(tombstone.through for tombstone in deletes if tombstone.key == key)])


def _kept(rows: Iterable[Fact], deletes: Sequence[Delete], key: Key) -> Fact | None:
    there = [row for row in rows if row.key == key and None not in key and not any(d.hides(row) for d in deletes)]
    return max(there, key=lambda row: row.order, default=None)


def online_answer(view: OracleView, rows: Iterable[Fact], deletes: Sequence[Delete], key: Key, now: int) -> Answer:
    """What an exact online read says to a key at `now` (microseconds); a read by the clock, at the instant it gives.

    It equals `answer` where `now` is not before `last_change`; there it tells what is stale too.

    Args:
        view: the version.
        rows: all that were put, whenever they are known.
        deletes: all that were put.
        key: the key.
        now: the instant.
    """
    rows = list(rows)
    if last_change(rows, deletes, key) > now:
        return Answer(Status.NOT_KNOWN, None, dict.fromkeys(view.defaults), dict.fromkeys(view.defaults, NOT_KNOWN))
    best = _kept(rows, deletes, key)
    if best is None:
        return _absent(view, Status.NOT_FOUND)
    if _expired(view, best, now) or (best.ends is not None and best.until <= now):
        return _absent(view, Status.EXPIRED)
    found = _matched(view, best)
    stale = {name for name, sla in view.slas.items() if view.event_time and now - best.event > sla}
    statuses = {
        name: Status.STALE if name in stale and status is Status.PRESENT else status
        for name, status in found.statuses.items()
    }
    return Answer(Status.PRESENT, best, found.values, statuses)


def known_entities(rows: Iterable[Fact], deletes: Sequence[Delete], at: int, *, as_known: bool = True) -> set[Key]:
    """The keys of which any row is known at an instant, an expired one too: what history without a spine lists."""
    return {row.key for row in rows if _known(row, at, as_known) and not _hidden(row, deletes, at)}


def changes(
    rows: Iterable[Fact], deletes: Sequence[Delete], *, end: int, source_after: int, since: Watermark, log_until: int
) -> dict[Key, Fact]:
    """What a materialization up to `end` puts: of each key the greatest row that the run takes (microseconds)."""
    best: dict[Key, Fact] = {}
    for row in rows:
        if row.from_log:
            taken = row.position <= log_until and (row.position > since.position or row.known_at > since.end)
        else:
            taken = row.known_at > source_after or source_after == MIN_MICROS
        deleted = any(tombstone.hides(row) for tombstone in deletes)
        if taken and row.known_at <= end and not deleted and (row.key not in best or row.order > best[row.key].order):
            best[row.key] = row
    return best


def counts(answers: Sequence[Answer], instants: Sequence[int]) -> dict[str, int]:
    """`matched`, `no_row`, `expired` and `not_known` of one view, `same_instant` and `ties` within `matched`, and
    `never_valid` within `expired`.
    """
    told = Counter(given.status for given in answers)
    same = sum(given.fact is not None and given.fact.event == at for given, at in zip(answers, instants, strict=True))
    return {
        "matched": told[Status.PRESENT],
        "no_row": told[Status.NOT_FOUND],
        "expired": told[Status.EXPIRED],
        "not_known": told[Status.NOT_KNOWN],
        "same_instant": same,
        "ties": sum(given.tie for given in answers),
        "never_valid": sum(
            given.ended is not None and given.ended.ends is not None and given.ended.ends < given.ended.event
            for given in answers
        ),
    }


def _only(view: OracleView, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in view.defaults}


def _known(row: Fact, at: int, as_known: bool) -> bool:
    return row.event <= at and (not as_known or row.created <= at)


def _expired(view: OracleView, row: Fact, at: int) -> bool:
    return view.event_time and view.ttl > 0 and row.event < at - view.ttl


def _hidden(row: Fact, deletes: Sequence[Delete], at: int) -> bool:
    return any(tombstone.through <= at and tombstone.hides(row) for tombstone in deletes)


def _matched(view: OracleView, row: Fact) -> Answer:
    statuses = {name: Status.NULL if row.values[name] is None else Status.PRESENT for name in view.defaults}
    return Answer(Status.PRESENT, row, row.values, statuses)


def _absent(view: OracleView, status: Status) -> Answer:
    return Answer(status, None, view.defaults, dict.fromkeys(view.defaults, status))
