"""Tables of one purpose in a database that others share: their migrations and transactions."""

from __future__ import annotations

from contextlib import AbstractContextManager

import sqlalchemy as sa

from headwater.database import transactions
from headwater.database.migrations import Migrations


class TableSet:
    """Tables of one purpose.

    Args:
        what: what errors say of them, such as `offline log in`; the database follows.
        migrations: how they came to be.
    """

    def __init__(self, what: str, migrations: Migrations) -> None:
        self._what, self._migrations = what, migrations

    def migrate(self, engine: sa.Engine) -> None:
        """Bring the tables to this version.

        Raises:
            FormatError: a newer headwater wrote them.
        """
        self._migrations.run(engine)

    def stored_format(self, engine: sa.Engine) -> int:
        """The version of the tables; 0 where there are none yet.

        Raises:
            FormatError: a newer headwater wrote them.
        """
        return self._migrations.version(engine)

    def writing(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """One transaction that may write; committed at the end, undone on an error. On SQLite it holds the write lock.

        Raises:
            StorageFull, StoreReadOnly, Unavailable: what the database said, in headwater's words.
        """
        return transactions.writing_rows(engine, self._what)

    def reading(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """One transaction that sees a single state of the tables."""
        return transactions.reading(engine, self._what)
