"""A gate: many inside, or one alone."""

import threading
import time

from headwater.gate import Gate, Turns


def test_who_shuts_it_waits_until_all_are_out_and_lets_nobody_in():
    gate, order = Gate(), []
    gate.enter()
    alone = threading.Thread(target=lambda: (gate.shut(), order.append("alone"), time.sleep(0.05), gate.open()))
    alone.start()
    while not gate._shut:
        time.sleep(0.001)
    other = threading.Thread(target=lambda: (gate.enter(), order.append("in"), gate.leave()))
    other.start()
    time.sleep(0.02)
    assert order == []
    gate.leave()
    alone.join()
    other.join()
    assert order == ["alone", "in"]
    assert gate.inside == 0


def test_a_wait_that_takes_too_long_leaves_it_open():
    gate = Gate()
    gate.enter()
    assert not gate.shut(0.02)
    entered = threading.Thread(target=gate.enter)
    entered.start()
    entered.join(5)
    assert gate.inside == 2
    gate.leave()
    gate.leave()
    assert gate.shut(0.02)
    assert not gate.shut(0.02)
    gate.open()
    with gate.alone():
        assert not gate.shut(0.0)
    assert gate.shut(0.0)


def test_turns_come_in_order_and_who_gives_up_loses_none():
    turns, order, threads = Turns(), list[int](), list[threading.Thread]()
    assert turns.acquire(1)

    def take(n: int) -> None:
        if turns.acquire(0.05 if n == 3 else 10):
            order.append(n)
            turns.release()

    for n in range(4):
        threads.append(threading.Thread(target=take, args=(n,)))
        threads[-1].start()
        while len(turns._waiting) <= n:
            time.sleep(0.001)
    threads[3].join(10)
    assert not turns.acquire(0)
    turns.release()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2]
    assert turns.acquire(0)
