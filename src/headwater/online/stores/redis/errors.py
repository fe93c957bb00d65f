"""What a Redis node answers instead of doing what it was asked, where the store can go on elsewhere."""

from __future__ import annotations

from headwater.errors import Unavailable
from headwater.online.stores.redis.url import Address


class NotPrimary(Unavailable):
    """The node is a replica; nothing was written."""


class NotReached(Unavailable):
    """No connection to the node could be made; nothing was sent."""


class Moved(Unavailable):
    """A slot is elsewhere by now, or on its way; nothing was done.

    Attributes:
        owner: the node to ask; None: nobody answers for several of its keys at once until it has arrived.
        asking: whether it is only on its way there, so that the map stays as it is.
    """

    def __init__(self, message: str, owner: Address | None = None, asking: bool = False) -> None:
        super().__init__(message)
        self.owner = owner
        self.asking = asking
