"""`headwater verify`: what is damaged, what is lost, how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headwater.cli.plain import plain
from headwater.cli.run import Run, command
from headwater.cli.sheet import Drawable, Line

if TYPE_CHECKING:
    from headwater.compute.verify import Damage, VerifyReport


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    command(app)(verify)


def verify(
    run: Run,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Check at most this many online rows of each version.", show_default="all"
        ),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            "--forget",
            metavar="FILE",
            help="Continue without this damaged or missing file of the offline log; can be repeated.",
        ),
    ] = None,
    accept_folder: Annotated[
        bool, typer.Option("--accept-folder", help="Recreate the log folder's log.json after it was lost or damaged.")
    ] = False,
) -> None:
    """Report what is damaged or lost, and how to repair it.

    The offline log and the online store are checked. Only --forget and --accept-folder change what is stored. Exit code
    0: whole, 1: damaged.
    """
    with run.store() as store:
        report = store.verify(sample=sample, forget=forget or (), accept_folder=accept_folder)
    run.answer({"whole": report.whole, **plain(report)}, *_drawn(report))
    run.warn(report.left_out)
    if not report.whole:
        raise typer.Exit(1)


def _drawn(report: VerifyReport) -> list[Drawable]:
    forgotten = [Line(f"the offline log continues without {name}", "yellow") for name in report.forgotten]
    damaged = [line for damage in report.damaged for line in _damage(damage)]
    checked = (
        f"{report.log_files:,} files of the offline log ({report.log_rows:,} rows), {report.buffered_rows:,} rows in "
        f"its write buffer, {report.tombstones:,} deletes, {report.online_rows:,} online rows"
        f"{' (a sample)' if report.sampled else ''} by their layout and key, not each value"
    )
    verdict = (
        Line(f"whole: {checked}", "green")
        if report.whole
        else Line(f"{len(report.damaged):,} damaged; checked: {checked}", "red")
    )
    return [*forgotten, *damaged, *(Line(note, "dim") for note in report.notes), verdict]


def _damage(damage: Damage) -> list[Line]:
    return [Line(damage.what, "red"), *(Line(f"  {text}") for text in (damage.lost, damage.go_on) if text)]
