"""The part of the suite of online stores about window views: rows after writes, deletes and runs, by brute force."""

from __future__ import annotations

from pathlib import Path

from headwater.online.base import OnlineStore
from headwater.testing import SCALE
from headwater.testing.window_project import KEYS, WindowProject, steps_agree


class OnlineWindowSuite:
    """Part of `OnlineStoreSuite`; a store whose `Capabilities.windows` is not set has no window views."""

    def test_window_rows_are_what_brute_force_says(self, store: OnlineStore, tmp_path: Path) -> None:
        if not store.capabilities.windows:
            return
        for seed in range(SCALE):
            project = WindowProject(tmp_path / str(seed), store, files=seed % 2 == 0)
            assert steps_agree(project, seed, 8 if SCALE == 1 else 15) >= len(KEYS)
            project.store.close()
            store.delete([key for key, _ in store.scan(b"")])

    def test_a_window_version_whose_rows_are_lost_is_not_read_as_empty(
        self, store: OnlineStore, tmp_path: Path
    ) -> None:
        if not store.capabilities.windows:
            return
        project = WindowProject(tmp_path, store)
        row = {"k": "a", "at": project.clock, "seen": project.clock, "id": None, "n": 7, "kind": "a"}
        project.store.write("v", [row])
        assert project.store.get_online_features(["v:sum_ever"], ["a"]).to_dict()["sum_ever"] == [7]
        store.delete([key for key, _ in store.scan(b"")])
        lost = project.store.get_online_features(["v:of_a"], ["a"])
        assert lost.to_dict()["of_a"] == [None] and [str(s) for s in lost.statuses["of_a"]] == ["UNAVAILABLE"]
        project.store.materialize()
        assert project.store.get_online_features(["v:of_a"], ["a"]).to_dict()["of_a"] == [1]
        assert project.problems() == []
        project.store.close()
