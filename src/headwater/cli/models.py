"""`headwater model`: the models that were logged, each with the service that it takes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import catalog, complete
from headwater.cli.run import Run, command
from headwater.cli.sheet import Fields, Line
from headwater.definitions.model import Model

if TYPE_CHECKING:
    from headwater.planning.catalog import ModelInfo


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    group = typer.Typer(help="Logged models.", rich_markup_mode=None, no_args_is_help=True)
    command(group, name="list")(list_models)
    command(group, name="show")(show)
    app.add_typer(group, name="model")


def list_models(run: Run) -> None:
    """List the models that were logged with a service, every version of each."""
    with run.store() as store:
        rows = [_row(found) for found in store.list_models()]
    run.answer(rows, catalog.sheet("", rows) if rows else Line("no logged models; hw.mlflow.log_model logs one"))


def show(
    run: Run,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@VERSION]", help="The model; without a version the newest.", autocompletion=complete.models
        ),
    ],
) -> None:
    """Show which service a logged model takes, its features, and where the model is."""
    wanted = Model.of(name)
    with run.store() as store:
        found = store.get_model(wanted.name, wanted.version)
        service, _, version = found.service.partition("@")
        takes = store.get_feature_service(service, version)
    features = [
        {"column": column, "dtype": str(dtype), "feature": reference} for column, dtype, reference in takes.columns
    ]
    fields = Fields([(key.replace("_", " "), value) for key, value in _row(found).items()], f"model {found.name}")
    run.answer(_row(found) | {"features": features}, fields, catalog.sheet("features", features))


def _row(found: ModelInfo) -> dict[str, Any]:
    return dataclasses.asdict(found)
