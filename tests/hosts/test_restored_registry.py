"""A registry that is copied aside and restored in any way, while two processes use the store and go on."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headwater.testing import RANDOM, rounds
from tests.forked import Forked

PROGRAM = """
import json, shutil, sys, warnings
from datetime import UTC, datetime
from pathlib import Path
import headwater as hw

warnings.simplefilter("ignore")
PERSON = hw.Entity("person", join_keys={"name": hw.String})
SOURCE = hw.PushSource(event_time="at")
VIEW = hw.FeatureView("v", entity=PERSON, source=SOURCE, features=[hw.Feature("x", hw.Int64)])
store = None

def begin(folder):
    global store
    end()
    store = hw.FeatureStore(folder)
    store.apply([PERSON, VIEW])

def end():
    global store
    if store is not None:
        store.close()
    store = None

def write(key, x):
    report = store.write("v", [{"name": key, "at": datetime.now(UTC), "x": x}])
    return store.context.log.head_position()

def delete(key):
    store.delete("v", [key])
    return store.context.log.head_position()

def materialize():
    store.materialize()

def roll():
    store.context.log.roll()

def history(keys):
    spine = [{"name": key, "timestamp": datetime.now(UTC)} for key in keys]
    return store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist()

def online(keys):
    return store.get_online_features(["v:x"], [{"name": key} for key in keys]).to_dict()["x"]

def empty_log():
    with store.context.registry.engine.connect() as connection:
        assert not connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]

def copy(source, target):
    shutil.copyfile(source, target)

for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = [globals()[name](*arguments)]
    except hw.HeadwaterError as bad:
        answer = [type(bad).__name__, str(bad)]
    print(json.dumps(answer), flush=True)
"""

KEYS = ["a", "b", "c"]


class Refused(Exception):
    """A store raised one of headwater's errors."""


class Process:
    """A process with a store of the project."""

    def __init__(self) -> None:
        self._process = Forked(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, *words: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(word) if isinstance(word, Path) else word for word in words]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if len(answer) > 1:
            raise Refused(*answer)
        return answer[0]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    """Two that use the project, and one that comes later."""
    made = [Process(), Process(), Process()]
    yield made
    for process in made:
        process.end()


# a failure is a short story already: to shrink it takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
WHO = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), WHO, st.sampled_from(KEYS)),
    st.tuples(st.just("write"), WHO, st.sampled_from(KEYS)),
    st.tuples(st.just("delete"), WHO, st.sampled_from(KEYS)),
    st.tuples(st.just("materialize"), WHO),
    st.tuples(st.just("copy aside"), st.booleans()),
    st.tuples(
        st.just("restore"),
        st.integers(0, 2),
        st.sampled_from(["copy over", "rename", "remove first"]),
        st.sampled_from(["left", "removed", "restored"]),
    ),
)


class Project:
    """What was acknowledged, and which positions it has."""

    def __init__(self, folder: Path, processes: list[Process]) -> None:
        self.folder, self.users, self.newcomer = folder, processes[:2], processes[2]
        self.db = folder / ".headwater" / "registry.db"
        for user in self.users:
            user.do("begin", folder)
        # a copy of the file alone is one of this log from now on
        self.users[0].do("empty_log")
        self.positions: dict[int, str] = {}
        self.count = 0
        self.copies: list[Path] = []

    def end(self) -> None:
        for user in (*self.users, self.newcomer):
            user.do("end")

    def do(self, what: str, *more: Any) -> None:
        if what in ("write", "delete"):
            self._change(what, *more)
        elif what == "materialize":
            self._tried(self.users[more[0]], "materialize")
        elif what == "copy aside":
            self._copy_aside(more[0])
        elif self.copies:
            self._restore(self.copies[more[0] % len(self.copies)], *more[1:])
            for who in (0, 1):
                self._change("write", who, KEYS[who])

    def _tried(self, user: Process, *words: Any) -> Any:
        """Headwater's errors are clear, and end: what was refused is done at another try."""
        for _ in range(4):
            try:
                return user.do(*words)
            except Refused as refused:
                last = refused
        raise AssertionError(f"{words[0]} is refused again and again: {last}")

    def _change(self, what: str, who: int, key: str) -> None:
        self.count += 1
        words = [what, key, self.count] if what == "write" else [what, key]
        position = self._tried(self.users[who], *words)
        change = " ".join(map(str, words))
        assert position not in self.positions, (
            f"position {position} of {self.positions[position]!r} again for {change!r}"
        )
        self.positions[position] = change
        expected = self.count if what == "write" else None
        for process in (self.users[who], self.users[1 - who]):
            assert self._tried(process, "history", [key]) == [expected], f"{change} in history"
            assert self._tried(process, "online", [key]) == [expected], f"{change} online"

    def _copy_aside(self, with_log: bool) -> None:
        aside = self.folder / f"copy{len(self.copies)}"
        aside.mkdir()
        if not with_log:
            self.users[0].do("empty_log")
        for name in ("registry.db", "registry.db-wal") if with_log else ("registry.db",):
            if (path := self.db.with_name(name)).exists():
                self.users[0].do("copy", path, aside / name)
        self.copies.append(aside)

    def _restore(self, aside: Path, how: str, beside: str) -> None:
        wal, shm = (self.db.with_name("registry.db" + end) for end in ("-wal", "-shm"))
        if how == "remove first":
            self.db.unlink()
        if beside != "left" or how == "remove first":
            for path in (wal, shm):
                path.unlink(missing_ok=True)
        if beside == "restored" and (aside / wal.name).exists():
            shutil.copyfile(aside / wal.name, wal)
        if how == "copy over":
            self.users[1].do("copy", aside / "registry.db", self.db)
        else:
            shutil.copyfile(aside / "registry.db", self.folder / "coming")
            (self.folder / "coming").replace(self.db)

    def check(self) -> None:
        """Once runs have put right what the log has lost, everybody reads the same, online and in history."""
        self._tried(self.users[0], "materialize")
        self.newcomer.do("begin", self.folder)
        expected = self.newcomer.do("history", KEYS)
        for process in (*self.users, self.newcomer):
            assert self._tried(process, "history", KEYS) == expected
            assert self._tried(process, "online", KEYS) == expected


@settings(max_examples=rounds(2, simplest=False), deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(steps=st.lists(STEPS, min_size=4, max_size=12), _=RANDOM)
def test_what_is_acknowledged_is_kept_and_no_position_is_given_twice(
    steps: list[tuple[Any, ...]], _: int, tmp_path_factory: pytest.TempPathFactory, processes: list[Process]
) -> None:
    project = Project(tmp_path_factory.mktemp("project"), processes)
    try:
        for step in steps:
            project.do(*step)
        project.check()
    finally:
        project.end()
