"""Installing: packages and megabytes of the core in a new environment, made by uv at the newest versions allowed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import ROOT


def measure(options: Options) -> list[Figure]:
    """One installation."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        return [_missing("uv is not there")]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "venv"
        try:
            _run([uv, "venv", "-q", "--python", sys.executable, str(place)])
            python = str(place / "bin" / "python")
            _run([uv, "pip", "install", "-q", "--no-config", "--python", python, str(ROOT)])
            packages = json.loads(_run([uv, "pip", "list", "-q", "--format", "json", "--python", python]))
        except subprocess.CalledProcessError as failed:
            return [_missing(failed.stderr.strip().splitlines()[-1])]
        sizes = _sizes(place)
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    return [
        Figure("packages of the core", float(len(packages)), None, "packages", 25, "value"),
        Figure(
            "size of the core",
            sum(sizes.values()) / 1e6,
            None,
            "MB",
            420,
            "value",
            more={name: f"{size / 1e6:.0f}" for name, size in largest},
        ),
    ]


def _missing(why: str) -> Figure:
    return Figure("packages and size of the core", None, None, "", note=f"not measured: {why}")


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _sizes(place: Path) -> dict[str, int]:
    """Bytes of each folder of the environment's packages."""
    (packages,) = place.glob("lib/python*/site-packages")
    sizes: dict[str, int] = {}
    for path in packages.rglob("*"):
        if path.is_file() and not path.is_symlink():
            top = path.relative_to(packages).parts[0]
            sizes[top] = sizes.get(top, 0) + path.stat().st_size
    return sizes


if __name__ == "__main__":
    run_script("install", __doc__ or "", measure)
