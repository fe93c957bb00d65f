"""The lease of a run: it lasts as long as the run, and no longer."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headwater.compute.context import RUN
from headwater.compute.materializing import lease as lease_module
from headwater.compute.materializing.lease import RunLease
from headwater.errors import Unavailable
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from tests.children import problem_in_child
from tests.servers.waiting import HostTime, wait_until
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather


@pytest.fixture
def host() -> Iterator[HostTime]:
    with HostTime() as host:
        yield host


@pytest.fixture
def short(bench: Bench, host: HostTime) -> Iterator[Bench]:
    """A bench on the time of this host, whose leases last a second."""
    bench.clock = lambda: T0 + timedelta(seconds=host.seconds)  # type: ignore[method-assign]
    bench.change(settings=replace(bench.context.settings, lease_time=timedelta(seconds=1)))
    yield bench


def renewers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "headwater-lease"]


@pytest.mark.parametrize("force", [False, True])
def test_a_query_that_takes_longer_than_the_lease_fails_no_run(
    short: Bench, host: HostTime, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    short.apply(AIRPORT, weather())
    short.rows["weather"] = [row("A", 1.0)]
    before = DuckDBEngine.changes
    seen: list[int] = []

    def slow(self: DuckDBEngine, *given: Any) -> Any:
        host.sleep(2.5)
        seen.append(len(short.context.leases.running(RUN)))
        yield from before(self, *given)

    monkeypatch.setattr(DuckDBEngine, "changes", slow)
    report = short.materialize(force=force)
    assert report.runs[0].applied == 1 and set(seen) == {1}
    assert short.context.leases.running(RUN) == [] and renewers() == []
    assert not short.context.forcing.pending("weather", "1.0.0")


def test_a_lease_that_has_ended_is_not_taken_up_again(short: Bench) -> None:
    with pytest.raises(Unavailable, match="blocked"), RunLease(short.context, "v") as lease:
        short.context.leases.release(lease._lease)
        wait_until(lambda: renewers() == [], "the thread that renews to find the lease ended")
        lease.check()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_run_that_fails_or_is_interrupted_leaves_no_thread(short: Bench, error: type[BaseException]) -> None:
    with pytest.raises(error), RunLease(short.context, "v"):
        assert len(renewers()) == 1
        raise error
    assert renewers() == [] and short.context.leases.running(RUN) == []


def test_a_run_that_was_interrupted_before_it_began_is_not_kept_alive(short: Bench) -> None:
    RunLease(short.context, "v").__enter__()
    gc.collect()
    wait_until(lambda: renewers() == [] and short.context.leases.running(RUN) == [], "the lease to end")


def test_without_a_thread_the_run_renews_its_lease_itself(
    short: Bench, host: HostTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lease_module, "RENEW_AFTER", 0.1)
    monkeypatch.setattr(threading.Thread, "start", none)
    with RunLease(short.context, "v") as lease:
        first = lease.until()
        host.sleep(0.6)
        second = lease.until()
        host.sleep(0.6)
        assert first < second < lease.until()


def test_a_fork_during_a_run_leaves_the_lease_to_the_parent(short: Bench, host: HostTime) -> None:
    with RunLease(short.context, "v") as lease:
        assert problem_in_child(lambda: None if renewers() == [] else os._exit(3)) == ""
        host.sleep(1.5)
        lease.check()
    assert renewers() == []
