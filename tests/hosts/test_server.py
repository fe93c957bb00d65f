"""`headwater serve` as a process: workers that die, a server that stops, versions that change, broken projects."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import headwater as hw
from headwater.errors import Unavailable
from headwater.online.stores.lmdb.opened import PLACE_CHECK
from headwater.serving import worker as a_worker
from headwater.serving.settings import ServerSettings
from headwater.serving.slots import make_memory
from headwater.serving.supervisor import listen
from headwater.serving.worker import READY
from headwater.wire import names
from tests.children import Child
from tests.forked import run_forked
from tests.servers.certificates import self_signed
from tests.servers.headwater_server import COMMAND, HeadwaterServer
from tests.servers.waiting import wait_until

USER = hw.Entity("user", join_keys={"user": hw.Int64})
AT = datetime(2026, 1, 1, tzinfo=UTC)
READ = {"features": ["events:n"], "entities": [1, 2]}


def events(*more: hw.Feature) -> hw.FeatureView:
    return hw.FeatureView(
        "events", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64), *more]
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    with hw.FeatureStore(tmp_path) as store:
        store.apply([events()])
        store.write("events", [{"user": user, "at": AT, "n": 10 * user} for user in (1, 2)])
    return tmp_path


def served(server: HeadwaterServer) -> str | None:
    """The version that the workers read; None: one has not followed yet."""
    versions = read_by(server)
    return next(iter(versions.values())) if len(versions) == 2 and len(set(versions.values())) == 1 else None


def read_by(server: HeadwaterServer) -> dict[str, str]:
    """The version that each worker reads which answered now."""
    asked = READ | {"include": ["versions"]}
    answers = [server("POST", "/v1/features:read", asked) for _ in range(12)]
    # its own part of a request id comes first
    return {
        named["headwater-request-id"].partition("-")[0]: answer["versions"]["events"] for _, answer, named in answers
    }


@pytest.fixture
def server(project: Path) -> Iterator[HeadwaterServer]:
    with HeadwaterServer(project, workers=2) as server:
        yield server


@pytest.fixture
def lone(project: Path) -> Iterator[HeadwaterServer]:
    """One worker, where that is enough: each takes a second of the processor to begin."""
    with HeadwaterServer(project) as server:
        yield server


def test_workers_answer_and_one_that_is_killed_is_replaced(server: HeadwaterServer) -> None:
    assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [10, 20]
    wait_until(lambda: len(server.workers()) == 2, "two workers")
    before = set(server.workers())
    time.sleep(2.1)  # one that had lived for a while is replaced at once
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(set(server.workers()) - {min(before)}) == 2, "another worker")
    for _ in range(20):
        assert server("POST", "/v1/features:read", READ)[0] == 200
    assert "signal 9" in server.log.read_text()


def test_requests_under_way_end_when_the_server_stops(lone: HeadwaterServer) -> None:
    """A client that is slow to send its request is answered, for it had begun before the server was to stop."""
    server = lone
    connections = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(4)]
    body = b'{"features": ["events:n"], "entities": [1]}'
    head = "POST /v1/features:read HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    for connection in connections:
        connection.sendall(f"{head}expect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        assert connection.recv(1_000).startswith(b"HTTP/1.1 100")  # it is under way
    began = time.monotonic()
    ended = threading.Thread(target=server.stop)
    ended.start()
    time.sleep(0.3)
    for connection in connections:
        connection.sendall(body)
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        connection.close()
    ended.join()
    assert (server.process.returncode, time.monotonic() - began < 60) == (0, True)
    with pytest.raises(OSError):
        server("GET", "/healthz")


@pytest.mark.parametrize(("number", "count"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_server_ends_by_itself_and_leaves_no_process(project: Path, number: signal.Signals, count: int) -> None:
    with HeadwaterServer(project, workers=count) as server:
        wait_until(lambda: len(server.workers()) == count, "all workers")
        workers = server.workers()
        assert server.stop(number) == 0
    for worker in workers:
        assert not Path(f"/proc/{worker}/exe").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_closes_its_store(project: Path, number: signal.Signals) -> None:
    class Store(a_worker.AsyncFeatureStore):
        async def close(self) -> None:
            await super().close()
            (project / "closed").touch()

    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        a_worker.AsyncFeatureStore = Store  # type: ignore[misc]
        a_worker.work(str(project), settings, listening, memory, 1, other)

    settings = ServerSettings(port=0)
    link, other = socket.socketpair()
    memory = make_memory(2)
    try:
        with listen(settings) as listening, link, other:
            child = Child(work)
            link.settimeout(60)
            assert link.recv(1) == READY
            os.kill(child.pid, number)
            assert child.problem() == ""
    finally:
        os.close(memory)
    assert (project / "closed").exists()


def test_workers_begin_with_what_the_supervisor_has_imported(server: HeadwaterServer) -> None:
    """They share its memory: a page that was not written since the fork is one for all."""
    wait_until(lambda: len(server.workers()) == 2, "two workers")
    for each in server.workers():
        lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(size) for name, size, _ in (line.split() for line in lines)}
        assert sizes["Private_Dirty:"] < sizes["Rss:"] / 2, sizes


def test_a_store_that_is_moved_away_is_an_error_until_it_is_back(project: Path, server: HeadwaterServer) -> None:
    wait_until(lambda: len(read_by(server)) == 2, "two workers that have read")
    online = project / ".headwater" / "online"
    online.rename(project / "elsewhere")
    time.sleep(2 * PLACE_CHECK)
    for _ in range(6):
        status, answer, _ = server("POST", "/v1/features:read", READ)
        assert status == 503 and "was removed or moved while this process had it open" in answer["detail"]
        assert server("GET", "/readyz")[0] == 503
        server("GET", names.STATUS)
    assert not online.exists()
    (project / "elsewhere").rename(online)
    assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [10, 20]
    assert server("GET", "/readyz")[0] == 200
    shutil.rmtree(online)
    assert server("POST", "/v1/features:read", READ)[0] == 503
    run_forked([COMMAND, "materialize", "--project", project], check=True)
    assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [10, 20]


def test_a_worker_that_begins_after_its_store_was_moved_away_makes_no_empty_one(project: Path) -> None:
    online = project / ".headwater" / "online"
    with HeadwaterServer(project) as server:
        (worker,) = server.workers()
        online.rename(project / "elsewhere")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.workers() and worker not in server.workers(), "another worker")
        for _ in range(3):
            status, answer, _ = server("POST", "/v1/features:read", READ)
            assert status == 503 and "was removed or moved: put it back" in answer["detail"]
            assert server("GET", "/readyz")[0] == 503
            assert "was removed or moved" in str(server("GET", names.STATUS)[1])
        assert not online.exists()
        (project / "elsewhere").rename(online)
        assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [10, 20]
        assert server("GET", "/readyz")[0] == 200
    shutil.rmtree(online)
    with hw.FeatureStore(project) as store:
        with pytest.raises(Unavailable, match="was removed or moved: put it back"):
            store.get_online_features(READ["features"], READ["entities"])
        store.materialize()
        assert store.get_online_features(READ["features"], READ["entities"]).to_dict()["n"] == [10, 20]


def test_what_is_applied_promoted_and_rolled_back_is_followed(project: Path, server: HeadwaterServer) -> None:
    with hw.FeatureStore(project) as store:
        store.apply([events(hw.Feature("m", hw.Int64))], promote=True)
        store.write("events", [{"user": 1, "at": AT.replace(hour=1), "n": 11, "m": 1}])
        store.materialize()
        version = store.get_feature_view("events").version
        assert version != "1.0.0"
        wait_until(lambda: served(server) == version, "the new version")
        assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [11, None]
        store.rollback("events")
        wait_until(lambda: served(server) == "1.0.0", "the old version")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [COMMAND, "serve", "--project", str(folder), *options]
    return run_forked(line, timeout=60)


def counted(server: HeadwaterServer) -> float:
    """How many reads all workers have answered, as any of them says."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    wanted = {"route": "/v1/features:read", "status": "2xx"}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == "headwater_http_requests_total" and s.labels == wanted)


def test_metrics_are_those_of_all_workers_and_outlive_them(server: HeadwaterServer) -> None:
    wait_until(lambda: len(server.workers()) == 2, "two workers")
    for n in range(1, 41):
        assert server("POST", "/v1/features:read", READ)[0] == 200
        if n % 20 == 0:
            assert counted(server) == n
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_until(lambda: len(server.workers()) == 2, "another worker")
    wait_until(lambda: counted(server) == 40, "all reads counted")


def test_https_with_a_certificate_of_its_own(project: Path, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with HeadwaterServer(project, "--tls-cert", str(certificate), "--tls-key", str(key), tls=certificate) as server:
        assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [10, 20]
        with pytest.raises(OSError):
            plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            plain.request("GET", "/healthz")
            plain.getresponse()
        assert "https://127.0.0.1" in server.log.read_text()
    for options, said in (
        (["--tls-cert", str(certificate)], "give both"),
        (["--tls-cert", str(certificate), "--tls-key", str(tmp_path / "none")], "no such file"),
        (["--tls-cert", str(certificate), "--tls-key", str(certificate)], "cannot be used"),
    ):
        done = run(project, "--port", "0", *options)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_keys_are_asked_for_on_a_loopback_address_where_that_is_said(project: Path) -> None:
    with hw.FeatureStore(project) as store:
        key, _ = store.registry.api_keys.create("web", ["read"])
    with HeadwaterServer(project, "--require-keys") as server:
        assert server("POST", "/v1/features:read", READ)[0] == 401
        assert server("POST", "/v1/features:read", READ, {"Authorization": f"Bearer {key}"})[0] == 200
    assert run(project, "--require-keys", "--insecure").returncode == 2


def test_the_project_s_settings_bound_requests(project: Path) -> None:
    (project / "headwater.toml").write_text('[server]\nentities = 2\nbody = "2KB"\nhosts = ["features.example"]\n')
    with HeadwaterServer(project) as server:
        assert server("POST", "/v1/features:read", READ)[0] == 200
        assert server("POST", "/v1/features:read", READ | {"entities": [1, 2, 3]})[0] == 413
        assert server("POST", "/v1/features:read", READ | {"entities": list(range(1_000))})[0] == 413
        assert server("POST", "/v1/features:read", READ, {"host": "features.example"})[0] == 200
        assert server("POST", "/v1/features:read", READ, {"host": "other.example"})[0] == 421


def test_a_write_that_is_sent_until_it_is_answered_is_done_once_although_workers_are_killed(
    project: Path, server: HeadwaterServer
) -> None:
    rng, sent = random.Random(5), 0
    with hw.FeatureStore(project) as store:
        before = store.context.log.head_position()

    def write(n: int) -> int:
        body = {"view": "events", "rows": [{"user": 5, "at": "2026-01-01T00:00:00Z", "n": n}]}
        try:
            return server("POST", "/v1/features:write", body, {"Idempotency-Key": f"write {n}"})[0]
        except (OSError, http.client.HTTPException):
            return 0

    for _ in range(2):
        wait_until(lambda: server("GET", "/readyz")[0] == 200, "a server")
        time.sleep(2.1)  # workers that had lived for a while are replaced at once
        with ThreadPoolExecutor(6) as pool:
            under_way = [pool.submit(write, sent + n) for n in range(1, 7)]
            time.sleep(rng.uniform(0, 0.06))
            for worker in server.workers():
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        assert {sending.result() for sending in under_way} <= {0, 200, 409}
        for n in range(sent + 1, sent + 7):
            wait_until(lambda n=n: write(n) == 200, "an answer", 60)
        sent += 6
    with hw.FeatureStore(project) as store:
        assert store.context.log.head_position() == before + sent
        assert store.get_online_features(["events:n"], [5]).to_dict()["n"][0] in range(sent - 5, sent + 1)


def test_a_worker_that_cannot_begin_again_leaves_the_others(project: Path, server: HeadwaterServer) -> None:
    wait_until(lambda: len(server.workers()) == 2, "two workers")
    wait_until(lambda: _live(server) == 2, "two workers with their project open", 60)
    first, second = server.workers()
    broken = '[server]\ndeadlin = "1s"\n'
    settings = project / "headwater.toml"
    before = settings.read_text() if settings.exists() else ""
    settings.write_text(before + broken)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: "the project cannot be opened" in server.log.read_text(), "a worker that is refused", 60)
    assert server.process.poll() is None and second in server.workers()
    assert server("POST", "/v1/features:read", READ)[0] == 200
    settings.write_text(before)
    wait_until(lambda: _live(server) == 2, "another worker, once the settings are right", 60)
    assert server.stop() == 0


def _live(server: HeadwaterServer) -> int:
    """Workers that have their project open."""
    return sum(any(b"registry.db" in name for name in _open_files(worker)) for worker in server.workers())


def _open_files(process: int) -> list[bytes]:
    names: list[bytes] = []
    with suppress(OSError):
        for file in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                names.append(os.fsencode(file.readlink()))
    return names


def test_workers_end_with_a_supervisor_that_is_killed(project: Path) -> None:
    with HeadwaterServer(project, workers=2) as server:
        wait_until(lambda: len(server.workers()) == 2, "two workers")
        workers = server.workers()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(60)
        wait_until(lambda: not any(Path(f"/proc/{worker}/exe").exists() for worker in workers), "their end", 60)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", server.port))
