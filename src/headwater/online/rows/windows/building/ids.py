"""The tables of event ids of many rows as they are stored; `codec` says what their bytes are."""

from __future__ import annotations

import numpy as np

from headwater.online.rows.windows.building import fields
from headwater.online.rows.windows.building.events import KeyEvents
from headwater.online.rows.windows.row import NEVER
from headwater.planning.windows.layout import WindowLayout

_SIGN = np.uint64(1 << 63)
_BIG = np.dtype(">u8")


def tables_of_ids(layout: WindowLayout, events: KeyEvents) -> list[bytes]:
    """The table of each key: its newest events with an id; empty where it has none.

    Args:
        layout: the version's.
        events: all events of the keys.
    """
    of = events.of
    assert of.ids is not None
    digests, present = of.ids
    index = np.flatnonzero(present)
    index = index[np.lexsort((digests[index], of.event[index], of.key[index]))]
    bounds = np.searchsorted(of.key[index], np.arange(events.keys + 1))
    some = np.flatnonzero(np.diff(bounds))
    sizes = np.minimum(np.diff(bounds), layout.ids)[some]
    ends = bounds[some + 1]
    # the newest of those that the table does not have
    lacking = ends - sizes > bounds[some]
    after = np.where(lacking, of.event[index[np.where(lacking, ends - sizes - 1, 0)]], NEVER) if len(some) else some
    starts = np.cumsum(sizes) - sizes
    inside = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
    index = index[np.repeat(ends - sizes, sizes) + inside]
    event, position = of.event[index], of.position[index]
    first = inside == 0
    data, begins = fields.joined(
        [
            fields.plain((np.repeat(after, sizes).view(np.uint64) + _SIGN).astype(_BIG), first),
            fields.numbers(np.repeat(sizes, sizes), first),
            fields.plain(digests[index].astype(_BIG)),
            fields.signed(fields.differences(event, first)),
            fields.numbers(of.known_at[index] - event),
            fields.signed(fields.differences(position, first)),
            fields.plain(of.from_log[index].view(np.uint8)),
        ]
    )
    tables = [b""] * events.keys
    bounds = begins[np.append(starts, len(index))]
    for key, start, end in zip(some.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        tables[key] = data[start:end]
    return tables
