"""S3 of a test: moto's server, a process of its own on a free port of 127.0.0.1."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.servers.closing import Closing
from tests.servers.keeper import keep

REGION = "us-east-1"


class S3Server(Closing):
    """moto's S3; started at once, ended by `close()` or `with`."""

    def __init__(self, folder: Path) -> None:
        with (folder / "told").open("wb") as told:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("moto_s3.py"))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
            )
            keep(self._process)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"moto does not start:\n{(folder / 'told').read_text()[-2000:]}"
        self.port = int(line)
        self._numbers = itertools.count(1)

    @cached_property
    def client(self) -> Any:
        """The vendor's client."""
        endpoint = f"http://127.0.0.1:{self.port}"
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        return boto3.client("s3", region_name=REGION, endpoint_url=endpoint, **keys)

    def make_bucket(self) -> str:
        """A new, empty bucket; its name."""
        name = f"bucket-{next(self._numbers)}"
        self.client.create_bucket(Bucket=name)
        return name

    def url(self, key: str) -> str:
        """The URL of a bucket, folder, glob or file, with what says where the server is."""
        return f"s3://{key}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region={REGION}"

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="session")
def _s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_server(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 that the tests of a session share, each with buckets of its own; the environment has its credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return _s3_server
