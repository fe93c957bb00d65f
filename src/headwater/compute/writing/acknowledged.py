"""What follows an acknowledged write or delete: it is noted, the session moves on, replicas are waited for."""

from __future__ import annotations

from dataclasses import replace

from headwater.compute.context import Rooms
from headwater.compute.writing.recent import RecentWrite
from headwater.errors import ConsistencyNotSupported, Unavailable, UsageError
from headwater.online.base import OnlineStore
from headwater.online.fetching.fetcher import surest
from headwater.online.meta import token_key
from headwater.online.powers import NotedWrites, Replicated
from headwater.online.session import Session


def check_durability(store: OnlineStore, durability: int) -> None:
    """Refuse to wait for replicas that a store cannot have.

    Raises:
        UsageError: not a count.
        ConsistencyNotSupported: the store has no replicas.
    """
    if isinstance(durability, bool) or not isinstance(durability, int) or durability < 0:
        raise UsageError(f"durability={durability!r}: give the number of replicas to wait for, 0 for none")
    if durability and not isinstance(store, Replicated):
        raise ConsistencyNotSupported(f"durability={durability}: this online store has no replicas to wait for; use 0")


def _epoch(rooms: Rooms, session: Session) -> bytes | None:
    """The token of the epoch that a session begins in; None where it has one, or the store cannot say."""
    if session.epochs:
        return None
    try:
        # as reads ask for it: on Redis Cluster each shard has a token of its own, and none under this key
        (token,) = rooms.fetcher.rows([token_key(rooms.project)], surest(rooms.online))
    except Unavailable:
        return None
    return token


def acknowledge(rooms: Rooms, write: RecentWrite, session: Session | None, durability: int = 0) -> bool:
    """Note what was just put, advance a session past it, and wait for replicas.

    Args:
        rooms: the store's parts.
        write: what was put.
        session: of the caller; None: none.
        durability: how many replicas must have it.

    Returns:
        Whether so many had it in time.
    """
    store = rooms.online
    replicated = store if isinstance(store, Replicated) else None
    marks, durable = None, True
    if session is None and isinstance(store, NotedWrites):
        # what the write left behind tells, without another round trip, whether replicas have it
        marks = store.last_write()
    if replicated is not None and marks is None:
        try:
            marks = replicated.marks()
        except Unavailable:
            # the rows are put, but only who has a session must know how far the store is
            if session is not None:
                raise
    if session is not None:
        session.advance(rooms.store_name, marks, epoch=_epoch(rooms, session))
    if durability and replicated is not None:
        durable = replicated.wait(durability, rooms.durable_within.total_seconds()) >= durability
    rooms.recent.add(replace(write, marks=marks, durable=durable))
    return durable
