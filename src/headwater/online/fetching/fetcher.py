"""From keys to rows: the one call to the store behind a read, by its level, and what configuration puts around it.

In order, each off unless set: kept rows (`RowCache`, eventual reads alone), shared round trips (`Coalescer`, reads
without a session or deadline), a circuit breaker, and tries again of reads that found the store unavailable. The
synchronous and the asynchronous way share all but the call itself.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from headwater.deferred import deferred
from headwater.errors import ConsistencyLost, Unavailable
from headwater.forks import OfOneProcess
from headwater.online.base import OnlineStore
from headwater.online.fetching.breaker import CircuitBreaker
from headwater.online.powers import UNREAD, AsyncReads, Begun, Immediate, LeveledReads, Reading
from headwater.online.reading.reader import ClockCounts
from headwater.online.rows.keys import META_PREFIX
from headwater.online.session import Session
from headwater.types import ConsistencyLevel
from headwater.values import Value

random = deferred("random")

if TYPE_CHECKING:
    import asyncio

    from headwater.online.fetching import coalescing, row_cache
else:
    coalescing = deferred("headwater.online.fetching.coalescing")
    row_cache = deferred("headwater.online.fetching.row_cache")
    asyncio = deferred("asyncio")

Rows = list[bytes | None]
_EVENTUAL = ConsistencyLevel.EVENTUAL
_COVERING = frozenset({ConsistencyLevel.SESSION, ConsistencyLevel.MONOTONIC_READ})
_LONGEST_PAUSE = 0.05
"""Seconds before a read is tried again, at most; doubled each time."""


class ReadSettings(Value, frozen=True):
    """What stands between a read and the store.

    Attributes:
        coalesce: concurrent small reads share round trips; None: those of event loops, of stores over a network.
        cache: seconds that rows are kept in this process for eventual reads: how far these may lag at most beyond the
            store's own; 0: none are.
        cache_rows: how many rows are kept at most.
        retries: how often a read that finds the store unavailable is tried again, but by a store that does so itself.
        breaker_failures: so many failures in a row, and reads fail at once for a while; 0: never.
        breaker_rest: seconds of that while.
    """

    coalesce: bool | None = None
    cache: float = 0.0
    cache_rows: int = 100_000
    retries: int = 1
    breaker_failures: int = 0
    breaker_rest: float = 1.0


class Ask(Value, frozen=True):
    """How one read wants its rows.

    Attributes:
        level: its consistency level.
        session: what it goes on from, and advances; None: none.
        deadline: seconds; what is not there by then is UNAVAILABLE. None: the store's own time-outs, and an error.
    """

    level: ConsistencyLevel = _EVENTUAL
    session: Session | None = None
    deadline: float | None = None

    @property
    def alone(self) -> bool:
        """Whether the read shares nothing with others."""
        return self.session is not None or self.deadline is not None


PLAIN = Ask()


class ReadCounts(Value, frozen=True):
    """What stood between this process's reads and the online store since it was opened.

    Attributes:
        cache_hits, cache_misses: keys of reads that may use the in-process cache: found there, and not.
        reads, round_trips: reads that may share a round trip, and how many those took.
        breaker_open: whether reads are refused just now, since the store kept failing.
        later: rows known, or deleted, later than this host's clock, that were answered as of that instant; by each view
            and distinct key of a read.
        most_ahead: by how much the latest of them was ahead of the clock.
        not_known: rows that were too much later: NOT_KNOWN.
    """

    cache_hits: int = 0
    cache_misses: int = 0
    reads: int = 0
    round_trips: int = 0
    breaker_open: bool = False
    later: int = 0
    most_ahead: timedelta = timedelta()
    not_known: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """The share of keys found in the cache; None where none was asked for."""
        asked = self.cache_hits + self.cache_misses
        return self.cache_hits / asked if asked else None


def surest(store: OnlineStore, deadline: float | None = None) -> Ask:
    """How what a store holds beside its rows is asked for: at the strongest level that it gives.

    Args:
        store: the store.
        deadline: seconds that it may take; None: as long as it takes.
    """
    strong = ConsistencyLevel.STRONG in store.capabilities.levels
    return Ask(ConsistencyLevel.STRONG if strong else ConsistencyLevel.EVENTUAL, None, deadline)


class _Around(OfOneProcess):
    """What both ways of reading share: settings, kept rows, the breaker, and how an answer is taken.

    Args:
        settings: see there.
        name: tells the store's name, which sessions carry.
        token_key: where the token of the store's epoch is kept; empty: sessions are not held to it.

    Attributes:
        clock: what reads found that is later than this host's clock.
    """

    def __init__(self, settings: ReadSettings, name: Callable[[], str], token_key: bytes) -> None:
        self.clock = ClockCounts()
        self.settings = settings
        self.name = name
        self.token_key = token_key
        self.cache = row_cache.RowCache(settings.cache, settings.cache_rows) if settings.cache > 0 else None
        self.breaker = CircuitBreaker(settings.breaker_failures, settings.breaker_rest)
        self.coalescers: Sequence[coalescing.Coalescer | coalescing.AsyncCoalescer] = ()

    def counts(self) -> ReadCounts:
        """What became of the reads so far."""
        hits, misses = (0, 0) if self.cache is None else (self.cache.hits, self.cache.misses)
        shared = self.coalescers
        clock = self.clock
        return ReadCounts(
            hits,
            misses,
            sum(s.reads for s in shared),
            sum(s.trips for s in shared),
            self.breaker.open,
            clock.later,
            timedelta(microseconds=clock.most),
            clock.not_known,
        )

    def kept(self, keys: Sequence[bytes], ask: Ask) -> tuple[Rows, list[int]] | None:
        """What is kept of the keys, and the places of the others; None where the read may not use it."""
        if self.cache is None or ask.level is not _EVENTUAL or ask.session is not None:
            return None
        if keys and keys[0].startswith(META_PREFIX):
            # a row that was read before the fill record beside it may be of an older fill, and count as missing
            return None
        return self.cache.find(keys)

    def marks(self, ask: Ask) -> Mapping[str, int] | None:
        """The marks that a read goes on from."""
        return None if ask.session is None else dict(ask.session.marks)

    def asked(self, keys: Sequence[bytes], ask: Ask) -> Sequence[bytes]:
        """The keys to ask the store for: with a session also that of the epoch's token."""
        return keys if ask.session is None or not self.token_key else [*keys, self.token_key]

    def took(self, ask: Ask, marks: Mapping[str, int] | None, reading: Reading) -> Rows:
        """Note an answer in the session.

        Raises:
            ConsistencyLost: the session has seen the store in another epoch.
        """
        session, rows = ask.session, reading.rows
        token: bytes | None = UNREAD
        if session is None:
            return rows
        if self.token_key:
            *rows, token = rows
        covers = ask.level in _COVERING
        if covers and token != UNREAD and not session.is_of(token):
            raise ConsistencyLost(
                "data that this session has seen may be lost: the registry was restored, or the online store emptied "
                "or taken over; continue with the error's .session",
                marks=reading.marks,
            )
        # a strong read sees what this epoch of the primary has, which may lack what the session has seen in another
        epoch = None if token == UNREAD else token
        session.advance(self.name(), reading.marks, covered=marks if covers else None, epoch=epoch)
        return rows

    def lost(self, bad: ConsistencyLost) -> None:
        """Give an error the session to go on with."""
        bad.session = Session(self.name(), bad.marks)

    def again(self, bad: Unavailable, tries: int, ask: Ask, began: float) -> float | None:
        """Seconds until a read that failed is tried again; None: not any more."""
        if bad.closed:
            return None
        self.breaker.failed(bad)
        if bad.patient or tries >= self.settings.retries or self.breaker.open:
            return None
        pause: float = random.uniform(0, _LONGEST_PAUSE) * 2**tries
        if ask.deadline is not None and time.monotonic() + pause - began > ask.deadline:
            return None
        return pause

    def without(self, bad: Unavailable, keys: Sequence[bytes], ask: Ask) -> Rows:
        """What a read with a deadline has of keys that could not be read; of another one the error stands.

        So it does for a store that was closed: that is the caller's mistake, and no later read can do better.
        """
        if ask.deadline is None or bad.closed:
            raise bad
        return [UNREAD] * len(keys)

    def left(self, ask: Ask, began: float) -> float | None:
        """Seconds until the deadline of a read."""
        return None if ask.deadline is None else max(0.0, ask.deadline - (time.monotonic() - began))

    def fill(self, found: Rows, missing: Sequence[int], keys: Sequence[bytes], rows: Rows, began: float) -> Rows:
        """Rows that were kept, with those just read for the keys that were missing, which are kept from now on."""
        assert self.cache is not None
        if UNREAD not in rows:
            self.cache.keep(keys, rows, began)
        for place, row in zip(missing, rows, strict=True):
            found[place] = row
        return found


class Fetcher(_Around):
    """The rows of keys, one call to the store at most where nothing fails.

    Args:
        store: where they are.
        settings: what stands around the call.
        name: tells the store's name, which sessions carry.
        token_key: where the token of the store's epoch is kept; empty: sessions are not held to it.

    Attributes:
        direct: whether a read without level, session and deadline is the store's own `multi_get` and nothing more.
    """

    def __init__(
        self, store: OnlineStore, settings: ReadSettings, name: Callable[[], str], token_key: bytes = b""
    ) -> None:
        super().__init__(settings, name, token_key)
        self._store = store
        self._leveled = store if isinstance(store, LeveledReads) else None
        self._shared = (
            {level: coalescing.Coalescer(self._of(level)) for level in ConsistencyLevel} if settings.coalesce else {}
        )
        self.coalescers = tuple(self._shared.values())
        self.direct = self._leveled is None and self.cache is None and not self._shared

    def _of(self, level: ConsistencyLevel) -> Callable[[Sequence[bytes]], Rows]:
        ask = Ask(level)
        return lambda keys: self._tried(keys, ask)

    def rows(self, keys: Sequence[bytes], ask: Ask = PLAIN) -> Rows:
        """The bytes under each key; None where there is none, `UNREAD` where a deadline left it out.

        Raises:
            ConsistencyLost: with `.session`, a fresh one.
            Unavailable: the store does not answer, and no deadline was given.
        """
        kept = self.kept(keys, ask)
        if kept is None:
            return self._shared_or_alone(keys, ask)
        found, missing = kept
        if not missing:
            return found
        asked, began = [keys[place] for place in missing], time.monotonic()
        return self.fill(found, missing, asked, self._shared_or_alone(asked, ask), began)

    def _shared_or_alone(self, keys: Sequence[bytes], ask: Ask) -> Rows:
        shared = None if ask.alone else self._shared.get(ask.level)
        return self._tried(keys, ask) if shared is None else shared(keys)

    def _tried(self, keys: Sequence[bytes], ask: Ask) -> Rows:
        began, tries = time.monotonic(), 0
        while True:
            try:
                self.breaker.check()
            except Unavailable as refused:
                return self.without(refused, keys, ask)
            try:
                rows = self._call(keys, ask, began)
            except ConsistencyLost as bad:
                self.lost(bad)
                raise
            except Unavailable as bad:
                pause = self.again(bad, tries, ask, began)
                if pause is None:
                    return self.without(bad, keys, ask)
                tries += 1
                time.sleep(pause)
            else:
                self.breaker.succeeded()
                return rows

    def _call(self, keys: Sequence[bytes], ask: Ask, began: float) -> Rows:
        keys, marks = self.asked(keys, ask), self.marks(ask)
        if self._leveled is None:
            return self.took(ask, None, Reading(self._store.multi_get(keys), {}))
        return self.took(ask, marks, self._leveled.read(keys, ask.level, marks, self.left(ask, began)))


class AsyncFetcher(_Around):
    """The same on an asynchronous client.

    Args:
        reads: the client's reads.
        settings, name, token_key: as `Fetcher`.
        local: whether the store is on this machine, so that a round trip costs nothing.
    """

    def __init__(
        self,
        reads: AsyncReads,
        settings: ReadSettings,
        name: Callable[[], str],
        token_key: bytes = b"",
        local: bool = False,
    ) -> None:
        super().__init__(settings, name, token_key)
        self.reads = reads
        shares = settings.coalesce or (settings.coalesce is None and not local)
        # a breaker counts every failure, which tasks tell it
        plain = self.cache is None and not settings.breaker_failures
        self._now = reads.now if plain and not shares and isinstance(reads, Immediate) else None
        begin = reads.begin if plain and isinstance(reads, Begun) else None
        self._shared = (
            {
                level: coalescing.AsyncCoalescer(self._of(level), begin if level is _EVENTUAL else None)
                for level in ConsistencyLevel
            }
            if shares
            else {}
        )
        self.coalescers = tuple(self._shared.values())
        self._joined = self._shared[_EVENTUAL].join if self._shared and self.cache is None else None

    def begin(self, keys: Sequence[bytes], took: Callable[[Rows | BaseException], None]) -> Rows | bool:
        """Begin what `rows` does for `PLAIN`, without a task that waits.

        Args:
            keys: whose rows are wanted.
            took: is given the rows, or the error, later; once, and never within this call. It raises nothing.

        Returns:
            The rows where they are there at once; True: they come; False: nothing was begun, and `rows` is the way.

        Raises:
            StoreError: the rows on this machine cannot be read; `rows` may do better.
        """
        if self._now is not None:
            return self._now(keys)
        if self._joined is None:
            return False
        self._joined(keys, took)
        return True

    def _of(self, level: ConsistencyLevel) -> Callable[[Sequence[bytes]], Awaitable[Rows]]:
        ask = Ask(level)
        return lambda keys: self._tried(keys, ask)

    async def rows(self, keys: Sequence[bytes], ask: Ask = PLAIN) -> Rows:
        """As `Fetcher.rows`."""
        kept = self.kept(keys, ask)
        if kept is None:
            return await self._shared_or_alone(keys, ask)
        found, missing = kept
        if not missing:
            return found
        asked, began = [keys[place] for place in missing], time.monotonic()
        return self.fill(found, missing, asked, await self._shared_or_alone(asked, ask), began)

    async def _shared_or_alone(self, keys: Sequence[bytes], ask: Ask) -> Rows:
        shared = None if ask.alone else self._shared.get(ask.level)
        return await (self._tried(keys, ask) if shared is None else shared(keys))

    async def _tried(self, keys: Sequence[bytes], ask: Ask) -> Rows:
        began, tries = time.monotonic(), 0
        while True:
            try:
                self.breaker.check()
            except Unavailable as refused:
                return self.without(refused, keys, ask)
            try:
                rows = await self._call(keys, ask, began)
            except ConsistencyLost as bad:
                self.lost(bad)
                raise
            except Unavailable as bad:
                pause = self.again(bad, tries, ask, began)
                if pause is None:
                    return self.without(bad, keys, ask)
                tries += 1
                await asyncio.sleep(pause)
            else:
                self.breaker.succeeded()
                return rows

    async def _call(self, keys: Sequence[bytes], ask: Ask, began: float) -> Rows:
        keys, marks = self.asked(keys, ask), self.marks(ask)
        return self.took(ask, marks, await self.reads.read(keys, ask.level, marks, self.left(ask, began)))
