"""Window rows of a store of several shards, step by step: slots move, shards fail over alone; rows are right all the
same, and each rule left out gives wrong rows."""

from __future__ import annotations

from collections import Counter

import pytest

from headwater.testing import SCALE
from tests.interleaved.left_out import OF_PARTS, check_caught, leave_out
from tests.interleaved.parted_world import PartedWorld
from tests.interleaved.test_window_rows import Case

CASES = 20 * SCALE


class PartedCase(Case):
    """One random order of events over shards."""

    world = PartedWorld
    w: PartedWorld

    def __init__(self, number: int, bad: str = "") -> None:
        super().__init__(number, bad)
        self.moves = self.r.choice([0.02, 0.1, 0.3])

    def act(self, now: int) -> None:
        if self.r.random() < self.moves:
            self.w.move_about(self.keys)
        super().act(now)

    def alone(self) -> None:
        for shard in self.w.shards:
            shard.leaving = 0
        super().alone()


def test_rows_are_right_in_every_order_while_slots_move():
    rows, counts = 0, Counter[str]()
    for number in range(CASES):
        case = PartedCase(number)
        assert case.simulate() == [], number
        rows += case.rows
        counts += case.w.count
    assert rows > 500 * SCALE
    assert all(counts[what] for what in ("withheld", "rebuilt", "fills", "moved")), counts


@pytest.mark.parametrize("rule", OF_PARTS)
def test_a_rule_left_out_is_caught(rule, monkeypatch):
    leave_out(rule, monkeypatch)
    check_caught(rule, lambda number: PartedCase(number).simulate(), 1_000)
