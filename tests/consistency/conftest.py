"""Servers of a test's own, a project on them, and another process to pass tokens to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from tests.consistency.clients import Get, make_project, open_store, reading
from tests.processes import PROCESSES
from tests.servers.redis import RedisReplicas


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Callable[..., Any]]:
    """Calls a function in another process."""
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as pool:
        yield lambda work, *args: pool.submit(work, *args).result(60)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RedisReplicas]:
    """A primary with two replicas, which a test may break."""
    with RedisReplicas(tmp_path / "redis") as nodes:
        yield nodes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder."""
    return make_project(tmp_path / "project")


@pytest.fixture
def url(nodes: RedisReplicas) -> str:
    """The nodes', with less patience than is usual."""
    return f"{nodes.url}&timeout=1s"


@pytest.fixture
def store(project: Path, url: str) -> Iterator[hw.FeatureStore]:
    """The project's store on the nodes."""
    with open_store(project, url) as store:
        yield store


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest, project: Path, url: str) -> Iterator[Get]:
    """Reads a score by a level and a session, on a client of its own."""
    with reading(project, url, request.param) as read:
        yield read
