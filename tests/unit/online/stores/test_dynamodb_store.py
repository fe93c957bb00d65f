"""The DynamoDB store beside its suite: its table, expiry, throttling and faults, reads on an event loop."""

import asyncio
import os
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.errors import ConfigError, FormatError, StoreError, StoreReadOnly, Unavailable
from headwater.online.codec import emptied, replaced, sequence_of
from headwater.online.guard import merge
from headwater.online.powers import UNREAD, Asynchronous, AsyncReads, LeveledReads, Provisioned, Reading
from headwater.online.stores.dynamodb import DynamoDBOnlineStore
from headwater.online.stores.dynamodb_items import address
from headwater.online.stores.dynamodb_url import parse_url
from headwater.testing.online_rows import Order, key_of, plain_row, plain_rows
from headwater.types import ConsistencyLevel

WHEN = datetime(2030, 1, 1, tzinfo=UTC)
STRONG, EVENTUAL = ConsistencyLevel.STRONG, ConsistencyLevel.EVENTUAL


@pytest.fixture
def make(dynamodb_server):
    """A store, its table not made yet; all that were made are closed."""
    made = []

    def make(**options):
        given = {"timeout": "20s", "patience": "20s", "write_patience": "20s", **options}
        made.append(DynamoDBOnlineStore(dynamodb_server.url(**given), clock=lambda: WHEN))
        return made[-1]

    yield make
    dynamodb_server.fail("", "none")
    for store in made:
        store.close()


def fill(store, rows):
    """Put rows without the guard, which the emulator does much faster."""
    store.put([], dict(rows))


@pytest.fixture
def item(dynamodb_server):
    """The item under a key, by the vendor's client."""

    def item(store, key):
        return dynamodb_server.client.get_item(TableName=store.place.table, Key=address(key)).get("Item")

    return item


# the table


def test_what_it_can_do(make):
    store = make()
    assert isinstance(store, LeveledReads) and isinstance(store, Asynchronous) and isinstance(store, Provisioned)
    assert store.capabilities.expiry and store.capabilities.levels == frozenset(ConsistencyLevel)
    assert "table-" in repr(store)


def test_a_table_is_made_ready_to_use_and_left_as_it_is(make, dynamodb_server):
    store = make()
    assert "no such table yet" in str(store.info()["warnings"])
    store.provision()
    store.put([plain_row(1)])
    store.provision()
    assert store.multi_get([key_of(1)]) == [plain_row(1)[1]]
    table = dynamodb_server.client.describe_table(TableName=store.place.table)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    told = dynamodb_server.client.describe_time_to_live(TableName=store.place.table)["TimeToLiveDescription"]
    assert (told["TimeToLiveStatus"], told["AttributeName"]) == ("ENABLED", "t")
    assert store.info()["warnings"] == "" and store.info()["kind"] == "dynamodb"


def test_nothing_is_there_before_the_table(make):
    store = make()
    assert store.multi_get([key_of(1), key_of(2)]) == [None, None]
    assert list(store.scan(b"")) == [] and list(store.scan(key_of(1))) == []
    store.delete([key_of(1)])
    assert not store.info()["entries"] and "no such table yet" in str(store.info()["warnings"])


def test_writers_that_come_first_make_one_table(make):
    stores = [make()]
    stores += [DynamoDBOnlineStore(stores[0].place) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda store: store.put(plain_rows([Order(1)] * 3)), stores))
    assert applied == [[True] * 3] * 4
    assert [sequence_of(row) for row in stores[0].multi_get([key_of(n) for n in range(3)])] == [4] * 3
    for store in stores:
        store.close()


def test_a_table_is_not_made_where_that_is_not_allowed(make):
    store = make(create="false")
    for write in (lambda: store.put([plain_row(1)]), store.provision):
        with pytest.raises(ConfigError, match="create=false"):
            write()
    assert store.multi_get([key_of(1)]) == [None]


def test_the_table_of_another_program_is_refused(make, dynamodb_server):
    store = make()
    dynamodb_server.client.create_table(
        TableName=store.place.table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for look in (store.provision, store.info):
        with pytest.raises(ConfigError, match="none of headwater's"):
            look()


def test_a_table_that_keeps_what_expired_or_has_a_limit_is_told(make, dynamodb_server):
    store = make(create="false")
    dynamodb_server.client.create_table(
        TableName=store.place.table,
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "k", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "B"} for name in ("p", "k")],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    store.provision()
    assert store.put([plain_row(1)]) == [True]
    assert "provisioned" in str(store.info()["warnings"]) and "expired rows are kept" in str(store.info()["warnings"])


def test_apply_makes_the_table_first(dynamodb_server, tmp_path):
    url = dynamodb_server.url()
    thing = hw.Entity("thing", join_keys={"id": hw.Int64})
    view = hw.FeatureView(
        "v", entity=thing, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)]
    )
    with hw.FeatureStore(tmp_path, online=url) as store:
        dynamodb_server.fail("CreateTable", "denied")
        with pytest.raises(StoreReadOnly, match="dynamodb:CreateTable"):
            store.apply([view])
        assert not store.list_feature_views()
        store.apply([view])
        assert store.list_feature_views()
        assert parse_url(url).table in dynamodb_server.client.list_tables()["TableNames"]
        store.write("v", [{"id": 1, "at": WHEN.replace(year=2024), "x": 7}])
        assert store.get_online_features(["v:x"], [1, 2], consistency="strong").to_dict()["x"] == [7, None]
        manager = hw.FeatureConsistencyManager(store)
        assert len(manager.get_recent_writes()) == 1
        found = manager.ensure_write_propagation()
        assert found.complete and found.replicas == {"eventual reads": 0}


def test_a_child_process_has_a_client_of_its_own(make):
    store, rows = make(), plain_rows([Order(1)] * 120)
    fill(store, rows)
    keys, wanted = [key for key, _ in rows], [row for _, row in rows]
    assert store.multi_get(keys) == wanted
    child = os.fork()
    if child == 0:
        os._exit(0 if all(store.multi_get(keys) == wanted for _ in range(3)) else 1)
    assert all(store.multi_get(keys) == wanted for _ in range(3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# expiry and the guard


def test_a_row_may_expire_until_it_is_put_without(make, item):
    store, (key, row) = make(), plain_row(1, Order(1))
    store.put([(key, row)], expires_in=3600)
    assert item(store, key)["t"] == {"N": str(int(WHEN.timestamp()) + 3600)}
    store.put([(key, row)], expires_in=7200)
    assert item(store, key)["t"] == {"N": str(int(WHEN.timestamp()) + 7200)}
    store.put([(key, row)])
    assert "t" not in item(store, key)


def test_a_row_with_a_d_does_not_expire(make, item):
    store, (key, row) = make(), plain_row(1, Order(1))
    store.put([(key, row)], expires_in=3600)
    assert store.compare_and_put(key, 1, emptied(row, 5))
    assert "t" not in item(store, key) and "d" in item(store, key)
    assert store.put([(key, row), plain_row(1, Order(9))], expires_in=3600) == [False, True]
    assert "t" not in item(store, key) and "d" in item(store, key)
    assert sequence_of(store.multi_get([key])[0]) == 3


_TIMES = st.integers(-1, 2)
_ORDERS = st.builds(Order, _TIMES, _TIMES, st.integers(0, 1), st.integers(0, 1))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    orders=st.lists(st.tuples(_ORDERS, st.none() | _TIMES, st.booleans()), min_size=1, max_size=6),
    raw=st.none() | st.binary(max_size=50),
)
def test_each_put_is_the_guards(make_one, orders, raw):
    store, client, key = make_one
    store.delete([key])
    stored = raw
    if raw is not None:
        client.put_item(TableName=store.place.table, Item={**address(key), "r": {"B": raw}})
    for order, through, expires in orders:
        _, row = plain_row(1, order)
        if through is not None:
            row = emptied(row, through)[:22] + row[22:]  # a row that comes with a D of its own
        merged = None
        try:
            merged = merge(stored, row)
        except FormatError:
            with pytest.raises(FormatError):
                store.put([(key, row)])
            continue
        assert store.put([(key, row)], expires_in=60 if expires else None) == [merged is not None]
        stored = stored if merged is None else merged
        assert store.multi_get([key]) == [stored]


@pytest.fixture
def make_one(make, dynamodb_server):
    store = make()
    store.provision()
    return store, dynamodb_server.client, key_of(1)


def test_a_row_stored_in_one_piece_is_still_guarded(make_one):
    store, client, key = make_one
    _, row = plain_row(1, Order(5))
    later = replaced(row, row)
    client.put_item(TableName=store.place.table, Item={**address(key), "r": {"B": later}})
    assert not store.compare_and_put(key, 0, row) and not store.compare_and_put(key, 1, row)
    assert store.put([plain_row(1, Order(4)), plain_row(1, Order(6))]) == [False, True]
    assert sequence_of(store.multi_get([key])[0]) == 3
    client.put_item(TableName=store.place.table, Item={**address(key), "r": {"B": later}})
    assert store.compare_and_put(key, 2, None) and store.multi_get([key]) == [None]


def test_a_row_too_large_for_dynamodb_is_refused(make):
    store = make()
    with pytest.raises(StoreError, match="400 KB"):
        store.put([plain_row(1, text="x" * 500_000)])


# reads


def _asked(store, level):
    """What a read sends."""
    sent = []
    wire = store._client()[0]
    send = wire.send
    wire.send = lambda request: (sent.append(msgspec.json.decode(request.body)), send(request))[1]
    store.read([key_of(n) for n in range(150)] * 2, level, {})
    del wire.send
    return [request["RequestItems"][store.place.table] for request in sent]


@pytest.mark.parametrize("level", list(ConsistencyLevel))
def test_all_but_eventual_reads_are_consistent(make, level):
    asked = _asked(make(), level)
    assert sorted(len(request["Keys"]) for request in asked) == [50, 100]
    assert {request["ConsistentRead"] for request in asked} == {level is not EVENTUAL}


@pytest.mark.parametrize("kind", ["throttle", "internal", "half"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_read_that_is_throttled_is_whole_in_the_end(make, dynamodb_server, kind, asynchronous):
    store, rows = make(), plain_rows([Order(1)] * 130)
    fill(store, rows)
    dynamodb_server.fail("BatchGetItem", kind, 3)
    keys = [key for key, _ in rows][::-1]
    found = _read(store, keys, STRONG, None, None) if asynchronous else store.read(keys, STRONG, None)
    assert found.rows == [row for _, row in rows][::-1]


@pytest.mark.parametrize("kind", ["throttle", "internal", "half"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_read_that_stays_throttled_ends_in_time(make, dynamodb_server, kind, asynchronous):
    store = make(patience="300ms")
    store.put([plain_row(1)])
    dynamodb_server.fail("BatchGetItem", kind, 1_000)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"throttled|InternalServerError"):
        _read(store, [key_of(1)], STRONG, None, None) if asynchronous else store.multi_get([key_of(1)])
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_late_for_a_deadline_is_unread_and_the_rest_is_there(make, dynamodb_server, asynchronous):
    store, rows = make(), plain_rows([Order(1)] * 150)
    fill(store, rows)
    dynamodb_server.fail("BatchGetItem", "late", 1, 3.0)
    keys = [key for key, _ in rows]
    began = time.monotonic()
    call = (keys, EVENTUAL, None, 1.5)
    found = (_read(store, *call) if asynchronous else store.read(*call)).rows
    assert time.monotonic() - began < 2.5
    parts = {keys[0]: found[:100], keys[100]: found[100:]}
    late = [first for first, part in parts.items() if part == [UNREAD] * len(part)]
    assert len(late) == 1
    (there,) = parts.keys() - set(late)
    start = keys.index(there)
    assert parts[there] == [row for _, row in rows[start : start + len(parts[there])]]
    dynamodb_server.fail("BatchGetItem", "none")


def _read(store, *call) -> Reading:
    async def read():
        reads = store.asynchronous()
        try:
            return await reads.read(*call)
        finally:
            await reads.close()

    return asyncio.run(read())


def test_asynchronous_reads_give_the_same(make):
    store = make()
    fill(store, plain_rows([Order(n) for n in range(120)]))
    asked = [key_of(n) for n in (3, 99, 500, 3, -1, 119, *range(120))]

    async def check():
        reads = store.asynchronous()
        assert isinstance(reads, AsyncReads)
        assert await reads.multi_get([]) == []
        assert await reads.multi_get(asked) == store.multi_get(asked)
        for level in ConsistencyLevel:
            assert await reads.read(asked, level, {}, 20.0) == store.read(asked, level, {})
        await reads.close()
        await reads.close()

    asyncio.run(check())


def test_a_cancelled_read_leaves_the_client_whole(make):
    store, rows = make(), plain_rows([Order(n) for n in range(110)])
    fill(store, rows)
    keys, wanted = [key for key, _ in rows], [row for _, row in rows]

    async def check():
        reads, chance = store.asynchronous(), random.Random(1)
        for _ in range(12):
            part = chance.sample(range(len(keys)), 5)
            asked = asyncio.ensure_future(reads.multi_get(keys))
            await asyncio.sleep(chance.uniform(0, 0.05))
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert await reads.multi_get([keys[i] for i in part]) == [wanted[i] for i in part]
        assert len(asyncio.all_tasks()) == 1
        await reads.close()

    asyncio.run(check())


# writes


@pytest.mark.parametrize("kind", ["throttle", "internal"])
def test_puts_that_are_throttled_are_all_there_in_the_end(make, dynamodb_server, kind):
    store, rows = make(), plain_rows([Order(1)] * 40)
    store.provision()
    dynamodb_server.fail("UpdateItem", kind, 20)
    assert store.put(rows) == [True] * 40
    assert store.multi_get([key for key, _ in rows]) == [row for _, row in rows]


def test_batches_without_a_condition_are_finished(make, dynamodb_server):
    store, rows = make(), plain_rows([Order(1)] * 60)
    fill(store, rows)
    dynamodb_server.fail("BatchWriteItem", "half", 6)
    store.put([], {b"\0hwmeta\0%d" % n: b"meta" for n in range(30)})
    dynamodb_server.fail("BatchWriteItem", "half", 6)
    store.delete(key for key, _ in rows)
    assert dict(store.scan(b"")) == {b"\0hwmeta\0%d" % n: b"meta" for n in range(30)}
    dynamodb_server.fail("BatchWriteItem", "none")


def test_puts_that_stay_throttled_end_in_time(make, dynamodb_server):
    store = make(write_patience="300ms")
    store.provision()
    dynamodb_server.fail("UpdateItem", "throttle", 1_000)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="throttled"):
        store.put(plain_rows([Order(1)] * 50))
    assert time.monotonic() - began < 5


def test_a_compare_whose_outcome_is_not_known_is_not_tried_again(make, dynamodb_server):
    store, (key, row) = make(), plain_row(1)
    store.provision()
    dynamodb_server.fail("PutItem", "internal", 1)
    with pytest.raises(Unavailable, match="InternalServerError"):
        store.compare_and_put(key, 0, row)
    dynamodb_server.fail("PutItem", "throttle", 2)
    assert store.compare_and_put(key, 0, row)


def test_what_the_credentials_do_not_allow_is_told(make, dynamodb_server):
    store = make()
    store.provision()
    dynamodb_server.fail("UpdateItem", "denied")
    with pytest.raises(StoreReadOnly, match="dynamodb:UpdateItem"):
        store.put([plain_row(1)])
    dynamodb_server.fail("BatchGetItem", "denied")
    with pytest.raises(Unavailable, match="dynamodb:BatchGetItem"):
        store.multi_get([key_of(1)])


def test_a_service_that_is_down_or_hangs_is_told_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"dynamodb://eu-west-1?endpoint=http://127.0.0.1:{server.getsockname()[1]}&timeout=200ms"
        _in_vain(DynamoDBOnlineStore(url))
    _in_vain(DynamoDBOnlineStore(url))


def _in_vain(store):
    calls = [
        lambda: store.multi_get([key_of(n) for n in range(250)]),
        lambda: store.put(plain_rows([Order()] * 100)),
        lambda: store.put([], {b"meta": b"data"}),
        lambda: store.compare_and_put(key_of(1), 0, None),
        lambda: store.delete([key_of(1)]),
        lambda: list(store.scan(key_of(1))),
        lambda: store.info(),
        lambda: store.provision(),
        lambda: _read(store, [key_of(n) for n in range(250)], STRONG, None, None),
    ]
    for call in calls:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            call()
        assert time.monotonic() - began < 5
    store.close()


def test_a_closed_store_says_so(make):
    store = make()
    store.put([plain_row(1)])
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.multi_get([key_of(1)])
