"""Purged keys go out of training sets: their rows alone, in one step, and the manifest says how many."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.training_sets import saving
from headwater.offline.training_sets import erasing
from headwater.offline.training_sets import folder as folders
from headwater.testing import rounds
from tests.training_sets import HOUR, KEYS, PUSHED, Project, spine


def due(project):
    """Erase what is pending."""
    project.now += timedelta(minutes=30)
    project.store.materialize()


def holds(folder, text):
    """The files below a folder that have a text in clear."""
    return [file.name for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def test_a_purged_key_leaves_no_trace_and_the_rest_stays_the_same(tmp_path):
    project = Project(tmp_path / "p")
    secret = "secret-key"
    project.push("pushed", [("a", 0, 1.0), (secret, 1, 2.0), ("b", 2, 3.0)])
    project.push("events", [("a", 0, 1.0), (secret, 1, 2.0)])
    rows = spine(12).set_column(1, "thing", pa.array([*KEYS[:2], secret] * 4))
    with project.store as store:
        saved = store.save_training_set("things", rows, ["pushed:p", "events:seen"], labels=["late"])
        other = store.save_training_set("other", rows, ["files:x"])
        copy = tmp_path / "copy"
        shutil.copytree(saved.path, copy)
        sets = store.context.training_sets.path
        assert holds(sets, secret)
        report = store.erase("thing", [secret])
        assert report.pending
        pending = saved.verify()
        assert pending.same and pending.purged == 4 and "still in this copy" in str(pending)
        due(project)
        assert not holds(sets, secret)
        again = store.training_set("things")
        assert (again.manifest.rows.erased, len(again), again.manifest.spine.sha256) == (4, 8, None)
        kept = [row for row in pa.Table.from_batches(pa.table(rows).to_batches()).to_pylist() if row["thing"] != secret]
        assert again.to_arrow(rows.column_names).to_pylist() == kept
        assert again.manifest.columns[1].statistics == {"min": "a", "max": "b"}
        report = again.verify()
        assert report.same and (report.erased, report.purged, report.rows) == (4, 0, 8)
        assert {(c.view, c.kind) for c in report.changes} == {
            ("pushed", hw.InputChangeKind.LOG_ERASED),
            ("events", hw.InputChangeKind.LOG_ERASED),
        }
        # an erase of an entity is of all its views
        assert store.training_set("other").manifest.rows.erased == 4 and other.version == 1
        # what was opened before says that its file is gone
        with pytest.raises(hw.StoreError, match="does not exist"):
            saved.to_arrow()
        # a copy that no erase reached
        shutil.rmtree(sets / "things")
        shutil.copytree(copy, sets / "things" / "1")
        report = store.training_set("things").verify()
        assert report.same and report.purged == 4 and report.erased == 0


@settings(max_examples=rounds(6), deadline=None)
@given(st.lists(st.sampled_from([*KEYS, "nobody"]), min_size=1, max_size=3, unique=True), st.booleans())
def test_random_purges_take_their_rows_alone(tmp_path_factory, keys, composite):
    project = Project(tmp_path_factory.mktemp("erase") / "p").filled()
    with project.store as store:
        rows = spine()
        features = [PUSHED["p"]]
        if composite:
            rows = rows.append_column("second", pa.array([KEYS[i % 4] for i in range(40)]))
            features.append(PUSHED.alias("other", join_key_map={"thing": "second"})["p"])
        saved = store.save_training_set("things", rows, features)
        before = saved.to_arrow().to_pylist()
        store.delete("pushed", keys, purge=True)
        project.push("pushed", [(keys[0], 1, 9.0)])
        due(project)
        made = store.training_set("things")
        kept = [row for row in before if row["thing"] not in keys and row.get("second") not in keys]
        assert made.to_arrow().to_pylist() == kept and made.manifest.rows.erased == len(before) - len(kept)
        assert made.verify().same


def test_sets_saved_behind_a_purge_keep_what_is_learnt_later(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        store.delete("pushed", ["a"], purge=True)
        project.now += HOUR
        store.write("pushed", [{"thing": "a", "at": project.now, "p": 7.0}])
        project.now += HOUR
        late = spine(12).set_column(2, "timestamp", pa.array([project.now] * 12, pa.timestamp("us", "UTC")))
        kept = store.save_training_set("late", late, ["pushed:p"])
        early = store.save_training_set("early", spine(12), ["pushed:p"])
        due(project)
        assert store.training_set("late").manifest.rows.erased == 0 and 7.0 in kept.to_pandas()["p"].tolist()
        assert store.training_set("early").manifest.rows.erased == 2 and len(early) == 12


def test_a_key_that_is_purged_and_erased_while_a_set_is_saved_is_not_in_it(tmp_path, monkeypatch):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        real = saving._check_unmoved

        def check(*given):
            store.delete("pushed", ["a"], purge=True)
            due(project)
            assert not store.context.log.pending_purges()
            return real(*given)

        monkeypatch.setattr(saving, "_check_unmoved", check)
        saved = store.save_training_set("things", spine(12), ["pushed:p"])
        monkeypatch.undo()
        assert "a" not in saved.to_arrow().column("thing").to_pylist()
        assert saved.manifest.rows.erased == 12 - len(saved) > 0 and saved.verify().same
        assert store.training_set("things").manifest == saved.manifest
        # of a view that the set has nothing of, nothing goes
        other = store.save_training_set("other", spine(12), ["files:x"])
        assert other.manifest.rows.erased == 0


STEPS = ("written", "erased", "locked", "looked", "published")


@pytest.mark.parametrize(
    ("purged", "killed"), [(one, other) for i, one in enumerate(STEPS) for other in (None, *STEPS[i:])]
)
def test_no_step_of_a_save_lets_a_purged_key_stay(tmp_path, monkeypatch, purged, killed):
    """A key is purged, and erased everywhere, at one step; the saver is killed at that step or a later one."""
    project = Project(tmp_path / "p", views=[PUSHED])
    project.push("pushed", [("a", 0, 1.0), ("b", 1, 2.0)])
    monkeypatch.setattr(folders, "_WAIT", 0.05)
    reached = []

    class Killed(BaseException):
        pass

    def step(name):
        if name in reached:
            return
        reached.append(name)
        if name == purged:
            store.delete("pushed", ["a"], purge=True)
            due(project)
        if name == killed:
            raise Killed

    class Purges(erasing.NewPurges):
        def erase(self, folder):
            step("written")
            found = super().erase(folder)
            step("erased")
            return found

        def more(self):
            step("locked")
            found = super().more()
            if not found:
                step("looked")
            return found

    def publish(self, *given):
        path = real(self, *given)
        step("published")
        return path

    real = folders.TrainingSets.publish
    monkeypatch.setattr(saving, "NewPurges", Purges)
    monkeypatch.setattr(folders.TrainingSets, "publish", publish)
    with project.store as store:
        rows = spine(12).set_column(1, "thing", pa.array(["a", "b", "c"] * 4))
        with pytest.raises(Killed) if killed else nullcontext():
            saved = store.save_training_set("things", rows, ["pushed:p"])
            assert reached == list(STEPS)
            # a purge behind the last look waits for the next run: no erase got past the lock
            if purged != "looked":
                assert "a" not in saved.to_arrow().column("thing").to_pylist()
        monkeypatch.undo()
        due(project)
        assert not store.context.log.pending_purges()
        for found in store.list_training_sets():
            assert "a" not in found.to_arrow().column("thing").to_pylist() and found.verify().same


def test_what_a_killed_saver_had_begun_goes_with_a_purge(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        project.save()
        sets = store.context.training_sets.path
        left = sets / "headwater-temp-left"
        left.mkdir()
        (left / ".owner").touch()
        (left / "rows-1.parquet").write_text("a")
        store.delete("pushed", ["a"], purge=True)
        due(project)
        assert [path.name for path in sets.iterdir()] == ["things"]


@pytest.mark.parametrize("step", ["written", "named"])
def test_an_erase_that_is_killed_goes_on(tmp_path, monkeypatch, step):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        saved = project.save()
        real = erasing.write_manifest

        class Killed(BaseException):
            pass

        def write(folder, manifest):
            if step == "named":
                real(folder, manifest)
            raise Killed

        monkeypatch.setattr(erasing, "write_manifest", write)
        store.delete("pushed", ["a"], purge=True)
        with pytest.raises(Killed):
            due(project)
        monkeypatch.undo()
        assert store.training_set("things").to_arrow(["row"]).num_rows in (40, 33)
        due(project)
        made = store.training_set("things")
        assert made.verify().same and len(made) == 33 and "a" not in made.to_arrow().column("thing").to_pylist()
        assert sorted(file.name for file in saved.path.iterdir()) == ["manifest.json", made.file.name]
        assert not store.context.log.pending_purges()


def test_a_set_that_cannot_be_read_keeps_the_purge_pending(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        saved = project.save()
        manifest = saved.path / "manifest.json"
        whole = manifest.read_bytes()
        manifest.write_bytes(b"{}")
        store.delete("pushed", ["a"], purge=True)
        due(project)
        report = store.erase("thing", ["never"])
        assert any("training set things 1" in note for note in report.notes)
        assert store.context.log.pending_purges()
        manifest.write_bytes(whole)
        due(project)
        assert not store.context.log.open_purges("pushed") and store.training_set("things").manifest.rows.erased == 7
