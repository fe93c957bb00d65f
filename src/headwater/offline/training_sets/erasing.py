"""Erasing: the rows of purged keys go out of the training sets of a folder, and the manifests say how many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from msgspec.structs import replace
from numpy.typing import NDArray

from headwater.errors import HeadwaterError, SpineError, StoreError
from headwater.offline.base import KeyDigests, Tombstone
from headwater.offline.training_sets.folder import TrainingSets, read_manifest
from headwater.offline.training_sets.instants import instants
from headwater.offline.training_sets.manifest import Manifest, SavedView
from headwater.offline.training_sets.rows import BATCH, TrainingRows
from headwater.offline.training_sets.writing import RowsWriter, write_manifest
from headwater.planning.tables import match_key
from headwater.scratch import locked_folder
from headwater.types import DType

_WAIT = 60.0
"""Seconds that an erase waits for another one of the same set."""

KeysOf = Callable[[SavedView], tuple[Mapping[str, DType], Sequence[tuple[str, ...]]] | None]
"""The join keys of a saved view with their dtypes, and their other names; None: its version is gone."""


class PurgedKeys:
    """Which rows have keys that were purged from a view.

    Args:
        purges: digest of a key → P and D (microseconds) of its purge.
        digests: of keys.
    """

    def __init__(self, purges: Mapping[bytes, Tombstone], digests: KeyDigests) -> None:
        self._purges, self._digests = purges, digests

    def tombstones(self, keys: pa.Table, names: Sequence[tuple[str, ...]]) -> tuple[NDArray[np.int64], ...]:
        """P and D of each row's key; P is 0 where its key was not purged.

        Args:
            keys: columns named like the join keys, in their dtypes.
            names: the other names of the join keys.
        """
        before, through = np.zeros(keys.num_rows, np.int64), np.zeros(keys.num_rows, np.int64)
        if not self._purges or not keys.num_columns:
            return before, through
        rows = pa.array(np.arange(keys.num_rows))
        grouped = keys.append_column("", rows).group_by(keys.column_names, use_threads=False).aggregate([("", "list")])
        found = self._digests(grouped.select(keys.column_names), names)
        members = grouped.column("_list")
        for i, digests in enumerate(found):
            mine = [self._purges[digest] for digest in digests if digest in self._purges]
            if mine:
                places = members[i].values.to_numpy()
                before[places] = max(position for position, _ in mine)
                through[places] = max(d for _, d in mine)
        return before, through


def key_table(rows: pa.RecordBatch, view: SavedView, dtypes: Mapping[str, DType]) -> pa.Table:
    """The join keys of a view in the columns of rows, in their dtypes."""
    columns = {}
    for key, dtype in dtypes.items():
        column = pa.chunked_array([rows.column(view.keys[key])])
        columns[key] = match_key(column, dtype, f"column {view.keys[key]!r}", SpineError)
    return pa.table(columns)


def erase_rows(
    sets: TrainingSets, view: str, purges: Mapping[bytes, Tombstone], digests: KeyDigests, keys_of: KeysOf
) -> tuple[int, list[str]]:
    """Take the rows of keys that were purged from a view out of every training set that was joined to it.

    A row goes where its set was saved before the purge, or its instant is not after D. A set is replaced in one step:
    one that is being read stays readable. The same call made again goes on from where a kill stopped it.

    Args:
        sets: the folder.
        view: the view.
        purges: digest of a key → P and D (microseconds) of its purge.
        digests: of keys.
        keys_of: the join keys of a view of a set.

    Returns:
        How many rows went, and what is in the way of the others.
    """
    erased = 0
    purged = PurgedKeys(purges, digests)
    folders, pending = sets.to_erase_from()
    for folder in folders:
        try:
            erased += _erase_alone(folder, view, purged, keys_of)
        except (HeadwaterError, OSError) as bad:
            pending.append(f"training set {folder.parent.name} {folder.name}: {bad}")
    return erased, pending


class NewPurges:
    """The purges that were asked for since a set's history was read: see `TrainingSets.publish`.

    Their keys may be erased everywhere else by now: an erase sees the sets that are published, and this one is not yet.

    Args:
        views: the set's.
        position: of the log, as the set's history saw it.
        purges_after: view and position of the log → digest of a key → P and D (microseconds) of its purges after it.
        digests: of keys.
        keys_of: the join keys of a view of a set.
    """

    def __init__(
        self,
        views: Iterable[str],
        position: int,
        purges_after: Callable[[str, int], Mapping[bytes, Tombstone]],
        digests: KeyDigests,
        keys_of: KeysOf,
    ) -> None:
        self._views, self._position = tuple(dict.fromkeys(views)), position
        self._purges_after, self._digests, self._keys_of = purges_after, digests, keys_of
        self._seen: dict[str, Mapping[bytes, Tombstone]] = {view: {} for view in self._views}

    def erase(self, folder: Path) -> Manifest:
        """Take the rows of the keys that are purged by now out of the set in a folder; its manifest from now on.

        Raises:
            StoreError, FormatError: it cannot be read or written.
        """
        now = self._now()
        for view, purges in now.items():
            if purges != self._seen[view]:
                _erase_alone(folder, view, PurgedKeys(purges, self._digests), self._keys_of)
        self._seen = now
        return read_manifest(folder)

    def more(self) -> bool:
        """Whether there are purges that the last `erase` has not seen."""
        return self._now() != self._seen

    def _now(self) -> dict[str, Mapping[bytes, Tombstone]]:
        return {view: self._purges_after(view, self._position) for view in self._views}


def _erase_alone(folder: Path, view: str, purged: PurgedKeys, keys_of: KeysOf) -> int:
    """Erase from a set while no other process does."""
    with locked_folder(folder, _WAIT) as held:
        if not held:
            raise StoreError(f"training set in {folder} is being erased from by another process")
        return _erase(folder, view, purged, keys_of)


def _erase(folder: Path, view: str, purged: PurgedKeys, keys_of: KeysOf) -> int:
    manifest = read_manifest(folder)
    remove_leftovers(folder, manifest)
    views = [saved for saved in manifest.views if saved.name == view and saved.keys]
    if not views:
        return 0
    rows = TrainingRows(folder, manifest)
    known = [(saved, keys_of(saved)) for saved in views]
    chosen = [_kept(batch, manifest, known, purged) for batch in rows.to_batches(BATCH, _needed(manifest, views))]
    kept = np.concatenate(chosen) if chosen else np.zeros(0, bool)
    gone = len(kept) - int(kept.sum())
    if not gone:
        return 0
    left = TrainingRows(folder, manifest, kept)
    file = folder / f"rows-{_number(manifest) + 1}.parquet"
    with suppress(FileNotFoundError):
        file.unlink()  # a killed erase left it
    with RowsWriter(file, rows.schema, manifest.spine.columns) as writer:
        for batch in left.to_batches(BATCH):
            writer.write(batch)
    erased = manifest.rows.erased + gone
    spine = replace(manifest.spine, sha256=None)
    made = replace(manifest, rows=writer.saved(erased), columns=writer.described(manifest.columns), spine=spine)
    write_manifest(folder, made)
    remove_leftovers(folder, made)
    return gone


def _needed(manifest: Manifest, views: Iterable[SavedView]) -> list[str]:
    columns = [column for view in views for column in view.keys.values()]
    timestamp = manifest.spine.timestamp
    return list(dict.fromkeys([*columns, *([] if timestamp is None else [timestamp])]))


def _kept(
    batch: pa.RecordBatch,
    manifest: Manifest,
    views: Sequence[tuple[SavedView, tuple[Mapping[str, DType], Sequence[tuple[str, ...]]] | None]],
    purged: PurgedKeys,
) -> NDArray[np.bool_]:
    """Which rows no purge erases."""
    kept = np.ones(batch.num_rows, bool)
    at = instants(batch, manifest)
    for saved, known in views:
        if known is None:
            raise StoreError(f"{saved.name}@{saved.version} is no longer registered: its keys are not known")
        dtypes, names = known
        before, through = purged.tombstones(key_table(batch, saved, dtypes), names)
        kept &= ~((before > 0) & ((before > manifest.log.position) | (at <= through)))
    return kept


def _number(manifest: Manifest) -> int:
    return int(manifest.rows.file.removesuffix(".parquet").rpartition("-")[2])


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove files of rows that the manifest does not name: a killed erase left them."""
    for file in folder.glob("rows-*.parquet"):
        if file.name != manifest.rows.file:
            file.unlink(missing_ok=True)
