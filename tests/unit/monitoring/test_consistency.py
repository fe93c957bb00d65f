"""FeatureConsistencyManager on one node, and on a store whose eventual reads lag."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

import headwater as hw
from headwater.online.powers import Reading
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.types import ConsistencyLevel
from tests.servers.waiting import at_most

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
CLICKS = hw.FeatureView(
    "clicks", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64)]
)


class Lagging(MemoryOnlineStore):
    """Eventual reads see what there was at the last `catch_up`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[bytes, bytes] = {}
        self.fails = False

    def catch_up(self) -> None:
        self.seen = dict(self.scan(b""))

    def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        if self.fails:
            raise hw.errors.Unavailable("the replicas are away")
        rows = map(self.seen.get, keys) if level is ConsistencyLevel.EVENTUAL else self.multi_get(keys)
        return Reading(list(rows), {})


def rows(*users: int) -> list[dict[str, Any]]:
    return [{"user": user, "at": AT, "n": user} for user in users]


@pytest.fixture
def store() -> Iterator[hw.FeatureStore]:
    with hw.FeatureStore.in_memory([USER, CLICKS], clock=lambda: AT) as store:
        yield store


@pytest.fixture
def lagging(tmp_path: Any) -> Iterator[tuple[hw.FeatureStore, Lagging]]:
    online = Lagging()
    with hw.FeatureStore(tmp_path, online=online, clock=lambda: AT) as store:
        store.apply([USER, CLICKS])
        yield store, online


def test_writes_are_listed_the_newest_first_and_by_view(store: hw.FeatureStore) -> None:
    manager = hw.FeatureConsistencyManager(store)
    assert manager.get_recent_writes() == []
    store.write("clicks", rows(1))
    store.write("clicks", rows(2))
    assert [write.entities for write in manager.get_recent_writes()] == [[{"user": 2}], [{"user": 1}]]
    assert len(manager.get_recent_writes("clicks", limit=1)) == 1
    with pytest.raises(hw.errors.FeatureViewNotFound, match="clicks"):
        manager.get_recent_writes("clickz")
    with pytest.raises(hw.errors.UsageError, match="limit=-1"):
        manager.get_recent_writes(limit=-1)


def test_on_one_node_a_write_is_there_at_once(store: hw.FeatureStore) -> None:
    store.write("clicks", rows(1, 2))
    store.delete("clicks", [2])
    report = hw.FeatureConsistencyManager(store).ensure_write_propagation()
    assert report.complete and report.replicas == {} and len(report.writes) == 2
    # nothing was waited for: that would last for the timeout of 5 s
    assert report.seconds < 4


def test_rows_that_the_store_has_lost_are_told(store: hw.FeatureStore) -> None:
    store.write("clicks", rows(1, 2))
    manager = hw.FeatureConsistencyManager(store)
    (write,) = manager.get_recent_writes()
    store.context.online.delete([write.sample[0][0]])
    report = manager.ensure_write_propagation(write)
    assert not report.complete and report.missing == ({"user": 1},)


def test_what_eventual_reads_do_not_see_yet_is_counted(lagging: tuple[hw.FeatureStore, Lagging]) -> None:
    store, online = lagging
    manager = hw.FeatureConsistencyManager(store)
    store.write("clicks", rows(1))
    online.catch_up()
    store.write("clicks", [{"user": 1, "at": AT, "n": 7}, *rows(2)])
    latest, first = manager.get_recent_writes()
    report = manager.ensure_write_propagation(latest, timeout=0)
    assert report.replicas == {"eventual reads": 2} and not report.complete
    # the row that the first write put is not there any more: what took its place must be seen
    assert not manager.ensure_write_propagation(first, timeout="10ms").complete
    online.catch_up()
    assert manager.ensure_write_propagation(latest, timeout=0).complete
    assert manager.ensure_write_propagation([first, latest]).complete


def test_what_was_written_since_is_seen_too(lagging: tuple[hw.FeatureStore, Lagging]) -> None:
    store, online = lagging
    for n in range(20):
        store.write("clicks", [{"user": 1, "at": AT, "n": n}])
        read = online.read

        def later(keys: Sequence[bytes], level: ConsistencyLevel, *rest: Any, n: int = n, read: Any = read) -> Reading:
            if level is ConsistencyLevel.EVENTUAL:
                store.write("clicks", [{"user": 1, "at": AT, "n": n + 100}])
                online.catch_up()
            return read(keys, level, *rest)  # type: ignore[no-any-return]

        online.read = later  # type: ignore[method-assign]
        assert hw.FeatureConsistencyManager(store).ensure_write_propagation(timeout=0).complete
        online.read = read  # type: ignore[method-assign]


def test_a_wait_ends_as_soon_as_the_write_is_seen(lagging: tuple[hw.FeatureStore, Lagging]) -> None:
    store, online = lagging
    store.write("clicks", rows(1))
    read, behind = online.read, iter(range(3))

    def later(*given: Any) -> Reading:
        found = read(*given)
        if next(behind, None) is None:
            online.catch_up()
        return found

    online.read = later  # type: ignore[method-assign]
    with at_most(5):
        report = hw.FeatureConsistencyManager(store).ensure_write_propagation(timeout=30)
    assert report.complete and report.seconds > 0


def test_readers_that_are_away_count_as_behind(lagging: tuple[hw.FeatureStore, Lagging]) -> None:
    store, online = lagging
    store.write("clicks", rows(1))
    online.catch_up()
    online.fails = True
    assert hw.FeatureConsistencyManager(store).ensure_write_propagation(timeout="20ms").replicas == {
        "eventual reads": 1
    }


def test_wrong_arguments_are_named(store: hw.FeatureStore) -> None:
    manager = hw.FeatureConsistencyManager(store)
    with pytest.raises(hw.errors.UsageError, match="timeout=-1"):
        manager.ensure_write_propagation(timeout=-1)
    with pytest.raises(hw.errors.UsageError, match="soon"):
        manager.ensure_write_propagation(timeout="soon")
    with pytest.raises(hw.errors.UsageError, match="get_recent_writes"):
        manager.ensure_write_propagation([1])  # type: ignore[list-item]
