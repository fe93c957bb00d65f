"""A write or delete with a key is done once: sent twice, at the same time, after failures and stops at any step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.writing.repeated import delete_once, write_once
from headwater.errors import IdempotencyKeyReused, RequestInProgress, RowsRejected, Unavailable
from headwater.offline.log.requests import KEPT, LEASE, Request
from headwater.testing import rounds

USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView("v", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)])
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Stopped(Exception):
    """Stands for the end of a process."""


@dataclass
class Bench:
    """A store whose online puts can fail or stop."""

    now: datetime = AT
    trouble: list[Exception] = field(default_factory=list)
    store: hw.FeatureStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = hw.FeatureStore.in_memory([VIEW], clock=self.clock)
        online = self.store.context.online
        for name in ("put", "compare_and_put"):
            setattr(online, name, self._troubled(getattr(online, name)))

    def clock(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def _troubled(self, call: Any) -> Any:
        def troubled(*args: Any, **more: Any) -> Any:
            if self.trouble:
                raise self.trouble.pop()
            return call(*args, **more)

        return troubled

    def write(self, key: str, x: int | None, user: int = 1, body: str = "", **options: Any) -> tuple[Any, bool]:
        rows = [{"user": user, "at": AT, "x": x}]
        return write_once(self.store.context, request(key, body or f"{user} {x}"), "v", rows, **options)

    def delete(self, key: str, user: int = 1, **options: Any) -> tuple[Any, bool]:
        return delete_once(self.store.context, request(key, f"{user} {options}"), "v", [user], **options)

    def read(self, user: int = 1) -> Any:
        return self.store.get_online_features(["v:x"], [user]).to_dict()["x"][0]

    @property
    def position(self) -> int:
        return self.store.context.log.head_position()


def request(key: str, body: str, owner: str = "") -> Request:
    return Request(owner, sha256(key.encode()).digest(), sha256(body.encode()).digest())


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.store.close()


def test_the_same_request_is_done_once_and_answered_twice(bench: Bench) -> None:
    first, before = bench.write("a", 1)
    assert (first.applied, before) == (1, False)
    bench.write("b", 2)
    again, before = bench.write("a", 1)
    assert (again, before) == (first, True)
    assert (bench.read(), bench.position) == (2, 2)
    deleted, before = bench.delete("c")
    assert not before
    bench.write("d", 3)
    assert bench.delete("c") == (deleted, True)
    assert (bench.read(), bench.position) == (3, 4)


def test_an_attempt_that_fails_before_it_begins_leaves_the_first_one_its_turn(bench: Bench, monkeypatch: Any) -> None:
    online = bench.store.context.online
    inside, go, put, claims = threading.Event(), threading.Event(), online.put, type(bench.store.context.claims)

    def slow(*args: Any, **more: Any) -> Any:
        inside.set()
        assert go.wait(60)
        return put(*args, **more)

    online.put = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bench.write, "a", 1)
        assert inside.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr(claims, "claim_online", lambda *_, **__: (_ for _ in ()).throw(Unavailable("away")))
            with pytest.raises(Unavailable, match="away"):
                bench.write("a", 1)
        with pytest.raises(RequestInProgress):
            bench.write("a", 1)
        go.set()
        assert first.result(60)[0].applied == 1
    assert bench.write("a", 1)[1] is True


def test_a_key_stands_for_one_request_of_one_owner_for_a_day(bench: Bench) -> None:
    bench.write("a", 1)
    with pytest.raises(IdempotencyKeyReused, match="stands for another request"):
        bench.write("a", 2)
    rows = [{"user": 1, "at": AT, "x": 5}]
    assert not write_once(bench.store.context, request("a", "other", "someone"), "v", rows)[1]
    bench.now += timedelta(microseconds=KEPT + 1_000_000)
    assert bench.write("a", 2)[1] is False
    assert bench.read() == 2


def test_what_was_refused_may_be_sent_again(bench: Bench) -> None:
    for _ in range(2):
        with pytest.raises(RowsRejected):
            write_once(bench.store.context, request("a", "bad"), "v", [{"user": "x", "at": AT, "x": 1}])
    report, _ = bench.write("a", 1, body="bad")
    assert report.applied == 1


def test_a_report_of_bad_rows_is_the_same_and_keeps_no_value(bench: Bench) -> None:
    rows = [{"user": 1, "at": AT, "x": 1}, {"user": 2, "at": AT, "x": "secret"}]
    both = [write_once(bench.store.context, request("a", "b"), "v", rows, errors="report") for _ in range(2)]
    assert both[0][0] == both[1][0] and [before for _, before in both] == [False, True]
    assert both[1][0].problems
    with bench.store.registry.engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT answer FROM log_requests").scalar_one()
    assert "secret" not in kept


@pytest.mark.parametrize("purge", [False, True])
def test_what_a_failed_store_left_undone_is_done_at_once_by_the_next(bench: Bench, purge: bool) -> None:
    bench.trouble = [Unavailable("away")]
    with pytest.raises(Unavailable, match="the rows are in the offline log"):
        bench.write("a", 1)
    assert bench.read() is None
    report, before = bench.write("a", 1)
    assert (report.applied, before, bench.read(), bench.position) == (1, False, 1, 1)
    bench.trouble = [Unavailable("away")]
    with pytest.raises(Unavailable, match="the delete is in the offline log"):
        bench.delete("d", purge=purge)
    report, before = bench.delete("d", purge=purge)
    assert (report.deleted, before, bench.read(), bench.position) == (1, False, None, 2)


def test_while_one_does_it_another_waits_and_takes_over_when_it_has_stopped(bench: Bench) -> None:
    bench.trouble = [Stopped()]
    with pytest.raises(Stopped):
        bench.write("a", 1)
    with pytest.raises(RequestInProgress):
        bench.write("a", 1)
    bench.write("b", 2)
    bench.now += timedelta(microseconds=LEASE)
    report, before = bench.write("a", 1)
    # the later write's row stays
    assert (report.superseded, before, bench.read(), bench.position) == (1, False, 2, 2)
    assert bench.write("a", 1)[1] is True


def test_threads_with_one_key_do_it_once(bench: Bench) -> None:
    start = threading.Barrier(8)

    def send(_: int) -> str:
        start.wait()
        try:
            return "again" if bench.write("a", 1)[1] else "done"
        except RequestInProgress:
            return "wait"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(send, range(8)))
    assert said.count("done") == 1
    assert bench.position == 1


def test_a_session_sees_what_an_earlier_request_wrote(bench: Bench) -> None:
    bench.write("a", 1)
    session = bench.store.session()
    bench.write("a", 1, session=session)
    assert session.store == bench.store.context.store_name


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "delete", "purge"]),
        st.integers(1, 2),
        st.lists(st.sampled_from([None, Unavailable("away"), Stopped()]), max_size=3),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=rounds(15))
@given(STEPS)
def test_every_request_takes_effect_once_in_the_order_of_its_first_arrival(steps: Any) -> None:
    """Sent until answered, some not until others were sent: as if each had been done once, when it came first."""
    bench = Bench()
    expected: dict[int, int | None] = {}
    late: list[tuple[str, int, int]] = []

    def send(kind: str, n: int, user: int) -> None:
        if kind == "write":
            bench.write(f"k{n}", n, user)
        else:
            bench.delete(f"k{n}", user, purge=kind == "purge")

    for n, (kind, user, troubles, leave) in enumerate(steps):
        expected[user] = n if kind == "write" else None
        for trouble in [*troubles, None]:
            bench.trouble = [] if trouble is None else [trouble]
            try:
                send(kind, n, user)
                break
            except (Unavailable, RequestInProgress):
                continue
            except Stopped:
                if leave:
                    break
                bench.now += timedelta(microseconds=LEASE)
        late.append((kind, n, user))
    bench.trouble = []
    bench.now += timedelta(microseconds=LEASE)
    for kind, n, user in reversed(late):
        send(kind, n, user)
    assert {user: bench.read(user) for user in expected} == expected
    assert bench.position == len(steps)
    bench.store.close()
