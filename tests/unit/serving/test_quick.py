"""Plain reads are answered without a task: with the bytes and the counts of the way that all requests take."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

import headwater as hw
from headwater.errors import Unavailable
from headwater.online.fetching.fetcher import AsyncFetcher
from headwater.serving import known_reads
from headwater.serving.access import KeyRing
from headwater.serving.app import App
from headwater.serving.connection import BoundedConnection
from headwater.serving.limits import KeyLimits
from headwater.serving.metrics import REQUESTS, merged
from headwater.serving.settings import ServerSettings
from headwater.testing import rounds
from tests.servers.redis import RedisServer
from tests.unit.serving.conftest import DELAYS, EVENTS, NOON

ROW = {"user": 7, "at": NOON, "n": 2**60, "x": 1.5, "name": "ä", "raw": b"\0", "day": None, "seen": NOON, "tags": [1]}
BOUNDS = ServerSettings(keys=True, hosts=("x",), most_entities=5, most_bytes=1_000, deadline=30.0)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Side:
    """A server of a store without a network.

    Args:
        store: the store.
        quick: whether plain reads are answered without a task.
        bounds: the server's.
        rate: requests a second of a key; the clock stands still.
    """

    def __init__(
        self, store: hw.AsyncFeatureStore, quick: bool, bounds: ServerSettings = BOUNDS, rate: float = 0
    ) -> None:
        ring = KeyRing(store.sync.registry.api_keys.all, lambda: NOON)
        self.app = App(store, bounds, ring)
        self.app.requests.limits = KeyLimits(rate, 0, lambda: 0.0)
        self.quickly = 0
        self._begin = self.app.quick.begin
        self.app.quick.begin = self._count if quick else lambda *_: None  # type: ignore[method-assign]
        self._config = uvicorn.Config(self.app, http=BoundedConnection, lifespan="off", log_config=None, workers=1)
        self.state = ServerState()

    def _count(self, *args: Any) -> Any:
        found = self._begin(*args)
        self.quickly += found is not None
        return found

    def connect(self) -> tuple[BoundedConnection, Wire]:
        wire = Wire()
        loop = asyncio.get_running_loop()
        connection = BoundedConnection(self._config, self.state, {}, loop)
        connection.connection_made(wire)
        return connection, wire

    async def say(self, segments: Sequence[bytes]) -> tuple[bytes, bool]:
        """What the server answers on a connection on which some segments come; and whether it closed it."""
        connection, wire = self.connect()
        for segment in segments:
            if not wire.closed:
                connection.data_received(segment)
                await self.rest()
        connection.connection_lost(None)
        await self.rest()
        assert (self.app.requests.under_way, self.state.connections, self.state.tasks) == (0, set(), set())
        return wire.written, wire.closed

    async def rest(self) -> None:
        """Wait until nothing more is done."""
        still = 0
        async with asyncio.timeout(60):
            while still < 5:
                await asyncio.sleep(0 if still < 4 else 0.0005)
                still = still + 1 if self.app.requests.under_way == self.app.requests.bodies.arriving else 0

    def counts(self) -> dict[Any, Any]:
        """What was counted, times aside."""
        series = merged(self.app.requests.metrics.memory).items()
        return {name: values for name, values in series if "duration" not in name[0] and any(values)}


def request(
    body: bytes, headers: Sequence[tuple[str, str]] = (), line: str = "POST /v1/features:read HTTP/1.1", host: str = "x"
) -> bytes:
    lines = [line, f"Host: {host}", f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Keys:
    """API keys of a store."""

    def __init__(self, store: hw.FeatureStore) -> None:
        make = store.registry.api_keys.create
        self.whole, self.events = make("all", ["read"])[0], make("some", ["read"], views=["ev*"])[0]
        self.model, self.writes = make("model", ["read"], services=["model"])[0], make("w", ["write"])[0]
        self.ended = make("old", ["read"], expires_at=NOON)[0]


@pytest.fixture(scope="module", params=["lmdb", "redis"])
def stores(request: pytest.FixtureRequest) -> Iterator[tuple[hw.FeatureStore, Keys]]:
    model = hw.FeatureService("model", [EVENTS["n"], DELAYS["late"]])
    folder = request.getfixturevalue("tmp_path_factory").mktemp("quick")
    with ExitStack() as open_ones:
        online = None
        if request.param == "redis":
            # not the one that all tests share: others empty it
            server = open_ones.enter_context(RedisServer(folder / "redis"))
            online = f"redis://127.0.0.1:{server.port}"
        store = open_ones.enter_context(hw.FeatureStore(folder, online=online, clock=lambda: NOON))
        store.apply([EVENTS, DELAYS, model])
        store.write("events", [ROW, {**ROW, "user": 8, "x": None}])
        store.write("delays", [{"origin": "a", "dest": "b", "late": 0.5, "at": NOON}])
        yield store, Keys(store)


FEATURES = st.sampled_from(
    [["events:n", "events:x"], ["events:*"], ["delays:late"], ["events:n", "delays:late"], ["events:y"], ["y:*"], []]
)
ENTITIES = st.one_of(
    st.fixed_dictionaries(
        {"user": st.lists(st.sampled_from([7, 7, 8, 9, None, "7", 2**70, 1.5, "\ud800"]), max_size=6)}
    ),
    st.sampled_from([{"user": 7}, [7], [7, 8], [{"user": 7}], [{"user": 7}, {}], {}, {"user": [7], "dest": ["b"]}, 7]),
    st.just({"origin": ["a"], "dest": "b"}),
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "include": st.sampled_from([[], ["statuses"], ["versions", "schema"], ["event_times"], ["y"]]),
        "full_names": st.sampled_from([True, None]),
        "max_age": st.just("1m"),
        "stale": st.sampled_from(["drop", "flag", "y"]),
        "consistency": st.sampled_from(["strong", "session"]),
        "deadline_ms": st.just(20_000),
        "request": st.sampled_from([{}, {"y": 1}]),
        "now": st.just("2026-01-01T12:00:00Z"),
        "y": st.just(1),
    },
)
PLAIN = st.builds(lambda features, entities: {"features": features, "entities": entities}, FEATURES, ENTITIES)
SERVICE = st.just({"service": "model", "entities": {"user": [7], "origin": ["a"], "dest": "b"}})
BODIES = st.one_of(
    PLAIN.map(json.dumps),
    st.builds(lambda body, others: json.dumps(body | others), PLAIN | SERVICE, OTHERS),
    SERVICE.map(json.dumps),
    st.sampled_from(["", "{", "[]", '{"features": 1}', '{"entities": [' + "7," * 600 + "7]}"]),
).map(str.encode)
HEADERS = st.lists(
    st.sampled_from(
        [
            ("Accept", "application/vnd.apache.arrow.stream"),
            ("Accept", "*/*"),
            ("Headwater-Request-Id", "é"),
            ("Headwater-Session", "y"),
            ("Connection", "close"),
            ("Content-Encoding", "gzip"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("Expect", "100-continue"),
            ("Transfer-Encoding", "identity"),
            ("X", "1"),
            ("X", "2"),
        ]
    ),
    max_size=2,
    unique=True,
)
KINDS = st.sampled_from(["application/json"] * 6 + ["application/json; charset=utf-8", "text/plain"])
LINES = st.sampled_from(
    ["POST /v1/features:read HTTP/1.1"] * 8
    + ["POST /v1/features:read?y=1 HTTP/1.1", "POST /v1/features:read HTTP/1.0", "GET /healthz HTTP/1.1"]
    + ["GET /v1/features:read HTTP/1.1", "POST /v1/y HTTP/1.1"]
)
BY = st.sampled_from(["whole"] * 6 + ["events", "model", "writes", "ended", "", "hw_0123456789ab_" + "x" * 43])


@st.composite
def conversations(draw: st.DrawFn) -> list[list[tuple[bytes, str, list[tuple[str, str]], str, str]]]:
    """Requests in groups: those of a group come in one go."""
    seldom = st.integers(0, 3).map(lambda n: n == 0)
    one = st.tuples(
        BODIES,
        LINES,
        st.builds(
            lambda kind, some: [("Content-Type", kind), *some],
            KINDS,
            seldom.flatmap(lambda s: HEADERS if s else st.just([])),
        ),
        BY,
        st.sampled_from(["x"] * 9 + ["y"]),
    )
    return draw(st.lists(st.lists(one, min_size=1, max_size=3), min_size=1, max_size=4))


@settings(max_examples=rounds(60), deadline=None)
@given(
    said=conversations(),
    cuts=st.lists(st.integers(1, 400), max_size=3),
    again=st.booleans(),
    rate=st.sampled_from([0, 3]),
)
def test_answers_and_counts_are_those_of_the_way_that_all_requests_take(
    stores: tuple[hw.FeatureStore, Keys], said: Any, cuts: list[int], again: bool, rate: int
) -> None:
    store, keys = stores

    def data(number: int, one: tuple[bytes, str, list[tuple[str, str]], str, str]) -> bytes:
        body, line, headers, by, host = one
        by = getattr(keys, by, by)
        headers = [*headers, ("Authorization", f"Bearer {by}")] if by else headers
        if number % 3 == 0:
            headers = [*headers, ("Headwater-Request-Id", f"r{number}")]
        return request(body, headers, line, host)

    groups = [b"".join(data(n + g, one) for n, one in enumerate(group)) for g, group in enumerate(said)]
    segments = []
    for group in groups * (1 + again):
        start = 0
        for cut in cuts:
            segments.append(group[start : start + cut])
            start += cut
        segments.append(group[start:])
    segments = [segment for segment in segments if segment]

    async def run(quick: bool) -> tuple[bytes, bool, dict[Any, Any], int]:
        asynchronous = hw.AsyncFeatureStore.of(store)
        side = Side(asynchronous, quick, rate=rate)
        assert side.app.requests.keys is not None
        await side.app.requests.keys.read()
        # what is due is looked at first
        await asynchronous.get_online_features(["events:n"], [7])
        answers, closed = await side.say(segments)
        await store.services.close_clients()
        return re.sub(rb"[0-9a-f]{12}-[0-9a-f]+", b"ID", answers), closed, side.counts(), side.quickly

    *expected, none = asyncio.run(run(False))
    *found, _ = asyncio.run(run(True))
    assert found == expected and none == 0


JSON = ("Content-Type", "application/json")
PREFIXES = st.sampled_from(
    [
        '{"features":["events:n","events:x"],',
        '{"features": ["events:n"] , "include": ["statuses"],\n ',
        '{"service":"model",',
        '{"features":["entities"],',
        '{"features":["events:n"],"request":{',
        '{"features":["events:n"],"entities":[8],',
        '{"features":["delays:late"],',
        "{",
    ]
)
USUAL = '"entities":{"user":[8]}}'
TAILS = [
    USUAL,
    '"entities":{"user":[7, 8, 7]}}',
    '"entities":{"user":[]}}',
    '"entities":{"user":[7, null]}}',
    '"entities":{"user":["7"]}}',
    '"entities":{"user":[9223372036854775808]}}',
    '"entities":{"user":[1180591620717411303424]}}',
    '"entities":{"user":[7.0, true]}}',
    '"entities":{"user":[7]},"stale":"drop"}',
    '"entities":{"user":[7]},"include":[]}',
    '"entities":{"user":[7]},"entities":{"user":[8]}}',
    '"entities":{"user":[7],"user":[8]}}',
    '"entities":{"user":[7],"dest":["b"]}}',
    '"entities":{"dest":["b"]}}',
    '"entities":{"user":[7]}}}',
    '"entities":{"user":[7]}',
    '"entities":[7]}',
    '"entities":{"user":7}}',
    '"entities":{"origin":["a"],"dest":["b"]}}',
    '"entities":{"user":[7]},"features":["events:x"]}',
    '"entities":{"us\\u0065r":[7]}}',
    '"entitie\\u0073":{"user":[7]}}',
    '"entities" :{"user":[7]}}x',
    '"entities","stale":"drop"}',
]


@settings(max_examples=rounds(30), deadline=None)
@given(
    st.lists(st.tuples(PREFIXES, st.permutations(TAILS)), min_size=1, max_size=2),
    st.sampled_from(["whole", "whole", "events", "model", "ended"]),
    st.sampled_from([0, 5]),
)
def test_bodies_that_begin_as_others_did_mean_what_they_say(
    stores: tuple[hw.FeatureStore, Keys], said: list[tuple[str, list[str]]], by: str, rate: int
) -> None:
    store, keys = stores
    # with the first a reader is made, the others are noted: what follows meets what is known of them
    texts = [(prefix + tail).encode() for prefix, tails in said for tail in [USUAL, USUAL, USUAL, *tails]]
    # of one length, and so of one head
    size = max(map(len, texts))
    segments = [request(text.ljust(size), [JSON, ("Authorization", f"Bearer {getattr(keys, by)}")]) for text in texts]

    async def run(quick: bool) -> tuple[bytes, bool, dict[Any, Any]]:
        asynchronous = hw.AsyncFeatureStore.of(store)
        side = Side(asynchronous, quick, rate=rate)
        assert side.app.requests.keys is not None
        await side.app.requests.keys.read()
        await asynchronous.get_online_features(["events:n"], [7])
        answers, closed = await side.say(segments)
        await store.services.close_clients()
        return re.sub(rb"[0-9a-f]{12}-[0-9a-f]+", b"ID", answers), closed, side.counts()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(known_reads, "MOMENT", 60.0)
        assert asyncio.run(run(True)) == asyncio.run(run(False))


def test_what_is_known_of_a_read_ends_with_its_moment_its_registry_and_its_keys(
    stores: tuple[hw.FeatureStore, Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = stores
    texts = [json.dumps({"features": ["events:n"], "entities": {"user": [user]}}).encode() for user in (7, 8, 9)]
    said = [request(text, [JSON, ("Authorization", f"Bearer {keys.whole}")]) for text in texts]
    taken: list[bool] = []
    read = known_reads.KnownRead.read

    def counted(known: Any, *args: Any) -> Any:
        found = read(known, *args)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(known_reads.KnownRead, "read", counted)

    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(store), True)
        assert side.app.requests.keys is not None
        await side.app.requests.keys.read()
        await side.say([said[0]])  # its reader is made
        monkeypatch.setattr(known_reads, "MOMENT", 60.0)
        answers, _ = await side.say([*said, *said])
        assert answers.count(b"HTTP/1.1 200") == 6 and answers.count(b'"user":[8]') == 2
        assert taken == [True] * len(taken) and len(taken) >= 3
        await side.app.requests.keys.read()
        taken.clear()
        await side.say(said)
        assert taken == [True]
        store.registry.refresh()
        monkeypatch.setattr(known_reads, "MOMENT", 0.0)
        head = next(iter(side.app.quick._heads._heads.values()))
        assert head.known is not None
        assert head.known.read(texts[0], None) is None
        assert head.known.read(texts[0].replace(b"events:n", b"events:x"), head.known.snapshot) is None
        await side.app.requests.keys.read()
        await side.say(said * 2)
        assert taken[3:] == [False] * len(taken[3:])
        await store.services.close_clients()

    asyncio.run(run())


PLAIN_READ = json.dumps({"features": ["events:n"], "entities": [7]}).encode()


def of_key(key: str, *others: tuple[str, str]) -> bytes:
    return request(PLAIN_READ, [JSON, ("Authorization", f"Bearer {key}"), *others])


def test_plain_reads_are_quick_and_a_head_is_known_until_the_keys_are_read_again(
    stores: tuple[hw.FeatureStore, Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = stores

    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(store), True)
        assert side.app.requests.keys is not None
        await side.app.requests.keys.read()
        found: list[bool] = []
        find = side.app.quick.find
        monkeypatch.setattr(side.app.quick, "find", lambda data: (found.append(find(data) is not None), find(data))[1])
        await side.say([of_key(keys.whole)])  # its reader is made
        for _ in range(2):
            answers, _ = await side.say([of_key(keys.whole)] * 3)
            assert answers.count(b"HTTP/1.1 200 OK") == 3
        assert side.quickly >= 6 and found == [False, *[True] * 6]
        await side.app.requests.keys.read()
        await side.say([of_key(keys.whole)] * 2)
        assert found[-2:] == [False, True]
        store.registry.api_keys.revoke("old")
        assert b"HTTP/1.1 401" in (await side.say([of_key(keys.ended)] * 2))[0]
        await store.services.close_clients()

    asyncio.run(run())


def test_a_part_of_a_body_that_is_not_wanted_is_no_request(stores: tuple[hw.FeatureStore, Keys]) -> None:
    """What is answered before its body came: bytes of the body look like a request whose head is known."""
    store, keys = stores
    whole = of_key(keys.whole)

    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(store), True)
        assert side.app.requests.keys is not None
        await side.app.requests.keys.read()
        await side.say([whole, whole])
        early = f"POST /v1/y HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * len(whole)}\r\n\r\n".encode()
        answers, _ = await side.say([early, whole, whole, whole])
        assert re.findall(rb"HTTP/1.1 \d+", answers) == [b"HTTP/1.1 404", b"HTTP/1.1 200"]
        await store.services.close_clients()

    asyncio.run(run())


class Held:
    """Reads whose rows come when a test gives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.took: list[Any] = []
        monkeypatch.setattr(AsyncFetcher, "begin", lambda fetcher, keys, took: not self.took.append(took))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


async def waiting(side: Side, keys: Keys, held: Held, *others: bytes) -> tuple[BoundedConnection, Wire]:
    """A connection on which a read waits for its rows."""
    assert side.app.requests.keys is not None
    await side.app.requests.keys.read()
    await hw.AsyncFeatureStore.of(side.app.store.sync).get_online_features(["events:n"], [7])
    connection, wire = side.connect()
    connection.data_received(of_key(keys.whole) + b"".join(others))
    await asyncio.sleep(0)
    assert len(held.took) == 1 and side.app.requests.under_way == 1 and wire.written == b""
    return connection, wire


def statuses(side: Side) -> dict[str, float]:
    return {name[2]: values[0] for name, values in side.counts().items() if name[0] == REQUESTS.name}


@pytest.mark.parametrize(
    "answer, status, text",
    [
        (Unavailable("no server"), b"503", b"no server"),
        (KeyError("a value"), b"500", b"this is a bug in headwater"),
        (asyncio.CancelledError(), b"503", b"about to stop"),
        ([b"damaged"], b"200", b"UNAVAILABLE"),
    ],
    ids=["away", "bug", "loop ends", "damaged"],
)
def test_what_comes_instead_of_rows_is_said(
    stores: tuple[hw.FeatureStore, Keys], held: Held, answer: Any, status: bytes, text: bytes
) -> None:
    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(stores[0]), True)
        _, wire = await waiting(side, stores[1], held, of_key(stores[1].whole, ("Connection", "close")))
        held.took[0](answer)
        assert wire.written.startswith(b"HTTP/1.1 " + status) and text in wire.written
        held.took[0]([None])  # a second answer is nobody's
        await asyncio.sleep(0)
        # what waited behind it is next
        await side.rest()
        assert side.app.requests.under_way == 0 and sum(statuses(side).values()) == wire.written.count(b"HTTP/1.1") == 2
        await stores[0].services.close_clients()

    asyncio.run(run())


def test_a_read_whose_rows_do_not_come_is_answered_at_its_deadline(
    stores: tuple[hw.FeatureStore, Keys], held: Held
) -> None:
    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(stores[0]), True, ServerSettings(keys=True, deadline=0.1))
        _, wire = await waiting(side, stores[1], held)
        async with asyncio.timeout(60):
            while not wire.written:
                await asyncio.sleep(0.01)
        assert b"the online store gave no answer within 0.1 s" in wire.written and statuses(side) == {"5xx": 1}
        held.took[0]([None])
        assert wire.written.count(b"HTTP/1.1") == 1 and side.app.requests.under_way == 0
        await stores[0].services.close_clients()

    asyncio.run(run())


def test_a_client_that_goes_away_is_not_answered(stores: tuple[hw.FeatureStore, Keys], held: Held) -> None:
    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(stores[0]), True)
        connection, wire = await waiting(side, stores[1], held)
        wire.closed = True
        connection.connection_lost(None)
        assert side.app.requests.under_way == 0 and statuses(side) == {"gone": 1}
        held.took[0]([None])
        assert wire.written == b"" and statuses(side) == {"gone": 1}
        await stores[0].services.close_clients()

    asyncio.run(run())


def test_a_server_that_stops_answers_what_waits_and_closes(stores: tuple[hw.FeatureStore, Keys], held: Held) -> None:
    async def run() -> None:
        side = Side(hw.AsyncFeatureStore.of(stores[0]), True)
        connection, wire = await waiting(side, stores[1], held)
        side.app.requests.draining = True
        connection.shutdown()
        assert not wire.closed
        held.took[0]([None])
        assert b"connection: close" in wire.written and wire.closed
        await stores[0].services.close_clients()

    asyncio.run(run())
