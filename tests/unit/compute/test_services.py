"""Services: the threads and caches of a store object, when they begin, end, and what a forked child has of them."""

import dataclasses
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.compute.context import Once
from headwater.compute.refreshing.requests import RefreshRequests
from headwater.errors import Unavailable
from headwater.online.hints import Hint
from tests.children import problem_in_child
from tests.unit.compute.conftest import AIRPORT, Bench, row, weather


@pytest.fixture
def stale(bench: Bench) -> Bench:
    """A bench with a row past its SLA, whose reads ask for refreshes."""
    bench.open(settings="[freshness]\nrefresh = true\n")
    bench.apply(AIRPORT, weather(freshness_sla="1h"))
    bench.write("weather", [row("A", 1.0)])
    bench.pass_time(hours=4)
    return bench


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("headwater-")}


def request(bench: Bench) -> Hint:
    return Hint("weather", "1.0.0", b"A", 0, 1, to_micros(bench.at))


def test_a_context_cannot_be_changed(bench: Bench) -> None:
    for name in ("online", "settings", "clock"):
        with pytest.raises(AttributeError):
            setattr(bench.context, name, None)
    with pytest.raises(AttributeError):
        bench.context.settings.refreshing.requests = True  # type: ignore[misc]


def test_another_context_of_the_same_parts_opens_nothing_again(bench: Bench) -> None:
    engine, log = bench.context.engine, bench.context.log
    other = dataclasses.replace(bench.context, settings=dataclasses.replace(bench.context.settings))
    assert other.engine is engine and other.log is log and other.claims is bench.context.claims


def test_a_part_is_opened_once_and_keeps_no_other_waiting() -> None:
    hold, opened = threading.Event(), list[int]()
    slow = Once(lambda: (hold.wait(60), opened.append(1)))
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(slow) for _ in range(4)]
        assert Once(lambda: "other")() == "other" and not opened
        hold.set()
        assert len({id(call.result()) for call in calls}) == 1 and opened == [1]


def test_a_part_that_cannot_be_opened_is_tried_again() -> None:
    tries = iter([ValueError("not now"), None])

    def opened() -> str:
        if bad := next(tries):
            raise bad
        return "there"

    part = Once(opened)
    with pytest.raises(ValueError, match="not now"):
        part()
    assert part() == part() == "there"


def test_threads_begin_with_the_first_stale_read_and_end_with_the_store(stale: Bench) -> None:
    reader = stale.reader(["weather:temp"])
    assert "headwater-hints" not in threads()
    reader.read(["A"])
    assert "headwater-hints" in threads()
    services = stale.store.services
    stale.store.close()
    assert not threads() & {"headwater-hints", "headwater-worker", "headwater-refresh"}
    # what is noted after that begins none
    services.requests.add([request(stale)])
    assert "headwater-hints" not in threads()
    services.close()


def test_a_closed_store_brought_its_requests_to_the_queue(stale: Bench) -> None:
    stale.reader(["weather:temp"]).read(["A"])
    stale.store.close()
    stale.open()
    assert stale.context.refresh_queue.counts(to_micros(stale.at)).waiting == 1


def test_a_store_that_nobody_closes_can_go_and_so_can_its_thread(stale: Bench) -> None:
    stale.reader(["weather:temp"]).read(["A"])
    requests = weakref.ref(stale.store.services.requests)
    vars(stale.store).pop("services")
    until = time.monotonic() + 20
    while (requests() is not None or "headwater-hints" in threads()) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    assert requests() is None and "headwater-hints" not in threads()


def test_a_forked_child_begins_its_own_threads(stale: Bench) -> None:
    reader = stale.reader(["weather:temp"])
    reader.read(["A"])
    stale.store.flush_refresh_requests()

    def child() -> None:
        assert "headwater-hints" not in threads()
        reader.read(["A"])
        assert "headwater-hints" in threads()
        assert isinstance(stale.store.services.requests, RefreshRequests)

    assert problem_in_child(child) == ""


def test_readers_are_kept_by_features_and_revision(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    services, snapshot = bench.store.services, bench.store.registry.snapshot()
    assert services.kept_reader(["weather:temp"], None, snapshot) is None
    reader = services.reader(["weather:temp"])
    assert services.reader(["weather:temp"]) is reader is services.kept_reader(["weather:temp"], None, snapshot)
    assert services.reader(["weather:temp"], True) is not reader
    bench.apply(weather(features=[hw.Feature("temp", hw.Float64, column="temp_f"), hw.Feature("x", hw.Int64)]))
    assert services.reader(["weather:temp"]) is not reader


def test_a_closed_store_refuses_by_name(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    store = bench.store
    store.close()
    store.close()
    for call in (lambda: store.context.registry, store.list_entities, lambda: store.get_online_features([], [])):
        with pytest.raises(Unavailable, match="this FeatureStore of 'test' was closed"):
            call()
    assert repr(store) == "<FeatureStore test: closed>"
