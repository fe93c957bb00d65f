"""A sink that takes its time, for tests in which processes of Spark are disturbed while they put.

It is sent to them by value: they have no folder of tests.
"""

import time
from collections.abc import Iterable

import pyarrow as pa

from headwater.compute.materializing.sink import OnlineSink
from headwater.offline.sink import PutCounts


class SlowSink(OnlineSink):
    """Puts a row at a time, ten a second."""

    def put(self, batches: Iterable[pa.RecordBatch]) -> PutCounts:
        keys = 0
        for batch in batches:
            for i in range(batch.num_rows):
                part = OnlineSink.put(self, [batch.slice(i, 1)])
                keys += part.keys
                if part.stopped:
                    return PutCounts(keys=keys, stopped=part.stopped)
                time.sleep(0.1)
        return PutCounts(keys=keys, applied=keys)
