"""The ring of recent writes: what it keeps of each, in order, and no more than it may."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.recent import SAMPLE, RecentWrite, RecentWrites, sample
from tests.unit.compute.conftest import T0, Bench

USER = hw.Entity("user", join_keys={"user": hw.Int64})
CLICKS = hw.FeatureView(
    "clicks", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64)]
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.apply(USER, CLICKS)
    bench.at = T0 + timedelta(hours=1)
    yield bench
    bench.close()


def rows(*users: int) -> list[dict[str, object]]:
    return [{"user": user, "at": T0, "n": user} for user in users]


def test_writes_and_deletes_are_kept_the_newest_first(bench: Bench) -> None:
    bench.write("clicks", rows(1, 2))
    bench.pass_time(minutes=1)
    bench.delete("clicks", [1])
    deleted, written = bench.context.recent.last()
    assert (written.kind, written.view, written.rows, written.position) == ("write", "clicks", 2, 2)
    assert (deleted.kind, deleted.rows, deleted.position) == ("delete", 1, 3)
    assert written.entities == [{"user": 1}, {"user": 2}] and deleted.entities == [{"user": 1}]
    assert [write.at - T0 for write in (written, deleted)] == [timedelta(hours=1), timedelta(hours=1, minutes=1)]
    assert written.marks is None and written.durable
    found = bench.context.online.multi_get([key for key, _ in written.sample])
    assert all(row is not None for row in found)


def test_rows_that_did_not_come_online_are_in_no_sample(bench: Bench) -> None:
    bench.write("clicks", rows(1))
    bench.write("clicks", [{"user": 1, "at": T0 - timedelta(days=1), "n": 0}, *rows(2)])
    assert bench.context.recent.last()[0].entities == [{"user": 2}]
    bench.write("clicks", rows(3), to="offline")
    assert len(bench.context.recent.last()) == 2


def test_each_version_s_rows_are_in_the_sample_and_each_entity_once(bench: Bench) -> None:
    more = hw.FeatureView(
        "clicks", entity=USER, source=CLICKS.source, features=[*CLICKS.features, hw.Feature("m", hw.Int64)]
    )
    bench.apply(more)
    bench.write("clicks", [{"user": 1, "at": T0, "n": 1, "m": 1}])
    (write,) = bench.context.recent.last()
    assert write.entities == [{"user": 1}] and len({key for key, _ in write.sample}) == 2


def test_a_large_write_keeps_few_keys(bench: Bench) -> None:
    bench.write("clicks", rows(*range(1_000)))
    (write,) = bench.context.recent.last()
    assert write.rows == 1_000 and len(write.sample) == SAMPLE


def test_the_ring_lets_the_oldest_go_and_filters_by_view() -> None:
    ring = RecentWrites(kept=3)
    for i in range(5):
        ring.add(RecentWrite(T0, "write", "a" if i % 2 else "b", i, (), i))
    assert [write.rows for write in ring.last()] == [4, 3, 2]
    assert [write.rows for write in ring.last("b")] == [4, 2]
    assert [write.rows for write in ring.last(limit=1)] == [4]


def test_a_sample_of_a_global_view_has_the_one_entity() -> None:
    assert sample(pa.table({"x": [1]}), [], [(b"k", b"row")], [True]) == ((b"k", {}),)
