"""Whether a version has caught up with the live one: what readers need, apart from the stages that move pointers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from headwater.clock import from_micros
from headwater.planning.service_reads import reads_of
from headwater.planning.snapshot import (
    AnyVersion,
    AnyViewRecord,
    AnyViewVersion,
    OnDemandRecord,
    OnDemandVersion,
    RegistrySnapshot,
    ViewRecord,
    ViewVersion,
)
from headwater.planning.watermark import Watermark

RETIRED_ROWS = timedelta(minutes=10)
"""How long the rows of a retired version stay: readers elsewhere see within half of it that it is."""

Watermarks = Mapping[tuple[str, str], Watermark]
"""(view, version) → how far it is materialized, as the online store tells; one that is missing never was."""


def behind(snapshot: RegistrySnapshot, version: AnyVersion, marks: Watermarks) -> str | None:
    """Why a version has not caught up with the live version; None where it is.

    A service's version is as far where each version of a view that it reads was live or has caught up. Where the live
    version of a view was never materialized, the offline log's head when the version was applied counts instead.
    """
    if isinstance(version, ViewVersion):
        return view_behind(snapshot.view(version.view.name), version, marks)
    for (view, _), read in reads_of(snapshot, version).items():
        record = snapshot.any_view(view)
        reason = unreadable(snapshot, record, record.version(read), marks)
        if reason is not None:
            return f"{view} {reason}"
    return None


def unreadable(
    snapshot: RegistrySnapshot, record: AnyViewRecord, version: AnyViewVersion, marks: Watermarks
) -> str | None:
    """Why a service cannot read a version of a view: it was never live and has not caught up, or its rows are lost.

    A store that loses rows loses the watermark with them. Where no version of the view has one, rows come from `write`
    alone, to every version. An on-demand view has no rows: what it reads must be readable.
    """
    if isinstance(record, OnDemandRecord) or isinstance(version, OnDemandVersion):
        return behind(snapshot, version, marks)
    filled = (record.name, version.version) in marks or not any(name == record.name for name, _ in marks)
    return None if version.caught_up and filled else view_behind(record, version, marks)


def view_behind(record: ViewRecord, version: ViewVersion, marks: Watermarks) -> str | None:
    """As `behind`, of one version of a view."""
    if record.live is None or version.version == record.live:
        return None
    own = marks.get((record.name, version.version))
    live = marks.get((record.name, record.live))
    if (own or Watermark()).reaches(live or Watermark(position=version.log_head)):
        return None
    return f"{version.version} is materialized {_reach(own)}, the live {record.live} {_reach(live)}"


def _reach(mark: Watermark | None) -> str:
    if mark is None:
        return "not at all"
    when = max(mark.end, -(2**55))
    text = "from the log alone" if when < -(2**54) else f"up to {from_micros(when):%Y-%m-%d %H:%M:%S.%f} UTC"
    return f"{text} (log position {mark.position})"
