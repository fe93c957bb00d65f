"""The newest known row of each key, for materialization: the same order and ties as history, without a spine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.offline.workspace import Workspace


def run_changes(
    request: ChangesRequest, counts: ChangeCounts, workspace: Callable[[str], Workspace]
) -> Iterator[pa.RecordBatch]:
    raise NotImplementedError
