"""The page about PyTorch, in a process that has it: the tests' own environment would be twice as large with it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"
RUN = """
import sys
from pathlib import Path
from scripts.doc_snippets import run

for snippet, printed in run(Path(sys.argv[1]), {"__name__": "page"}):
    if snippet.shown is not None:
        assert printed == snippet.shown, f"line {snippet.line} prints {printed!r}"
"""


@pytest.fixture(scope="session")
def torch_folder() -> Path:
    """PyTorch, installed where it is missing: 190 MB that later runs find."""
    folder = CACHE / f"torch-{sys.version_info.major}.{sys.version_info.minor}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "torch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = os.environ | {"PYTHON_OF_VENV": sys.executable}
        subprocess.run([str(ROOT / "scripts" / "torch_cpu.sh"), str(folder)], env=environment, check=True, timeout=280)
    return folder


def test_the_page_does_what_it_says(torch_folder: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{torch_folder}", "OMP_NUM_THREADS": "1"}
    page = str(ROOT / "docs" / "models-torch.md")
    done = subprocess.run(
        [sys.executable, "-c", RUN, page], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
