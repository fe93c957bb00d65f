"""PreparedReader: names, versions and layouts resolved once; each read is then one round trip to the online store."""

from __future__ import annotations

import time
import warnings as python_warnings
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from headwater import forks
from headwater.clock import duration_argument, instant_of
from headwater.compute.claims import Claims
from headwater.compute.context import StoreContext
from headwater.compute.reading.active import check_active, lost_rows, rows_lost, rows_until
from headwater.compute.reading.read_arguments import (
    LONGEST_WAIT,
    ReadArguments,
    ask_of,
    level_of,
    policy_of,
    refreshed_ask,
)
from headwater.compute.reading.services import ReadServices
from headwater.deferred import deferred
from headwater.errors import ChangeRefused, ConfigError, Unavailable, UsageError, brief, listing
from headwater.interrupts import leaves_nothing
from headwater.online.eviction import eviction_problem
from headwater.online.fetching.fetcher import PLAIN, Ask, Rows, surest
from headwater.online.powers import UNREAD
from headwater.online.reading.reader import AHEAD, ANY_TIME, KeyPlan, OnlineReader
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.planning.catching_up import RETIRED_ROWS
from headwater.planning.resolve import resolve
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.snapshot import RegistrySnapshot
from headwater.registry.reader import REFRESH
from headwater.types import ConsistencyLevel, DType, StalePolicy

if TYPE_CHECKING:
    from headwater.compute.reading import explained, follow
    from headwater.compute.transforms import online as functions
    from headwater.online.reading import staleness
else:
    explained = deferred("headwater.compute.reading.explained")
    functions = deferred("headwater.compute.transforms.online")
    follow = deferred("headwater.compute.reading.follow")
    staleness = deferred("headwater.online.reading.staleness")

_FLAG, _REFRESH = StalePolicy.FLAG, StalePolicy.REFRESH


class PreparedReader(forks.OfOneProcess):
    """Reads one set of features; safe to use from several threads.

    Its columns never change: where a live pointer moves, the reader follows to a version that has them all, else it
    stays on the version it has, warns once, and says so in `warnings`.

    Args:
        context: the store's parts and settings.
        services: get rows, and refresh stale ones.
        features: references, views, selections; a service or its name.
        consistency: the level of every read, unless one names its own.
        registry_refresh: how long until what other processes applied is seen.
        full_names: name columns `view__feature`.
        look: whether to look now whose the online store is; else the first read does.

    Raises:
        NotFound, UsageError: as `resolve` says.
        ConsistencyNotSupported: the store does not support the consistency level.
        ChangeRefused: a version that is neither live nor materialized as far as the live one.
        ConfigError: window views, of a store that may evict their rows.
        Unavailable: the files of the online store are gone.
    """

    instead = "make one in each process: store.prepare(features)"

    def __init__(
        self,
        context: StoreContext,
        services: ReadServices,
        features: Any,
        *,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta = REFRESH,
        full_names: bool | None = None,
        look: bool = True,
    ) -> None:
        self._context = context
        self._services = services
        self._features = features
        self._full_names = full_names
        self._level = level_of(context.online, consistency)
        self._fetcher = services.fetcher
        self._asks = context.settings.refreshing.requests
        self._refresh = registry_refresh.total_seconds()
        self._lock = forks.lock()
        context.claims.check_there()
        if look:
            context.claims.check_reads()
        self._blind = False
        self._snapshot = self._look()
        self._next = time.monotonic() + self._refresh
        request = resolve(self._snapshot, features, full_names=full_names)
        check_active(context, self._snapshot, request)
        if look:
            self._refuse_eviction(request)
        self._reader, self._functions = self._of(request)
        self._ends = rows_until(request)
        self._lost: frozenset[tuple[str, str]] = frozenset()
        """(view, version) of what a service reads whose rows the online store lost since."""
        self.warnings: tuple[str, ...] = ()

    def _refuse_eviction(self, request: ResolvedRequest) -> None:
        """Refuse window views of a store that may drop their rows."""
        windows = sorted({view.name for view in request.views if view.windows is not None})
        if windows and not self._context.settings.allow_eviction:
            problem = eviction_problem(self._context.online)
            if problem is not None:
                raise ConfigError(f"{listing(windows)}: {problem}")

    def _of(self, request: ResolvedRequest) -> tuple[OnlineReader, functions.OnlineFunctions | None]:
        context = self._context
        reader = OnlineReader(
            request,
            context.online,
            context.project,
            freshness=context.settings.freshness,
            counts=self._fetcher.clock,
        )
        if not request.functions:
            return reader, None
        if not context.settings.run_code:
            names = listing(f"{function.name} {function.version}" for function in request.functions)
            raise ConfigError(
                f"{names}: computed by code from the registry, which [serving] run_code = false refuses to run"
            )
        return reader, functions.OnlineFunctions(reader)

    @property
    def services(self) -> ReadServices:
        """What gets its rows."""
        return self._services

    @property
    def claims(self) -> Claims:
        """Whose the online store is."""
        return self._context.claims

    @property
    def request(self) -> ResolvedRequest:
        """What the features resolve to now."""
        return self._reader.request

    @property
    def join_keys(self) -> Mapping[str, DType]:
        """Name → dtype of each key that `entities` must have."""
        return self._reader.join_keys

    @property
    def request_fields(self) -> Mapping[str, DType]:
        """Name → dtype of each value that `request` must have; none where no feature is computed on demand."""
        return self._reader.request.request_fields

    @property
    def versions(self) -> Mapping[str, str]:
        """View label → version that is read."""
        return self._reader.versions

    def __repr__(self) -> str:
        columns = ", ".join(column.name for column in self.request.outputs)
        versions = ", ".join(f"{label} {version}" for label, version in self.versions.items())
        return f"<PreparedReader {columns} by {', '.join(self.join_keys) or 'no key'}: {versions}>"

    def refresh(self) -> None:
        """See at once what other processes applied or promoted.

        Raises:
            Unavailable: the registry cannot be reached.
        """
        self._follow(self._context.registry.refresh())

    def read(
        self,
        entities: Any,
        request: Mapping[str, Any] | None = None,
        consistency: ConsistencyLevel | str | None = None,
        session: Session | None = None,
        stale: StalePolicy | str = StalePolicy.FLAG,
        max_age: timedelta | str | None = None,
        now: datetime | str | None = None,
        deadline: timedelta | str | None = None,
        refresh_budget: timedelta | str | None = None,
    ) -> OnlineResult:
        """Read the features of entities, in one call to the store.

        Args:
            entities: a list of dicts; a dict of lists, in which a scalar is repeated; a table; for a single join key a
                plain list of values. Order and repeats are kept.
            request: values for on-demand features: field → one value for all rows, or one for each.
            consistency: for this read; None: as prepared, else eventual.
            session: this read sees everything that the session has seen, and the session then covers this read too.
            stale: `flag` or `drop` values past their SLA, or `refresh` their rows from the offline source before the
                result is returned, with one more call to the store; values that are not refreshed in time are flagged.
            max_age: a freshness SLA for this read only, a duration such as `"5m"` or a timedelta.
            now: the instant of the read, which is then exact: a row known later, or a key deleted later, is NOT_KNOWN.
                None: the store's clock; what is later than that by up to one hour (with a session: by any time) is
                answered as of that instant (`result.read_at`).
            deadline: how long the store may take; values that it has not returned by then are UNAVAILABLE, without an
                error.
            refresh_budget: how long a refresh may take, at most until the deadline; None: as configured.

        Returns:
            The values with their statuses and times, a row for each entity, in order.

        Raises:
            EntityKeyError: join keys are missing, unknown or of another type.
            SessionRequired: the consistency level needs a session.
            ConsistencyLost: the store has lost data that the session has seen; continue with the error's `.session`.
            ConsistencyNotSupported: the store does not support the consistency level.
            UsageError: `request` lacks a field, has one that no feature takes, or a value that does not fit.
            OnDemandError: an on-demand function failed, and its view says `errors="raise"`.
            StoreError: the store cannot be read.
        """
        if self.due:
            self.look()
        given = self.arguments(request, consistency, session, stale, max_age, now, deadline)
        reader, ask, policy = given.reader, given.ask, given.policy
        due = self._context.claims.reads_due
        began = time.monotonic() if policy is _REFRESH or due else 0.0
        plan = reader.plan_keys(entities)
        direct = ask is PLAIN and self._fetcher.direct
        rows = reader.store.multi_get(plan.keys) if direct else self._fetcher.rows(plan.keys, ask)
        if due:
            self._look_at_owner(ask, began)
        if self._blind:
            rows = self.trusted(rows)
        result = given.result(plan, rows)
        if policy is _REFRESH:
            return self._refreshed(result, given, plan, rows, refresh_budget, began)
        if self._asks:
            self.ask_refresh(given, plan)
        return result

    def trusted(self, rows: Rows) -> Rows:
        """Rows as they were read; where the registry was not seen for long, a key without one may have had one.

        Versions may have been retired meanwhile, and their rows removed: a default would pass for a value.
        """
        return [UNREAD if row is None else row for row in rows] if self._blind else rows

    def _look_at_owner(self, ask: Ask, began: float) -> None:
        """Before an answer is given: look whose the online store is, in what is left of the read's time.

        It comes after the rows: where the store does not answer they fail first, and nothing is waited for twice.
        """
        claims = self._context.claims
        if ask.deadline is None:
            claims.check_reads()
            return
        (data,) = self._fetcher.rows([claims.owner_key], self.owner_ask(ask, began))
        if data != UNREAD:
            claims.saw(data)

    def owner_ask(self, ask: Ask, began: float) -> Ask:
        """How a read that began at a time of `time.monotonic()` asks whose the store is."""
        left = None if ask.deadline is None else max(0.0, ask.deadline - (time.monotonic() - began))
        return surest(self._context.online, left)

    def _refreshed(
        self,
        result: OnlineResult,
        given: ReadArguments,
        plan: KeyPlan,
        before: Rows,
        refresh_budget: timedelta | str | None,
        began: float,
    ) -> OnlineResult:
        """A result, or the one read again once its stale rows were refreshed."""
        stale, budget = staleness.stale_rows(plan, given.age), self.budget(refresh_budget, given.ask, began)
        if not stale or not self._services.refresher.refresh(given.reader.request.views, stale, given.at, budget):
            return result
        try:
            rows = self._fetcher.rows(plan.keys, refreshed_ask(given.ask, began))
        except Unavailable:
            return result
        return result if UNREAD in rows else given.again(plan, before, rows)

    def budget(self, refresh_budget: timedelta | str | None, ask: Ask, began: float) -> float:
        """Seconds that a refresh may take, of a read that began at a time of `time.monotonic()`."""
        given = self._context.settings.refreshing.budget.total_seconds()
        if refresh_budget is not None:
            given = min(duration_argument(refresh_budget, "refresh_budget") / 1e6, LONGEST_WAIT)
        return given if ask.deadline is None else max(0.0, min(given, ask.deadline - (time.monotonic() - began)))

    def ask_refresh(self, given: ReadArguments, plan: KeyPlan) -> None:
        """Note a read whose stale rows ask for a refresh, where that is configured."""
        if self._asks and staleness.may_be_stale(plan, given.age):
            self._services.requests.offer(given.reader.request.views, plan, given.at, given.age)

    def arguments(
        self,
        request: Mapping[str, Any] | None,
        consistency: ConsistencyLevel | str | None,
        session: Session | None,
        stale: StalePolicy | str,
        max_age: timedelta | str | None,
        now: datetime | str | None,
        deadline: timedelta | str | None,
    ) -> ReadArguments:
        """The arguments of a read, checked; where a look at the registry is `due`, it comes first."""
        if request:
            self._check_request(request)
        context = self._context
        ask = PLAIN
        if consistency is not None or session is not None or deadline is not None or self._level is not None:
            level = self._level if consistency is None else level_of(context.online, consistency)
            ask = ask_of(context, level, session, deadline)
        if self._ends is not None and context.now() >= self._ends:
            check_active(context, self._snapshot, self._reader.request)
        if self._lost:
            raise ChangeRefused(rows_lost(self._lost))
        if now is None:
            at, ahead = context.now(), AHEAD if session is None else ANY_TIME
        else:
            at, ahead = instant_of(now, "now"), 0
        policy = _FLAG if stale is _FLAG else policy_of(stale)
        age = None if max_age is None else duration_argument(max_age)
        return ReadArguments(self._reader, ask, at, ahead, policy, age, self._functions, request)

    def plain_arguments(self) -> ReadArguments | None:
        """What a read without arguments of its own is answered by, for the server's plain reads.

        Returns:
            The arguments; None where such a read does more than get rows and decode them.

        Raises:
            ChangeRefused: as `read`.
        """
        more = self._blind or self._asks or self._level is not None or self._functions is not None
        if more or self.due or self._context.claims.reads_due:
            return None
        return self.arguments(None, None, None, _FLAG, None, None, None)

    def plain_again(self, given: ReadArguments) -> ReadArguments | None:
        """What `plain_arguments` gave a moment ago, for a read now, where the registry is the same.

        Args:
            given: the arguments of the read before.

        Returns:
            The arguments; None where that has to be asked again.
        """
        now = self._context.now()
        if (
            given.reader is not self._reader
            or self._blind
            or self._lost
            or (self._ends is not None and now >= self._ends)
        ):
            return None
        return ReadArguments(given.reader, given.ask, now, given.ahead, given.policy, given.age)

    @property
    def due(self) -> bool:
        """Whether the next read looks at the registry first: it is time, or another read saw it changed."""
        return time.monotonic() >= self._next or self._context.registry.latest is not self._snapshot

    def look(self) -> None:
        """What a read does first where that is due."""
        self._follow(self._look())

    def explain(
        self,
        entities: Any,
        request: Mapping[str, Any] | None = None,
        *,
        stale: StalePolicy | str = StalePolicy.FLAG,
        max_age: timedelta | str | None = None,
        now: datetime | str | None = None,
    ) -> explained.Explained:
        """Read the features of entities as `read` does, and report where the time goes.

        Args:
            entities: as for `read`.
            request: as for `read`.
            stale: as for `read`.
            max_age: as for `read`.
            now: as for `read`.

        Returns:
            The result, and the time of each step.
        """
        marks = [time.perf_counter()]
        if self.due:
            self.look()
        if request:
            self._check_request(request)
        reader, functions = self._reader, self._functions
        at, ahead = (self._context.now(), AHEAD) if now is None else (instant_of(now, "now"), 0)
        marks.append(time.perf_counter())
        plan = reader.plan_keys(entities)
        marks.append(time.perf_counter())
        rows = self._fetcher.rows(plan.keys)
        self._context.claims.check_reads()
        marks.append(time.perf_counter())
        age, policy = None if max_age is None else duration_argument(max_age), policy_of(stale)
        result = reader.decode(plan, rows, now=at, ahead=ahead, stale=policy, max_age=age)
        result.to_dict()
        marks.append(time.perf_counter())
        names = ["look at the registry", "find the keys", "get the rows", "decode"]
        if functions is not None:
            result = functions.complete(result, request, policy is StalePolicy.DROP, age, at)
            result.to_dict()
            marks.append(time.perf_counter())
            names.append("compute on-demand features")
        steps = tuple((name, 1e3 * (end - start)) for name, start, end in zip(names, marks, marks[1:], strict=False))
        store = {key: value for key, value in self._context.online.info().items() if key in ("kind", "place")}
        return explained.Explained(result, len(plan.keys), dict(reader.versions), store, 1, steps)

    @leaves_nothing
    def _look(self) -> RegistrySnapshot:
        """The registry, asked again where the refresh time is over; its last answer where it cannot be reached."""
        registry = self._context.registry
        found = registry.snapshot(self._refresh)
        self._blind = registry.unseen > RETIRED_ROWS.total_seconds()
        return found

    def _follow(self, snapshot: RegistrySnapshot) -> None:
        with self._lock:
            self._next = time.monotonic() + self._refresh
            if snapshot is self._snapshot:
                return
            followed = follow.follow(snapshot, self._features, self._reader.request, self._full_names)
            self._lost = lost_rows(self._lost, self._reader.request, followed.request)
            if followed.request != self._reader.request:
                self._reader, self._functions = self._of(followed.request)
                self._ends = rows_until(followed.request)
            fresh = [text for text in followed.warnings if text not in self.warnings]
            self.warnings = followed.warnings
            self._snapshot = snapshot
        for text in fresh:
            python_warnings.warn(text, UserWarning, stacklevel=4)

    def _check_request(self, request: Mapping[str, Any]) -> None:
        if self._functions is None:
            names = listing(map(brief, request))
            raise UsageError(f"request: none of the requested features takes {names}; omit request=")
        self._functions.check(request)
