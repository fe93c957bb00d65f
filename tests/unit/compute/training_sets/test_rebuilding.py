"""Rebuilding a training set: what cannot be rebuilt is named, and keeps nothing else from being compared."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.testing import SCALE
from tests.training_sets import (
    FILE_ROWS,
    FILES,
    PUSHED,
    TEXT,
    THING,
    Project,
    spine,
    write_files,
    write_text,
)

TEXT_ROWS = [(key, hour, f"{key}{hour}") for hour in range(0, 12, 3) for key in "ab"]


@hw.transform(
    sources={"text": hw.CSVSource("text.csv", schema={"at": hw.Timestamp})},
    schema={"thing": hw.String, "at": hw.Timestamp, "letters": hw.Int64},
    event_time="at",
)
def counted(text):
    import pyarrow.compute as pc

    return text.append_column("letters", pc.utf8_length(text["word"]))


COUNTED = hw.FeatureView("counted", entity=THING, source=counted, features=[hw.Feature("letters", hw.Int64)])


@hw.on_demand(inputs=[FILES["x"]], features=[hw.Feature("doubled", hw.Float64)])
def doubled(x):
    return {"doubled": 2 * x}


@hw.on_demand(inputs=[PUSHED["p"]], features=[hw.Feature("halved", hw.Float64)])
def halved(p):
    return {"halved": p / 2}


FEATURES = ["files:x", "text:word", "pushed:p", "counted:letters", "doubled:doubled", "halved:halved"]
NEEDS = {"x": "files", "word": "text", "p": "", "letters": "text code", "doubled": "files code", "halved": "code"}
"""Feature → what of the project it cannot be rebuilt without."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores of one project, the second of which runs no code of the registry; and the set."""
    project = Project(tmp_path_factory.mktemp("rebuild") / "p", views=[FILES, TEXT, PUSHED, COUNTED, doubled, halved])
    project.push("pushed", [("a", 0, 1.0), ("b", 1, 2.0)])
    project.save(features=FEATURES)
    settings_file = project.folder / "headwater.toml"
    settings_file.write_text('project = "p"\n[offline]\nrun_code = false\n')
    with project.store, hw.FeatureStore(project.folder, online="memory:", clock=lambda: project.now) as other:
        yield project, other


@settings(max_examples=12 * SCALE, deadline=None)
@given(
    lost=st.sets(st.sampled_from(["files", "text"])),
    code=st.booleans(),
    changed=st.sets(st.sampled_from(["x", "word"])),
)
def test_every_column_that_can_be_rebuilt_is_compared(stores, lost, code, changed):
    project, other = stores
    store = project.store if code else other
    write_files(project.folder, [(k, h, 7.5 if "x" in changed else x, n, later) for k, h, x, n, later in FILE_ROWS])
    write_text(project.folder, [(key, hour, "changed" if "word" in changed else word) for key, hour, word in TEXT_ROWS])
    for name, file in (("files", "files.parquet"), ("text", "text.csv")):
        if name in lost:
            (project.folder / file).unlink()
    missing = lost | (set() if code else {"code"})
    report = store.training_set("things").verify()
    assert set(report.not_rebuilt) == {name for name, needs in NEEDS.items() if missing & set(needs.split())}
    differ = {"x": {"x", "doubled"}, "word": {"word", "letters"}}
    wanted = {name for one in changed for name in differ[one]} - set(report.not_rebuilt)
    assert {column.name for column in report.columns} == wanted
    assert report.verdict == ("different" if wanted else "not rebuilt" if missing else "same")
    for name, why in report.not_rebuilt.items():
        assert ("run_code = false" in why) == ("code" in NEEDS[name] and not code), why
    # the rows that differ are those of the rows that are rebuilt whole
    assert report.different_rows >= max((column.rows for column in report.columns), default=0)
    assert report.rows == spine().num_rows
