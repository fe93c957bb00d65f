"""What a child does about the locks, values and handles that it inherited."""

import copy
import gc
import os
import pickle
import threading
import weakref

import pytest

from headwater import forks
from headwater.errors import Unavailable, UsageError
from tests.children import Child, problem_in_child, run_program


class Thing:
    def __init__(self) -> None:
        self.calls: list[str] = []
        forks.after_fork(
            self,
            lambda thing: thing.calls.append("child"),
            before=lambda thing: thing.calls.append("before"),
            in_parent=lambda thing: thing.calls.append("parent"),
        )


@pytest.mark.parametrize("make", [forks.lock, forks.rlock])
def test_a_lock_that_another_thread_held_is_free_in_a_child_and_held_in_the_parent(make):
    lock, taken, go_on = make(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            go_on.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()

    def take() -> None:
        assert lock.acquire(timeout=60)

    problem = problem_in_child(take)
    assert not lock.acquire(blocking=False)
    go_on.set()
    holder.join()
    assert problem == ""


def test_an_event_can_be_set_in_a_child_while_threads_of_the_parent_wait_for_it():
    event = forks.event()
    waiting = [threading.Thread(target=event.wait) for _ in range(3)]
    for thread in waiting:
        thread.start()

    def use() -> None:
        event.set()
        assert event.wait(60)

    problems = [problem_in_child(use) for _ in range(5)]
    assert not event.is_set()
    event.set()
    for thread in waiting:
        thread.join()
    assert problems == [""] * 5


def test_each_side_of_a_fork_is_told_once_and_a_grandchild_too():
    thing = Thing()

    def child() -> None:
        assert thing.calls == ["before", "child"]

        def grandchild() -> None:
            assert thing.calls == ["before", "child", "before", "child"]

        assert problem_in_child(grandchild) == ""
        assert thing.calls == ["before", "child", "before", "parent"]

    assert problem_in_child(child) == ""
    assert thing.calls == ["before", "parent"]


def test_what_is_watched_is_held_weakly():
    gc.collect()
    thing = Thing()
    gone, watched = weakref.ref(thing), len(forks._watched)
    del thing
    gc.collect()
    assert gone() is None
    assert len(forks._watched) == watched - 1


def test_one_that_fails_leaves_the_others_theirs(tmp_path):
    text = """
import os, sys
from headwater import forks

class Thing:
    calls = 0

def fail(thing): raise ZeroDivisionError
def count(thing): thing.calls += 1

told = []
sys.unraisablehook = lambda unraisable: told.append(unraisable.exc_type.__name__)
first, bad, last = Thing(), Thing(), Thing()
forks.after_fork(first, count, before=count)
forks.after_fork(bad, fail, before=fail)
forks.after_fork(last, count, before=count)
if not os.fork():
    os.write(1, f"{first.calls} {last.calls} {told}\\n".encode())
    os._exit(0)
os.wait()
"""
    assert run_program(text, tmp_path) == ["2 2 ['ZeroDivisionError', 'ZeroDivisionError']"]


def test_what_was_begun_before_a_fork_is_the_parents():
    born = forks.generation()

    def child() -> None:
        assert forks.generation() == born + 1
        with pytest.raises(Unavailable, match="the scan was begun before this process was forked"):
            forks.check_same(born, "the scan")

    assert problem_in_child(child) == ""
    forks.check_same(born, "the scan")


def test_a_lazy_attribute_is_made_once_and_by_a_child_whose_parent_was_at_it():
    class Slow:
        made = 0

        @forks.lazy
        def value(self) -> int:
            """How often it was made."""
            Slow.made += 1
            began.set()
            go_on.wait()
            return Slow.made

    began, go_on = threading.Event(), threading.Event()
    slow, found = Slow(), []
    threads = [threading.Thread(target=lambda: found.append(slow.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    began.wait()

    def child() -> None:
        go_on.set = lambda: None
        type(go_on).wait = lambda *_: True
        assert slow.value == 2

    problem = problem_in_child(child)
    go_on.set()
    for thread in threads:
        thread.join()
    assert problem == ""
    assert found == [1] * 4
    assert Slow.value.__doc__ == "How often it was made."


def test_what_is_abandoned_is_never_finalised_in_the_child_nor_kept_in_the_parent(tmp_path):
    text = """
import os, sys
from headwater import forks

class Handle:
    def __del__(self):
        os.write(1, f"finalised in {'parent' if os.getpid() == parent else 'child'}\\n".encode())

class Holder:
    def __init__(self):
        self.handle = Handle()
        forks.after_fork(self, Holder.in_child)

    def in_child(self):
        forks.abandon(self.handle)
        self.handle = None

parent, holder = os.getpid(), Holder()
child = os.fork()
if not child:
    del holder
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
del holder
"""
    assert run_program(text, tmp_path) == ["finalised in parent"]


def test_what_belongs_to_one_process_is_neither_pickled_nor_copied():
    class Part(forks.OfOneProcess):
        instead = "make another"

    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UsageError, match="Part objects cannot be pickled or copied: make another"):
            send(Part())


def test_many_forks_beside_threads_that_take_locks():
    locks, stop = [forks.rlock() for _ in range(4)], threading.Event()

    def busy() -> None:
        while not stop.is_set():
            for lock in locks:
                with lock:
                    os.getpid()

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()

    def child() -> None:
        for lock in locks:
            assert lock.acquire(timeout=60)

    children = [Child(child) for _ in range(30)]
    problems = [one.problem() for one in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == [""] * 30
