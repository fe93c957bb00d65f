"""The values of sources that are looked at before a definition is registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, reads_text, view_tables
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view import FeatureView
from headwater.errors import DefinitionError
from headwater.offline.base import OfflineEngine, ViewInput
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion

ROWS = 10_000
"""How many rows of each file are looked at."""
_UNNUMBERED = "new"
"""The version of a definition that apply has not numbered yet, as problems name it."""


def check_values(
    engine: OfflineEngine,
    snapshot: RegistrySnapshot,
    views: Iterable[FeatureView],
    source_of: Callable[[ViewVersion], Source],
    now: datetime,
    *,
    every: bool,
) -> None:
    """Refuse views whose source has values that do not fit, in the first rows of its files.

    Args:
        engine: reads the sources.
        snapshot: what is registered.
        views: the definitions.
        source_of: the source that a version reads.
        now: the time (UTC).
        every: look at all views; else at those that read text (CSV, JSON), also by a query, and are not registered as
            they are.

    Raises:
        DefinitionError: each problem with its view, file, row and column.
    """
    problems: list[str] = []
    for view in views:
        registered = _registered(snapshot, view)
        number = view.version or (registered.version if registered is not None else _UNNUMBERED)
        version = ViewVersion(replace(view, version=number), False, now, now)
        source = source_of(version)
        if isinstance(source, (PushSource, TransformSource)) or any(True for _ in view_tables(source)):
            continue  # rows of a log, made by a function, or of views whose values are looked at themselves
        if not (every or (reads_text(source) and registered is None)):
            continue
        record = ViewRecord(view.name, {version.version: version}, None)
        problems += engine.check_values(ViewInput(whole_view(record, version), source), ROWS)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DefinitionError(f"{count} in the values of sources (the first {ROWS:,} rows of each file):", problems)


def _registered(snapshot: RegistrySnapshot, view: FeatureView) -> ViewVersion | None:
    """The newest version that has a view's definition."""
    record, mark = snapshot.views.get(view.name), fingerprint(view)
    same = [] if record is None else [known for known in record.versions.values() if known.fingerprint == mark]
    return max(same, key=lambda known: known.revision, default=None)
