"""What a released version stored, today's code still reads: bytes, and a whole project that goes on from there."""

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.queue import tables as refresh_tables
from headwater.offline.log import tables as log_tables
from headwater.online.meta import META_VERSION, read_purges, unpack_log_id, unpack_watermark
from headwater.online.rows.codec import VERSION_BYTE, header
from headwater.online.session import Session
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.watermark import Watermark
from headwater.registry.migrations import MIGRATIONS
from headwater.testing.online_rows import PROJECT as SUITE
from headwater.testing.online_rows import batch_of, push_view, rows_of
from headwater.testing.read_suite import read
from headwater.types import Status
from tests.fixtures.format_values import EMPTY, EVERY, FORMATS, FULL, KEY_TYPES, KEYS, LONG, PROJECT, at

VERSIONS = sorted(folder.name for folder in FORMATS.iterdir() if folder.is_dir())
VIEW = push_view("every", KEY_TYPES, EVERY)
US = pa.timestamp("us", tz="UTC")


@pytest.fixture(params=VERSIONS)
def folder(request):
    return FORMATS / request.param


@pytest.fixture
def stored(folder):
    return json.loads((folder / "online.json").read_text())


@pytest.mark.parametrize("name", ["full", "empty", "long"])
def test_rows_and_keys_are_read(stored, name):
    key, row = (bytes.fromhex(stored[name][part]) for part in ("key", "row"))
    asked, values = {"full": (KEYS[0], FULL), "empty": (KEYS[1], EMPTY), "long": (LONG, FULL)}[name]
    assert rows_of(VIEW).encode(batch_of(VIEW, [{**asked, **values}]))[0][0] == key
    assert rows_of(VIEW).decode_key(key, row) == tuple(asked.values())
    store = MemoryOnlineStore()
    store.put([(key, row)])
    if values["float32"] is not None:
        # the nearest that four bytes hold
        values = {**values, "float32": float(np.float32(values["float32"]))}
    found = read(store, [VIEW], [asked] * 20)
    assert found.to_dict() == {column: [value] * 20 for column, value in {**asked, **values}.items()}
    assert read(store, [VIEW], [asked]).to_pylist() == [{**asked, **values}]
    assert not found.problems


def test_headers_are_read(stored):
    told = {name: header(bytes.fromhex(stored[name]["row"])) for name in ("full", "empty", "emptied")}
    full, empty, emptied = told.values()
    sequences = stored.get("sequences", {"full": 1, "emptied": 2})
    assert (full.event, full.created, full.origin, full.position) == (-1, 2, 1, 3)
    assert (full.sequence, emptied.sequence) == (sequences["full"], sequences["emptied"])
    assert (empty.event, empty.created, empty.origin, empty.position) == (4, 5, 0, 0)
    assert (emptied.emptied, emptied.through) == (True, 99)
    if "deleted" in stored:
        deleted = header(bytes.fromhex(stored["deleted"]["row"]))
        assert (emptied.deleted_position, deleted.through, deleted.deleted_position) == (8, -9, 2)
        assert (deleted.emptied, deleted.event, deleted.position) == (False, -1, 3)
    assert SUITE == "conformance"


def test_meta_and_tokens_are_read(stored):
    mark = Watermark(-5, 7, b"the token", 3) if "purge" in stored else Watermark(-5, 7)
    assert unpack_watermark(bytes.fromhex(stored["watermark"])) == (PROJECT, "every", "1.0.0", mark)
    if "purge" in stored:
        store = MemoryOnlineStore()
        store.put_meta({bytes.fromhex(stored["purge"]["key"]): bytes.fromhex(stored["purge"]["entry"])})
        assert read_purges(store, PROJECT, "every") == [(b"d" * 16, 99, 8)]
    assert unpack_log_id(bytes.fromhex(stored["log_id"])) == (PROJECT, "the log")
    assert Session.from_token(stored["token"]) == Session("a store", {"node": 5, "other": 2**63})


@pytest.fixture
def project(folder, tmp_path):
    shutil.copytree(folder / "project", tmp_path / "project")
    clock = [at(25)]
    with hw.FeatureStore(tmp_path / "project", clock=lambda: clock[0]) as store:
        store.test_clock = clock
        yield store


IDS = [1, 2, 3, 4, 5, 6]


def test_the_registry_is_read(project):
    record = project.registry.snapshot().view("readings")
    assert (list(record.versions), record.live, record.previous) == (["1.0.0", "1.1.0"], "1.1.0", "1.0.0")
    assert [record.version(v).created_at for v in record.versions] == [at(0), at(10)]
    assert project.registry.snapshot().service("model").version().version == "1.0.0"
    found = project.registry.get_feature_definition("readings:x")
    assert (found.description, found.owner, found.tags, found.data_type) == (
        "a number",
        "ops@example.com",
        {"tier": "gold"},
        hw.Float64,
    )
    assert (found.freshness_sla_minutes, found.availability_sla, found.version) == (30, 0.5, "1.1.0")


def test_the_online_store_is_read(project):
    found = project.get_online_features(["readings:x", "readings:name"], IDS)
    assert found.to_dict() == {
        "id": IDS,
        "x": [10.5, -1.0, -1.0, -1.0, -1.0, None],
        "name": ["ten", None, None, None, None, None],
    }
    absent = [Status.NOT_FOUND] * 4
    assert found.statuses["x"] == [Status.PRESENT, *absent, Status.NULL]
    assert project.get_online_features("model", IDS).to_dict()["x"] == [10.5, -1.0, -1.0, -1.0, -1.0, None]


def test_the_log_is_read(project):
    spine = pa.table({"id": IDS * 2, "timestamp": pa.array([at(5)] * 6 + [at(25)] * 6, US)})
    found = project.get_historical_features(spine, ["readings@1.0.0:x"], include=("status",)).to_arrow().to_pydict()
    assert found["x"] == [1.5, -1.0, -1.0, 4.5, 5.5, -1.0, 10.5, -1.0, -1.0, -1.0, -1.0, None]
    assert found["x__status"][:6] == ["PRESENT", "NOT_FOUND", "NOT_KNOWN", "PRESENT", "PRESENT", "NOT_KNOWN"]
    assert found["x__status"][6:] == ["PRESENT", "NOT_FOUND", "NOT_KNOWN", "NOT_FOUND", "NOT_FOUND", "NULL"]


def test_the_project_goes_on_from_there(project, stored):
    session = Session.from_token(stored["session"])
    project.test_clock[0] = at(40)
    project.write("readings", [{"id": 2, "at": at(39), "seen": at(39), "x": 2.5, "label": "back"}], session=session)
    project.materialize()
    found = project.get_online_features(["readings:x", "readings:name"], IDS, consistency="session", session=session)
    assert found.to_dict()["x"] == [10.5, 2.5, 3.5, -1.0, -1.0, None]
    assert found.to_dict()["name"] == ["ten", "back", "three", None, None, None]
    spine = pa.table({"id": IDS, "timestamp": pa.array([at(40)] * 6, US)})
    history = project.get_historical_features(spine, ["readings:x"]).to_arrow().to_pydict()
    assert history["x"] == found.to_dict()["x"]


def test_there_are_files_of_the_formats_in_use(stored, folder, tmp_path):
    if folder.name != VERSIONS[-1]:
        return
    full = bytes.fromhex(stored["full"]["row"])
    assert full[0] == VERSION_BYTE, "the codec is another by now: make files of it, and keep these"
    assert bytes.fromhex(stored["watermark"])[0] == META_VERSION
    # a look at it in its place would leave SQLite's own files beside it
    copy = shutil.copy(folder / "project/state/registry.db", tmp_path)
    with closing(sqlite3.connect(copy)) as database:
        (schema,) = database.execute("SELECT max(version) FROM registry_schema").fetchone()
        (log,) = database.execute("SELECT version FROM log_format").fetchone()
        (queue,) = database.execute("SELECT version FROM refresh_format").fetchone()
    steps = (len(MIGRATIONS.steps), len(log_tables.MIGRATIONS.steps), len(refresh_tables.MIGRATIONS.steps))
    assert schema <= steps[0] and log <= steps[1] and queue <= steps[2]


def test_the_refresh_queue_is_read(project, folder):
    if folder.name == "v1":
        return
    (letter,) = project.context.refresh_queue.dead(9)
    assert (letter.hint.key, letter.hint.version, letter.error) == (b"dead", "1.1.0", "no source")
    (waits,) = project.context.refresh_queue.claim(["readings"], 9, project.context.now(), 1)
    assert waits.hint.key == b"waits"
