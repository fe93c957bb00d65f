"""The support matrix in docs/engines.md is that of the gaps that the engines' tests declare."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_matrix_is_current():
    check = [sys.executable, ROOT / "scripts" / "engine_matrix.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
