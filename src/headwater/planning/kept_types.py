"""Types of CSV columns that a query of an earlier release read: kept with the version, so that it goes on as it was.

Earlier releases let DuckDB find the types of a query's CSV tables in the text, again each time. The first plan with
this release writes down what is found; the version stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from headwater.definitions.source import Source
from headwater.definitions.source_checks import Schemas
from headwater.definitions.sources import CSVSource, SQLSource
from headwater.definitions.view import FeatureView
from headwater.errors import HeadwaterError
from headwater.types import DType, String, fitting_dtype


def kept_types(view: FeatureView, stored: FeatureView, schemas: Schemas | None) -> tuple[FeatureView, tuple[str, ...]]:
    """A definition with the types that its registered version reads, and what a plan says of those it writes down.

    Args:
        view: the definition.
        stored: the registered version of the same meaning.
        schemas: the columns of a source; None where sources are not looked at.
    """
    lines: list[str] = []
    source = _kept(view.source, stored.source, schemas, "source", lines)
    return (view if source is view.source else replace(view, source=source)), tuple(lines)


def _kept(source: Source, stored: Source, schemas: Schemas | None, where: str, lines: list[str]) -> Source:
    if isinstance(source, CSVSource) and isinstance(stored, CSVSource) and where != "source" and source.schema is None:
        if stored.types_found:
            found = _found(stored, schemas)
            if found is None:
                return replace(source, types_found=True)
            named = ", ".join(f"{name} {dtype}" for name, dtype in found.items())
            lines.append(f"{where}: the types first read are kept: {named}")
            return replace(source, kept_types=found)
        if stored.kept_types is not None:
            return replace(source, kept_types=stored.kept_types)
    if isinstance(source, SQLSource) and isinstance(stored, SQLSource):
        tables = dict(_tables(source, stored, schemas, where, lines))
        if any(table is not source.tables[name] for name, table in tables.items()):
            return replace(source, tables=tables)
    return source


def _tables(
    source: SQLSource, stored: SQLSource, schemas: Schemas | None, where: str, lines: list[str]
) -> Iterator[tuple[str, Source]]:
    for name, table in source.tables.items():
        before = stored.tables.get(name)
        yield name, table if before is None else _kept(table, before, schemas, f"{where}.tables.{name}", lines)


def _found(stored: CSVSource, schemas: Schemas | None) -> dict[str, DType] | None:
    """The types that are found in the text now; None where the files cannot be read."""
    try:
        found = None if schemas is None else schemas(stored)
    except HeadwaterError:
        return None
    if not isinstance(found, pa.Schema):
        return None
    return {field.name: fitting_dtype(field.type) or String for field in found}
