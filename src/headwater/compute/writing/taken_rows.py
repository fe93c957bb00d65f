"""Which rows of a write a version takes, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.clock import YEARS, to_micros
from headwater.compute.writing.given_rows import GivenRows, Known, any_kind, fit_column
from headwater.errors import UsageError, brief, nearest
from headwater.planning.cast import Column
from headwater.planning.row_reading import RowVersion
from headwater.planning.tables import index_hint
from headwater.planning.text_values import Misread
from headwater.planning.value_checks import NOT_TEXT, PARSE_TIMES, holds_text, shown, unreadable_rows
from headwater.planning.value_rule import Misfit, cast_value
from headwater.types import DType, Int32, Int64, String, Timestamp, a_dtype

_INDEX_NAMES = ("column0", "Unnamed: 0", "index", "level_0", "__index_level_0__")
"""How the index of a pandas frame is named in files."""


def unknown_column(name: str, versions: Sequence[RowVersion], known: Iterable[str]) -> str:
    """Why a column that no version and no source has is refused."""
    for version in versions:
        for key in version.view.keys:
            if key.name == name:
                return f"unknown column {name!r}: the source's column of that join key is {key.source_column!r}"
        view = version.view.view
        if name in view.aggregations_by_name:
            columns = ", ".join(map(repr, view.columns_read)) or "its join keys and times alone"
            return (
                f"unknown column {name!r}: that feature is computed from events; write the source's columns: {columns}"
            )
        for feature in view.feature_list:
            if feature.name == name:
                return f"unknown column {name!r}: the source's column of that feature is {feature.source_column!r}"
    if name in _INDEX_NAMES:
        return (
            f"unknown column {name!r}; it looks like the index of a frame, written by pandas: write the file with "
            "index=False, or leave the column out"
        )
    return f"unknown column {brief(name)}{nearest(name, known)}"


@dataclass
class TakenRows:
    """Which rows of a group a version takes, and what is wrong with the others."""

    version: RowVersion
    good: NDArray[np.bool_]
    missing: list[str]
    unfit: dict[tuple[str, DType | None], NDArray[np.bool_]]
    nulls: dict[str, NDArray[np.bool_]]
    odd_ids: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, raw: GivenRows, version: RowVersion, fitted: Known) -> TakenRows:
        size = len(raw.rows)
        missing = [name for name in version.needs if name not in raw.columns]
        why = cls(version, np.full(size, not missing), missing, {}, {})
        wanted = [(name, dtype) for name, dtypes in version.needs.items() for dtype in dtypes]
        wanted += [(name, None) for name in sorted(version.times) if (name, None) not in wanted]
        for name, dtype in wanted:
            if name not in raw.columns:
                continue
            found = fit_column(raw, name, dtype, fitted)
            if found.bad is not None:
                why.unfit[name, dtype] = found.bad
                why.good &= ~found.bad
        for name, wide in _too_wide(raw, version, fitted).items():
            why.unfit[name, Int32] = wide
            why.good &= ~wide
        event_id = version.view.view.source.event_id
        if event_id in raw.columns and event_id not in version.needs:
            why.odd_ids = any_kind(raw.columns[event_id]).bad
            if why.odd_ids is not None:
                why.good &= ~why.odd_ids
        for name, dtype in _never_null(version):
            if name in raw.columns:
                values = fit_column(raw, name, dtype, fitted)
                if values.values.null_count:
                    why.nulls[name] = ~values.values.is_valid().to_numpy(zero_copy_only=False).astype(bool)
                    why.good &= ~why.nulls[name]
        return why

    def problems_of(self, raw: GivenRows, at: int) -> list[str]:
        """What is wrong with one row."""
        keys, event = self.version.reading.keys, self.version.reading.event
        found = []
        for name in self.missing:
            read = "feature" if not self.version.view.view.aggregations else "read by an aggregation"
            what = "time" if name == event else "key" if name in keys else read
            found.append(f"no column {name!r} ({what}){index_hint(raw.given, name)}")
        for (name, dtype), bad in self.unfit.items():
            if bad[at]:
                found.append(f"column {name!r}: {_misfit(raw.column(name, dtype), at, dtype)}{raw.as_given(name, at)}")
        if self.odd_ids is not None and self.odd_ids[at]:
            event_id = str(self.version.view.view.source.event_id)
            found.append(f"column {event_id!r} (event id): {shown(raw.columns[event_id][at])} cannot be stored")
        for name, null in self.nulls.items():
            if null[at] and not any(n == name and bad[at] for (n, _), bad in self.unfit.items()):
                found.append(f"key {name!r} is NULL" if name in keys else f"time {name!r} is NULL")
        return found


def _misfit(column: Column, at: int, dtype: DType | None) -> str:
    """What is wrong with a value that does not fit a dtype (None: a time)."""
    value, time = column[at], dtype is None or dtype == Timestamp
    what = "not a time" if dtype is None else f"not {a_dtype(dtype)}{_reason(value, dtype)}"
    if isinstance(value, Misread):
        return f"{shown(value.text)} is {what}{value.hint}"
    if isinstance(column, pa.ChunkedArray):
        if time or any(kind in str(dtype) for kind in ("string", "timestamp", "date")):
            found = unreadable_rows(column.slice(at, 1))
            what = what if found is None else found[1]
            if time and found is None and holds_text(column.type):
                what = f"{what}; {PARSE_TIMES}"
    elif isinstance(value, str):
        if dtype == String:
            what = NOT_TEXT
        elif time and _time_problem(value) is None:
            what = f"{what}; {PARSE_TIMES}"
    elif time and (isinstance(value, np.datetime64) or YEARS in (_time_problem(value) or "")):
        what = YEARS
    return f"{shown(value)} is {what}"


def _reason(value: Any, dtype: DType) -> str:
    """Why a value does not fit, where that is not that it is of another kind."""
    try:
        cast_value(value.as_py() if isinstance(value, pa.Scalar) else value, dtype)
    except Misfit as misfit:
        return "" if str(misfit).startswith("not a") else f": {misfit}"
    except Exception:  # what a method of somebody's object raises, and nanoseconds, which Python has not
        return ""
    return ""


def _time_problem(value: Any) -> str | None:
    try:
        to_micros(value)
    except UsageError as bad:
        return str(bad)
    return None


def _never_null(version: RowVersion) -> list[tuple[str, DType | None]]:
    keys: list[tuple[str, DType | None]] = [
        (k.source_column, Int64 if k.dtype.name == "int32" else k.dtype) for k in version.view.keys
    ]
    return keys if version.reading.event is None else [*keys, (version.reading.event, None)]


def _too_wide(raw: GivenRows, version: RowVersion, fitted: Known) -> dict[str, NDArray[np.bool_]]:
    """Key column → which of its integers a key of 32 bits cannot have; the log keeps them all in 64."""
    found = {}
    for key in version.view.keys:
        name = key.source_column
        if key.dtype == Int32 and name in raw.columns:
            values = fit_column(raw, name, Int64, fitted).values.fill_null(0)
            outside = pc.or_(pc.less(values, -(2**31)), pc.greater(values, 2**31 - 1))
            wide = outside.to_numpy(zero_copy_only=False).astype(bool)
            if wide.any():
                found[name] = wide
    return found


def in_lines(reasons: Mapping[int, list[str]], count: int) -> list[str]:
    """One line a bad row; one line for all where every row is bad for the same reason."""
    texts = {row: "; ".join(found) for row, found in reasons.items()}
    distinct = set(texts.values())
    if count > 1 and len(texts) == count and len(distinct) == 1:
        return [f"rows 0 to {count - 1}: {distinct.pop()}"]
    return [f"row {row}: {texts[row]}" for row in sorted(texts)]
