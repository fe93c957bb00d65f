"""Window views on a primary with two replicas: the four levels, runs beside reads, and a failover that loses writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from tests.servers.redis import RedisReplicas

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VISITS = hw.FeatureView(
    "visits",
    entity=USER,
    source=hw.PushSource(event_time="at", schema={"n": hw.Int64}),
    features=[
        hw.Aggregation(None, "count", "1h", name="count"),
        hw.Aggregation("n", "sum", "1h", name="sum"),
        hw.Aggregation("n", "last", None, name="newest"),
    ],
)
FEATURES = ["visits:*"]
Read = Callable[..., int]


def checked(result: hw.OnlineResult) -> int:
    """How many events a user has, who has the first so many of 1, 2, 3 …"""
    values = {name: column[0] for name, column in result.to_dict().items()}
    count: int = values["count"]
    assert (values["sum"], values["newest"]) == ((count * (count + 1) // 2, count) if count else (None, None))
    assert result.statuses["count"] == [hw.Status.PRESENT] and not result.problems
    return count


class Visits:
    """A project whose user 7 visits again and again."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        self.folder, self.url, self.count = folder, url, 0
        (folder / "headwater.toml").write_text('project = "test"\n[online]\ndurable_within = "300ms"\n')
        self.store = self.open()
        self.store.apply([USER, VISITS])

    def open(self) -> hw.FeatureStore:
        return hw.FeatureStore(self.folder, online=self.url, clock=lambda: NOW)

    def visit(self, times: int = 1, **options: Any) -> None:
        for _ in range(times):
            self.count += 1
            at = NOW - timedelta(minutes=30) + timedelta(seconds=self.count)
            self.store.write("visits", [{"user": 7, "at": at, "n": self.count}], **options)


@pytest.fixture
def visits(nodes: RedisReplicas, tmp_path: Path) -> Iterator[Visits]:
    made = Visits(tmp_path / "project", f"{nodes.url}&timeout=1s")
    nodes.wait_level()
    with made.store:
        yield made


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest, visits: Visits) -> Iterator[Read]:
    """Reads how often user 7 visited, by a level and a session, on a client of its own."""

    def asked(level: str, session: hw.Session | None = None) -> dict[str, Any]:
        return {"features": FEATURES, "entities": [7], "consistency": level, "session": session}

    if request.param == "sync":
        with visits.open() as store:
            yield lambda *given: checked(store.get_online_features(**asked(*given)))
        return
    with asyncio.Runner() as runner:
        store = hw.AsyncFeatureStore.of(visits.open())

        async def get(*given: Any) -> hw.OnlineResult:
            return await store.get_online_features(**asked(*given))

        try:
            yield lambda *given: checked(runner.run(get(*given)))
        finally:
            runner.run(store.close())


def test_each_level_keeps_its_promise(visits: Visits, nodes: RedisReplicas, read: Read) -> None:
    visits.visit(2)
    nodes.wait_level()
    nodes.hold()
    session = visits.store.session()
    visits.visit(3, session=session)
    assert {read("eventual") for _ in range(4)} <= {2, 5} and read("strong") == 5
    assert [read("session", session) for _ in range(4)] == [5] * 4
    # a run writes the record of the version; where replicas do not have it yet, they have rows that go with theirs
    visits.store.materialize(force=True)
    assert {read("eventual") for _ in range(4)} <= {2, 5} and read("strong") == 5
    nodes.resume()
    nodes.wait_level()
    assert {read(level, session) for level in ("eventual", "session", "monotonic_read") for _ in range(4)} == {5}


def test_monotonic_reads_never_step_back_between_writes_and_runs(
    visits: Visits, nodes: RedisReplicas, read: Read
) -> None:
    nodes.hold()
    nodes.links[nodes.replicas[0]].resume()
    session, seen = visits.store.session(), []
    for n in range(1, 25):
        visits.visit()
        if n % 6 == 0:
            visits.store.materialize(force=n % 12 == 0)
        seen.append(read("monotonic_read", session))
        assert read("strong") == n
    assert seen == sorted(seen)


def test_what_a_failover_loses_the_next_run_puts_back(visits: Visits, nodes: RedisReplicas, read: Read) -> None:
    visits.visit(2)
    visits.store.materialize()
    nodes.wait_level()
    nodes.hold()
    visits.visit(3)
    assert read("strong") == 5
    nodes.primary.kill()
    nodes.fail_over(nodes.replicas[0])
    # a write to what lacks events holds what it should all the same, once a run has looked
    visits.visit()
    visits.store.materialize()
    nodes.wait_level()
    assert read("strong") == 6 and {read("eventual") for _ in range(4)} == {6}
