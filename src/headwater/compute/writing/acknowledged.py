"""What follows an acknowledged write or delete: it is noted, the session moves on, replicas are waited for."""

from __future__ import annotations

from dataclasses import replace

from headwater.compute.context import StoreContext
from headwater.compute.recent import RecentWrite
from headwater.errors import ConsistencyNotSupported, Unavailable, UsageError
from headwater.online.base import OnlineStore
from headwater.online.fetching.fetcher import Fetcher, surest
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


def _epoch(context: StoreContext, session: Session) -> bytes | None:
    """The token of the epoch that a session begins in; None where it has one, or the store cannot say."""
    if session.epochs:
        return None
    try:
        # as reads ask for it: on Redis Cluster each shard has a token of its own, and none under this key
        fetcher = Fetcher(context.online, context.settings.reads, lambda: context.store_name)
        (token,) = fetcher.rows([token_key(context.project)], surest(context.online))
    except Unavailable:
        return None
    return token


def acknowledge(context: StoreContext, write: RecentWrite, session: Session | None, durability: int = 0) -> bool:
    """Note what was just put, advance a session past it, and wait for replicas.

    Args:
        context: the store's parts and settings.
        write: what was put.
        session: of the caller; None: none.
        durability: how many replicas must have it.

    Returns:
        Whether so many had it in time.
    """
    store = context.online
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
        session.advance(context.store_name, marks, epoch=_epoch(context, session))
    if durability and replicated is not None:
        durable = replicated.wait(durability, context.settings.durable_within.total_seconds()) >= durability
    context.recent.add(replace(write, marks=marks, durable=durable))
    return durable
