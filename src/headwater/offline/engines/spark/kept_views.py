"""Temporary views of queries and files, named by what they show: of those that no run uses some are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from headwater import forks

MOST = 64
"""Views that no run uses which are kept: the next run over the same source need not make them again."""


class KeptViews:
    """The temporary views of one session, and how many runs use each.

    Args:
        drop: drops a view by its name.
    """

    def __init__(self, drop: Callable[[str], object]) -> None:
        self._drop = drop
        self._lock = forks.lock()
        self._users: dict[str, int] = {}

    def use(self, name: str) -> None:
        """Note that a run uses a view; before it is made, so that nobody drops it meanwhile."""
        with self._lock:
            # last in order: it was asked for last
            self._users[name] = self._users.pop(name, 0) + 1

    def release(self, names: Iterable[str]) -> None:
        """Note that a run has ended that used views; drop the oldest that nobody uses, where there are many."""
        with self._lock:
            for name in names:
                if name in self._users:
                    self._users[name] -= 1
            unused = [name for name, users in self._users.items() if not users]
            self._drop_some(unused[: max(0, len(unused) - MOST)])

    def drop_all(self) -> None:
        """Drop all of them."""
        with self._lock:
            self._drop_some(list(self._users))

    def _drop_some(self, names: Iterable[str]) -> None:
        some = list(names)
        for name in some:
            del self._users[name]
        with suppress(Exception):  # of a server that is gone they are gone too
            for name in some:
                self._drop(name)
