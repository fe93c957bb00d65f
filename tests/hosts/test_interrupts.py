"""Ctrl-C at any moment of a call: the process goes on, or ends, as if the call had not been made or had been done."""

from __future__ import annotations

from pathlib import Path

import pytest

import headwater as hw
from headwater.testing import SCALE
from tests.children import run_program
from tests.hosts.forking import EVENTS, PROFILES, USER, make_project

INTERRUPTED = """
import logging, os, random, signal, sys, threading, time
from datetime import timedelta
import headwater as hw
from tests.hosts.forking import EVENTS, FEATURES, PROFILES, T0, USER

folder, online, registry, rounds = *sys.argv[1:4], int(sys.argv[4])
options = {"online": online} if online else {}
if registry:
    options["registry"] = registry
store = hw.FeatureStore(folder, **options)
if registry:
    store.apply([USER, EVENTS, PROFILES])
    store.materialize()
chance = random.Random(7)
# SQLAlchemy notes each interrupt of its own work
logging.disable()

def write(n):
    store.write("events", [{"user": user, "at": T0 + timedelta(seconds=n), "seen": n} for user in range(4)])

def read(n):
    found = store.get_online_features(FEATURES, [1, 2, 3]).to_dict()
    assert found["score"] == [0.5, 1.0, 1.5], found

def read_in_time(n):
    found = store.get_online_features(["profiles:score"], [1, 2, 3]).to_dict()
    assert found["score"] == [0.5, 1.0, 1.5], found

def history(n):
    store.get_historical_features(None, FEATURES, at="2027-01-01").to_arrow()

def interrupt(apart, seen):
    # what Python runs for a weak reference or finaliser swallows an interrupt: then a user presses the keys again
    while not seen.wait(apart):
        os.kill(os.getpid(), signal.SIGINT)
        apart = 3.0

# each once, so that the first is not all that is interrupted
works = [write, read, write, read_in_time, write, history]
for work in works:
    work(0)
for n in range(1, rounds + 1):
    work = works[n % len(works)]
    seen = threading.Event()
    after = threading.Thread(target=interrupt, args=(chance.uniform(0.0, 0.03), seen))
    try:
        after.start()
        while True:
            work(n)
    except KeyboardInterrupt:
        seen.set()
    after.join()
    began = time.monotonic()
    report = store.write("events", [{"user": 9, "at": T0 + timedelta(seconds=n), "seen": n}])
    assert report.applied == 1, report
    found = store.get_online_features(FEATURES, [9, 3]).to_dict()
    assert (found["seen"][0], found["score"][1]) == (n, 1.5), (n, found)
    assert time.monotonic() - began < 60, (n, work.__name__, time.monotonic() - began)
# nobody is taken to be inside of anything: a fork waits for nobody
began = time.monotonic()
if not os.fork():
    os._exit(0)
assert os.wait()[1] == 0
assert time.monotonic() - began < 60, time.monotonic() - began
began = time.monotonic()
store.close()
assert time.monotonic() - began < 60, time.monotonic() - began
# a thread whose pool was interrupted while it started it is known to no pool: it ends by itself, and is not waited for
while left := [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]:
    assert time.monotonic() - began < 60, left
    time.sleep(0.01)
print("done")
"""


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["lmdb", "memory", "redis on postgresql", "dynamodb"])
def test_a_process_that_is_interrupted_again_and_again_goes_on_and_ends(request, tmp_path, kind):
    make_project(tmp_path)
    online = registry = ""
    # each of six works is interrupted twice
    rounds = 12 if SCALE == 1 else 150
    if kind == "memory":
        online, registry = "memory:", "sqlite://"
    elif kind == "dynamodb":
        online, rounds = request.getfixturevalue("dynamodb_server").url(timeout=20), 6 if SCALE == 1 else 40
    elif kind != "lmdb":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        online, registry = server.url, request.getfixturevalue("postgres_url")
    if not registry:
        with hw.FeatureStore(tmp_path, **({"online": online} if online else {})) as store:  # type: ignore[arg-type]
            store.apply([USER, EVENTS, PROFILES])
            store.materialize()
    root = str(Path(__file__).parents[2])
    text = f"import sys; sys.path.insert(0, {root!r})\n{INTERRUPTED}"
    assert run_program(text, tmp_path, tmp_path, online, registry, rounds, seconds=200) == ["done"]
