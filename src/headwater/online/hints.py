"""Hints: keys whose rows are past their SLA, and what a durable queue of them must do."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from headwater.clock import FIRST_MICROS, LAST_MICROS
from headwater.digests import blake2b
from headwater.errors import FormatError, brief
from headwater.forks import OfOneProcess
from headwater.values import Value


class Hint(Value, frozen=True):
    """A row that somebody read past its SLA; all times in microseconds.

    Attributes:
        view, version: whose row.
        key: its whole key (`KeySpace.encode`).
        event: its event time: a row with a later one is newer.
        sla: how old it may be, at least 1.
        asked_at: when it was asked for first.
        asked: how often.
    """

    view: str
    version: str
    key: bytes
    event: int
    sla: int
    asked_at: int
    asked: int = 1

    @property
    def id(self) -> bytes:
        """16 bytes that no other key has: a queue holds one hint for each."""
        return blake2b(self.key, digest_size=16).digest()


_MOST_ASKED = 2**53


def stored_hint(
    id_: bytes, view: object, version: object, key: object, event: object, sla: object, asked_at: object, asked: object
) -> Hint:
    """A hint as a queue has stored it.

    Args:
        id_: the id that it is stored under.
        view, version, key, event, sla, asked_at, asked: see `Hint`.

    Raises:
        FormatError: something else than the queue wrote it, or what it wrote is damaged; saying what is wrong.
    """
    for name, text in (("view", view), ("version", version)):
        if not isinstance(text, str):
            raise FormatError(f"its {name} is {brief(text)}, not text")
    if not isinstance(key, bytes):
        raise FormatError(f"its key is {brief(key)}, not bytes")
    for name, instant in (("event time", event), ("time", asked_at)):
        if type(instant) is not int or not FIRST_MICROS <= instant <= LAST_MICROS:
            raise FormatError(f"its {name} is {brief(instant)}, not an instant")
    for name, count in (("SLA", sla), ("count", asked)):
        if type(count) is not int or not 1 <= count <= max(_MOST_ASKED, LAST_MICROS):
            raise FormatError(f"its {name} is {brief(count)}, not a number from 1 on")
    hint = Hint(view, version, key, event, sla, asked_at, asked)  # type: ignore[arg-type]
    if hint.id != id_:
        raise FormatError("its key is not the one of its id")
    return hint


class Claim(Value, frozen=True):
    """A hint that a worker has taken.

    Attributes:
        hint: the hint.
        tries: how often it was claimed, this time too.
        token: tells this claim from later ones of the same hint.
    """

    hint: Hint
    tries: int
    token: str


class OutcomeKind(enum.StrEnum):
    """What becomes of a claimed hint."""

    DONE = "done"
    REST = "rest"
    RETRY = "retry"
    DEAD = "dead"


class Outcome(Value, frozen=True):
    """How the work on a claim ended.

    Attributes:
        claim: the claim.
        kind: `done`: the hint goes; `rest`: no newer row was there, hints for the key are ignored for a while; `retry`:
            it is claimed again later; `dead`: it was tried often enough, and waits for somebody.
        until: microseconds: the end of the rest, when to retry, or when it died.
        error: what failed.
    """

    claim: Claim
    kind: OutcomeKind
    until: int = 0
    error: str = ""


class DeadLetter(Value, frozen=True):
    """A hint that failed for good.

    Attributes:
        hint: the hint.
        tries: how often it was tried.
        died_at: microseconds.
        error: what failed the last time.
    """

    hint: Hint
    tries: int
    died_at: int
    error: str


class QueueCounts(Value, frozen=True):
    """How many hints a queue holds.

    Attributes:
        waiting: to be claimed, now or when their retry is due.
        claimed: at work, or left by a worker that died.
        resting: keys left alone, since no newer row was found.
        dead: failed for good.
        oldest: when the oldest one that is waiting or claimed was asked for, microseconds; None: none is.
    """

    waiting: int = 0
    claimed: int = 0
    resting: int = 0
    dead: int = 0
    oldest: int | None = None


class HintQueue(OfOneProcess, ABC):
    """A durable queue of hints, shared by processes; every method may be called from several threads.

    One hint a key. What a worker has claimed and not settled by the end of its lease is claimed again.
    """

    kind: str
    """What `status` calls it."""

    @abstractmethod
    def offer(self, hints: Sequence[Hint], now: int) -> int:
        """Add hints, of distinct keys; one that is there already counts as asked for more often.

        A key that rests is left alone unless its row has become newer meanwhile; a dead one stays dead. A full queue
        drops the least urgent.

        Returns:
            How many hints were dropped.
        """

    @abstractmethod
    def claim(
        self, views: Sequence[str], limit: int, now: int, lease: int, unreadable: list[str] | None = None
    ) -> list[Claim]:
        """Take the most urgent hints of some views that wait, or whose worker's lease is over.

        A row that cannot be read is removed: whoever reads its key again asks again.

        Args:
            views: names.
            limit: how many at most.
            now, lease: microseconds.
            unreadable: a line is added to it for each row that was removed: which one, and what was wrong.
        """

    @abstractmethod
    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Say how claims ended; one whose lease ended and that another worker has by now can only be done."""

    @abstractmethod
    def dead(self, limit: int, unreadable: list[str] | None = None) -> list[DeadLetter]:
        """Dead letters, the newest first.

        Args:
            limit: how many at most.
            unreadable: a line is added to it for each one that cannot be read: which one, and what is wrong.
        """

    @abstractmethod
    def replay(self, views: Sequence[str], now: int) -> int:
        """Let the dead letters of some views will be retried, untried; how many there were."""

    def repair_clock(self, now: int, longest: int) -> int:
        """Take now for right: what was to last longer than it may, by a fast clock, ends now.

        Args:
            now: microseconds.
            longest: how long a lease or a retry may last, microseconds; a rest as long, or as the hint's SLA.

        Returns:
            How many hints there were; a queue that keeps no such instants has none.
        """
        return 0

    @abstractmethod
    def forget(self, view: str, gone: Callable[[str, bytes], bool]) -> int:
        """Remove every hint of a view, dead or not, whose (version, key) is gone, and every one that cannot be read.

        Returns:
            How many there were.
        """

    @abstractmethod
    def counts(self, now: int) -> QueueCounts:
        """How many hints there are."""


@runtime_checkable
class Queued(Protocol):
    """A power of an online store: it holds the queue of hints too, in place of the registry's database."""

    def hint_queue(self, name: str, limit: int) -> HintQueue:
        """The queue of a name.

        Args:
            name: whose: processes that give one name share one queue.
            limit: how many hints may wait.
        """
        ...
