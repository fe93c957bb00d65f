"""How a store stands, over HTTP: what the command says, and whether reads can be answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import headwater as hw
from headwater.cli.application import app as command
from headwater.compute.status import StoreStatus
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from headwater.wire.status import status_document, status_in
from tests.unit.serving.conftest import DELAYS, EVENTS, ROW, Caller


def test_status_is_what_the_command_says(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text('project = "p"\n')
    with hw.FeatureStore(tmp_path) as store:
        store.apply([EVENTS, DELAYS])
        store.materialize()
    at = "2027-01-01T12:00:00.25Z"
    said = CliRunner().invoke(command, ["status", "--json", "--now", at, "--project", str(tmp_path)])
    shown = json.loads(said.stdout)
    async_store = hw.AsyncFeatureStore(tmp_path)
    with asyncio.Runner() as runner:
        caller = Caller(App(async_store, ServerSettings()), runner)
        served = caller("GET", "/v1/status", query=f"now={at}").json
        runner.run(async_store.close())
    own = ("reads", "log", "online", "registry")
    assert {name: value for name, value in served.items() if name not in own} == {
        name: value for name, value in shown.items() if name not in own
    }
    assert served["now"] == "2027-01-01T12:00:00.250000Z"
    assert served["versions"][0]["freshness_sla"] == 3600.0 or served["versions"][1]["freshness_sla"] == 3600.0


def test_a_status_is_the_same_on_the_other_side(call: Caller) -> None:
    call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]})
    call.app.store.sync.materialize()
    status = call.app.store.sync.status()
    assert any(version.behind is not None for version in status.versions)
    again = status_in(json.dumps(status_document(status)).encode())
    assert isinstance(again, StoreStatus) and again.versions == status.versions and again.refresh == status.refresh
    assert (again.now, again.reads, again.services) == (status.now, status.reads, status.services)


@pytest.mark.parametrize("warm", [False, True])
def test_a_server_whose_registry_is_gone_is_ready_while_reads_are_answered(tmp_path: Path, warm: bool) -> None:
    with hw.FeatureStore(tmp_path) as store:
        store.apply([EVENTS])
    async_store = hw.AsyncFeatureStore(tmp_path)
    registry = tmp_path / ".headwater/registry.db"
    with asyncio.Runner() as runner:
        call = Caller(App(async_store, ServerSettings()), runner)

        def statuses() -> tuple[int, int]:
            return call.read(features=["events:n"], entities=[7]).status, call("GET", "/readyz").status

        # the online store's owner is known from here on, the registry is read by the first read
        runner.run(async_store.ping())
        if warm:
            assert statuses() == (200, 200)
        registry.rename(tmp_path / "away.db")
        assert statuses() == ((200, 200) if warm else (503, 503))
        assert call("GET", "/healthz").status == 200
        (tmp_path / "away.db").rename(registry)
        assert statuses() == (200, 200)
        runner.run(async_store.close())
