"""What interrupts leave behind."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from headwater import interrupts
from headwater.database.engine import open_engine
from headwater.database.transactions import reading, writing
from headwater.errors import StoreError


def test_what_was_begun_ends_as_the_interrupt_leaves_a_call_and_not_with_a_later_collection():
    ended = []

    @contextmanager
    def begun():
        try:
            yield
        finally:
            ended.append(True)

    def interrupted():
        block = begun()
        block.__enter__()
        # between the beginning of a block and its first statement; the error holds the frame, which holds the error
        error = KeyboardInterrupt()
        raise error

    gc.disable()
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupts.leaves_nothing(interrupted)()
        assert ended == [True]
    finally:
        gc.enable()


def test_errors_keep_what_debuggers_show():
    def fails():
        shown = 7
        raise ValueError(shown)

    with pytest.raises(ValueError) as bad:
        interrupts.leaves_nothing(fails)()
    frame = bad.value.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert frame.tb_frame.f_locals == {"shown": 7}


@pytest.fixture
def engine(tmp_path: Path):
    made = open_engine("sqlite://", tmp_path)
    with writing(made) as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield made
    made.dispose()


def count(engine: sa.Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM t")).scalar_one())


def test_a_database_in_memory_outlives_an_interrupted_transaction(engine):
    with pytest.raises(KeyboardInterrupt), writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        # what SQLAlchemy does where a statement is interrupted
        connection.invalidate()
        raise KeyboardInterrupt
    assert count(engine) == 0
    with writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
    assert count(engine) == 1


def test_an_interrupt_is_not_hidden_by_an_error_of_what_cleans_up(engine):
    bad = sa.exc.ProgrammingError("SELECT 1", {}, Exception("cannot be done now"))

    def clean_up():
        with writing(engine):
            try:
                raise KeyboardInterrupt
            finally:
                raise bad

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        # an error that comes later, in what handles it, is one
        with pytest.raises(StoreError, match="cannot be done now"), writing(engine):
            raise sa.exc.ProgrammingError("SELECT 1", {}, Exception("cannot be done now")) from None
