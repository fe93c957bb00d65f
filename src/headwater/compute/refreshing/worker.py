"""Worker: works off the refresh queue, several at once if need be; erases purges and rolls the log on the way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headwater.clock import duration_micros
from headwater.compute.context import StoreContext
from headwater.compute.materializing.mend import mend_once
from headwater.compute.refreshing.refresh import active_view, newer_rows, recompute
from headwater.compute.refreshing.requests import LAST_RETRY
from headwater.compute.writing.erase import erase_purged, remove_retired
from headwater.errors import HeadwaterError, brief
from headwater.online.hints import Claim, Outcome, OutcomeKind
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView

BATCH = 1_000
"""Keys of one view that one recomputation takes at most."""
IDLE = 0.5
"""Seconds until a worker without work looks again."""
HOUSEKEEPING = 60.0
"""Seconds between two looks at purges and the log's head."""
_FIRST_RETRY = 1_000_000
_LONGEST_WAIT = 30.0
_AT_CLOSE = 10.0


@dataclass(frozen=True)
class Step:
    """What a worker did: one recomputation of one view version, or one thing beside it.

    Attributes:
        what: `refresh`, `erase`, `roll`, `unreadable` (rows of the queue that nobody can read were removed), or `queue`
            (which could not be used).
        about: the view version, or view.
        keys: how many keys it took.
        newer: how many have a newer row now.
        unchanged: how many have not, and are left alone for a while.
        failed: how many are tried again.
        dead: how many are dead letters now.
        seconds: how long it took.
        error: what failed.
    """

    what: str
    about: str = ""
    keys: int = 0
    newer: int = 0
    unchanged: int = 0
    failed: int = 0
    dead: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class WorkerReport:
    """What a worker did in all; the counts of its steps added up."""

    keys: int = 0
    newer: int = 0
    unchanged: int = 0
    failed: int = 0
    dead: int = 0
    erased: int = 0
    seconds: float = 0.0

    def after(self, step: Step) -> WorkerReport:
        """The report with one more step.

        Args:
            step: what was done.

        Returns:
            A new report.
        """
        return WorkerReport(
            self.keys + (step.keys if step.what == "refresh" else 0),
            self.newer + step.newer,
            self.unchanged + step.unchanged,
            self.failed + step.failed,
            self.dead + step.dead,
            self.erased + (step.keys if step.what == "erase" else 0),
            self.seconds + step.seconds,
        )


def _nobody(step: Step) -> None:
    pass


@dataclass
class Worker:
    """Works off the queue of a store; what it has claimed when it is killed, another takes over.

    Attributes:
        context: the store's parts and settings.
        views: only these views; None: all.
        on_step: is called after each step.
        stopping: set it, and the worker ends after what it has claimed.
    """

    context: StoreContext
    views: Sequence[str] | None = None
    on_step: Callable[[Step], None] = _nobody
    stopping: threading.Event = field(default_factory=threading.Event)
    _kept_house: float | None = field(default=None, init=False)

    def run(self, once: bool = False) -> WorkerReport:
        """Work until stopped.

        Args:
            once: return as soon as nothing is due, and raise errors of the queue; else they are waited out.

        Returns:
            What was done, added up.

        Raises:
            FeatureViewNotFound: a view is not registered.
        """
        snapshot = self.context.registry.snapshot()
        for name in self.views or ():
            snapshot.view(name)
        report, failures = WorkerReport(), 0
        while not self.stopping.is_set():
            found = 0
            try:
                for step in self._round():
                    report = report.after(step)
                    found += step.what in ("refresh", "unreadable")
                failures = 0
            except Exception as bad:
                if once:
                    raise
                found, failures = 0, failures + 1
                self.on_step(Step("queue", error=_words(bad)))
            if not found:
                if once:
                    break
                self.stopping.wait(min(IDLE * 2**failures, _LONGEST_WAIT))
        return report

    def dead_letters(self, limit: int, unreadable: list[str] | None = None) -> list[Dead]:
        """The refreshes of this worker's views that failed for good.

        Args:
            limit: the maximum number of refreshes.
            unreadable: a line is added to it for each row of the queue that cannot be read.

        Returns:
            The refreshes, the newest first.
        """
        return dead_letters(self.context, limit, self.views, unreadable)

    def replay(self) -> int:
        """Retry the refreshes of this worker's views that failed for good.

        Returns:
            The number of refreshes that will be retried.
        """
        return self.context.refresh_queue.replay(self._names(), self.context.now())

    def _round(self) -> Iterator[Step]:
        """One batch of claims, and what is due beside it; each step is reported when it is done."""
        if self._kept_house is None or time.monotonic() - self._kept_house > HOUSEKEEPING:
            self._kept_house = time.monotonic()
            yield from map(self._tell, self._keep_house())
        context = self.context
        lease = duration_micros(context.settings.refreshing.lease)
        unreadable: list[str] = []
        claims = context.refresh_queue.claim(self._names(), BATCH, context.now(), lease, unreadable)
        if unreadable:
            # the next read of the key asks again
            context.refresh_records.add({"unreadable": len(unreadable)})
            yield self._tell(Step("unreadable", keys=len(unreadable), error=_few(unreadable)))
        by_version: dict[tuple[str, str], list[Claim]] = {}
        for claim in claims:
            by_version.setdefault((claim.hint.view, claim.hint.version), []).append(claim)
        for (name, version), some in by_version.items():
            yield self._tell(self._refresh(name, version, some))

    def _tell(self, step: Step) -> Step:
        self.on_step(step)
        return step

    def _names(self) -> Sequence[str]:
        return list(self.context.registry.snapshot().views) if self.views is None else self.views

    def _refresh(self, name: str, version: str, claims: Sequence[Claim]) -> Step:
        """Refresh the claimed keys of one view version, and settle them."""
        began = time.monotonic()
        step = Step("refresh", f"{name}@{version}", len(claims))
        view = active_view(self.context, name, version)
        if view is None:
            self.context.refresh_queue.settle([Outcome(claim, OutcomeKind.DONE) for claim in claims])
            return replace(step, error="is no longer updated")
        refreshed: set[bytes] = set()
        sound, damaged = self._readable_keys(view, claims)
        if damaged:
            step = replace(step, error=f"{len(damaged):,} keys cannot be read: {damaged[0].error}")
        try:
            outcomes = self._outcomes(view, sound, refreshed)
        except Exception as bad:
            step = replace(step, error=_words(bad))
            outcomes = [self._failed(claim, _words(bad)) for claim in sound]
        outcomes += damaged
        now = self.context.now()
        kinds = [outcome.kind for outcome in outcomes]
        took = [(name, now - o.claim.hint.asked_at) for o in outcomes if o.claim.hint.key in refreshed]
        step = replace(
            step,
            newer=kinds.count(OutcomeKind.DONE),
            unchanged=kinds.count(OutcomeKind.REST),
            failed=kinds.count(OutcomeKind.RETRY),
            dead=kinds.count(OutcomeKind.DEAD),
            seconds=time.monotonic() - began,
        )
        self.context.refresh_queue.settle(outcomes)
        failed = step.failed + step.dead
        self.context.refresh_records.add(
            {"newer": step.newer, "unchanged": step.unchanged, "failed": failed}, took, now
        )
        return step

    def _outcomes(self, view: ResolvedView, claims: Sequence[Claim], refreshed: set[bytes]) -> list[Outcome]:
        """How the claims of one view version end; `refreshed` takes the keys that a recomputation made newer."""
        context = self.context
        events = {claim.hint.key: claim.hint.event for claim in claims}
        # a run, a write or a read may have been first
        newer = newer_rows(context, events)
        left = {key: event for key, event in events.items() if key not in newer}
        if left:
            recompute(context, view, left)
            refreshed |= newer_rows(context, left)
            newer |= refreshed
        now, least = context.now(), duration_micros(context.settings.refreshing.rest)
        return [
            Outcome(claim, OutcomeKind.DONE)
            if claim.hint.key in newer
            else Outcome(claim, OutcomeKind.REST, now + max(claim.hint.sla, least))
            for claim in claims
        ]

    def _readable_keys(self, view: ResolvedView, claims: Sequence[Claim]) -> tuple[list[Claim], list[Outcome]]:
        """The claims whose keys are keys of the version, and how the others end: they must not fail all."""
        rows, now = RowEncoder(self.context.project, view), self.context.now()
        sound: list[Claim] = []
        damaged: list[Outcome] = []
        for claim in claims:
            try:
                rows.decode_key(claim.hint.key)
                sound.append(claim)
            except (HeadwaterError, ValueError, IndexError) as bad:
                damaged.append(Outcome(claim, OutcomeKind.DEAD, now, f"{brief(claim.hint.key)} is not a key: {bad}"))
        return sound, damaged

    def _failed(self, claim: Claim, error: str) -> Outcome:
        now = self.context.now()
        if claim.tries >= self.context.settings.refreshing.tries:
            return Outcome(claim, OutcomeKind.DEAD, now, error)
        pause = min(_FIRST_RETRY * 2 ** (claim.tries - 1), duration_micros(LAST_RETRY))
        # not all at once: what failed together would fail together again
        return Outcome(claim, OutcomeKind.RETRY, now + int(pause * random.uniform(0.75, 1.25)), error)

    def _keep_house(self) -> Iterator[Step]:
        """Erase purges whose time has come, and roll the log's head; one view's failure leaves the others theirs.

        The log is claimed first: one that was restored from an older copy does not name all of its files.
        """
        context = self.context
        try:
            context.claims.claim_online(always=True)
        except Exception as bad:
            yield Step("erase", "housekeeping", error=_words(bad))
            return
        snapshot = context.registry.refresh()
        for name in self._names():
            began = time.monotonic()
            try:
                context.claims.claim_log()
                context.log.roll([name])
                context.claims.claim_online()
                mend_once(context)
                remove_retired(context, snapshot.view(name))
                erased = erase_purged(context, snapshot.view(name))
            except Exception as bad:
                yield Step("erase", name, error=_words(bad))
                continue
            if erased:
                yield Step("erase", name, erased, seconds=time.monotonic() - began)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {brief(str(error))}"


def _few(lines: Sequence[str]) -> str:
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3:,} more" if len(lines) > 3 else "")


class BackgroundWorker:
    """A worker on a thread of this process, which has begun.

    Args:
        context: the store's parts and settings.
    """

    def __init__(self, context: StoreContext) -> None:
        self._worker = Worker(context)
        self._thread = threading.Thread(target=self._worker.run, name="headwater-worker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, after what it has begun."""
        self._worker.stopping.set()
        self._thread.join(_AT_CLOSE)


@dataclass(frozen=True)
class Dead:
    """A dead letter as people read it.

    Attributes:
        view, version: whose row.
        entity: join key → value; of a key that cannot be read its bytes, as hex, under `key`.
        tries: how often it was tried.
        died_at: microseconds.
        error: what failed the last time.
    """

    view: str
    version: str
    entity: Mapping[str, Any]
    tries: int
    died_at: int
    error: str


def dead_letters(
    context: StoreContext, limit: int, views: Sequence[str] | None = None, unreadable: list[str] | None = None
) -> list[Dead]:
    """What failed for good, the newest first; of some views alone where they are given.

    Args:
        context: the store's parts and settings.
        limit: the maximum number of refreshes.
        views: names.
        unreadable: a line is added to it for each row of the queue that cannot be read.
    """
    snapshot = context.registry.refresh()
    found = []
    for letter in context.refresh_queue.dead(limit, unreadable):
        hint = letter.hint
        if views is not None and hint.view not in views:
            continue
        entity: dict[str, Any]
        try:
            record = snapshot.view(hint.view)
            rows = RowEncoder(context.project, whole_view(record, record.version(hint.version)))
            entity = dict(zip(rows.names, rows.decode_key(hint.key), strict=True))
        except (HeadwaterError, ValueError, IndexError):
            entity = {"key": hint.key.hex()}
        found.append(Dead(hint.view, hint.version, entity, letter.tries, letter.died_at, letter.error))
    return found
