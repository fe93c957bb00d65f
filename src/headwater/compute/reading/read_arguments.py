"""The arguments of a read, checked: consistency level, what to do with stale values, durations and instants."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.clock import duration_argument
from headwater.compute.context import StoreContext
from headwater.errors import (
    ConsistencyNotSupported,
    SessionRequired,
    UsageError,
    nearest,
)
from headwater.online.base import OnlineStore
from headwater.online.fetching.fetcher import PLAIN, Ask, Rows
from headwater.online.reading.reader import KeyPlan, OnlineReader
from headwater.online.reading.result import OnlineResult
from headwater.online.rows.decoded import not_later
from headwater.online.session import Session
from headwater.types import ConsistencyLevel, StalePolicy

if TYPE_CHECKING:
    from headwater.compute.transforms.online import OnlineFunctions

LONGEST_WAIT = 1e7
"""Seconds (four months): a longer deadline or budget is held at it, since threads cannot wait for ever."""


class ReadArguments(msgspec.Struct, frozen=True, gc=False):
    """The arguments of one read, checked.

    Attributes:
        reader: what finds its keys and decodes its rows.
        ask: how it wants its rows.
        at: its instant, microseconds.
        ahead: by how much a row may be known later than that, microseconds; 0: the read is exact.
        policy: what it does with stale values.
        age: its own freshness SLA, microseconds.
        functions: what computes on-demand features of what is read; None where there are none.
        request: the values that it gives to them.
    """

    reader: OnlineReader
    ask: Ask
    at: int
    ahead: int
    policy: StalePolicy
    age: int | None
    functions: OnlineFunctions | None = None
    request: Mapping[str, Any] | None = None

    def result(self, plan: KeyPlan, rows: Rows) -> OnlineResult:
        """What the read gives of the rows of its keys."""
        read = self.reader.decode(plan, rows, now=self.at, ahead=self.ahead, stale=self.policy, max_age=self.age)
        if self.functions is None:
            return read
        return self.functions.complete(read, self.request, self.policy is StalePolicy.DROP, self.age, self.at)

    def again(self, plan: KeyPlan, before: Rows, after: Rows) -> OnlineResult:
        """The same of rows that were read again; an exact read has those that became later as it found them."""
        return self.result(plan, after if self.ahead else not_later(before, after, self.at))


_NEEDS_SESSION = frozenset({ConsistencyLevel.SESSION, ConsistencyLevel.MONOTONIC_READ})


def level_of(store: OnlineStore, level: ConsistencyLevel | str | None) -> ConsistencyLevel | None:
    """A consistency level that the store can give.

    Raises:
        UsageError: no such level.
        ConsistencyNotSupported: it cannot.
    """
    if level is None:
        return None
    try:
        wanted = ConsistencyLevel(level)
    except ValueError:
        levels = [item.value for item in ConsistencyLevel]
        raise UsageError(
            f"consistency={level!r} is not one of {', '.join(levels)}{nearest(str(level), levels)}"
        ) from None
    if wanted not in store.capabilities.levels:
        given = ", ".join(sorted(item.value for item in store.capabilities.levels))
        raise ConsistencyNotSupported(f"consistency={wanted.value!r}: this online store supports {given}")
    return wanted


def policy_of(stale: StalePolicy | str) -> StalePolicy:
    """What a read does with stale values.

    Raises:
        UsageError: no such policy.
    """
    try:
        return StalePolicy(stale)
    except ValueError:
        policies = [item.value for item in StalePolicy]
        raise UsageError(
            f"stale={stale!r} is not one of {', '.join(policies)}{nearest(str(stale), policies)}"
        ) from None


def refreshed_ask(ask: Ask, began: float) -> Ask:
    """How a read wants its rows again once some were refreshed: from where they were put, in what is left of its time.

    Args:
        ask: how it wanted them.
        began: when, by `time.monotonic()`.
    """
    left = None if ask.deadline is None else max(0.0, ask.deadline - (time.monotonic() - began))
    return Ask(ConsistencyLevel.STRONG, ask.session, left)


def ask_of(
    context: StoreContext,
    level: ConsistencyLevel | None,
    session: Session | None,
    deadline: timedelta | str | None,
) -> Ask:
    """How a read wants its rows, checked.

    Args:
        context: the store's parts and settings.
        level: its own level, else the reader's.
        session: what it goes on from, and advances.
        deadline: how long the store may take.

    Raises:
        SessionRequired: a level that needs a session came without one.
        UsageError: a session of another store, or a deadline that is not a duration.
    """
    if level in _NEEDS_SESSION and session is None:
        raise SessionRequired(f"consistency={level.value!r} needs a session: pass session=store.session()")
    context.check_session(session)
    within = None if deadline is None else min(duration_argument(deadline, "deadline") / 1e6, LONGEST_WAIT)
    if level in (None, ConsistencyLevel.EVENTUAL) and session is None and within is None:
        return PLAIN
    return Ask(level or ConsistencyLevel.EVENTUAL, session, within)
