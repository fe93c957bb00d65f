"""What of the engine on Spark needs no Spark: its errors, its settings, and columns on their way there and back."""

import re
import threading

import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import StoreError
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.engines.spark.errors import translated
from headwater.offline.engines.spark.sessions import _probe
from headwater.offline.engines.spark.surroundings import (
    remote_of_environment,
    runs_own_python,
    says_which_spark,
    started_local,
)
from headwater.offline.engines.spark.types import given_back, kept, kept_type
from headwater.offline.join.workspace import StatementError


def test_a_lost_driver_and_a_full_disk_are_named():
    lost = translated(RuntimeError("[Errno 111] Connection refused"))
    assert isinstance(lost, hw.Unavailable) and "open the store again" in str(lost)
    full = translated(RuntimeError("java.io.IOException: No space left on device"))
    assert isinstance(full, hw.errors.StorageFull) and "spark.local.dir" in str(full)


def test_a_server_that_does_not_answer_holds_up_nobody_else_while_the_engine_closes(tmp_path):
    engine, asked, answers = SparkEngine(tmp_path), threading.Event(), threading.Event()

    class Session:
        """Of a server that is gone."""

        spark = property(lambda self: self)
        catalog = property(lambda self: self)

        def dropTempView(self, name: str) -> None:
            asked.set()
            answers.wait(60)

        def close(self) -> None:
            pass

    engine.connection._session = Session()
    engine.connection.views.use("a view")
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert asked.wait(60)
    with pytest.raises(hw.Unavailable, match="was closed"):
        engine.connection.session()
    answers.set()
    closing.join(60)
    assert not closing.is_alive()


REFUSED = [
    (
        "MetaException(message:Could not connect to meta store using any of the URIs provided. Most recent failure: "
        "org.apache.thrift.transport.TTransportException: java.net.ConnectException: Connection refused)",
        "the metastore",
    ),
    (
        "java.net.ConnectException: Call From me/10.0.0.1 to namenode:8020 failed on connection exception: "
        "java.net.ConnectException: Connection refused; For more details see",
        "namenode:8020",
    ),
    (
        "software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: Connect to "
        "minio:9000 [minio/10.0.0.2] failed: Connection refused",
        "minio:9000",
    ),
    (
        "Generic S3 error: Error after 10 retries: error sending request for url (http://u:p@127.0.0.1:9000/bucket/x): "
        "Connection refused (os error 111)",
        "127.0.0.1:9000",
    ),
    ("org.postgresql.util.PSQLException: Connection to db:5432 refused. Check that", "db:5432"),
    ("io.HttpHostConnectException: something: Connection refused", "a server that it reads from"),
]


@pytest.mark.parametrize(("text", "who"), REFUSED)
def test_who_refuses_spark_is_named_and_spark_is_not_taken_for_lost(text, who):
    found = translated(RuntimeError(text))
    assert type(found) is hw.errors.StoreError
    assert str(found).startswith(f"spark: {who}") and "does not reach it" in str(found)
    assert "open the store again" not in str(found)


LOST = [
    "[Errno 111] Connection refused",
    "An error occurred while trying to connect to the Java server (127.0.0.1:25333)",
    '<RPC\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = "failed to connect to all addresses; last error: UNKNOWN: '
    'ipv4:127.0.0.1:9: Failed to connect to remote host: connect: Connection refused (111)"\n>',
    "io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: worker/10.0.0.3:7078",
]


@pytest.mark.parametrize("text", LOST)
def test_a_driver_that_refuses_is_lost(text):
    found = translated(RuntimeError(text))
    assert type(found) is hw.Unavailable and "open the store again" in str(found)


CAUSES = [
    ("[TABLE_OR_VIEW_NOT_FOUND] The table or view `db`.`ride` cannot be found. Verify", StatementError, "'db.ride'"),
    ("Table not found: [TABLE_OR_VIEW_NOT_FOUND] Table or view not found: ride", StatementError, "no table 'ride'"),
    ("[TABLE_OR_VIEW_NOT_FOUND] The table or view `delta`.`s3://b/x` cannot be found", StatementError, "as delta"),
    ("[CAST_INVALID_INPUT] The value 'x'\n== SQL (line 1)\n...ST(`km`", StatementError, "The value 'x'$"),
    ("Invalid argument error: Encountered non UTF-8 data: at 0", StatementError, "take the column as Bytes"),
    ("java.nio.file.AccessDeniedException: /scratch: Permission denied", hw.errors.StoreError, "scratch"),
    ("ExecutorLostFailure (executor 1 exited)", hw.errors.StoreError, "spark.executor.memory"),
    (
        '<RPC:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = "refused"\n\tdebug = "x"\n>',
        hw.Unavailable,
        r"gone \(refused\); open",
    ),
    (
        'An exception was thrown\nTraceback (most recent call last):\n  File "x.py"\nValueError: 7\n SQLSTATE: 38000',
        hw.errors.StoreError,
        "spark: ValueError: 7$",
    ),
    (
        "An error occurred while calling o8.collectToPython.\n: org.apache.spark.SparkException: [ODD] x\n\tat org.a.B",
        hw.errors.StoreError,
        r"spark: \[ODD\] x$",
    ),
]


@pytest.mark.parametrize(("text", "kind", "told"), CAUSES)
def test_each_cause_has_its_error(text, kind, told):
    found = translated(RuntimeError(text))
    assert type(found) is kind and re.search(told, str(found))


def test_the_master_of_a_cluster_that_does_not_answer_is_told_at_once():
    with pytest.raises(hw.Unavailable, match="make sure that it is running"):
        _probe("spark://127.0.0.1:9,127.0.0.1:x")
    _probe("local[2]")


@pytest.mark.parametrize("kind", [hw.errors.StorageFull, hw.Unavailable, hw.errors.DataError])
def test_what_headwater_raised_in_a_worker_is_raised_here(kind):
    """It says whose fault it is: the online store's connection that is refused is not Spark's."""
    lines = (
        "An exception was thrown from the Python worker. Please see the stack trace below.",
        "Traceback (most recent call last):",
        "redis.exceptions.ConnectionError: Connection refused",
        "During handling of the above exception, another exception occurred:",
        f"headwater.errors.{kind.__name__}: the online store redis://there: Connection refused",
        "",
        "\tat org.apache.spark.api.python.BasePythonRunner",
    )
    found = translated(RuntimeError("\n".join(lines)))
    assert type(found) is kind
    assert str(found) == "the online store redis://there: Connection refused (in a worker of Spark)"


def test_one_of_session_master_and_remote_is_taken(tmp_path):
    for options in ({"session": object(), "master": "local"}, {"master": "local", "remote": "sc://localhost"}):
        with pytest.raises(hw.errors.ConfigError, match="one of"):
            SparkEngine(tmp_path, **options)
    with pytest.raises(hw.errors.ConfigError, match="sc://"):
        SparkEngine(tmp_path, remote="localhost:15002").session()


def test_embeddings_of_which_all_are_null_come_back():
    """Arrow's own cast reads beyond the elements of such a list."""
    kind = pa.list_(pa.float32(), 3)
    for values in ([None, None], [], [[1.0, 2.0, 3.0], None], [None, [1.0, 2.0, 3.0]]):
        given = pa.array(values, kind)
        there = kept(given, kept_type(kind))
        assert there.to_pylist() == values
        assert given_back(there, kind).equals(given)


def test_a_local_spark_is_reached_from_this_machine_alone_and_the_environment_goes_first(monkeypatch):
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "SPARK_HOME", "SPARK_CONF_DIR", "MASTER"):
        monkeypatch.delenv(name, raising=False)
    settings = started_local("local[2]")
    assert settings["spark.driver.bindAddress"] == "127.0.0.1" and settings["spark.ui.enabled"] == "false"
    assert int(settings["spark.driver.memory"].removesuffix("m")) >= 1024
    assert started_local("yarn") == started_local(None) == {}
    monkeypatch.setenv("SPARK_HOME", "/opt/spark")
    assert says_which_spark() and "spark.driver.memory" not in started_local("local[2]")
    monkeypatch.setenv("SPARK_REMOTE", "sc://127.0.0.1:1")
    assert remote_of_environment() == "sc://127.0.0.1:1"
    monkeypatch.setenv("SPARK_REMOTE", "local")
    assert remote_of_environment() is None


def test_workers_of_a_local_spark_run_the_python_that_started_it_unless_another_is_named(monkeypatch):
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    assert runs_own_python("local[2]") and not runs_own_python("yarn")
    monkeypatch.setenv("PYSPARK_PYTHON", "/usr/bin/python3")
    assert not runs_own_python("local[2]")


@pytest.mark.parametrize("module", ["headwater", "numpy", "pyarrow", "msgspec", "headwater.compute"])
def test_workers_that_lack_headwater_say_what_to_do(module):
    name = module.partition(".")[0]
    text = f"Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named '{module}'\n"
    found = translated(RuntimeError(text))
    assert type(found) is StoreError
    assert f"no module '{name}'" in str(found) and "PYSPARK_PYTHON" in str(found)
    # of a user's own function in Spark
    assert "PYSPARK_PYTHON" not in str(translated(RuntimeError("ModuleNotFoundError: No module named 'mine'")))
