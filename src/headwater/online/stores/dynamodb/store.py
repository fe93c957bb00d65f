"""DynamoDB: one table for all views; the guard is a condition of each write."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from headwater import forks
from headwater.clock import Clock as WallClock
from headwater.clock import system_clock, to_micros
from headwater.errors import Unavailable, was_closed
from headwater.online.base import (
    Capabilities,
    Change,
    Epoch,
    HighWater,
    OnlineStore,
    PutOutcome,
    Row,
    new_token,
    too_late,
)
from headwater.online.connections import ConnectionCounts
from headwater.online.meta import is_fill_record
from headwater.online.powers import UNREAD, Reading
from headwater.online.rows.keys import NAMESPACE_SIZE
from headwater.online.stores.dynamodb import reads as plans
from headwater.online.stores.dynamodb import table as tables
from headwater.online.stores.dynamodb.calls import Bound, Call, NoTable, Patience, Plan, Window
from headwater.online.stores.dynamodb.items import BUCKETS, MAX_ROW_BYTES, Attributes
from headwater.online.stores.dynamodb.url import DynamoDBLocation, parse_url
from headwater.online.stores.dynamodb.wire import AsyncWire, Wire
from headwater.types import ConsistencyLevel

T = TypeVar("T")
S = TypeVar("S")
_WAVE = 2_000
"""Rows with distinct keys that are put at once."""
_SCANNED = 8
"""Buckets of a namespace that are read at once."""
_MADE_WITHIN = 120.0
"""Seconds that a table may take to be made."""


class DynamoDBOnlineStore(OnlineStore):
    """Rows in one DynamoDB table; a put is atomic for each row, by a condition in the service itself.

    Reads are consistent but for eventual ones. Many keys are read, and many rows put, by requests side by side, on
    threads of this store.

    Args:
        location: where DynamoDB is; `from_url` reads one from a URL.
        wall_clock: tells when rows may expire: the service drops them by the real time, whatever `clock` is.
    """

    capabilities = Capabilities(
        levels=frozenset(ConsistencyLevel), expiry=True, max_row_bytes=MAX_ROW_BYTES, windows=True
    )

    def __init__(self, location: DynamoDBLocation | str, wall_clock: WallClock = system_clock) -> None:
        self.location = parse_url(location) if isinstance(location, str) else location
        self._wall_clock = wall_clock
        self._window = Window()
        self._made: tuple[Wire, ThreadPoolExecutor] | None = None
        self._lock, self._making = forks.lock(), forks.lock()
        self._closed = False
        forks.after_fork(self, DynamoDBOnlineStore._in_child)

    def _in_child(self) -> None:
        forks.abandon(self._made)
        self._made = None

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """A store for `dynamodb://region?table=name`."""
        return cls(parse_url(url))

    def __repr__(self) -> str:
        return f"<DynamoDBOnlineStore {self.location.shown}>"

    # asking

    def _client(self) -> tuple[Wire, ThreadPoolExecutor]:
        """The client of this process, made at its first use."""
        made = self._made
        if made is not None:
            return made
        with self._lock:
            if self._closed:
                raise self._was_closed()
            if self._made is None:
                pool = ThreadPoolExecutor(self.location.connections, thread_name_prefix="headwater-dynamodb")
                self._made = (Wire(self.location), pool)
            return self._made

    def _was_closed(self) -> Unavailable:
        return was_closed(f"{self.location.shown} was closed")

    def _begin(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Begin something on a thread."""
        try:
            return self._client()[1].submit(work, *args)
        except RuntimeError as shut:
            raise self._was_closed() from shut

    def _end(self, future: Future[T]) -> T:
        """What came of it."""
        try:
            return future.result()
        except CancelledError as shut:
            raise self._was_closed() from shut

    def _run(self, plan: Plan[T]) -> T:
        """Do what a plan says, on this thread."""
        wire = self._client()[0]
        try:
            step = next(plan)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = plan.send(None)
                else:
                    step = plan.send(wire.send(step))
        except StopIteration as done:
            found: T = done.value
            return found

    def _side_by_side(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Do something for each item, on threads where there are several; a failure ends what has not begun."""
        if len(items) <= 1:
            return [work(item) for item in items]
        futures: list[Future[T]] = []
        try:
            for item in items:
                futures.append(self._begin(work, item))
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # what has begun is waited for, also where this is interrupted: then nothing is written any more
            begun = [future for future in futures if not future.cancel()]
            wait(begun)
        for future in begun:
            future.result()
        return [self._end(future) for future in futures]

    def _reading(self) -> Call:
        return Call(self.location, Patience(self.location.patience))

    def _writing(self, bound: Bound | None = None, repeatable: bool = True) -> Call:
        return Call(self.location, Patience(self.location.write_patience), repeatable, bound)

    def _bound(self, until: int | None) -> Bound | None:
        """`until`, which is by the store's clock, by those of the host; what is too late already is refused."""
        if until is None:
            return None
        left = until - to_micros(self.clock())
        if left < 0:
            raise too_late(self.location.shown)
        return Bound.within(left / 1e6, self._window)

    def _write(self, plan: Callable[[], Plan[T]]) -> T:
        """Do one write on this thread; where the table is not there it is made first."""
        try:
            return self._run(plan())
        except NoTable:
            with self._making:
                self.provision()
            return self._run(plan())

    # rows

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return self.read(keys, ConsistencyLevel.STRONG, None).rows
        except NoTable:
            # the first write makes it; reads for users say that it is not there
            return [None] * len(keys)

    def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        ahead, others = _in_two(keys)
        if ahead:
            began = time.monotonic()
            first = self.read(ahead, level, marks, deadline)
            left = None if deadline is None else max(0.0, deadline - (time.monotonic() - began))
            # a row from before the fill that the record tells of would count as missing
            return _joined(keys, ahead, first, others, self.read(others, ConsistencyLevel.STRONG, marks, left))
        chunks = plans.chunks(keys)
        consistent = level is not ConsistencyLevel.EVENTUAL
        if deadline is None:
            found = self._side_by_side(
                lambda chunk: self._run(plans.get_chunk(self._reading(), chunk, consistent)), chunks
            )
            return reading(keys, chunks, found)
        call = Call(self.location, Patience(deadline))
        asked: list[Future[dict[bytes, bytes]]] = []
        try:
            for chunk in chunks:
                asked.append(self._begin(self._run, plans.get_chunk(call, chunk, consistent)))
            done, _ = wait(asked, timeout=max(0.0, call.patience.left))
        finally:
            for future in asked:
                future.cancel()
        if self._closed:
            raise self._was_closed()
        return reading(keys, chunks, [_in_time(future) if future in done else None for future in asked])

    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        bound = self._bound(until)
        expires_at = None if expires_in is None else int(self._wall_clock().timestamp()) + expires_in
        self._raise(high_water, bound)
        outcomes: list[PutOutcome] = []
        for wave in _waves(rows):
            outcomes += self._side_by_side(lambda row: self._put_row(row, expires_at, bound), wave)
        return outcomes

    def _put_row(self, row: Row, expires_at: int | None, bound: Bound | None) -> PutOutcome:
        return self._write(lambda: plans.put_row(self._writing(bound), *row, expires_at))

    def _raise(self, high_water: HighWater | None, bound: Bound | None) -> None:
        """Raise a number before what it speaks for is written: a crash in between leaves it too high, which is safe."""
        if high_water is not None and high_water[1] > 0:
            self._write(lambda: plans.raise_number(self._writing(bound), *high_water))

    def compare_and_put(
        self,
        key: bytes,
        sequence: int,
        row: bytes | None,
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
        epoch: Epoch | None = None,
    ) -> bool:
        return self.compare_and_put_all([(key, sequence, row)], until=until, high_water=high_water, epoch=epoch)[0]

    def compare_and_put_all(
        self,
        changes: Sequence[Change],
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
        epoch: Epoch | None = None,
    ) -> list[bool]:
        bound = self._bound(until)
        self._raise(high_water, bound)
        # rows of a table are lost with the table alone, whose identity is part of the epoch
        if epoch is not None and changes and self.epoch(epoch[0]) != epoch[1]:
            return [False] * len(changes)
        done: list[bool] = []
        for start in range(0, len(changes), _WAVE):
            done += self._side_by_side(lambda change: self._swap(change, bound), changes[start : start + _WAVE])
        return done

    def _swap(self, change: Change, bound: Bound | None) -> bool:
        # not sent again where it may have been done: the second would be refused for the first
        return self._write(lambda: plans.compare_and_put(self._writing(bound, repeatable=False), *change))

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: Epoch | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        """As `OnlineStore.put_meta`; entries and what is compared have at most 100 keys together."""
        wanted = dict(expected or {})
        if epoch is not None:
            key, lives = epoch
            table = self._write(lambda: tables.identity(self._writing()))
            if not lives.endswith(table):
                return False
            wanted[key] = lives.removesuffix(table)
        self._raise(high_water, None)
        return self._write(lambda: plans.put_meta(self._writing(), entries, wanted))

    def epoch(self, key: bytes) -> bytes:
        """The token under a key, and the table's own id: a backup that is restored under its name has the token too."""
        token = self._write(lambda: plans.put_absent(self._writing(), key, new_token()))
        return token + self._write(lambda: tables.identity(self._writing()))

    def delete(self, keys: Iterable[bytes]) -> None:
        some = iter(keys)
        while wave := list(dict.fromkeys(islice(some, _WAVE))):
            batches = plans.batches([plans.delete_request(key) for key in wave])
            with suppress(NoTable):
                self._side_by_side(lambda batch: self._run(plans.write_batch(self._writing(), batch)), batches)

    def scan(self, prefix: bytes) -> Iterator[Row]:
        """As `OnlineStore.scan`; a prefix shorter than a namespace takes a read of the whole table."""
        if len(prefix) < NAMESPACE_SIZE:
            yield from self._following(prefix, None, self._page(prefix, None))
            return
        # the first pages of some buckets are asked for while those before them are read
        ahead: deque[tuple[int, Future[plans.Page]]] = deque()
        buckets, born = iter(range(BUCKETS)), forks.generation()
        try:
            while True:
                for bucket in islice(buckets, _SCANNED - len(ahead)):
                    ahead.append((bucket, self._begin(self._page, prefix, bucket)))
                if not ahead:
                    return
                bucket, first = ahead.popleft()
                yield from self._following(prefix, bucket, self._end(first))
                forks.check_same(born, f"a scan of {self.location.shown}")
        finally:
            if born == forks.generation():
                for _, future in ahead:
                    future.cancel()
            else:
                forks.abandon(ahead)

    def _page(self, prefix: bytes, bucket: int | None, start: Attributes | None = None) -> plans.Page:
        return self._run(plans.get_page(self._reading(), start, prefix, bucket))

    def _following(self, prefix: bytes, bucket: int | None, page: plans.Page) -> Iterator[Row]:
        """The rows of a page, and of those that follow it."""
        while True:
            yield from plans.pairs(page, prefix)
            if page.LastEvaluatedKey is None:
                return
            page = self._page(prefix, bucket, page.LastEvaluatedKey)

    # powers

    def provision(self) -> None:
        """Make the table where it is not there (see `powers.Provisioned`)."""
        self._run(tables.provision(Call(self.location, Patience(_MADE_WITHIN))))

    def connections(self) -> ConnectionCounts:
        made = self._made
        return ConnectionCounts() if made is None else made[0].connections()

    def asynchronous(self) -> DynamoDBReads:
        """Reads for the running event loop."""
        return DynamoDBReads(self.location)

    def info(self) -> Mapping[str, str | int]:
        return self._run(tables.table_info(self._reading()))

    def close(self) -> None:
        with self._lock:
            self._closed, made, self._made = True, self._made, None
        if made is not None:
            made[1].shutdown(wait=False, cancel_futures=True)
            made[0].close()


class DynamoDBReads:
    """Reads on an asynchronous client, of one event loop."""

    def __init__(self, location: DynamoDBLocation) -> None:
        self.location = location
        self._wire = AsyncWire(location)
        self._turns = asyncio.Semaphore(location.connections)
        self._closed = False

    async def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `DynamoDBOnlineStore.multi_get`."""
        try:
            return (await self.read(keys, ConsistencyLevel.STRONG, None)).rows
        except NoTable:
            return [None] * len(keys)

    async def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        """As `DynamoDBOnlineStore.read`."""
        ahead, others = _in_two(keys)
        if ahead:
            began = time.monotonic()
            first = await self.read(ahead, level, marks, deadline)
            left = None if deadline is None else max(0.0, deadline - (time.monotonic() - began))
            # a row from before the fill that the record tells of would count as missing
            return _joined(keys, ahead, first, others, await self.read(others, ConsistencyLevel.STRONG, marks, left))
        chunks = plans.chunks(keys)
        if not chunks:
            return Reading([], {})
        self._check_open()
        consistent = level is not ConsistencyLevel.EVENTUAL
        asked = [asyncio.ensure_future(self._chunk(chunk, consistent, deadline)) for chunk in chunks]
        try:
            until = asyncio.FIRST_EXCEPTION if deadline is None else asyncio.ALL_COMPLETED
            done, _ = await asyncio.wait(asked, timeout=deadline, return_when=until)
        finally:
            for task in asked:
                task.cancel()
            # a request that is cut off ends its connection before this returns
            await asyncio.gather(*asked, return_exceptions=True)
        if deadline is None:
            for task in done:
                task.result()
            return reading(keys, chunks, [task.result() for task in asked])
        return reading(keys, chunks, [_in_time(task) if task in done else None for task in asked])

    async def _chunk(self, keys: Sequence[bytes], consistent: bool, deadline: float | None) -> dict[bytes, bytes]:
        # one that waits for its turn does not use up its time, but that of a deadline
        async with self._turns:
            seconds = self.location.patience if deadline is None else deadline
            return await self._run(plans.get_chunk(Call(self.location, Patience(seconds)), keys, consistent))

    async def _run(self, plan: Plan[T]) -> T:
        try:
            step = next(plan)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = plan.send(None)
                else:
                    self._check_open()
                    step = plan.send(await self._wire.send(step))
        except StopIteration as done:
            found: T = done.value
            return found

    def connections(self) -> ConnectionCounts:
        """As `Pooled.connections`."""
        return self._wire.connections()

    def _check_open(self) -> None:
        if self._closed:
            raise was_closed(f"{self.location.shown} was closed")

    async def close(self) -> None:
        """End the connections; nothing is asked any more."""
        self._closed = True
        await self._wire.close()


def _in_two(keys: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Fill records, and what is read after them: the service reads keys in any order; none where one read is enough."""
    ahead = [key for key in dict.fromkeys(keys) if is_fill_record(key)]
    others = [key for key in keys if not is_fill_record(key)] if ahead else []
    return (ahead, others) if others else ([], [])


def _joined(
    keys: Sequence[bytes], ahead: Sequence[bytes], first: Reading, others: Sequence[bytes], rest: Reading
) -> Reading:
    rows = dict(zip([*ahead, *others], [*first.rows, *rest.rows], strict=True))
    return Reading([rows[key] for key in keys], {})


def _in_time(done: Any) -> dict[bytes, bytes] | None:
    """What a chunk has; None where it could not be read."""
    try:
        found: dict[bytes, bytes] = done.result()
        return found
    except (Unavailable, CancelledError):
        return None


def reading(
    keys: Sequence[bytes], chunks: Sequence[Sequence[bytes]], found: Sequence[dict[bytes, bytes] | None]
) -> Reading:
    """The rows of keys, in order, from what each chunk has; None: it was not read in time."""
    rows: dict[bytes, bytes] = {}
    for chunk, part in zip(chunks, found, strict=True):
        rows |= dict.fromkeys(chunk, UNREAD) if part is None else part
    return Reading(list(map(rows.get, keys)), {})


def _waves(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in the order given, in lists in which no key is there twice."""
    wave: list[Row] = []
    seen: set[bytes] = set()
    for row in rows:
        if row[0] in seen or len(wave) == _WAVE:
            yield wave
            wave, seen = [], set()
        wave.append(row)
        seen.add(row[0])
    if wave:
        yield wave
