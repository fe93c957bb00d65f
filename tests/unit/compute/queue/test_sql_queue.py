"""The refresh queue: the same on SQLite, PostgreSQL and Redis."""

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from headwater.compute.queue import tables as refresh_tables
from headwater.compute.queue.records import RefreshRecords
from headwater.compute.queue.sql_queue import SQLHintQueue
from headwater.database.engine import open_engine
from headwater.errors import FormatError
from headwater.online.hints import Claim, Hint, HintQueue, Outcome, OutcomeKind
from headwater.online.stores.redis.scripts import Script
from headwater.online.stores.redis.store import RedisOnlineStore

SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOW = 1_700_000_000 * SECOND
LEASE = 10 * SECOND
LIMIT = 50


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis", "redis_cluster"])
def queue(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[HintQueue]:
    if request.param.startswith("redis"):
        server = request.getfixturevalue("redis_server" if request.param == "redis" else "redis_cluster")
        store = RedisOnlineStore(server.url)
        yield store.hint_queue(f"{request.node.name}{random.random()}", LIMIT)
        store.close()
        return
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = "sqlite://" if request.param == "memory" else "sqlite:///queue.db"
    engine = open_engine(url, tmp_path)
    yield SQLHintQueue(engine, LIMIT)
    engine.dispose()


def hint(name: str, age: int = 2, view: str = "weather", **more: Any) -> Hint:
    """A hint whose row is so many SLAs old."""
    settings = {"event": NOW - age * HOUR, "sla": HOUR, "asked_at": NOW, **more}
    return Hint(view, "1.0.0", f"{view} {name}\0\xff".encode("latin-1"), **settings)


def claim(
    queue: HintQueue, limit: int = 100, now: int = NOW, views: tuple[str, ...] = ("weather", "load")
) -> list[Claim]:
    return queue.claim(views, limit, now, LEASE)


def names(claims: list[Claim]) -> list[str]:
    return [c.hint.key.decode("latin-1").split()[1].rstrip("\0\xff") for c in claims]


def test_looking_at_a_queue_that_is_not_there_makes_none(queue: HintQueue) -> None:
    assert claim(queue) == [] and queue.dead(5) == [] and queue.replay(["weather"], NOW) == 0
    assert queue.forget("weather", lambda version, key: True) == 0
    counts = queue.counts(NOW)
    assert (counts.waiting, counts.claimed, counts.resting, counts.dead, counts.oldest) == (0, 0, 0, 0, None)


def test_a_hint_comes_back_as_it_was_given_and_is_claimed_once(queue: HintQueue) -> None:
    given = Hint("weather", "2.1.0", bytes(range(256)) * 3, -(2**45) - 7, 1, NOW - 5, 3)
    assert queue.offer([given], NOW) == 0
    found = claim(queue)
    assert [c.hint for c in found] == [given] and found[0].tries == 1
    assert claim(queue) == []
    counts = queue.counts(NOW)
    assert (counts.waiting, counts.claimed, counts.oldest) == (0, 1, NOW - 5)
    queue.settle([Outcome(found[0], OutcomeKind.DONE)])
    assert queue.counts(NOW).claimed == 0 and claim(queue, now=NOW + HOUR) == []


def test_one_hint_a_key_however_often_it_is_asked_for(queue: HintQueue) -> None:
    for asked_at in (NOW, NOW + 1, NOW + 2):
        queue.offer(
            [hint("a", sla=HOUR - asked_at + NOW, event=NOW - HOUR * 3 + asked_at - NOW, asked_at=asked_at)], NOW
        )
    (found,) = claim(queue)
    assert (found.hint.asked, found.hint.asked_at, found.hint.sla) == (3, NOW, HOUR - 2)
    assert found.hint.event == NOW - 3 * HOUR + 2


def test_the_most_urgent_first(queue: HintQueue) -> None:
    queue.offer([hint("mild", 2), hint("late", 40), hint("asked", 2, asked=3)], NOW)
    assert names(claim(queue, 1)) == ["late"]
    assert names(claim(queue, 1)) == ["asked"]
    assert names(claim(queue, 1)) == ["mild"]


def test_asking_again_raises_a_hint(queue: HintQueue) -> None:
    queue.offer([hint("first", 6), hint("second", 3)], NOW)
    for _ in range(10):
        queue.offer([hint("second", 3)], NOW)
    assert names(claim(queue, 1)) == ["second"] and names(claim(queue)) == ["first"]


def test_only_the_views_asked_for(queue: HintQueue) -> None:
    queue.offer([hint("a"), hint("b", view="load")], NOW)
    assert names(claim(queue, views=("load",))) == ["b"] and names(claim(queue, views=("weather",))) == ["a"]


def test_a_full_queue_drops_the_least_urgent_and_says_how_many(queue: HintQueue) -> None:
    assert queue.offer([hint(f"k{i}", 2) for i in range(LIMIT)], NOW) == 0
    assert queue.offer([hint(f"late{i}", 100) for i in range(7)], NOW) == 7
    found = names(claim(queue))
    assert len(found) == LIMIT and sorted(found[:7]) == [f"late{i}" for i in range(7)]
    # what workers have is not dropped: what finds no room is
    assert queue.offer([hint("more", 100)], NOW) == 1
    assert claim(queue) == []


def test_a_key_without_newer_data_rests_and_asks_again_after_that(queue: HintQueue) -> None:
    queue.offer([hint("a"), hint("b")], NOW)
    found = claim(queue)
    queue.settle([Outcome(c, OutcomeKind.REST, NOW + 60 * SECOND) for c in found])
    queue.offer([hint("a")], NOW + 10 * SECOND)
    assert claim(queue, now=NOW + 20 * SECOND) == [] and queue.counts(NOW + 20 * SECOND).resting == 2
    # a row that became newer meanwhile, and stale again, is another matter
    queue.offer([hint("b", event=NOW - HOUR - 1)], NOW + 30 * SECOND)
    again = claim(queue, now=NOW + 30 * SECOND)
    assert names(again) == ["b"] and again[0].tries == 1 and again[0].hint.event == NOW - HOUR - 1
    queue.settle([Outcome(again[0], OutcomeKind.DONE)])
    assert queue.counts(NOW + 61 * SECOND).resting == 0
    queue.offer([hint("a", asked_at=NOW + 61 * SECOND)], NOW + 61 * SECOND)
    (later,) = claim(queue, now=NOW + 61 * SECOND)
    assert (later.hint.asked, later.hint.asked_at, later.tries) == (1, NOW + 61 * SECOND, 1)


def test_what_failed_is_tried_again_when_it_is_due_and_dies_in_the_end(queue: HintQueue) -> None:
    queue.offer([hint("a"), hint("b", view="load")], NOW)
    for tries in (1, 2):
        found = claim(queue, now=NOW + tries * 10 * SECOND)
        assert [c.tries for c in found] == [tries] * 2
        queue.settle([Outcome(c, OutcomeKind.RETRY, NOW + (tries + 1) * 10 * SECOND, "no source") for c in found])
        assert claim(queue, now=NOW + tries * 10 * SECOND + 9 * SECOND) == []
        assert queue.counts(NOW).waiting == 2
    found = claim(queue, now=NOW + 30 * SECOND)
    queue.settle([Outcome(c, OutcomeKind.DEAD, NOW + i * SECOND, f"still no source {i}") for i, c in enumerate(found)])
    assert claim(queue, now=NOW + HOUR) == []
    letters = queue.dead(10)
    assert [(d.tries, d.died_at, d.error) for d in letters] == [
        (3, NOW + SECOND, "still no source 1"),
        (3, NOW, "still no source 0"),
    ]
    assert len(queue.dead(1)) == 1 and queue.counts(NOW).dead == 2
    # a dead letter stays one, however often it is asked for
    queue.offer([hint("a"), hint("b", view="load")], NOW + HOUR)
    assert claim(queue, now=NOW + HOUR) == []
    assert queue.replay(["load"], NOW + HOUR) == 1
    (again,) = claim(queue, now=NOW + HOUR)
    assert again.hint.view == "load" and again.tries == 1
    assert [d.hint.view for d in queue.dead(10)] == ["weather"]


def test_what_a_dead_worker_had_is_claimed_by_another(queue: HintQueue) -> None:
    queue.offer([hint("a"), hint("b")], NOW)
    lease = 1_500_000
    lost = queue.claim(["weather"], 10, NOW, lease)
    assert len(lost) == 2 and queue.claim(["weather"], 10, NOW + lease - 1, lease) == []
    if queue.kind != "table":
        time.sleep(1.55)  # a lease is Redis's own time, and a busy host may be late
    taken = queue.claim(["weather"], 10, NOW + lease, lease)
    assert names(taken) == names(lost) and [c.tries for c in taken] == [2, 2]
    # the first was only slow: what it failed at is another's now, what it did is done
    queue.settle([Outcome(lost[0], OutcomeKind.DEAD, NOW, "late"), Outcome(lost[1], OutcomeKind.DONE)])
    counts = queue.counts(NOW)
    assert (counts.dead, counts.claimed) == (0, 1)
    queue.settle([Outcome(c, OutcomeKind.DONE) for c in taken])
    assert queue.counts(NOW).claimed == 0


def test_purged_keys_are_forgotten_wherever_they_are(queue: HintQueue) -> None:
    queue.offer([hint(n) for n in ("waits", "claimed", "rests", "dead", "kept")] + [hint("other", view="load")], NOW)
    by_name = dict(zip(names(found := claim(queue, views=("weather",))), found, strict=True))
    queue.settle(
        [Outcome(by_name["rests"], OutcomeKind.REST, NOW + HOUR), Outcome(by_name["dead"], OutcomeKind.DEAD, NOW, "x")]
    )
    queue.settle(
        [Outcome(by_name["waits"], OutcomeKind.RETRY, NOW + HOUR), Outcome(by_name["kept"], OutcomeKind.RETRY, NOW)]
    )
    assert queue.forget("weather", lambda version, key: version == "1.0.0" and b"kept" not in key) == 4
    counts = queue.counts(NOW)
    assert (counts.waiting, counts.claimed, counts.resting, counts.dead) == (2, 0, 0, 0)
    assert sorted(names(claim(queue))) == ["kept", "other"]


def test_several_workers_share_without_doubles(queue: HintQueue) -> None:
    queue.offer([hint(f"k{i}") for i in range(LIMIT)], NOW)
    found: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        while claims := claim(queue, 5):
            with lock:
                found.extend(names(claims))
            queue.settle([Outcome(c, OutcomeKind.DONE) for c in claims])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"k{i}" for i in range(LIMIT))


def test_rests_and_dead_letters_are_bounded(queue: HintQueue) -> None:
    for round_ in range(3):
        for kind in (OutcomeKind.REST, OutcomeKind.DEAD):
            queue.offer([hint(f"{kind}{round_} {i}") for i in range(LIMIT)], NOW)
            queue.settle([Outcome(c, kind, NOW + HOUR + round_, "x") for c in claim(queue)])
    queue.offer([hint("one")], NOW)
    counts = queue.counts(NOW)
    assert (counts.waiting, counts.resting, counts.dead) == (1, LIMIT, LIMIT)
    assert {d.died_at for d in queue.dead(LIMIT)} == {NOW + HOUR + 2}


def test_a_table_of_a_newer_headwater_is_refused(tmp_path: Any) -> None:
    engine = open_engine("sqlite:///queue.db", tmp_path)
    refresh_tables.migrate(engine)
    with engine.begin() as connection:
        connection.execute(refresh_tables.formats.update().values(version=99))
    with pytest.raises(FormatError, match="format 99"):
        SQLHintQueue(engine, LIMIT).offer([hint("a")], NOW)
    engine.dispose()


def test_records_add_up_and_keep_the_last_times(tmp_path: Any) -> None:
    engine = open_engine("sqlite:///queue.db", tmp_path)
    records = RefreshRecords(engine)
    assert records.read().time_to_fresh.p50 is None and not sa.inspect(engine).get_table_names()
    records.add({"newer": 0})
    assert not sa.inspect(engine).get_table_names()
    for _ in range(2):
        records.add({"newer": 2, "failed": 0}, [("weather", i * SECOND) for i in range(1, 1001)], NOW)
    found = records.read()
    assert dict(found.totals) == {"newer": 4}
    assert found.time_to_fresh.count == 1_000
    assert found.time_to_fresh.p50 is not None and found.time_to_fresh.p50.total_seconds() == 500.5
    assert found.time_to_fresh.p95 is not None and round(found.time_to_fresh.p95.total_seconds()) == 950
    engine.dispose()


def damage(queue: HintQueue, chosen: list[Hint], choice: random.Random) -> None:
    """Store something else in place of parts of hints: SQLite takes anything in any column."""
    if not isinstance(queue, SQLHintQueue):
        items = [b"", b"{", b"[]", b"null", b"{}", b'"x"', b"\xff\xfe", b'{"view":1,"key":"zz"}', b"[" * 100]
        items += [b'{"view":"weather","version":"1","key":"00","event":"1","sla":"0","asked_at":"1","asked":1}']
        for hint in chosen:
            queue._call(_SPOIL, queue._keys, [hint.id.hex(), choice.choice(items)])  # type: ignore[attr-defined]
        return
    sqlite = queue._engine.dialect.name == "sqlite"
    numbers = ["0", "-1", str(2**62), str(1 - 2**63), str(2**63 - 1)] + ["'odd'", "X'ff'", "1.5"] * sqlite
    texts = ["'gone'"] + ["CAST(X'fffe' AS TEXT)", "7"] * sqlite
    keys = ["X''", "X'ffff'", "'text'", str(2**40)] if sqlite else ["'\\xffff'", "''"]
    columns = {"key": keys, "tries": ["2147483647", "-5"], "view": texts, "version": texts}
    columns |= dict.fromkeys(("event", "sla", "asked_at", "asked", "due"), numbers)
    with queue._engine.begin() as connection:
        for hint in chosen:
            name = choice.choice(sorted(columns))
            own = f"X'{hint.id.hex()}'" if sqlite else f"'\\x{hint.id.hex()}'"
            value = choice.choice(columns[name])
            connection.exec_driver_sql(f"UPDATE refresh_hints SET {name} = {value} WHERE id = {own}")


_SPOIL = Script(b"return redis.call('HSET', KEYS[1]..':items', ARGV[1], ARGV[2])")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("seed", range(12))
def test_damaged_rows_are_stepped_over_named_and_counted(queue: HintQueue, seed: int) -> None:
    choice = random.Random(seed)
    every = [hint(f"k{i}") for i in range(24)]
    queue.offer(every, NOW)
    if seed % 3 == 1:
        queue.settle([Outcome(c, OutcomeKind.DEAD, NOW + 1, "no source") for c in claim(queue)])
    if seed % 3 == 2:
        queue.settle([Outcome(c, OutcomeKind.RETRY, NOW - 1, "no source") for c in claim(queue)])
    spoilt = choice.sample(every, 7)
    damage(queue, spoilt, choice)
    sound = {h.key for h in every} - {h.key for h in spoilt}
    named: list[str] = []
    # listing dead letters goes on, and names the others
    letters = queue.dead(100, named)
    if seed % 3 == 1:
        assert sound <= {d.hint.key for d in letters} and len(letters) + len(named) <= len(every)
    assert queue.counts(NOW).dead >= 0
    queue.offer([hint("more"), *spoilt[:2]], NOW)
    queue.replay(["weather", "gone"], NOW)
    named, taken = [], []
    while some := queue.claim(["weather", "gone"], 10, NOW + SECOND, LEASE, named):
        taken += some
    assert sound | {hint("more").key} <= {c.hint.key for c in taken}
    assert len(named) == len(set(named)) <= len(spoilt)
    queue.settle([Outcome(c, OutcomeKind.DONE) for c in taken])
    # whose the key of a damaged row is nobody can tell: an erasure removes it
    queue.forget("load", lambda version, key: False)
    left = {d.hint.key for d in queue.dead(100)}
    assert not left & sound
    queue.offer(every, NOW)
    again = []
    while some := queue.claim(["weather"], 100, NOW + SECOND, LEASE):
        again += some
    assert sound <= {c.hint.key for c in again}


def test_what_a_fast_clock_let_wait_ends_once_it_is_repaired(queue: HintQueue) -> None:
    ahead, longest = NOW + 24 * 365 * HOUR, 2 * LEASE
    queue.offer([hint(name, asked_at=ahead) for name in ("rests", "retried", "died")], ahead)
    kinds = {"rests": OutcomeKind.REST, "retried": OutcomeKind.RETRY, "died": OutcomeKind.DEAD}
    claims = dict(zip(names(found := claim(queue, now=ahead)), found, strict=True))
    queue.settle([Outcome(claims[name], kind, ahead + HOUR) for name, kind in kinds.items()])
    # what is as long as it may be stays
    queue.offer([hint("rightly"), hint("retried-rightly")], NOW)
    claims = dict(zip(names(found := claim(queue)), found, strict=True))
    queue.settle(
        [
            Outcome(claims["rightly"], OutcomeKind.REST, NOW + HOUR),
            Outcome(claims["retried-rightly"], OutcomeKind.RETRY, NOW + longest),
        ]
    )
    assert queue.repair_clock(NOW, longest) == 3
    assert queue.repair_clock(NOW, longest) == 0
    assert queue.counts(NOW).resting == 1
    assert [letter.died_at for letter in queue.dead(9)] == [NOW]
    assert names(claim(queue)) == ["retried"]
    queue.offer([hint("rests"), hint("rightly")], NOW)
    assert names(claim(queue)) == ["rests"]


def test_the_lease_of_a_worker_with_a_fast_clock_ends_once_it_is_repaired(queue: HintQueue) -> None:
    ahead = NOW + 24 * 365 * HOUR
    queue.offer([hint("a")], NOW)
    assert names(claim(queue, now=ahead)) == ["a"]
    if queue.kind != "table":
        return  # Redis' own clock counts leases
    assert claim(queue, now=NOW + LEASE) == []
    assert queue.repair_clock(NOW, LEASE) == 1
    assert names(claim(queue)) == ["a"]
