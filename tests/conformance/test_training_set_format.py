"""What a released version saved as a training set, today's code still lists, loads, verifies and erases from."""

import shutil

import pytest

from headwater.offline.training_sets.manifest import FORMAT
from tests.fixtures.make_training_set import FILES_KEPT, FOLDER, READ
from tests.training_sets import COLUMNS, HOUR, Project, spine

VERSIONS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


@pytest.fixture(params=VERSIONS)
def project(request, tmp_path):
    kept, folder = FOLDER / request.param, tmp_path / "p"
    folder.mkdir()
    for name in FILES_KEPT:
        shutil.copy(kept / name, folder / name)
    shutil.copytree(kept / "things", folder / ".headwater" / "training_sets" / "things")
    made = Project(folder)
    yield made
    made.store.close()


def test_a_set_of_each_format_is_read_verified_and_erased_from(project):
    (saved,) = project.store.list_training_sets()
    assert saved.to_arrow(spine().column_names).equals(spine()) and saved.labels == ["late"]
    assert saved.features == [name for name in COLUMNS if any(name in reference for reference in READ)]
    report = saved.verify()
    assert report.same and report.rows == 40 and not report.not_rebuilt
    tested = saved.split(0.25, by="key")["test"].to_arrow(["thing"]).column("thing")
    assert set(tested.to_pylist()) == {"a", "c", "nobody"}
    project.store.delete("files", ["a"], purge=True)
    project.now += HOUR
    project.store.materialize()
    assert project.store.training_set("things").manifest.rows.erased == 7
    assert project.store.training_set("things").verify().same
    assert project.save(features=READ).version == 2


def test_there_is_one_folder_for_each_format():
    assert [f"v{number}" for number in range(1, FORMAT + 1)] == VERSIONS
