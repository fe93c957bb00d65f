"""A side: one feature store in a process (and an environment) of its own, told what to do line by line.

Imports nothing that is not in every environment.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.processes import ROOT, environment, peak_memory

Handler = Callable[..., Any]


def answer(handlers: Mapping[str, Handler]) -> None:
    """In a side's process: do what each line of input asks, and answer it by a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a store prints is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        found = handlers[asked.pop("do")](**asked)
        print(json.dumps({"answer": found, "peak_mb": peak_memory()}), file=answers, flush=True)


def timed(work: Callable[[Any], Any], inputs: Iterable[Any]) -> list[float]:
    """Microseconds of each call."""
    times = []
    for given in inputs:
        began = time.perf_counter()
        work(given)
        times.append((time.perf_counter() - began) * 1e6)
    return times


class Side:
    """The other end of `answer`: `with Side(python, module, scratch) as side: side.ask("read", …)`.

    Attributes:
        peak_mb: the most memory that the process has held by its last answer.
    """

    def __init__(self, python: Path, module: str, scratch: Path) -> None:
        self.peak_mb = 0.0
        self._name = module
        self._told = scratch / f"{module}.{time.monotonic_ns()}.log"
        with self._told.open("wb") as told:
            self._process = subprocess.Popen(
                [str(python), "-m", module],
                cwd=ROOT,
                env=environment(),
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()

    def send(self, do: str, **given: Any) -> None:
        """Ask for something, and do not wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
        self._process.stdin.flush()

    @property
    def answered(self) -> bool:
        """Whether what was sent is done."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def receive(self) -> Any:
        """What was sent for."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended:\n{self._told.read_text()[-3000:]}")
        found = json.loads(line)
        self.peak_mb = found["peak_mb"]
        return found["answer"]

    def ask(self, do: str, **given: Any) -> Any:
        """Ask for something and wait."""
        self.send(do, **given)
        return self.receive()
