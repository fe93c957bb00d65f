"""How the store stands, for metrics: worked out once in a while, however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from headwater import __version__
from headwater.cached_value import CachedValue
from headwater.compute.status import StoreStatus
from headwater.errors import HeadwaterError
from headwater.serving.slots import Memory

_SECONDS = 5.0
"""For which a status is shown again."""
KeptStatus: TypeAlias = CachedValue[StoreStatus | None]
"""The status of a store; None where the registry cannot be read."""


def kept_status(ask: Callable[[], StoreStatus]) -> KeptStatus:
    """The status of a store, kept for a while.

    Args:
        ask: works it out.
    """

    def read() -> StoreStatus | None:
        try:
            return ask()
        except HeadwaterError:
            return None

    return CachedValue(read, None, _SECONDS)


def exposed(memory: Memory, status: KeptStatus, accept: str) -> tuple[bytes, str]:
    """The metrics as text, and its content type; called on a thread."""
    # not for a worker that is never asked
    from headwater.serving.exposition import exposition

    return exposition(memory, status.get(), __version__, accept)
