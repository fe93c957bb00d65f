"""A sample of the keys that an online store has, drawn by a look at a bounded part of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from headwater.advisor.timed import Stop, TookTooLong, within
from headwater.compute.context import StoreContext
from headwater.errors import FormatError
from headwater.online.rows.codec import header
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolved import ResolvedRequest, ResolvedView

LOOKED_AT_LOCAL = 100
LOOKED_AT = 10
"""How many rows are looked at for each key that is drawn, at most: in a store on this machine, and in another."""


@dataclass
class ViewSample:
    """Keys of one view version.

    Attributes:
        keys: the join keys' values, in the view's order, of each row drawn; in random order.
        known: when each of the rows was known, microseconds; those without a time have the least int64.
        looked_at: how many rows the store gave.
        whole: whether these are all rows of the version.
    """

    keys: list[tuple[Any, ...]] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    looked_at: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Entities:
    """Entities to ask a request's features for.

    Attributes:
        columns: join key → its values.
        known: for each entity, when its row was known, microseconds.
        looked_at: how many rows of the store they were drawn from.
        whole: whether these were all rows of the views.
    """

    columns: Mapping[str, Sequence[Any]]
    known: Sequence[int]
    looked_at: int
    whole: bool

    def __len__(self) -> int:
        return len(self.known)

    def some(self, places: Sequence[int]) -> dict[str, list[Any]]:
        """The entities at some places, as `read` takes them."""
        return {name: [values[i] for i in places] for name, values in self.columns.items()}


def draw(context: StoreContext, view: ResolvedView, count: int, seconds: float, rng: random.Random) -> ViewSample:
    """Draw keys of a view version: each row of the part that is looked at is as likely as any other.

    Args:
        context: the store's parts and settings.
        view: the version.
        count: how many keys, at most.
        seconds: how long the store may be looked at.
        rng: draws.

    Raises:
        StoreError: the store cannot be read.
    """
    found = ViewSample()
    rows = RowEncoder(context.project, view)
    most = count * (LOOKED_AT_LOCAL if context.online.capabilities.local else LOOKED_AT)
    until = time.monotonic() + seconds
    drawn: list[tuple[bytes, bytes]] = []

    def look(stop: Stop) -> bool:
        # the stores' iterators are generators: closed, they let go of what they hold
        with closing(cast("Any", context.online.scan(rows.prefix))) as scanned:
            for key, row in cast("Iterator[tuple[bytes, bytes]]", scanned):
                head = header(row)
                if head is None or head.emptied:
                    continue
                found.looked_at += 1
                if len(drawn) < count:
                    drawn.append((key, row))
                elif (place := rng.randrange(found.looked_at)) < count:
                    drawn[place] = (key, row)
                if found.looked_at >= most or stop.is_set() or time.monotonic() >= until:
                    return False
        return True

    with suppress(TookTooLong):
        found.whole = within(seconds, look)
    drawn = drawn[:count]
    rng.shuffle(drawn)
    for key, row in drawn:
        head = header(row)
        assert head is not None
        try:
            found.keys.append(rows.decode_key(key, row))
        except FormatError:
            continue
        found.known.append(head.known_at)
    return found


def entities_of(request: ResolvedRequest, samples: Mapping[tuple[str, str], ViewSample]) -> Entities | None:
    """Entities that have every join key of a request; None where a view that must give one has no rows.

    Keys of one view stand together as they were drawn; what its rows do not say comes from the rows of another view.

    Args:
        request: the features.
        samples: (view, version) → keys drawn.
    """
    views = sorted(request.views, key=lambda view: -len(view.keys))
    drawn = [samples[view.name, view.version] for view in views]
    used: list[tuple[ResolvedView, ViewSample, list[int]]] = []
    filled: set[str] = set()
    for view, sample in zip(views, drawn, strict=True):
        new = [i for i, key in enumerate(view.keys) if key.column not in filled]
        if view.keys and not new:
            continue
        if not sample.keys:
            if view.keys:
                return None
            continue
        used.append((view, sample, new))
        filled |= {view.keys[i].column for i in new}
    if not used:
        return None
    size = max(len(sample.keys) for _, sample, _ in used)
    columns = {
        view.keys[i].column: [sample.keys[n % len(sample.keys)][i] for n in range(size)]
        for view, sample, new in used
        for i in new
    }
    known = [max(sample.known[n % len(sample.known)] for _, sample, _ in used) for n in range(size)]
    looked_at = sum(sample.looked_at for _, sample, _ in used)
    return Entities(columns, known, looked_at, all(sample.whole for _, sample, _ in used))
