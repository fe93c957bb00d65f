"""DynamoDB of a test: moto's server, a process of its own on a free port of 127.0.0.1."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.servers.closing import Closing
from tests.servers.keeper import keep

REGION = "eu-west-1"


class DynamoDBServer(Closing):
    """moto's DynamoDB; started at once, ended by `close()` or `with`.

    It takes about a hundred guarded writes a second: keep tables small.
    """

    def __init__(self, folder: Path) -> None:
        assert importlib.util.find_spec("moto"), "these tests start moto: pip install 'moto[dynamodb,server]'"
        self._numbers = itertools.count(1)
        with (folder / "told").open("wb") as told:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("moto_process.py"))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
            )
            keep(self._process)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"moto does not start:\n{(folder / 'told').read_text()[-2000:]}"
        self.port = int(line)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, table: str | None = None, **options: Any) -> str:
        """The URL of a store with a table of its own."""
        named = {"endpoint": self.endpoint, "table": table or f"table-{next(self._numbers)}", **options}
        return f"dynamodb://{REGION}?" + "&".join(f"{name}={value}" for name, value in named.items())

    @cached_property
    def client(self) -> Any:
        """The vendor's client."""
        return boto3.client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    def fail(self, operation: str, kind: str, times: int = 1, seconds: float = 0.0) -> None:
        """Let the next requests of an operation fail.

        Args:
            operation: such as `BatchGetItem`.
            kind: `throttle`, `internal`, `lost` (done, and answered as if not), `denied`, `half` (of a batch is done),
                `late`, or `none`: all goes well again.
            times: how many of them.
            seconds: how late.
        """
        order = {"operation": operation, "kind": kind, "times": times, "seconds": seconds}
        urllib.request.urlopen(f"{self.endpoint}/faults", json.dumps(order).encode(), timeout=10).close()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="session")
def dynamodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBServer]:
    """A DynamoDB that the tests of a session share, each with a table of its own."""
    with DynamoDBServer(tmp_path_factory.mktemp("dynamodb")) as server:
        yield server
