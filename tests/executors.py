"""An engine with processes of its own: the embedded one, whose changes are put by forked processes, a bucket each.

As engines of a cluster do, it tries a bucket again whose process died, may run one twice, and counts the answer of one.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from headwater.errors import StoreError
from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.sink import Executors, PutCounts, Sink
from headwater.planning.buckets import Bucket

FORKS = get_context("fork")
TRIES = 4


@dataclass
class Luck:
    """What befalls the processes.

    Attributes:
        seed: of the chances.
        killed: which part of them is killed with SIGKILL, at some moment.
        twice: which part of the buckets is run by two at once.
        within: up to how many seconds after it began a process is killed.
    """

    seed: int = 0
    killed: float = 0.0
    twice: float = 0.0
    within: float = 0.3
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)


class ExecutorEngine(DuckDBEngine):
    """See the module.

    Args:
        folder: the project's.
        buckets: how many.
        at_once: processes at once.
        luck: what befalls them; None: nothing.
        where: where they are said to be.
        begin: run in each before it puts.
    """

    def __init__(
        self,
        folder: Path,
        buckets: int = 6,
        at_once: int = 3,
        luck: Luck | None = None,
        where: Executors = Executors.LOCAL,
        begin: Callable[[], Any] = lambda: None,
    ) -> None:
        super().__init__(folder)
        self.buckets, self.at_once, self.luck, self.where, self.begin = buckets, at_once, luck or Luck(), where, begin
        self.killed = self.ran = 0

    @property
    def executors(self) -> Executors:
        return self.where

    def put_changes(self, request: ChangesRequest, counts: ChangeCounts, sink: Sink) -> Iterator[PutCounts]:
        packed = pickle.dumps(sink)
        left = [Bucket(i, self.buckets) for i in range(self.buckets)]
        tried: dict[int, int] = {}
        running: dict[Connection, tuple[Any, Bucket]] = {}
        done: set[int] = set()
        doomed: dict[int, float] = {}
        try:
            while left or running:
                while left and len(running) < self.at_once:
                    bucket = left.pop(0)
                    tried[bucket.index] = tried.get(bucket.index, 0) + 1
                    for _ in range(1 + (self.luck.chance.random() < self.luck.twice)):
                        told, telling = FORKS.Pipe(duplex=False)
                        with warnings.catch_warnings():
                            warnings.simplefilter("ignore", DeprecationWarning)
                            process = FORKS.Process(target=self._work, args=(request, bucket, packed, telling))
                            process.start()
                        telling.close()
                        self.ran += 1
                        running[told] = process, bucket
                        last = tried[bucket.index] == TRIES
                        if not last and self.luck.chance.random() < self.luck.killed:
                            doomed[process.pid] = time.monotonic() + self.luck.chance.uniform(0, self.luck.within)
                ready = wait(list(running), 0.005)
                for pid in [pid for pid, when in doomed.items() if when < time.monotonic()]:
                    os.kill(pid, signal.SIGKILL)
                    del doomed[pid]
                    self.killed += 1
                for told in ready:
                    assert isinstance(told, Connection)
                    process, bucket = running.pop(told)
                    try:
                        problem, part, own = told.recv()
                    except EOFError:
                        problem, part, own = "its process died", None, None
                    told.close()
                    process.join()
                    doomed.pop(process.pid, None)
                    if bucket.index in done:
                        continue  # another one's answer counts
                    if problem:
                        if any(other.index == bucket.index for _, other in running.values()):
                            continue
                        if tried[bucket.index] == TRIES:
                            raise StoreError(f"bucket {bucket.index}: {problem}")
                        left.append(bucket)
                        continue
                    done.add(bucket.index)
                    for name, number in vars(own).items():
                        if isinstance(number, int):
                            setattr(counts, name, getattr(counts, name) + number)
                    counts.lacking.update(own.lacking)
                    counts.file_rows.update(own.file_rows)
                    yield part
        finally:
            for told, (process, _) in running.items():
                told.close()
                process.join(0.0)

    def _work(self, request: ChangesRequest, bucket: Bucket, packed: bytes, telling: Connection) -> None:
        own = ChangeCounts()
        try:
            self.begin()
            engine = DuckDBEngine(self.folder, threads=1)
            part = pickle.loads(packed).put(engine.changes(replace(request, bucket=bucket), own))
            telling.send(("", part, own))
        except Exception as bad:
            telling.send((f"{type(bad).__name__}: {bad}", None, None))
        finally:
            telling.close()
            os._exit(0)
