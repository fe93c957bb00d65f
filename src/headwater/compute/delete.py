"""Delete: keys marked in the log, and emptied online, in every version that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headwater.clock import MIN_MICROS, from_micros
from headwater.compute.acknowledged import acknowledge
from headwater.compute.keys import key_table, newest, same_keys
from headwater.compute.recent import SAMPLE, RecentWrite, Sample
from headwater.compute.reports import DeleteReport
from headwater.compute.rooms import Rooms
from headwater.compute.write import ATTEMPTS, Changed, unchanged
from headwater.errors import RegistryConflict, StoreError
from headwater.offline.log_state import LogRestored
from headwater.online.codec import emptied, header, micros_bytes, replaced, with_key
from headwater.online.session import Session, check_session
from headwater.online.view_rows import ViewRows
from headwater.planning.resolve import ResolvedView, whole_view
from headwater.planning.snapshot import ViewRecord

TRIES = 1_000


@dataclass(frozen=True)
class DeleteKeys:
    """The keys of a delete for the versions that share their join keys.

    Attributes:
        table: the keys by name, integers as int64; no NULLs.
        versions: every version with these join keys, retired ones too: their rows may still be read.
    """

    table: pa.Table
    versions: tuple[ResolvedView, ...]


def delete(
    rooms: Rooms, view: str, entities: Any, *, purge: bool = False, session: Session | None = None
) -> DeleteReport:
    """Hide every row of some keys that is known up to now, online and in history; what is learnt later revives them.

    Args:
        rooms: the store's parts.
        view: the view.
        entities: keys, as `get_online_features` takes them.
        purge: erase them also, by a later materialize or worker.
        session: advanced by the delete.

    Raises:
        EntityKeyError: keys that lack a join key, are NULL or of another type.
    """
    check_session(session, rooms.store_name)
    rooms.claim_online()
    snapshot = rooms.registry.snapshot()
    for _ in range(ATTEMPTS):
        record = snapshot.view(view)
        keys = delete_keys(record, entities)
        if not keys.table.num_rows:
            return DeleteReport(0, 0, None, 0, purge)
        stored = [_stored(rooms, version, keys.table) for version in keys.versions]
        known = [max(_known(row) for row in rows) for rows in zip(*(rows for _, rows in stored), strict=True)]
        try:
            marked = rooms.log.delete(view, keys.table, known, purge=purge, check=unchanged(rooms, snapshot))
        except (Changed, LogRestored):
            rooms.claim_online()
            snapshot = rooms.registry.refresh()
            continue
        try:
            for version in keys.versions:
                hide_rows(rooms, version, keys.table, marked.through)
        except StoreError as bad:
            raise type(bad)(f"{bad}; the delete is in the offline log, the next materialize puts it online") from bad
        recent = RecentWrite(
            from_micros(rooms.now()), "delete", view, keys.table.num_rows, _sample(keys, stored), marked.position
        )
        acknowledge(rooms, recent, session)
        found = sum(at > MIN_MICROS for at in known)
        through = from_micros(max(marked.through)) if marked.through else None
        return DeleteReport(keys.table.num_rows, found, through, marked.position, purge)
    raise RegistryConflict(f"{view}: the registry changed {ATTEMPTS} times during the delete; try again")


def delete_keys(record: ViewRecord, entities: Any) -> DeleteKeys:
    """The keys to delete, checked against the join keys of the view's live version (else its newest)."""
    version = newest(record)
    table = key_table(entities, version.view.join_keys, f"delete from {record.name!r}")
    same = tuple(whole_view(record, v) for v in record.versions.values() if same_keys(v, version))
    return DeleteKeys(table, same)


def _stored(rooms: Rooms, version: ResolvedView, keys: pa.Table) -> tuple[list[bytes], list[bytes | None]]:
    stored = stored_keys(rooms, version, keys)
    return stored, rooms.online.multi_get(stored)


def stored_keys(rooms: Rooms, version: ResolvedView, keys: pa.Table) -> list[bytes]:
    """What each of these keys (none NULL) is stored under for a version."""
    found = ViewRows(rooms.project, version).stored_keys(keys)
    return [key for key in found if key is not None]


def _sample(keys: DeleteKeys, stored: Sequence[tuple[list[bytes], list[bytes | None]]]) -> Sample:
    entities = keys.table.slice(0, SAMPLE).to_pylist()
    return tuple(pair for mine, _ in stored for pair in zip(mine, entities, strict=False))


def _known(row: bytes | None) -> int:
    found = header(row)
    return MIN_MICROS if found is None or found.emptied else found.known_at


def hide_rows(rooms: Rooms, version: ResolvedView, keys: pa.Table, through: Iterable[int]) -> int:
    """Put D into the rows of some keys, and empty those that are known up to it.

    Args:
        rooms: the store's parts.
        version: the view version.
        keys: the join keys.
        through: D of each.

    Returns:
        How many rows were changed.
    """
    rows = ViewRows(rooms.project, version)
    whole = rows.whole_keys(keys)
    stored = stored_keys(rooms, version, keys)
    found = rooms.online.multi_get(stored)
    changed = 0
    for key, full, row, limit in zip(stored, whole, found, through, strict=True):
        changed += hide_row(rooms, key, row, limit, full)
    return changed


def hide_row(rooms: Rooms, key: bytes, row: bytes | None, through: int, whole: bytes | None = None) -> bool:
    """Put D into one row; `whole` is the whole key, where it may be a long one. Whether it was changed."""
    for _ in range(TRIES):
        new = hidden(row, through, None if whole == key else whole)
        if new is None:
            return False
        stored = header(row)
        if rooms.online.compare_and_put(key, 0 if stored is None else stored.sequence, new):
            return True
        row = rooms.online.multi_get([key])[0]
    raise StoreError(f"key {key.hex()}: written {TRIES} times while it was deleted; try again")


def hidden(row: bytes | None, through: int, long_key: bytes | None = None) -> bytes | None:
    """A row with D in its header, emptied where it is known up to D; None where it says so already."""
    stored = header(row)
    if stored is not None and stored.through >= through and (stored.emptied or stored.known_at > stored.through):
        return None
    if row is None or stored is None or stored.emptied or stored.known_at <= through:
        bare = emptied(row, through)
        return bare if long_key is None or stored is not None else with_key(bare, long_key)
    new = replaced(row, row)
    return new[:14] + micros_bytes(through) + new[22:]
