"""The page on testing one's own features: its files, put where it says, pass."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "testing-your-features.md"


def test_the_page_s_tests_pass(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^`([\w/]+\.py)`[:,].*?^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in found] == ["features.py", "tests/conftest.py", "tests/test_features.py"]
    (tmp_path / "tests").mkdir()
    for name, code in found:
        (tmp_path / name).write_text(code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "10 passed" in run.stdout
    assert not (tmp_path / ".headwater").exists()
