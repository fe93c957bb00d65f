"""A store that loses its last writes, a log, a source and a lease, for the work on window rows: one step at a time.

The store keeps rows as they are encoded. Each request is a step; one of several keys is a step a key.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from headwater.compute.windows import requests as asks
from headwater.compute.windows.merging import deleted_through
from headwater.compute.windows.putting import put
from headwater.compute.windows.running import fill, run
from headwater.compute.windows.shown import shown
from headwater.compute.windows.work import Answers, Work
from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows.codec import decode_row, encode_row
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import NEVER, WindowRow
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import window_layout
from headwater.testing.window_rows import counted, rebuilt
from headwater.types import Int64

TOLERANCE = 3
RECORD = b"record"
EACH = Aggregation("n", "last_n", None, n=1_000, name="each")
"""What tells which events are in a row."""
LAYOUT = window_layout([EACH, Aggregation("n", "sum", "6us", hop="2us")], {"n": Int64}, ids=3)
(WHICH,) = (i for i, each in enumerate(LAYOUT.lists) if each.kind == "latest")


@lru_cache(maxsize=256)
def _decoded(data: bytes) -> WindowRow:
    """A stored row, which nobody changes."""
    return decode_row(LAYOUT, data)


class Sourced(NamedTuple):
    """A row of the source."""

    key: bytes
    event: WindowEvent


class Appended(NamedTuple):
    """What one transaction appended to the log: by key, each at its own last position; `position`: the last of all."""

    position: int
    arrival: int
    batches: dict[bytes, asks.Batch]


def held(row: WindowRow) -> list[int]:
    """The numbers of the events that are in a row."""
    states = row.lists[WHICH].states
    return sorted(entry.value for entry in states[0]) if states else []


def numbers(events: Any) -> list[int]:
    """The numbers of events, of those with one id the least."""
    return sorted(event.values["n"] for event in counted(events))


class World:
    """What the processes share; `bad` names rules of the log or the source that are left out."""

    def __init__(self, r: random.Random, bad: str = "") -> None:
        self.r, self.bad = r, bad
        self.version = asks.Version(LAYOUT, TOLERANCE, most_listed=r.choice([2, 4]), tries=4, fold_tries=1)
        self.log: list[Appended] = []
        self.source: list[Sourced] = []
        self.position, self.clock, self.epoch = 0, 20, 0
        self.lease = self.restored = self.lost = self.statements = 0
        self.ops: list[tuple[bytes, Any]] = []
        self.store: dict[bytes, Any] = {}
        self.acknowledged: set[tuple[bytes, int, int]] = set()
        self.id_times: dict[int, int] = {}
        self.taken: dict[int, SourceThrough] = {}
        """What each run listed of the source."""
        self.count: Counter[str] = Counter()

    # what is stored

    def set(self, key: bytes, value: Any) -> None:
        self.ops.append((key, value))
        self.store[key] = value

    def row(self, key: bytes) -> WindowRow | None:
        data = self.store.get(key)
        return None if data is None else _decoded(data)

    @property
    def record(self) -> FillRecord | None:
        return self.store.get(RECORD)

    def shown(self, key: bytes) -> WindowRow | None:
        return shown(LAYOUT, self.record, self.row(key))

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def swap(self, swap: asks.Swap) -> bool:
        stored = self.row(swap.key)
        if swap.epoch is not None and swap.epoch != self.epoch:
            return False
        if (0 if stored is None else stored.sequence) != swap.sequence:
            return False
        assert swap.row.sequence not in (0, swap.sequence)
        self.count["rebuilt"] += swap.row.run > (0 if stored is None else stored.run)
        self.count["flags"] += swap.row.rebuild
        self.set(swap.key, encode_row(LAYOUT, swap.row))
        return True

    def read(self, request: asks.ReadRows) -> Generator[None, None, asks.Snapshot]:
        epoch, record, rows = self.epoch, self.record, {}
        apart = self.r.random() < 0.5
        for key in request.keys:
            if apart:
                yield
            rows[key] = self.row(key)
        return asks.Snapshot(epoch if request.epoch else None, record, rows)

    def swap_all(self, request: asks.SwapRows) -> Generator[None, None, list[bool]]:
        done = []
        for swap in request.swaps:
            done.append(self.swap(swap))
            yield
        return done

    def promised(self, key: bytes) -> FillRecord | None:
        """What is promised of the rows of a key, also of one that is missing."""
        return self.record

    def write_record(self, given: asks.WriteRecord) -> Generator[None, None, asks.Written]:
        yield from ()
        if given.epoch != self.epoch:
            return asks.Written.EPOCH
        if given.expected != self.record:
            return asks.Written.CHANGED
        self.count["fills"] += given.record.fill > (given.expected.fill if given.expected else 0)
        self.set(RECORD, given.record)
        return asks.Written.DONE

    # what goes wrong

    def lose(self) -> None:
        self.lost += 1
        self.acknowledged = set()

    def fail_over(self) -> None:
        """Loses the last writes: some number of them, or back to before the last write of the record."""
        record = max((i for i, (key, _) in enumerate(self.ops) if key == RECORD), default=0)
        fewer = [max(0, len(self.ops) - n) for n in (1, 2, 5, 20, 60)]
        self.ops = self.ops[: self.r.choice([record, record, *fewer])]
        self.store = dict(self.ops)
        self.epoch += 1
        self.lose()

    def flush(self) -> None:
        self.ops, self.store = [], {}
        # FLUSHALL keeps the replication id of a Redis
        self.epoch += self.r.choice([0, 1])
        self.lose()

    def restore(self) -> None:
        """The registry at an earlier point: the log is a prefix; the counter rises above what the store shows."""
        last = len(self.log)
        self.log = self.log[: self.r.choice([self.r.randrange(last + 1), max(0, last - 1), max(0, last - 2)])]
        self.position = self.log[-1].position if self.log else 0
        self.position = max(self.position, *self.shows(), 0)
        self.restored, self.lease = self.tick(), 0
        self.lose()

    def shows(self) -> list[int]:
        """The log positions that the store has."""
        found = []
        for key in self.store:
            row = None if key == RECORD else self.row(key)
            if row is not None:
                found += [row.applied_through, row.delete_position, *row.listed]
            elif self.record:
                found.append(self.record.low)
        return found

    # the log and the source

    def append(self, events: dict[bytes, list[Any]], deletes: dict[bytes, int]) -> Appended:
        made: dict[bytes, list[WindowEvent]] = {}
        given = [(key, each) for key, some in events.items() for each in some]
        # rows of different keys take turns
        self.r.shuffle(given)
        for key, (number, name, time, created) in given:
            self.position += 1
            at = self.clock if created is None else created
            made.setdefault(key, []).append(WindowEvent(time, at, True, self.position, {"n": number}, id=name))
        batches = {key: asks.Batch(some[-1].position, self.clock, some) for key, some in made.items()}
        for key, through in deletes.items():
            self.position += 1
            batches[key] = asks.Batch(self.position, self.clock, delete=through)
        self.log.append(Appended(self.position, self.clock, batches))
        late = self.clock + TOLERANCE
        self.count["withheld"] += sum(e.known_at > late for each in made.values() for e in each)
        return self.log[-1]

    def batches(self, key: bytes, after: int = 0, through: int = 2**60) -> list[asks.Batch]:
        """The batches of a key at positions in (after, through]."""
        mine = [each.batches[key] for each in self.log if key in each.batches]
        return [batch for batch in mine if after < batch.position <= through]

    def listed(self, through: SourceThrough) -> list[Sourced]:
        return [each for each in self.source[: through.listed] if each.event.known_at <= through.known_at]

    def log_ends(self, request: asks.SliceEnds) -> list[int]:
        """Some of the positions at which transactions end."""
        inside = [each.position for each in self.log if request.after < each.position < request.through]
        if self.bad == "ends-anywhere":
            inside = list(range(request.after + 1, request.through))
        return [*sorted(self.r.sample(inside, min(len(inside), self.r.choice([0, 0, 1, 2, 5])))), request.through]

    def behind(self, request: asks.KeysFarBehind) -> set[bytes]:
        return (
            set(self.slice(asks.DueBatches(request.after, request.through, request.since, request.until)))
            if self.r.random() < 0.3
            else set()
        )

    def slice(self, request: asks.DueBatches) -> dict[bytes, asks.Due]:
        due: dict[bytes, asks.Due] = {}
        for key, batch in [(key, batch) for each in self.log for key, batch in each.batches.items()]:
            if request.keys is not None and key not in request.keys:
                continue
            # the log's rows are taken by their own positions, so that a range may begin within a batch
            events = [event for event in batch.events if request.after < event.position <= request.through]
            if batch.delete is not None and request.after < batch.position <= request.through:
                fresh = due.setdefault(key, asks.Due()).fresh
                # of several deletes the greatest position and D are one
                through = max(batch.delete, *(each.delete or NEVER for each in fresh), NEVER)
                fresh[:] = [each for each in fresh if each.delete is None]
                fresh.append(batch._replace(delete=through))
            elif events:
                fresh = due.setdefault(key, asks.Due()).fresh
                fresh.append(batch._replace(position=events[-1].position, events=events))
            if batch.position > request.through or (self.bad == "due-low" and batch.position <= request.after):
                continue
            after = max(request.since, batch.arrival + TOLERANCE)
            if any(after < event.known_at <= request.until for event in batch.events):
                due.setdefault(key, asks.Due()).withheld.append(batch)
        return due

    def named(self, request: asks.NamedKeys) -> set[bytes]:
        keys = {
            key
            for each in self.log
            for key, batch in each.batches.items()
            if batch.position <= request.through and (batch.delete is None or self.bad != "fill-visible")
        }
        return keys | {each.key for each in self.source[: request.source.listed]}

    def parts(self, request: asks.PartsOf) -> Iterator[list[bytes]]:
        named = self.named(asks.NamedKeys(request.source, request.through)) if request.keys is None else request.keys
        return iter([sorted(named)] if named else [])

    def rebuild(self, request: asks.RebuiltRows) -> Generator[None, None, dict[bytes, WindowRow]]:
        """From log and source, which are read one after the other."""
        log = {key: self.batches(key, 0, request.end.position) for key in request.keys}
        yield
        listed = self.listed(request.source)
        source = {key: [each.event for each in listed if each.key == key] for key in request.keys}
        about: Any = {"fill": request.fill, "run": request.run, "end": request.end}
        return {key: rebuilt(self.version, log=log[key], source=source[key], **about) for key in request.keys}

    def elsewhere(self, request: asks.FillElsewhere) -> Generator[None, None, set[bytes] | None]:
        """Rows made by other processes than the run's; here there are none."""
        yield from ()

    def take_lease(self) -> int:
        self.lease = self.tick()
        return self.lease

    def answers(self) -> Answers:
        """What answers each request: a value where that is one step, else a generator of its steps."""
        return {
            asks.ReadRows: self.read,
            asks.SwapRows: self.swap_all,
            asks.WriteRecord: self.write_record,
            asks.NarrowEpoch: self.narrow,
            asks.LogEnd: lambda _: asks.End(self.position, self.clock),
            asks.BatchesOf: lambda r: {key: self.batches(key, r.after, r.through) for key in r.keys},
            asks.SliceEnds: self.log_ends,
            asks.DueBatches: self.slice,
            asks.KeysFarBehind: self.behind,
            asks.NextNumber: lambda _: self.next_number(),
            asks.LastRestore: lambda _: self.restored,
            asks.ListSource: lambda _: self.list_source(),
            asks.NewSourceKeys: self.new_keys,
            asks.NamedKeys: self.named,
            asks.PartsOf: self.parts,
            asks.RebuiltRows: self.rebuild,
            asks.FillElsewhere: self.elsewhere,
            asks.TakeLease: lambda _: self.take_lease(),
            asks.HoldsLease: lambda r: self.lease == r.number,
        }

    def narrow(self, request: asks.NarrowEpoch) -> tuple[Any, set[bytes]] | None:
        return (request.epoch, set()) if request.epoch == self.epoch else None

    def next_number(self) -> int:
        return self.r.randrange(1, 2 * self.clock) if self.bad == "fill-random" else self.tick()

    def list_source(self) -> asks.Listed:
        return asks.Listed(asks.End(self.position, self.clock), SourceThrough(len(self.source), self.clock))

    def new_keys(self, request: asks.NewSourceKeys) -> set[bytes]:
        old = {id(each) for each in self.listed(request.since)}
        return {each.key for each in self.listed(request.source) if id(each) not in old}

    def steps(self, work: Work[Any]) -> Generator[None, None, Any]:
        """The work of one process; it stops before each thing that it does to what is shared."""
        answer: Any = None
        number = 0
        while True:
            try:
                request = work.send(answer)
            except StopIteration as done:
                return done.value
            yield
            answer = self.answers()[type(request)](request)
            if isinstance(answer, Generator):
                answer = yield from answer
            if isinstance(request, asks.TakeLease):
                number = answer
            elif isinstance(request, asks.ListSource):
                self.taken[number] = answer.source

    # what processes do

    def put(self, given: Appended) -> Generator[None, None, None]:
        lost = self.lost
        report = yield from self.steps(put(self.version, given.batches))
        for key in report.applied:
            batch = given.batches[key]
            row = self.row(key)
            # not one that went with the store, nor one from before a restore, which the new fill may drop
            if lost == self.lost and row is not None and row.fill > self.restored:
                self.acknowledged.add((key, batch.position, batch.arrival))

    def delete(self, keys: list[bytes]) -> Generator[None, None, None]:
        rows = {key: self.row(key) for key in keys}
        newest = {key: NEVER if row is None else row.newest_known for key, row in rows.items()}
        yield
        through = {key: deleted_through(self.clock, known, TOLERANCE) for key, known in newest.items()}
        yield from self.put(self.append({}, through))

    def run(self, *, source: bool = True, force: Any = ()) -> Generator[None, None, asks.End | None]:
        return (yield from self.steps(run(self.version, source=source, force=force)))

    def fill(self) -> Generator[None, None, asks.End | None]:
        return (yield from self.steps(fill(self.version)))
