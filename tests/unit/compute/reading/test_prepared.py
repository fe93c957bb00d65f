"""Prepared reads: levels, sessions, versions, and following live pointers without changing columns."""

import asyncio
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.errors import (
    ChangeRefused,
    ConsistencyNotSupported,
    EntityKeyError,
    FeatureNotFound,
    SessionRequired,
    Unavailable,
    UsageError,
)
from headwater.online.base import Capabilities
from headwater.online.meta import watermark_entry
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.watermark import Watermark
from headwater.types import ConsistencyLevel
from tests.servers.redis import RedisServer
from tests.servers.waiting import at_most
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather

TEMP = hw.Feature("temp", hw.Float64, column="temp_f")
WIND = hw.Feature("wind", hw.Float64)


def promote(bench: Bench, version: str, name: str = "weather") -> None:
    bench.context.versions.promote(name, version, watermarks={}, now=bench.at, force=True)
    bench.registry.refresh()


def test_a_read_takes_one_round_trip_and_keeps_order(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0), row("B", 2.0)])
    reader = bench.reader(["weather:temp"])
    assert dict(reader.join_keys) == {"airport": hw.String} and reader.versions == {"weather": "1.0.0"}
    assert reader.request_fields == {}
    assert reader.read(["B", "A", None, "B"]).to_dict() == {
        "airport": ["B", "A", None, "B"],
        "temp": [2.0, 1.0, None, 2.0],
    }
    taken = reader.explain(["B", "A", "B"])
    assert (taken.keys, taken.round_trips, taken.views) == (2, 1, {"weather": "1.0.0"})
    assert [name for name, _ in taken.steps] == ["look at the registry", "find the keys", "get the rows", "decode"]
    assert taken.store["kind"] == "memory" and all(ms >= 0 for _, ms in taken.steps)


def test_now_age_and_policy(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(ttl="1d", freshness_sla="1h"))
    bench.write("weather", [row("A", 1.0)])
    reader = bench.reader(["weather:temp"])

    def status(**options: Any) -> tuple[Any, Any]:
        found = reader.read(["A"], **options)
        return found.statuses["temp"][0], found.to_dict()["temp"][0]

    assert status() == (hw.Status.PRESENT, 1.0)
    assert status(now=T0 + timedelta(hours=1)) == (hw.Status.PRESENT, 1.0)
    assert status(now="2024-01-01T02:00:00+00:00") == (hw.Status.STALE, 1.0)
    assert status(now=T0 + timedelta(hours=2), max_age="3h") == (hw.Status.PRESENT, 1.0)
    assert status(now=T0 + timedelta(hours=2), stale="drop") == (hw.Status.STALE, None)
    assert status(now=T0 + timedelta(days=1)) == (hw.Status.STALE, 1.0)
    assert status(now=T0 + timedelta(days=1, microseconds=1)) == (hw.Status.EXPIRED, None)
    assert status(now=T0 - timedelta(microseconds=1)) == (hw.Status.NOT_KNOWN, None)
    bench.pass_time(hours=2)
    assert status()[0] == hw.Status.STALE


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"consistency": "strongest"}, UsageError),
        ({"consistency": "session"}, SessionRequired),
        ({"consistency": "monotonic_read"}, SessionRequired),
        ({"stale": "hide"}, UsageError),
        ({"max_age": "soon"}, UsageError),
        ({"max_age": timedelta(-1)}, UsageError),
        ({"now": "yesterday"}, UsageError),
        ({"request": {"hour": 3}}, UsageError),
        ({"session": hw.Session("another")}, UsageError),
    ],
)
def test_wrong_use_is_told(bench: Bench, options: dict[str, Any], error: type[Exception]) -> None:
    bench.apply(AIRPORT, weather())
    with pytest.raises(error):
        bench.reader(["weather:temp"]).read(["A"], **options)


def test_wrong_names_and_keys_are_told(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    with pytest.raises(FeatureNotFound, match="temp"):
        bench.reader(["weather:tmp"])
    with pytest.raises(EntityKeyError, match="airport"):
        bench.reader(["weather:temp"]).read([{"port": "A"}])


def test_a_level_that_the_store_cannot_give_is_refused_at_prepare(bench: Bench) -> None:
    class Replica(MemoryOnlineStore):
        capabilities = Capabilities(levels=frozenset({ConsistencyLevel.EVENTUAL}))

    bench.open(Replica())
    bench.apply(AIRPORT, weather())
    with pytest.raises(ConsistencyNotSupported, match="supports eventual"):
        bench.reader(["weather:temp"], consistency="strong")
    with pytest.raises(ConsistencyNotSupported):
        bench.reader(["weather:temp"]).read(["A"], consistency="strong")


def test_sessions(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    session = hw.Session()
    reader = bench.reader(["weather:temp"], consistency="session")
    with pytest.raises(SessionRequired):
        reader.read(["A"])
    reader.read(["A"], session=session)
    assert hw.Session.from_token(session.token).store == bench.context.store_name


def test_an_inactive_version_is_refused_until_it_is_as_far(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    bench.apply(weather(features=[TEMP, WIND]))
    with pytest.raises(ChangeRefused, match=r"1\.1\.0.*1\.0\.0"):
        bench.reader(["weather@1.1.0:wind"])
    with pytest.raises(FeatureNotFound, match=r"weather@1\.1\.0:wind"):
        bench.reader(["weather:wind"])
    mark = Watermark(0, bench.context.log.head_position())
    bench.context.online.put_meta(watermark_entry("test", "weather", "1.1.0", mark))
    assert bench.reader(["weather@1.1.0:wind"]).versions == {"weather": "1.1.0"}
    promote(bench, "1.1.0")
    bench.context.versions.retire("weather", "1.0.0", now=bench.at)
    with pytest.raises(ChangeRefused, match="retired"):
        bench.reader(["weather@1.0.0:temp"])


def test_a_reader_follows_to_a_version_that_has_its_columns(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    reader, pinned, whole = (
        bench.reader(["weather:temp"]),
        bench.reader(["weather@1.0.0:temp"]),
        bench.reader(["weather:*"]),
    )
    of_object = bench.reader([weather()])
    bench.apply(weather(features=[TEMP, WIND]))
    bench.write("weather", [row("A", 1.0, wind=2.0)])
    promote(bench, "1.1.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (reader, pinned, whole, of_object):
            assert one.read(["A"]).to_dict() == {"airport": ["A"], "temp": [1.0]}
    assert reader.versions == whole.versions == {"weather": "1.1.0"}
    assert pinned.versions == of_object.versions == {"weather": "1.0.0"}


def test_a_reader_stays_where_the_live_version_lacks_a_column(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    reader = bench.reader(["weather:temp"])
    bench.write("weather", [row("A", 1.0)])
    bench.apply(weather(features=[WIND]))
    promote(bench, "2.0.0")
    with pytest.warns(UserWarning, match=r"stay on 1\.0\.0.*lacks 'temp'"):
        assert reader.read(["A"]).to_dict()["temp"] == [1.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.read(["A"])
    assert reader.versions == {"weather": "1.0.0"} and "2.0.0" in reader.warnings[0]
    with pytest.raises(FeatureNotFound):
        bench.reader(["weather:temp"])


def test_a_changed_dtype_is_another_column(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    reader = bench.reader(["weather:temp"])
    bench.apply(weather(features=[hw.Feature("temp", hw.Int64, column="temp_f")]))
    promote(bench, "2.0.0")
    with pytest.warns(UserWarning, match=r"live version 2\.0\.0 has different values for 'temp'"):
        reader.read(["A"])


def test_what_is_changed_in_place_is_seen(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(freshness_sla="1h"))
    bench.write("weather", [row("A", 1.0)])
    reader = bench.reader(["weather:temp"])
    bench.pass_time(hours=2)
    assert reader.read(["A"]).statuses["temp"] == [hw.Status.STALE]
    bench.apply(weather(freshness_sla="3h"))
    assert reader.read(["A"]).statuses["temp"] == [hw.Status.PRESENT]


def test_another_processs_change_is_seen_after_the_refresh(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    slow = bench.reader(["weather:temp"])
    fast = bench.reader(["weather:temp"], registry_refresh=timedelta(0))
    other = Bench(bench.folder, bench.context.online)
    other.apply(weather(features=[TEMP, WIND]))
    promote(other, "1.1.0")
    slow.read(["A"])
    assert slow.versions == {"weather": "1.0.0"}
    fast.read(["A"])
    assert fast.versions == {"weather": "1.1.0"}
    slow.refresh()
    assert slow.versions == {"weather": "1.1.0"}


def test_services_follow_their_own_pointer_and_read_what_the_registry_says(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(), hw.FeatureService("model", ["weather:temp"]))
    reader, pinned = bench.reader("model"), bench.reader("model@1.0.0")
    bench.rows["weather"] = [row("A", 3.0, wind=2.0)]
    bench.materialize()
    bench.apply(weather(features=[TEMP, WIND]))
    assert reader.read(["A"]).to_dict() == {"airport": ["A"], "temp": [3.0]}
    assert reader.versions == pinned.versions == {"weather": "1.0.0"}
    bench.materialize("weather@1.1.0")
    promote(bench, "1.1.0")
    for one in (reader, pinned):
        assert one.read(["A"]).to_dict() == {"airport": ["A"], "temp": [3.0]}
        assert one.versions == {"weather": "1.1.0"}, "its columns, with the same meaning"
    bench.apply(weather(features=[TEMP, WIND]), hw.FeatureService("model", ["weather:wind", "weather:temp"]))
    assert bench.registry.refresh().service("model").live == "1.0.0", "a later version waits"
    promote(bench, "2.0.0", "model")
    assert reader.read(["A"]).to_dict() == {"airport": ["A"], "temp": [3.0]}
    assert reader.request.service == ("model", "2.0.0") and pinned.request.service == ("model", "1.0.0")
    bench.apply(weather(features=[TEMP, WIND]), hw.FeatureService("model", ["weather:wind"]))
    promote(bench, "3.0.0", "model")
    with pytest.warns(UserWarning, match="model"):
        assert reader.read(["A"]).to_dict() == {"airport": ["A"], "temp": [3.0]}


def test_a_service_stays_on_the_version_that_has_its_meaning(bench: Bench) -> None:
    old, new = weather(), weather(ttl="1d")
    bench.apply(AIRPORT, old, hw.FeatureService("model", ["weather:temp"]))
    bench.write("weather", [row("A", 1.0)])
    reader = bench.reader("model")
    bench.apply(new)
    bench.materialize()
    promote(bench, "2.0.0")
    bench.pass_time(days=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reader.read(["A"]).to_dict()["temp"] == [1.0], "the model's column has no ttl"
    assert bench.reader("model").versions == {"weather": "1.0.0"}
    assert bench.reader(["weather:temp"]).read(["A"]).statuses["temp"] == [hw.Status.EXPIRED]
    for extra in (WIND, hw.Feature("gust", hw.Float64)):
        bench.apply(weather(ttl="1d", features=[TEMP, extra]))
        bench.materialize()
    assert bench.reader("model").versions == {"weather": "1.0.0"}, "kept active as long as it is read"


def test_a_version_that_is_no_longer_updated_is_not_read_for_ever(bench: Bench) -> None:
    """A reader raises once the rows of a retired version may be gone, and never gives defaults for them."""
    default = hw.Feature("temp", hw.Float64, column="temp_f", default=-1.0)
    bench.apply(AIRPORT, weather(features=[default]))
    bench.rows["weather"] = [row("A", 1.0, wind=2.0, gust=3.0)]
    bench.materialize()
    pinned, service = bench.reader(["weather@1.0.0:temp"]), hw.FeatureService("model", ["weather:temp"])
    bench.apply(service)
    of_service = bench.reader("model@1.0.0")
    for features in ([default, WIND], [default, WIND, hw.Feature("gust", hw.Float64)]):
        bench.apply(weather(features=features))
        bench.materialize()
    assert bench.registry.refresh().view("weather").version("1.0.0").retired_at == T0
    for minutes in (0, 9):
        bench.at = T0 + timedelta(minutes=minutes)
        bench.materialize()
        for one in (pinned, of_service):
            assert one.read(["A"]).to_dict()["temp"] == [1.0]
    bench.at = T0 + timedelta(minutes=12)
    bench.materialize()
    with pytest.raises(
        ChangeRefused, match=r"1\.0\.0 is retired and no longer updated: read 'weather:…', live is 1\.2\.0"
    ):
        pinned.read(["A"])
    assert of_service.read(["A"]).to_dict()["temp"] == [1.0], "another version has its column"
    assert of_service.versions == {"weather": "1.2.0"}
    bench.apply(hw.FeatureService("model", ["weather:wind"]))
    promote(bench, "2.0.0", "model")
    bench.context.versions.retire("model", "1.0.0", now=bench.at)
    assert of_service.read(["A"]).to_dict()["temp"] == [1.0]


def test_a_reader_that_does_not_see_the_registry_gives_no_defaults(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply(AIRPORT, weather(features=[hw.Feature("temp", hw.Float64, column="temp_f", default=-1.0)]))
    bench.write("weather", [row("A", 1.0)])
    reader = bench.reader(["weather:temp"])
    assert reader.read(["A", "B"]).statuses["temp"] == [hw.Status.PRESENT, hw.Status.NOT_FOUND]
    seconds = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(bench.registry.database, "reads", _unreachable)
    for minutes, status, value in ((9, hw.Status.NOT_FOUND, -1.0), (11, hw.Status.UNAVAILABLE, None)):
        seconds[0] += 60 * minutes
        found = reader.read(["A", "B"])
        assert found.statuses["temp"] == [hw.Status.PRESENT, status]
        assert found.to_dict()["temp"] == [1.0, value]


def _unreachable() -> None:
    raise Unavailable("the registry is away")


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[hw.FeatureStore, RedisServer]]:
    """A store of rows on a Redis of its own, whose client waits for a second."""
    with RedisServer(tmp_path / "redis") as server:
        view = hw.FeatureView(
            "seen",
            entity=hw.Entity("user", join_keys={"user": hw.Int64}),
            source=hw.PushSource(event_time="at"),
            features=[hw.Feature("n", hw.Int64)],
        )
        with hw.FeatureStore(tmp_path, online=f"{server.url}?timeout=1") as first:
            first.apply([view])
            first.write("seen", [{"user": 1, "at": datetime(2024, 1, 1, tzinfo=UTC), "n": 7}])
        with hw.FeatureStore(tmp_path, online=f"{server.url}?timeout=1") as store:
            yield store, server
            server.unpause()


def test_the_first_read_of_a_store_that_hangs_waits_once(hanging) -> None:
    store, server = hanging
    alone = store.settings.online_retries + 1
    server.pause()
    with at_most(alone + 0.8), pytest.raises(Unavailable):
        store.get_online_features(["seen:n"], [1])


def test_the_first_read_of_a_store_that_hangs_keeps_its_deadline(hanging) -> None:
    store, server = hanging
    reader = store.prepare(["seen:n"])
    store.context.claims.look_again()
    server.pause()
    with at_most(0.8):
        assert reader.read([1], deadline="200ms").statuses["n"] == [hw.Status.UNAVAILABLE]
    server.unpause()
    assert reader.read([1], deadline="20s").to_dict()["n"] == [7]
    assert not store.context.claims.reads_due

    async def read() -> None:
        store.context.claims.look_again()
        other = hw.AsyncFeatureStore.of(store)
        server.pause()
        # preparing waits for the store's own time-out
        with at_most(2.3):
            found = await (await other.prepare(["seen:n"])).read([1], deadline="200ms")
        assert found.statuses["n"] == [hw.Status.UNAVAILABLE]
        server.unpause()

    asyncio.run(read())
