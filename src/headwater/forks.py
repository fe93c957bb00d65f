"""Forks: what a child process does about locks, threads and connections that it inherited.

A child has its parent's memory and open files, but of its threads only the one that forked: a lock that another thread
held is held for ever, a pool has no workers, and to close a connection would end it for the parent. So whatever holds
such things says here what becomes of it in a child: locks come from `lock` and `rlock`, which make them free again;
other things are watched (`after_fork`): they abandon their handles (`abandon`), and open their own at the next use.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar, overload

from headwater.errors import Unavailable, UsageError
from headwater.values import Value

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a fork waits at most for what cannot be copied in the midst of its work."""


class _Watched(Value, frozen=True):
    """What is done about one object, which is held weakly."""

    kept: weakref.ref[Any]
    in_child: Callable[[Any], None]
    before: Callable[[Any], None] | None
    in_parent: Callable[[Any], None] | None


_watched: dict[int, _Watched] = {}
_numbers = itertools.count()
_generation = 0
_announced = _was_announced = False


def generation() -> int:
    """How many forks lie between this process and the first: what was made in another one is its parent's."""
    return _generation


def was_announced() -> bool:
    """Whether Python knew beforehand of the fork that made this process; programs that fork in C do not tell it."""
    return _was_announced


def check_same(born: int, what: str) -> None:
    """Refuse to go on with something that was begun before a fork.

    Args:
        born: the generation in which it was begun.
        what: it.

    Raises:
        Unavailable: it was begun in another process.
    """
    if born != _generation:
        raise Unavailable(f"{what} was begun before this process was forked, and is its parent's: begin it again here")


def after_fork(
    thing: T,
    in_child: Callable[[T], None],
    *,
    before: Callable[[T], None] | None = None,
    in_parent: Callable[[T], None] | None = None,
) -> None:
    """Call functions with an object at each fork, as long as it is there.

    Args:
        thing: is held weakly.
        in_child: called in the child, which has no other thread then: it must take no lock, and close nothing.
        before: called in the parent before the fork, and not by programs that fork without Python's knowledge.
        in_parent: called in the parent after it.
    """
    number = next(_numbers)
    # no Python code, in which Ctrl-C would be raised and lost; the reference is what pop gives where nothing is there
    kept = weakref.ref(thing, partial(_watched.pop, number))
    _watched[number] = _Watched(kept, in_child, before, in_parent)


def _reinit(made: Any) -> None:
    made._at_fork_reinit()


def lock() -> threading.Lock:
    """A lock that is free in a child, whoever held it at the fork."""
    made = threading.Lock()
    after_fork(made, _reinit)
    return made


def rlock() -> Any:
    """As `lock`, which the thread that holds it may take again."""
    made = threading.RLock()
    after_fork(made, _reinit)
    return made


def event() -> threading.Event:
    """An event that can be set and waited for in a child, whoever did so at the fork."""
    made = threading.Event()
    after_fork(made, _reinit)
    return made


class lazy(Generic[T]):
    """An attribute that is made at its first use, once; as `functools.cached_property`, whose lock outlives a fork."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._lock = rlock()
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[T] | T:
        if instance is None:
            return self
        values = vars(instance)
        with self._lock:
            if self._name not in values:
                values[self._name] = self._make(instance)
        found: T = values[self._name]
        return found


class OfOneProcess:
    """What cannot be sent to another process, since it holds connections, locks or threads: it cannot be pickled.

    Attributes:
        instead: what to do instead, for the error.
    """

    instead = "make one in each process: hw.FeatureStore('path')"

    def __reduce__(self) -> NoReturn:
        raise UsageError(f"{type(self).__name__} objects cannot be pickled or copied: {self.instead}")

    def __copy__(self) -> NoReturn:
        self.__reduce__()


def abandon(*things: Any) -> None:
    """Keep inherited objects for the rest of this process, also at its end: none of them is closed or finalised."""
    for thing in things:
        if thing is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _last.hush()


class _Last:
    """Goes when the interpreter ends: libraries that count their objects then complain of what was abandoned."""

    def __init__(self) -> None:
        self._nowhere = -1

    def hush(self) -> None:
        """Let nothing be written to stderr once the interpreter is gone."""
        if self._nowhere < 0:
            with contextlib.suppress(OSError):
                self._nowhere = os.open(os.devnull, os.O_WRONLY)

    def __del__(self, dup: Callable[[int, int], object] = os.dup2) -> None:
        if self._nowhere >= 0 and sys.is_finalizing():
            dup(self._nowhere, 2)


_last = _Last()


def _each(found: Callable[[_Watched], Callable[[Any], None] | None]) -> None:
    """Call one function of each watched object that is still there; an error of one leaves the others theirs."""
    failed: list[BaseException] = []
    for watched in list(_watched.values()):
        thing, work = watched.kept(), found(watched)
        if thing is not None and work is not None:
            try:
                work(thing)
            except BaseException as bad:
                failed.append(bad)
    if failed:
        raise failed[0]


def _before() -> None:
    global _announced
    _announced = True
    _each(lambda watched: watched.before)


def _in_parent() -> None:
    global _announced
    _announced = False
    _each(lambda watched: watched.in_parent)


def _in_child() -> None:
    global _generation, _announced, _was_announced
    _generation += 1
    _announced, _was_announced = False, _announced
    _each(lambda watched: watched.in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
