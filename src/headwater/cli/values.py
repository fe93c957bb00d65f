"""Read values and joined rows, as data and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headwater.cli import later
from headwater.cli.key_text import key_text
from headwater.cli.plain import age
from headwater.cli.sheet import Drawable, Line, Sheet

if TYPE_CHECKING:
    from headwater.cli.files import Taken
    from headwater.compute.reading.explained import Explained
    from headwater.offline.estimates import SourceEstimate
    from headwater.offline.join.result import HistoryResult
    from headwater.online.reading.result import OnlineResult
    from headwater.planning.resolved import ResolvedRequest

_COUNTS = ("matched", "no_row", "expired", "not_known", "same_instant", "null_times")
_OF_ENDS = ("overlapping", "never_valid")


def read(request: ResolvedRequest, result: OnlineResult, now: datetime) -> tuple[dict[str, Any], Sheet]:
    """One read: for each entity and feature the value, its status, event time, age and freshness.

    Args:
        request: what was asked for: which column is of which view.
        result: the answer.
        now: the time of the read; ages count to the instant that a row's answer holds for.
    """
    columns, statuses, instants = result.to_dict(), result.statuses, result.read_at
    times, scores = result.event_times, result.freshness()
    rows, drawn = [], []
    for place in range(len(result)):
        keys = {name: columns[name][place] for name in request.join_keys}
        found = {}
        for column in request.outputs:
            label, name = request.owner(column).label, column.name
            time, at = times[label][place], instants[label][place]
            found[name] = {
                "value": columns[name][place],
                "status": statuses[name][place],
                "event_time": time,
                "age": None if time is None else max((at - time).total_seconds(), 0.0),
                "freshness": scores[label][place],
            }
            value = later.shown.short_form(columns[name][place], column.feature.dtype.arrow)
            drawn.append([*map(key_text, keys.values()), name, *_cells(value, found[name], time, at)])
        rows.append({"keys": keys, "features": found})
    heads = [*request.join_keys, "feature", "value", "status", "event time", "age", "freshness"]
    return {"rows": rows, "versions": result.versions, "now": now, "read_at": instants}, Sheet(heads, drawn)


def not_known(result: OnlineResult, now: datetime) -> list[str]:
    """What to do about values that were not known at the time of a read."""
    count = sum(status == "NOT_KNOWN" for column in result.statuses.values() for status in column)
    if not count:
        return []
    values = "1 value" if count == 1 else f"{count:,} values"
    return [
        f"{values} NOT_KNOWN: the stored row was known, or the key deleted, only after {now.isoformat()}, and the "
        "online store keeps only one row per key; headwater history --at TIME says what was known then"
    ]


def _cells(value: Any, found: dict[str, Any], time: datetime | None, now: datetime) -> list[Any]:
    score = found["freshness"]
    return [
        # an identifier is no amount: it is shown without separators
        repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value,
        found["status"],
        time,
        None if time is None else age(max(now - time, now - now)),
        None if score is None else f"{score:.2f}",
    ]


def explained(explanation: Explained, prepared: float) -> tuple[dict[str, Any], list[Drawable]]:
    """How a read was done.

    Args:
        explanation: the read, taken apart.
        prepared: milliseconds that went by before it, to resolve names, versions and layouts.
    """
    steps = [("prepare: names, versions, layouts", prepared), *explanation.steps]
    data = {
        "keys": explanation.keys,
        "round_trips": explanation.round_trips,
        "store": dict(explanation.store),
        "steps": [{"step": name, "ms": round(ms, 4)} for name, ms in steps],
    }
    trips = "1 round trip" if explanation.round_trips == 1 else f"{explanation.round_trips} round trips"
    place = " ".join(str(value) for value in explanation.store.values())
    head = (
        f"{explanation.keys} distinct keys in {trips} to {place}"
        if explanation.keys != 1
        else f"1 key in {trips} to {place}"
    )
    return data, [Line(head, "dim"), Sheet(["step", "ms"], [[name, f"{ms:.3f}"] for name, ms in steps])]


def estimated(lines: Sequence[SourceEstimate]) -> tuple[dict[str, Any], Drawable]:
    """What a history would read."""
    data = [
        {"view": each.view, "reads": each.what, "files": each.files, "rows": each.rows, "bytes": each.bytes}
        for each in lines
    ]
    shown = [
        [row["view"], row["reads"], row["files"], *("unknown" if row[n] is None else row[n] for n in ("rows", "bytes"))]
        for row in data
    ]
    return {"estimate": data}, Sheet(["view", "reads", "files", "rows", "bytes"], shown)


def joined(result: HistoryResult, taken: Taken, file: str | None) -> tuple[dict[str, Any], list[Drawable]]:
    """A history that was run through: counts by view, and its rows where no file has them."""
    metadata = result.metadata
    views = {
        label: {"version": metadata.versions[label]}
        | {name: getattr(counts, name) for name in (*_COUNTS, "ties")}
        | {name: counts[name] for name in _OF_ENDS if name in counts}
        for label, counts in metadata.views.items()
    }
    data: dict[str, Any] = {
        "rows": taken.rows,
        "file": file,
        "as_known": metadata.as_known,
        "at": metadata.at,
        "views": views,
        "warnings": list(metadata.warnings),
    }
    columns = ["view", "version", *(name.replace("_", " ") for name in _COUNTS)]
    counted = [[label, found["version"], *(found[name] for name in _COUNTS)] for label, found in views.items()]
    drawn: list[Drawable] = [Sheet(columns, counted)]
    if file is not None:
        return data, [*drawn, Line(f"wrote {taken.rows:,} rows to {file}", "green")]
    data["data"] = taken.first
    names = list(taken.first[0]) if taken.first else []
    rest = taken.rows - len(taken.first)
    more = f"… and {rest:,} more rows; --out FILE writes them all" if rest else f"{taken.rows:,} rows"
    return data, [
        Sheet(
            names,
            [
                [key_text(later.shown.short_form(*cell)) for cell in zip(row.values(), taken.kinds, strict=True)]
                for row in taken.first
            ],
        ),
        Line(more, "dim"),
        *drawn,
    ]
