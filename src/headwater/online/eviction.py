"""Stores that may drop rows to free memory: refused for window views, of which a missing row is an empty window."""

from __future__ import annotations

from contextlib import suppress

from headwater.errors import StoreError
from headwater.online.base import OnlineStore
from headwater.online.powers import Evicting


def eviction_problem(online: OnlineStore) -> str | None:
    """Why window views cannot be served from a store that may drop their rows, and what to do; None where they can.

    A store that cannot be asked now has none: what reads or writes it next fails by itself.
    """
    servers: list[str] = []
    if isinstance(online, Evicting):
        with suppress(StoreError):
            servers += online.evicting()
    if not servers:
        return None
    return (
        "the online store may evict rows of window views when its memory is full, and they would be read as empty "
        f"windows: {', '.join(servers)}; set maxmemory-policy to noeviction (or volatile-…), or set [online] "
        "allow_eviction = true in headwater.toml"
    )
