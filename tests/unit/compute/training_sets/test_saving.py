"""Saved training sets: the rows of history, a manifest of what they were made of, versions that never change."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.offline.training_sets import folder as folders
from headwater.offline.training_sets import writing
from headwater.offline.training_sets.manifest import decode, encode
from headwater.offline.training_sets.writing import RowsWriter
from tests.training_sets import (
    COLUMNS,
    FEATURES,
    FILE_ROWS,
    FILES,
    HOUR,
    PUSHED,
    T0,
    THING,
    Project,
    spine,
    write_files,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """To be read only."""
    made = Project(tmp_path_factory.mktemp("training") / "p").filled()
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def saved(project):
    return project.save()


def test_what_is_saved_is_what_history_gives(project, saved):
    history = project.store.get_historical_features(spine(), FEATURES)
    assert saved.to_arrow().equals(history.to_arrow())
    assert saved.to_pandas().equals(history.to_pandas())
    assert saved.to_polars().equals(history.to_polars())
    assert saved.schema == history.schema
    assert pl.read_parquet(saved.file).equals(history.to_polars()) and pd.read_parquet(saved.file).shape == (40, 10)
    again = project.store.training_set("things")
    assert again.to_arrow().equals(saved.to_arrow()) and again.manifest == saved.manifest
    assert (saved.keys, saved.timestamp, saved.labels) == (["thing"], "timestamp", ["late"])
    assert saved.features == COLUMNS and len(saved) == 40


def test_the_manifest_says_what_it_was_made_of(project, saved):
    made = saved.manifest
    assert (made.name, made.version, made.project) == ("things", 1, "p")
    assert made.saved_at == project.now and made.at is None and made.as_known
    assert made.log.id == project.store.context.log_id
    assert made.log.position == project.store.context.log.head_position() > 0
    assert made.rows.sha256 == hashlib.sha256(saved.file.read_bytes()).hexdigest()
    assert made.rows.bytes == saved.file.stat().st_size
    columns = {column.name: column for column in made.columns}
    assert [c.name for c in made.columns] == saved.schema.names
    assert columns["x"].reference == "files@1.0.0:x" and columns["x"].dtype == "float64"
    snapshot = project.store.registry.snapshot()
    assert columns["x"].fingerprint == snapshot.view("files").version().column_fingerprints["x"]
    assert [columns[n].role for n in ("row", "thing", "timestamp", "late", "x")] == [
        *("spine", "key", "timestamp", "label", "feature")
    ]
    assert columns["amount_sum_6h"].computed and not columns["x"].computed and not columns["seen"].computed
    table = saved.to_arrow()
    for name, column in columns.items():
        assert column.nulls == table.column(name).null_count
    assert columns["n"].statistics["max"] == max(v for v in table.column("n").to_pylist() if v is not None)
    views = {view.label: view for view in made.views}
    assert views["pushed"].source is None and views["pushed"].log_rows == 24
    (file,) = views["files"].source.files
    assert (file.path, file.rows, file.size) == ("files.parquet", 36, (project.folder / "files.parquet").stat().st_size)
    assert views["text"].source.files[0].digest and views["text"].source.files[0].rows is None
    assert views["files"].fingerprint == snapshot.view("files").version().fingerprint
    assert sum(views["files"].counts[n] for n in ("matched", "no_row", "expired", "not_known")) == 40
    assert made.libraries["headwater"] == hw.__version__ and {"duckdb", "pyarrow", "python"} <= made.libraries.keys()
    assert decode(encode(made), "here") == made


def test_a_service_is_named_and_an_alias_kept(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        other = FILES.alias("other", join_key_map={"thing": "second"})["x"]
        store.apply([hw.FeatureService("model", [FILES["x"], other, PUSHED["p"].rename({"p": "pushed_p"})])])
        rows = spine().append_column("second", pa.array(["a"] * 40))
        made = store.save_training_set("things", rows, "model", include=("status", "event_time"))
        assert made.manifest.service == "model@1.0.0"
        assert made.features == ["x", "other__x", "pushed_p"] and made.keys == ["thing", "second"]
        assert made.verify().same
        assert "other__x__status" in made.schema.names and "other__event_time" in made.schema.names


def test_versions_are_numbered_and_listed(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        sets = [project.save("b"), project.save("a"), project.save("b", ["files:x"])]
        assert [(s.name, s.version) for s in store.list_training_sets()] == [("a", 1), ("b", 1), ("b", 2)]
        assert store.training_set("b").features == ["x"] and store.training_set("b", 1).features == COLUMNS
        assert len({s.manifest.id for s in sets}) == 3
        folder = project.folder / ".headwater" / "training_sets"
        assert sorted(p.name for p in folder.iterdir()) == ["a", "b"]
        assert {p.stat().st_mode & 0o077 for p in folder.rglob("*")} == {0}
        with pytest.raises(hw.NotFound, match=r"no training set 'bb'.*did you mean 'b'"):
            store.training_set("bb")
        with pytest.raises(hw.NotFound, match="no version 3; it has 1, 2"):
            store.training_set("b", 3)
        for name in ("../x", "", "a/b", ".hidden", "x" * 200, None):
            with pytest.raises(hw.UsageError, match="not a valid name"):
                store.save_training_set(name, spine(), FEATURES)
        with pytest.raises(hw.UsageError, match="is a number"):
            store.training_set("b", "2")


def test_labels_are_columns_of_the_spine_that_can_be_predicted(project, saved):
    for labels, words in ((["lat"], "did you mean 'late'"), (["thing"], "a join key"), (["timestamp"], "the time")):
        with pytest.raises(hw.UsageError, match=words):
            project.save("other", labels=labels)
    assert project.store.training_set("things").version == 1
    with pytest.raises(hw.NotFound):
        project.store.training_set("other")


def test_the_folder_can_be_named(tmp_path):
    project = Project(tmp_path / "p")
    project.store.close()
    (project.folder / "headwater.toml").write_text('project = "p"\n[offline]\ntraining_sets = "../sets"\n')
    with hw.FeatureStore(project.folder, online="memory:") as store:
        made = store.save_training_set("things", spine(), ["files:x"])
        assert made.path == project.folder / ".." / "sets" / "things" / "1" and made.verify().same


def test_a_store_in_memory_saves_too():
    rows = [{"thing": "a", "at": T0, "seen": T0, "x": 1.5, "n": 1}]
    with hw.FeatureStore.in_memory([THING, FILES], sources={"files": rows}) as store:
        made = store.save_training_set("things", spine(), ["files:x"], labels="late")
        assert made.verify().same and store.training_set("things").to_arrow().equals(made.to_arrow())
        rows[0]["x"] = 2.5
        assert made.manifest.views[0].source.rows == 1 and made.labels == ["late"]
        assert made.path.is_dir()


def test_every_entity_at_one_instant(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        made = store.save_training_set("batch", None, ["pushed:p"], at=T0 + 3 * HOUR)
        assert made.timestamp is None and not made.manifest.spine.given and len(made) == 4
        assert made.verify().same
        project.push("pushed", [("e", 1, 2.0)])
        assert made.verify().same  # it came behind the set's position
        with pytest.raises(hw.UsageError, match="by='key'"):
            made.split()
        assert sum(len(part) for part in made.split(0.5, by="key").values()) == 4


def test_the_matrix_is_that_of_a_read(tmp_path):
    views = [
        hw.FeatureView(
            "vectors",
            entity=THING,
            source=hw.PushSource(event_time="at", schema={"e": hw.Embedding(2), "f": hw.Float32, "b": hw.Bool}),
            features=[hw.Feature("e", hw.Embedding(2)), hw.Feature("f", hw.Float32), hw.Feature("b", hw.Bool)],
        ),
        FILES,
    ]
    project = Project(tmp_path / "p", views)
    with project.store as store:
        rows = [{"thing": key, "at": T0, "e": [i, 0.5], "f": i / 3, "b": i == 1} for i, key in enumerate("ab")]
        store.write("vectors", rows, created="event")
        store.materialize()
        keys = pa.table({"thing": ["a", "b", "nobody"], "timestamp": [project.now] * 3})
        for features in (["vectors:*"], ["vectors:*", "files:*"], ["files:n", "vectors:f"]):
            made = store.save_training_set("things", keys, features)
            served = store.get_online_features(features, {"thing": ["a", "b", "nobody"]})
            one, other = made.to_numpy(), served.to_numpy()
            assert one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
            assert np.array_equal(made.to_numpy("float32", missing=-1), served.to_numpy("float32", missing=-1))
        text = store.save_training_set("text", spine(), ["files:n"])
        with pytest.raises(hw.UsageError, match="'thing' is string, not a number"):
            text.to_numpy(columns=["thing"])
        big = pa.table({"thing": ["a"], "timestamp": [project.now], "n2": pa.array([2**53 + 1])})
        wide = store.save_training_set("wide", big, ["files:n"])
        with pytest.raises(hw.UsageError, match=r"beyond 2\*\*53"):
            wide.to_numpy(columns=["n2"])
        assert wide.to_numpy("int64", ["n2"], missing=0).tolist() == [[2**53 + 1]]


def test_columns_and_parts_and_batches(saved):
    assert saved.to_arrow(["late", "x"]).column_names == ["late", "x"]
    with pytest.raises(hw.UsageError, match="did you mean 'late'"):
        saved.to_arrow(["lates"])
    parts = saved.split(0.3, validation_size=0.2)
    assert list(parts) == ["train", "validation", "test"]
    whole = saved.to_arrow()
    rows = [part.to_arrow(["row"]).column("row").to_pylist() for part in parts.values()]
    assert sorted(row for some in rows for row in some) == list(range(40)) and all(r == sorted(r) for r in rows)
    latest = [max(part.to_pandas()["timestamp"]) for part in parts.values()]
    assert latest == sorted(latest)
    test = parts["test"]
    assert test.to_arrow().equals(whole.take(pa.array(rows[2])))
    assert len(test.to_numpy(columns=["x", "n"])) == len(test) == len(rows[2]) and test.features == saved.features
    assert [b.num_rows for b in saved.to_batches(15)] == [15, 15, 10]
    assert saved.head(3).equals(whole.slice(0, 3)) and saved.head(0).num_rows == 0
    assert list(saved.split(0)) == ["train", "test"] and len(saved.split(0)["test"]) == 0
    named = saved.split(test_from=T0 + 10 * HOUR, validation_from=T0 + 5 * HOUR)
    assert min(named["test"].to_pandas()["timestamp"]) == T0 + 10 * HOUR
    assert min(named["validation"].to_pandas()["timestamp"]) == T0 + 5 * HOUR
    for bad in ({"by": "random"}, {"keys": ["thing"]}, {"by": "key", "test_from": T0}, {"validation_from": T0}):
        with pytest.raises(hw.UsageError):
            saved.split(**bad)
    assert "40 rows" in repr(saved) and "<table" in saved._repr_html_()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_from": "2030-01-01"}, r"test_from=2030-01-01: no row is at that instant .* from 2024-01-01T00:00:00"),
        ({"test_from": T0 - HOUR}, "no row is earlier, so that nothing is left to train on"),
        ({"test_from": T0 + HOUR, "validation_from": T0 - HOUR}, "validation_from=2023-12-31 23:00.*no row is earlier"),
        ({"test_from": T0 + 2 * HOUR, "validation_from": T0 + 1.5 * HOUR}, "no row is between it and test_from=2024"),
        ({"by": "key", "keys": ["none"], "test_size": 0.99}, "nothing is left to train on: all rows of a key"),
    ],
)
def test_a_part_that_an_instant_leaves_empty_is_an_error(project, options, words):
    rows = spine().append_column("none", pa.array([None] * 40, pa.string()))
    made = project.store.save_training_set("split", rows, [FILES.alias("other", join_key_map={"thing": "none"})["n"]])
    with pytest.raises(hw.UsageError, match=words):
        made.split(**options)


def test_a_share_that_comes_to_nothing_is_a_warning(saved):
    with pytest.warns(UserWarning, match=r"the test part has no rows \(test_size=0.001\): rows of one instant stay"):
        parts = saved.split(0.001)
    assert len(parts["test"]) == 0
    with pytest.warns(UserWarning, match="the validation part has no rows .*a hash of the key decides"):
        saved.split(0.5, validation_size=0.001, by="key")


def test_a_key_stays_in_its_part_in_a_later_version(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        few = store.save_training_set("things", spine(10), ["files:x"]).split(0.5, by="key", seed=3)
        many = store.save_training_set("things", spine(40), ["files:x"]).split(0.5, by="key", seed=3)
        for name in ("train", "test"):
            keys = [set(parts[name].to_arrow(["thing"]).column("thing").to_pylist()) for parts in (few, many)]
            assert keys[0] <= keys[1]
        assert not keys[0] & set(many["train"].to_arrow(["thing"]).column("thing").to_pylist())


def test_rows_can_be_pickled_and_read_behind_a_closed_store(tmp_path):
    project = Project(tmp_path / "p").filled()
    made = project.save()
    table, parts = made.to_arrow(), made.split(0.5)
    project.store.close()
    for rows, expected in ((made, table), (parts["test"], parts["test"].to_arrow())):
        again = pickle.loads(pickle.dumps(rows))
        assert again.to_arrow().equals(expected) and again.manifest == made.manifest
    assert made.to_arrow().equals(table)
    with pytest.raises(hw.Unavailable):
        project.store.training_set("things")


def test_two_savers_at_once_both_get_a_version(tmp_path, monkeypatch):
    project = Project(tmp_path / "p").filled()
    gate = threading.Barrier(2, timeout=60)
    real = folders.TrainingSets.versions

    def versions(self, name):
        found = real(self, name)
        if name == "things" and not gate.broken and threading.current_thread().name.startswith("saver"):
            gate.wait()  # both see the same versions
            gate.abort()
        return found

    made = []
    with project.store:
        project.save()
        monkeypatch.setattr(folders.TrainingSets, "versions", lambda self, name: safe(versions, self, name))

        def safe(ask, *arguments):
            try:
                return ask(*arguments)
            except threading.BrokenBarrierError:
                return real(*arguments)

        threads = [threading.Thread(target=lambda: made.append(project.save()), name=f"saver{i}") for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(s.version for s in made) == [2, 3]
        assert all(s.verify().same for s in made)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        project.save()
        before = sorted(store.context.training_sets.path.rglob("*"))
        real = pq.ParquetWriter.write_batch
        written = []

        def full(self, batch, *rest):
            real(self, batch, *rest)
            written.append(batch.num_rows)
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(pq.ParquetWriter, "write_batch", full)
        with pytest.raises(hw.StorageFull, match="cannot write"):
            project.save()
        assert written and sorted(store.context.training_sets.path.rglob("*")) == before
        with pytest.raises(hw.StorageFull, match="cannot write"):
            store.training_set("things").verify()
        assert sorted(store.context.training_sets.path.rglob("*")) == before
        monkeypatch.undo()
        assert project.save().version == 2


@pytest.mark.parametrize("room", [0, 200])
def test_a_disk_that_is_full_in_the_end_is_said_to_be(tmp_path, monkeypatch, room):
    real = io.FileIO.write

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > room:
                raise OSError(28, os.strerror(28))
            return real(self, data)

    def opened(path, mode, opener):
        return io.BufferedWriter(Full(path, "xb", opener=opener))

    monkeypatch.setattr(writing, "open", opened, raising=False)
    rows = pa.record_batch({"a": [1, 2, 3]})
    with pytest.raises(hw.StorageFull, match="cannot write"), RowsWriter(tmp_path / "r", rows.schema, ("a",)) as writer:
        writer.write(rows)


def test_what_is_in_the_way_takes_its_number(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        assert project.save().version == 1
        (store.context.training_sets.path / "things" / "2").write_text("of somebody else")
        assert project.save().version == 3
        assert [saved.version for saved in store.list_training_sets()] == [1, 3]


def test_a_source_that_changes_while_it_is_saved_is_refused(tmp_path, monkeypatch):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        real = RowsWriter.write

        def write(self, batch):
            (project.folder / "text.csv").write_text("thing,at,word\n")
            real(self, batch)

        monkeypatch.setattr(RowsWriter, "write", write)
        with pytest.raises(hw.SourceError, match=r"'text'.*changed while"):
            project.save()
        with pytest.raises(hw.NotFound):
            store.training_set("things")


def test_spines_keep_their_own_types(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        frame = pd.DataFrame(
            {
                "thing": pd.Categorical(["a", "b", "a"]),
                "timestamp": pd.to_datetime(["2024-01-01 05:00", "2024-01-01 07:00", "2024-01-01 02:30"]),
                "big": np.array([1, 2, 3], np.uint16),
            },
            index=[7, 8, 9],
        )
        made = store.save_training_set("things", frame, FEATURES, timezone="Europe/Berlin")
        history = store.get_historical_features(frame, FEATURES, timezone="Europe/Berlin")
        assert made.to_arrow().to_pylist() == history.to_arrow().to_pylist() and made.verify().same
        assert str(made.schema.field("thing").type).startswith("dictionary")
        parts = made.split(test_from="2024-01-01T05:30:00+00:00")
        assert parts["test"].to_pandas()["big"].tolist() == [2]  # 7 o'clock in Berlin
        flagged = spine()
        for place, field in enumerate(flagged.schema):
            if field.name in ("row", "late"):
                field = field.with_nullable(False)
            field = field.with_metadata({"PARQUET:field_id": str(place + 5)})
            flagged = flagged.set_column(place, field, flagged.column(place))
        pq.write_table(flagged, tmp_path / "flagged.parquet")
        for given in (flagged, str(tmp_path / "flagged.parquet")):
            made = store.save_training_set("flagged", given, FEATURES, labels=["late"])
            assert made.to_arrow(flagged.column_names).to_pydict() == flagged.to_pydict() and made.verify().same
            assert len(made.split()["test"].to_pandas()) == 10 and made.head(2).num_rows == 2
        store.delete("pushed", ["a"], purge=True)
        project.now += 2 * HOUR
        store.materialize()
        assert store.training_set("flagged").verify().erased == 7
        query = "SELECT 'a' AS thing, TIMESTAMPTZ '2024-01-01 05:00:00+00' AS timestamp, 1 AS late"
        assert store.save_training_set("query", query, FEATURES, labels=["late"]).verify().same
        empty = store.save_training_set("empty", spine(0), FEATURES)
        assert len(empty) == 0 and empty.verify().same and len(empty.split()["train"]) == 0
        assert len(empty.split(by="key")["train"]) == 0 and empty.to_numpy(columns=["x"]).shape == (0, 1)


def test_progress_is_told(tmp_path):
    told = []
    project = Project(tmp_path / "p", observer=told.append).filled()
    with project.store:
        project.save().verify()
    steps = [p for p in told if "training set" in p.step and p.finished]
    assert [(p.step, p.done, p.total) for p in steps] == [
        ("save training set things", 40, 40),
        ("verify training set things 1", 40, 40),
    ]


@hw.on_demand(
    inputs=[FILES["x"], hw.RequestField("hour", hw.Int64)],
    features=[hw.Feature("scaled", hw.Float64), hw.Feature("early", hw.Bool)],
)
def scaled(x, hour):
    return {"scaled": x * hour, "early": hour < 5}


def test_on_demand_features_are_saved_and_verified(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        store.apply([scaled])
        rows = spine().append_column("hour", pa.array([i % 9 for i in range(40)]))
        features = ["scaled:*", "pushed:p"]
        made = store.save_training_set("things", rows, features, labels=["late"], include=("status", "event_time"))
        history = store.get_historical_features(rows, features, include=("status", "event_time"))
        assert made.to_arrow().equals(history.to_arrow()) and made.features == ["scaled", "early", "p"]
        assert [f.name for f in made.manifest.functions] == ["scaled"]
        assert {view.label for view in made.manifest.views} == {"files", "pushed"}
        columns = {column.name: column for column in made.manifest.columns}
        assert columns["scaled"].reference == "scaled@1.0.0:scaled" and columns["scaled"].fingerprint
        assert made.verify().same
        with pytest.raises(hw.UsageError, match="labels: 'hour' is a request field"):
            store.save_training_set("leaking", rows, features, labels=["late", "hour"])
        assert store.save_training_set("others", rows, ["pushed:p"], labels=["hour"]).labels == ["hour"]
        write_files(project.folder, [(k, h, 7.0, n, d) for k, h, _, n, d in FILE_ROWS])
        report = made.verify()
        names = {column.name for column in report.columns}
        # a row without x has no result at all
        assert names == {"scaled", "scaled__status", "early", "early__status"}
        assert {column.view for column in report.columns} == {"scaled"}
        assert {change.view for change in report.changes} == {"files"}
    with hw.FeatureStore(project.folder, online="memory:", clock=lambda: project.now) as store:
        write_files(project.folder, FILE_ROWS)
        assert store.training_set("things").verify().same  # the function comes from the registry
    (project.folder / "headwater.toml").write_text('project = "p"\n[offline]\nrun_code = false\n')
    with hw.FeatureStore(project.folder, online="memory:", clock=lambda: project.now) as store:
        report = store.training_set("things").verify()
        assert report.verdict == "not rebuilt" and "run_code" in str(report)
