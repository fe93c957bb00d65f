"""The guard: the one rule by which a row may replace another, as a pure function over their bytes."""

from __future__ import annotations

from headwater.errors import FormatError
from headwater.online.codec import CREATED, EVENT, HEADER_SIZE, ORDER, SEQUENCE, THROUGH, VERSION_BYTE, ZERO, is_newer

# (sequence, D) → what follows it, for the many rows that were written a few times and never deleted
_NEXT = {n.to_bytes(8, "big") + ZERO: (n + 1).to_bytes(8, "big") + ZERO for n in range(1024)}
_BOTH = slice(SEQUENCE.start, THROUGH.stop)


def merge(stored: bytes | None, new: bytes) -> bytes | None:
    """The row to store: `new` with the stored D and the next write sequence; None where it may not replace `stored`.

    It may where (event, created, origin, position) is not less than the stored row's and known_at = max(event, created)
    is after D. Bytes that no codec wrote count as no row, so that the next put makes them whole.

    Raises:
        FormatError: what is stored was written by a newer headwater.
    """
    if stored is None:
        return new
    if len(stored) < HEADER_SIZE or stored[0] != VERSION_BYTE:
        return _over_foreign(stored, new)
    if new[ORDER] < stored[ORDER]:
        return None
    following = _NEXT.get(stored[_BOTH])
    if following is None:
        through = stored[THROUGH]
        if through != ZERO and new[EVENT] <= through and new[CREATED] <= through:
            return None
        following = (int.from_bytes(stored[SEQUENCE], "big") + 1).to_bytes(8, "big") + through
    return new[:6] + following + new[22:]


def _over_foreign(stored: bytes, new: bytes) -> bytes:
    if is_newer(stored):
        raise FormatError(
            "a stored row was written by a newer headwater: upgrade this one before it writes to the same online store"
        )
    return new
