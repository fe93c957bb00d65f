"""The guard: the one rule by which a row may replace another, as a pure function over their bytes."""

from __future__ import annotations

from headwater.errors import FormatError
from headwater.online.codec import CREATED, EVENT, HEADER_SIZE, ORDER, SEQUENCE, THROUGH, VERSION_BYTE, ZERO, is_newer

_NEXT = {(n).to_bytes(8, "big"): (n + 1).to_bytes(8, "big") for n in range(256)}


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
    through = stored[THROUGH]
    if through != ZERO and new[EVENT] <= through and new[CREATED] <= through:
        return None
    sequence = stored[SEQUENCE]
    following = _NEXT.get(sequence) or (int.from_bytes(sequence, "big") + 1).to_bytes(8, "big")
    return new[:6] + following + through + new[22:]


def _over_foreign(stored: bytes, new: bytes) -> bytes:
    if is_newer(stored):
        raise FormatError(
            "a stored row was written by a newer headwater: upgrade this one before it writes to the same online store"
        )
    return new
