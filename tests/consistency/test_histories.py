"""What clients in several processes saw while replicas lagged, alternated, restarted and the primary was killed."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.consistency.history import NOTHING, Event, violations
from tests.consistency.recording import LEVELS, record, start
from tests.processes import PROCESSES
from tests.servers.redis import RedisReplicas

CLIENTS = 3
SECONDS = 5.0


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """The clients' processes."""
    with ProcessPoolExecutor(CLIENTS, mp_context=PROCESSES) as pool:
        yield pool


def run(
    pool: ProcessPoolExecutor, project: Path, nodes: RedisReplicas, step: Callable[[], None]
) -> tuple[list[Event], int]:
    """What clients record while something is done to the nodes, again and again."""
    tokens = project / "tokens"
    tokens.mkdir()
    clients = [pool.submit(record, project, nodes.url, number, tokens) for number in range(CLIENTS)]
    until = start(tokens, CLIENTS, SECONDS)
    # on a host that has much else to do they go on for longer
    while time.monotonic() < until - 0.5 or not all(client.done() for client in clients):
        step()
    done = [client.result(60) for client in clients]
    return [event for events, _ in done for event in events], sum(refused for _, refused in done)


def count(events: list[Event]) -> Counter[str]:
    return Counter(event.level or event.kind for event in events)


def stale(events: list[Event]) -> int:
    """How many eventual reads a strong one would not have allowed: that the replicas did lag."""
    as_strong = [Event(**{**vars(event), "level": "strong"}) for event in events if event.level == "eventual"]
    writes = [event for event in events if event.kind == "write"]
    return len(violations([*writes, *as_strong]))


def test_replicas_that_lag_alternate_and_restart(
    pool: ProcessPoolExecutor, project: Path, nodes: RedisReplicas
) -> None:
    chance = random.Random(1)

    def disturb() -> None:
        replica = chance.choice(nodes.replicas)
        link = nodes.links[replica]
        action = chance.choice(
            [link.hold, link.hold, link.cut, link.resume, link.resume, replica.restart_empty, "pause"]
        )
        if action == "pause":
            replica.pause()
            time.sleep(0.1)
            replica.unpause()
        else:
            action()
        time.sleep(chance.uniform(0.02, 0.3))

    events, refused = run(pool, project, nodes, disturb)
    assert violations(events) == []
    told = count(events)
    assert min(told[level] for level in LEVELS) > 100 and told["write"] > 100, told
    assert told["lost"] == 0 and refused == 0
    assert stale(events) > 10


def test_a_primary_that_is_killed_and_replaced(pool: ProcessPoolExecutor, project: Path, nodes: RedisReplicas) -> None:
    chance = random.Random(2)
    breaks: list[float] = []

    def fail_over() -> None:
        for link in nodes.links.values():
            (link.hold if chance.random() < 0.5 else link.resume)()
        time.sleep(chance.uniform(0.1, 0.5))
        old = nodes.primary
        breaks.append(time.monotonic())
        old.kill()
        time.sleep(chance.uniform(0, 0.2))
        nodes.fail_over(chance.choice(nodes.replicas))
        breaks.append(time.monotonic())
        time.sleep(chance.uniform(0, 0.3))
        old.empty()
        nodes.come_back(old)
        # until the clients look for a primary again
        time.sleep(chance.uniform(0.5, 1.0))

    events, refused = run(pool, project, nodes, fail_over)
    assert violations(events, breaks) == []
    told = count(events)
    assert min(told[level] for level in LEVELS) > 50 and told["write"] > 50, told
    assert told["lost"] > 0 and refused > 0, (told, refused)
    assert any(event.value != NOTHING for event in events)


def test_a_primary_that_restarts_with_its_data(pool: ProcessPoolExecutor, project: Path, tmp_path: Path) -> None:
    with contextlib.closing(RedisReplicas(tmp_path / "kept", "aof")) as nodes:
        chance = random.Random(3)

        def restart() -> None:
            chance.choice([nodes.hold, nodes.resume])()
            time.sleep(chance.uniform(0.1, 0.4))
            if chance.random() < 0.5:
                nodes.primary.kill()
                nodes.primary.start()
            else:
                nodes.primary.restart()
            time.sleep(chance.uniform(0.2, 0.5))

        events, refused = run(pool, project, nodes, restart)
    # nothing is lost, so that the epoch goes on through it all
    assert violations(events) == []
    assert count(events)["lost"] == 0 and refused > 0
