"""`headwater promote`, `rollback` and `retire`: which version is live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headwater.cli import complete, later
from headwater.cli.run import Run, check_project, command
from headwater.cli.sheet import Line
from headwater.config import load_settings

if TYPE_CHECKING:
    from headwater.planning.pointers import PointerChange

Name = Annotated[str, typer.Argument(metavar="NAME", help="A view or service.", autocompletion=complete.names)]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="The version, e.g. 2.0.0.", autocompletion=complete.versions)
]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    command(app)(promote)
    command(app)(rollback)
    command(app)(retire)
    command(app, "rename-project")(rename_project)


def promote(
    run: Run,
    name: Name,
    version: Version,
    force: Annotated[bool, typer.Option("--force", help="Even if it has not caught up with the live version.")] = False,
) -> None:
    """Make a version live.

    Refused until it has caught up with the live one, unless forced. Newer ones go live again by promote alone.
    """
    with run.store() as store:
        done = store.promote(name, version, force=force)
    _answer(run, done, "is live")


def rollback(run: Run, name: Name) -> None:
    """Make the version before the live one live again."""
    with run.store() as store:
        done = store.rollback(name)
    _answer(run, done, "is live again")


def _answer(run: Run, done: PointerChange, what: str) -> None:
    data = {"name": done.name, "live": done.live, "still_reading": list(done.still_reading)}
    run.answer(data, Line(f"{done.name}: {done.live} {what}", "green"), *map(Line, done.still_reading))


def retire(run: Run, name: Name, version: Version) -> None:
    """Stop updating a version.

    Refused if it is live or a service reads it.
    """
    with run.store() as store:
        store.retire(name, version)
    run.answer({"name": name, "retired": version}, Line(f"{name}: {version} is retired", "green"))


def rename_project(run: Run, name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")]) -> None:
    """Rename the project.

    Keys in online stores begin with the name: run materialize afterwards. Stop the project's servers and workers first.
    Rows under the old name stay in the online store.
    """
    check_project(run.folder)
    settings = load_settings(run.folder)
    before = later.registry.rename_project(settings.registry_url, settings.folder, name)
    lines = [Line(f"{before} is {name} now; run 'headwater materialize'", "green")]
    if settings.project not in ("", name):
        lines.append(Line(f"set project = {name!r} in headwater.toml, which says {settings.project!r}", "yellow"))
    run.answer({"name": name, "before": before}, *lines)
