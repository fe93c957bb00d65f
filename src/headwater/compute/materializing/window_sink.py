"""Rows of a window version made and put by processes of an engine, where the events are.

Such a process makes the rows of keys as history is at the end of the log that the run began with, in the place of what
is stored too (`rebuild_elsewhere`). That needs neither the log nor the registry: what was written after that end is put
by its writers, or by the fold that follows. A key whose row has more than that is left to the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace as replaced

from headwater.clock import to_micros
from headwater.compute.materializing.shared_lease import PUT_TIME, LeaseEnded, SharedLease, margin, time_left
from headwater.compute.online_location import OnlineLocation
from headwater.compute.windows import rebuilding
from headwater.compute.windows.large_keys import LargeKey
from headwater.compute.windows.putting import AT_ONCE
from headwater.compute.windows.rebuilding_elsewhere import rebuild_elsewhere
from headwater.compute.windows.requests import (
    FillElsewhere,
    ReadRows,
    RebuiltRows,
    Snapshot,
    SwapRows,
    Version,
)
from headwater.compute.windows.statements import CREATED, EVENT, ORIGIN, Statements
from headwater.compute.windows.stored_rows import decoded_rows
from headwater.compute.windows.work import Work, drive
from headwater.definitions.sources import PushSource
from headwater.errors import ConfigError, MissingExtra, Unavailable
from headwater.online.base import Change, OnlineStore
from headwater.online.meta import greatest_key, token_key
from headwater.online.rows.windows.codec import encode_row
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.resolved import ResolvedView

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
        asked: the run's, with the listing of the source and the end of the log.
        deletes: of keys that have any the greatest P and D.
        purges: P and D by the digests of keys.
        digests: of keys, where there are purges.
        token: of the store, in which the run read the record.
        ends, run, margin: as `OnlineSink` has them.
    """

    location: OnlineLocation
    project: str
    view: ResolvedView
    version: Version
    asked: FillElsewhere
    deletes: Mapping[bytes, tuple[int, int]]
    purges: Mapping[bytes, tuple[int, int]]
    digests: Any
    token: bytes
    ends: bytes
    run: str
    margin: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Put the rows of the keys of these events, which are all that there are of them."""
        online: OnlineStore | None = None
        rebuilder = rebuilding.Rebuilder(Statements(self.project, self.view))
        count = 0

        def counting() -> Iterator[pa.RecordBatch]:
            nonlocal count
            for batch in batches:
                taken = self._counting(batch)
                count += taken.num_rows
                yield taken

        with tempfile.TemporaryDirectory(prefix="headwater-fill-") as folder:
            try:
                for rows, _, _ in rebuilder.rows.parts(counting(), Path(folder), _BUDGET, log=True):
                    for keys, own in rebuilder.divided(rows):
                        if online is None:
                            online = self.location.open()
                        for start in range(0, len(keys), AT_ONCE):
                            put = _Putting(self, online, rebuilder, own)
                            left = put.do(rebuild_elsewhere(self.version, self.asked, keys[start : start + AT_ONCE]))
                            yield _said(0, put.put, sorted(left))
                yield _said(count, 0, [])
            except (ConfigError, MissingExtra) as bad:
                yield _said(0, 0, [], f"a process of the engine cannot open the online store: {bad}")
            except LeaseEnded as why:
                yield _said(0, 0, [], str(why))
            finally:
                if online is not None:
                    online.close()

    def _counting(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The events that count: rows of the source that were known when it was listed."""
        known = np.maximum(np.asarray(batch.column(EVENT)), np.asarray(batch.column(CREATED)))
        counts: NDArray[np.bool_] = known <= self.asked.rebuild.source.known_at
        counts |= np.asarray(batch.column(ORIGIN)) == 1
        return batch if counts.all() else batch.filter(pa.array(counts))

    def deletes_of(self, statements: Statements, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """The greatest P and D of those of the keys that have any, purged ones by their digests."""
        found = {key: self.deletes[key] for key in keys if key in self.deletes}
        if not self.purges:
            return found
        rows = statements.rows
        for key in keys:
            values = rows.decode_key(statements.long.get(key, key))
            mine = [
                self.purges[d] for d in self.digests.all_of(rows.names, values, self.view.key_names) if d in self.purges
            ]
            if mine:
                mine += [found[key]] if key in found else []
                found[key] = max(p for p, _ in mine), max(d for _, d in mine)
        return found


class _Putting:
    """Answers the requests of `rebuild_elsewhere`.

    Args:
        part: what the process was sent.
        online: the store.
        rebuilder: makes rows ...
        given: ... of these events.

    Attributes:
        put: how many rows were put.
    """

    def __init__(
        self,
        part: FillPart,
        online: OnlineStore,
        rebuilder: rebuilding.Rebuilder,
        given: rebuilding.Keyed | LargeKey,
    ) -> None:
        self._part, self._online, self._rebuilder, self._given = part, online, rebuilder, given
        self._until = 0
        self.put = 0

    def do(self, work: Work[set[bytes]]) -> set[bytes]:
        return drive(work, {ReadRows: self._read, RebuiltRows: self._rebuilt, SwapRows: self._swapped})

    def _read(self, request: ReadRows) -> Snapshot:
        """The rows of keys, where the run may put.

        Raises:
            LeaseEnded: it may not.
        """
        part, online = self._part, self._online
        # looked at before the run's end is: a process that is held up in between puts no longer for it
        now = to_micros(online.clock())
        left, stored = time_left(part, online, request.keys)
        self._until = now + min(left, PUT_TIME)
        return Snapshot(None, None, decoded_rows(self._rebuilder.statements, request.keys, stored))

    def _rebuilt(self, request: RebuiltRows) -> Mapping[bytes, WindowRow]:
        part, rebuilder, given = self._part, self._rebuilder, self._given
        deletes = part.deletes_of(rebuilder.statements, request.keys)
        if isinstance(given, rebuilding.Keyed):
            return rebuilder.rebuilt(part.version, request, given, deletes)
        return rebuilder.rebuilt_in_pieces(part.version, request, given, None, deletes)

    def _swapped(self, request: SwapRows) -> list[bool]:
        part, long = self._part, self._rebuilder.statements.long
        changes: list[Change] = [
            (each.key, each.sequence, encode_row(part.version.layout, each.row, key=long.get(each.key)))
            for each in request.swaps
        ]
        done = self._online.compare_and_put_all(
            changes,
            until=self._until,
            high_water=(greatest_key(part.project), part.asked.rebuild.end.position),
            epoch=(token_key(part.project), part.asked.epoch),
        )
        self.put += sum(done)
        return done


def _said(rows: int, put: int, left: list[bytes], stopped: str = "") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"rows": [rows], "put": [put], "left": [left], "stopped": [stopped]}, ANSWER)


def without_data(view: ResolvedView) -> ResolvedView:
    """A version without its source's data and location: what rows of it are is in the rest."""
    source = view.view.source
    plain = PushSource(event_time=source.event_time, created_time=source.created_time, event_id=source.event_id)
    definition = replace(view.definition, view=replaced(view.view, source=plain))
    return replace(view, definition=definition)


def fill_elsewhere(lease: SharedLease, driver: Driver, request: FillElsewhere) -> tuple[int, set[bytes]] | None:
    """Let the engine's processes put the rows of all keys; None where they cannot.

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
    end = request.rebuild.end.position
    deletes, purges = history.greatest_deletes(end), history.purges(0, end)
    function = FillPart(
        location,
        context.project,
        without_data(view),
        driver.version,
        request,
        deletes,
        purges,
        context.log.digests if purges else None,
        token or b"",
        lease.key,
        lease.run,
        margin(lease.lasts),
    )
    put, left, step = 0, set(deletes), f"materialize {view.name}@{view.version}"
    for batch in context.engine.each_key(history.all_events(end), function, ANSWER):
        for said in batch.to_pylist():
            if said["stopped"]:
                raise Unavailable(f"{step}: {said['stopped']}; the rows are not complete: run it again")
            put += said["put"]
            left.update(said["left"])
            history.rows += said["rows"]
    return put, left
