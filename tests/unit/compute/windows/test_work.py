"""Work that asks: the conversation that `work` shows, and that each request is listed and answered."""

from __future__ import annotations

import re
from typing import Any

from headwater.compute.windows import requests, work
from headwater.compute.windows.driving import ANSWERS
from headwater.compute.windows.putting import put
from headwater.compute.windows.requests import Batch, ReadRows, Snapshot, SwapRows, Version
from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows.record import FillRecord
from headwater.online.rows.windows.row import blank_row
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import window_layout
from headwater.types import Int64

REQUESTS = {made for made in vars(requests).values() if isinstance(made, type) and work.Request in made.__bases__}


def test_the_conversation_of_the_example():
    layout = window_layout([Aggregation("n", "sum", None)], {"n": Int64})
    rows = [blank_row(layout, fill=1) for _ in range(2)]
    for row, sequence in zip(rows, (4, 5), strict=True):
        row.sequence = sequence
    record = FillRecord(fill=1, filling=1)
    batch = Batch(9, 50, [WindowEvent(49, 49, True, 9, {"n": 2})])
    reads, swaps = iter(rows), iter([[False], [True]])
    asked: list[str] = []

    def read(request: ReadRows) -> Snapshot:
        asked.append(f"ReadRows({request.keys!r}, epoch={request.epoch})")
        return Snapshot(None, record, {b"k": next(reads)})

    def swap(request: SwapRows) -> Any:
        (each,) = request.swaps
        asked.append(f"SwapRows([Swap({each.key!r}, sequence={each.sequence}, row=merged)])")
        return next(swaps)

    report = work.drive(put(Version(layout, tolerance=5), {b"k": batch}), {ReadRows: read, SwapRows: swap})
    shown = (work.__doc__ or "").replace('b"k"', "b'k'")
    assert asked == re.findall(r"^ +asks +(.+)$", shown, re.MULTILINE)
    assert f"returns {report}" in shown


def test_each_request_is_listed_and_answered():
    assert set(ANSWERS) == REQUESTS
    assert set(re.findall(r"^\|[^|]*\| `(\w+)` \|", requests.__doc__ or "", re.MULTILINE)) == {
        each.__name__ for each in REQUESTS
    }
