"""Starting, medians of fresh processes: `import headwater` and `headwater --help`, beside Python that does nothing.

And a process that only serves: it opens a store on LMDB, prepares and reads once; its processor time beside that of
`import numpy, pyarrow, lmdb, msgspec`, with pandas installed. And `headwater get` of one key into a pipe, beside the
same; what a command of Typer that does nothing takes beyond Python is taken off.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import ROOT, environment
from benchmarks.projects import filled_project, random_features

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
SERVING = """
import sys, time
import headwater
with headwater.FeatureStore(sys.argv[1]) as store:
    store.prepare(["view0:*"]).read([1]).to_dict()
print(time.process_time())
"""
LIBRARIES = "import time, numpy, pyarrow, lmdb, msgspec; print(time.process_time())"
TYPER = """
import typer
app = typer.Typer()
for name in "ab":
    @app.command(name)
    def run(one: str = typer.Option("one")): ...
app(["a"])
"""
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
    return [*figures, *_serving(runs)]


def _serving(runs: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        filled_project(folder, [1, 2, 3], random_features(3, 1, 1)).close()
        get = [COMMAND, "get", "--project", scratch, "--features", "view0:*", "--key", "user=1"]
        commands = (get, [sys.executable, "-c", LIBRARIES], [sys.executable, "-c", TYPER], NOTHING)
        rounds = [
            (_cpu(SERVING, scratch), _cpu(LIBRARIES), *(_whole_cpu(command) for command in commands))
            for _ in range(runs + 1)
        ]
    ours, libraries, gets, whole, typer, nothing = zip(*rounds[1:], strict=True)
    beyond = [one - (other - least) for one, other, least in zip(gets, typer, nothing, strict=True)]
    return [
        _beside("serve from LMDB: start, prepare, read", ours, libraries, 1.3),
        _beside("headwater get, one key, without Typer", beyond, whole, 1.5),
    ]


def _beside(what: str, ours: Sequence[float], libraries: Sequence[float], target: float) -> Figure:
    more = {"best": f"{min(ours):.3f} / {min(libraries):.3f}"}
    return Figure(what, median(ours), median(libraries), "CPU s", target, runs=len(ours), more=more)


def _whole_cpu(command: Sequence[str]) -> float:
    """Processor time of a process from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, env=environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cpu(script: str, *arguments: str) -> float:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment())
    return float(done.stdout)


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began


if __name__ == "__main__":
    run_script("startup", __doc__ or "", measure)
