"""Requests that are done once, however often they come: what the log keeps of each, in the transaction of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from headwater.errors import IdempotencyKeyReused, RequestInProgress
from headwater.offline.log.tables import requests

KEPT = 24 * 3_600 * 1_000_000
"""Microseconds for which a request is known again."""
LEASE = 5 * 1_000_000
"""Microseconds that whoever does a request has for what follows the transaction, before another may do that too."""
_CLEANED = 1_000
"""How many old ones a transaction removes at most."""


@dataclass
class Request:
    """A write or delete that is done once, as it came this time.

    Attributes:
        owner: whose it is: the id of an API key, or empty.
        key: digest of what its sender calls it.
        body: digest of all that it asks for.
        until: until when this attempt may go on with it, by the log's clock (microseconds); 0: it did not begin.
    """

    owner: str
    key: bytes
    body: bytes
    until: int = 0


@dataclass(frozen=True)
class Recorded:
    """What a transaction did for a request.

    Attributes:
        after: the log position before its first row or delete.
        count: how many positions it took.
        arrival: when, by the log's clock, microseconds.
        places: digest of which rows of the request they are.
        until: until when whoever did it may go on with it (microseconds); then another one may.
        answer: the report, as JSON; None: nobody got as far.
    """

    after: int
    count: int
    arrival: int
    places: bytes
    until: int
    answer: str | None


class Repeated(Exception):
    """The log has what a request asks for.

    Args:
        recorded: what was done.
    """

    def __init__(self, recorded: Recorded) -> None:
        super().__init__("done before")
        self.recorded = recorded


def _is(request: Request) -> sa.ColumnElement[bool]:
    return (requests.c.owner == request.owner) & (requests.c.request == request.key)


def check_new(connection: sa.Connection, request: Request, now: int) -> None:
    """Check in a write transaction that a request was not done before; old ones are removed.

    Raises:
        IdempotencyKeyReused: its key stands for another request.
        RequestInProgress: somebody is doing it.
        Repeated: it was done.
    """
    row = connection.execute(sa.select(requests).where(_is(request))).one_or_none()
    if row is None or row.noted_at < now - KEPT:
        old = sa.select(requests.c.owner, requests.c.request).where(requests.c.noted_at < now - KEPT).limit(_CLEANED)
        for owner, key in connection.execute(old).all():
            connection.execute(requests.delete().where(_is(Request(owner, key, b""))))
        if row is not None:
            connection.execute(requests.delete().where(_is(request)))
        return
    if bytes(row.body) != request.body:
        raise IdempotencyKeyReused("this Idempotency-Key stands for another request: give each request its own key")
    if row.answer is None and row.until > now:
        raise in_progress(row.until - now)
    raise Repeated(Recorded(row.after_position, row.positions, row.arrival, bytes(row.places), row.until, row.answer))


def in_progress(left: int = LEASE) -> RequestInProgress:
    """The error where somebody is doing a request, and may go on with it for some microseconds."""
    bad = RequestInProgress("a request with this Idempotency-Key is being answered: try again in a moment")
    bad.seconds = left / 1e6
    return bad


def record(connection: sa.Connection, request: Request, view: str, recorded: Recorded, now: int) -> None:
    """Note in the transaction of its rows what was done for a request."""
    request.until = now + LEASE
    connection.execute(
        requests.insert().values(
            owner=request.owner,
            request=request.key,
            body=request.body,
            view=view,
            after_position=recorded.after,
            positions=recorded.count,
            arrival=recorded.arrival,
            places=recorded.places,
            until=request.until,
            answer=recorded.answer,
            noted_at=now,
        )
    )


def take_over(connection: sa.Connection, request: Request, seen: Recorded, now: int) -> bool:
    """Begin to go on with a request where another process stopped; False where somebody else has."""
    free = _is(request) & (requests.c.until == seen.until) & requests.c.answer.is_(None)
    taken = connection.execute(requests.update().where(free).values(until=now + LEASE)).rowcount == 1
    request.until = now + LEASE if taken else 0
    return taken


def answer(connection: sa.Connection, request: Request, text: str | None) -> None:
    """Note the answer; None: this attempt has none, so that the next who asks goes on with it at once."""
    open_ = requests.update().where(_is(request) & requests.c.answer.is_(None))
    if text is None:
        connection.execute(open_.where(requests.c.until == request.until).values(until=0))
    else:
        connection.execute(open_.values(answer=text))
