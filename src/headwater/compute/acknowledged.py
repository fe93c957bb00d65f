"""What follows an acknowledged write or delete: the session moves on, replicas are waited for."""

from __future__ import annotations

from headwater.compute.rooms import Rooms
from headwater.errors import ConsistencyNotSupported, UsageError
from headwater.online.base import OnlineStore
from headwater.online.powers import Replicated
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
        raise ConsistencyNotSupported(
            f"durability={durability}: this online store has no replicas that could be waited for; leave it at 0"
        )


def acknowledge(rooms: Rooms, session: Session | None, durability: int = 0) -> bool:
    """Advance a session past what was just put, and wait for replicas.

    Args:
        rooms: the store's parts.
        session: of the caller; None: none.
        durability: how many replicas must have it.

    Returns:
        Whether so many had it in time.
    """
    store = rooms.online
    if session is not None:
        session.advance(rooms.store_name, store.marks() if isinstance(store, Replicated) else None)
    if not durability or not isinstance(store, Replicated):
        return True
    return store.wait(durability, rooms.durable_within.total_seconds()) >= durability
