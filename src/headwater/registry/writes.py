"""The registry's writes, one transaction each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from headwater.clock import to_micros
from headwater.database.database import Database
from headwater.database.transactions import upsert, writing
from headwater.planning.advance import advance
from headwater.planning.stages import Stage
from headwater.planning.watermark import Watermark
from headwater.registry.reader import RegistryReader
from headwater.registry.row_writes import write_changes, write_revision
from headwater.registry.tables import settings, watermarks


def commit(
    registry: RegistryReader,
    stages: tuple[Stage, ...],
    revision: int,
    *,
    now: datetime,
    what: str,
    log_head: int,
    who: str,
) -> bool:
    """Run stages that were planned on a revision; False, and nothing is changed, where that is not the newest.

    Args:
        registry: its reader.
        stages: what is changed.
        revision: what they were planned on.
        now: UTC; the time of new and changed versions.
        what: the call, for the change log.
        log_head: the offline log's head, which new versions remember.
        who: for the change log.
    """
    try:
        # tables that another applier changes between two reads would not fit together
        with writing(registry.engine, single_state=True) as connection:
            if registry.revision_in(connection) != revision:
                return False
            before = registry.snapshot_in(connection)
            after = advance(before, stages, now=now, log_head=log_head)
            write_revision(connection, after.revision, stages, at=to_micros(now), who=who, what=what)
            write_changes(connection, before, after)
    except sa.exc.IntegrityError:
        # the other's transaction took the revision while this one ran
        return False
    return True


def set_once(database: Database, name: str, value: str | None) -> str:
    """A setting's value, stored by whoever asks first; None: a new random id."""
    query = sa.select(settings.c.value).where(settings.c.name == name)
    given = value if value is not None else uuid.uuid4().hex
    try:
        with writing(database.engine) as connection:
            stored: str | None = connection.execute(query).scalar()
            if stored is None:
                connection.execute(settings.insert().values(name=name, value=given))
            return given if stored is None else stored
    except sa.exc.IntegrityError:
        with writing(database.engine) as connection:
            other: str = connection.execute(query).scalar_one()
            return other


def change_setting(database: Database, name: str, change: Callable[[str], str]) -> None:
    """Give a setting that is there another value, made of what it has; of several at once each sees the last."""
    mine = settings.c.name == name
    with writing(database.engine) as connection:
        value = connection.execute(sa.select(settings.c.value).where(mine).with_for_update()).scalar_one()
        connection.execute(settings.update().where(mine).values(value=change(value)))


def rename(database: Database, name: str) -> None:
    """Give the project another name."""
    change_setting(database, "project", lambda _: name)


def record_watermarks(
    database: Database, marks: Mapping[tuple[str, str], Watermark], *, now: datetime, rows: int, took: timedelta
) -> None:
    """Note how far versions are materialized; see `FeatureRegistry.record_watermarks`."""
    with writing(database.engine) as connection:
        # in one order, so that two runs at once do not wait for each other
        for (view, version), mark in sorted(marks.items(), key=lambda item: item[0]):
            values = {"known_until": mark.end, "position": mark.position, "at": to_micros(now)}
            if rows:
                values |= {"run_rows": rows, "run_micros": took // timedelta(microseconds=1)}
            noted = upsert(connection.dialect, watermarks).values(view=view, version=version, **values)
            connection.execute(noted.on_conflict_do_update(index_elements=["view", "version"], set_=values))
