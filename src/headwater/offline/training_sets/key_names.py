"""The join keys of a saved view, as the registry has them now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headwater.offline.training_sets.manifest import SavedView
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import RegistrySnapshot
from headwater.types import DType


def keys_of(
    snapshot: RegistrySnapshot, saved: SavedView
) -> tuple[Mapping[str, DType], Sequence[tuple[str, ...]]] | None:
    """Join key → dtype, and the other names of the join keys; None: the version is not registered.

    Args:
        snapshot: the registry.
        saved: a view of a manifest.
    """
    record = snapshot.views.get(saved.name)
    if record is None or saved.version not in record.versions:
        return None
    view = whole_view(record, record.versions[saved.version])
    return {key.name: key.dtype for key in view.keys}, view.key_names
