"""Failures: the version whose last run failed, when, and with which error; until a run of it ends well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from headwater.clock import from_micros, to_micros
from headwater.database.transactions import reading, upsert, writing
from headwater.registry.tables import run_failures

MOST = 1_000
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last run of a view version failed.

    Attributes:
        view, version: the version.
        at: when (UTC).
        error: the error's message.
    """

    view: str
    version: str
    at: datetime
    error: str


class Failures:
    """The failures that `status` shows.

    Args:
        engine: of the registry's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def note(self, view: str, version: str, at: datetime, error: str) -> None:
        """Note that a run failed; a failure of the same version before is replaced."""
        values = {"at": to_micros(at), "error": error if len(error) <= MOST else error[:MOST] + "…"}
        with writing(self._engine) as connection:
            noted = upsert(connection.dialect, run_failures).values(view=view, version=version, **values)
            connection.execute(noted.on_conflict_do_update(index_elements=["view", "version"], set_=values))

    def all(self) -> list[Failure]:
        """Those that are noted, in order of their names."""
        query = sa.select(run_failures).order_by(run_failures.c.view, run_failures.c.version)
        with reading(self._engine) as connection:
            return [Failure(r.view, r.version, from_micros(r.at), r.error) for r in connection.execute(query)]

    def clear(self, versions: Iterable[tuple[str, str]]) -> None:
        """Forget the failures of versions that a run has filled; nothing is written where there are none."""
        mine = set(versions)
        with reading(self._engine) as connection:
            noted = {(r.view, r.version) for r in connection.execute(sa.select(run_failures))}
        gone = sorted(mine & noted)
        if not gone:
            return
        with writing(self._engine) as connection:
            for view, version in gone:
                one = (run_failures.c.view == view) & (run_failures.c.version == version)
                connection.execute(run_failures.delete().where(one))

    def forget(self, view: str) -> None:
        """Forget the failures of a view whose purged keys are erased: an error may show a row's values."""
        self.clear((failure.view, failure.version) for failure in self.all() if failure.view == view)
