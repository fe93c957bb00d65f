"""Online equals history at the same instant, whatever was written, deleted, materialized and changed before."""

import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import compress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import headwater as hw
from headwater.clock import from_micros, to_micros
from headwater.testing import RANDOM, rounds
from headwater.testing.cases import plain
from headwater.testing.oracle import Delete, LogRow, OracleView, SourceRow, answer, facts, last_change, online_answer

START = datetime(2024, 3, 10, tzinfo=UTC)
STEP, TICK = timedelta(seconds=10), timedelta(microseconds=1)
KEYS = [1, 2]
ASKED = [*KEYS, None, 9]
TTL, SLA = timedelta(seconds=100), timedelta(seconds=45)
US = pa.timestamp("us", tz="UTC")
THING = hw.Entity("thing", join_keys={"k": hw.Int64})
X, Y = hw.Feature("x", hw.Float64, default=-1.0), hw.Feature("y", hw.String)

TOLERANCE = 5_000_000
"""Microseconds after the log's clock at which a row may be known and is put all the same."""
_OFFSETS = st.sampled_from([-120, -100, -50, -10, -10, 0, 0, 2, 60, 120])
_BACK = st.sampled_from([0, 0, 1, STEP // TICK - 1, STEP // TICK, 4 * STEP // TICK])
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(KEYS),
            "event": _OFFSETS,
            "created": _OFFSETS,
            "x": st.sampled_from([None, 0.0, 1.5, float("nan")]),
            "y": st.sampled_from([None, "", "é"]),
            "ended": st.sampled_from([None, None, -60, -10, 0, 10, 60]),
        }
    ),
    min_size=1,
    max_size=3,
)
LIKE = {"NOT_KNOWN": "NOT_FOUND", "EXPIRED": "NOT_FOUND", "STALE": "PRESENT"}
_VIEWS = st.sampled_from(["v", "v", "facts", "overall", "tiers", "tiers"])


@dataclass
class Model:
    """What is known of a view, and of each version what runs and writes have taken.

    Attributes:
        keyed: whether it has the entity's key; a global view has none.
        timed: whether its source has times; a dimension table has none.
        ends: whether its source says when rows end.
        until: of each version the rows that a run has put, each with the instant at which it ends as was known then.
        cached: rows of cache-only writes are in `taken` alone.
    """

    file: Path
    keyed: bool = True
    timed: bool = True
    ends: bool = False
    until: dict[str, dict[str, int]] = field(default_factory=dict)
    views: dict[str, OracleView] = field(default_factory=dict)
    taken: dict[str, tuple[list[SourceRow], list[LogRow]]] = field(default_factory=dict)
    source: list[SourceRow] = field(default_factory=list)
    log: list[LogRow] = field(default_factory=list)
    deletes: list[Delete] = field(default_factory=list)
    purged: set[tuple[int, ...]] = field(default_factory=set)
    readable: set[str] = field(default_factory=set)

    def add_version(self, version, **defaults):
        """A version from now on."""
        ttl = TTL // timedelta(microseconds=1) if self.timed and self.keyed else 0
        slas = dict.fromkeys(defaults, SLA // timedelta(microseconds=1)) if self.timed else {}
        self.views[version] = OracleView(defaults, ttl, 0, self.timed, self.timed, slas, self.ends)
        self.taken[version] = ([], [])
        self.until[version] = {}

    def key(self, row):
        """The key of a drawn row."""
        return (row["k"],) if self.keyed else ()

    def save(self):
        """The source's rows, as a file."""
        columns = {
            "k": pa.array([row.key[0] if self.keyed else 0 for row in self.source], pa.int64()),
            "x": pa.array([row.values["x"] for row in self.source], pa.float64()),
            "y": pa.array([row.values["y"] for row in self.source], pa.string()),
        }
        for name in ("event", "created"):
            times = [(getattr(row, name) or 0) // 1000 for row in self.source]
            columns[name] = pa.array(times, pa.int64()).cast(US)
        ends = [None if row.ends is None else row.ends // 1000 for row in self.source]
        columns["ended"] = pa.array(ends, pa.int64()).cast(US)
        pq.write_table(pa.table(columns), self.file)

    def definition(self, name, *features):
        """The view with these features."""
        times = {"event_time": "event", "created_time": "created"} if self.timed else {"event_time": None}
        if self.ends:
            times = {"valid_from": "event", "valid_to": "ended", "created_time": "created"}
        more = {"freshness_sla": SLA} if self.timed else {}
        return hw.FeatureView(
            name,
            entity=THING if self.keyed else (),
            source=hw.ParquetSource(str(self.file), **times),
            features=list(features),
            ttl=TTL if self.timed and self.keyed else None,
            **more,
        )

    def take(self, version, now, keys=None, *, again=False):
        """What a run up to `now` takes of some keys (None: all); `again`: nothing else stays."""
        view, (source, log) = self.views[version], self.taken[version]

        def wanted(row):
            return keys is None or row.key in keys

        if again or not self.timed:
            source[:] = [row for row in source if not wanted(row)]
            log[:] = [row for row in log if not wanted(row)]
        for row in self.source:
            if wanted(row) and row not in source and _known(facts(view, [row]), now):
                # one that is not there any more, and differs in its end alone, is that row as it was
                source[:] = [other for other in source if other in self.source or replace(other, ends=row.ends) != row]
                source.append(row)
        for row in self.log:
            if wanted(row) and row not in log and _known(facts(view, [], [row]), now):
                log.append(row)
        every = zip([*self.source, *self.log], facts(view, self.source, self.log), strict=True) if self.ends else ()
        for row, fact in every:
            if wanted(row) and (row in source or row in log) and _known([fact], now):
                self.until[version][repr(row)] = fact.until

    def stored(self, version):
        """What is online, each row with the instant at which it ends as it was put: a write knows of no next row."""
        found = facts(self.views[version], *self.taken[version])
        if not self.ends:
            return found
        until, rows = self.until[version], [row for rows in self.taken[version] for row in rows]
        return [replace(fact, until=until.get(repr(row), fact.ends)) for row, fact in zip(rows, found, strict=True)]


def _known(found, now):
    return all(fact.known_at <= now for fact in found)


class Equality(RuleBasedStateMachine):
    """Views over files that grow, a dimension table and a global one among them, their writes and deletes."""

    embedded = False
    online = None

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.when = START
        self.step = STEP
        self.clock = 0
        self.reads_at = 0
        path = Path(self.folder.name)
        self.models = {
            "v": Model(path / "v.parquet"),
            "facts": Model(path / "facts.parquet", timed=False),
            "overall": Model(path / "overall.parquet", keyed=False),
            "tiers": Model(path / "tiers.parquet", ends=True),
        }
        for model in self.models.values():
            model.add_version("1.0.0", x=-1.0)
            model.readable = {"1.0.0"}
            model.save()

    @initialize(_=RANDOM)
    def begin(self, _=1):
        definitions = [THING, *(model.definition(name, X) for name, model in self.models.items())]
        if self.embedded:
            self.store = self._open()
            self.store.apply(definitions)
        else:
            self.store = hw.FeatureStore.in_memory(definitions, clock=lambda: self.when)

    def _open(self):
        return hw.FeatureStore(self.folder.name, online=self.online, clock=lambda: self.when)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
        self.folder.cleanup()

    @property
    def now(self):
        return to_micros(self.when)

    def _pass_time(self):
        self.when += self.step
        self.clock = max(self.clock, self.now)

    @rule(step=st.sampled_from([STEP, STEP, TICK, 0 * TICK]))
    def time_goes_on(self, step):
        """By so much with each step; what is written and deleted at one instant is told apart all the same."""
        self.step = step

    @rule(back=_BACK)
    def reads_are_at(self, back):
        """Exact reads are so many microseconds before the clock."""
        self.reads_at = back

    def _at(self, offset):
        return self.when + timedelta(seconds=offset)

    def _nanos(self, offset):
        return None if offset is None else to_micros(self._at(offset)) * 1000

    @rule(which=st.integers(0, 10), ended=st.sampled_from([None, -10, 10]))
    def a_row_ends_in_place(self, which, ended):
        """Nothing but its end changes, as where a table is kept in place."""
        model = self.models["tiers"]
        if model.source:
            self._pass_time()
            place = which % len(model.source)
            before = model.source[place]
            after = replace(before, ends=self._nanos(ended))
            if after not in model.source:
                model.source[place] = after
                model.save()

    @rule(name=_VIEWS, rows=_ROWS)
    def the_source_grows(self, name, rows):
        self._pass_time()
        model = self.models[name]
        for row in rows:
            times = [to_micros(self._at(row[time])) * 1000 if model.timed else None for time in ("event", "created")]
            ends = self._nanos(row["ended"]) if model.ends else None
            model.source.append(SourceRow(model.key(row), {"x": row["x"], "y": row["y"]}, *times, ends=ends))
        model.save()

    @rule(
        name=_VIEWS,
        rows=_ROWS,
        to=st.sampled_from(["both", "both", "offline", "online"]),
        carried=st.booleans(),
        with_y=st.booleans(),
    )
    def write(self, name, rows, to, carried, with_y):
        self._pass_time()
        model = self.models[name]
        names = ("x", "y") if with_y and "1.1.0" in model.views else ("x",)
        given, kept = [], []
        for row in rows:
            if to == "online":
                # one that is known later than the clock may be hidden by another that a delete hides
                row = {**row, "event": min(row["event"], 0), "created": min(row["created"], 0)}
            times = {"event": self._at(row["event"])} if model.timed else {}
            ends = row["ended"] if model.ends else None
            if ends is not None:
                times["ended"] = self._at(ends)
            if carried:
                times["created" if model.timed else "created_time"] = self._at(row["created"])
            key = {"k": row["k"]} if model.keyed else {}
            content = {name: row[name] for name in names}
            given.append({**key, **times, **content})
            event = to_micros(times["event"]) * 1000 if model.timed else None
            created = to_micros(self._at(row["created"])) * 1000 if carried else None
            position = 0 if to == "online" else len(model.log) + len(kept) + 1
            kept.append(LogRow(model.key(row), content, event, self.clock, position, created, self._nanos(ends)))
        self.store.write(name, given, to=to, errors="report")
        purged = {mark.key: mark.through for mark in model.deletes if mark.key in model.purged}
        for row in kept:
            created = row.arrival if row.created is None else row.created // 1000
            known = max(created, row.event // 1000) if model.timed else created
            if known <= purged.get(row.key, -(2**63)):
                continue
            if to != "online":
                model.log.append(row)
            if to != "offline" and known <= self.clock + TOLERANCE:
                self._put(model, row)

    @staticmethod
    def _put(model, row):
        """The row is online; of two that are equal in every respect the later one stands."""
        for version, (_, log) in model.taken.items():
            if set(model.views[version].defaults) <= row.values.keys():
                log[:] = [other for other in log if replace(other, values=row.values, ends=row.ends) != row]
                log.append(row)

    @rule(name=_VIEWS, key=st.sampled_from(KEYS), purge=st.sampled_from([False, False, False, True]))
    def delete(self, name, key, purge):
        self._pass_time()
        model = self.models[name]
        purge = purge and not model.ends  # it may take away the next row of one that is learnt later
        self.store.delete(name, [{"k": key}] if model.keyed else [{}], purge=purge)
        model.deletes.append(Delete(model.key({"k": key}), self.clock, len(model.log) + 1))
        self.clock += 1
        if purge:
            model.purged.add(model.key({"k": key}))

    @rule()
    def materialize(self):
        self._pass_time()
        self.store.materialize()
        for model in self.models.values():
            for version in model.views:
                model.take(version, self.clock)
            model.readable = set(model.views)

    @rule()
    def a_purge_is_erased(self):
        self.when += timedelta(minutes=11)
        self.materialize()
        assert not any(self.store.context.log.open_purges(name) for name in self.models)

    @rule(name=_VIEWS, keys=st.sets(st.sampled_from(KEYS), min_size=1), drop=st.booleans())
    def force(self, name, keys, drop):
        self._pass_time()
        model = self.models[name]
        wanted = {model.key({"k": key}) for key in keys}
        if drop:
            model.source = [row for row in model.source if row.key not in wanted]
            model.save()
        entities = [{"k": key} for key in sorted(keys)] if model.keyed else None
        self.store.materialize([name], entities=entities, force=True)
        for version in model.views:
            for key in wanted:
                # a key whose row is known later than the clock is made equal to history at that instant
                known = last_change(facts(model.views[version], *model.taken[version]), model.deletes, key)
                model.take(version, max(self.clock, known), {key}, again=True)

    @precondition(lambda self: "1.1.0" not in self.models["v"].views)
    @rule()
    def a_feature_is_added(self):
        self._pass_time()
        model = self.models["v"]
        self.store.apply([THING, model.definition("v", X, Y)])
        model.add_version("1.1.0", x=-1.0, y=None)

    @precondition(lambda self: self.embedded)
    @rule()
    def it_is_opened_again(self):
        self.store.close()
        self.store = self._open()

    def _versions(self):
        return [(name, model, version) for name, model in self.models.items() for version in model.views]

    @invariant()
    def online_equals_the_oracle(self):
        """Exactly at a given instant; by the clock at the instant that the answer gives."""
        if not hasattr(self, "store"):
            return
        given = self.now - self.reads_at
        for name, model, version in self._versions():
            if version not in model.readable:
                continue
            view = model.views[version]
            rows, keys = model.stored(version), [(k,) if model.keyed else () for k in ASKED]
            changes = [last_change(rows, model.deletes, key) for key in keys]
            for now in (None, given):
                # of a purged key a version that never had it says nothing
                compared = [now is None or given >= self.clock or key not in model.purged for key in keys]
                at = [max(self.now, changed) if now is None else now for changed in changes]
                expected = [online_answer(view, rows, model.deletes, *pair) for pair in zip(keys, at, strict=True)]
                found = self._read(name, model, version, now)
                for feature in view.defaults:
                    values = list(map(plain, found.to_dict()[f"{name}__{feature}"]))
                    statuses = found.statuses[f"{name}__{feature}"]
                    for i in compress(range(len(keys)), compared):
                        assert values[i] == plain(expected[i].values[feature]), (name, version, keys[i], now)
                        assert statuses[i] == expected[i].statuses[feature], (name, version, keys[i], now)
                if now is not None:
                    assert found.read_at[name] == [from_micros(now)] * len(keys)
                    continue
                instants = zip(keys, map(to_micros, found.read_at[name]), at, strict=True)
                assert all(one == two or key in model.purged for key, one, two in instants)

    def _read(self, name, model, version, now):
        # a view without a key is asked for beside one that has it
        asked = [f"{name}@{version}:{feature}" for feature in model.views[version].defaults]
        asked += [] if model.keyed else ["v@1.0.0:x"]
        given = None if now is None else from_micros(now)
        return self.store.get_online_features(asked, {"k": ASKED}, full_names=True, now=given)

    @rule(after=st.sampled_from([0, 1, 10**7]))
    def online_equals_history(self, after):
        """Once all is put, at every instant from the last change on."""
        self.materialize()
        for name, model, version in self._versions():
            view = model.views[version]
            rows = facts(view, *model.taken[version])
            at = max([self.clock, *(last_change(rows, model.deletes, model.key({"k": k})) for k in KEYS)]) + after
            # history lacks cache-only rows, and the run what was not known yet
            other = {row.key for row in rows if row.from_log and not row.position}
            every = facts(view, model.source, model.log)
            other |= {row.key for row in every if self.clock < row.known_at <= at and row not in rows}
            keys = [k for k in KEYS if model.key({"k": k}) not in other]
            spine = pa.table({"k": pa.array(keys, pa.int64()), "timestamp": pa.array([at] * len(keys), US)})
            features = [f"{name}@{version}:{feature}" for feature in view.defaults]
            history = self.store.get_historical_features(spine, features, include=("status",)).to_arrow().to_pydict()
            online = self._read(name, model, version, at)
            places = [ASKED.index(k) for k in keys]
            for feature in view.defaults:
                values, statuses = online.to_dict()[f"{name}__{feature}"], online.statuses[f"{name}__{feature}"]
                assert [plain(values[i]) for i in places] == list(map(plain, history[feature]))
                # history names rows that are not known yet, which the store does not have; and it knows no SLA
                told = [LIKE.get(statuses[i], statuses[i]) for i in places]
                assert told == [LIKE.get(status, status) for status in history[f"{feature}__status"]]

    @rule(back=st.integers(1, 6))
    def history_equals_the_oracle(self, back):
        past = self.when - back * STEP
        for name, model, version in self._versions():
            # what was purged is gone from the past too
            earlier = [key for key in KEYS if model.key({"k": key}) not in model.purged]
            asked = [*((key, self.when) for key in [*KEYS, None]), *((key, past) for key in earlier)]
            spine = pa.table(
                {"k": pa.array([k for k, _ in asked], pa.int64()), "timestamp": pa.array([t for _, t in asked], US)}
            )
            view = model.views[version]
            features = [f"{name}@{version}:{feature}" for feature in view.defaults]
            result = self.store.get_historical_features(spine, features, include=("status",))
            found = result.to_arrow().to_pydict()
            rows = facts(view, model.source, model.log)
            at = [((key,) if model.keyed else (), to_micros(when)) for key, when in asked]
            expected = [answer(view, rows, model.deletes, key, when) for key, when in at]
            for feature in view.defaults:
                assert list(map(plain, found[feature])) == [plain(one.values[feature]) for one in expected]
                assert found[f"{feature}__status"] == [one.statuses[feature] for one in expected]


class EmbeddedEquality(Equality):
    """The same on LMDB and files, closed and opened again in between."""

    embedded = True


class RedisEquality(EmbeddedEquality):
    """The same on Redis."""

    server = None

    def _open(self):
        if not hasattr(self, "store"):
            self.server.client.flushall()
        return super()._open()


class DynamoDBEquality(EmbeddedEquality):
    """The same on DynamoDB."""

    server = None

    def _open(self):
        if not hasattr(self, "store"):
            self.online = self.server.url(timeout="30s")
        return super()._open()


@pytest.fixture(scope="module", autouse=True)
def _servers(redis_server, dynamodb_server):
    RedisEquality.server, RedisEquality.online = redis_server, redis_server.url
    DynamoDBEquality.server = dynamodb_server


# the emulator of DynamoDB is slow
for machine, examples in ((Equality, 3), (EmbeddedEquality, 2), (RedisEquality, 2), (DynamoDBEquality, 1)):
    machine.TestCase.settings = settings(
        max_examples=rounds(examples, simplest=False),
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
TestEquality = Equality.TestCase
TestEmbeddedEquality = EmbeddedEquality.TestCase
TestRedisEquality = RedisEquality.TestCase
TestDynamoDBEquality = DynamoDBEquality.TestCase


def test_a_second_delete_does_not_bring_back_what_the_first_one_hid():
    machine = Equality()
    machine.begin()
    machine.write("v", [{"k": 1, "event": -10, "created": -10, "x": 1.5, "y": None}], "both", True, False)
    machine.delete("v", 1, False)
    machine.delete("v", 1, False)
    for back in (0, 1, 2):
        machine.history_equals_the_oracle(back)
    machine.online_equals_the_oracle()
    machine.teardown()
