"""PostgreSQL of a test: a private cluster on a free port of 127.0.0.1, each test with a database of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.closing import Closing
from tests.servers.keeper import keep
from tests.servers.ports import free_port
from tests.servers.waiting import wait_until

OWNER, GUARDED, PASSWORD = "headwater", "guarded", "s3cret-w0rd"
"""The owner of every database comes in without a password; the other one needs his."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # a killed server loses nothing all the same: what is committed is with the operating system
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
}


def _programs() -> Path:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    assert found, "these tests start PostgreSQL, which is not installed: run as root: apt-get install postgresql"
    return max(found, key=lambda path: int(path.parent.name))


def _unprivileged() -> dict[str, Any]:
    """Whom a child process runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class PostgresServer(Closing):
    """A cluster of its own: started at once, ended and removed by `close()` or `with`.

    Attributes:
        port: where it listens.
    """

    def __init__(self) -> None:
        self._bin = _programs()
        self._process: subprocess.Popen[bytes] | None = None
        # not below pytest's folders, which other users may not enter
        self._folder = Path(tempfile.mkdtemp(prefix="headwater-postgres-"))
        self._as = _unprivileged()
        if self._as:
            os.chown(self._folder, self._as["user"], self._as["group"])
        try:
            self._make()
            for _ in range(20):
                self.port = free_port()
                # somebody else may have taken the port meanwhile
                if self._try_start():
                    return
            raise AssertionError(self._told)
        except BaseException:
            self.close()
            raise

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _told(self) -> str:
        return f"PostgreSQL says:\n{(self._folder / 'told').read_text()[-2000:]}"

    def _make(self) -> None:
        options = ["--auth=trust", f"--username={OWNER}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [self._bin / "initdb", "-D", self._data, *options], capture_output=True, cwd=self._folder, **self._as
        )
        assert made.returncode == 0, made.stderr.decode()
        access = self._data / "pg_hba.conf"
        access.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n" + access.read_text())

    def _try_start(self) -> bool:
        settings = [f"-c{name}={value}" for name, value in {**SETTINGS, "port": str(self.port)}.items()]
        with (self._folder / "told").open("wb") as told:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *settings],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                cwd=self._folder,
                **self._as,
            )
            keep(self._process)
        wait_until(lambda: not self.running or self._answers(), "PostgreSQL to start")
        return self.running

    def _answers(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            self._run("SELECT 1")
            return True
        return False

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=OWNER, dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(statement.encode())

    @property
    def pid(self) -> int:
        """Of the process that takes connections."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str, user: str = OWNER) -> str:
        """A database's URL."""
        who = f"{user}:{PASSWORD}" if user == GUARDED else user
        return f"postgresql+psycopg://{who}@127.0.0.1:{self.port}/{database}"

    def make_database(self) -> str:
        """A new, empty database; its name."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._run(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """End its connections, and remove it."""
        self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def make_guarded(self, database: str) -> None:
        """Let the user that needs a password read a database's tables, and no more."""
        with contextlib.suppress(Exception):
            self._run(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
        self._run(f"GRANT CONNECT ON DATABASE {database} TO {GUARDED}")
        self._run(f"GRANT pg_read_all_data TO {GUARDED}")

    def stop(self) -> None:
        """End it as an administrator would who does not wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, as a loss of power does."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def start(self) -> None:
        """Start it on the port and with the data that it had."""
        assert not self.running
        assert self._try_start(), self._told

    def close(self) -> None:
        """End it for good, and remove it."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A cluster that the tests of a session share; one that stops it makes its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = postgres_server.make_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
