"""Starting: `import headwater` and `headwater --help`, medians of fresh processes, beside Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import ROOT, environment

COMMAND = str(Path(sys.executable).with_name("headwater"))
STARTS: tuple[tuple[str, list[str], float | None], ...] = (
    ("import headwater", [sys.executable, "-c", "import headwater"], 0.15),
    ("headwater --help", [COMMAND, "--help"], 0.3),
    (
        "import headwater; headwater.FeatureStore",
        [sys.executable, "-c", "import headwater; headwater.FeatureStore"],
        None,
    ),
)
NOTHING = [sys.executable, "-c", "pass"]


def measure(options: Options) -> list[Figure]:
    """Each start, with Python's own between."""
    runs = options.runs or (3 if options.quick else 10)
    figures = []
    for what, command, target in STARTS:
        _seconds(command)
        pairs = [(_seconds(command), _seconds(NOTHING)) for _ in range(runs)]
        ours, nothing = zip(*pairs, strict=True)
        more = {"best": f"{min(ours):.3f}"}
        figures.append(Figure(what, median(ours), median(nothing), "s", target, "value", runs, more))
    return figures


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began


if __name__ == "__main__":
    run_script("startup", __doc__ or "", measure)
