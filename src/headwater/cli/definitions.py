"""`headwater plan`, `apply`, `list` and `show`: the definitions and what the registry holds of them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import catalog, complete
from headwater.cli.run import Run, command
from headwater.cli.sheet import Line, Lines
from headwater.clock import system_clock
from headwater.errors import RegistryConflict

if TYPE_CHECKING:
    from headwater.planning.plan import Plan
    from headwater.store import FeatureStore

_PLANNED_AGAIN = 2
"""How often `apply` plans again where somebody else has changed the registry meanwhile."""


class Listed(enum.StrEnum):
    """What `list` can be narrowed to."""

    VIEWS = "views"
    FEATURES = "features"
    ENTITIES = "entities"
    SERVICES = "services"


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    command(app)(plan)
    command(app)(apply)
    command(app, "list")(list_)
    command(app)(show)


def plan(
    run: Run,
    check: Annotated[
        bool, typer.Option("--check", help="Also read values: the first 10,000 rows of each file, with their casts.")
    ] = False,
) -> None:
    """Show what apply would change.

    What is added, changed (with the bump it needs), changed in place, and removed; nothing is written. Values that do
    not fit are named by file, row and column.
    """
    with run.store() as store:
        found = store.plan(check=check)
    new = [] if check else found.text_views
    note = f"apply also reads the first 10,000 rows of each file of {', '.join(new)}, as plan --check does"
    run.answer(found, Lines(str(found)), *([Line(note, "dim")] if new else []))


def apply(
    run: Run,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote",
            help="Services, and versions with a number of their own, also go live as soon as they have caught up.",
        ),
    ] = False,
    allow_removals: Annotated[
        bool, typer.Option("--allow-removals", help="Retire what is live but no longer in the files, without asking.")
    ] = False,
) -> None:
    """Register the project's definitions, all or nothing.

    The plan is shown first. The first version of a view or service is live at once; a later one of a view that apply
    numbers goes live when it has caught up with the live one; later ones of services, and those with an explicit
    version, wait for promote. What is live but no longer in the files is retired only after confirmation.
    """
    with run.store() as store:
        found = store.plan()
        run.say(Lines(str(found)))
        removed = ", ".join(found.removals)
        allowed = allow_removals or (bool(removed) and run.confirm(f"retire what is live: {removed}?"))
        before = store.registry.refresh()
        applied = _applied(store, found, promote=promote, allow_removals=allowed)
        said = "applied" if applied else "nothing left to apply: another process applied it"
        run.say(Line(said if found else "nothing to apply", "green"))
        live = catalog.went_live(before, store.registry.refresh()) if promote else []
    for row in live:
        run.say(Line(f"{row['name']}: {row['version']} is live", "green"))
    run.answer({**applied.to_dict(), "promoted": live})


def _applied(store: FeatureStore, shown: Plan, **options: bool) -> Plan:
    """Run the plan that was shown; where somebody else was first with the same, what is left of it."""
    plan = shown
    for _ in range(_PLANNED_AGAIN):
        try:
            return store.apply(plan, **options)
        except RegistryConflict:
            again = store.plan()
            if again and not shown.has_same_stages(again):
                raise
            plan = again
    return store.apply(plan, **options)


def list_(
    run: Run,
    what: Annotated[
        Listed | None,
        typer.Argument(help="views, features, entities or services.", show_default="everything", metavar="KIND"),
    ] = None,
) -> None:
    """List views, features, entities and services."""
    with run.store() as store:
        snapshot = store.registry.snapshot()
    kinds = [what] if what is not None else [Listed.VIEWS, Listed.ENTITIES, Listed.SERVICES]
    data: dict[str, Any] = {str(kind): catalog.LISTS[kind](snapshot) for kind in kinds}
    if not any(data.values()):
        run.answer(data, Line("nothing is registered: run 'headwater apply'", "dim"))
        return
    run.answer(data, *(catalog.sheet(kind, rows) for kind, rows in data.items() if rows))


def show(
    run: Run,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A view, service or entity (view@1.0.0 for a version), or a feature (view:feature).",
            autocompletion=complete.names,
        ),
    ],
) -> None:
    """Show a view, service, entity or feature and its versions."""
    with run.store() as store:
        if ":" in name:
            data, drawn = catalog.described_feature(store.registry.get_feature_definition(name))
        else:
            data, drawn = catalog.described(store.registry.snapshot(), name, system_clock())
    run.answer(data, *drawn)
