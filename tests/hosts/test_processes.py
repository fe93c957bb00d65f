"""Preforking servers, process pools and loaders' workers over one store object, under load.

`HEADWATER_FORK_SECONDS` sets how long (default 1).
"""

from __future__ import annotations

import faulthandler
import http.client
import json
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.errors import UsageError
from tests.children import Child
from tests.hosts.forking import EVENTS, FEATURES, KEYS, PROFILES, SECONDS, T0, USER, Work, busy, make_project

pytestmark = pytest.mark.one_in(2)

_store: hw.FeatureStore | None = None
"""The store that a pool's workers inherit, as a module of a user's would hold it."""


@pytest.fixture(params=["lmdb", "redis", "dynamodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[hw.FeatureStore]:
    global _store
    make_project(tmp_path)
    options = {}
    if request.param == "redis":
        request.getfixturevalue("redis_server").client.flushall()
        options = {"online": request.getfixturevalue("redis_server").url}
    elif request.param == "dynamodb":
        options = {"online": request.getfixturevalue("dynamodb_server").url(timeout=20)}
    with hw.FeatureStore(tmp_path, **options) as made:
        made.apply([USER, EVENTS, PROFILES])
        made.materialize()
        _store = made
        yield made
        _store = None


def scores(keys: list[int]) -> list[float]:
    assert _store is not None
    return list(_store.get_online_features(FEATURES, keys).to_dict()["score"])


def job(n: int) -> tuple[int, list[float], bytes]:
    """Reads, writes, joins; gives what a worker would send back."""
    assert _store is not None
    report = _store.write("events", [{"user": n % KEYS, "at": T0, "seen": n}])
    result = _store.get_online_features(FEATURES, [n % KEYS, 0])
    if n % 8 == 0:
        Work(_store).history()
    return os.getpid(), result.to_dict()["score"], pickle.dumps((report, result, result.vectors()))


class _Server(HTTPServer):
    """Several processes accept connections of one socket."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = json.dumps([os.getpid(), scores([int(self.path[1:]), 0])]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


def serve(listening: socket.socket) -> None:
    """A worker, until it is asked to end."""
    with _Server(listening) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        server.serve_forever(poll_interval=0.05)
    assert _store is not None
    _store.close()


def begin_worker(listening: socket.socket) -> Child:
    """A worker that ends when it is asked to, however early that is."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        return Child(lambda: serve(listening))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def test_a_preforking_server_under_load_while_its_master_materializes(store):
    work, listening = Work(store), socket.create_server(("127.0.0.1", 0), backlog=64)
    port, answers = listening.getsockname()[1], list[tuple[int, int, list[float]]]()
    # several workers see that a client comes: those that are late must not wait for the next one, who may never come
    listening.setblocking(False)
    work.read()
    workers = [begin_worker(listening) for _ in range(2)]

    def ask(first: int) -> None:
        key = first
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", f"/{key}")
                pid, found = json.loads(connection.getresponse().read())
            answers.append((key, pid, found))
            key = (key + 7) % KEYS

    clients = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    with busy(work.write, work.materialize, work.history):
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            # one worker is replaced by a new one, as servers do
            time.sleep(SECONDS / 2)
            os.kill(workers[0].pid, signal.SIGTERM)
            assert workers.pop(0).problem() == ""
            workers.append(begin_worker(listening))
        for client in clients:
            client.join()
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    assert [worker.problem() for worker in workers] == ["", ""]
    listening.close()
    assert len(answers) >= 8
    assert [one for one in answers if one[2] != [one[0] / 2, 0.0]] == []
    assert len({pid for _, pid, _ in answers}) >= 2
    work.all()


def watch(seconds: float) -> None:
    """Show all threads of this process and end it, unless it is done by then.

    A thread does it: in a forked process faulthandler's own timer waits for one that is the parent's.
    """

    def end() -> None:
        faulthandler.dump_traceback(sys.__stderr__)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def test_a_process_pool_under_load_beside_threads_of_its_own(store):
    context = multiprocessing.get_context("fork")
    work, until, results = Work(store), time.monotonic() + SECONDS, list[tuple[int, list[float], bytes]]()
    # a worker that stands still says where, and ends: the pool waits for it without a bound
    pool = ProcessPoolExecutor(2, mp_context=context, initializer=watch, initargs=(60 + 2 * SECONDS,))
    with busy(work.read, work.write, work.history), pool:
        n = 0
        while time.monotonic() < until or n < 16:
            results += pool.map(job, range(n, n + 16))
            n += 16
    assert [one[1] for one in results] == [[n % KEYS / 2, 0.0] for n in range(len(results))]
    assert os.getpid() not in {one[0] for one in results}
    for _, found, sent in results:
        report, result, vectors = pickle.loads(sent)
        assert report.applied == 1
        assert [vector.features["score"] for vector in vectors] == result.to_dict()["score"] == found
    work.all()


def load(path: Path | None, shard: int, shards: int, told: Any) -> None:
    """A worker of a data loader: some batches of a training set, with the store it inherited or one of its own."""
    store = _store if path is None else hw.FeatureStore(path)
    assert store is not None
    result = store.get_historical_features(None, FEATURES, at="2027-01-01")
    batches = [batch.to_pylist() for n, batch in enumerate(result.to_batches(10)) if n % shards == shard]
    told.send([(row["user"], row["score"]) for batch in batches for row in batch])
    if path is not None:
        store.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("store", ["lmdb"], indirect=True)
def test_workers_of_a_loader_share_a_training_set(store, tmp_path, method):
    context = multiprocessing.get_context(method)
    Work(store).history()
    found: list[tuple[int, float]] = []
    begun = []
    for shard in range(2):
        telling, told = context.Pipe(duplex=False)
        path = None if method == "fork" else tmp_path
        process = context.Process(target=load, args=(path, shard, 2, told))
        process.start()
        told.close()
        begun.append((process, telling))
    for process, telling in begun:
        assert telling.poll(60)
        found += telling.recv()
        process.join(60)
        assert process.exitcode == 0
    assert sorted(found) == [(user, user / 2) for user in range(KEYS)]
    Work(store).all()


@pytest.mark.parametrize("store", ["lmdb"], indirect=True)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_store_handed_to_another_process_says_what_to_do_instead(store, method):
    process = multiprocessing.get_context(method).Process(target=print, args=(store,))
    with pytest.raises(UsageError, match=r"make one in each process: hw.FeatureStore\('path'\)"):
        process.start()
