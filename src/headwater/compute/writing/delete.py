"""Delete: keys marked in the log, and emptied online, in every version that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from headwater.clock import LAST_MICROS, MIN_MICROS, duration_micros, from_micros
from headwater.compute.context import WRITE_TIME, StoreContext
from headwater.compute.recent import SAMPLE, RecentWrite, Sample
from headwater.compute.reports import DeleteReport
from headwater.compute.writing.acknowledged import acknowledge
from headwater.compute.writing.keys import KeysOfVersions, keys_of_versions, shown_keys
from headwater.compute.writing.put_windows import delete_window_rows
from headwater.compute.writing.registry_guard import ATTEMPTS, Changed, unchanged
from headwater.compute.writing.swap import CHUNK, Until, update
from headwater.errors import RegistryConflict, StoreError
from headwater.offline.base import Tombstone
from headwater.offline.log.deleting import Deleted
from headwater.offline.log.requests import Recorded, Request
from headwater.offline.log.state import LogRestored
from headwater.online.guard import deleted_row
from headwater.online.meta import greatest_key, purge_entry
from headwater.online.rows.codec import header, is_window_row
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.windows.codec import row_facts
from headwater.online.session import Session
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.service_reads import readers
from headwater.planning.snapshot import RegistrySnapshot, ViewVersion


def delete(
    context: StoreContext,
    view: str,
    entities: Any,
    *,
    purge: bool = False,
    session: Session | None = None,
    request: Request | None = None,
    recorded: Recorded | None = None,
) -> DeleteReport:
    """Hide every row of some keys that was given up to now, online and in history; what is learnt later revives them.

    Args:
        context: the store's parts and settings.
        view: the view.
        entities: keys, as `get_online_features` takes them.
        purge: erase them also, by a later materialize or worker.
        session: advanced by the delete.
        request: that it is of, which is done once.
        recorded: what the log has of it already: the same is hidden online again.

    Raises:
        Repeated: the log has the delete of the request.
        EntityKeyError: keys that lack a join key, are NULL or of another type.
        ClockError: the log's clock is far ahead of now.
    """
    until = context.write_until()
    context.check_session(session)
    context.claims.claim_online()
    snapshot = context.registry.snapshot()
    for _ in range(ATTEMPTS):
        record = snapshot.view(view)
        keys = keys_of_versions(record, entities, f"delete from {record.name!r}")
        if not keys.table.num_rows:
            return DeleteReport(0, 0, None, 0, purge)
        # every version that has these keys, retired ones too: their rows may still be read
        versions = [(whole_view(record, version), keys.of(names)) for version, names in keys.same]
        stored = [_stored(context, version, mine) for version, mine in versions]
        rows = list(zip(*(rows for _, rows in stored), strict=True))
        windows = any(version.windows is not None for version, _ in versions)
        try:
            if recorded is None:
                added = context.log.delete(
                    view,
                    keys.table,
                    [max(map(_known, each)) for each in rows],
                    purge=purge,
                    names=[names for _, names in keys.same],
                    check=unchanged(context, snapshot),
                    request=request,
                    windows=[max(map(_newest_known, each), default=MIN_MICROS) for each in rows] if windows else None,
                    tolerance=duration_micros(context.settings.tolerance),
                )
            else:
                added = context.log.deleted_before(view, recorded, purge=purge)
        except (Changed, LogRestored):
            context.claims.claim_online()
            snapshot = context.registry.refresh()
            continue
        if not added.positions:
            return DeleteReport(keys.table.num_rows, 0, None, 0, purge)
        try:
            _hide(context, view, versions, keys, added, until, purge=purge)
        except StoreError as bad:
            raise type(bad)(f"{bad}; the delete is in the offline log, the next materialize applies it online") from bad
        position = max(added.positions)
        recent = RecentWrite(
            from_micros(context.now()), "delete", view, keys.table.num_rows, _sample(keys.table, stored), position
        )
        acknowledge(context, recent, session)
        found = sum(any(map(_has_values, each)) for each in rows)
        pending = from_micros(min(context.log.now() + duration_micros(WRITE_TIME), LAST_MICROS)) if purge else None
        left = tuple(_left(snapshot, view, version) for version in keys.left)
        return DeleteReport(keys.table.num_rows, found, from_micros(max(added.through)), position, purge, pending, left)
    raise RegistryConflict(f"{view}: the registry changed {ATTEMPTS} times during the delete; try again")


def _hide(
    context: StoreContext,
    view: str,
    versions: Sequence[tuple[ResolvedView, pa.Table]],
    keys: KeysOfVersions,
    added: Deleted,
    until: int,
    *,
    purge: bool,
) -> None:
    """Hide the rows online that the tombstones hide, in every version."""
    tombstones = list(zip(added.positions, added.through, strict=True))
    if purge:
        note_purges(context, view, dict(zip(context.log.digests(keys.table), tombstones, strict=True)))
    for version, mine in versions:
        if version.windows is None:
            hide_rows(context, version, mine, tombstones, until)
        else:
            delete_window_rows(context, version, mine, added, until)


def _left(snapshot: RegistrySnapshot, view: str, version: ViewVersion) -> str:
    """What to do about a version whose join keys are other ones than those that were deleted."""
    by = readers(snapshot).get((view, version.version), ())
    read = f", which {', '.join(by)} reads," if by else ""
    keys = " ".join(
        f"--key {name}=VALUE" if dtype.name != "string" else f"--key '{name}=\"VALUE\"'"
        for name, dtype in version.view.join_keys.items()
    )
    return (
        f"version {version.version} of {view}{read} has other join keys, {shown_keys(version)}, and keeps its rows: "
        f"delete them by those too: headwater delete {view} {keys}"
    )


def _stored(context: StoreContext, version: ResolvedView, keys: pa.Table) -> tuple[list[bytes], list[bytes | None]]:
    stored = stored_keys(context, version, keys)
    return stored, context.online.multi_get(stored)


def stored_keys(context: StoreContext, version: ResolvedView, keys: pa.Table) -> list[bytes]:
    """What each of these keys (none NULL) is stored under for a version."""
    found = RowEncoder(context.project, version).stored_keys(keys)
    return [key for key in found if key is not None]


def stored_rows(context: StoreContext, rows: RowEncoder, keys: pa.Table | None) -> Iterator[tuple[bytes, bytes]]:
    """What is stored of a version, or of some of its keys (None: of all), and under what."""
    if keys is None:
        yield from context.online.scan(rows.prefix)
        return
    stored = [key for key in rows.stored_keys(keys) if key is not None]
    for start in range(0, len(stored), CHUNK):
        some = stored[start : start + CHUNK]
        yield from ((k, row) for k, row in zip(some, context.online.multi_get(some), strict=True) if row is not None)


def _sample(keys: pa.Table, stored: Sequence[tuple[list[bytes], list[bytes | None]]]) -> Sample:
    entities = keys.slice(0, SAMPLE).to_pylist()
    return tuple(pair for mine, _ in stored for pair in zip(mine, entities, strict=False))


def _known(row: bytes | None) -> int:
    """What D must reach for what is stored: its own D, and the known_at of a source or cache-only row.

    Rows of the log are hidden by their position.
    """
    stored = header(row)
    if stored is None:
        return MIN_MICROS
    return max(stored.through, stored.known_at if not stored.emptied and not stored.position else MIN_MICROS)


def _newest_known(row: bytes | None) -> int:
    """When the newest event of a window version's row was known."""
    facts = row_facts(row)
    return MIN_MICROS if facts is None else facts.newest_known


def _has_values(row: bytes | None) -> bool:
    if is_window_row(row):
        return _newest_known(row) > MIN_MICROS
    stored = header(row)
    return stored is not None and not stored.emptied


def note_purges(context: StoreContext, view: str, purges: Mapping[bytes, Tombstone]) -> None:
    """Put the digests (→ P, D) of purges into the online store, where they outlive the rows.

    A registry that is restored from an older copy has them again from there.
    """
    entries: dict[bytes, bytes | None] = {}
    for digest, (position, through) in purges.items():
        entries |= purge_entry(context.project, view, digest, through, position)
    if entries:
        greatest = max(position for position, _ in purges.values())
        context.online.put_meta(entries, high_water=(greatest_key(context.project), greatest))


def hide_rows(
    context: StoreContext,
    version: ResolvedView,
    keys: pa.Table,
    tombstones: Sequence[Tombstone],
    until: Until,
) -> int:
    """Put P and D into the rows of some keys, and empty those that they hide.

    Args:
        context: the store's parts and settings.
        version: the view version.
        keys: the join keys.
        tombstones: P and D (microseconds) of each.
        until: see `update`.

    Returns:
        How many rows were changed.
    """
    rows = RowEncoder(context.project, version)
    whole = [key for key in rows.whole_keys(keys) if key is not None]
    return hide_stored(context, stored_keys(context, version, keys), tombstones, until, whole)


def hide_stored(
    context: StoreContext,
    keys: Sequence[bytes],
    tombstones: Sequence[Tombstone],
    until: Until,
    whole: Sequence[bytes] | None = None,
) -> int:
    """`hide_rows` by what the rows are stored under; `whole` are the whole keys, some of which may be long ones."""
    long = [None if full == key else full for key, full in zip(keys, keys if whole is None else whole, strict=True)]

    def change(i: int, stored: bytes | None) -> bytes | None:
        position, through = tombstones[i]
        new = deleted_row(stored, through, position, long[i])
        return stored if new is None else new

    high_water = (greatest_key(context.project), max((position for position, _ in tombstones), default=0))
    return update(context.online, keys, context.online.multi_get(keys), change, until=until, high_water=high_water)
