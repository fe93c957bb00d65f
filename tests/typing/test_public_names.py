"""Every public name is there at run time and, with its own type, for a type checker."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import headwater as hw
from headwater import errors

ROOT = Path(__file__).resolve().parents[2]
ERRORS = sorted(
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.HeadwaterError) and not name.startswith("_")
)
CLASSES = sorted(name for name in hw.__all__ if inspect.isclass(getattr(hw, name)))


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_a_public_name(name: str) -> None:
    assert name in hw.__all__ and getattr(hw, name) is getattr(errors, name)


def test_what_is_listed_is_there_and_what_is_not_raises() -> None:
    assert set(hw.__all__) <= set(dir(hw))
    assert all(getattr(hw, name) is not None for name in (*hw.__all__, "testing"))
    with pytest.raises(AttributeError, match="no attribute 'RowsRejectedError'"):
        hw.RowsRejectedError  # type: ignore[attr-defined]  # noqa: B018


def test_a_type_checker_knows_each_name(tmp_path: Path) -> None:
    """Not as `Any`: a name that is not there is an error, and a class is the class that it is at run time."""
    lines = ["import headwater as hw", "", *(f"reveal_type(hw.{name})" for name in CLASSES), "hw.Nowhere"]
    user = tmp_path / "user.py"
    user.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # with the project's settings and cache: what `make lint` has checked is not checked again
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(user)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    said = [line for line in done.stdout.splitlines() if "user.py:" in line]
    revealed = [line for line in said if "Revealed type" in line]
    assert len(revealed) == len(CLASSES)
    for name, line in zip(CLASSES, revealed, strict=True):
        assert f"{getattr(hw, name).__module__}.{getattr(hw, name).__name__}" in line, line
    wrong = [line for line in said if "error:" in line]
    assert len(wrong) == 1 and 'has no attribute "Nowhere"' in wrong[0], done.stdout
