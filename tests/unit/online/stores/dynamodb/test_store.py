"""The DynamoDB store beside its suite: its table, expiry, throttling and faults, reads on an event loop."""

import asyncio
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.clock import system_clock, to_micros
from headwater.errors import ConfigError, FormatError, StoreError, StoreReadOnly, Unavailable
from headwater.online.base import PutOutcome
from headwater.online.fetching.fetcher import Fetcher, ReadSettings
from headwater.online.guard import deleted_row, merge
from headwater.online.powers import UNREAD, Asynchronous, AsyncReads, LeveledReads, Provisioned, Reading
from headwater.online.rows.codec import carrying, emptied, is_newer, sequence_of, tombstone, tombstone_of
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.dynamodb import reads as plans
from headwater.online.stores.dynamodb.calls import Response
from headwater.online.stores.dynamodb.items import address, item_of
from headwater.online.stores.dynamodb.store import DynamoDBOnlineStore
from headwater.online.stores.dynamodb.url import parse_url
from headwater.testing import rounds
from headwater.testing.online_rows import Order, first_codec, key_of, order_of, plain_row, plain_rows
from headwater.types import ConsistencyLevel
from tests.servers.waiting import at_most

WHEN = datetime(2030, 1, 1, tzinfo=UTC)
META = META_PREFIX + b"an entry"
SUPERSEDED, APPLIED = PutOutcome.SUPERSEDED, PutOutcome.APPLIED
STRONG, EVENTUAL = ConsistencyLevel.STRONG, ConsistencyLevel.EVENTUAL


@pytest.fixture
def make(dynamodb_server):
    """A store, its table not made yet; all that were made are closed."""
    made = []

    def make(**options):
        given = {"timeout": "20s", "patience": "20s", "write_patience": "20s", **options}
        made.append(DynamoDBOnlineStore(dynamodb_server.url(**given), wall_clock=lambda: WHEN))
        return made[-1]

    yield make
    dynamodb_server.fail("", "none")
    for store in made:
        store.close()


def fill(store, rows):
    """Put rows without the guard, which the emulator does much faster."""
    writes = [{"PutRequest": {"Item": item_of(*row)}} for row in rows]
    for batch in plans.batches(writes):
        store._write(lambda batch=batch: plans.write_batch(store._writing(), batch))


@pytest.fixture
def item(dynamodb_server):
    """The item under a key, by the vendor's client."""

    def item(store, key):
        return dynamodb_server.client.get_item(TableName=store.location.table, Key=address(key)).get("Item")

    return item


# the table


def test_what_it_can_do(make):
    store = make()
    assert isinstance(store, LeveledReads) and isinstance(store, Asynchronous) and isinstance(store, Provisioned)
    assert store.capabilities.expiry and store.capabilities.levels == frozenset(ConsistencyLevel)
    assert "table-" in repr(store)


def test_a_table_is_made_ready_to_use_and_left_as_it_is(make, dynamodb_server):
    store = make()
    assert "the table does not exist yet" in str(store.info()["warnings"])
    store.provision()
    key, row = plain_row(1)
    store.put([(key, row)])
    store.provision()
    assert store.multi_get([key]) == [row]
    table = dynamodb_server.client.describe_table(TableName=store.location.table)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    told = dynamodb_server.client.describe_time_to_live(TableName=store.location.table)["TimeToLiveDescription"]
    assert (told["TimeToLiveStatus"], told["AttributeName"]) == ("ENABLED", "t")
    assert store.info()["warnings"] == "" and store.info()["kind"] == "dynamodb"


def test_nothing_is_there_before_the_table(make):
    store = make()
    assert store.multi_get([key_of(1), key_of(2)]) == [None, None]
    assert list(store.scan(b"")) == [] and list(store.scan(key_of(1))) == []
    store.delete([key_of(1)])
    assert not store.info()["entries"] and "the table does not exist yet" in str(store.info()["warnings"])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_read_says_that_the_table_is_not_there(make, dynamodb_server, asynchronous):
    store = make()

    def ask(level):
        return _read(store, [key_of(1)], level, None, None) if asynchronous else store.read([key_of(1)], level, None)

    for removed in (False, True):
        for level in (STRONG, EVENTUAL):
            with pytest.raises(Unavailable, match=r"the table does not exist: run apply, or check region and table="):
                ask(level)
        if not removed:
            row = plain_row(1)
            store.put([row])
            assert ask(STRONG).rows == [row[1]]
            dynamodb_server.client.delete_table(TableName=store.location.table)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_the_patience_bounds_a_read_whatever_retries_are_set(make, dynamodb_server, retries):
    store = make(patience="400ms")
    store.put([plain_row(1)])
    fetcher = Fetcher(store, ReadSettings(retries=retries), lambda: "store")
    dynamodb_server.fail("BatchGetItem", "throttle", 10_000)
    with at_most(0.8), pytest.raises(Unavailable, match=r"throttled for 0\.4 s"):
        fetcher.rows([key_of(1)])


def test_writers_that_come_first_make_one_table(make):
    stores = [make()]
    stores += [DynamoDBOnlineStore(stores[0].location) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda store: store.put(plain_rows([Order(1)] * 3)), stores))
    assert [len(outcomes) for outcomes in applied] == [3] * 4 and {APPLIED} == {*chain(*applied)}
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
        TableName=store.location.table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for look in (store.provision, store.info):
        with pytest.raises(ConfigError, match="not created by headwater"):
            look()


def test_a_table_that_keeps_what_expired_or_has_a_limit_is_told(make, dynamodb_server):
    store = make(create="false")
    dynamodb_server.client.create_table(
        TableName=store.location.table,
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "k", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "B"} for name in ("p", "k")],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    store.provision()
    assert store.put([plain_row(1)]) == [APPLIED]
    assert "provisioned" in str(store.info()["warnings"]) and ("expired rows are not removed") in str(
        store.info()["warnings"]
    )


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
    store.put([plain_row(1, Order(2))], expires_in=7200)
    assert item(store, key)["t"] == {"N": str(int(WHEN.timestamp()) + 7200)}
    store.put([plain_row(1, Order(3))])
    assert "t" not in item(store, key)


def test_a_row_with_a_tombstone_does_not_expire(make, item):
    store, (key, row) = make(), plain_row(1, Order(1))
    store.put([(key, row)], expires_in=3600)
    assert store.compare_and_put(key, sequence_of(row), emptied(row, 5, 7))
    stored = item(store, key)
    assert "t" not in stored and stored["q"] == {"B": (7).to_bytes(8, "big")}
    rows = [(key, row), plain_row(1, Order(9, 9, 1, 7)), plain_row(1, Order(9, 9, 1, 8))]
    assert store.put(rows, expires_in=3600) == [SUPERSEDED, SUPERSEDED, APPLIED]
    stored = item(store, key)
    assert "t" not in stored and "d" in stored and "q" in stored
    assert store.multi_get([key]) == [carrying(rows[2][1], tombstone(5, 7))]


_TIMES = st.integers(-1, 2)
_ORDERS = st.builds(Order, _TIMES, _TIMES, st.just(0), st.just(0)) | st.builds(
    Order, _TIMES, _TIMES, st.just(1), st.sampled_from([0, 1, 2, 300, 2**55 - 1])
)
_DELETES = st.tuples(_TIMES, st.sampled_from([0, 1, 2, 300]))


@settings(max_examples=rounds(20), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(_ORDERS, st.sampled_from("ab"), st.booleans()) | _DELETES, min_size=1, max_size=7),
    first=st.none() | st.binary(max_size=60) | st.tuples(_ORDERS, st.none() | _TIMES),
)
def test_each_put_is_the_guards(make_one, steps, first):
    store, client, key = make_one
    store.delete([key])
    stored = first
    if isinstance(first, tuple):
        order, through = first
        stored = first_codec(plain_row(1, order, "a")[1], through)
        client.put_item(TableName=store.location.table, Item=item_of_the_first_release(key, stored))
    elif first is not None:
        client.put_item(TableName=store.location.table, Item={**address(key), "r": {"B": first}})
    for step in steps:
        assert store.multi_get([key]) == [stored]
        if len(step) == 2:
            new = deleted_row(stored, *step)
            if new is not None and stored is not None and is_newer(stored):
                with pytest.raises(FormatError):
                    store.compare_and_put(key, sequence_of(stored), new)
            elif new is not None:
                assert store.compare_and_put(key, sequence_of(stored), new)
                stored = new
            continue
        order, text, expires = step
        _, row = plain_row(1, order, text)
        try:
            merged = merge(stored, row)
        except FormatError:
            with pytest.raises(FormatError):
                store.put([(key, row)])
            continue
        applied = isinstance(merged, bytes)
        assert store.put([(key, row)], expires_in=60 if expires else None) == [APPLIED if applied else merged]
        stored = merged if applied else stored
    assert store.multi_get([key]) == [stored]


def item_of_the_first_release(key, row):
    """A row of codec 1 as the release before stored it."""
    item = {**address(key), "r": {"B": row[:6] + row[47:]}, "o": {"B": row[22:47]}}
    item["s"] = {"N": str(int.from_bytes(row[6:14], "big"))}
    return item if row[14:22] == bytes(8) else {**item, "d": {"B": row[14:22]}}


@pytest.fixture
def make_one(make, dynamodb_server):
    store = make()
    store.provision()
    return store, dynamodb_server.client, key_of(1)


def test_a_row_stored_in_one_piece_is_still_guarded(make_one):
    store, client, key = make_one
    _, row = plain_row(1, Order(5))
    client.put_item(TableName=store.location.table, Item={**address(key), "r": {"B": row}})
    assert not store.compare_and_put(key, 0, row) and not store.compare_and_put(key, 1, row)
    assert store.put([plain_row(1, Order(4)), plain_row(1, Order(6))]) == [SUPERSEDED, APPLIED]
    client.put_item(TableName=store.location.table, Item={**address(key), "r": {"B": row}})
    assert store.compare_and_put(key, sequence_of(row), None) and store.multi_get([key]) == [None]


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
    return [request["RequestItems"][store.location.table] for request in sent]


@pytest.mark.parametrize("level", list(ConsistencyLevel))
def test_all_but_eventual_reads_are_consistent(make, level):
    store = make()
    store.provision()
    asked = _asked(store, level)
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
    with at_most(2), pytest.raises(Unavailable, match=r"throttled|InternalServerError"):
        _read(store, [key_of(1)], STRONG, None, None) if asynchronous else store.multi_get([key_of(1)])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_late_for_a_deadline_is_unread_and_the_rest_is_there(make, dynamodb_server, asynchronous):
    store, rows = make(), plain_rows([Order(1)] * 150)
    fill(store, rows)
    dynamodb_server.fail("BatchGetItem", "late", 1, 8.0)
    keys = [key for key, _ in rows]
    call = (keys, EVENTUAL, None, 3.0)
    with at_most(4.0):
        found = (_read(store, *call) if asynchronous else store.read(*call)).rows
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


def test_closed_reads_of_an_event_loop_refuse_and_open_nothing(make):
    async def check():
        reads = make().asynchronous()
        for _ in range(2):
            await reads.close()
            for deadline in (None, 20.0):
                with pytest.raises(Unavailable, match="was closed") as bad:
                    await reads.read([key_of(0)], ConsistencyLevel.STRONG, {}, deadline)
                assert bad.value.closed
        assert await reads.multi_get([]) == []
        assert reads.connections().idle == reads.connections().in_use == 0

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


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["throttle", "internal", "lost"])
@pytest.mark.parametrize("order", [Order(1), Order(1, 1, 1, 9)])
def test_puts_that_are_throttled_are_all_there_in_the_end(make, dynamodb_server, kind, order):
    store, rows = make(), plain_rows([order] * 40)
    store.provision()
    dynamodb_server.fail("UpdateItem", kind, 20)
    assert store.put(rows) == [APPLIED] * 40
    found = store.multi_get([key for key, _ in rows])
    assert [row[:6] + row[12:] for row in found] == [row[:6] + row[12:] for _, row in rows]
    assert len({sequence_of(row) for row in found}) == 40


def test_a_put_whose_answer_was_lost_does_not_bring_its_sequence_back(make, dynamodb_server):
    store, (key, row) = make(), plain_row(1, Order(9, 9, 1, 9))
    store.provision()
    dynamodb_server.fail("UpdateItem", "lost", 1)
    plan = plans.put_row(store._writing(), key, row, None)
    answer = store._client()[0].send(next(plan))
    assert answer.status == 500 and store.multi_get([key]) == [row]
    # a delete that the row outlives comes before the row is sent again
    assert store.compare_and_put(key, sequence_of(row), deleted_row(row, 3, 4))
    pause, wire = plan.send(answer), store._client()[0]
    assert isinstance(pause, float)
    with pytest.raises(StopIteration) as done:
        plan.send(wire.send(plan.send(None)))
    assert done.value.value is APPLIED
    (found,) = store.multi_get([key])
    assert sequence_of(found) != sequence_of(row) and tombstone_of(found) == tombstone(3, 4)
    assert not store.compare_and_put(key, sequence_of(row), row)


def test_batches_without_a_condition_are_finished(make, dynamodb_server):
    store, rows = make(), plain_rows([Order(1)] * 60)
    fill(store, rows)
    store.put_meta({b"\0hwmeta\0%d" % n: b"meta" for n in range(30)})
    dynamodb_server.fail("BatchWriteItem", "half", 6)
    store.delete(key for key, _ in rows)
    assert dict(store.scan(b"")) == {b"\0hwmeta\0%d" % n: b"meta" for n in range(30)}
    dynamodb_server.fail("BatchWriteItem", "none")


def test_puts_that_stay_throttled_end_in_time(make, dynamodb_server):
    store = make(write_patience="300ms")
    store.provision()
    dynamodb_server.fail("UpdateItem", "throttle", 1_000)
    with at_most(5), pytest.raises(Unavailable, match="throttled"):
        store.put(plain_rows([Order(1)] * 50))


def test_a_compare_whose_outcome_is_not_known_is_not_tried_again(make, dynamodb_server):
    store, (key, row) = make(), plain_row(1)
    store.provision()
    dynamodb_server.fail("PutItem", "internal", 1)
    with pytest.raises(Unavailable, match="InternalServerError"):
        store.compare_and_put(key, 0, row)
    dynamodb_server.fail("PutItem", "throttle", 2)
    assert store.compare_and_put(key, 0, row)


# bounds in time


class Sent:
    """What a store sends: operation and the time it was signed with; answers given in its place, if any."""

    def __init__(self, store, *answers):
        self.requests, self._answers = [], list(answers)
        self._wire = store._client()[0]
        self._send, self._wire.send = self._wire.send, self._send_kept

    def _send_kept(self, request):
        self.requests.append(request)
        return self._answers.pop(0) if self._answers else self._send(request)


def _refused(text):
    body = {"__type": "com.amazon.coral.service#InvalidSignatureException", "message": text}
    return Response(400, msgspec.json.encode(body))


def _until(store, **left):
    return to_micros(store.clock() + timedelta(**left))


WRITES = [
    lambda store, until: store.put([plain_row(1)], until=until, high_water=(META, 9)),
    lambda store, until: store.compare_and_put(key_of(1), 0, plain_row(1)[1], until=until, high_water=(META, 9)),
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("clock", [system_clock, lambda: WHEN, lambda: datetime(2020, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("minutes", [1, 9, 10, 60])
def test_writes_are_signed_ten_minutes_before_their_bound(make, write, clock, minutes):
    store = make()
    store.clock = clock
    store.provision()
    sent, before = Sent(store), system_clock()
    write(store, _until(store, minutes=minutes))
    after = system_clock()
    assert len(sent.requests) == 2
    for request in sent.requests:
        # never later than it is sent
        earliest, latest = (min(now, now + timedelta(minutes=minutes - 10)) for now in (before, after))
        assert earliest - timedelta(seconds=1) <= request.signed <= latest
        assert latest + timedelta(minutes=15) <= after + timedelta(minutes=max(minutes, 10) + 5)


def test_what_is_sent_again_keeps_the_time_of_the_first(make, dynamodb_server):
    store = make()
    store.provision()
    sent, until = Sent(store), _until(store, minutes=10)
    dynamodb_server.fail("UpdateItem", "throttle", 5)
    store.put([plain_row(1)], until=until)
    assert len(sent.requests) == 6
    signed = [request.signed for request in sent.requests]
    assert max(signed) - min(signed) <= timedelta(minutes=1) and max(signed) <= system_clock()
    store.put([plain_row(2)])
    assert sent.requests[-1].signed is None


def test_the_time_a_request_is_signed_with_goes_to_the_service(make):
    store, headers = make(), []
    store.provision()
    wire = store._client()[0]
    exchange = wire._exchange
    wire._exchange = lambda connection, request, given: (headers.append(given), exchange(connection, request, given))[1]
    store.put([plain_row(1)], until=_until(store, minutes=2))
    signed = datetime.strptime(headers[0]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert timedelta(minutes=7, seconds=55) < system_clock() - signed < timedelta(minutes=9)


@pytest.mark.parametrize("write", WRITES)
def test_what_is_held_up_past_its_bound_is_not_sent(make, write):
    store = make()
    store.provision()
    busy = Response(400, b'{"__type": "x#ThrottlingException", "message": "slow down"}')
    sent = Sent(store, *[busy] * 1_000)
    with pytest.raises(Unavailable, match="took too long"):
        write(store, _until(store, milliseconds=300))
    assert sent.requests
    del sent._answers[:]
    assert store.multi_get([key_of(1)]) == [None]


def test_a_service_that_takes_signatures_for_less_time_is_believed(make):
    store = make()
    store.provision()
    text = "Signature expired: 20300101T000000Z is now earlier than 20300101T000300Z (20300101T000800Z - 5 min.)"
    sent = Sent(store, _refused(text))
    assert store.put([plain_row(1)], until=_until(store, minutes=2)) == [APPLIED]
    assert store.put([plain_row(2)], until=_until(store, minutes=2)) == [APPLIED]
    first, *others = [system_clock() - request.signed for request in sent.requests]
    assert first > timedelta(minutes=7) and len(others) == 2 and max(others) < timedelta(minutes=2)


def test_a_signature_that_is_too_old_is_told_for_what_it_is(make):
    text = "Signature expired: 20300101T000000Z is now earlier than 20300101T001000Z (20300101T002500Z - 15 min.)"
    store = make()
    store.provision()
    Sent(store, _refused(text))
    with pytest.raises(Unavailable, match="took too long"):
        store.put([plain_row(1)], until=_until(store, minutes=1))
    Sent(store, _refused(text))
    with pytest.raises(Unavailable, match="clock of this host"):
        store.put([plain_row(1)], until=_until(store, minutes=10))
    Sent(store, _refused(text))
    with pytest.raises(Unavailable, match="clock of this host"):
        store.multi_get([key_of(1)])


def test_rows_expire_by_the_real_time_whatever_the_clock_is(make, item):
    store = make()
    store.clock = lambda: datetime(2001, 1, 1, tzinfo=UTC)
    store.put([plain_row(1)], expires_in=60)
    assert item(store, key_of(1))["t"] == {"N": str(int(WHEN.timestamp()) + 60)}


# meta entries


def test_meta_whose_answer_was_lost_is_sent_as_the_same_transaction(make, dynamodb_server):
    store = make()
    assert store.put_meta({META: b"1"})
    sent = Sent(store)
    dynamodb_server.fail("TransactWriteItems", "throttle", 1)
    assert store.put_meta({META: b"2"}, expected={META: b"1"})
    first, second = [msgspec.json.decode(request.body) for request in sent.requests]
    assert first == second and first["ClientRequestToken"]


@pytest.mark.parametrize(
    ("code", "outcome"), [("TransactionConflict", True), ("ConditionalCheckFailed", False), ("ValidationError", None)]
)
def test_a_transaction_that_is_cancelled_is_told_by_its_reasons(make, code, outcome):
    store = make()
    assert store.put_meta({META: b"1"})
    body = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
        "CancellationReasons": [{"Code": "None"}, {"Code": code, "Message": "why"}],
    }
    Sent(store, Response(400, msgspec.json.encode(body)))
    if outcome is None:
        with pytest.raises(StoreError, match="TransactionCanceledException"):
            store.put_meta({META: b"2"}, expected={META: b"1"})
    else:
        assert store.put_meta({META: b"2"}, expected={META: b"1"}) is outcome
    assert store.multi_get([META]) == [b"2" if outcome else b"1"]


def test_more_entries_than_a_transaction_takes_are_refused_whole(make):
    store = make()
    store.provision()
    with pytest.raises(StoreError, match="101 meta entries"):
        store.put_meta({META + b"%d" % n: b"x" for n in range(101)})
    assert list(store.scan(b"")) == []
    absent = {META + b"a%d" % n: None for n in range(40)}
    assert store.put_meta({META + b"%d" % n: b"x" for n in range(60)}, expected=absent)


def test_a_table_restored_from_a_backup_is_another_life(make, dynamodb_server):
    store, key = make(), META + b"w"
    store.provision()
    described = dynamodb_server.client.describe_table(TableName=store.location.table)["Table"]
    table = {"Table": {name: described[name] for name in ("TableStatus", "KeySchema", "AttributeDefinitions")}}

    def restored(number):
        """The table as it is, tokens included, under another id, which the emulator does not give."""
        table["Table"]["TableId"] = f"0000-{number}"
        wire = store._client()[0]
        send, answer = type(wire).send.__get__(wire), Response(200, msgspec.json.encode(table))
        wire.send = lambda request: answer if request.operation == "DescribeTable" else send(request)

    restored(1)
    epoch = store.epoch(META)
    assert store.epoch(META) == epoch and store.put_meta({key: b"1"}, epoch=(META, epoch))
    restored(2)
    assert not store.put_meta({key: b"2"}, epoch=(META, epoch))
    assert store.multi_get([key]) == [b"1"] and store.epoch(META) != epoch
    assert store.put_meta({key: b"2"}, epoch=(META, store.epoch(META)))


def test_the_high_water_mark_is_there_before_the_rows(make, dynamodb_server):
    store = make()
    store.provision()
    sent = Sent(store)
    store.put(plain_rows([Order(1)] * 5), high_water=(META, 7))
    assert msgspec.json.decode(sent.requests[0].body)["Key"] == msgspec.json.decode(msgspec.json.encode(address(META)))
    dynamodb_server.fail("UpdateItem", "denied")
    with pytest.raises(StoreReadOnly):
        store.put(plain_rows([Order(2)] * 5), high_water=(META, 8))
    assert {order_of(row) for row in store.multi_get([key_of(n) for n in range(5)])} == {Order(1)}
    # a row that came from nowhere else than the store itself needs none
    store.put([plain_row(1, Order(3))], high_water=(META, 0))
    assert store.multi_get([META]) == [(7).to_bytes(8, "big")]


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
        lambda: store.put([], high_water=(META, 5)),
        lambda: store.put_meta({META: b"data"}),
        lambda: store.epoch(META),
        lambda: store.compare_and_put(key_of(1), 0, None),
        lambda: store.delete([key_of(1)]),
        lambda: list(store.scan(key_of(1))),
        lambda: store.info(),
        lambda: store.provision(),
        lambda: _read(store, [key_of(n) for n in range(250)], STRONG, None, None),
    ]
    for call in calls:
        with at_most(5), pytest.raises(Unavailable):
            call()
    store.close()


def test_a_closed_store_says_so(make):
    store = make()
    store.put([plain_row(1)])
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.multi_get([key_of(1)])
