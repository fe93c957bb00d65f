"""Clients in processes that hold no store: sessions that the server signs, writes whose answer is lost, HTTPS, keys."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import headwater as hw
from tests.servers.certificates import self_signed
from tests.servers.closing import Closing
from tests.servers.headwater_server import HeadwaterServer

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
EVENTS = hw.FeatureView(
    "events", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64)]
)
FAR = """
import sys, threading, headwater as hw
from datetime import UTC, datetime
client, session = hw.Client(sys.argv[1], timeout="30s"), hw.Session()
rows = [{"user": 1, "at": datetime(2026, 1, 1, 12, tzinfo=UTC), "n": 1}]
assert client.write("events", rows, session=session).applied == 1

def read():
    for _ in range(10):
        found = client.get_online_features(["events:n"], [1], consistency="session", session=session)
        assert found.to_dict()["n"] == [1]

threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert session.received and "." in session.token, session.token
assert not {"lmdb", "duckdb", "sqlalchemy"} & set(sys.modules)
print(session.token)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    with hw.FeatureStore(tmp_path) as store:
        store.apply([EVENTS])
    return tmp_path


class LosesAnswers(Closing):
    """In front of a server: passes requests on, and loses the answers to the first writes and deletes.

    Args:
        port: the server's.
        losing: how many.
    """

    def __init__(self, port: int, losing: int) -> None:
        self._port, self.losing, self.lost = port, losing, 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, connection: socket.socket) -> None:
        with connection, socket.create_connection(("127.0.0.1", self._port)) as server:
            while data := self._message(connection):
                server.sendall(data)
                answer = self._message(server)
                if self.losing and (b":write" in data[:60] or b":delete" in data[:60]):
                    self.losing, self.lost = self.losing - 1, self.lost + 1
                    return
                connection.sendall(answer)

    def _message(self, connection: socket.socket) -> bytes:
        """A whole request or answer."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65_536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].partition(b":")[2]) if lengths else 0
        while len(body) < length:
            body += connection.recv(65_536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._socket.close()


def test_a_session_goes_from_process_to_process(project: Path) -> None:
    with HeadwaterServer(project, workers=2) as server, hw.FeatureStore(project) as store:
        url = f"http://127.0.0.1:{server.port}"
        done = subprocess.run([sys.executable, "-c", FAR, url], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        session = hw.Session.from_token(done.stdout.strip())
        found = store.get_online_features(["events:n"], [1], consistency="session", session=session)
        assert found.to_dict()["n"] == [1]
        with hw.Client(url, timeout="30s") as client:
            again = client.get_online_features(["events:n"], [1], consistency="session", session=session)
            assert again.to_dict() == found.to_dict()


def test_a_write_whose_answer_was_lost_is_done_once(project: Path) -> None:
    with HeadwaterServer(project) as server, LosesAnswers(server.port, 0) as between:
        with hw.Client(between.url, timeout="30s") as client:
            for form in range(3):
                between.losing = 1
                first = client.write("events", [{"user": form, "at": AT, "n": form}])
                second = client.write("events", [{"user": form, "at": AT, "n": form + 1}])
                assert (first.applied, second.position) == (1, first.position + 1)
                assert client.get_online_features(["events:n"], [form]).to_dict()["n"] == [form + 1]
            between.losing = 2
            deleted = client.delete("events", [0, 1])
            assert deleted.deleted == 2
            after = client.write("events", [{"user": 0, "at": AT, "n": 9}])
            assert after.position == deleted.position + 1
            between.losing = 3
            with pytest.raises(hw.Unavailable):
                client.write("events", [{"user": 5, "at": AT, "n": 5}])
            between.losing = 1
            with pytest.raises(hw.Unavailable):
                client.write("events", [{"user": 6, "at": AT, "n": 6}], to="online")
        assert between.lost == 3 + 2 + 3 + 1


@pytest.fixture
def https(project: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    certificate, key = self_signed(tmp_path)
    with HeadwaterServer(project, "--tls-cert", str(certificate), "--tls-key", str(key), tls=certificate) as server:
        yield f"https://localhost:{server.port}", certificate


def test_https_by_a_certificate_that_is_named(https: tuple[str, Path]) -> None:
    url, certificate = https
    row = {"user": 1, "at": AT, "n": 1}
    with hw.Client(url, ca=certificate, timeout="30s") as client:
        assert client.write("events", [row]).applied == 1
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                ended = 0 if client.get_online_features(["events:n"], [1]).to_dict()["n"] == [1] else 2
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        # what the child did left the parent's connection as it was
        assert client.get_online_features(["events:n"], [1]).to_dict()["n"] == [1]

    async def read(**settings: object) -> object:
        async with hw.AsyncClient(url, timeout="30s", retries=0, **settings) as client:  # type: ignore[arg-type]
            return (await client.get_online_features(["events:n"], [1])).to_dict()["n"]

    assert asyncio.run(read(ca=certificate)) == [1]
    with hw.Client(url, timeout="30s", retries=0) as stranger, pytest.raises(hw.Unavailable, match="certificate"):
        stranger.get_online_features(["events:n"], [1])
    with pytest.raises(hw.Unavailable, match="certificate"):
        asyncio.run(read())
