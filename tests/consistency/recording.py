"""Clients in processes of their own that write and read at random, and record what they did and saw."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import headwater as hw
from tests.consistency.clients import get, open_store, put
from tests.consistency.history import NOTHING, Event
from tests.servers.waiting import wait_until

USERS = [1, 2, 3, 4]
LEVELS = ["eventual", "monotonic_read", "session", "strong"]
ENOUGH = 50
"""Values that a client has read by each level, and writes that it has made, before it ends."""
LONGER = 60.0
"""Seconds that it has for that beyond the run's own."""
_READY, _GO = "ready", ".go"
_CLIENTS = 10
"""More than there are: numbers of writes differ by client."""


@dataclass
class Recorder:
    """One client of a run.

    Attributes:
        number: which client; its writes have numbers of their own.
        tokens: the folder through which clients hand each other their tokens.
        began: when the run began, on the clock that all share.
        replicas: how many have a durable write.
        events: what it did and saw.
        refused: calls that found the store unavailable.
    """

    store: hw.FeatureStore
    number: int
    tokens: Path
    began: float
    chance: random.Random
    replicas: int = 2
    events: list[Event] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self.session = self.store.session()
        self.name = f"s{self.number}"

    def did_enough(self) -> bool:
        """Whether a run of such clients shows something."""
        counts = Counter(event.level or event.kind for event in self.events)
        return all(counts[kind] >= ENOUGH for kind in (*LEVELS, "write"))

    def step(self) -> None:
        """One call, drawn by lot."""
        draw = self.chance.random()
        if draw < 0.35:
            self.write()
        elif draw < 0.95:
            self.read()
        elif draw < 0.98:
            self.give()
        else:
            self.take()

    def write(self) -> None:
        """Write the newest value of a key; often in the session, now and then durably."""
        user, started = self.chance.choice(USERS), time.monotonic()
        number = int((started - self.began) * 1e6) * _CLIENTS + self.number
        mine = self.chance.random() < 0.5
        durability = self.replicas if self.chance.random() < 0.05 else 0
        acknowledged, durable = True, False
        try:
            report = put(self.store, user, number, session=self.session if mine else None, durability=durability)
            durable = bool(durability and report.durable)
        except hw.errors.Unavailable:
            acknowledged = False
            self.refused += 1
        session = self.name if mine else ""
        self._note("write", started, session, key=str(user), value=number, acknowledged=acknowledged, durable=durable)

    def read(self) -> None:
        """Read some keys by some level, mostly in the session."""
        users = self.chance.sample(USERS, self.chance.randint(1, len(USERS)))
        level = self.chance.choice(LEVELS)
        mine = level in ("monotonic_read", "session") or self.chance.random() < 0.3
        started = time.monotonic()
        try:
            result = self.store.get_online_features(
                ["score:n"], users, consistency=level, session=self.session if mine else None
            )
        except hw.errors.ConsistencyLost as lost:
            self.session = lost.session
            self._note("lost", started, self.name)
            return
        except hw.errors.Unavailable:
            self.refused += 1
            return
        session = self.name if mine else ""
        for user, value in zip(users, result.to_dict()["n"], strict=True):
            number = NOTHING if value is None else value
            self._note("read", started, session, level=level, key=str(user), value=number)

    def give(self) -> None:
        """Leave the session's token for others."""
        started = time.monotonic()
        token = f"{self.number}-{len(self.events)}"
        self._note("gave", started, self.name, token=token)
        draft = self.tokens / f".{token}"
        draft.write_text(self.session.token)
        draft.rename(self.tokens / token)

    def take(self) -> None:
        """Go on from what another client has seen too."""
        found = [file for file in self.tokens.iterdir() if not file.name.startswith(".")]
        if found:
            file = self.chance.choice(found)
            self.session.merge(hw.Session.from_token(file.read_text()))
            self._note("took", time.monotonic(), self.name, token=file.name)

    def _note(self, kind: Any, started: float, session: str, **what: Any) -> None:
        self.events.append(Event(kind, started, time.monotonic(), session, **what))


def record(project: Path, url: str, number: int, tokens: Path, replicas: int = 2) -> tuple[Sequence[Event], int]:
    """Be a client for as long as `start` says, longer where the host is busy: until it did enough.

    Args:
        project: its folder.
        url: of the online store.
        number: which client.
        tokens: the folder that clients share.
        replicas: how many have a durable write.

    Returns:
        What it did and saw, and how many calls were refused.
    """
    with open_store(project, url) as store:
        recorder = Recorder(store, number, tokens, 0.0, random.Random(number), replicas)
        get(store, USERS[0], "strong")
        (tokens / f".{_READY}-{number}").touch()
        wait_until((tokens / _GO).exists, "the run to begin", 60)
        recorder.began, until = map(float, (tokens / _GO).read_text().split())
        while time.monotonic() < until or (time.monotonic() < until + LONGER and not recorder.did_enough()):
            recorder.step()
    return recorder.events, recorder.refused


def start(tokens: Path, clients: int, seconds: float) -> float:
    """Once so many clients are ready let them begin; when they end."""
    wait_until(lambda: len(list(tokens.glob(f".{_READY}-*"))) == clients, "the clients to be ready", 60)
    began = time.monotonic()
    draft = tokens / ".draft"
    draft.write_text(f"{began} {began + seconds}")
    draft.rename(tokens / _GO)
    return began + seconds
