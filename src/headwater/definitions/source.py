"""Source: what every source says of its rows, which columns hold their times among it."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from msgspec.structs import force_setattr

from headwater.clock import parse_duration
from headwater.definitions.definition import Definition
from headwater.urls import shown_location


class Source(Definition, frozen=True, kw_only=True):
    """The settings that every source has.

    Attributes:
        event_time: the column with the time at which a row became true; None: rows are always valid (a dimension
            table).
        valid_from: says the same as `event_time` of a table whose rows also end: give one of the two; `event_time` is
            this column then.
        valid_to: the column with the time at which a row ends: it is used before that time, and EXPIRED from then on;
            NULL: it has not ended. It requires `valid_from`. Where rows become known late, a row's end is known with
            the next row of its key, and counts from then.
        created_time: the column with the time at which a row became known; None: event time + `delay`.
        event_id: the column that identifies an event, if the source may contain an event more than once.
        delay: how long after its event time a row becomes known, if no column says so: a duration such as `"10m"`, or
            a timedelta.
        timezone: the time zone of naive times and dates (`"Europe/Berlin"`, `"+02:00"`); None: UTC. For a table of a
            query: the zone of its naive timestamps, which the query sees as instants; None: they stay naive and are
            read in the query's zone.
    """

    kind: ClassVar[str] = ""

    event_time: str | None = None
    created_time: str | None = None
    event_id: str | None = None
    delay: timedelta | str = timedelta(0)
    timezone: str | None = None
    valid_from: str | None = None
    valid_to: str | None = None

    def __post_init__(self) -> None:
        if self.event_time is None and self.valid_from is not None:
            force_setattr(self, "event_time", self.valid_from)
        try:
            force_setattr(self, "delay", parse_duration(self.delay))
        except ValueError as bad:
            force_setattr(self, "delay", timedelta(0))
            force_setattr(self, "problems", (f"delay: {bad}",))

    @property
    def times(self) -> tuple[str, ...]:
        """The columns that hold times of a row: when it became true, was known, and ends."""
        return tuple(n for n in (self.event_time, self.created_time, self.valid_to) if n is not None)

    @property
    def delay_time(self) -> timedelta:
        """`delay` as a timedelta."""
        assert isinstance(self.delay, timedelta)
        return self.delay

    @property
    def location(self) -> str:
        """Where the data is, as it was given; empty where the source has no location."""
        return ""

    @property
    def shown_location(self) -> str:
        """`location` for people, without credentials."""
        return shown_location(self.location)
