"""Change stored rows as they are now: read, decide, compare and put, and again where somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headwater.errors import StoreError
from headwater.online.base import Change, HighWater, OnlineStore
from headwater.online.rows.codec import sequence_of

TRIES = 1_000
CHUNK = 10_000
"""Rows changed in one call of the store."""

Until = int | Callable[[], int]
"""The instant (microseconds) after which nothing must apply, or what gives it for each call of the store."""


def update(
    online: OnlineStore,
    keys: Sequence[bytes],
    rows: Sequence[bytes | None],
    change: Callable[[int, bytes | None], bytes | None],
    *,
    until: Until,
    high_water: HighWater,
) -> int:
    """Change the rows of some keys.

    Args:
        online: the store.
        keys: what the rows are stored under, each once.
        rows: what was read there.
        change: given a position among the keys and the row there, what the row becomes (None: removed); the very row it
            was given where it stays as it is.
        until: as in `OnlineStore.compare_and_put`; of a long run what gives it, since its lease is renewed on the way.
        high_water: as there.

    Returns:
        How many were changed.

    Raises:
        StoreError: others write one of the rows without end.
    """
    changed = 0
    now = dict(enumerate(rows))
    for _ in range(TRIES):
        wanted = {i: change(i, row) for i, row in now.items()}
        left = [i for i, row in now.items() if wanted[i] is not row]
        if not left:
            return changed
        # a row that is too large was never put, and needs no tombstone: it would carry the same long key
        left = [i for i in left if online.capabilities.takes(keys[i], wanted[i] or b"")]
        changes = [(keys[i], sequence_of(now[i]), wanted[i]) for i in left]
        done = swap_all(online, changes, until, high_water)
        changed += sum(done)
        left = [i for i, swapped in zip(left, done, strict=True) if not swapped]
        now = dict(zip(left, online.multi_get([keys[i] for i in left]), strict=True)) if left else {}
    raise StoreError(
        f"key {keys[left[0]].hex()}: written by others {TRIES} times while it was to be changed; try again"
    )


def swap_all(online: OnlineStore, changes: Sequence[Change], until: Until, high_water: HighWater) -> list[bool]:
    """`OnlineStore.compare_and_put_all` for any number of changes, each call of the store with an end of its own."""
    done: list[bool] = []
    for start in range(0, len(changes), CHUNK):
        end = until if isinstance(until, int) else until()
        done += online.compare_and_put_all(changes[start : start + CHUNK], until=end, high_water=high_water)
    return done
