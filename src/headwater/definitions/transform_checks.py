"""Checks of a transformation in Python: its function, its sources and its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headwater.definitions.function_source import call_problems, parameters
from headwater.definitions.names import is_text, of_those
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view import FeatureView
from headwater.definitions.view_tables import ViewTable
from headwater.types import DType


def transform_problems(source: TransformSource, where: str) -> Iterator[str]:
    """What is wrong with a transformation that shows without its sources' data."""
    if not isinstance(source.tables, Mapping) or not source.tables:
        yield f"{where}.sources: must map the function's parameters to sources, not {source.tables!r}"
        return
    for name, table in source.tables.items():
        inside = f"{where}.sources[{name!r}]"
        if isinstance(table, (FeatureView, ViewTable)):
            yield (
                f"{inside}: a view is read by queries alone, which show that no row is known before what it was made "
                "of: use hw.SQLSource, or give the view's source"
            )
        elif isinstance(table, PushSource):
            yield f"{inside}: a push source has no table to read; its rows are in the offline log"
        elif isinstance(table, Source) and table.created_time is not None and source.created_time is None:
            yield (
                f"{inside}: it has a created time, so what the function returns must say when it became known: "
                "created_time= the column with the greatest created time of what each row is made of"
            )
    if source.text and not source.problems:
        yield from (f"{where}: {problem}" for problem in call_problems(source.text, by_name=True))
        wanted, given = parameters(source.text), tuple(source.tables)
        if sorted(wanted) != sorted(given):
            yield (
                f"{where}: the parameters of {source.name}() are {', '.join(wanted) or 'none'}, its sources "
                f"{', '.join(map(str, given))}: both must have the same names"
            )
    yield from _columns(source, where)


def _columns(source: TransformSource, where: str) -> Iterator[str]:
    if not isinstance(source.schema, Mapping) or not source.schema:
        yield f"{where}.schema: must map columns to dtypes, not {source.schema!r}"
        return
    for name, dtype in source.schema.items():
        if not is_text(name) or not isinstance(dtype, DType):
            yield f"{where}.schema: column {name!r} is {dtype!r}; give a dtype such as hw.Float64"
    for setting in ("event_time", "created_time", "valid_to", "event_id"):
        column = getattr(source, setting)
        if is_text(column) and column not in source.schema:
            there = of_those(column, source.schema, "it")
            yield f"{where}.{setting}: schema= has no column {column!r}{there}"
