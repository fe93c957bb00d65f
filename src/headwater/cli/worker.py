"""`headwater worker`: works off the refresh queue, lists what failed for good, and lets it be tried again."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import complete
from headwater.cli.run import Run, command, print_json
from headwater.cli.sheet import Line, Sheet
from headwater.clock import from_micros
from headwater.errors import UsageError, printable

if TYPE_CHECKING:
    from headwater.compute.refreshing.worker import Step
    from headwater.store import FeatureStore

_MOST = 1_000
_REMOVED = "headwater worker --replay, and then a worker, removes it"


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    command(app)(worker)


def worker(
    run: Run,
    views: Annotated[
        list[str] | None,
        typer.Option(
            "--views",
            metavar="VIEW,…",
            help="Only these views; default: all.",
            autocompletion=complete.views,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Exit when nothing is due.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="List refreshes that failed for good, and exit.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Retry refreshes that failed for good, and exit.")] = False,
) -> None:
    """Refresh the rows that reads found stale.

    Reads request refreshes if [freshness] refresh = true. Several workers may run; one that is killed loses nothing.
    On SIGTERM it stops after the current task. It also erases purged values, and compacts the offline log's write
    buffer into files.
    """
    names = [name.strip() for given in views or () for name in given.split(",") if name.strip()] or None
    if dead and replay:
        raise UsageError("--dead and --replay are mutually exclusive")
    with run.store() as store:
        if dead:
            _list_dead(run, store, names)
        elif replay:
            _replay(run, store, names)
        else:
            _work(run, store, names, once)


def _list_dead(run: Run, store: FeatureStore, names: Sequence[str] | None) -> None:
    unreadable: list[str] = []
    letters = store.worker(names).dead_letters(_MOST, unreadable)
    columns = ["view", "version", "key", "tries", "died", "error"]
    rows = [(d.view, d.version, d.entity, d.tries, from_micros(d.died_at), d.error) for d in letters]
    none = Line("no refresh failed for good", "dim")
    run.answer([dict(zip(columns, row, strict=True)) for row in rows], Sheet(columns, rows) if rows else none)
    run.warn(f"a row of the refresh queue cannot be read: {line}; {_REMOVED}" for line in unreadable)


def _replay(run: Run, store: FeatureStore, names: Sequence[str] | None) -> None:
    count = store.worker(names).replay()
    run.answer(
        {"replayed": count}, Line(f"{count:,} dead {'letter' if count == 1 else 'letters'} will be retried", "green")
    )


def _work(run: Run, store: FeatureStore, names: Sequence[str] | None, once: bool) -> None:
    def on_step(step: Step) -> None:
        if run.json:
            if not once:
                print_json({"at": datetime.now(UTC), **vars(step)}, indent=None)
        else:
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {printable(_words(step))}", flush=True)

    with _stopped_by_signals() as stopping:
        working = store.worker(names)
        working.on_step, working.stopping = on_step, stopping
        report = working.run(once)
    if run.json:
        print_json(report, indent=2 if once else None)
    else:
        keys = "key" if report.keys == 1 else "keys"
        left = f"{report.keys:,} {keys}: {report.newer:,} newer, {report.unchanged:,} without newer rows"
        run.say(Line(left if report.keys else "nothing is due", "green"))


def _words(step: Step) -> str:
    """A step in a line."""
    if step.what == "queue":
        return f"cannot work now, will retry: {step.error}"
    if step.what == "unreadable":
        what = "row was" if step.keys == 1 else "rows were"
        return f"{step.keys:,} unreadable {what} removed from the queue; reads will request them again: {step.error}"
    if step.what == "erase":
        return f"{step.about}: {step.error or f'erased {step.keys:,} purged'}"
    counts = [
        f"{count:,} {words}"
        for count, words in (
            (step.newer, "newer"),
            (step.unchanged, "without newer rows"),
            (step.failed, "tried again later"),
            (step.dead, "dead"),
        )
        if count
    ]
    done = f"{step.about}: {step.keys:,} {'key' if step.keys == 1 else 'keys'}, {', '.join(counts) or 'dropped'}"
    return f"{done} in {step.seconds:.2f} s" + (f": {step.error}" if step.error else "")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; a second one of them ends the process as ever."""
    stopping = threading.Event()
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        stopping.set()
        print("stopping after the current task", file=sys.stderr, flush=True)
        _restore(before)

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, stop)
    try:
        yield stopping
    finally:
        _restore(before)


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
