"""A real store object over window rows, a step at a time: writers, deletes, runs and force under kills, pauses,
failovers and restores; afterwards each row is what brute force says of log and source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.testing.window_project import SCHEMA, WindowProject, window_view
from tests.interleaved.test_plain_rows import KEYS, World, fast_folder, try_seeds

__all__ = ["fast_folder"]


class WindowWorld(World):
    """The same of a window view."""

    schema = SCHEMA

    def definition(self) -> hw.FeatureView:
        source = hw.ParquetSource(str(self.folder / "source"), event_time="at", created_time="seen", event_id="id")
        return window_view(source)

    def row(self, key: str, seconds: float, known: float | None = None) -> dict[str, Any]:
        made = super().row(key, seconds, known)
        name = None if self.values % 2 else f"{key}{self.values % 12}"
        if name is not None:
            # an event has one time
            made["at"] = self.times.setdefault(name, made["at"])
            made["seen"] = max(made["seen"], made["at"])
        return {**{c: made[c] for c in ("k", "at", "seen")}, "id": name, "n": self.values, "kind": "a"}

    def corrected(self, row: dict[str, Any]) -> dict[str, Any]:
        # a statement that is there is not changed: only `force` sees that
        return row

    @property
    def times(self) -> dict[str, Any]:
        return self.__dict__.setdefault("id_times", {})

    def check(self, store: hw.FeatureStore) -> None:
        w = WindowProject.__new__(WindowProject)
        w.folder, w.online, w.files, w.clock, w.store = self.folder, self.online, True, self.clock, store
        w.sourced = [row for rows in self.files.values() for row in rows]
        assert w.check() == len(KEYS)


@pytest.mark.parametrize("first", range(2))
def test_window_rows_are_what_history_says_after_any_order_of_steps(fast_folder: Path, first: int) -> None:
    try_seeds(WindowWorld, fast_folder, first, steps=60)
