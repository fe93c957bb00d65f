"""Rows of a fill made and put by processes of an engine, where the events are.

Such a process makes the rows of keys that have none online yet, as history is at the end of the log that the fill began
with. That needs neither the log nor the registry: what was written after that end is put by its writers, or by the fold
that follows. A key that has a row already is left to the run, which reads the log after it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from msgspec.structs import replace as replaced

from headwater.clock import to_micros
from headwater.compute.materializing.shared_lease import PUT_TIME, SharedLease, margin, store_time
from headwater.compute.online_location import OnlineLocation
from headwater.compute.windows import rebuilding
from headwater.compute.windows.large_keys import LargeKey
from headwater.compute.windows.putting import AT_ONCE
from headwater.compute.windows.requests import FillElsewhere, Rebuild, Version
from headwater.compute.windows.statements import CREATED, EVENT, ORIGIN, Statements
from headwater.definitions.sources import PushSource
from headwater.errors import ConfigError, MissingExtra, Unavailable
from headwater.online.base import Change, OnlineStore
from headwater.online.meta import greatest_key, run_ends, token_key
from headwater.online.rows.windows.codec import encode_row, next_sequences
from headwater.online.rows.windows.codec_of_many import decode_rows
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.resolve import ResolvedView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.compute.windows.driving import Driver

ANSWER = pa.schema(
    [("rows", pa.int64()), ("put", pa.int64()), ("left", pa.list_(pa.binary())), ("stopped", pa.string())]
)
"""What is said of some keys: how many rows of log and source they have, how many were put, those that were left."""
_BUDGET = 128 << 20


@dataclass(frozen=True)
class FillPart:
    """Makes and puts the rows of keys; values alone, so that it can be sent to any process.

    Attributes:
        location: of the online store, which is opened in the process that puts.
        project: the project.
        view: the version, as `without_data` gives it.
        version: its layout and the clock tolerance.
        request: the fill, the end of the log and the listing of the source; its keys are none.
        goes_on: whether another run had begun the fill: rows that it has made stay.
        deletes: of keys that have any the greatest P and D.
        token, epoch: of the store, in which the run read the record.
        ends, run, margin: as `OnlineSink` has them.
    """

    location: OnlineLocation
    project: str
    view: ResolvedView
    version: Version
    request: Rebuild
    goes_on: bool
    deletes: Mapping[bytes, tuple[int, int]]
    token: bytes
    epoch: bytes
    ends: bytes
    run: str
    margin: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Put the rows of the keys of these events, which are all that there are of them."""
        online: OnlineStore | None = None
        rebuilder = rebuilding.Rebuilder(Statements(self.project, self.view))
        with tempfile.TemporaryDirectory(prefix="headwater-fill-") as folder:
            counted = (self._counting(batch) for batch in batches)
            try:
                for rows, _, _ in rebuilder.rows.parts(counted, Path(folder), _BUDGET, log=True):
                    for keys, own in rebuilder.divided(rows):
                        if online is None:
                            try:
                                online = self.location.open()
                            except (ConfigError, MissingExtra) as bad:
                                yield _said(0, 0, [], f"a process of the engine cannot open the online store: {bad}")
                                return
                        for start in range(0, len(keys), AT_ONCE):
                            yield self._put(online, rebuilder, keys[start : start + AT_ONCE], own)
            finally:
                if online is not None:
                    online.close()

    def _counting(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The events that count: rows of the source that were known when it was listed."""
        known = np.maximum(np.asarray(batch.column(EVENT)), np.asarray(batch.column(CREATED)))
        counts: NDArray[np.bool_] = known <= self.request.source.known_at
        counts |= np.asarray(batch.column(ORIGIN)) == 1
        return batch if counts.all() else batch.filter(pa.array(counts))

    def _put(
        self,
        online: OnlineStore,
        rebuilder: rebuilding.Rebuilder,
        keys: list[bytes],
        given: rebuilding.Keyed | LargeKey,
    ) -> pa.RecordBatch:
        # looked at before the run's end is: a process that is held up in between puts no longer for it
        now = to_micros(online.clock())
        ends, token, *stored = online.multi_get([self.ends, token_key(self.project), *keys])
        left = run_ends(ends).get(self.run, 0) - store_time(online)
        if token != self.token:
            return _said(0, 0, [], f"{self.location!r}, opened by a process of the engine, is another online store")
        if left <= self.margin:
            return _said(0, 0, [], "the run's lease was not renewed, or the run has ended")
        absent = [key for key, data in zip(keys, stored, strict=True) if data is None]
        waiting = [key for key, data in zip(keys, stored, strict=True) if data is not None and not self._is_done(data)]
        count = len(given.rows) if isinstance(given, rebuilding.Keyed) else 0
        if not absent:
            return _said(count, 0, waiting)
        request = self.request._replace(keys=absent)
        deletes = {key: self.deletes[key] for key in absent if key in self.deletes}
        if isinstance(given, rebuilding.Keyed):
            made = rebuilder.rebuilt(self.version, request, given, deletes)
        else:
            made = rebuilder.rebuilt_in_pieces(self.version, request, given, None, deletes)
        changes: list[Change] = []
        for key, sequence in zip(absent, next_sequences([0] * len(absent)), strict=True):
            made[key].sequence = sequence
            long = rebuilder.statements.long.get(key)
            changes.append((key, 0, encode_row(self.version.layout, made[key], key=long)))
        done = online.compare_and_put_all(
            changes,
            until=now + min(left, PUT_TIME),
            high_water=(greatest_key(self.project), self.request.end.position),
            epoch=(token_key(self.project), self.epoch),
        )
        refused = [key for key, put in zip(absent, done, strict=True) if not put]
        return _said(count, sum(done), [*waiting, *refused])

    def _is_done(self, data: bytes) -> bool:
        """Whether the fill that is gone on with has made a row."""
        if not self.goes_on:
            return False
        (row,) = decode_rows(self.version.layout, [data])
        return isinstance(row, WindowRow) and row.fill == self.request.fill and row.run > 0


def _said(rows: int, put: int, left: list[bytes], stopped: str = "") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"rows": [rows], "put": [put], "left": [left], "stopped": [stopped]}, ANSWER)


def without_data(view: ResolvedView) -> ResolvedView:
    """A version without its source's data and location: what rows of it are is in the rest."""
    source = view.view.source
    plain = PushSource(event_time=source.event_time, created_time=source.created_time, event_id=source.event_id)
    definition = replace(view.definition, view=replaced(view.view, source=plain))
    return replace(view, definition=definition)


def fill_elsewhere(lease: SharedLease, driver: Driver, request: FillElsewhere) -> tuple[int, set[bytes]] | None:
    """Let the engine's processes put the rows of a fill; None where they cannot.

    Returns:
        How many rows they put, and the keys that are left to the run.

    Raises:
        Unavailable: they put no more rows.
    """
    context, history, view = driver.context, driver.history, driver.view
    location = context.online_location
    if location is None or not view.keys:
        return None
    (token,) = context.online.multi_get([token_key(context.project)])
    deletes = history.greatest_deletes(request.rebuild.end.position)
    function = FillPart(
        location,
        context.project,
        without_data(view),
        driver.version,
        request.rebuild,
        request.goes_on,
        deletes,
        token or b"",
        request.epoch,
        lease.key,
        lease.run,
        margin(lease.lasts),
    )
    put, left, step = 0, set(deletes), f"materialize {view.name}@{view.version}"
    asked = history.all_events(request.rebuild.end.position)
    for batch in context.engine.each_key(asked, function, ANSWER):
        for said in batch.to_pylist():
            if said["stopped"]:
                raise Unavailable(f"{step}: {said['stopped']}; the fill is not complete: run it again")
            put += said["put"]
            left.update(said["left"])
            history.rows += said["rows"]
    return put, left
