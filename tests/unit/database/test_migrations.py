"""The tables that the migrations make are those that the code declares: of registry, offline log and refresh queue."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from headwater.compute.queue import tables as refresh_tables
from headwater.database.database import Database
from headwater.offline.log import migrations as log_migrations
from headwater.offline.log import tables as log_tables
from headwater.registry import migrations, tables

OWNERS: dict[str, tuple[sa.MetaData, Callable[[Database], None]]] = {
    "registry": (tables.metadata, lambda database: migrations.migrate(database, 0)),
    "log": (log_tables.metadata, lambda database: log_tables.migrate(database.engine)),
    "refresh queue": (refresh_tables.metadata, lambda database: refresh_tables.migrate(database.engine)),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = "sqlite:///some.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    made = Database(url, tmp_path)
    yield made
    made.close()


def described(table: sa.Table, dialect: sa.Dialect) -> tuple[object, ...]:
    columns = {c.name: (c.type.as_generic().compile(dialect), c.nullable) for c in table.columns}
    indexes = {i.name: [c.name for c in i.columns] for i in table.indexes}
    unique = [
        sorted(column.name for column in constraint.columns)
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    ]
    return columns, [c.name for c in table.primary_key], indexes, sorted(unique)


@pytest.mark.parametrize("owner", OWNERS)
def test_what_the_migrations_make_is_what_is_declared(database: Database, owner: str) -> None:
    declared, migrate = OWNERS[owner]
    migrate(database)
    migrate(database)
    made, dialect = sa.MetaData(), database.engine.dialect
    made.reflect(database.engine)
    assert set(made.tables) == set(declared.tables)
    for table in declared.sorted_tables:
        assert described(made.tables[table.name], dialect) == described(table, dialect), table.name


@pytest.mark.parametrize("module", [migrations, log_migrations, refresh_tables], ids=lambda module: module.__name__)
def test_no_step_follows_the_tables_as_they_are_declared_today(module: ModuleType) -> None:
    assert "create_all" not in inspect.getsource(module)
