"""Checks of new versions whose source is files of text: what the source says of columns against what the view does."""

from __future__ import annotations

from collections.abc import Iterator

from headwater.definitions.names import is_text
from headwater.definitions.source_checks import values_read
from headwater.definitions.sources import TEXT_SOURCES
from headwater.definitions.view import FeatureView
from headwater.types import Date, DType, Timestamp


def text_problems(view: FeatureView) -> Iterator[str]:
    """What is wrong with a source of text files in a new version; in those of earlier releases it had no effect."""
    yield from _undeclared_event_id(view)
    yield from _contradictions(view)


def _contradictions(view: FeatureView) -> Iterator[str]:
    """The columns of which `schema=` says another dtype than the view, which decides how they are read."""
    source = view.source
    if not isinstance(source, TEXT_SOURCES) or not source.schema:
        return
    for name, dtypes, what in _declared(view):
        said = source.schema.get(name)
        if said is not None and said not in dtypes:
            yield (
                f"source.schema: column {name!r} is {said}, but {what}: remove it from schema=, which is for columns "
                "that no feature, key or time declares"
            )


def _declared(view: FeatureView) -> Iterator[tuple[str, tuple[DType, ...], str]]:
    """(column, dtypes it may be said to have, what the view says of it)."""
    for setting in ("event_time", "created_time", "valid_to"):
        name = getattr(view.source, setting)
        if name is not None:
            yield name, (Timestamp, Date), f"it is the {setting}, a timestamp"
    for key, dtype in view.join_keys.items():
        yield view.key_column(key), (dtype,), f"it is join key {key}, {dtype}"
    for value in values_read(view):
        if value.dtype is not None:
            said = f"feature {value.feature!r} is" if view.feature_list and not view.aggregations else value.declared
            yield value.column, (value.dtype,), f"{said} {value.dtype}"


def _undeclared_event_id(view: FeatureView) -> Iterator[str]:
    """The problem that nothing says what the event ids in files of text are; views of earlier releases have text."""
    source = view.source
    if not isinstance(source, TEXT_SOURCES) or not is_text(source.event_id):
        return
    keys = [view.key_column(key) for key in view.join_keys]
    declared = {*source.times, *keys, *view.columns_read}
    if source.event_id not in declared | (source.schema or {}).keys():
        kind = type(source).__name__
        yield (
            f"event_id: nothing declares what column {source.event_id!r} holds, and as text '10' comes before '9'; "
            f"declare it: {kind}(…, schema={{{source.event_id!r}: hw.Int64}}), or hw.String where the ids are texts"
        )
