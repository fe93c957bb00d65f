"""TrainingSet: the rows that a model was trained on, with what they were made of; rebuilt and compared on demand."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.compute.context import StoreContext
from headwater.compute.training_sets.report import TrainingSetReport
from headwater.deferred import deferred
from headwater.errors import UsageError
from headwater.offline.training_sets import splits
from headwater.offline.training_sets.instants import instants
from headwater.offline.training_sets.manifest import Manifest
from headwater.offline.training_sets.rows import BATCH, TrainingRows
from headwater.planning.local_time import instant_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.compute.training_sets import verifying
else:
    verifying = deferred("headwater.compute.training_sets.verifying")


class TrainingSet(TrainingRows):
    """A saved training set: its rows, and the manifest of what they were made of. It never changes.

    What is pickled is its rows, without the store: they cannot verify themselves.

    Attributes:
        manifest: what the set is and what it was made of.
        path: its folder, with `manifest.json` and the Parquet file of the rows (`file`).
    """

    def __init__(self, path: Path, manifest: Manifest, context: StoreContext) -> None:
        super().__init__(path, manifest)
        self._context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainingRows, (self.path, self.manifest)

    @property
    def context(self) -> StoreContext:
        """The parts and settings of its store, for what is built on a set."""
        return self._context

    @property
    def name(self) -> str:
        """The set's name."""
        return self.manifest.name

    @property
    def version(self) -> int:
        """The set's version, from 1."""
        return self.manifest.version

    def verify(self) -> TrainingSetReport:
        """Rebuild the set as of its offline log's position, and compare it value by value with what was saved.

        Sources are found where the registry has them now, so that a set can be verified on another machine. Memory is
        bounded.

        Returns:
            Whether it is the same; else in which columns and rows it is not, and what of its inputs has changed.

        Raises:
            StoreError: the registry, the log or the set itself cannot be read.
        """
        return verifying.verify(self._context, self)

    def split(
        self,
        test_size: float = 0.25,
        *,
        validation_size: float = 0.0,
        by: str = "time",
        test_from: datetime | str | None = None,
        validation_from: datetime | str | None = None,
        keys: Sequence[str] | None = None,
        seed: int = 0,
    ) -> dict[str, TrainingRows]:
        """Divide the rows into parts to train on, to validate and to test, the same on every machine.

        By time the newest rows are the test, those before them the validation, and rows of one instant are never
        divided. By key all rows of a key are in one part, whatever other rows there are: a hash of the key decides, so
        that shares are met on average, and a key stays in its part in a later version of the set.

        Args:
            test_size: the share of rows (of keys) to test, 0 or more and less than 1.
            validation_size: the share to validate; 0: there is no such part.
            by: `time` or `key`.
            test_from: by time: the rows from this instant on are the test, instead of a share.
            validation_from: by time: the rows from this instant on that are not the test are the validation.
            keys: by key: the columns that are hashed together; None: all join keys of the set.
            seed: by key: another number gives other parts.

        Returns:
            `train`, `test`, and between them `validation` where it was asked for: rows of the set, in its order, each
            with `to_pandas()`, `to_numpy()` and the others.

        A part that was asked for by its share and has no rows is a warning (`UserWarning`).

        Raises:
            UsageError: arguments that contradict each other, an instant that leaves a part without rows, or nothing to
                train on.
            StoreError: the file cannot be read, or is damaged.
        """
        bounded = test_from is not None or validation_from is not None
        if by not in ("time", "key"):
            raise UsageError(f"by={by!r}: must be 'time' or 'key'")
        if by == "key" and bounded:
            raise UsageError("test_from and validation_from are instants: they cannot be combined with by='key'")
        if by == "time" and keys is not None:
            raise UsageError("keys=[…] cannot be combined with by='time'; pass by='key'")
        splits.check_sizes(test_size, validation_size)
        if by == "key":
            parts = splits.by_hash(self._places(keys, seed), test_size, validation_size)
        elif self.timestamp is None:
            raise UsageError("all rows of the training set have one instant (at=…): split them with by='key'")
        elif bounded:
            if test_from is None:
                raise UsageError("validation_from needs test_from, the instant at which the test begins")
            ends = [instant_in(when, None) for when in (validation_from or test_from, test_from)]
            if ends[0] > ends[1]:
                raise UsageError("validation_from is after test_from: the validation comes before the test")
            rows = self._instants()
            parts = splits.by_instants(rows, *ends)
            splits.check_instants(rows, parts, validation_from, test_from)
        else:
            parts = splits.by_time(self._instants(), test_size, validation_size)
        wanted = validation_size or validation_from is not None
        chosen = {name: mask for name, mask in parts.items() if name != splits.VALIDATION or wanted}
        if not bounded:
            for problem in splits.empty_parts(chosen, by, {splits.TEST: test_size, splits.VALIDATION: validation_size}):
                warnings.warn(problem, UserWarning, stacklevel=2)
        return {name: TrainingRows(self.path, self.manifest, mask) for name, mask in chosen.items()}

    def _instants(self) -> NDArray[np.int64]:
        assert self.timestamp is not None
        found = [instants(batch, self.manifest) for batch in self.to_batches(BATCH, [self.timestamp])]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _places(self, keys: Sequence[str] | None, seed: int) -> NDArray[np.float64]:
        wanted = self.keys if keys is None else [keys] if isinstance(keys, str) else list(keys)
        splits.check_names(wanted, self.keys)
        return splits.key_places(self.to_arrow(wanted), seed)
