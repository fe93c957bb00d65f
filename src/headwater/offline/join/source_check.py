"""A look at the values of a view's source, before a run reads all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
from sqlglot import exp

from headwater.definitions.sources import SQLSource
from headwater.definitions.transforms import TransformSource
from headwater.errors import SourceError
from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.join.relations import key_form
from headwater.offline.join.workspace import Workspace
from headwater.planning.files import FileIdentity


def value_problems(
    view: ViewInput, files: Sequence[FileIdentity] | None, rows: int, workspace: Callable[[str], Workspace]
) -> list[str]:
    """The problems that `OfflineEngine.check_values` tells, each once.

    Args:
        view: the view with its source.
        files: the source's files; None where it is not one of files.
        rows: how many rows of each.
        workspace: makes a run's tables.
    """
    if view.source is None:
        return []
    alone = replace(view, log=None)
    # a query reads all of its files at once
    one_by_one = files is not None and not isinstance(view.source, (SQLSource, TransformSource))
    scopes = [SourceScope(only=frozenset([f.path]), rows=rows) for f in files or ()] if one_by_one else []
    found: dict[str, None] = {}
    for scope in scopes or [SourceScope(rows=rows)]:
        try:
            _read(alone, scope, rows, workspace)
        except SourceError as bad:
            found[str(bad)] = None
    return list(found)


def _read(view: ViewInput, scope: SourceScope, rows: int, workspace: Callable[[str], Workspace]) -> None:
    """Read and cast the first rows of a scope.

    Raises:
        SourceError: a value that does not fit, by its file, row and column.
    """
    names = [feature.name for feature in view.view.features]
    with workspace(f"check {view.view.name}") as space:
        relation = space.view_relations(view, "0", names, scope).source
        if relation is None:
            return
        columns = [(k, key_form(key.dtype)) for k, key in zip(relation.keys, view.view.keys, strict=True)]
        dtypes = {feature.name: feature.dtype.arrow for feature in view.view.features}
        columns += [(value, dtypes[name]) for name, value in relation.features.items()]
        columns += [(time, pa.int64()) for time in (relation.event, relation.created) if time is not None]
        shown = [value.copy().as_(f"v{i}") for i, (value, _) in enumerate(columns)]
        schema = pa.schema([(f"v{i}", kind) for i, (_, kind) in enumerate(columns)])
        for _ in space.stream(exp.select(*shown).from_(relation.table).limit(rows), schema, rows):
            pass
