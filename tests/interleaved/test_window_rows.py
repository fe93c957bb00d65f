"""Window rows under writers, deletes, folds, rebuilds, fills, zombies, kills, failovers and restores, step by step:
each row is what its header says, and in the end what history says. Each rule left out gives wrong rows."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from headwater.planning.windows.events import WindowEvent
from headwater.testing import SCALE
from tests.interleaved.left_out import OF_THE_WORLD, RULES, check_caught, leave_out
from tests.interleaved.window_checks import differences, problems
from tests.interleaved.window_world import Sourced, World

KEYS = [bytes([letter]) for letter in b"abcdefghijklmnopqrst"]
WEIGHTS = {"write": 22.0, "source": 4.0, "nothing": 45.0}
"""How often what happens; the rest depends on the case."""


class Case:
    """One random order of events, from its number."""

    world: type[World] = World

    def __init__(self, number: int, bad: str = "") -> None:
        r = self.r = random.Random(number)
        self.w = self.world(r, bad)
        self.live: list[list[Any]] = []
        self.sent: list[Any] = []
        self.wrong: list[str] = []
        self.rows = 0
        fails, lost, restores = r.choice([0, 0, 1, 6]), r.choice([0, 0, 1, 3]), r.choice([0, 0, 1, 3])
        busy, fills, keys = r.choice([1, 1, 4]), 1.0, r.choice([2, 4, 8])
        self.pace, self.length = r.choice([(0, 1, 3, 8, 20), (0, 1, 2, 4)]), r.choice([40, 150])
        match number % 8:
            case 2:  # failovers while keys are new
                fails, lost, restores, keys, self.length = 12, 0, 0, 20, 60
            case 3 | 7:  # many runs at once over few keys
                fails, lost, restores, busy, keys, self.length = 0, 0, 0, 12, 2, 80
            case 5:  # restores and fills, and writers from before
                fails, lost, restores, fills, keys, self.length = 0, 0, 5, 6.0, 2, 80
            case 6:  # failovers and fills over few keys
                fails, lost, restores, fills, keys, self.length = 10, 0, 0, 5.0, 2, 60
        self.keys = KEYS[:keys]
        self.weights = WEIGHTS | {
            "run": 7.0 * busy,
            "force": 1.5 * busy,
            "fill": 1.5 * busy * fills,
            "kill": 3.0 * busy,
            "delete": 3.0 + busy,
            "failover": 1.5 * fails,
            "flush": 0.5 * lost,
            "restore": 0.5 * restores,
            "sleep": 5.0 + 2 * restores,
            "again": 4.0 + 2 * restores,
        }

    def events(self, keys: list[bytes]) -> dict[bytes, list[Any]]:
        r, w = self.r, self.w
        made: dict[bytes, list[Any]] = {}
        for key in keys:
            for _ in range(r.choice([1, 1, 2])):
                w.statements += 1
                name = key[0] * 100 + r.randrange(9) if r.random() < 0.6 else None
                time = w.clock + r.choice([-14, -9, -5, -3, -1, 0, 0, 1, 2, 4, 7])
                if name is not None:
                    time = w.id_times.setdefault(name, time)
                created = r.choice([None, None, w.clock - r.randrange(16), w.clock + r.randrange(-2, 10)])
                made.setdefault(key, []).append((w.statements, name, time, created))
        return made

    def grow_source(self, keys: list[bytes]) -> None:
        for key, given in self.events(keys).items():
            for number, name, time, created in given:
                at = self.w.clock - 1 if created is None else created
                self.w.source.append(Sourced(key, WindowEvent(time, at, False, 0, {"n": number}, id=name)))

    def act(self, now: int) -> None:
        r, w = self.r, self.w
        keys = r.sample(self.keys, r.choice([1, 1, 2]))
        work: Any = None
        what = r.choices(list(self.weights), list(self.weights.values()))[0]
        if not self.live and r.random() < 0.04:
            self.alone()
        if what == "write" and len(self.live) < 9:
            self.sent.append(w.append(self.events(keys), {}))
            work = w.put(self.sent[-1])
        elif what == "again" and self.sent:
            work = w.put(r.choice(self.sent[-r.choice([3, 1_000]) :]))
        elif what == "delete":
            work = w.delete(keys)
        elif what == "source":
            self.grow_source(keys)
        elif what == "run":
            work = w.run(source=r.random() < 0.5)
        elif what == "force":
            work = w.run(force=keys)
        elif what == "fill":
            work = w.fill()
        elif what == "kill" and self.live:
            self.live.pop(r.randrange(len(self.live)))
        elif what == "sleep" and self.live:
            # stops for long, goes on as a zombie
            r.choice(self.live)[1] = now + r.choice([10, 40])
        elif what == "failover":
            w.fail_over()
        elif what == "flush":
            w.flush()
        elif what == "restore":
            w.restore()
        if work is not None:
            self.live.append([work, 0])

    def step(self, process: list[Any]) -> None:
        self.w.clock += self.r.random() < 0.1
        try:
            next(process[0])
        except StopIteration:
            self.live.remove(process)

    def look_over(self) -> None:
        self.rows += len(self.keys)
        self.wrong += problems(self.w, self.keys)

    def alone(self) -> None:
        """A run that nothing disturbs."""
        work, end = self.w.run(), None
        while True:
            try:
                next(work)
            except StopIteration as done:
                end = done.value
                break
        if end is None:
            self.wrong.append("stuck")
        self.rows += len(self.keys)
        self.wrong += differences(self.w, self.keys)

    def simulate(self) -> list[str]:
        for now in range(self.length):
            self.w.clock += self.r.choice([0, 0, 1])
            self.act(now)
            for _ in range(self.r.choice(self.pace)):
                awake = [process for process in self.live if process[1] <= now]
                if awake:
                    self.step(self.r.choice(awake))
            if self.r.random() < 0.2:
                self.look_over()
        while self.live:
            self.step(self.r.choice(self.live))
        self.look_over()
        self.w.clock += self.r.choice([0, 4, 20])
        for _ in range(2):
            self.alone()
            self.look_over()
        return self.wrong


CASES = 60 if SCALE == 1 else 120 * SCALE


def test_rows_are_right_in_every_order():
    rows, counts = 0, Counter[str]()
    for number in range(CASES):
        case = Case(number)
        assert case.simulate() == [], number
        rows += case.rows
        counts += case.w.count
    # it was all there
    assert rows > 25 * CASES
    assert all(counts[what] for what in ("withheld", "rebuilt", "fills", "flags")), counts


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_left_out_is_caught(rule, monkeypatch):
    leave_out(rule, monkeypatch)
    check_caught(rule, lambda number: Case(number, OF_THE_WORLD.get(rule, "")).simulate())
