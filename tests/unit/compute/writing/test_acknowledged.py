"""What follows an acknowledged write: who must know how far the store is asks it, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from headwater.compute.recent import RecentWrite, RecentWrites
from headwater.compute.settings import ComputeSettings
from headwater.compute.writing.acknowledged import acknowledge
from headwater.errors import Unavailable
from headwater.online.base import Capabilities
from headwater.online.session import Session

WRITE = RecentWrite(datetime(2026, 1, 1, tzinfo=UTC), "write", "clicks", 1, (), 1)


class Nodes:
    """A store of several nodes that counts what it is asked."""

    def __init__(self, noted: Mapping[str, int] | None, there: bool = True) -> None:
        self.noted, self.there, self.asked = noted, there, list[str]()
        self.capabilities = Capabilities(frozenset())

    def last_write(self) -> Mapping[str, int] | None:
        return self.noted

    def marks(self) -> Mapping[str, int]:
        self.asked.append("marks")
        if not self.there:
            raise Unavailable("no answer")
        return {"node": 7}

    def wait(self, replicas: int, timeout: float) -> int:
        self.asked.append("wait")
        return 1

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [b"epoch"] * len(keys)

    def lag(self, marks: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}


def parts(nodes: Nodes, recent: RecentWrites) -> Any:
    return SimpleNamespace(
        project="p",
        online=nodes,
        recent=recent,
        store_name="p:log",
        settings=ComputeSettings(durable_within=timedelta(seconds=1)),
    )


@pytest.mark.parametrize(
    ("noted", "session", "durability", "asked", "marks"),
    [
        ({"m:any": 3}, False, 0, [], {"m:any": 3}),
        ({"m:any": 3}, False, 1, ["wait"], {"m:any": 3}),
        ({"m:any": 3}, True, 0, ["marks"], {"node": 7}),
        ({"m:any": 3}, True, 1, ["marks", "wait"], {"node": 7}),
        (None, False, 0, ["marks"], {"node": 7}),
    ],
)
def test_only_a_session_asks_how_far_the_store_is(
    noted: Mapping[str, int] | None, session: bool, durability: int, asked: list[str], marks: Mapping[str, int]
) -> None:
    nodes, recent = Nodes(noted), RecentWrites()
    context = parts(nodes, recent)
    token = Session("p:log", {}) if session else None
    assert acknowledge(context, WRITE, token, durability)
    assert nodes.asked == asked and recent.last()[0].marks == marks
    # a session takes what the store said, never what a write left behind it
    assert token is None or (token.marks, token.epochs) == ({"node": 7}, {b"epoch"})


def test_without_a_session_an_outage_after_the_write_is_no_error() -> None:
    context = parts(Nodes(None, there=False), RecentWrites())
    assert acknowledge(context, WRITE, None)
    with pytest.raises(Unavailable):
        acknowledge(context, WRITE, Session("p:log", {}))
