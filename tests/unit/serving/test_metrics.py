"""What `/metrics` says is what was asked and answered, in both formats, over all workers of a server."""

import asyncio
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import headwater as hw
from headwater.online.connections import ConnectionCounts
from headwater.online.fetching.fetcher import ReadCounts
from headwater.serving.app import App
from headwater.serving.metrics import FAMILIES, Metrics, merged
from headwater.serving.settings import ServerSettings
from headwater.serving.slots import MOST_VALUES, SLOT_BYTES, Memory, make_memory
from tests.servers.redis import RedisServer
from tests.unit.serving.conftest import EVENTS, NOON, ROW, Caller

DOCS = Path(__file__).parents[3] / "docs" / "http.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(families: Iterable[Any]) -> Samples:
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def scraped(call: Caller) -> Samples:
    reply = call("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return samples(parse_text(reply.body.decode()))


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def test_requests_values_and_refusals_are_counted(call: Caller) -> None:
    assert call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]}).status == 200
    call.read(features=["events:n", "events:x"], entities={"user": [7, 8, 7]})
    call.read(service="model", entities=[{"user": 7, "origin": "a", "dest": "b"}])
    call.read(features=["events:none"], entities={"user": [7]})
    call.read(features=["events:n"], entities={"user": ["x"]})
    call("GET", "/v1/nothing")
    found = scraped(call)
    read = "/v1/features:read"
    assert value(found, "headwater_http_requests_total", route=read, status="2xx") == 2
    assert value(found, "headwater_http_requests_total", route=read, status="4xx") == 2
    assert value(found, "headwater_http_requests_total", route="none", status="4xx") == 1
    assert value(found, "headwater_http_request_duration_seconds_count", route=read) == 4
    assert value(found, "headwater_http_request_duration_seconds_bucket", route=read, le="+Inf") == 4
    assert value(found, "headwater_http_requests_in_flight") == 1
    assert value(found, "headwater_refused_requests_total", reason="FeatureNotFound") == 1
    assert value(found, "headwater_refused_requests_total", reason="RouteNotFound") == 1
    assert value(found, "headwater_batch_size_sum", route=read, service="") == 3
    assert value(found, "headwater_batch_size_bucket", route=read, service="", le="2.0") == 0
    assert value(found, "headwater_batch_size_bucket", route=read, service="", le="5.0") == 1
    assert value(found, "headwater_batch_size_count", route=read, service="model") == 1
    assert value(found, "headwater_batch_size_sum", route="/v1/features:write", service="") == 1
    # n is stale with an SLA of one hour at the very instant: not yet
    assert value(found, "headwater_feature_values_total", view="events", status="PRESENT") == 5
    assert value(found, "headwater_feature_values_total", view="events", status="NOT_FOUND") == 2
    assert value(found, "headwater_feature_values_total", view="delays", status="NOT_FOUND") == 1
    assert value(found, "headwater_status_readable") == 1
    assert value(found, "headwater_workers") == 1
    assert value(found, "headwater_worker_resident_memory_bytes", worker="0") > 1e6


def test_an_alias_is_counted_under_its_view(call: Caller) -> None:
    call.read(features=["delays AS first:late", "delays:late"], entities=[{"origin": "a", "dest": "b"}])
    reply = call("GET", "/metrics")
    assert b"first" not in reply.body


def test_openmetrics_where_it_is_asked_for(call: Caller) -> None:
    call.read(features=["events:n"], entities={"user": [7]})
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    reply = call("GET", "/metrics", headers={"accept": accept})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    found = samples(parse_openmetrics(reply.body.decode()))
    assert value(found, "headwater_http_requests_total", route="/v1/features:read", status="2xx") == 1


def test_how_versions_stand_is_shown(call: Caller) -> None:
    call("POST", "/v1/features:write", {"view": "events", "rows": [ROW], "to": "both"})
    found = scraped(call)
    labels = {"view": "events", "version": "1.0.0", "state": "live"}
    assert value(found, "headwater_newest_event_age_seconds", **labels) == 3_600
    assert value(found, "headwater_fresh", **labels) == 1
    assert value(found, "headwater_log_rows_behind", **labels) == 1
    states = ("pending", "claimed", "cooling_down", "dead")
    assert [value(found, "headwater_refresh_requests", state=state) for state in states] == [0, 0, 0, 0]


def test_a_slot_that_is_taken_over_goes_on_with_its_totals() -> None:
    descriptor = make_memory(3)
    try:
        memory = Memory(descriptor)
        assert memory.slots == 3
        for index in (1, 2, 1):
            worker = Metrics(Memory(descriptor), index)
            worker.began()
            worker.began()
            worker.ended("/docs", 200, 0.002)
            worker.reads(ReadCounts(cache_hits=3))
            worker.reads(ReadCounts(cache_hits=5, breaker_open=True))
            worker.pool(ConnectionCounts(idle=4, in_use=2))
            worker.pool(ConnectionCounts(idle=3, in_use=1))
        found = merged(memory)
        assert found["headwater_http_requests", "/docs", "2xx"] == [3.0]
        assert sum(found["headwater_http_request_duration_seconds", "/docs"][:-1]) == 3
        assert found["headwater_cache_keys", "hit"] == [15.0]
        # of workers that are gone nothing is under way
        assert found["headwater_http_requests_in_flight",] == [2.0]
        assert found["headwater_breaker_open",] == [2.0]
        assert found["headwater_store_connections",] == [6.0, 2.0]
        assert [index for index, process, _, _ in memory.read() if process == os.getpid()] == [1, 2]
    finally:
        os.close(descriptor)


def test_a_slot_without_room_counts_on_and_names_no_more() -> None:
    metrics = Metrics()
    for n in range(MOST_VALUES // 10):
        metrics.batch("/x", f"service {n}", 7)
    whole = merged(metrics.memory)
    assert 1_000 < len(whole) < MOST_VALUES // 10
    assert {tuple(values[2:4]) for name, values in whole.items() if name[0] == "headwater_batch_size"} == {(0.0, 1.0)}
    long = Metrics()
    for n in range(100):
        long.refused("x" * 10_000 + str(n))
    assert len(merged(long.memory)) < SLOT_BYTES // 10_000


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_metric_is_documented_with_its_labels(family: Any) -> None:
    name = family.name + ("_total" if family.kind == "counter" else "")
    rows = [
        line for line in DOCS.read_text().splitlines() if line.startswith("|") and re.search(rf"`{name}[`{{]", line)
    ]
    assert len(rows) == 1
    # several names may share the labels behind them
    assert not family.labels or "{" + ",".join(family.labels) + "}" in rows[0]


def test_connections_to_the_online_store_are_shown(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, asyncio.Runner() as runner:
        store = hw.AsyncFeatureStore(tmp_path, online=server.url, clock=lambda: NOON)
        store.sync.apply([EVENTS])
        call = Caller(App(store, ServerSettings(deadline=30)), runner)
        assert call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]}).status == 200
        assert call.read(features=["events:n"], entities={"user": [7]}).status == 200
        found = scraped(call)
        # at least one of the writes and one of the reads
        assert value(found, "headwater_store_connections", state="idle") >= 2
        assert value(found, "headwater_store_connections", state="in_use") == 0
        runner.run(store.close())


def test_every_metric_that_is_shown_is_documented(call: Caller) -> None:
    call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]})
    call.read(features=["events:n"], entities={"user": [7]})
    found = {re.sub("_(bucket|sum|count|created)$", "", name) for name, _ in scraped(call)}
    documented = set(re.findall("`(headwater_[a-z_]+)", DOCS.read_text()))
    assert found <= documented, found - documented


def test_a_store_without_connections_shows_none(call: Caller) -> None:
    assert not any(name == "headwater_store_connections" for name, _ in scraped(call))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_metric_is_named_as_prometheus_wants(family: Any) -> None:
    assert family.name.startswith("headwater_")
    assert not family.name.endswith(("_total", "_count", "_sum"))
    assert family.help.endswith(".")
