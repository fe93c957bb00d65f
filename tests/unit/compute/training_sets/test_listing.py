"""Listing training sets: one that cannot be read is named, and hides no other."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.testing import SCALE
from tests.training_sets import Project

STATES = ("whole", "cut", "gone", "newer", "a file", "no json", "bytes")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("training") / "p").filled()
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def saved(project):
    return project.save()


@pytest.mark.filterwarnings("ignore:training set")
@given(
    st.lists(st.sampled_from(["whole", "cut", "gone", "newer", "a file", "no json", "bytes"]), min_size=1, max_size=5)
)
@settings(max_examples=10 * SCALE, deadline=None)
def test_what_cannot_be_read_never_hides_the_rest(saved, project, states):
    sets = project.store.context.training_sets.path
    for i, state in enumerate(states, 1):
        folder = sets / "many" / str(i)
        shutil.copytree(saved.path, folder)
        manifest = folder / "manifest.json"
        content = manifest.read_bytes()
        if state in ("gone", "a file"):
            manifest.unlink()
        if state == "a file":
            shutil.rmtree(folder)
            folder.write_text("")
        changed = {
            "cut": content[: len(content) // 2],
            "newer": content.replace(b'"format": 1', b'"format": 9'),
            "no json": b"",
            "bytes": b"\xff\x00",
        }
        if state in changed:
            manifest.write_bytes(changed[state])
    try:
        found = project.store.list_training_sets()
    finally:
        shutil.rmtree(sets / "many")
    whole = [i for i, state in enumerate(states, 1) if state == "whole"]
    assert [s.path.name for s in found if s.path.parent.name == "many"] == [str(i) for i in whole]
    lost = {f"many@{i}" for i, state in enumerate(states, 1) if state not in ("whole", "a file")}
    assert set(found.problems) == lost
    assert all("restore the training set" in why or "upgrade headwater" in why for why in found.problems.values())


def test_a_damaged_set_is_a_warning_that_names_it(tmp_path):
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        project.save("a"), project.save("b")
        (store.training_set("a").path / "manifest.json").write_bytes(b"{")
        with pytest.warns(UserWarning, match=r"training set a@1 cannot be read: .*manifest\.json is damaged.*restore"):
            found = store.list_training_sets()
        assert [s.name for s in found] == ["b"] and set(found.problems) == {"a@1"}
