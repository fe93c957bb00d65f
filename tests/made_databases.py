"""SQLite databases of tests: a process runs the steps that make one once, and afterwards makes what they left.

Sixty statements, which SQLite and SQLAlchemy look at one by one, are a tenth of what a small project costs. A database
that has tables of an earlier release goes through the steps as ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from headwater.database import connections, transactions
from headwater.database.database import ReadsOf
from headwater.database.migrations import Migrations

_run = Migrations.run
_made: dict[Migrations, Sequence[tuple[str, Sequence[Any]]]] = {}
"""For each set of tables the statements that make them, with the values of rows: `_NOW` and `_NEW` stand for others."""
_NOW, _NEW = object(), {str: lambda: str(uuid.uuid4()), bytes: lambda: uuid.uuid4().bytes}


def _left_by(migrations: Migrations, now: int) -> dict[str, Any]:
    """What the steps leave in an empty database: the statements that make its tables, then each table's rows."""
    engine = sa.create_engine("sqlite://")
    try:
        _run(migrations, engine, now)
        with engine.connect() as connection:
            objects = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL").all()
            left: dict[str, Any] = {"": [sql for _, name, sql in objects if not name.startswith("sqlite_")]}
            for kind, name, _ in objects:
                if kind == "table":
                    left[name] = [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]
        return left
    finally:
        engine.dispose()


def _statements(migrations: Migrations) -> Sequence[tuple[str, Sequence[Any]]]:
    if migrations not in _made:
        first, second = _left_by(migrations, 1), _left_by(migrations, 2)
        made: list[tuple[str, Sequence[Any]]] = [(sql, ()) for sql in first.pop("")]
        for name, rows in first.items():
            for row, other in zip(rows, second[name], strict=True):
                # what differs is the time, or was drawn
                values = [
                    a if a == b else _NOW if isinstance(a, int) else _NEW[type(a)]
                    for a, b in zip(row, other, strict=True)
                ]
                made.append((f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", values))
        _made[migrations] = made
    return _made[migrations]


def _make(self: Migrations, engine: sa.Engine, now: int = 0) -> None:
    if engine.dialect.name == "sqlite" and self.version(engine) == 0:
        statements = _statements(self)
        with transactions.writing_alone(engine, self.what) as connection:
            if self.version_in(ReadsOf(connection), connections.place(engine)) == 0:
                execute = connection.connection.driver_connection.execute  # type: ignore[union-attr]
                for sql, values in statements:
                    execute(sql, [now if v is _NOW else v() if callable(v) else v for v in values])
    _run(self, engine, now)


def pytest_configure() -> None:
    Migrations.run = _make  # type: ignore[method-assign]
