"""Window rows that a run has other processes make, step by step: several at once, some twice, some killed, and some
that go on when their run has ended; each rule left out gives wrong rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from headwater.compute.windows import requests as asks
from headwater.compute.windows.rebuilding_elsewhere import rebuild_elsewhere
from headwater.compute.windows.running import run
from headwater.online.rows.windows.record import SourceThrough
from headwater.online.rows.windows.row import WindowRow, blank_row
from headwater.testing import SCALE
from headwater.testing.window_rows import rebuilt
from tests.interleaved.left_out import OF_PROCESSES, check_caught, leave_out
from tests.interleaved.test_window_rows import Case
from tests.interleaved.window_world import LAYOUT, World

CASES = 40 if SCALE == 1 else 80 * SCALE

Steps = Generator[None, None, Any]


class ProcessWorld(World):
    """An engine with processes makes the rows of fills, and of forced runs over all keys."""

    def __init__(self, r: random.Random, bad: str = "") -> None:
        super().__init__(r, bad)
        self.version = replace(self.version, elsewhere=True)
        self.left_behind: list[Steps] = []
        """Processes that their run knows nothing of any more."""

    def elsewhere(self, request: asks.FillElsewhere) -> Generator[None, None, set[bytes] | None]:
        if self.r.random() < 0.1:
            return None
        asked, end = request.rebuild, request.rebuild.end
        log = {key for each in self.log for key, batch in each.batches.items() if batch.position <= end.position}
        events = {key for key in log if any(b.delete is None for b in self.batches(key, 0, end.position))}
        keys = sorted(events | {each.key for each in self.listed(asked.source)})
        given = {key: self.rows_of(key, asked) for key in keys}
        parts = [keys[i::2] for i in range(2)] + ([keys] if self.r.random() < 0.3 else [])
        if self.r.random() < 0.3:
            self.left_behind.append(self.process(request, keys, given))
        left = {key for key in log if any(b.delete is not None for b in self.batches(key, 0, end.position))}
        works = [self.process(request, part, given) for part in parts]
        while works:
            work = self.r.choice(works)
            try:
                next(work)
            except StopIteration as done:
                works.remove(work)
                left |= done.value
            yield
        return left

    def rows_of(self, key: bytes, asked: asks.RebuiltRows) -> Any:
        """What log and source have of a key for a run."""
        listed = [each.event for each in self.listed(asked.source) if each.key == key]
        return {"log": self.batches(key, 0, asked.end.position), "source": listed}

    def process(self, request: asks.FillElsewhere, keys: Sequence[bytes], given: dict[bytes, Any]) -> Steps:
        """The work of one process, which has been given all that it makes rows of."""
        work, answer = rebuild_elsewhere(self.version, request, keys), None
        while True:
            try:
                each: Any = work.send(answer)
            except StopIteration as done:
                return done.value
            yield
            if isinstance(each, asks.ReadRows):
                answer = yield from self.read(each)
                self.count["over"] += sum(row is not None for row in answer.rows.values())
            elif isinstance(each, asks.SwapRows):
                answer = yield from self.swap_all(each)
                self.count["elsewhere"] += sum(answer)
                self.count["refused"] += len(answer) - sum(answer)
            else:
                about: Any = {"fill": each.fill, "run": each.run, "end": each.end}
                answer = {key: rebuilt(self.version, **given[key], **about) for key in each.keys}

    def run(self, *, source: bool = True, force: Any = ()) -> Generator[None, None, asks.End | None]:
        whole = bool(force) and self.r.random() < 0.7
        return (yield from self.steps(run(self.version, source=source, force=force, whole=whole)))


class ProcessCase(Case):
    """One random order of events with fills by processes."""

    world = ProcessWorld
    w: ProcessWorld

    def __init__(self, number: int, bad: str = "") -> None:
        super().__init__(number, bad)
        self.weights |= {"fill": 5.0, "force": 4.0}

    def act(self, now: int) -> None:
        super().act(now)
        while self.w.left_behind:
            self.live.append([self.w.left_behind.pop(), now + self.r.choice([0, 5, 20])])


def test_rows_are_right_in_every_order_while_processes_make_them():
    rows, counts = 0, Counter[str]()
    for number in range(CASES):
        case = ProcessCase(number)
        assert case.simulate() == [], number
        rows += case.rows
        counts += case.w.count
    assert rows > 25 * CASES
    assert all(counts[what] for what in ("withheld", "fills", "elsewhere", "over", "refused")), counts


@pytest.mark.parametrize("rule", OF_PROCESSES)
def test_a_rule_left_out_is_caught(rule, monkeypatch):
    leave_out(rule, monkeypatch)
    check_caught(rule, lambda number: ProcessCase(number).simulate())


def test_what_a_later_run_or_fill_made_is_left_to_the_run():
    """On a clock that stands still its rows are no further than those of the earlier one."""
    version, end = asks.Version(LAYOUT, 3), asks.End(5, 50)
    asked = asks.FillElsewhere(asks.RebuiltRows((), SourceThrough(), end, fill=20, run=30), 1, goes_on=False)

    def stored(fill: int, run: int) -> WindowRow:
        row = blank_row(LAYOUT, fill=fill, applied_through=5, known_through=50)
        row.sequence, row.run = 1, run
        return row

    rows = {b"a": stored(20, 31), b"b": stored(21, 0), b"c": stored(20, 30), b"d": stored(19, 40), b"e": None}
    work = rebuild_elsewhere(version, asked, sorted(rows))
    assert isinstance(next(work), asks.ReadRows)
    wanted = work.send(asks.Snapshot(None, None, {**rows, b"f": asks.DamagedRow(1)}))
    assert wanted == replace(asked.rebuild, keys=[b"c", b"d", b"e"])
    swaps = work.send({key: stored(20, 30) for key in wanted.keys})
    assert [swap.sequence for swap in swaps.swaps] == [1, 1, 0]
    with pytest.raises(StopIteration) as done:
        work.send([True, False, True])
    assert done.value.value == {b"a", b"b", b"d"}
