"""Window rows as they are stored, for work on them."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.compute.windows.requests import DamagedRow
from headwater.compute.windows.statements import Statements
from headwater.online.rows.codec import KEYED, WINDOW_KEYED, long_key, sequence_of
from headwater.online.rows.windows.codec_of_many import decode_rows
from headwater.online.rows.windows.row import WindowRow


def decoded_rows(
    statements: Statements, keys: Sequence[bytes], rows: Sequence[bytes | None]
) -> dict[bytes, WindowRow | DamagedRow | None]:
    """The rows under keys, by key; long keys are noted in the statements."""
    found: dict[bytes, WindowRow | DamagedRow | None] = dict.fromkeys(keys)
    there = [(key, data) for key, data in zip(keys, rows, strict=True) if data is not None]
    made = decode_rows(statements.layout, [data for _, data in there])
    for (key, data), row in zip(there, made, strict=True):
        found[key] = row if isinstance(row, WindowRow) else DamagedRow(sequence_of(data))
        if len(data) > 1 and data[1] & (KEYED | WINDOW_KEYED):
            whole = long_key(data)
            if whole is not None:
                statements.long[key] = whole
    return found
