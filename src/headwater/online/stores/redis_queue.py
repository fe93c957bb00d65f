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

from headwater.online.hints import Claim, DeadLetter, Fate, Hint, HintQueue, Outcome, QueueCounts
from headwater.online.keys import META_PREFIX
from headwater.online.stores.redis_scripts import Script, load

Call = Callable[[Script, Sequence[bytes], Sequence[Any]], Any]
"""Runs a script where some keys lie: the script, the keys, the values."""

_AT_ONCE = 500
"""Hints of one script: the server answers nobody else meanwhile."""

_OFFER, _CLAIM, _SETTLE, _DEAD, _REPLAY, _SCAN, _COUNTS = (
    load("queue", f"queue_{name}") for name in ("offer", "claim", "settle", "dead", "replay", "scan", "counts")
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

    def claim(self, views: Sequence[str], limit: int, now: int, lease: int) -> list[Claim]:
        token = uuid.uuid4().hex
        found = self._run(_CLAIM, now, max(1, lease // 1_000), limit, token, *views) if views else []
        items = [json.loads(text) for text in found]
        return [Claim(_as_hint(item), int(item["tries"]), token) for item in items]

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        values = [(o.claim.hint.id.hex(), o.claim.token, o.fate.value, o.until, o.error) for o in outcomes]
        self._settle(values)

    def _settle(self, values: Sequence[tuple[str, str, str, int, str]]) -> None:
        for start in range(0, len(values), _AT_ONCE):
            self._run(_SETTLE, self._limit, *[v for row in values[start : start + _AT_ONCE] for v in row])

    def dead(self, limit: int) -> list[DeadLetter]:
        found = self._run(_DEAD, limit)
        letters = []
        for text, died_at in zip(found[::2], found[1::2], strict=True):
            item = json.loads(text)
            letters.append(DeadLetter(_as_hint(item), int(item["tries"]), int(float(died_at)), item["error"]))
        return letters

    def replay(self, views: Sequence[str], now: int) -> int:
        return int(self._run(_REPLAY, now, *views))

    def forget(self, view: str, gone: Callable[[str, bytes], bool]) -> int:
        cursor: Any = b"0"
        forgotten: set[str] = set()
        while True:
            cursor, found = self._run(_SCAN, cursor)
            for name, text in zip(found[::2], found[1::2], strict=True):
                hint = _as_hint(json.loads(text))
                if hint.view == view and gone(hint.version, hint.key):
                    forgotten.add(name.decode())
            if cursor == b"0":
                break
        self._settle([(name, "", Fate.DONE.value, 0, "") for name in forgotten])
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


def _as_hint(item: dict[str, Any]) -> Hint:
    return Hint(
        item["view"],
        item["version"],
        bytes.fromhex(item["key"]),
        int(item["event"]),
        int(item["sla"]),
        int(item["asked_at"]),
        int(item["asked"]),
    )
