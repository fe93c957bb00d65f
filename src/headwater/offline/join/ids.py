"""Event ids of rows of the log in the type that those of the source have, so that they are one column."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from headwater.errors import SourceError


def ids_as(batches: Iterator[pa.RecordBatch], name: str, kind: pa.DataType, where: str) -> Iterator[pa.RecordBatch]:
    """Batches whose event ids have a type; an id stays the same event's.

    Args:
        batches: rows with ids.
        name: of the column of ids.
        kind: the type.
        where: for errors.

    Raises:
        SourceError: ids of which the two types do not have the same.
    """
    for batch in batches:
        ids = batch.column(name)
        if ids.type == kind:
            yield batch
            continue
        if _family(ids.type) != _family(kind) and ids.null_count < len(ids):
            raise SourceError(
                f"{where}: the rows of the offline log have ids of type {ids.type}, the source has {kind}: an event "
                "that both state would count twice; give both one type"
            )
        try:
            cast = ids.cast(kind) if ids.null_count < len(ids) else pa.nulls(len(ids), kind)
        except pa.ArrowInvalid as bad:
            raise SourceError(
                f"{where}: an id of the offline log does not fit the source's type {kind}: {bad}"
            ) from bad
        yield batch.set_column(batch.schema.get_field_index(name), name, cast)


def _family(kind: pa.DataType) -> str:
    """Of types with the same family equal values are the same id."""
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_timestamp(kind):
        return "time"
    return str(kind)
