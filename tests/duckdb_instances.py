"""DuckDB instances that tests use one after another: a new one takes 35 ms, which most tests would pay several times.

An engine takes one from here as it opens its database, and gives it back as it closes it. Only engines without settings
of their own do, and only an instance in which nothing is left is given to another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import duckdb

from headwater import forks
from headwater.offline.engines.duckdb import engine, workspace
from headwater.offline.engines.duckdb.workspace import Connection

_FREE = 4
_LEFT = "SELECT count(*) FROM (FROM duckdb_tables() SELECT 1 UNION ALL FROM duckdb_views() SELECT 1 WHERE NOT internal)"
_open_database = workspace.open_database
_lock = threading.Lock()
_free: list[Connection] = []


class _Lent:
    """An instance in the hands of an engine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._process = os.getpid()

    def cursor(self) -> Connection:
        return self._connection.cursor()

    def close(self) -> None:
        """Give it back, or close it."""
        with suppress(duckdb.Error):
            if os.getpid() == self._process and self._connection.execute(_LEFT).fetchone() == (0,):
                with _lock:
                    if len(_free) < _FREE:
                        _free.append(self._connection)
                        return
        self._connection.close()


def _lend(config: Mapping[str, Any]) -> Any:
    if set(config) != {"temp_directory"}:
        return _open_database(config)
    with _lock:
        free = _free.pop() if _free else None
    if free is not None:
        with suppress(duckdb.Error):  # it has used the folder that it had
            free.execute(f"SET GLOBAL temp_directory = '{config['temp_directory']}'")
            return _Lent(free)
        free.close()
    return _Lent(_open_database(config))


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()
    if _free:
        # their threads are the parent's
        forks.abandon(*_free)
        _free.clear()


def pytest_configure() -> None:
    engine.open_database = _lend  # type: ignore[assignment]
    os.register_at_fork(after_in_child=_in_child)


def pytest_unconfigure() -> None:
    while _free:
        _free.pop().close()
