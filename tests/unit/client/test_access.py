"""What an API key does not allow raises one error through either client, with the server's words."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import headwater as hw
from headwater.serving.access import KeyRing
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from tests.servers.threaded_server import ThreadedServer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEWS = [
    hw.FeatureView(name, entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64)])
    for name in ("events", "orders")
]
CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "read": ("read", lambda client: client.get_online_features(["events:n"], [7])),
    "prepare": ("read", lambda client: client.prepare(["events:n"])),
    "write": ("write", lambda client: client.write("events", [{"user": 7, "at": NOON, "n": 1}])),
    "delete": ("write", lambda client: client.delete("events", [7])),
}


@dataclass
class Guarded:
    """A server that requires keys."""

    url: str
    store: hw.FeatureStore
    ring: KeyRing
    times: list[datetime] = field(default_factory=lambda: [NOON])

    def key(self, name: str, *scopes: str, **options: Any) -> str:
        made, _ = self.store.registry.api_keys.create(name, scopes, **options)
        asyncio.run(self.ring.read())
        return made

    def revoke(self, name: str) -> None:
        self.store.registry.api_keys.revoke(name)
        asyncio.run(self.ring.read())


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    times = [NOON]
    store = hw.FeatureStore.in_memory(VIEWS, clock=lambda: times[0])
    ring = KeyRing(store.registry.api_keys.all, lambda: times[0])
    asyncio.run(ring.read())
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings(deadline=30), keys=ring)
    with store, ThreadedServer(app) as server:
        yield Guarded(server.url, store, ring, times)


def asked(kind: str, form: str, url: str, key: str | None, call: Callable[[Any], Any]) -> Any:
    """What a call gives, through a client of its own."""
    if kind == "client":
        with hw.Client(url, api_key=key, form=form, timeout="60s") as client:
            return call(client)

    async def main() -> Any:
        async with hw.AsyncClient(url, api_key=key, form=form, timeout="60s") as client:
            found = call(client)
            return await found if inspect.isawaitable(found) else found

    return asyncio.run(main())


@pytest.fixture(params=["arrow", "json"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_a_key_that_is_not_valid(guarded: Guarded, kind: str, form: str) -> None:
    expired = guarded.key("expired", "admin", expires_at=NOON + timedelta(minutes=1))
    revoked = guarded.key("revoked", "admin")
    for call in (call for _, call in CALLS.values()):
        asked(kind, form, guarded.url, expired, call)
        asked(kind, form, guarded.url, revoked, call)
    guarded.revoke("revoked")
    guarded.times[0] = NOON + timedelta(minutes=1)
    unknown = f"hw_{'0' * 12}_{'a' * 43}"
    for name, (_, call) in CALLS.items():
        for key in (expired, revoked, unknown, None):
            with pytest.raises(hw.AccessDenied) as denied:
                asked(kind, form, guarded.url, key, call)
            assert not denied.value.authenticated, name
            words = "needs an API key" if key is None else "is not known, has expired or was revoked"
            assert words in str(denied.value), name


@pytest.mark.parametrize("kind", ["client", "async client"])
def test_a_key_that_does_not_allow_the_call(guarded: Guarded, kind: str, form: str) -> None:
    keys = {
        "read": guarded.key("read", "read"),
        "write": guarded.key("write", "write"),
        "others": guarded.key("others", "read", "write", views=["orders"]),
    }
    said = set()
    for name, (scope, call) in CALLS.items():
        asked(kind, form, guarded.url, keys[scope], call)
        for key in keys.keys() - {scope}:
            with pytest.raises(hw.AccessDenied) as denied:
                asked(kind, form, guarded.url, keys[key], call)
            assert denied.value.authenticated, (name, key)
            said.add(str(denied.value))
    assert len(said) == 1 and "does not allow this request" in said.pop()
