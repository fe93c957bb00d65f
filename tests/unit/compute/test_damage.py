"""Whatever of one view is damaged, where it is stored: every reader goes on, or says what is wrong and what to type."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

import headwater as hw
from headwater.compute.refreshing.worker import Worker, dead_letters
from headwater.errors import HeadwaterError
from headwater.online.hints import Hint
from headwater.online.rows.keys import namespace
from headwater.testing import SCALE

T0 = datetime(2026, 6, 1, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.String})
FEATURES = [hw.Feature("x", hw.Int64), hw.Feature("note", hw.String), hw.Feature("seen", hw.Timestamp)]
VIEWS = [
    hw.FeatureView(name, entity=USER, source=hw.PushSource(event_time="at"), features=FEATURES)
    for name in ("clicks", "visits")
]
USERS = ["ann", "bob", "cid", "dan", "eve"]
WHOLE = {"ann": 1, "bob": None, "cid": 3, "dan": 4, "eve": 5}


class Project:
    """Two views of the same rows: some in files, some in the write buffer; bob was deleted, and zoe purged."""

    def __init__(self, folder: Path) -> None:
        self.now = T0
        self.folder = folder
        self.store = hw.FeatureStore(folder, clock=lambda: self.now)
        self.store.apply([USER, *VIEWS])
        for names in (["ann", "bob", "zoe"], ["cid"]):
            self.write(names)
            self.now += timedelta(minutes=1)
            self.store.materialize()
        self.write(["dan"])
        for view in ("clicks", "visits"):
            self.store.delete(view, ["bob"])
            self.store.delete(view, ["zoe"], purge=True)
        self.now += timedelta(minutes=1)
        self.write(["eve"])

    def write(self, users: list[str]) -> None:
        for view in ("clicks", "visits"):
            rows = [{"user": u, "at": self.now, "x": WHOLE.get(u) or 9, "note": u * 3, "seen": T0} for u in users]
            self.store.write(view, rows, to="offline" if "eve" in users else "both")

    def execute(self, sql: str, **values: object) -> None:
        with self.store.registry.engine.begin() as connection:
            connection.execute(sa.text(sql), values)

    def history(self, view: str) -> dict[str, Any]:
        spine = [{"user": user, "timestamp": self.now} for user in USERS]
        found = self.store.get_historical_features(spine, [f"{view}:x", f"{view}:note", f"{view}:seen"]).to_arrow()
        return dict(zip(USERS, found["x"].to_pylist(), strict=True))

    def online(self, view: str) -> dict[str, Any]:
        found = self.store.get_online_features([f"{view}:x", f"{view}:note", f"{view}:seen"], USERS).to_dict()
        return dict(zip(USERS, found["x"], strict=True))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    found = Project(tmp_path)
    yield found
    found.store.close()


def spoilt(content: bytes, choice: random.Random) -> bytes:
    """Other bytes than those that were stored."""
    changed = bytearray(content)
    match choice.randrange(5):
        case 0:
            return b""
        case 1:
            return content[: choice.randrange(len(content) or 1)]
        case 2:
            for _ in range(choice.randint(1, 8)):
                changed[choice.randrange(len(changed))] ^= 1 << choice.randrange(8)
            return bytes(changed)
        case 3:
            # text that is not UTF-8 any more
            return content.replace(b"dan", b"\xff\xfed").replace(b"bob", b"\xff\xfeb")
        case _:
            return choice.randbytes(choice.randint(1, 2 * len(content) + 1))


def in_buffer(project: Project, choice: random.Random) -> None:
    with project.store.registry.engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT first, batch FROM log_head WHERE view = 'clicks'")).all()
    first, batch = choice.choice(rows)
    column = choice.choice(["batch", "batch", "batch", "offsets", "rows", "shape", "arrival", "last"])
    values = {
        "batch": spoilt(batch, choice),
        "offsets": choice.randbytes(choice.randrange(9)),
        "rows": choice.choice([0, 7, -1, 2**40]),
        "shape": choice.choice([99, -1]),
        "arrival": choice.choice([-(2**63), 2**63 - 1, 0]),
        "last": first + choice.choice([-1, 5]),
    }
    project.execute(f"UPDATE log_head SET {column} = :value WHERE first = :first", value=values[column], first=first)


def in_shapes(project: Project, choice: random.Random) -> None:
    with project.store.registry.engine.begin() as connection:
        rows = connection.execute(sa.text("SELECT id, schema FROM log_shapes WHERE view = 'clicks'")).all()
    number, schema = choice.choice(rows)
    project.execute("UPDATE log_shapes SET schema = :value WHERE id = :id", value=spoilt(schema, choice), id=number)


def in_tombstones(project: Project, choice: random.Random) -> None:
    with project.store.registry.engine.begin() as connection:
        ((number, key),) = connection.execute(sa.text("SELECT id, key FROM log_deletes WHERE view = 'clicks'")).all()
    project.execute("UPDATE log_deletes SET key = :value WHERE id = :id", value=spoilt(key, choice), id=number)


def in_files(project: Project, choice: random.Random) -> None:
    file = choice.choice(sorted((project.folder / ".headwater/log").glob("log-*-clicks-*.parquet")))
    if choice.randrange(4) == 0:
        return file.unlink()
    if choice.randrange(4) == 0:
        # a file of other columns
        pq.write_table(pq.read_table(file).drop_columns(["x"]), file)
    else:
        file.write_bytes(spoilt(file.read_bytes(), choice))


def online(project: Project, choice: random.Random) -> None:
    store = project.store.context.online
    rows = list(store.scan(namespace(project.store.context.project, "clicks", "1.0.0")))
    key, row = choice.choice(rows)
    store.put_meta({key: spoilt(row, choice) or b"\0"})


def in_queue(project: Project, choice: random.Random) -> None:
    hint = Hint("clicks", "1.0.0", choice.randbytes(9), 0, 1, 1)
    project.store.context.refresh_queue.offer([hint], project.store.context.now())


DAMAGES: list[Callable[[Project, random.Random], None]] = [
    in_buffer,
    in_shapes,
    in_tombstones,
    in_files,
    online,
    in_queue,
]


def tried(call: Callable[[], Any], problems: list[str]) -> Any:
    """What a call gives; an error of headwater's own is noted."""
    try:
        return call()
    except HeadwaterError as bad:
        assert (str(bad) and str(bad).isprintable()) or "\n" in str(bad)
        problems.append(str(bad))
        return None


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(6 * SCALE))
def test_every_reader_goes_on_or_says_what_to_type(project: Project, seed: int) -> None:
    choice = random.Random(seed)
    damage = DAMAGES[seed % len(DAMAGES)]
    damage(project, choice)
    problems: list[str] = []
    store = project.store
    # a process that has nothing in memory yet
    project.store = hw.FeatureStore(project.folder, clock=lambda: project.now)
    store.close()
    store = project.store
    for view in ("clicks", "visits"):
        found = tried(lambda view=view: project.history(view), problems)  # type: ignore[misc]
        assert found == WHOLE if view == "visits" else found is None or set(found) == set(USERS)
    tried(lambda: store.verify(), problems)
    assert not [p for p in problems if "verify" not in p and "materialize" not in p and "clicks" not in p], problems
    for _ in range(2):
        project.now += timedelta(minutes=1)
        tried(store.materialize, problems)
        assert project.online("visits") == WHOLE == project.history("visits")
        tried(lambda: project.online("clicks"), problems)
        tried(store.status, problems)
    Worker(store.context).run(once=True)
    dead_letters(store.context, 10)
    tried(lambda: store.erase("user", ["ann"]), problems)
    project.now += timedelta(hours=1)
    tried(store.materialize, problems)
    assert project.history("visits") == project.online("visits") == {**WHOLE, "ann": None}
    tried(lambda: project.history("clicks"), problems)
    tried(lambda: project.online("clicks"), problems)
    tried(store.repair_clock, problems)
    report = store.verify()
    assert all(found.view in ("clicks", "") for found in report.damaged), report
