"""A small project whose training sets the tests save: a view of each kind of input, and a spine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import headwater as hw

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = ["a", "b", "c", "d"]
US = pa.timestamp("us", "UTC")

THING = hw.Entity("thing", join_keys={"thing": hw.String})
FILES = hw.FeatureView(
    "files",
    entity=THING,
    source=hw.ParquetSource("files.parquet", event_time="at", created_time="seen"),
    features=[hw.Feature("x", hw.Float64), hw.Feature("n", hw.Int64)],
)
TEXT = hw.FeatureView(
    "text",
    entity=THING,
    source=hw.CSVSource("text.csv", event_time="at"),
    features=[hw.Feature("word", hw.String, default="none")],
)
PUSHED = hw.FeatureView(
    "pushed",
    entity=THING,
    source=hw.PushSource(event_time="at", schema={"p": hw.Float64}),
    features=[hw.Feature("p", hw.Float64)],
)
EVENTS = hw.FeatureView(
    "events",
    entity=THING,
    source=hw.PushSource(event_time="at", schema={"amount": hw.Float64}),
    features=[hw.Aggregation("amount", "sum", window="6h"), hw.Aggregation(None, "count", window="6h", name="seen")],
)
VIEWS = [FILES, TEXT, PUSHED, EVENTS]
FEATURES = ["files:x", "files:n", "text:word", "pushed:p", "events:amount_sum_6h", "events:seen"]
COLUMNS = [name.partition(":")[2] for name in FEATURES]

FileRow = tuple[str, int, float | None, int | None, int]
"""Key, hour, x, n, and how many hours later it was known."""


def write_files(folder: Path, rows: Iterable[FileRow], name: str = "files.parquet", **options: Any) -> None:
    """The Parquet source."""
    some = list(rows)
    columns = {
        "thing": pa.array([key for key, *_ in some], pa.string()),
        "at": pa.array([T0 + hour * HOUR for _, hour, *_ in some], US),
        "seen": pa.array([T0 + (hour + later) * HOUR for _, hour, _, _, later in some], US),
        "x": pa.array([x for _, _, x, _, _ in some], pa.float64()),
        "n": pa.array([n for _, _, _, n, _ in some], pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / name, **options)


def write_text(folder: Path, rows: Iterable[tuple[str, int, str]]) -> None:
    """The CSV source."""
    lines = [f"{key},{(T0 + hour * HOUR).isoformat()},{word}" for key, hour, word in rows]
    (folder / "text.csv").write_text("\n".join(["thing,at,word", *lines]) + "\n")


FILE_ROWS: list[FileRow] = [(key, h, h / 3 if h % 4 else None, h, h % 2) for h in range(12) for key in KEYS[:3]]
TEXT_ROWS = [(key, h, f"{key}{h}") for h in range(0, 12, 3) for key in KEYS[:2]]


class Project:
    """A store on a clock that tests move, with its sources written.

    Args:
        folder: the project's; it is made.
        views: the views that are applied.
    """

    def __init__(self, folder: Path, views: Iterable[hw.FeatureView] = VIEWS, **options: Any) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder, self.now = folder, T0 + 30 * 24 * HOUR
        (folder / "headwater.toml").write_text('project = "p"\n')
        if not (folder / "files.parquet").exists():
            write_files(folder, FILE_ROWS)
            write_text(folder, TEXT_ROWS)
        self.store = hw.FeatureStore(folder, online="memory:", clock=lambda: self.now, **options)
        self.store.apply([THING, *views])

    def push(self, view: str, rows: Iterable[tuple[str, int, float]]) -> None:
        """Rows (key, hour, value) known at their hour."""
        name = "p" if view == "pushed" else "amount"
        given = [{"thing": key, "at": T0 + hour * HOUR, name: value} for key, hour, value in rows]
        self.store.write(view, given, to="offline", created="event")

    def filled(self) -> Project:
        """The same, with rows in the log."""
        self.push("pushed", [(key, h, h * 1.5) for h in range(0, 12, 2) for key in KEYS])
        self.push("events", [(key, h, 0.1 * h) for h in range(12) for key in KEYS])
        return self

    def save(self, name: str = "things", features: Any = FEATURES, **options: Any) -> hw.TrainingSet:
        """The training set of `spine()`."""
        return self.store.save_training_set(name, spine(), features, **{"labels": ["late"], **options})


def spine(rows: int = 40) -> pa.Table:
    """Keys, instants, a label, and a column that is none of these."""
    keys = [[*KEYS, None, "nobody"][i % 6] for i in range(rows)]
    return pa.table(
        {
            "row": pa.array(range(rows), pa.int32()),
            "thing": pa.array(keys, pa.string()),
            "timestamp": pa.array([T0 + (i % 14) * HOUR for i in range(rows)], US),
            "late": pa.array([i % 3 == 0 for i in range(rows)]),
        }
    )
