"""Drawing with Rich: sheets and lines on standard output, progress on standard error."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from headwater import observer
from headwater.cli.plain import shown
from headwater.cli.sheet import MARKS, STYLES, Drawable, Fields, Line, Lines, Sheet
from headwater.errors import printable

_WIDE = 4_000
"""Columns of a console that is not a terminal: what is piped is not folded."""


def show(*drawables: Drawable) -> None:
    """Draw on standard output; without colours where it is not a terminal."""
    console = _console()
    for place, drawable in enumerate(drawables):
        if place and isinstance(drawable, (Sheet, Fields)):
            console.print()
        console.print(_rendered(drawable), soft_wrap=isinstance(drawable, (str, Line, Lines)))


def _console() -> Console:
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else _WIDE, highlight=False, emoji=False, markup=False)


def _rendered(drawable: Drawable) -> Text | Table:
    match drawable:
        case str():
            return Text(printable(drawable))
        case Line():
            return Text(printable(drawable.text), style=drawable.style)
        case Lines():
            return _marked(drawable)
        case Fields():
            return _fields(drawable)
        case Sheet():
            return _table(drawable)


def _marked(lines: Lines) -> Text:
    text = Text()
    for i, line in enumerate(lines.text.split("\n")):
        text.append("\n" if i else "").append(printable(line), style=MARKS.get(line[:1], ""))
    return text


def _fields(fields: Fields) -> Table:
    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.title, grid.title_justify, grid.title_style = printable(fields.title) or None, "left", "bold"
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields.filled:
        grid.add_row(Text(printable(name)), _cell(value))
    return grid


def _table(sheet: Sheet) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        title=printable(sheet.title) or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(sheet.columns):
        justify: Literal["left", "right"] = "right" if sheet.is_numeric(i) else "left"
        table.add_column(Text(printable(name)), justify=justify, overflow="fold")
    for row in sheet.rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> Text:
    text = shown(value)
    return Text(text, style="dim" if value is None else STYLES.get(text, ""))


class _RateColumn(ProgressColumn):
    """Units done a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f} {task.fields.get('unit', 'rows')}/s", style="dim")


class ProgressBars:
    """An observer that draws each long step as a bar on standard error; nothing of it stays."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr, highlight=False, emoji=False, markup=False)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, progress: observer.Progress) -> None:
        with self._lock:
            self._bars.start()
            task = self._tasks.get(progress.step)
            if task is None:
                task = self._tasks[progress.step] = self._bars.add_task(
                    printable(progress.step), unit=progress.unit, total=None
                )
            self._bars.update(task, completed=progress.done, total=progress.total)
            if progress.finished:
                self._bars.remove_task(self._tasks.pop(progress.step))
