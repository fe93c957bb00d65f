"""The order of what reads one another, so that each comes after what it reads; circles are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headwater.errors import UsageError


class Circle(UsageError):
    """Names that read one another in a circle; its text is the path: `a → b → a`."""

    def __init__(self, path: Iterable[str]) -> None:
        self.path = tuple(path)
        super().__init__(" → ".join(self.path))


def in_order(names: Iterable[str], reads: Mapping[str, Iterable[str]]) -> list[str]:
    """Names, each after those that it reads, otherwise as they were given.

    Args:
        names: what to order.
        reads: name → the names that it reads; those that are not among `names` are followed, and left out.

    Raises:
        Circle: some read one another.
    """
    wanted = dict.fromkeys(names)
    done: dict[str, None] = {}
    path: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            steps = list(path)
            raise Circle([*steps[steps.index(name) :], name])
        path[name] = None
        for other in reads.get(name, ()):
            visit(other)
        del path[name]
        done[name] = None

    for name in wanted:
        visit(name)
    return [name for name in done if name in wanted]
