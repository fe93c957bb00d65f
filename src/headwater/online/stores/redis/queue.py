"""The refresh queue on Redis Streams: a stream for each view and band of urgency, whose entries workers claim.

    …:items      hash: id → the hint (JSON) and how it stands
    …:streams    set: view:band of each stream there is
    …:s:VIEW:B   stream of ids, band 0 the most urgent; one consumer group, whose pending entries are leases
    …:rest …:retry …:dead   sorted sets: id → until when, or when it died

Each method is one script or a few, so that no process that dies leaves the queue half-changed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from headwater.clock import FIRST_MICROS, LAST_MICROS
from headwater.errors import FormatError, brief
from headwater.online.hints import Claim, DeadLetter, Hint, HintQueue, Outcome, OutcomeKind, QueueCounts, stored_hint
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.scripts import Script, load

Call = Callable[[Script, Sequence[bytes], Sequence[Any]], Any]
"""Runs a script where some keys lie: the script, the keys, the values."""

_AT_ONCE = 500
"""Hints of one script: the server answers nobody else meanwhile."""

_OFFER, _CLAIM, _SETTLE, _DEAD, _REPLAY, _SCAN, _COUNTS, _REPAIR = (
    load("queue", f"queue_{name}")
    for name in ("offer", "claim", "settle", "dead", "replay", "scan", "counts", "repair")
)


class RedisHintQueue(HintQueue):
    """Hints in Redis; as durable as Redis is.

    A lease is Redis's own time since an entry was claimed. Within a band the oldest hint comes first.

    Args:
        call: runs a script at the primary of a key.
        name: whose queue it is: processes that give one name share one queue.
        limit: how many hints may wait; as many may rest, and be dead.
    """

    kind = "redis streams"

    def __init__(self, call: Call, name: str, limit: int) -> None:
        self._call = call
        tag = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        # in braces: all of a queue lies in one slot of a cluster
        self._keys = [META_PREFIX + b"{queue1:" + tag.encode() + b"}"]
        self._limit = limit

    def _run(self, script: Script, *values: Any) -> Any:
        return self._call(script, self._keys, values)

    def offer(self, hints: Sequence[Hint], now: int) -> int:
        dropped = 0
        for start in range(0, len(hints), _AT_ONCE):
            values = [v for hint in hints[start : start + _AT_ONCE] for v in (hint.id.hex(), _as_text(hint))]
            dropped += int(self._run(_OFFER, now, self._limit, *values))
        return dropped

    def claim(
        self, views: Sequence[str], limit: int, now: int, lease: int, unreadable: list[str] | None = None
    ) -> list[Claim]:
        token = uuid.uuid4().hex
        found = self._run(_CLAIM, now, max(1, lease // 1_000), limit, token, *views) if views else []
        claims = []
        gone: list[bytes] = []
        for name, text in zip(found[::2], found[1::2], strict=True):
            try:
                item, hint = _stored(name, text)
                claims.append(Claim(hint, int(item["tries"]), token))
            except FormatError as bad:
                gone.append(name)
                _name(name, bad, unreadable)
        self._settle([(name, "", OutcomeKind.DONE.value, 0, "") for name in gone])
        return claims

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        values = [(o.claim.hint.id.hex(), o.claim.token, o.kind.value, o.until, o.error) for o in outcomes]
        self._settle(values)

    def _settle(self, values: Sequence[tuple[Any, str, str, int, str]]) -> None:
        for start in range(0, len(values), _AT_ONCE):
            self._run(_SETTLE, self._limit, *[v for row in values[start : start + _AT_ONCE] for v in row])

    def dead(self, limit: int, unreadable: list[str] | None = None) -> list[DeadLetter]:
        found = self._run(_DEAD, limit)
        letters = []
        for name, text, died_at in zip(found[::3], found[1::3], found[2::3], strict=True):
            try:
                item, hint = _stored(name, text)
                letters.append(DeadLetter(hint, int(item["tries"]), _instant(died_at), str(item["error"])))
            except FormatError as bad:
                _name(name, bad, unreadable)
        return letters

    def replay(self, views: Sequence[str], now: int) -> int:
        return int(self._run(_REPLAY, now, *views))

    def repair_clock(self, now: int, longest: int) -> int:
        return int(self._run(_REPAIR, now, longest))

    def forget(self, view: str, gone: Callable[[str, bytes], bool]) -> int:
        cursor: Any = b"0"
        forgotten: set[Any] = set()
        while True:
            cursor, found = self._run(_SCAN, cursor)
            for name, text in zip(found[::2], found[1::2], strict=True):
                try:
                    _, hint = _stored(name, text)
                    mine = hint.view == view and gone(hint.version, hint.key)
                except FormatError:
                    # nobody can tell whose the key is
                    mine = True
                if mine:
                    forgotten.add(name)
            if cursor == b"0":
                break
        self._settle([(name, "", OutcomeKind.DONE.value, 0, "") for name in forgotten])
        return len(forgotten)

    def counts(self, now: int) -> QueueCounts:
        waiting, claimed, resting, dead, oldest = self._run(_COUNTS, now)
        return QueueCounts(max(0, waiting), claimed, resting, dead, int(oldest) if oldest else None)


def _as_text(hint: Hint) -> str:
    """A hint as JSON; times as text, for Lua's JSON writes 14 digits of a number."""
    return json.dumps(
        {
            "view": hint.view,
            "version": hint.version,
            "key": hint.key.hex(),
            "event": str(hint.event),
            "sla": str(hint.sla),
            "asked_at": str(hint.asked_at),
            "asked": hint.asked,
            "tries": 0,
            "token": "",
            "entry": "",
            "error": "",
        }
    )


def _stored(name: bytes, text: bytes | None) -> tuple[dict[str, Any], Hint]:
    """What is stored under an id (hex), and its hint.

    Raises:
        FormatError: it cannot be read.
    """
    try:
        item = json.loads(text or b"")
        id_, key = bytes.fromhex(name.decode()), bytes.fromhex(item["key"])
        numbers = [int(item[name]) for name in ("event", "sla", "asked_at", "asked", "tries")]
        str(item["error"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as bad:
        raise FormatError(f"what is stored is {brief(text)} ({type(bad).__name__})") from None
    return item, stored_hint(id_, item["view"], item["version"], key, *numbers[:4])


def _instant(score: bytes) -> int:
    """When a hint died, microseconds; an instant that Python can hold."""
    return int(min(max(float(score), FIRST_MICROS), LAST_MICROS))


def _name(name: bytes, bad: FormatError, unreadable: list[str] | None) -> None:
    if unreadable is not None:
        unreadable.append(f"{name[:64].decode('latin-1')}: {bad}")
