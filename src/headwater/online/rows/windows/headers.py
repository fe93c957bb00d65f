"""The headers of stored window rows as reads look at them, and what the fill record says of all of them."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.clock import MIN_MICROS
from headwater.errors import FormatError
from headwater.online.powers import UNREAD
from headwater.online.rows.codec import WINDOW_HEADER_SIZE
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.form import NEWEST_FILL, PLAIN_FLAGS
from headwater.online.rows.windows.reading import NOT_FILLED
from headwater.online.rows.windows.reading_columns import JoinedRows
from headwater.online.rows.windows.record import decode_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGN = 1 << 63
HEAD = struct.Struct(">6s6xQ24xQQI")
"""What says what a row is, its fill, newest event time and known_at (with their signs flipped), where the ends of its
lists are."""
_THROUGH = struct.Struct(">Q")
_TABLE = np.dtype(
    {
        "names": ["mark", "fill", "event", "known", "ends"],
        "formats": ["<i8", ">u8", ">u8", ">u8", ">u4"],
        "offsets": [0, 12, 44, 52, 60],
        "itemsize": WINDOW_HEADER_SIZE,
    }
)
_HEADER_WORDS = np.arange(WINDOW_HEADER_SIZE // 4)
MARK = 0xFFFFFFFF << 16 | (0xFF & ~PLAIN_FLAGS) << 8 | 0xFF
"""Of the first 8 bytes of a row those that say what it is: version, unusual flags, fingerprint."""


def headers(rows: JoinedRows) -> NDArray[Any]:
    """The headers of rows."""
    words = rows.words.take((rows.base << 1)[:, None] + _HEADER_WORDS)
    return words.view(_TABLE)[:, 0]


def header_times(given: Any) -> NDArray[np.int64]:
    """Times of rows, from what stands in their headers."""
    if isinstance(given, list):
        return np.array([time - SIGN for time in given], np.int64)
    found: NDArray[np.int64] = (given.astype(np.uint64) ^ np.uint64(SIGN)).view(np.int64)
    return found


def deleted_through(row: bytes) -> int:
    """D of a row with a delete; `MIN_MICROS` where it is cut short."""
    cut = len(row) < WINDOW_HEADER_SIZE + _THROUGH.size
    return MIN_MICROS if cut else int(_THROUGH.unpack_from(row, WINDOW_HEADER_SIZE)[0]) - SIGN


@lru_cache(maxsize=64)
def completeness(data: bytes | None, batch: bool) -> tuple[int, int, str]:
    """What a fill record says, worked out once for many reads.

    Args:
        data: the record.
        batch: whether a batch source counts.

    Returns:
        The fill that rows must be of, up to which known_at the version is complete, and why no row can be used: empty
        where they can.
    """
    problem = f"{NOT_FILLED}: run headwater materialize"
    try:
        if data == UNREAD:
            problem = "the fill record was not read in time"
        elif data is not None:
            record = decode_record(data)
            if record.fill:
                through = record.known_through
                return record.fill, min(through, record.source_through.known_at) if batch else through, ""
    except (Damaged, FormatError) as bad:
        problem = str(bad)
    return NEWEST_FILL, MIN_MICROS, problem
