"""Models that were logged: which version of which service each takes."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from headwater.clock import to_micros
from headwater.database.transactions import writing_alone
from headwater.planning.snapshot import ModelVersion
from headwater.registry.reader import RegistryReader
from headwater.registry.tables import models, revisions


def add_model(
    registry: RegistryReader,
    name: str,
    service: tuple[str, str],
    *,
    uri: str,
    training_set: str | None,
    now: datetime,
    who: str,
) -> ModelVersion:
    """Register a model as the next version of its name, under a revision of its own, so that every reader sees it.

    Args:
        registry: its reader.
        name: the model's.
        service: name and version of the service that it takes.
        uri: where the model is.
        training_set: `name@version` of what it was trained on, where that is known.
        now: when it was logged (UTC).
        who: for the change log.
    """
    while True:
        try:
            return _added(registry, name, service, uri, training_set, now, who)
        except sa.exc.IntegrityError:
            continue  # somebody applied meanwhile, and took the revision


def _added(
    registry: RegistryReader,
    name: str,
    service: tuple[str, str],
    uri: str,
    training_set: str | None,
    now: datetime,
    who: str,
) -> ModelVersion:
    with writing_alone(registry.engine) as connection:
        newest = connection.execute(sa.select(sa.func.max(models.c.version)).where(models.c.name == name)).scalar()
        made = ModelVersion(name, (newest or 0) + 1, *service, uri, training_set, now)
        revision = connection.execute(sa.select(sa.func.max(revisions.c.revision))).scalar() or 0
        at = to_micros(now)
        connection.execute(revisions.insert().values(revision=revision + 1, at=at, who=who, what="log model"))
        connection.execute(
            models.insert().values(
                name=name,
                version=made.version,
                service=made.service,
                service_version=made.service_version,
                uri=uri,
                training_set=training_set,
                logged_at=at,
            )
        )
    return made
