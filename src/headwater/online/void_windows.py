"""Window versions whose rows count no longer: their entries and rows removed, so that the next run fills them again."""

from __future__ import annotations

from itertools import islice

from headwater.online.base import OnlineStore
from headwater.online.meta import fill_record_key, watermark_key, window_run_key
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolved import ResolvedView

_CHUNK = 1_000


def void_entries(project: str, view: str, version: str) -> dict[bytes, bytes | None]:
    """What says how far the rows of a version are complete, with None for each, as `OnlineStore.put_meta` takes it."""
    return {key(project, view, version): None for key in (fill_record_key, watermark_key, window_run_key)}


def void_rows(online: OnlineStore, project: str, view: ResolvedView) -> None:
    """Remove the rows of a window version, once its entries are void: a missing row would count as an empty one."""
    rows = online.scan(RowEncoder(project, view).prefix)
    while keys := [key for key, _ in islice(rows, _CHUNK)]:
        online.delete(keys)
