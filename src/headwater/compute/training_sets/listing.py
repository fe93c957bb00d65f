"""Saved training sets, looked up."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from headwater.compute.context import StoreContext
from headwater.compute.training_sets.training_set import TrainingSet
from headwater.errors import StoreError


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


class TrainingSetList(list[TrainingSet]):
    """The saved training sets, by name and version.

    Attributes:
        problems: of each set that cannot be read `name@version` → why, and what to do.
    """

    def __init__(self, found: Iterable[TrainingSet] = (), problems: Mapping[str, str] | None = None) -> None:
        super().__init__(found)
        self.problems = dict(problems or {})


def training_sets(context: StoreContext) -> TrainingSetList:
    """Every version of every set, by name and version; one that cannot be read is a warning, and in `problems`."""
    sets = context.training_sets
    found: list[TrainingSet] = []
    problems: dict[str, str] = {}
    for path, manifest in sets.all():
        if isinstance(manifest, StoreError):
            problems["@".join(path.relative_to(sets.path).parts)] = str(manifest)
        else:
            found.append(TrainingSet(path, manifest, context))
    for name, why in problems.items():
        warnings.warn(f"training set {name} cannot be read: {why}", UserWarning, stacklevel=3)
    return TrainingSetList(found, problems)
