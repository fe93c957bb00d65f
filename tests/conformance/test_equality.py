"""Online equals history at the same instant, whatever was written, deleted, materialized and changed before."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import headwater as hw
from headwater.clock import to_micros
from headwater.testing import SCALE
from headwater.testing.cases import plain
from headwater.testing.oracle import Delete, LogRow, OracleView, SourceRow, answer, facts, online_answer

START = datetime(2024, 3, 10, tzinfo=UTC)
STEP = timedelta(seconds=10)
KEYS = [1, 2]
TTL, SLA = timedelta(seconds=100), timedelta(seconds=45)
US = pa.timestamp("us", tz="UTC")

_OFFSETS = st.sampled_from([-120, -100, -50, -10, -10, 0, 0, 60, 120])
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(KEYS),
            "event": _OFFSETS,
            "created": _OFFSETS,
            "x": st.sampled_from([None, 0.0, 1.5, float("nan")]),
            "y": st.sampled_from([None, "", "é"]),
        }
    ),
    min_size=1,
    max_size=3,
)


class Equality(RuleBasedStateMachine):
    """One view over a file that grows, its writes and deletes, and a second version from some moment on."""

    url = "memory:"

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "source.parquet"
        self.when = START
        self.source, self.log, self.deletes, self.purged = [], [], [], set()
        self.views = {"1.0.0": OracleView({"x": -1.0}, 100_000_000, 0, True, True, {"x": 45_000_000})}
        self.taken = {"1.0.0": ([], [])}
        self.readable = {"1.0.0"}
        self._save()

    @initialize()
    def begin(self):
        self.store = hw.FeatureStore.in_memory([self._entity(), self._view("x")], clock=lambda: self.when)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
        self.folder.cleanup()

    @staticmethod
    def _entity():
        return hw.Entity("thing", join_keys={"k": hw.Int64})

    def _view(self, *names):
        every = {"x": hw.Feature("x", hw.Float64, default=-1.0), "y": hw.Feature("y", hw.String)}
        return hw.FeatureView(
            "v",
            entity=self._entity(),
            source=hw.ParquetSource(str(self.file), event_time="event", created_time="created"),
            features=[every[name] for name in names],
            ttl=TTL,
            freshness_sla=SLA,
        )

    def _save(self):
        columns = {
            "k": pa.array([row.key[0] for row in self.source], pa.int64()),
            "event": pa.array([row.event // 1000 for row in self.source], pa.int64()).cast(US),
            "created": pa.array([row.created // 1000 for row in self.source], pa.int64()).cast(US),
            "x": pa.array([row.values["x"] for row in self.source], pa.float64()),
            "y": pa.array([row.values["y"] for row in self.source], pa.string()),
        }
        pq.write_table(pa.table(columns), self.file)

    @property
    def now(self):
        return to_micros(self.when)

    def _pass_time(self):
        self.when += STEP

    def _at(self, offset):
        return self.when + timedelta(seconds=offset)

    @rule(rows=_ROWS)
    def the_source_grows(self, rows):
        self._pass_time()
        for row in rows:
            event, created = (to_micros(self._at(row[name])) * 1000 for name in ("event", "created"))
            self.source.append(SourceRow((row["k"],), {"x": row["x"], "y": row["y"]}, event, created))
        self._save()

    @rule(rows=_ROWS, to=st.sampled_from(["both", "both", "offline"]), carried=st.booleans(), with_y=st.booleans())
    def write(self, rows, to, carried, with_y):
        self._pass_time()
        names = ("x", "y") if with_y and "1.1.0" in self.views else ("x",)
        given, kept = [], []
        for row in rows:
            times = {"event": self._at(row["event"]), **({"created": self._at(row["created"])} if carried else {})}
            given.append({"k": row["k"], **times, **{name: row[name] for name in names}})
            created = to_micros(times["created"]) * 1000 if carried else None
            content = {name: row[name] for name in names}
            kept.append(
                LogRow(
                    (row["k"],), content, to_micros(times["event"]) * 1000, self.now, len(self.log) + len(kept), created
                )
            )
        self.store.write("v", given, to=to)
        purged = {mark.key: mark.through for mark in self.deletes if mark.key in self.purged}
        for row in kept:
            known = max(row.event, row.created if row.created is not None else row.arrival * 1000) // 1000
            if known <= purged.get(row.key, -(2**63)):
                continue
            self.log.append(row)
            if to == "both" and known <= self.now:
                for _, log in self.taken.values():
                    log.append(row)

    @rule(key=st.sampled_from(KEYS), purge=st.sampled_from([False, False, False, True]))
    def delete(self, key, purge):
        self._pass_time()
        self.store.delete("v", [key], purge=purge)
        self.deletes.append(Delete((key,), self.now))
        if purge:
            self.purged.add((key,))

    @rule()
    def materialize(self):
        self._pass_time()
        self.store.materialize()
        for version in self.views:
            self._take(version, KEYS)
        self.readable = set(self.views)

    @rule(keys=st.sets(st.sampled_from(KEYS), min_size=1), drop=st.booleans())
    def force(self, keys, drop):
        self._pass_time()
        if drop:
            self.source = [row for row in self.source if row.key[0] not in keys]
            self._save()
        self.store.materialize(["v"], entities=[{"k": key} for key in sorted(keys)], force=True)
        for version in self.views:
            self._take(version, keys, again=True)

    def _take(self, version, keys, again=False):
        view, (source, log) = self.views[version], self.taken[version]
        if again:
            source[:] = [row for row in source if row.key[0] not in keys]
            log[:] = [row for row in log if row.key[0] not in keys]
        for row in self.source:
            if row.key[0] in keys and row not in source and self._known(facts(view, [row])):
                source.append(row)
        for row in self.log:
            if row.key[0] in keys and row not in log and self._known(facts(view, [], [row])):
                log.append(row)

    def _known(self, found):
        return all(fact.known_at <= self.now for fact in found)

    @precondition(lambda self: "1.1.0" not in self.views)
    @rule()
    def a_feature_is_added(self):
        self._pass_time()
        self.store.apply([self._entity(), self._view("x", "y")])
        self.views["1.1.0"] = OracleView(
            {"x": -1.0, "y": None}, 100_000_000, 0, True, True, {"x": 45_000_000, "y": 45_000_000}
        )
        self.taken["1.1.0"] = ([], [])

    @invariant()
    def online_equals_the_oracle(self):
        if not hasattr(self, "store"):
            return
        for version in self.readable:
            view, (source, log) = self.views[version], self.taken[version]
            found = self.store.get_online_features([f"v@{version}:{n}" for n in view.defaults], {"k": [*KEYS, None, 9]})
            rows = facts(view, source, log)
            expected = [online_answer(view, rows, self.deletes, (key,), self.now) for key in [*KEYS, None, 9]]
            for name in view.defaults:
                assert list(map(plain, found.to_dict()[name])) == [plain(told.values[name]) for told in expected]
                assert found.statuses[name] == [told.statuses[name] for told in expected]

    @rule(back=st.integers(1, 6))
    def history_equals_the_oracle(self, back):
        past = self.when - back * STEP
        keys = [*KEYS, *(key for key in KEYS if (key,) not in self.purged), None]
        times = [*([self.when] * len(KEYS)), *([past] * (len(keys) - 1 - len(KEYS))), self.when]
        spine = pa.table({"k": pa.array(keys, pa.int64()), "timestamp": pa.array(times, US)})
        for version, view in self.views.items():
            result = self.store.get_historical_features(
                spine, [f"v@{version}:{n}" for n in view.defaults], include=("status",)
            )
            found = result.to_arrow().to_pydict()
            rows = facts(view, self.source, self.log)
            expected = [
                answer(view, rows, self.deletes, (key,), to_micros(at)) for key, at in zip(keys, times, strict=True)
            ]
            for name in view.defaults:
                assert list(map(plain, found[name])) == [plain(told.values[name]) for told in expected]
                assert found[f"{name}__status"] == [told.statuses[name] for told in expected]


Equality.TestCase.settings = settings(
    max_examples=10 * SCALE, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEquality = Equality.TestCase


def test_a_second_delete_does_not_bring_back_what_the_first_one_hid():
    machine = Equality()
    machine.begin()
    machine.write([{"k": 1, "event": -10, "created": -10, "x": 1.5, "y": None}], "both", True, False)
    machine.delete(1, False)
    machine.delete(1, False)
    for back in (0, 1, 2):
        machine.history_equals_the_oracle(back)
    machine.online_equals_the_oracle()
    machine.teardown()
