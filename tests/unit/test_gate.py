"""A gate: many inside, or one alone; turns in order. Ctrl-C leaves nobody behind that others would wait for."""

import random
import signal
import threading
import time

import pytest

from headwater.gate import Gate, Turns


def test_who_shuts_it_waits_until_all_are_out_and_lets_nobody_in():
    gate, order = Gate(), []
    gate.enter("first")
    alone = threading.Thread(target=lambda: (gate.shut("me"), order.append("alone"), time.sleep(0.05), gate.open("me")))
    alone.start()
    while not gate._alone:
        time.sleep(0.001)
    other = threading.Thread(target=lambda: (gate.enter("other"), order.append("in"), gate.leave("other")))
    other.start()
    time.sleep(0.02)
    assert order == []
    gate.leave("first")
    alone.join()
    other.join()
    assert order == ["alone", "in"]
    assert gate.inside == 0


def test_a_wait_that_takes_too_long_leaves_it_open():
    gate = Gate()
    gate.enter(1)
    assert not gate.shut("me", 0.02)
    entered = threading.Thread(target=gate.enter, args=(2,))
    entered.start()
    entered.join(60)
    assert gate.inside == 2
    gate.leave(1)
    gate.leave(2)
    assert gate.shut("me", 0.02)
    assert not gate.shut("another", 0.02)
    gate.open("me")
    with gate.alone():
        assert not gate.shut("another", 0.0)
    assert gate.shut("another", 0.0)


def test_those_that_shut_it_come_one_after_the_other():
    gate, alone, most = Gate(), 0, 0

    def work() -> None:
        nonlocal alone, most
        for _ in range(20):
            with gate.alone():
                alone += 1
                most = max(most, alone)
                time.sleep(0.0001)
                alone -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (alone, most) == (0, 1)


def test_turns_come_in_order_and_who_gives_up_loses_none():
    turns, order, threads = Turns(), list[int](), list[threading.Thread]()
    first = threading.Lock()
    assert turns.acquire(first, 1)

    def take(n: int) -> None:
        me = threading.Lock()
        if turns.acquire(me, 0.05 if n == 3 else 60):
            order.append(n)
        turns.release(me)

    for n in range(4):
        threads.append(threading.Thread(target=take, args=(n,)))
        threads[-1].start()
        while len(turns._line) <= n + 1 and threads[-1].is_alive():
            time.sleep(0.001)
    threads[3].join(60)
    another = threading.Lock()
    assert not turns.acquire(another, 0)
    turns.release(another)
    turns.release(first)
    for thread in threads:
        thread.join(60)
    assert order == [0, 1, 2]
    assert turns.acquire(another, 1)


def _pass(gate: Gate) -> None:
    me = object()
    try:
        gate.enter(me)
    finally:
        gate.leave(me, None)


def _shut(gate: Gate) -> None:
    with gate.alone():
        pass


def _shut_in_vain(gate: Gate) -> None:
    me = object()
    try:
        gate.enter(1)
        gate.shut(me, 0.001)
    finally:
        gate.open(me, None)
        gate.leave(1, None)


@pytest.mark.parametrize("work", [_pass, _shut, _shut_in_vain])
def test_ctrl_c_at_any_moment_leaves_nobody_inside(work):
    gate, chance, interrupts = Gate(), random.Random(3), 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(1_000):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 4e-5))
                for _ in range(100):
                    work(gate)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupts += 1
            assert (gate.inside, gate._alone) == (0, {})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 100


def test_ctrl_c_at_any_moment_leaves_nobody_a_turn():
    turns, chance, interrupts = Turns(), random.Random(3), 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(1_000):
            me = threading.Lock()
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 4e-5))
                for _ in range(100):
                    turns.acquire(me, 60)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupts += 1
            turns.release(me)
            assert turns._line == {}
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 100
