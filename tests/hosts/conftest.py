"""Several hosts: own working folders, one registry on PostgreSQL, one log folder, one online store on Redis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import headwater as hw

HOST = """project = "hosts"
[registry]
url = "{registry}"
[online]
url = "{online}"
[offline]
log = "{log}"
"""

USER = hw.Entity("user", join_keys={"user": hw.Int64})
MakeHost = Callable[..., Path]


def clicks(name: str = "clicks") -> hw.FeatureView:
    """Rows that are only ever written; `id` tells each apart."""
    features = [hw.Feature("id", hw.Int64), hw.Feature("amount", hw.Float64)]
    return hw.FeatureView(name, entity=USER, source=hw.PushSource(event_time="at"), features=features)


@pytest.fixture
def make_host(tmp_path: Path, postgres_url: str, redis_server) -> MakeHost:
    """Makes a host's working folder; `log` and `registry` where it is to differ from the others."""
    redis_server.client.flushall()

    def make(name: str, log: Path | None = None, registry: str = postgres_url) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        text = HOST.format(registry=registry, online=redis_server.url, log=log or tmp_path / "log")
        (folder / "headwater.toml").write_text(text)
        return folder

    return make
