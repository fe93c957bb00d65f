"""A run's rows put online by processes of an engine, where the rows are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from headwater.clock import to_micros
from headwater.compute.context import StoreContext
from headwater.compute.materializing.shared_lease import PUT_TIME, LeaseEnded, SharedLease, margin, time_left
from headwater.compute.online_location import OnlineLocation
from headwater.compute.writing.put import expires_in, put_without
from headwater.compute.writing.too_large import named, too_large
from headwater.errors import ConfigError, MissingExtra, Unavailable
from headwater.offline.base import OfflineEngine
from headwater.offline.sink import Executors, PutCounts
from headwater.online.base import Capabilities, OnlineStore, PutOutcome, Row
from headwater.online.meta import greatest_key
from headwater.online.rows.encoder import VersionRows
from headwater.planning.layout import RowLayout
from headwater.planning.resolved import ResolvedKey, ResolvedView

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 65_536
"""Rows that are put at once."""


S = TypeVar("S", bound="OnlineSink")


class Stopped(Unavailable):
    """The engine's processes put no more rows of a run."""


@dataclass(frozen=True)
class Part:
    """Rows that are put at once.

    Attributes:
        online: the store.
        rows: how the version's rows are packed.
        batch: the rows ...
        pairs: ... as they are packed, those with a key.
        gone: the positions of those that are too large.
        until: microseconds by the store's clock; see `OnlineStore.put`.
    """

    online: OnlineStore
    rows: VersionRows
    batch: pa.RecordBatch
    pairs: list[Row]
    gone: list[int]
    until: int

    def keys(self) -> list[bytes]:
        """The stored keys, in order."""
        return [key for key, _ in self.pairs]

    def whole(self, keys: list[bytes]) -> list[bytes]:
        """Of some of the stored keys the whole ones: a long key is stored as its digest."""
        if not keys:
            return []
        there = (key for key in self.rows.whole_keys(self.batch) if key is not None)
        whole = dict(zip(self.keys(), there, strict=True))
        return [whole[key] for key in keys]

    def too_large(self, outcomes: list[PutOutcome]) -> list[tuple[bytes, str]]:
        """Stored key of each row that was too large, and what is said of it."""
        return [(self.pairs[i][0], text) for i, text in named(self.online, self.rows, self.pairs, outcomes)]


@dataclass(frozen=True)
class OnlineSink:
    """Puts the rows of one run online; values alone, so that it can be sent to any process (`Sink`).

    Attributes:
        location: of the online store, which is opened in the process that puts.
        project: the project.
        name, version: of the view.
        keys: its join keys.
        layout: of its rows.
        expires: seconds after which the store may drop the rows; None: never.
        position: no row has a greater log position.
        token: of the store's epoch; another store, or another life of it, has another.
        ends: the meta key of the runs' ends.
        run: the run's id.
        margin: microseconds before the run's end from which nothing more is put.
    """

    location: OnlineLocation
    project: str
    name: str
    version: str
    keys: tuple[ResolvedKey, ...]
    layout: RowLayout
    expires: int | None
    position: int
    token: bytes
    ends: bytes
    run: str
    margin: int

    def put(self, batches: Iterable[pa.RecordBatch]) -> PutCounts:
        """See `Sink.put`."""
        total = Total()
        rows = VersionRows(self.project, self.name, self.version, self.keys, self.layout)
        with ExitStack() as stack:
            online: OnlineStore | None = None
            for batch in _pieces(batches):
                if online is None:
                    # only where there are rows: many parts have none
                    try:
                        online = self.location.open()
                    except (ConfigError, MissingExtra) as bad:
                        return total.counts(f"a process of the engine cannot open the online store: {bad}")
                    stack.callback(online.close)
                pairs = rows.encode(batch)
                gone = too_large(online, self.layout, self.keys, pairs)
                # looked at before the run's end is: a process that is held up in between puts no longer for it
                now = to_micros(online.clock())
                left, why = self._left(online)
                if why:
                    return total.counts(why)
                self._put(Part(online, rows, batch, pairs, gone, now + min(left, PUT_TIME)), total)
        return total.counts()

    def _put(self, part: Part, total: Total) -> None:
        """Put some rows; what became of them is added to the total."""
        total.add(part, self._put_guarded(part))

    def _put_guarded(self, part: Part) -> list[PutOutcome]:
        high_water = (greatest_key(self.project), self.position)
        return put_without(part.gone, part.online, part.pairs, part.until, self.expires, high_water)

    def _left(self, online: OnlineStore) -> tuple[int, str]:
        """For how long the run may put, microseconds; and why it may not."""
        try:
            left, _ = time_left(self, online)
        except LeaseEnded as why:
            return 0, str(why)
        return left, ""


class Total:
    """What has become of the rows so far."""

    def __init__(self) -> None:
        self.keys = self.applied = self.superseded = 0
        self.ties: list[pa.RecordBatch] = []
        self.too_large: list[tuple[bytes, str]] = []
        self.numbers: list[NDArray[np.int64]] = []
        self.again: list[bytes] = []

    def add(self, part: Part, outcomes: list[PutOutcome]) -> None:
        self.keys += len(outcomes)
        self.applied += outcomes.count(PutOutcome.APPLIED)
        self.superseded += outcomes.count(PutOutcome.SUPERSEDED)
        self.too_large += part.too_large(outcomes)
        tied = tied_rows(part.rows, part.batch, outcomes)
        if tied is not None:
            self.ties.append(tied)

    def counts(self, stopped: str = "") -> PutCounts:
        ties = b""
        if self.ties:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, self.ties[0].schema) as writer:
                for batch in self.ties:
                    writer.write_batch(batch)
            ties = sink.getvalue().to_pybytes()
        numbers = np.concatenate(self.numbers).tobytes() if self.numbers else b""
        return PutCounts(
            self.keys, self.applied, self.superseded, ties, tuple(self.too_large), stopped, numbers, tuple(self.again)
        )


def tied_rows(rows: VersionRows, batch: pa.RecordBatch, outcomes: list[PutOutcome]) -> pa.RecordBatch | None:
    """Join keys and times of the rows of a batch that tie with stored ones; None where none does.

    Args:
        rows: how the version's rows are packed.
        batch: as it was encoded.
        outcomes: of its rows with a key, in order.
    """
    if PutOutcome.TIE not in outcomes:
        return None
    present = np.flatnonzero([key is not None for key in rows.whole_keys(batch)])
    tied = present[[outcome is PutOutcome.TIE for outcome in outcomes]]
    return batch.select([*rows.names, "__event", "__created"]).take(pa.array(tied))


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `ROWS`: an engine's own may be small, or large."""
    held: list[pa.RecordBatch] = []
    count = 0
    for given in batches:
        for batch in (given.slice(start, ROWS) for start in range(0, given.num_rows, ROWS)):
            if held and count + batch.num_rows > ROWS:
                yield _joined(held)
                held, count = [], 0
            held.append(batch)
            count += batch.num_rows
    if held:
        yield _joined(held)


def _joined(held: list[pa.RecordBatch]) -> pa.RecordBatch:
    return held[0] if len(held) == 1 else pa.concat_batches(held)


def extended(sink: OnlineSink, kind: type[S], **more: object) -> S:
    """A run's sink as one of another kind."""
    given: dict[str, Any] = {each.name: getattr(sink, each.name) for each in fields(OnlineSink)}
    return kind(**{**given, **more})


def sink_of(
    context: StoreContext, view: ResolvedView, lease: SharedLease, token: bytes, position: int
) -> OnlineSink | None:
    """A run's sink; None where there is no URL by which other processes can open the store.

    Args:
        context: the store's parts and settings.
        view: the version.
        lease: the run's.
        token: of the store's epoch.
        position: no row has a greater log position.
    """
    location = context.online_location
    if location is None:
        return None
    return OnlineSink(
        location,
        context.project,
        view.name,
        view.version,
        view.keys,
        view.layout,
        expires_in(context, view),
        position,
        token,
        lease.key,
        lease.run,
        margin(lease.lasts),
    )


def puts_elsewhere(context: StoreContext) -> bool:
    """Whether the engine's processes put a run's rows.

    Raises:
        ConfigError: they are on other machines, and the store is on this one.
    """
    executors = context.engine.executors
    if executors is Executors.NONE:
        return False
    problem = out_of_reach(context.engine, context.online.capabilities)
    if problem is not None:
        raise ConfigError(problem)
    return context.online_location is not None and context.online.capabilities.shared


def out_of_reach(engine: OfflineEngine, store: Capabilities) -> str | None:
    """What is wrong where an engine's processes cannot reach an online store; None where they can."""
    if engine.executors is not Executors.REMOTE or not store.local:
        return None
    return (
        f"[online] url: the online store is on this machine, and {type(engine).__name__} computes on others, which "
        "write to it when a view is materialized: use a store that they reach, redis:// or dynamodb://, or a session "
        'on this machine (master = "local[*]")'
    )
