"""What a process's environment says of Spark, and how a local one is started that nobody has configured."""

from __future__ import annotations

import os

_GIVEN = ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "SPARK_HOME", "SPARK_CONF_DIR", "MASTER")
_HEAP_SHARE, _LEAST_HEAP_MB = 4, 1024


def remote_of_environment() -> str | None:
    """The Spark Connect server that `SPARK_REMOTE` names; None: none."""
    remote = os.environ.get("SPARK_REMOTE", "")
    return remote if remote.startswith("sc://") else None


def says_which_spark() -> bool:
    """Whether spark-submit, or a configured Spark, has been given for this process."""
    return any(os.environ.get(name) for name in _GIVEN)


def runs_own_python(master: str) -> bool:
    """Whether workers of a Spark that is started here run this process's Python: local ones, unless others are named.

    Args:
        master: its master.
    """
    return master.startswith("local") and not os.environ.get("PYSPARK_PYTHON")


def started_local(master: str | None) -> dict[str, str]:
    """Settings of a Spark that is started in this process; those of the user come after them.

    Args:
        master: its master; None: what the environment says.

    Returns:
        For a local one: servers on this machine's own address alone, no web page, no progress bar, only errors in
        its log; unless the environment configures Spark also a heap of a quarter of the machine's memory (Spark's
        own default is 1 GB), of huge pages.
    """
    if master is None or not master.startswith("local"):
        return {}
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    if says_which_spark():
        return settings
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    # sorts of many rows wait for memory more than for the processor
    return settings | {
        "spark.driver.memory": f"{max(_LEAST_HEAP_MB, memory // _HEAP_SHARE)}m",
        "spark.driver.extraJavaOptions": "-XX:+UseTransparentHugePages",
    }
