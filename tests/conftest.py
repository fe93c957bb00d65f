"""A test that is skipped fails: what is not run is not known to work. One that does not end is ended.

pytest-timeout raises an error in the main thread, once. Where that thread waits in C code, where the error is caught,
or where what cleans up behind the test waits for the same thing, the run would stand still all the same. So beside it a
watch that needs no thread of Python's tells where all threads are, and ends the process.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

from headwater.testing import SCALE, rounds
from tests.matrices import left_out
from tests.spark_files import KIND, is_of_spark, spark_files

pytest_plugins = [
    "tests.duckdb_instances",
    "tests.made_databases",
    "tests.servers.dynamodb",
    "tests.servers.postgres",
    "tests.servers.redis",
    "tests.servers.s3",
    "tests.servers.spark",
]

_GRACE = 120.0
"""Seconds beyond pytest-timeout's own for a test to end, and for the process once all tests have."""
_LONGEST = 3600.0
"""Seconds for a test where pytest-timeout is not told how long it may take."""
_stderr: list[int] = []
"""Where the watch tells: stderr as it was before pytest captured it."""
_MEMORY, _ROOM = "/dev/shm", 4 << 30
"""A file system in memory, and how many bytes of it have to be free for the tests' files to be there."""


def pytest_configure() -> None:
    _make_files_in_memory()
    _stderr.append(os.dup(2))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as in `make test &`: tests of Ctrl-C, and the processes that they start, need it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # a loaded machine is no fault; of a property that does not say how many, 100 rounds are the usual
    settings.register_profile("ours", deadline=None, max_examples=rounds(100) if SCALE == 1 else 100)
    settings.load_profile("ours")


def _make_files_in_memory() -> None:
    """A commit waits for the disk for milliseconds, a test makes dozens, and none needs what survives a power cut."""
    with suppress(OSError):
        if "TMPDIR" not in os.environ and shutil.disk_usage(_MEMORY).free >= _ROOM:
            # of the processes that tests start too
            os.environ["TMPDIR"] = _MEMORY
            tempfile.tempdir = None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if KIND is None and is_of_spark(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases of tests that are marked `one_in(n)`; a longer search has them all."""
    if SCALE == 1:
        out = left_out(items)
        if out:
            config.hook.pytest_deselected(items=[item for item in items if item in out])
            items[:] = [item for item in items if item not in out]


# to look again and again at what is imported and collected, which stays to the end, takes a quarter longer
gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    # some seven thousand tests and all modules are there to the end: to look at them again and again costs a tenth
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure() -> None:
    # threads, processes and exit handlers that tests left are waited for without a bound
    faulthandler.dump_traceback_later(_GRACE, file=_stderr[0], exit=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    seconds = float(item.config.getoption("timeout", None) or 0) or _LONGEST
    tries = 1 + int(item.config.getoption("reruns", None) or 0)
    faulthandler.dump_traceback_later(tries * seconds + _GRACE, file=_stderr[0], exit=True)
    mine = os.getpid()
    try:
        return (yield)
    finally:
        # a forked child that came here would wait for the watch, which is its parent's
        if os.getpid() == mine:
            faulthandler.cancel_dump_traceback_later()


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skips are failures here: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which files were left out, and of each test that failed and was run again as of one that failed.

    That is a fault that shows seldom.
    """
    asked = [Path(argument.partition("::")[0]) for argument in terminalreporter.config.args]
    for path in spark_files(asked) if KIND is None else ():
        terminalreporter.write_line(f"not run here, but by make test-sail and make test-spark: {path}")
    failed = {report.nodeid for report in terminalreporter.getreports("failed")}
    for report in terminalreporter.getreports("rerun"):
        if report.nodeid in failed:
            continue
        terminalreporter.section(f"failed at first: {report.nodeid}", "!", red=True, bold=True)
        terminalreporter.write_line(str(report.longrepr))
