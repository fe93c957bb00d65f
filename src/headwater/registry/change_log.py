"""The change log: who changed what of the registry, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from headwater.clock import from_micros
from headwater.errors import brief
from headwater.registry.rows import json_of, sound
from headwater.registry.tables import changes, revisions


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


def read_changes(connection: sa.Connection, name: str | None) -> list[Change]:
    """The log, oldest first; of one name, or of all."""
    query = (
        sa.select(changes, revisions.c.at, revisions.c.who, revisions.c.what)
        .join(revisions, revisions.c.revision == changes.c.revision)
        .order_by(changes.c.revision, changes.c.place)
    )
    if name is not None:
        query = query.where(changes.c.name == name)
    found = []
    for row in connection.execute(query):
        with sound(f"a change of revision {brief(row.revision)}"):
            found.append(_change(row))
    return found


def _change(row: sa.Row[Any]) -> Change:
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
