"""The end of a run's lease where all of the run's processes see it: in the online store.

Processes of an engine on other machines reach the online store and nothing else of headwater's, so the run keeps there
until when they may put. It says so after each renewal of the lease, by the store's own clock where it has one.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

from headwater.clock import duration_micros, system_clock, to_micros
from headwater.compute.context import StoreContext
from headwater.compute.online_location import OnlineLocation
from headwater.errors import Unavailable
from headwater.online.base import OnlineStore
from headwater.online.meta import pack_run_ends, run_ends, run_ends_key, token_key
from headwater.online.powers import Timed
from headwater.planning.resolved import ResolvedView

MARGIN = 10_000_000
"""Microseconds before the end of its run's lease from which a process puts nothing more."""
PUT_TIME = 30_000_000
"""Microseconds that one put may take: what a process had begun cannot apply longer than this after its run's end."""
_ATTEMPTS = 20


def store_time(online: OnlineStore) -> int:
    """The time by which processes on several hosts compare ends, microseconds; the host's where the store has none."""
    return online.time() if isinstance(online, Timed) else to_micros(system_clock())


def margin(lasts: int) -> int:
    """`MARGIN`, of a short lease a third of it; both in microseconds."""
    return min(MARGIN, lasts // 3)


class Leased(Protocol):
    """What a process of the engine knows of the run that it puts rows for; values alone.

    Attributes:
        location: of the online store, which is opened in the process that puts.
        project: the project.
        token: of the store's epoch; another store, or another life of it, has another.
        ends: the meta key of the runs' ends.
        run: the run's id.
        margin: microseconds before the run's end from which nothing more is put.
    """

    @property
    def location(self) -> OnlineLocation: ...
    @property
    def project(self) -> str: ...
    @property
    def token(self) -> bytes: ...
    @property
    def ends(self) -> bytes: ...
    @property
    def run(self) -> str: ...
    @property
    def margin(self) -> int: ...


class LeaseEnded(Exception):
    """A process of the engine may not put any more rows for its run; it says why."""


def time_left(leased: Leased, online: OnlineStore, keys: Sequence[bytes] = ()) -> tuple[int, list[bytes | None]]:
    """For how long a process may put rows for its run, as the store says.

    Args:
        leased: the run.
        online: the store, opened by the process.
        keys: to be read in the same call.

    Returns:
        Microseconds until the end of the run's lease, and what is stored under the keys.

    Raises:
        LeaseEnded: it may not put.
    """
    data, token, *stored = online.multi_get([leased.ends, token_key(leased.project), *keys])
    if token != leased.token:
        raise LeaseEnded(
            f"{leased.location!r}, opened by a process of the engine, is not the online store that the run began "
            "with: its URL must name the same store on every host"
        )
    end = run_ends(data).get(leased.run)
    if end is None:
        raise LeaseEnded("the run has ended")
    left = end - store_time(online)
    if left <= leased.margin:
        raise LeaseEnded("the run's lease was not renewed")
    return left, stored


class SharedLease:
    """The end of one run's lease in the online store.

    Args:
        context: the store's parts and settings.
        view: the version that the run works on.

    Attributes:
        run: the run's id.
        key: the meta key of the ends.
    """

    def __init__(self, context: StoreContext, view: ResolvedView) -> None:
        self._online = context.online
        self._about = f"{view.name}@{view.version}"
        self.lasts = duration_micros(context.settings.lease_time)
        self.key = run_ends_key(context.project, view.name, view.version)
        self.run = secrets.token_hex(8)

    def next_end(self) -> int:
        """The end of a lease that is renewed now: asked for before it is, this is no later than the lease's own."""
        return store_time(self._online) + self.lasts

    def write(self, end: int) -> None:
        """Let the run's processes put until an instant.

        Raises:
            StoreError: the store failed; they stop where no later call succeeds.
        """
        self._change(end)

    def remove(self) -> None:
        """Let the run's processes put nothing more."""
        self._change(None)

    def _change(self, end: int | None) -> None:
        for _ in range(_ATTEMPTS):
            (data,) = self._online.multi_get([self.key])
            now = store_time(self._online)
            ends = {run: until for run, until in run_ends(data).items() if until > now and run != self.run}
            if end is not None:
                ends[self.run] = end
            packed = pack_run_ends(ends)
            if packed == data or self._online.put_meta({self.key: packed}, expected={self.key: data}):
                return
        raise Unavailable(f"materialize {self._about}: other runs changed their leases {_ATTEMPTS} times; run it again")
