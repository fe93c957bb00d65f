"""Tables of the refresh queue and its figures in the registry's database, and their migrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import sqlalchemy as sa

from headwater import sql_transactions
from headwater.errors import FormatError, StoreError

FORMAT = 1
"""The version of these tables."""

_WHAT = "refresh queue in"
"""What errors say of the database."""

metadata = sa.MetaData()

formats = sa.Table("refresh_format", metadata, sa.Column("version", sa.Integer, nullable=False))

hints = sa.Table(
    "refresh_hints",
    metadata,
    sa.Column("id", sa.LargeBinary(16), primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("event", sa.BigInteger, nullable=False),
    sa.Column("sla", sa.BigInteger, nullable=False),
    sa.Column("asked_at", sa.BigInteger, nullable=False),
    sa.Column("asked", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("due", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Index("refresh_hints_state", "state", "due"),
)

times = sa.Table(
    "refresh_times",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("micros", sa.BigInteger, nullable=False),
)

totals = sa.Table(
    "refresh_totals",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)


def _first_tables(connection: sa.Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.execute(formats.insert().values(version=0))


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first_tables,)
"""Step i brings the tables from version i to version i + 1."""


def migrate(engine: sa.Engine) -> None:
    """Bring the tables to this version; what another process did meanwhile is found done.

    Raises:
        FormatError: a newer headwater wrote them.
    """
    if stored_format(engine) == FORMAT:
        return
    try:
        with writing(engine) as connection:
            # looked at again under the lock: somebody else may have been first
            found = _read_format(connection)
            for step in MIGRATIONS[found:]:
                step(connection)
            connection.execute(formats.update().values(version=FORMAT))
    except StoreError:
        if stored_format(engine) != FORMAT:
            raise


def stored_format(engine: sa.Engine) -> int:
    """The version of the tables; 0 where there are none yet.

    Raises:
        FormatError: a newer headwater wrote them.
    """
    with reading(engine) as connection:
        found = _read_format(connection)
    if found > FORMAT:
        raise FormatError(f"the refresh queue has format {found}, this headwater reads up to {FORMAT}: upgrade it")
    return found


def _read_format(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(formats.name):
        return 0
    return int(connection.execute(sa.select(formats.c.version)).scalar_one())


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that may write.

    Raises:
        StorageFull, StoreReadOnly, Unavailable: what the database said, in headwater's words.
    """
    try:
        with sql_transactions.writing(engine, _WHAT) as connection:
            yield connection
    except sa.exc.IntegrityError as bad:
        raise StoreError(f"{_WHAT} {sql_transactions.place(engine)}: refused a row: {bad.orig}") from bad


def reading(engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
    """One transaction that sees a single state of the tables."""
    return sql_transactions.reading(engine, _WHAT)
