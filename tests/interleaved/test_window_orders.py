"""Orders of steps that are too rare to come up at random, written out: what one rule is for, and what is without it."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import pytest

from headwater.planning.windows.events import WindowEvent
from tests.interleaved.left_out import SCRIPTED, leave_out
from tests.interleaved.window_checks import differences, problems
from tests.interleaved.window_world import Sourced, World, held

KEY = b"k"


class Reads(random.Random):
    """Lets each read take epoch and record first, and the rows a step later."""

    def random(self) -> float:
        return 0.0


def world() -> World:
    made = World(Reads(1))
    object.__setattr__(made.version, "most_listed", 2)
    finish(made.run())
    return made


def finish(work: Generator[None, None, Any]) -> None:
    for _ in work:
        pass


def write(w: World, number: int) -> Any:
    return w.append({KEY: [(number, None, w.clock, None)]}, {})


def go_back(w: World, operations: int) -> None:
    """A failover to a replica that had so many of the store's writes."""
    w.ops = w.ops[:operations]
    w.store = dict(w.ops)
    w.epoch += 1
    w.lose()


def looked(w: World) -> Generator[None, None, Any]:
    """A run that has read the log's end."""
    run, before = w.run(), len(w.taken)
    while len(w.taken) == before:
        next(run)
    return run


def read_twice(w: World, late: Generator[None, None, Any], meanwhile: Generator[None, None, Any], back: int) -> None:
    """A writer finds that it needs the epoch, and reads it with the record; the store goes back before it has the row.

    Args:
        w: the world.
        late: the writer's work.
        meanwhile: the work that is done before it reads again.
        back: how many of the store's writes are left.
    """
    for _ in range(3):
        next(late)  # before it reads; the record is read; the row is, and it is to be read again
    finish(meanwhile)
    next(late)  # epoch and record are read, the row is not
    go_back(w, back)
    finish(late)


def record_of_another_epoch(w: World) -> None:
    """A writer reads the record; the store goes back; it begins a row by that record."""
    before = len(w.ops)
    write(w, 1)  # its writer is killed
    run = looked(w)
    read_twice(w, w.put(write(w, 2)), run, before)


def record_read_first_is_of_another_epoch(w: World) -> None:
    """A writer finds that it needs the epoch; the store goes back, with the record; it reads both again."""
    before = len(w.ops)
    write(w, 1)  # its writer is killed
    finish(w.run())
    late = w.put(write(w, 2))
    for _ in range(3):
        next(late)  # before it reads; the record is read; the row is, and it is to be read again
    go_back(w, before)
    finish(late)


def folded_by_a_record_of_another_epoch(w: World) -> None:
    """The same, where the row is there and lists too many positions."""
    finish(w.put(write(w, 1)))
    write(w, 2)  # its writer is killed
    finish(w.put(write(w, 3)))
    before = len(w.ops)
    run = looked(w)
    read_twice(w, w.put(write(w, 4)), run, before)


def listed_by_a_run_that_lost_its_lease(w: World) -> None:
    """A run stops before it lists the source; a later one lists it; it grows; the first one goes on, then the later."""
    add_to_source(w, 1)
    early, later = w.run(), w.run()
    for _ in range(2):
        next(early)  # it has taken the lease
    before = len(w.taken)
    while len(w.taken) == before:
        next(later)
    add_to_source(w, 2)
    finish(early)
    finish(later)


def changed_while_it_is_rebuilt(w: World) -> None:
    """A row has to be rebuilt; a writer that was held up puts to it what the log has, just before it is replaced."""
    w.id_times[7] = w.clock
    w.clock += 5
    for number, known in ((1, w.clock), (2, w.clock - 5)):
        finish(w.put(w.append({KEY: [(number, 7, w.id_times[7], known)]}, {})))
    row = w.row(KEY)
    assert row is not None and row.rebuild
    late = w.put(write(w, 3))
    swap_all = w.swap_all

    def after_the_writer(swaps: Any) -> Generator[None, None, list[bool]]:
        w.swap_all = swap_all  # type: ignore[method-assign]
        finish(late)
        return (yield from swap_all(swaps))

    w.swap_all = after_the_writer  # type: ignore[method-assign]
    w.behind = lambda request: set()  # type: ignore[method-assign]
    finish(w.run())


def add_to_source(w: World, number: int) -> None:
    w.source.append(Sourced(KEY, WindowEvent(w.clock, w.clock, False, 0, {"n": number})))


ORDERS = {
    "a run that lost its lease ends": listed_by_a_run_that_lost_its_lease,
    "a row begins within the epoch of its record": record_of_another_epoch,
    "a row that is begun goes by the record that was read within the epoch": record_read_first_is_of_another_epoch,
    "a fold leaves no row to be rebuilt": changed_while_it_is_rebuilt,
    "a single fold holds within the epoch of its record": folded_by_a_record_of_another_epoch,
}


@pytest.mark.parametrize("rule", ORDERS)
def test_an_order_that_is_rare(rule):
    w = world()
    ORDERS[rule](w)
    assert problems(w, [KEY]) == []
    finish(w.run())
    assert problems(w, [KEY]) == differences(w, [KEY]) == []
    row = w.shown(KEY)
    assert row is not None and len(held(row)) in (2, 4)


@pytest.mark.parametrize("rule", ORDERS)
def test_what_it_is_without_the_rule(rule, monkeypatch):
    assert set(ORDERS) == set(SCRIPTED)
    leave_out(rule, monkeypatch)
    w = world()
    ORDERS[rule](w)
    assert {"row", "source", "flag"} & set(problems(w, [KEY]))
