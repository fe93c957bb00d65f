"""Redis over TLS, with a user and a password: a real server with a certificate of its own authority."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import headwater as hw
from headwater.clock import system_clock
from headwater.errors import HeadwaterError
from headwater.online.stores.redis.store import RedisOnlineStore
from tests.servers.certificates import certificate
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer

PASSWORD = "se/cr:et"
QUOTED = "se%2Fcr%3Aet"


@dataclass(frozen=True)
class Secure:
    """Where the server is, and the certificates' folder."""

    port: int
    folder: Path
    server: RedisServer

    def url(self, options: str = "ca={folder}/authority.pem", user: str = f"app:{QUOTED}@") -> str:
        return f"rediss://{user}127.0.0.1:{self.port}/0?timeout=5s&{options.format(folder=self.folder)}"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    authority = certificate(folder, "authority")
    certificate(folder, "server", authority)
    certificate(folder, "client", authority)
    certificate(folder, "stranger")
    port = free_port()
    options = {
        "tls_port": str(port),
        "tls_cert_file": f"{folder}/server.pem",
        "tls_key_file": f"{folder}/server.key",
        "tls_ca_cert_file": f"{folder}/authority.pem",
        "tls_auth_clients": "optional",
        "user": f"app on >{PASSWORD} ~* &* +@all",
    }
    with RedisServer(folder / "server", **options) as server:
        yield Secure(port, folder, server)


@pytest.mark.parametrize(
    "options",
    [
        "ca={folder}/authority.pem",
        "verify=false",
        "ca={folder}/authority.pem&cert={folder}/client.pem&key={folder}/client.key",
    ],
)
def test_rows_are_written_and_read_over_tls(secure: Secure, tmp_path: Path, options: str) -> None:
    secure.server.client.flushall()
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    view = hw.FeatureView(
        "v", entity=user, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Float64)]
    )
    with hw.FeatureStore(tmp_path, online=secure.url(options)) as store:
        store.apply([view])
        assert store.write("v", [{"user": 1, "at": system_clock(), "x": 1.5}]).applied == 1
        assert store.get_online_features(["v:x"], [1]).to_dict() == {"user": [1], "x": [1.5]}
        assert PASSWORD not in repr(store.status()) and QUOTED not in str(store.status().online)

    async def read() -> dict[str, list[object]]:
        async with hw.AsyncFeatureStore(tmp_path, online=secure.url(options)) as reading:
            return (await reading.get_online_features(["v:x"], [1])).to_dict()

    assert asyncio.run(read()) == {"user": [1], "x": [1.5]}


@pytest.mark.parametrize(
    ("options", "user"),
    [
        ("ca={folder}/stranger.pem", f"app:{QUOTED}@"),
        ("ca={folder}/nowhere.pem", f"app:{QUOTED}@"),
        ("", f"app:{QUOTED}@"),
        ("ca={folder}/authority.pem", "app:wrong@"),
    ],
    ids=["another authority", "no such file", "an authority that the system does not know", "a wrong password"],
)
def test_what_does_not_fit_is_an_error_that_keeps_the_password(secure: Secure, options: str, user: str) -> None:
    with pytest.raises(HeadwaterError) as told, closing(RedisOnlineStore(secure.url(options, user))) as store:
        store.multi_get([b"k" * 21])
    assert str(secure.port) in str(told.value) or "nowhere.pem" in str(told.value)
    for secret in (PASSWORD, QUOTED, "wrong@"):
        assert secret not in str(told.value)
