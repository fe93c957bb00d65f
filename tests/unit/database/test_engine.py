"""Engines of SQLite databases: what they share."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from headwater.database.engine import MEMORY, open_engine


@pytest.mark.parametrize("url", [MEMORY, "sqlite:///{}.db"])
def test_a_statement_is_compiled_once_for_all_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    compiled = []
    before = SQLCompiler.__init__

    def counted(self: SQLCompiler, *given: object, **more: object) -> None:
        compiled.append(given)
        before(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(SQLCompiler, "__init__", counted)
    # a name of its own: folders of tests that passed are removed, and their names given again
    table = sa.table(f"of_{uuid4().hex}", sa.column("x", sa.Integer))
    for n in range(3):
        engine = open_engine(url.format(n), tmp_path)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE TABLE {table.name} (x INTEGER)")
            connection.execute(sa.insert(table).values(x=n))
            assert connection.execute(sa.select(table.c.x).where(table.c.x == n)).scalars().all() == [n]
        engine.dispose()
    assert len(compiled) == 2
