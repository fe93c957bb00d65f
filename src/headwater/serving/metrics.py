"""What a worker counts, each for a fraction of a microsecond: numbers in its slot, no lock and no library call."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headwater.online.connections import ConnectionCounts
from headwater.online.fetching.fetcher import ReadCounts
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.view_read import ReadRequest
from headwater.serving.slots import Memory, Name, Slot
from headwater.types import STATUSES, Status

LOOKED_AT = 16
"""Of so many reads one is looked at for the newest event time."""
_PRESENT = STATUSES.index(Status.PRESENT)
_KEPT = 256
"""Requests of which is kept where their values are counted."""
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 100_000.0)


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is.

    Attributes:
        name: without the endings that a format adds.
        kind: `counter`, `gauge` or `histogram`.
        help: a sentence.
        labels: their names.
        bounds: the upper ends of a histogram's buckets.
        each: the values of the last label, which a series has side by side.
        greatest: whether the workers' greatest number is shown, not their sum.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    each: tuple[str, ...] = ()
    greatest: bool = False

    @property
    def width(self) -> int:
        """How many numbers a series has: a histogram's are its buckets, the one above all bounds, and the sum."""
        return len(self.bounds) + 2 if self.bounds else len(self.each) or 1


REQUESTS = Family("headwater_http_requests", COUNTER, "Requests answered.", ("route", "status"))
DURATION = Family(
    "headwater_http_request_duration_seconds", HISTOGRAM, "From a request's headers to its answer.", ("route",), SECONDS
)
UNDER_WAY = Family("headwater_http_requests_in_flight", GAUGE, "Requests being answered.")
REFUSED = Family("headwater_refused_requests", COUNTER, "Requests answered with an error.", ("reason",))
ROWS = Family("headwater_batch_size", HISTOGRAM, "Entities or rows of a request.", ("route", "service"), SIZES)
VALUES = Family(
    "headwater_feature_values", COUNTER, "Values served, by their status.", ("view", "status"), each=tuple(STATUSES)
)
NEWEST = Family(
    "headwater_served_newest_event_timestamp_seconds", GAUGE, "The newest event time served.", ("view",), greatest=True
)
CACHE = Family("headwater_cache_keys", COUNTER, "Keys looked up in the in-process cache.", ("result",))
SHARED_READS = Family("headwater_store_reads", COUNTER, "Reads that may share a round trip to the online store.")
ROUND_TRIPS = Family("headwater_store_round_trips", COUNTER, "Round trips that those reads took.")
BREAKER = Family("headwater_breaker_open", GAUGE, "Workers that refuse reads at once, since the online store failed.")
POOL = Family(
    "headwater_store_connections", GAUGE, "Connections to the online store.", ("state",), each=("idle", "in_use")
)
LATER_ROWS = Family("headwater_rows_ahead_of_clock", COUNTER, "Rows read that are known later than this host's clock.")
RESTARTS = Family("headwater_worker_restarts", COUNTER, "Workers that ended and were begun again.")

FAMILIES = {
    family.name: family
    for family in (
        *(
            REQUESTS,
            DURATION,
            UNDER_WAY,
            REFUSED,
            ROWS,
            VALUES,
            NEWEST,
            CACHE,
            SHARED_READS,
            ROUND_TRIPS,
            BREAKER,
            POOL,
        ),
        *(LATER_ROWS, RESTARTS),
    )
}


class Metrics:
    """The numbers of one worker.

    Args:
        memory: the server's; default: one of this process alone.
        index: of the slot that is this worker's.
    """

    def __init__(self, memory: Memory | None = None, index: int = 0) -> None:
        self.memory = memory or Memory()
        self.slot: Slot = self.memory.slot(index)
        for name in self.slot.known():
            # of a worker before this one
            if FAMILIES[name[0]].kind == GAUGE and not FAMILIES[name[0]].greatest:
                self.slot.reset(name)
        self._values = self.slot.values
        self._under_way = self._index(UNDER_WAY)
        self._requests: dict[tuple[str, int], tuple[int, int]] = {}
        self._rows: dict[tuple[str, str], int] = {}
        self._views: dict[str, int] = {}
        self._present: dict[ReadRequest, list[tuple[int, int]]] = {}
        self._looked = 0
        self._refused: dict[str, int] = {}
        self._counted = ReadCounts()

    def _index(self, family: Family, *labels: str) -> int:
        return self.slot.series((family.name, *labels), family.width)

    def began(self) -> None:
        """A request came."""
        self._values[self._under_way] += 1.0

    def never_began(self) -> None:
        """What was begun will be begun once more: nothing came of it."""
        self._values[self._under_way] -= 1.0

    def ended(self, route: str, status: int, seconds: float) -> None:
        """It was answered; 0: it was not, since the client went away."""
        values = self._values
        values[self._under_way] -= 1.0
        known = self._requests.get((route, status))
        if known is None:
            shown = f"{status // 100}xx" if status else "gone"
            known = self._index(REQUESTS, route, shown), self._index(DURATION, route)
            self._requests[route, status] = known
        count, duration = known
        values[count] += 1.0
        values[duration + bisect_left(SECONDS, seconds)] += 1.0
        values[duration + len(SECONDS) + 1] += seconds

    def refused(self, reason: str) -> None:
        """It was answered with an error: the title of its problem document."""
        known = self._refused.get(reason)
        if known is None:
            known = self._refused[reason] = self._index(REFUSED, reason)
        self._values[known] += 1.0

    def batch(self, route: str, service: str, size: int) -> None:
        """How many entities or rows it had; only with a service that is registered."""
        known = self._rows.get((route, service))
        if known is None:
            known = self._rows[route, service] = self._index(ROWS, route, service)
        values = self._values
        values[known + bisect_left(SIZES, size)] += 1.0
        values[known + len(SIZES) + 1] += size

    def served(self, result: OnlineResult) -> None:
        """The values of a read."""
        values = self._values
        if result.all_present:
            size = len(result)
            for known, columns in self._present.get(result.request) or self._add_present(result):
                values[known] += columns * size
        else:
            for group in result.status_groups():
                known, codes = self._of_view(result.view_name(group.view)), group.codes.tobytes()
                for code in {*codes}:
                    values[known + code] += len(group.columns) * codes.count(code)
        self._looked -= 1
        if self._looked <= 0:
            self._looked = LOOKED_AT
            for view, micros in result.newest_events().items():
                place = self._index(NEWEST, view)
                values[place] = max(values[place], micros / 1e6)

    def _add_present(self, result: OnlineResult) -> list[tuple[int, int]]:
        """Where values that are PRESENT are counted, and how many a row has there, of each view of a request."""
        if len(self._present) >= _KEPT:
            self._present.clear()
        by_view = enumerate(result.request.by_view)
        found = [(self._of_view(result.view_name(place)) + _PRESENT, len(columns)) for place, columns in by_view]
        self._present[result.request] = found
        return found

    def _of_view(self, view: str) -> int:
        known = self._views.get(view)
        if known is None:
            known = self._views[view] = self._index(VALUES, view)
        return known

    def reads(self, counts: ReadCounts) -> None:
        """Take over what stood between reads and the online store since the last call."""
        before, self._counted = self._counted, counts
        for family, label, field in _READ_COUNTS:
            index = self._index(family, *label)
            self._values[index] += getattr(counts, field) - getattr(before, field)
        self._values[self._index(BREAKER)] = float(counts.breaker_open)

    def pool(self, counts: ConnectionCounts) -> None:
        """The connections to the online store now."""
        index = self._index(POOL)
        self._values[index], self._values[index + 1] = counts.idle, counts.in_use

    def restarted(self) -> None:
        """A worker ended, and is begun again."""
        self._values[self._index(RESTARTS)] += 1.0


_READ_COUNTS: Iterable[tuple[Family, tuple[str, ...], str]] = (
    (CACHE, ("hit",), "cache_hits"),
    (CACHE, ("miss",), "cache_misses"),
    (SHARED_READS, (), "reads"),
    (ROUND_TRIPS, (), "round_trips"),
    (LATER_ROWS, (), "later"),
)

Merge = Callable[[float, float], float]


def merged(memory: Memory) -> dict[Name, list[float]]:
    """The series of all workers, each as one."""
    out: dict[Name, list[float]] = {}
    for _, _, _, series in memory.read():
        for name, values in series.items():
            merge: Merge = max if FAMILIES[name[0]].greatest else float.__add__
            before = out.get(name)
            out[name] = values if before is None else list(map(merge, before, values))
    return out
