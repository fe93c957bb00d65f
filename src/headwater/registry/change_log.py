"""The change log: who changed what of the registry, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.clock import from_micros
from headwater.database.database import Database
from headwater.errors import brief
from headwater.registry.rows import json_of, sound

_CHANGES = (
    "SELECT c.revision, c.kind, c.name, c.version, c.action, c.stage, r.at, r.who, r.what FROM registry_change c "
    "JOIN registry_revision r ON r.revision = c.revision ORDER BY c.revision, c.place"
)


@dataclass(frozen=True, slots=True)
class Change:
    """One stage that was run.

    Attributes:
        revision: the revision that it belongs to.
        at: when (UTC).
        who: by whom, as the caller said.
        what: the call: apply, promote, roll back, retire, go live.
        kind, name, version: of what.
        action: what was done, as `stages.Action` names it.
        details: one line a difference.
    """

    revision: int
    at: datetime
    who: str
    what: str
    kind: str
    name: str
    version: str | None
    action: str
    details: tuple[str, ...]


def read_changes(database: Database, name: str | None) -> list[Change]:
    """The log, oldest first; of one name, or of all."""
    found = []
    with database.reads() as reads:
        rows = reads.rows(_CHANGES)
    for row in rows:
        if name not in (None, row.name):
            continue
        with sound(f"a change of revision {brief(row.revision)}"):
            found.append(_change(row))
    return found


def _change(row: Any) -> Change:
    return Change(
        row.revision,
        from_micros(row.at),
        row.who,
        row.what,
        row.kind,
        row.name,
        row.version,
        row.action,
        tuple(json_of(row.stage)["details"]),
    )
