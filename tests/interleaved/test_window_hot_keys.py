"""Window rows that writers change whenever a run is about to replace them, step by step: a run leaves what they put to
them, ends all the same, and its record promises nothing else; each rule left out gives wrong rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from headwater.compute.windows import keeping
from headwater.compute.windows import requests as asks
from headwater.testing import SCALE
from tests.interleaved.left_out import OF_HOT_KEYS, check_caught, leave_out
from tests.interleaved.test_window_rows import Case
from tests.interleaved.window_world import World

CASES = 40 if SCALE == 1 else 80 * SCALE


class HotWorld(World):
    """Just before a run replaces rows, writers change some of them."""

    case: HotCase
    writes = False

    def swap_all(self, request: asks.SwapRows) -> Generator[None, None, list[bool]]:
        # a run's hold within an epoch
        runs = [swap.key for swap in request.swaps if swap.epoch is not None]
        if runs and self.case.live and not self.writes and self.r.random() < 0.7:
            self.writes = True
            keys = sorted({self.r.choice(runs), *self.r.sample(self.case.keys, self.r.choice([0, 1]))})
            for _ in self.put(self.append(self.case.events(keys), {})):
                pass
            self.writes = False
        return (yield from super().swap_all(request))


class HotCase(Case):
    """One random order of events with hot keys."""

    world = HotWorld
    w: HotWorld

    def __init__(self, number: int, bad: str = "") -> None:
        super().__init__(number, bad)
        self.w.case = self
        self.keys = self.keys[:4]
        self.weights |= {"run": 9.0, "write": 30.0, "force": 0.5, "source": 1.0, "fill": 1.0}


def test_rows_are_right_in_every_order_while_runs_lose_to_writers(monkeypatch):
    rows, counts = 0, Counter[str]()
    complete = keeping._complete_through

    def counted(run: keeping.Run, left: Any, due: Any) -> int:
        low = complete(run, left, due)
        counts["left"] += bool(left)
        counts["lower"] += low < run.end.position
        return low

    monkeypatch.setattr(keeping, "_complete_through", counted)
    for number in range(CASES):
        case = HotCase(number)
        assert case.simulate() == [], number
        rows += case.rows
        counts += case.w.count
    assert rows > 25 * CASES
    assert all(counts[what] for what in ("withheld", "rebuilt", "fills", "left", "lower")), counts


@pytest.mark.parametrize("rule", OF_HOT_KEYS)
def test_a_rule_left_out_is_caught(rule, monkeypatch):
    leave_out(rule, monkeypatch)
    check_caught(rule, lambda number: HotCase(number).simulate())
