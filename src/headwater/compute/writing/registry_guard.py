"""A guard for transactions of the log: that the registry is still at the revision that was looked at."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from headwater.compute.context import StoreContext
from headwater.planning.snapshot import RegistrySnapshot

ATTEMPTS = 10
"""How often a write or delete is checked again where the registry moves on meanwhile."""


class Changed(Exception):
    """The registry moved on between the checks and the log's transaction."""


def unchanged(context: StoreContext, snapshot: RegistrySnapshot) -> Callable[[sa.Connection], None]:
    """A check for the log's transaction: it feeds the versions of the revision that it sees itself."""

    def check(connection: sa.Connection) -> None:
        if context.registry.revision_in(connection) != snapshot.revision:
            raise Changed

    return check
