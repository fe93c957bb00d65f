"""What travels to other processes whole, and what says that it cannot."""

import copy
import multiprocessing
import pickle
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater import errors
from headwater.errors import ConsistencyLost, DefinitionError, HeadwaterError, RowsRejected, UsageError
from headwater.online.stores.dynamodb.store import DynamoDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.online.stores.redis.store import RedisOnlineStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STOP = hw.Entity("stop", join_keys={"name": hw.String, "day": hw.Date})
FEATURES = [
    hw.Feature("whole", hw.Int64),
    hw.Feature("small", hw.Float32, default=1.5),
    hw.Feature("text", hw.String),
    hw.Feature("bytes", hw.Bytes),
    hw.Feature("at", hw.Timestamp),
    hw.Feature("on", hw.Date),
    hw.Feature("list", hw.Array(hw.Int64)),
    hw.Feature("vector", hw.Embedding(3)),
]
VALUES = {"whole": 1, "small": 0.1, "text": "é", "bytes": b"\0", "at": NOW, "on": NOW.date(), "list": [1, None]}
VIEW = hw.FeatureView("stops", entity=STOP, source=hw.PushSource(event_time="t"), features=FEATURES, ttl="1000d")
KEYS = [{"name": "x" * 600, "day": date(2020, 1, 1)}, {"name": "y", "day": None}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hw.FeatureStore]:
    with hw.FeatureStore(tmp_path, clock=lambda: NOW) as made:
        made.apply([STOP, VIEW])
        made.write("stops", [{**KEYS[0], "t": NOW, **VALUES, "vector": [1.0, 2.0, 3.0]}])
        yield made


def everything(store: hw.FeatureStore) -> dict[str, Any]:
    """What the methods of a store give, by what it is."""
    result = store.get_online_features(["stops:*"], KEYS)
    return {
        "plan": store.plan([STOP, VIEW]),
        "write report": store.write("stops", [{**KEYS[0], "name": "z", "t": NOW, **VALUES, "vector": None}]),
        "rejected": store.write("stops", [{"name": 5}], errors="report"),
        "run report": store.materialize(),
        "delete report": store.delete("stops", KEYS[:1]),
        "result": result,
        "vector": result.vectors()[0],
        "session": store.session(),
        "status": store.status(),
        "explained": store.prepare(["stops:*"]).explain(KEYS[:1]),
        "view": store.get_feature_view("stops"),
        "entity": store.get_entity("stop"),
        "definition": store.registry.get_feature_definition("stops:whole"),
        "snapshot": store.registry.snapshot(),
        "changes": store.registry.changes(),
        "metadata": store.get_historical_features(None, ["stops:whole"], at=NOW).metadata,
        "recent": store.context.recent.last(),
    }


def test_results_and_reports_come_back_as_they_were(store):
    for name, thing in everything(store).items():
        back = pickle.loads(pickle.dumps(thing))
        assert repr(back) == repr(thing), name
        if type(thing).__eq__ is not object.__eq__ and name != "explained":
            assert back == thing, name


@pytest.mark.parametrize("send", [lambda thing: pickle.loads(pickle.dumps(thing)), copy.copy, copy.deepcopy])
def test_a_result_has_all_its_forms_in_another_process(store, send):
    for options in ({}, {"max_age": "1us", "stale": "drop"}, {"now": "2030-01-01"}):
        result = store.get_online_features(["stops:*"], KEYS, **options)
        back = send(result)
        assert back.to_dict() == result.to_dict()
        assert back.statuses == result.statuses
        assert back.event_times == result.event_times
        assert back.freshness() == result.freshness()
        assert back.to_arrow() == result.to_arrow()
        assert back.versions == result.versions
        numbers = ["whole", "small"]
        assert back.to_numpy(columns=numbers).tobytes() == result.to_numpy(columns=numbers).tobytes()
        assert back.vectors()[0].calculate_freshness() == result.vectors()[0].calculate_freshness()


def _all_errors(kind: type[HeadwaterError] = HeadwaterError) -> Iterator[type[HeadwaterError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _all_errors(below)


@pytest.mark.parametrize("kind", sorted(set(_all_errors()), key=lambda kind: kind.__name__))
def test_every_error_comes_back_as_it_was(kind):
    for made in (kind("what was wrong"), kind("what was wrong: {}%s\n")):
        made.add_note("seen in a test")
        back = pickle.loads(pickle.dumps(made))
        assert type(back) is kind
        assert (str(back), back.args, vars(back)) == (str(made), made.args, vars(made))


@pytest.mark.parametrize("kind", [DefinitionError, RowsRejected])
def test_problems_come_back(kind):
    back = pickle.loads(pickle.dumps(kind("2 problems", ["row 0: bad", "row 1: worse"])))
    assert back.problems == ("row 0: bad", "row 1: worse")
    assert str(back) == "2 problems\n  row 0: bad\n  row 1: worse"


def test_a_lost_session_comes_back_with_the_one_to_go_on_with():
    lost = ConsistencyLost("gone", hw.Session("store", {"a": 1}), {"a": 1})
    back = pickle.loads(pickle.dumps(lost))
    assert back.session == hw.Session("store", {"a": 1})
    assert back.marks == {"a": 1}
    back.session.advance("store", {"a": 2})
    assert lost.session.marks == {"a": 1}


def _write_nothing(path: Path, session: hw.Session) -> hw.Session:
    with hw.FeatureStore(path) as store:
        store.write("stops", [{"name": 5}], session=session)
    return session


def test_an_error_of_a_worker_reaches_who_waits_for_it(store, tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(RowsRejected) as raised:
        pool.apply(_write_nothing, (tmp_path, store.session()))
    assert raised.value.problems


def parts(store: hw.FeatureStore) -> Iterator[tuple[Any, str]]:
    here = r"make one in each process: hw.FeatureStore\('path'\)"
    context = store.context
    yield from ((part, here) for part in (store, hw.AsyncFeatureStore.of(store), store.registry, context, context.log))
    yield from ((part, here) for part in (context.engine, context.online, context.versions, context.leases))
    yield from (
        (part, here)
        for part in (
            store.services,
            store.services.fetcher,
            store.services.requests,
            context.recent,
            context.refresh_queue,
            context.refresh_records,
        )
    )
    yield hw.FeatureConsistencyManager(store), here
    yield MemoryOnlineStore(), here
    yield RedisOnlineStore("redis://127.0.0.1:1"), here
    yield DynamoDBOnlineStore("dynamodb://eu-west-1?endpoint=http://127.0.0.1:1"), here
    yield store.prepare(["stops:whole"]), r"make one in each process: store.prepare\(features\)"
    yield store.get_historical_features(None, ["stops:whole"], at=NOW), r"send its rows, to_arrow\(\)"


def test_what_holds_connections_says_what_to_do_instead(store):
    for part, advice in parts(store):
        for send in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(
                UsageError, match=f"{type(part).__name__} objects cannot be pickled or copied: {advice}"
            ):
                send(part)
