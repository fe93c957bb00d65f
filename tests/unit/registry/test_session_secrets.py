"""The secrets of session tokens: one for all processes of a project, replaced one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import headwater as hw
from headwater.registry.session_secrets import SessionSecrets, holds


def test_whoever_needs_one_first_makes_it_for_all(tmp_path: Path) -> None:
    hw.FeatureStore(tmp_path).session()
    stores = [hw.FeatureStore(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda store: SessionSecrets(store.registry).newest(), stores))
    assert len(found) == 1 and len(found.pop() or b"") == 32
    for store in stores:
        store.close()


def test_a_new_one_is_seen_by_others_after_a_while_and_the_last_two_hold(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path) as store:
        now = 0.0
        mine, theirs = (SessionSecrets(store.registry, lambda: now) for _ in range(2))
        first = mine.newest()
        assert theirs.newest() == first
        for _ in range(20):
            theirs.rotate()
        assert mine.newest() == first
        now = 61.0
        assert mine.newest() == theirs.newest() != first
        assert len(mine.known()) == 16
        assert [holds(place) for place in (0, 1, 2, None)] == [True, True, False, False]


def test_several_that_replace_it_at_once_each_add_one(tmp_path: Path, postgres_url: str) -> None:
    for number, registry in enumerate((None, postgres_url)):
        options = {"registry": registry, "online": "memory:"} if registry else {}
        (tmp_path / str(number)).mkdir()
        stores = [hw.FeatureStore(tmp_path / str(number), **options) for _ in range(5)]
        first = SessionSecrets(stores[0].registry).newest()
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda store: SessionSecrets(store.registry).rotate(), stores))
        known = SessionSecrets(stores[0].registry).known()
        assert len(set(known)) == 6 and known[-1] == first
        for store in stores:
            store.close()
