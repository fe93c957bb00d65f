"""What the demo shows: numbered steps with their times, and tables that can be read in a pipe too."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_PIPE = 110

console = Console(highlight=False)
if not console.is_terminal:
    console.width = WIDTH_OF_A_PIPE

_times: list[tuple[str, float]] = []


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what is done next, and afterwards how long it took."""
    console.print()
    console.rule(Text(f"{len(_times) + 1}. {title}", style="bold"), align="left")
    started = time.perf_counter()
    yield
    taken = time.perf_counter() - started
    _times.append((title, taken))
    say(f"({taken:.1f} s)", style="dim")


def say(text: str, style: str = "") -> None:
    console.print(Text(text, style=style))


def warn(text: str) -> None:
    console.print(Text(f"headwater warns: {text}", style="yellow"))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> None:
    """Draw a table; the first `left` columns are text, the others numbers."""
    say(title, style="italic")
    drawn = Table(header_style="bold")
    for place, column in enumerate(columns):
        drawn.add_column(column, justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    console.print(drawn)


def show_times() -> None:
    rows: list[tuple[str, str]] = [(title, f"{taken:.1f} s") for title, taken in _times]
    table("Time of each step", ["step", "time"], [*rows, ("all", f"{sum(t for _, t in _times):.1f} s")])


def clock_time(when: datetime) -> str:
    """An instant in UTC, to the minute."""
    return f"{when:%Y-%m-%d %H:%M} UTC"
