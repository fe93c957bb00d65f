"""Forcing: which versions have keys that a force run is making equal to history; what it leaves others finish."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from headwater.database.transactions import reading, writing
from headwater.registry.tables import forcing


class Forcing:
    """The force runs that have not ended.

    A force run that died may have lowered rows in whose place others were superseded. Until none of its puts can apply
    any more each run fills the version from the beginning.

    Args:
        engine: of the registry's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def begin(self, view: str, version: str, until: int) -> str:
        """Note that a force run begins; the note's id.

        Args:
            view, version: the version.
            until: microseconds: none of the run's puts can apply later, unless it renews its lease.
        """
        note = uuid.uuid4().hex
        with writing(self._engine) as connection:
            connection.execute(forcing.insert().values(id=note, view=view, version=version, until=until))
        return note

    def extend(self, note: str, until: int) -> None:
        """Note that a force run has renewed its lease: its puts can apply until then (microseconds)."""
        with writing(self._engine) as connection:
            connection.execute(forcing.update().where(forcing.c.id == note).values(until=until))

    def end(self, note: str) -> None:
        """Note that a force run has made its keys equal."""
        with writing(self._engine) as connection:
            connection.execute(forcing.delete().where(forcing.c.id == note))

    def pending(self, view: str, version: str) -> bool:
        """Whether a force run of the version has begun and not ended."""
        query = sa.select(forcing.c.id).where(forcing.c.view == view, forcing.c.version == version).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def repair_clock(self, latest: int) -> int:
        """Let notes that a fast clock made end at an instant (microseconds); how many there were."""
        with writing(self._engine) as connection:
            late = forcing.update().where(forcing.c.until > latest).values(until=latest)
            return connection.execute(late).rowcount

    def clear(self, view: str, version: str, began: int) -> None:
        """Remove the notes of force runs none of whose puts could apply when a run began that has filled the version.

        Args:
            view, version: the version.
            began: microseconds.
        """
        mine = (forcing.c.view == view) & (forcing.c.version == version) & (forcing.c.until < began)
        with reading(self._engine) as connection:
            if connection.execute(sa.select(forcing.c.id).where(mine).limit(1)).first() is None:
                return
        with writing(self._engine) as connection:
            connection.execute(forcing.delete().where(mine))
