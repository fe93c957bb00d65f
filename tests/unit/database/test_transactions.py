"""What a database says, in headwater's errors, with whose data it was."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from headwater.database.transactions import reading, writing
from headwater.errors import FormatError, StorageFull, StoreError, StoreReadOnly, Unavailable


@pytest.fixture
def engine(tmp_path: Path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/some.db", connect_args={"timeout": 0.05})
    with writing(engine) as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


def test_an_error_undoes_the_transaction(engine):
    with pytest.raises(KeyError), writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        raise KeyError
    with reading(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0


def test_another_writer_is_waited_for_and_then_told(engine):
    waits = pytest.raises(Unavailable, match=r"the log in .*some\.db: locked by another process")
    with writing(engine), waits, writing(engine, "the log in"):
        raise AssertionError("it was let in")


def test_no_room_is_told_and_nothing_is_lost(engine):
    with pytest.raises(StorageFull, match="all acknowledged writes are kept"), writing(engine) as connection:
        connection.execute(sa.text("PRAGMA max_page_count = 2"))
        connection.execute(sa.text("CREATE TABLE u (x BLOB)"))
        connection.execute(sa.text("INSERT INTO u VALUES (zeroblob(100000))"))


def test_a_connection_that_may_not_write(engine):
    with pytest.raises(StoreReadOnly, match="is read-only"), reading(engine) as connection:
        connection.execute(sa.text("PRAGMA query_only = ON"))
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))


def test_a_file_that_is_no_database(tmp_path: Path):
    (tmp_path / "x.db").write_bytes(b"not a database" * 100)
    damaged, told = sa.create_engine(f"sqlite:///{tmp_path}/x.db"), r"registry .*x\.db: is not a headwater database"
    with pytest.raises(FormatError, match=told), reading(damaged) as connection:
        connection.execute(sa.text("SELECT * FROM t"))


def test_a_statement_that_is_refused_is_no_outage(engine):
    with pytest.raises(StoreError) as told, reading(engine) as connection:
        connection.exec_driver_sql("SELECT ?", ())
    assert not isinstance(told.value, Unavailable)


def test_a_key_that_is_there_already_is_the_callers(engine):
    with pytest.raises(sa.exc.IntegrityError), writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1), (1)"))
