"""Spark for tests: its own local mode, or Sail, a server of Spark's protocol that starts in a second.

Each is in an environment of its own, since pyspark and pyspark-client have the same modules; the one that is installed
is the one that tests get.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from headwater.testing import SCALE
from tests.servers.closing import Closing
from tests.servers.keeper import keep
from tests.spark_files import KIND

SAIL = KIND == "sail"
BRIEF = not SAIL and SCALE == 1
"""Whether what takes the same road on Sail is left to it: a statement costs Spark a quarter of a second."""

_JAVA = (
    "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -XX:+UnlockDiagnosticVMOptions "
    "-XX:-BytecodeVerificationRemote -XX:ReservedCodeCacheSize=256m -XX:-UseCodeCacheFlushing "
    "-XX:MetaspaceSize=256m -Xms1g -Xmn400m -Djava.net.preferIPv4Stack=true"
)
"""The first compiler, whose code is kept (where there is room for 48 MB, it is thrown away and compiled again), the
simplest collector with room from the start, and classes unverified: a session of minutes has no time to earn more."""
_SETTINGS = {
    "spark.master": "local[2]",
    "spark.app.name": "tests of headwater",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""What makes many small statements cheap; none of it changes an answer."""
_HADOOP = {"mapreduce.fileoutputcommitter.algorithm.version": "1"}
"""What Spark says of Hadoop."""


def left_to_sail(test: Any) -> Any:
    """Decorates a test that takes the same road on Sail, and runs there alone, but for `make test-deep`."""
    return None if BRIEF else test


def local_session(folder: Path, zone: str | None = None, **settings: str) -> Any:
    """Spark's own local mode, in a JVM that ends with this process.

    Args:
        folder: for its files: a warehouse and what it spills.
        zone: of the JVM; None: the host's.
        settings: of the session, a double underscore for each point: `spark__sql__ansi__enabled="false"`.
    """
    from pyspark.sql import SparkSession

    java = _JAVA + ("" if zone is None else f" -Duser.timezone={zone}") + f" -Dderby.system.home={folder}"
    os.environ["PYSPARK_SUBMIT_ARGS"] = f'--driver-memory 1g --driver-java-options "{java}" pyspark-shell'
    os.environ.update(SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
    builder = SparkSession.builder
    own = {"spark.local.dir": str(folder / "local"), "spark.sql.warehouse.dir": str(folder / "warehouse")}
    for name, value in {**_SETTINGS, **own, **{k.replace("__", "."): v for k, v in settings.items()}}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    _without_defaults(session)
    return session


def _without_defaults(session: Any) -> None:
    """Empty Hadoop's configuration of its 1,100 defaults, which its code has too.

    Each statement copies it a few times, and each task reads it.
    """
    jvm, hadoop = session._jvm, session.sparkContext._jsc.hadoopConfiguration()
    # whoever is first to use these adds their defaults to every configuration that there is
    jvm.org.apache.hadoop.mapreduce.util.ConfigUtil.loadResources()
    jvm.org.apache.hadoop.hdfs.HdfsConfiguration.init()
    hadoop.clear()
    for name, value in _HADOOP.items():
        hadoop.set(name, value)


class SailServer(Closing):
    """Sail in a process of its own, on a free port of 127.0.0.1.

    Args:
        zone: of the process; None: the host's.
    """

    def __init__(self, zone: str | None = None) -> None:
        # by its statistics Sail takes a column of one number and NaN for one of that number alone
        own = {"RUST_LOG": "error", "SAIL_EXECUTION__COLLECT_STATISTICS": "false"}
        environment = {**os.environ, **own} | ({} if zone is None else {"TZ": zone})
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("sail_process.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        keep(self._process)
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, "Sail did not start"
        self.url = f"sc://127.0.0.1:{int(port)}"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def sail_server() -> Iterator[SailServer]:
    """The one server of the process."""
    with SailServer() as server:
        yield server


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session of the user's, the same for all tests of the process, which leave it as it is."""
    if not SAIL:
        session = local_session(tmp_path_factory.mktemp("spark"))
        yield session
        session.stop()
        return
    # PySpark takes a main module without a file, as workers of pytest-xdist have it, for one of its own tests
    sys.modules["__main__"].__dict__.setdefault("__file__", __file__)
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession(connection=request.getfixturevalue("sail_server").url)
    try:
        yield session
    finally:
        session.client.close()


@pytest.fixture(scope="session")
def sail_in_zone() -> Iterator[Callable[[str], SailServer]]:
    """The one server of the process that is in a time zone."""
    with ExitStack() as stack:
        yield cache(lambda zone: stack.enter_context(SailServer(zone)))


@contextmanager
def session_in(zone: str, spark: Any, sail_in_zone: Callable[[str], SailServer]) -> Iterator[Any]:
    """A session of another user's, who is in a time zone, as its Spark is: its JVM, or its server.

    Args:
        zone: the zone.
        spark: the session of the tests.
        sail_in_zone: servers by their zones, on Sail.
    """
    if SAIL:
        from pyspark.sql.connect.session import SparkSession

        session = SparkSession(connection=sail_in_zone(zone).url)
        try:
            session.conf.set("spark.sql.session.timeZone", zone)
            yield session
        finally:
            # one that is open when its server ends keeps the process for ten minutes: PySpark tries to clean up there
            session.client.close()
        return
    zones = spark._jvm.java.util.TimeZone
    before = zones.getDefault()
    zones.setDefault(zones.getTimeZone(zone))
    try:
        session = spark.newSession()
        session.conf.set("spark.sql.session.timeZone", zone)
        yield session
    finally:
        zones.setDefault(before)
