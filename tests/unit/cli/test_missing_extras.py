"""A command whose extra is not installed says which line installs it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from headwater.errors import _EXTRAS

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys
gone = sys.argv.pop(1)
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
from headwater.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("package", "extra", "settings", "command"),
    [
        ("uvicorn", "server", "", ["serve", "--port", "0"]),
        ("httptools", "server", "", ["serve", "--port", "0"]),
        ("prometheus_client", "server", "", ["serve", "--port", "0"]),
        ("redis", "redis", '[online]\nurl = "redis://127.0.0.1:1"\n', ["status"]),
        ("botocore", "dynamodb", '[online]\nurl = "dynamodb://table"\n', ["status"]),
        ("psycopg", "postgres", '[registry]\nurl = "postgresql://127.0.0.1:1/x"\n', ["plan"]),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    tmp_path: Path, package: str, extra: str, settings: str, command: list[str]
) -> None:
    (tmp_path / "headwater.toml").write_text(f'project = "p"\ndefinitions = ["features.py"]\n{settings}')
    (tmp_path / "features.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, f"pip install 'headwater[{extra}]'" in done.stderr) == (1, True), done.stderr
    assert "bug" not in done.stderr


def test_every_optional_package_has_a_line_that_installs_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in project["dependencies"]}
    imported = {
        name.partition(".")[0]
        for file in (ROOT / "src/headwater").rglob("*.py")
        if "testing" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    optional = imported - needed - sys.stdlib_module_names - {"headwater"}
    assert optional <= _EXTRAS.keys()
