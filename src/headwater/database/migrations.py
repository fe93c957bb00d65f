"""The one migration runner: it brings tables of a database from nothing to their newest form, step by step.

A step is never changed once it was released: a new one follows it. So each is SQL of its own, and none is made from
the tables as they are declared today.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headwater.database.database import ReadsOf
from headwater.database.plain import Reads
from headwater.deferred import deferred, deferred_pattern
from headwater.errors import FormatError
from headwater.values import Value

if TYPE_CHECKING:
    import sqlalchemy as sa

    from headwater.database import connections, transactions
else:
    sa = deferred("sqlalchemy")
    connections = deferred("headwater.database.connections")
    transactions = deferred("headwater.database.transactions")

_VALUE: re.Pattern[str] = deferred_pattern(r"(?<!:):([a-z_]+)")
_VALUES: dict[str, Callable[[], Any]] = {
    "new_uuid": lambda: str(uuid.uuid4()),
    "new_bytes": lambda: uuid.uuid4().bytes,
}
"""What a step may ask for by name, drawn when it runs."""


class OnPostgreSQL(str):
    """A statement that is for PostgreSQL alone."""


class Migrations(Value, frozen=True):
    """The steps of some tables, each run once in a database.

    In a statement `{bytes}` and `{serial}` stand for the database's own types (`{serial}` is an integer that the
    database counts up), `:new_uuid` and `:new_bytes` for 36 characters and 16 bytes that nobody had before. The first
    step makes the table of versions, too.

    Attributes:
        what: whose data it is, for errors.
        table: the table with a column `version`: how many steps were run.
        done: SQL that notes it; `:version` steps were run at `:now` (microseconds).
        steps: step i brings the tables from version i to version i + 1.
    """

    what: str
    table: str
    done: str
    steps: tuple[tuple[str, ...], ...]

    def run(self, engine: sa.Engine, now: int = 0) -> None:
        """Run what is missing; what another process did meanwhile is found done.

        Args:
            engine: the database's.
            now: microseconds.

        Raises:
            FormatError: a newer headwater wrote the tables.
        """
        if self.version(engine) == len(self.steps):
            return
        with transactions.writing_alone(engine, self.what) as connection:
            # looked at again under the lock: somebody else may have been first
            before = self.version_in(ReadsOf(connection), connections.place(engine))
            for version, step in enumerate(self.steps[before:], start=before + 1):
                for statement in step:
                    _run(connection, statement)
                connection.execute(sa.text(self.done), _used(self.done, {"version": version, "now": now}))

    def version(self, engine: sa.Engine) -> int:
        """The version of the tables; 0 where there are none yet.

        Raises:
            FormatError: a newer headwater wrote them.
        """
        with transactions.reading(engine, self.what) as connection:
            return self.version_in(ReadsOf(connection), connections.place(engine))

    def version_in(self, reads: Reads, location: str) -> int:
        """The version of the tables as a transaction sees them; 0 where there are none yet.

        Args:
            reads: the transaction.
            location: where the database is, for errors.

        Raises:
            FormatError: a newer headwater wrote them.
        """
        if not reads.has_table(self.table):
            return 0
        version: int = reads.rows(f"SELECT max(version) AS newest FROM {self.table}")[0].newest or 0
        if version > len(self.steps):
            raise FormatError(
                f"{self.what} {location}: has format {version}, this headwater reads up to {len(self.steps)}: "
                "upgrade headwater"
            )
        return version


def _run(connection: sa.Connection, statement: str) -> None:
    postgresql = connection.dialect.name == "postgresql"
    if isinstance(statement, OnPostgreSQL) and not postgresql:
        return
    types = {"bytes": "BYTEA" if postgresql else "BLOB", "serial": "SERIAL" if postgresql else "INTEGER"}
    sql, wanted = statement.format_map(types), _VALUE.findall(statement)
    if wanted:
        connection.execute(sa.text(sql), {name: _VALUES[name]() for name in wanted})
    else:
        # dozens of them make a new database, and SQLAlchemy's handling of text takes as long as the database
        connection.exec_driver_sql(sql)


def _used(statement: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in _VALUE.findall(statement)}
