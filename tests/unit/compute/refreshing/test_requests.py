"""The buffer of refresh requests in front of the queue, and the thread that empties it."""

import time
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from headwater.compute.queue.records import RefreshRecords
from headwater.compute.queue.sql_queue import SQLHintQueue
from headwater.compute.refreshing.requests import HINTS, Flusher, RefreshRequests
from headwater.database.engine import open_engine
from headwater.errors import Unavailable
from headwater.online.hints import Claim, Hint, HintQueue

NOW = 1_700_000_000_000_000
HOUR = 3_600_000_000
LIMIT = 50


def hint(name: str) -> Hint:
    return Hint("weather", "1.0.0", name.encode(), event=NOW - 2 * HOUR, sla=HOUR, asked_at=NOW)


def claim(queue: HintQueue) -> list[Claim]:
    return queue.claim(["weather"], 100, NOW, 10_000_000)


class Broken(SQLHintQueue):
    """A queue that cannot be reached."""

    def offer(self, hints_: Any, now: int) -> int:
        raise Unavailable("no queue")


def buffer(queue: HintQueue, engine: sa.Engine) -> RefreshRequests:
    context: Any = SimpleNamespace(refresh_queue=queue, refresh_records=RefreshRecords(engine), now=lambda: NOW)
    return RefreshRequests(context)


def test_hints_are_flushed_in_the_background_and_at_close(tmp_path: Any) -> None:
    engine = open_engine("sqlite:///queue.db", tmp_path)
    queue = SQLHintQueue(engine, LIMIT)
    hints = buffer(queue, engine)
    flusher = Flusher(hints)
    hints.add([hint("a"), hint("a"), hint("b")])
    until = time.monotonic() + 20
    while queue.counts(NOW).waiting < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert [c.hint.asked for c in claim(queue)] == [2, 1]
    hints.add([hint("c")])
    flusher.close()
    assert [c.hint.key for c in claim(queue)] == [b"c"]
    flusher.close()
    engine.dispose()


def test_hints_without_room_or_queue_are_dropped_and_counted(tmp_path: Any) -> None:
    engine = open_engine("sqlite:///queue.db", tmp_path)
    hints = buffer(Broken(engine, LIMIT), engine)
    hints.add(hint(f"k{i}") for i in range(HINTS + 3))
    assert hints.dropped == 3
    hints.flush()
    assert hints.dropped == HINTS + 3
    assert dict(RefreshRecords(engine).read().totals) == {"dropped": HINTS + 3}
    engine.dispose()
