"""An application over a store of its own, asked without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

import headwater as hw
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
ROUTE = hw.Entity("route", join_keys={"origin": hw.String, "dest": hw.String})
EVENTS = hw.FeatureView(
    "events",
    entity=USER,
    source=hw.PushSource(event_time="at"),
    features=[
        hw.Feature("n", hw.Int64),
        hw.Feature("x", hw.Float64, default=0.5),
        hw.Feature("name", hw.String),
        hw.Feature("raw", hw.Bytes),
        hw.Feature("day", hw.Date),
        hw.Feature("seen", hw.Timestamp),
        hw.Feature("tags", hw.Array(hw.Int64)),
    ],
    freshness_sla="1h",
    description="what users did",
)
DELAYS = hw.FeatureView(
    "delays", entity=ROUTE, source=hw.PushSource(event_time="at"), features=[hw.Feature("late", hw.Float32)]
)
ROW = {
    "user": 7,
    "at": "2026-01-01T11:00:00Z",
    "n": str(2**60),
    "x": "NaN",
    "name": "ä",
    "raw": "AP8=",
    "day": "2026-01-01",
    "seen": "2026-01-01T10:00:00.000001Z",
    "tags": [1, None, str(2**53 + 1)],
}


@dataclass
class Reply:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Caller:
    """Calls an application as a server does."""

    app: App
    runner: asyncio.Runner
    headers: dict[str, str] = field(default_factory=dict)
    client: tuple[str, int] = ("127.0.0.1", 1)

    def __call__(
        self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None, query: str = ""
    ) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json"} | self.headers | dict(headers or {})
        return self.runner.run(self.call(method, path, [data], given, query))

    async def call(
        self, method: str, path: str, parts: list[bytes], headers: Mapping[str, str], query: str = ""
    ) -> Reply:
        messages = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)
        ]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await asyncio.sleep(3_600)
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "client": self.client,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
        await self.app(scope, receive, send)
        start, last = sent
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(names["content-length"]) == len(last["body"]) or method == "HEAD"
        return Reply(start["status"], names, last["body"])

    def bound(self, **bounds: Any) -> None:
        """Have an application with other bounds answer from now on."""
        self.app = App(self.app.store, replace(self.app.requests.settings, **bounds))

    def read(self, **body: Any) -> Reply:
        return self("POST", "/v1/features:read", body)


@contextmanager
def caller_of(definitions: list[Any]) -> Iterator[Caller]:
    """An application over a store of these definitions."""
    store = hw.AsyncFeatureStore.in_memory(definitions, clock=lambda: NOON)
    with asyncio.Runner() as runner:
        yield Caller(App(store, ServerSettings()), runner)
        runner.run(store.close())


@pytest.fixture
def call() -> Iterator[Caller]:
    model = hw.FeatureService("model", [EVENTS["n"], DELAYS["late"]])
    with caller_of([EVENTS, DELAYS, model]) as made:
        yield made
