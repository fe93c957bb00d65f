"""The guard: the one rule by which a row may replace another, as pure functions over their bytes."""

from __future__ import annotations

from headwater.errors import FormatError
from headwater.online.base import PutOutcome
from headwater.online.rows.codec import (
    CACHE_ONLY,
    CREATED,
    DELETED,
    EMPTIED,
    EVENT,
    HEADER_SIZE,
    ORDER,
    POSITION,
    SEQUENCE,
    VERSION_BYTE,
    carrying,
    current,
    emptied,
    fresh_sequence,
    from_log,
    header,
    is_newer,
    is_row,
    sequence_of,
    tombstone,
    tombstone_of,
    with_key,
    without_tombstone,
)

NEWER_ROW = "a stored row was written by a newer headwater: upgrade this one before it writes to the same online store"

_APPLIED, _SUPERSEDED, _TIE = PutOutcome.APPLIED, PutOutcome.SUPERSEDED, PutOutcome.TIE


def merge(stored: bytes | None, new: bytes) -> bytes | PutOutcome:
    """What a put of `new` (of this codec, without a tombstone) does where `stored` is.

    It applies where (event, created, origin, log position) is not less than the stored row's, known_at = max(event,
    created) is after the stored D and, for a row of the log, its position after the stored P. Where all four are equal
    a source row with the same bytes changes nothing, with others it is a tie. Bytes that no codec wrote count as no
    row, so that the next put repairs them.

    Returns:
        The row to store, with the stored D and P; else the outcome: SUPERSEDED, TIE, or APPLIED where nothing changes.

    Raises:
        FormatError: what is stored was written by a newer headwater.
    """
    if stored is None:
        return new
    if len(stored) < HEADER_SIZE or stored[0] != VERSION_BYTE or stored[1] & DELETED:
        return _merge_other(stored, new)
    a, b = stored[ORDER], new[ORDER]
    if b > a:
        return new
    return _SUPERSEDED if b < a else _merge_equal(stored, new)


def _merge_other(stored: bytes, new: bytes) -> bytes | PutOutcome:
    """A stored row with a tombstone or of an older codec, or other bytes."""
    if is_newer(stored):
        raise FormatError(NEWER_ROW)
    if not is_row(stored):
        return new
    row = current(stored)
    if new[ORDER] < row[ORDER] or hidden(new, tombstone_of(row)):
        return _SUPERSEDED
    merged = new if new[ORDER] > row[ORDER] else _merge_equal(without_tombstone(row), new)
    return carrying(merged, tombstone_of(row)) if isinstance(merged, bytes) else merged


def _merge_equal(stored: bytes, new: bytes) -> bytes | PutOutcome:
    """Rows of the same times, origin and position."""
    if from_log(new) or stored[1] & EMPTIED:
        # of the log, or cache-only: it is the same statement, and repairs what is stored
        return new
    same = stored[: SEQUENCE.start] == new[: SEQUENCE.start] and stored[HEADER_SIZE:] == new[HEADER_SIZE:]
    return _APPLIED if same else _TIE


def stands_at(stored: bytes | None, sequence: int) -> bool:
    """Whether `compare_and_put` may replace what is stored: its write sequence is this one (0: no row is there).

    Raises:
        FormatError: what is stored was written by a newer headwater: this one cannot read it, and it must stay.
    """
    if stored is not None and is_newer(stored):
        raise FormatError(NEWER_ROW)
    return sequence_of(stored) == sequence


def hidden(row: bytes, deleted: bytes) -> bool:
    """Whether a tombstone (`codec.tombstone_of`; empty: none) hides a row of this codec."""
    if not deleted:
        return False
    through, tail = deleted[:8], row[POSITION]
    if row[EVENT] <= through and row[CREATED] <= through:
        return True
    return CACHE_ONLY < tail <= deleted[8:]


def deleted_row(stored: bytes | None, through: int, position: int, key: bytes | None = None) -> bytes | None:
    """The row that a delete leaves of what is stored, for `OnlineStore.compare_and_put`; None where it is done already.

    Args:
        stored: what is stored; None where nothing is.
        through: D, microseconds.
        position: P.
        key: the whole key, where the row is stored under its digest.
    """
    head = header(stored)
    if stored is None or head is None:
        bare = emptied(None, through, position)
        return bare if key is None else with_key(bare, key)
    if head.through >= through and head.deleted_position >= position:
        return None
    row = current(stored)
    marks = tombstone(max(through, head.through), max(position, head.deleted_position))
    if head.emptied or hidden(row, marks):
        return emptied(stored, through, position)
    return carrying(row[: SEQUENCE.start] + fresh_sequence() + row[SEQUENCE.stop :], marks)
