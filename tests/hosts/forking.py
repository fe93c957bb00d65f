"""A store that threads of a process keep busy while it forks, and what parent and children do with it."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import headwater as hw
from headwater.testing import SCALE

SECONDS = float(os.environ.get("HEADWATER_FORK_SECONDS", "1"))
"""How long servers and pools are under load."""
T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = 50
USER = hw.Entity("user", join_keys={"user": hw.Int64})
EVENTS = hw.FeatureView(
    "events", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("seen", hw.Int64)]
)
PROFILES = hw.FeatureView(
    "profiles",
    entity=USER,
    source=hw.ParquetSource("profiles.parquet", event_time="at"),
    features=[hw.Feature("score", hw.Float64)],
)
FEATURES = ["events:seen", "profiles:score"]


def make_project(folder: Path) -> None:
    """The source's file."""
    users = list(range(KEYS))
    table = pa.table({"user": users, "at": [T0] * KEYS, "score": [user / 2 for user in users]})
    pq.write_table(table, folder / "profiles.parquet")


class Work:
    """What is done with one store, each with the right answer checked."""

    def __init__(self, store: hw.FeatureStore) -> None:
        self.store = store

    def read(self) -> None:
        found = self.store.get_online_features(FEATURES, [1, 2, 3]).to_dict()
        assert found["score"] == [0.5, 1.0, 1.5], found

    def write(self) -> None:
        # a key of this process's own: what others write to it meanwhile may be later
        report = self.store.write("events", [{"user": 1_000_000 + os.getpid(), "at": T0, "seen": os.getpid()}])
        assert report.applied == 1, report

    def materialize(self) -> None:
        self.store.materialize()

    def history(self) -> None:
        spine = pa.table({"user": [1, 2, 3], "timestamp": [datetime(2026, 6, 1, tzinfo=UTC)] * 3})
        found = self.store.get_historical_features(spine, FEATURES).to_arrow()
        assert found["score"].to_pylist() == [0.5, 1.0, 1.5], found

    def status(self) -> None:
        self.store.status()

    def all(self, first: int = 0) -> None:
        """Everything once, in another order each time."""
        works = [self.read, self.write, self.history, self.materialize, self.status]
        first %= len(works)
        for work in works[first:] + works[:first]:
            work()


def rest(took: float) -> float:
    """Seconds to pause after work that took so many: a fork meets each thread at work about every third time.

    Threads that never pause would keep the processor from what is tested. `fork_in_c` waits until a thread gives the
    interpreter away, and reads alone never do.
    """
    return max(0.02, (2 if SCALE == 1 else 1) * took)


@contextmanager
def busy(*works: Callable[[], None]) -> Iterator[None]:
    """Threads that do each of these again and again, without an error."""
    stop, problems = threading.Event(), list[str]()

    def repeat(work: Callable[[], None]) -> None:
        pause = 0.0
        while not stop.wait(rest(pause)):
            began = time.monotonic()
            try:
                work()
            except BaseException:
                problems.append(traceback.format_exc())
                return
            pause = time.monotonic() - began

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        assert [thread for thread in threads if thread.is_alive()] == []
    assert not problems, problems[0]
