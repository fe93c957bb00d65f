"""`headwater promote`, `rollback` and `retire`: which version is live."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater.cli import complete
from headwater.cli.run import Run, command
from headwater.cli.sheet import Line
from headwater.errors import NotFound

Name = Annotated[str, typer.Argument(metavar="NAME", help="A view or service.", autocompletion=complete.names)]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="The version, e.g. 2.0.0.", autocompletion=complete.versions)
]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    command(app)(promote)
    command(app)(rollback)
    command(app)(retire)


def promote(
    run: Run,
    name: Name,
    version: Version,
    force: Annotated[
        bool, typer.Option("--force", help="Even where it is not materialized as far as the live version.")
    ] = False,
) -> None:
    """Make a version live.

    Refused until it is materialized as far as the live one, unless forced.
    """
    with run.store() as store:
        store.promote(name, version, force=force)
    run.answer({"name": name, "live": version}, Line(f"{name}: {version} is live", "green"))


def rollback(run: Run, name: Name) -> None:
    """Make the version before the live one live again."""
    with run.store() as store:
        store.rollback(name)
        snapshot = store.registry.snapshot()
    record = snapshot.views.get(name) or snapshot.services.get(name)
    if record is None:
        raise NotFound(f"no view or service {name!r}")
    run.answer({"name": name, "live": record.live}, Line(f"{name}: {record.live} is live again", "green"))


def retire(run: Run, name: Name, version: Version) -> None:
    """Feed a version no longer.

    Refused where it is live or a service pins it.
    """
    with run.store() as store:
        store.retire(name, version)
    run.answer({"name": name, "retired": version}, Line(f"{name}: {version} is retired", "green"))
