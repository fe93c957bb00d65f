"""What hosts do in tests of several of them: processes that apply, write, roll, and tell what was acknowledged."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import headwater as hw
from headwater.compute.writing import put_versions
from headwater.database import transactions
from headwater.errors import RegistryConflict
from headwater.offline.log import log as log_module
from headwater.offline.log.files import LogFolder
from tests.hosts.conftest import USER, clicks

T0 = datetime(2024, 1, 1, tzinfo=UTC)
KEYS = 12
Row = dict[str, Any]


def rows_of(writer: int, batch: int, count: int) -> list[Row]:
    """Rows at random times, so that late and equal ones are among them; each with an `id` that no other has."""
    chance = random.Random(writer * 1_000 + batch)
    return [
        {
            "user": chance.randrange(KEYS),
            "at": T0 + timedelta(seconds=chance.randrange(50)),
            "created_time": T0 + timedelta(days=1, seconds=chance.randrange(50)),
            "id": writer * 1_000_000 + batch * 1_000 + i,
            "amount": chance.random(),
        }
        for i in range(count)
    ]


def again(call: Callable[[], Any]) -> Any:
    """Call until no other host's apply comes between."""
    most = 0.03
    while True:
        try:
            return call()
        except RegistryConflict:
            # fifty that try again at once would be in each other's way for most of the time
            time.sleep(random.uniform(0.001, most))
            most = min(2 * most, 0.5)


def write_and_apply(folder: Path, writer: int, batches: int, done: Callable[[int, Row], None]) -> None:
    """One of many: apply a view of its own in between, write to the view of all, roll now and then."""
    with hw.FeatureStore(folder) as host:
        for batch in range(batches):
            rows = rows_of(writer, batch, 4)
            to = "offline" if batch % 3 == 2 else "both"
            report = again(lambda rows=rows, to=to: host.write("clicks", rows, to=to))  # type: ignore[misc]
            assert report.applied + report.superseded == len(rows) and not report.rejected, report
            done(report.position, rows[-1])
            if batch == 1:
                again(lambda: host.apply([USER, clicks(f"view{writer}")]))
            if batch == 2 and writer % 7 == 0:
                again(lambda: host.materialize(["clicks"]))


def work(folder: Path, writers: Sequence[int], batches: int, told: Connection) -> None:
    """A host: a thread for each writer; tells (position, last row) of every batch, or what went wrong."""
    log_module.HEAD_ROWS = 100
    acknowledged: list[tuple[int, Row]] = []
    problems: list[str] = []

    def run(writer: int) -> None:
        try:
            write_and_apply(folder, writer, batches, lambda position, row: acknowledged.append((position, row)))
        except BaseException as bad:
            problems.append(f"writer {writer}: {type(bad).__name__}: {bad}")

    threads = [threading.Thread(target=run, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send((acknowledged, problems))


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_before(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    real = getattr(owner, name)

    def instead(*args: Any, **more: Any) -> Any:
        if when(*args):
            die()
        return real(*args, **more)

    setattr(owner, name, instead)


def _parquet(_: LogFolder, target: Path, *__: object) -> bool:
    return target.suffix == ".parquet"


MOMENTS: dict[str, Callable[[], None]] = {
    "in mid-append, before it is committed": lambda: _die_before(log_module, "insert_rows"),
    "between log and store": lambda: _die_before(put_versions, "put_rows"),
    "in mid-roll, before the file has its name": lambda: _die_before(
        Path, "replace", lambda at, _: ".parquet" in at.name
    ),
    "in mid-roll, before the file is registered": lambda: _die_before(
        log_module, "compact", lambda *_: _die_before(transactions, "_commit") is not None
    ),
}
"""Where a host is killed."""


def write_until(folder: Path, writer: int, batches: int, moment: str | None, told: Connection) -> None:
    """Write and roll; tell each batch once it is acknowledged; after two batches die at a moment, if one is named."""
    log_module.HEAD_ROWS = 10 if moment is None else 0
    with hw.FeatureStore(folder) as host:
        for batch in range(batches):
            if batch == 2 and moment is not None:
                MOMENTS[moment]()
            rows = rows_of(writer, batch, 4)
            host.write("clicks", rows)
            told.send([row["id"] for row in rows])
    told.send(None)


def received(told: Connection) -> Iterator[Any]:
    """What a process told until it ended."""
    with suppress(EOFError):
        while True:
            yield told.recv()
