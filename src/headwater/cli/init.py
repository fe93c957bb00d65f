"""`headwater init`: a small project that works at once."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headwater.cli import later
from headwater.cli.run import Run, command
from headwater.cli.sheet import Line
from headwater.errors import ConfigError, StoreReadOnly, UsageError

TEMPLATE = Path(__file__).parent / "template"
FILES = {
    "headwater.toml": "headwater.toml",
    "features.py": "features.py",
    "train.py": "train.py",
    "README.md": "README.md",
    "pytest.ini": "pytest.ini",
    ".gitignore": "gitignore",
    "tests/test_features.py": "tests_test_features.py",
}
DATA = ("data/weather.parquet", "data/airports.csv", "data/flights.parquet", "data/correction.csv")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    command(app)(init)


def init(
    run: Run, path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder; created if needed.")] = Path()
) -> None:
    """Create a small working project.

    Settings, definitions, tests, a training script, and sample data up to the current time. Nothing is overwritten.
    """
    folder = run.folder / path
    files = write_project(folder, datetime.now(UTC))
    steps = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
    steps += ["headwater plan", "headwater apply", "headwater materialize"]
    steps += ["headwater get --features weather:temp --key airport=JFK"]
    run.answer(
        {"project": str(folder), "files": files, "next": steps},
        Line(f"wrote {len(files)} files in {folder.resolve()}", "green"),
        *(Line(f"  {name}", "dim") for name in files),
        "next:",
        *(f"  {step}" for step in steps),
    )


def write_project(folder: Path, now: datetime) -> list[str]:
    """Write every file of the sample project, or none.

    Args:
        folder: the project's folder; made if need be.
        now: the moment its data ends (aware).

    Returns:
        The files, relative to the folder.

    Raises:
        ConfigError: files that are there already, by name; nothing is changed.
        StoreReadOnly: the folder cannot be written.
    """
    files = [*FILES, *DATA]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the project")
    present = [name for name in files if (folder / name).exists()]
    if present:
        raise ConfigError(
            f"{folder.resolve()} already contains {', '.join(present)}; nothing is overwritten: "
            "name another folder, or move them away"
        )
    with _undone_on_failure(folder, files):
        for name in ("data", "tests"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        project = project_name(folder)
        for name, source in FILES.items():
            text = (TEMPLATE / f"{source}.tmpl").read_text(encoding="utf-8")
            (folder / name).write_text(text.replace("{{project}}", project), encoding="utf-8")
        later.sample.write_data(folder / "data", now)
    return files


def project_name(folder: Path) -> str:
    """A project's name from that of its folder."""
    name = re.sub(r"\W+", "_", folder.resolve().name).strip("_").lower()
    return name if name and not name[0].isdigit() else f"project_{name}".rstrip("_")


@contextlib.contextmanager
def _undone_on_failure(folder: Path, files: list[str]) -> Iterator[None]:
    """Remove what was written where not all could be."""
    folders = [folder / "data", folder / "tests", folder, *folder.parents]
    made = [place for place in folders if not place.exists()]
    try:
        yield
    except BaseException as failed:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        if isinstance(failed, OSError):
            raise StoreReadOnly(f"{folder}: cannot write the project: {failed}") from failed
        raise
