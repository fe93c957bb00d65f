"""The suite of registries that several processes reach by one URL: one wins, nothing is lost, a kill tears nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.process import BaseProcess

import pytest

from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.service import FeatureService
from headwater.errors import RegistryConflict
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.testing.processes import PROCESSES
from headwater.testing.registry_suite import (
    NOW,
    PROJECT,
    THING,
    Place,
    RegistrySuite,
    apply,
    apply_until_it_wins,
    planned,
    view_of,
)


class SharedRegistrySuite(RegistrySuite):
    """Subclass it and give the fixture `place`: the URL of an empty database that outlives its connections."""

    @pytest.fixture
    def open_another(self, place: Place) -> Iterator[Callable[[], FeatureRegistry]]:
        """Opens the same registry once more, as another process would."""
        opened: list[FeatureRegistry] = []

        def again() -> FeatureRegistry:
            opened.append(_open(place))
            return opened[-1]

        yield again
        for registry in opened:
            registry.close()

    def test_another_sees_what_was_applied(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        view = view_of("a", "c", ttl="6h", freshness_sla="1h", owner="me", tags={"tier": "gold"}, description="é")
        service = FeatureService("model", ["v:c", "v:a"])
        applied = apply(registry, [THING, view, service])
        found = open_another().snapshot()
        assert found.entities["thing"] == THING
        assert found.view("v").version().view == applied.view("v").version().view
        assert found.view("v").version().fingerprint == fingerprint(view)
        assert [selection.names for selection in found.service("model").version().selections] == [("c",), ("a",)]

    def test_of_two_applies_at_once_one_wins(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        other = open_another()
        mine, theirs = planned(registry, [THING, view_of("a")]), planned(other, [THING, view_of("b", name="w")])
        other.apply(theirs, now=NOW)
        with pytest.raises(RegistryConflict):
            registry.apply(mine, now=NOW)
        assert set(registry.refresh().views) == {"w"}
        assert set(apply(registry, [THING, view_of("a")]).views) == {"v", "w"}

    def test_many_appliers_lose_nothing(self, open_another: Callable[[], FeatureRegistry]) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: apply_until_it_wins(open_another(), f"view{number}"), range(16)))
        snapshot = open_another().snapshot()
        assert set(snapshot.views) == {f"view{number}" for number in range(16)}
        assert snapshot.revision == 16

    def test_processes_that_apply_lose_nothing(self, registry: FeatureRegistry, place: Place) -> None:
        processes = [_start(place, f"p{number}", 5) for number in range(3)]
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert _whole(registry) == {f"p{number}_{batch}" for number in range(3) for batch in range(5)}

    def test_a_kill_leaves_the_old_or_the_new_state(self, registry: FeatureRegistry, place: Place) -> None:
        chance, before = random.Random(7), set[str]()
        for kill in range(6):
            process = _start(place, f"k{kill}", 10_000)
            deadline = time.monotonic() + 60
            while not _whole(registry) - before and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(chance.uniform(0.0, 0.1))
            acknowledged = _whole(registry)
            process.kill()
            process.join()
            assert acknowledged - before, "it applied nothing within a minute"
            before = _whole(registry)
            assert acknowledged <= before

    def test_a_setting_is_the_same_for_all(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        first = registry.get_or_set("log_id")
        assert (open_another().get_or_set("log_id"), registry.setting("log_id")) == (first, first)

    def test_a_child_process_opens_connections_of_its_own(self, registry: FeatureRegistry) -> None:
        apply(registry, [view_of("a")])
        pid = os.fork()
        if pid == 0:
            try:
                apply(registry, [view_of("a", name="child")])
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        apply(registry, [view_of("a", name="parent")])
        assert set(registry.refresh().views) == {"v", "child", "parent"}


def _open(place: Place) -> FeatureRegistry:
    return open_registry(*place, PROJECT, refresh=timedelta(0), clock=lambda: NOW)


_BATCH = 5


def _start(place: Place, who: str, batches: int) -> BaseProcess:
    process = PROCESSES.Process(target=_apply_batches, args=(place, who, batches))
    process.start()
    return process


def _apply_batches(place: Place, who: str, batches: int) -> None:
    registry = _open(place)
    for batch in range(batches):
        views = [view_of("a", "b", name=f"{who}_{batch}_{number}") for number in range(_BATCH)]
        while True:
            try:
                apply(registry, [THING, *views])
                break
            except RegistryConflict:
                time.sleep(0.002)


def _whole(registry: FeatureRegistry) -> set[str]:
    """The batches that are registered, each of them complete, one a revision."""
    snapshot = registry.refresh()
    found: dict[str, int] = {}
    for name, record in snapshot.views.items():
        assert record.live == "1.0.0" and record.version().view.feature_names == ("a", "b")
        batch = name.rpartition("_")[0]
        found[batch] = found.get(batch, 0) + 1
    assert set(found.values()) <= {_BATCH} and snapshot.revision == len(found)
    return set(found)
