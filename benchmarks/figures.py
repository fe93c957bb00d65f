"""Figures: what a benchmark found, drawn as a table and written as JSON with the machine it was found on."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"
SEED = 20_130_101
PACKAGES = ("headwater", "duckdb", "pyarrow", "numpy", "lmdb", "msgspec", "sqlglot", "sqlalchemy")


@dataclass(frozen=True)
class Figure:
    """One row of a table.

    Attributes:
        what: what was measured.
        ours: headwater's figure; None where it could not be had.
        raw: the raw store's or engine's, from the same run.
        unit: of both.
        target: the most that the ratio, or else our own figure, may be; None: there is no target.
        of: what the target bounds.
        runs: how many measurements the figure is the median of.
        more: further figures, by name.
        note: what else should be known.
    """

    what: str
    ours: float | None
    raw: float | None
    unit: str
    target: float | None = None
    of: Literal["ratio", "value"] = "ratio"
    runs: int = 1
    more: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over raw."""
        return self.ours / self.raw if self.ours is not None and self.raw else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or no figure."""
        found = self.ratio if self.of == "ratio" else self.ours
        return None if self.target is None or found is None else found <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


@dataclass(frozen=True)
class Options:
    """What a script was asked for.

    Attributes:
        quick: small sizes, to see that it runs; the figures mean little.
        seed: of all random data.
        runs: how often each slow measurement is repeated; None: the script's own number.
        rows: how many rows of data; None: the script's own number.
    """

    quick: bool = False
    seed: int = SEED
    runs: int | None = None
    rows: int | None = None


class Bystanders:
    """What other processes used of the machine since this was made: figures beside busy neighbours mean little."""

    def __init__(self) -> None:
        self._began, self._all, self._own = time.perf_counter(), _all_seconds(), _own_seconds()

    def cores(self) -> float | None:
        """How many cores they kept busy, on average; None where the system does not tell."""
        if self._all is None:
            return None
        others = (_all_seconds() or 0.0) - self._all - (_own_seconds() - self._own)
        return round(max(0.0, others) / (time.perf_counter() - self._began), 2)


def _all_seconds() -> float | None:
    """Seconds that all cores together were busy since the system started."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, *interrupts = map(int, words[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Seconds that this process and those it started and awaited were busy."""
    return sum(os.times()[:4])


def machine() -> dict[str, Any]:
    """What it was measured on: processor, cores, memory, load, versions."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def run_script(name: str, about: str, measure: Callable[[Options], list[Figure]]) -> None:
    """The command of one script: options, measurement, table, and what `publish` writes."""
    given = parser_of(name, about).parse_args()
    publish(name, Options(given.quick, given.seed, given.runs, given.rows), measure)


def parser_of(name: str, about: str) -> argparse.ArgumentParser:
    """The options that every script has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs")
    parser.add_argument("--seed", type=int, default=SEED, help="of all random data")
    parser.add_argument("--runs", type=int, help="how often each slow measurement is repeated")
    parser.add_argument("--rows", type=int, help="how many rows of data, where the script has a choice")
    return parser


def publish(
    name: str, options: Options, measure: Callable[[Options], list[Figure]], title: str = "", against: str = "raw"
) -> None:
    """Measure, draw the table, and write `out/NAME.json` and `out/NAME.md`, a section of `RESULTS.md`.

    Args:
        name: of the script.
        options: what it was asked for.
        measure: does the work.
        title: the section's; none: the name.
        against: heads the column beside ours.
    """
    before, watch = machine(), Bystanders()
    figures = measure(options)
    busy = watch.cores()
    drawn = [figure.as_dict() for figure in figures]
    document = {
        "benchmark": name,
        "quick": options.quick,
        "seed": options.seed,
        "machine": {**before, "load_after": machine()["load"], "cores_used_by_others": busy},
        "figures": drawn,
    }
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (OUT / f"{name}.md").write_text(f"## {title or name}\n\n{_about(document)}\n\n{markdown(drawn, against)}")
    others = "" if busy is None else f"; others used {busy:.2f} of {os.cpu_count()} cores meanwhile"
    draw(name + (" (quick)" if options.quick else "") + others, drawn, against)


def _about(document: dict[str, Any]) -> str:
    """How it was measured, for a page."""
    busy = document["machine"]["cores_used_by_others"]
    runs = sorted({figure["runs"] for figure in document["figures"]})
    words = [
        "" if busy is None else f"Others used {busy} cores meanwhile.",
        f"Runs: {', '.join(map(str, runs))}.",
        "With `--quick`: these figures mean nothing." if document["quick"] else "",
    ]
    return " ".join(word for word in words if word)


COLUMNS = ("what", "ours", "raw", "unit", "ratio", "target", "met", "more")


def draw(title: str, figures: Sequence[dict[str, Any]], against: str = "raw") -> None:
    """A table on the terminal."""
    table = Table(title=title, title_justify="left")
    for name in COLUMNS:
        heading = against if name == "raw" else name
        table.add_column(heading, justify="left" if name in ("what", "unit", "more", "met") else "right")
    for figure in figures:
        table.add_row(*cells(figure))
    console = Console()
    console.width = max(console.width, 150)
    console.print(table)


def markdown(figures: Sequence[dict[str, Any]], against: str = "raw") -> str:
    """The table for a page."""
    headings = [against if name == "raw" else name for name in COLUMNS]
    lines = ["| " + " | ".join(headings) + " |", "|" + "|".join("---" for _ in COLUMNS) + "|"]
    lines += ["| " + " | ".join(cells(figure)) + " |" for figure in figures]
    return "\n".join(lines) + "\n"


def cells(figure: dict[str, Any]) -> tuple[str, ...]:
    """One row of a table as text."""
    target = "" if figure["target"] is None else f"≤ {figure['target']:g}{'x' if figure['of'] == 'ratio' else ''}"
    more = [f"{name} {_short(value)}" for name, value in figure["more"].items()]
    met = {None: "", True: "yes", False: "no"}[figure["met"]]
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.2f}x"
    extra = "; ".join([*more, *([figure["note"]] if figure["note"] else [])])
    return (figure["what"], _short(figure["ours"]), _short(figure["raw"]), figure["unit"], ratio, target, met, extra)


def _short(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
