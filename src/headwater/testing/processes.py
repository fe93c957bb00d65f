"""Processes of the suites, forked by a server that has imported what they need: that takes a second of CPU."""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["headwater.testing.log_suite", "headwater.testing.shared_registry_suite", "headwater.testing.shared_suite"]
)
