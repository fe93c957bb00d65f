"""Fresh processes: one measurement each, so that neither memory nor imports of one show in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def in_process(module: str, side: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run one side of a script in a process of its own and take its answer."""
    command = [sys.executable, "-m", module, "--side", side, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(f"{module} --side {side} {json.dumps(arguments)}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def environment() -> dict[str, str]:
    """The environment of a measured process: modules compiled once and kept, as installed packages are."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def alternately(
    module: str, sides: Sequence[str], arguments: Mapping[str, Any], runs: int
) -> dict[str, list[dict[str, Any]]]:
    """Run the sides by turns, so that noise of the machine hits them alike."""
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for i in range(runs):
        for side in sides if i % 2 else reversed(sides):
            answers[side].append(in_process(module, side, arguments))
    return answers


def answer_side(sides: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> bool:
    """In a process that `in_process` started: run the side and print its answer, with the most memory it held."""
    if len(sys.argv) < 4 or sys.argv[1] != "--side":
        return False
    answer = sides[sys.argv[2]](json.loads(sys.argv[3]))
    print(json.dumps({"peak_mb": peak_memory(), **answer}))
    return True


def peak_memory() -> float:
    """The most resident memory this process ever held, in MB (10⁶ bytes).

    From the process itself: `ru_maxrss` would count what its parent held when it was started.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
