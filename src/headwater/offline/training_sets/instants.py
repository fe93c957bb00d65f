"""The instant of each row of a training set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import to_micros
from headwater.offline.training_sets.manifest import Manifest
from headwater.planning.local_time import floor_micros, local_times


def instants(batch: pa.RecordBatch, manifest: Manifest) -> NDArray[np.int64]:
    """The instant of each row, microseconds."""
    name = manifest.spine.timestamp
    if name is None:
        at = 0 if manifest.at is None else to_micros(manifest.at)
        return np.full(batch.num_rows, at, np.int64)
    column = batch.column(name)
    micros = floor_micros(column)
    zoned = pa.types.is_timestamp(column.type) and column.type.tz is not None
    if zoned or manifest.timezone is None:
        return micros
    zone = local_times(manifest.timezone, later=False)
    return micros if zone is None else zone.convert(micros)[0]
