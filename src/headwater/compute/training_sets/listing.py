"""Saved training sets, looked up."""

from __future__ import annotations

from headwater.compute.context import StoreContext
from headwater.compute.training_sets.training_set import TrainingSet


def training_set(context: StoreContext, name: str, version: int | None = None) -> TrainingSet:
    """A saved set.

    Args:
        context: the store's parts and settings.
        name: the set's.
        version: None: the newest.

    Raises:
        NotFound: there is none.
    """
    path, manifest = context.training_sets.find(name, version)
    return TrainingSet(path, manifest, context)


def training_sets(context: StoreContext) -> list[TrainingSet]:
    """Every version of every set, by name and version."""
    return [TrainingSet(path, manifest, context) for path, manifest in context.training_sets.all()]
