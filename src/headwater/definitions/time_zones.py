"""Time zones by name."""

from __future__ import annotations

import re
from datetime import timedelta, timezone, tzinfo

from headwater.deferred import deferred
from headwater.errors import UsageError, brief, nearest

zoneinfo = deferred("zoneinfo")

_OFFSET = re.compile(r"[+-]\d{2}:\d{2}")


def time_zone(name: object) -> tzinfo:
    """The zone of a name of the IANA database (`Europe/Berlin`), of `UTC` or an offset (`+02:00`).

    Raises:
        UsageError: there is no such zone.
    """
    if isinstance(name, str) and _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(name[1:3]), minutes=int(name[4:]))
        return timezone(-offset if name[0] == "-" else offset)
    try:
        if not isinstance(name, str):
            raise ValueError(name)
        zone: tzinfo = zoneinfo.ZoneInfo(name)
        return zone
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known: set[str] = zoneinfo.available_timezones()
        advice = "" if known else "; this host has no time zone database: pip install tzdata"
        near = nearest(name, known) if isinstance(name, str) else ""
        raise UsageError(
            f"{brief(name)} is not a time zone, such as 'Europe/Berlin', 'UTC' or '+02:00'{near}{advice}"
        ) from None
