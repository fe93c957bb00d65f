"""The conformance suite of the offline log: deletes and purges."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.offline.log.log import OfflineLog
from headwater.offline.log.tables import deletes
from headwater.planning.resolved import LogKeys
from headwater.testing.log_rows import (
    READING,
    T0,
    LogFixtures,
    Place,
    arrivals_of,
    clock,
    content,
    group,
    rows,
)


class LogDeletesSuite(LogFixtures):
    """Tombstones, and the rows that purges hide; part of `OfflineLogSuite`."""

    def test_arrival_is_after_every_delete_and_a_delete_after_every_arrival(self, log: OfflineLog) -> None:
        before = log.now()
        ahead = before + 60_000_000
        deleted = log.delete("w", pa.table({"k": ["a", "b"]}), [ahead, MIN_MICROS])
        assert deleted.through[0] == ahead and before <= deleted.through[1] < ahead
        with pytest.warns(UserWarning, match="its clock says"):
            assert arrivals_of(log.append("w", [group(rows(["a"], [1.0]))])) == [ahead + 1]
        assert log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS]).through == (ahead + 1,)
        # one clock for all views
        assert arrivals_of(log.append("x", [group(rows(["a"], [1.0]))])) == [ahead + 2]

    def test_every_tombstone_comes_back(self, log: OfflineLog) -> None:
        log.append("w", [group(rows(["a"], [1.0]))])
        first = log.delete("w", pa.table({"k": ["a", "b"]}), [MIN_MICROS] * 2)
        before = log.head_position()
        second = log.delete("w", pa.table({"k": ["a"]}), [log.now() + 2_000_000])
        assert (first.positions, second.positions, before) == ((2, 3), (4,), 3)
        found = log.slice("w", ["k"]).deletes
        assert found is not None and found.column_names == ["k", "__through", "__position"]
        pairs = sorted(tuple(row.values()) for row in found.to_pylist())
        mine = [("a", first.through[0], 2), ("a", second.through[0], 4), ("b", first.through[1], 3)]
        assert pairs == mine
        earlier = log.slice("w", ["k"], before).deletes
        assert earlier is not None and sorted(earlier.column("__position").to_pylist()) == [2, 3]
        assert log.slice("w", ["other"]).deletes is None
        later = log.deletes_after("w", ["k"], before, log.head_position())
        assert later is not None and [tuple(row.values()) for row in later.to_pylist()] == [mine[1]]
        once = log.deletes_after("w", ["k"], 0, log.head_position())
        assert once is not None and sorted(tuple(row.values()) for row in once.to_pylist()) == mine[1:]

    def test_tombstones_are_read_as_they_were_at_any_position(self, log: OfflineLog, engine: sa.Engine) -> None:
        expected: list[list[tuple[str, int]]] = [[]]
        for i, key in enumerate("abcab"):
            (position,) = log.delete("w", pa.table({"k": [key]}), [MIN_MICROS]).positions
            expected.append([*expected[-1], (key, position)])
            log.delete("x", pa.table({"k": ["other"]}), [MIN_MICROS])
            if i % 2:
                log.slice("w", ["k"])

        def shown(until: int | None) -> list[tuple[str, int]]:
            found = log.slice("w", ["k"], until).deletes
            return [] if found is None else [(row["k"], row["__position"]) for row in found.to_pylist()]

        for i, tombstones in enumerate(expected):
            assert shown(2 * i) == tombstones
        assert shown(None) == expected[-1]
        # the deletes of a purged key are digests from then on
        log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS], purge=True)
        assert shown(None) == [pair for pair in expected[-1] if pair[0] != "a"]

    def test_deletes_of_keys_of_another_type_are_anothers(self, log: OfflineLog) -> None:
        log.delete("w", pa.table({"k": pa.array([1, 2], pa.int64())}), [MIN_MICROS] * 2)
        log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
        for kind, keys in ((pa.int64(), [1, 2]), (pa.string(), ["a"]), (pa.bool_(), [])):
            wanted = LogKeys({"k": kind})
            tables = log.slice("w", wanted).deletes, log.deletes_after("w", wanted, 0, 3)
            for table in tables:
                assert ([] if table is None else table.column("k").to_pylist()) == keys

    def test_a_delete_whose_key_cannot_be_decoded_hides_by_its_digest(self, log: OfflineLog, engine: sa.Engine) -> None:
        log.append("w", [group(rows(["a", "b"], [1.0, 2.0]))])
        done = log.delete("w", pa.table({"k": ["a", "b"]}), [MIN_MICROS] * 2)
        with engine.begin() as connection:
            connection.execute(deletes.update().where(deletes.c.position == 3).values(key=b"damaged"))
        found = OfflineLog(engine, None, clock).slice("w", ["k"])
        assert found.deletes is not None and found.deletes.column("k").to_pylist() == ["b"]
        assert found.purges == {log.digests(pa.table({"k": ["a"]}))[0]: ((3, done.through[0]),)}
        later = OfflineLog(engine, None, clock).deletes_after("w", ["k"], 0, 4)
        assert later is not None and later.column("k").to_pylist() == ["b"]

    def test_a_purge_drops_old_rows_on_append_and_erases_what_is_there(self, log: OfflineLog, place: Place) -> None:
        before = log.now()
        log.append("w", [group(rows(["secret-a", "b"], [1.0, 2.0]))], [READING])
        log.roll()
        log.append("w", [group(rows(["secret-a", "c"], [3.0, 4.0]))], [READING])
        plain = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS])
        purge = log.delete("w", pa.table({"k": ["secret-a"]}), [MIN_MICROS], purge=True)
        known = pa.array([T0], pa.timestamp("us", "UTC"))
        old = rows(["secret-a"], [5.0], created_time=known)
        new = rows(["secret-a"], [6.0])
        dropped = log.append("w", [group(old)], [READING])[0]
        assert dropped.table.num_rows == 0 and list(dropped.rows) == []
        log.append("w", [group(new)], [READING])
        found = log.slice("w", ["k"])
        assert found.deletes is None
        tombstones = [(done.positions[0], done.through[0]) for done in (plain, purge)]
        assert list(found.purges.values()) == [tuple(tombstones)]
        assert found.digests is not None and found.digests(pa.table({"k": ["secret-a"]}))[0][0] in found.purges
        assert log.purged("w", pa.table({"k": ["secret-a", "b"]})).tolist() == [purge.through[0], MIN_MICROS]

        later = purge.through[0] + 1
        due = log.purges_to_erase("w", later)
        assert log.open_purges("w") == log.purges_after("w", 0) == due
        assert list(due.values()) == [tombstones[-1]]
        assert log.purges_to_erase("w", before) == log.purges_after("w", purge.positions[0]) == {}
        log.erase("w", due, [READING])
        assert [(key, value) for _, key, value in content(log)] == [("b", 2.0), ("c", 4.0), ("secret-a", 6.0)]
        assert log.purges_to_erase("w", later) == log.open_purges("w") == {}
        assert len(list((place[1] / "log").glob("*.parquet"))) == 1

    @pytest.mark.parametrize("compacted", [False, True])
    def test_erasing_takes_rows_that_are_dated_ahead_and_leaves_later_ones(
        self, log: OfflineLog, compacted: bool
    ) -> None:
        ahead = T0 + timedelta(days=200 * 365)
        log.append("w", [group(rows(["a", "b"], [1.0, 2.0], ahead))], [READING])
        if compacted:
            log.roll()
        purge = log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS], purge=True)
        log.append("w", [group(rows(["a"], [3.0], ahead))], [READING])
        again = log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS], purge=True)
        log.append("w", [group(rows(["a"], [4.0], ahead))], [READING])
        (digest,) = log.open_purges("w")
        log.erase("w", {digest: (purge.positions[0], purge.through[0])}, [READING])
        assert [value for _, _, value in content(log)] == [2.0, 3.0, 4.0]
        # the later purge of the key is still to be worked off
        assert log.open_purges("w") == {digest: (again.positions[0], again.through[0])}
        log.erase("w", log.open_purges("w"), [READING])
        assert [value for _, _, value in content(log)] == [2.0, 4.0] and log.open_purges("w") == {}

    @pytest.mark.parametrize("purge", [False, True])
    def test_a_thousand_keys_are_deleted_by_a_few_statements(
        self, log: OfflineLog, engine: sa.Engine, purge: bool
    ) -> None:
        keys = pa.table({"k": [f"key {i}" for i in range(1_000)]})
        log.delete("w", keys, [MIN_MICROS] * 1_000)
        statements = []
        sa.event.listen(engine, "after_cursor_execute", lambda *told: statements.append(told[2]))
        done = log.delete("w", keys, [MIN_MICROS] * 1_000, purge=purge)
        assert len(statements) < 20
        assert done.positions == tuple(range(1_001, 2_001)) and len(set(done.through)) == 1
        found = log.slice("w", ["k"])
        if purge:
            assert found.deletes is None and {len(pairs) for pairs in found.purges.values()} == {2}
        else:
            assert found.deletes is not None and found.deletes.num_rows == 2_000

    def test_tombstones_are_appended_again_with_their_own_position_and_time(self, log: OfflineLog) -> None:
        log.append("w", [group(rows(["a", "b"], [1.0, 2.0]))])
        done = log.delete("w", pa.table({"k": ["a"]}), [MIN_MICROS])
        now, end = log.now(), log.head_position()
        keys = pa.table({"k": ["a", "b", "c"]})
        lost = [(done.positions[0], done.through[0]), (2, now - 5), (1, now + 3)]
        assert log.append_again("w", keys, lost) == 2
        # the first is there already; a second time all are
        assert log.append_again("w", keys, lost) == 0
        found = log.deletes_after("w", ["k"], end, log.head_position())
        assert found is not None and log.head_position() == end + 2
        assert [tuple(row.values()) for row in found.to_pylist()] == [("b", now - 5, 2), ("c", now + 3, 1)]
        assert arrivals_of(log.append("w", [group(rows(["c"], [1.0]))]))[0] > now + 3

        digests = log.digests(keys)
        assert log.append_again("w", None, lost, digests) == 3
        assert log.append_again("w", None, lost, digests) == log.append_again("w", keys, lost) == 0
        assert log.open_purges("w") == dict(zip(digests, lost, strict=True))
        # what was in clear is under digests now, with the position and time that it had
        assert log.slice("w", ["k"]).deletes is None
        assert set(log.slice("w", ["k"]).purges) == set(digests)
        assert log.purges_to_erase("w", now) == {}
