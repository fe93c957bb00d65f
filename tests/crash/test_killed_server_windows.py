"""A server of window views that is killed with SIGKILL under reads and writes: what it acknowledged is counted once."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

import headwater as hw
from tests.servers.headwater_server import HeadwaterServer
from tests.servers.waiting import wait_until

BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=20)
USERS = list(range(4))
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VISITS = hw.FeatureView(
    "visits",
    entity=USER,
    source=hw.PushSource(event_time="at", schema={"n": hw.Int64}),
    features=[
        hw.Aggregation(None, "count", None, name="count"),
        hw.Aggregation("n", "count_distinct", None, name="distinct"),
        hw.Aggregation("n", "sum", "1h", name="sum"),
    ],
)


class Load:
    """Clients that write events, each with a number of its own, and that read them."""

    def __init__(self, url: str) -> None:
        self.url, self.ended = url, threading.Event()
        self.written: dict[int, bool] = {}
        self.wrong: list[Any] = []
        self.reads = 0
        works = [self.write, self.write, self.read]
        self.threads = [threading.Thread(target=work, args=(i,)) for i, work in enumerate(works)]

    def write(self, writer: int) -> None:
        r = random.Random(writer)
        with hw.Client(self.url, timeout="5s") as client:
            for number in count(writer * 1_000_000):
                if self.ended.is_set():
                    return
                row = {"user": r.choice(USERS), "at": BEGIN + timedelta(seconds=r.randrange(900)), "n": number}
                self.written[number] = False
                try:
                    client.write("visits", [row])
                    self.written[number] = True
                except hw.Unavailable:
                    time.sleep(0.05)

    def read(self, _: int) -> None:
        least = dict.fromkeys(USERS, 0)
        with hw.Client(self.url, timeout="5s") as client:
            while not self.ended.is_set():
                try:
                    result = client.get_online_features(["visits:*"], USERS)
                except hw.Unavailable:
                    time.sleep(0.05)
                    continue
                self.reads += 1
                found = result.to_dict()
                for user, number, distinct in zip(USERS, found["count"], found["distinct"], strict=True):
                    if number != distinct or number < least[user] or result.problems:
                        self.wrong.append((user, number, distinct, least[user], result.problems))
                    least[user] = number


def test_a_killed_server_loses_and_doubles_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text('project = "p"\n')
    with hw.FeatureStore(tmp_path) as store:
        store.apply([USER, VISITS])
    server = HeadwaterServer(tmp_path)
    load = Load(f"http://127.0.0.1:{server.port}")
    try:
        for thread in load.threads:
            thread.start()
        wait_until(lambda: load.reads >= 5 and any(load.written.values()), "reads and writes")
        server.kill()
        server = HeadwaterServer(tmp_path, port=server.port)
        before = load.reads
        wait_until(lambda: load.reads >= before + 5, "reads of the next server")
    finally:
        load.ended.set()
        for thread in load.threads:
            thread.join(60)
        server.close()
    acknowledged = sum(load.written.values())
    assert load.wrong == [] and load.reads >= 10 and acknowledged > 0
    with hw.FeatureStore(tmp_path) as store:
        store.materialize()
        now = datetime.now(UTC)
        found = store.get_online_features(["visits:*"], USERS, now=now).to_dict()
        spine = pa.table({"user": USERS, "timestamp": pa.array([now] * len(USERS), pa.timestamp("us", "UTC"))})
        history = store.get_historical_features(spine, ["visits:*"]).to_arrow().to_pydict()
    assert {name: found[name] for name in ("count", "distinct", "sum")} == {
        name: history[name] for name in ("count", "distinct", "sum")
    }
    assert found["count"] == found["distinct"] and acknowledged <= sum(found["count"]) <= len(load.written)
