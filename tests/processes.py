"""Processes that tests start, forked by a server that has imported what they need.

A process has one such server, and it imports what was named last before it began: so all is named here.
"""

from headwater.testing.processes import PROCESSES

PROCESSES.set_forkserver_preload(
    [
        "headwater.compute.refreshing.worker",
        "headwater.offline.engines.duckdb.engine",
        "headwater.offline.join.result",
        "headwater.testing.log_suite",
        "headwater.testing.shared_registry_suite",
        "headwater.testing.shared_suite",
        "pyarrow.parquet",
        "tests.consistency.clients",
        "tests.hosts.working",
        "tests.training_sets",
        "tests.unit.compute.conftest",
    ]
)
