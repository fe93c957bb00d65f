"""A check of a training set: what changed is told apart, and every value is compared."""

from __future__ import annotations

import json
import math
import shutil
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.compute.training_sets.comparing import close, different
from headwater.testing import rounds
from headwater.types import is_list
from tests.training_sets import (
    FEATURES,
    FILE_ROWS,
    FILES,
    KEYS,
    PUSHED,
    TEXT_ROWS,
    THING,
    VIEWS,
    Project,
    spine,
    write_files,
    write_text,
)

KIND, VERDICT = hw.InputChangeKind, hw.TrainingSetVerdict


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "p").filled()
    yield made
    made.store.close()


def changes(report):
    return {(change.view, change.kind) for change in report.changes}


MUTATIONS = ("none", "value", "row_added", "row_gone", "rewritten")
FILE = st.tuples(st.sampled_from(MUTATIONS), st.integers(0, len(FILE_ROWS) - 1), st.sampled_from(["b", "nobody"]))
TEXT = st.tuples(st.sampled_from(["none", "value", "row_added"]), st.integers(0, len(TEXT_ROWS) - 1))
LATE = st.lists(st.tuples(st.sampled_from(["pushed", "events"]), st.sampled_from(KEYS), st.integers(0, 13)), max_size=3)


def mutated(rows, how, place, other):
    rows = list(rows)
    key, hour, _, n, later = rows[place]
    match how:
        case "value":
            rows[place] = (key, hour, -1.0, n, later)
        case "row_added":
            rows.append((other, hour, 99.0, 99, 0))
        case "row_gone":
            del rows[place]
        case "rewritten":
            rows.reverse()
    return rows


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("verify") / "p").filled()
    yield made, made.save(), made.store.context.log.head_position()
    made.store.close()


@settings(max_examples=rounds(8), deadline=None)
@given(FILE, TEXT, LATE)
def test_random_changes_of_sources_and_late_rows(shared, file, text, late):
    project, saved, position = shared
    write_files(project.folder, mutated(FILE_ROWS, *file))
    texts = list(TEXT_ROWS)
    if text[0] == "value":
        texts[text[1]] = (*texts[text[1]][:2], "other")
    elif text[0] == "row_added":
        texts.append(("c", texts[text[1]][1], "new"))
    write_text(project.folder, texts)
    # what the log got behind the set's position changes nothing
    for view, key, hour in late:
        project.push(view, [(key, hour, 50.0)])
    report = saved.verify()
    now = historical(project.store.context, spine(), FEATURES, log_until=position).to_arrow()
    then = saved.to_arrow()
    expected = {name for name in then.column_names if now.column(name).to_pylist() != then.column(name).to_pylist()}
    assert {column.name for column in report.columns} == expected
    rows = [i for i, (a, b) in enumerate(zip(then.to_pylist(), now.to_pylist(), strict=True)) if a != b]
    assert report.different_rows == len(rows)
    assert report.verdict == (VERDICT.DIFFERENT if rows else VERDICT.SAME)
    for column in report.columns:
        for row, old, new in column.examples:
            assert (old, new) == tuple(t.column(column.name)[row].as_py() for t in (then, now))
    kinds = {"none": None, "row_added": KIND.ROWS_ADDED}
    found = changes(report)
    assert {k for v, k in found if v == "files"} == {kinds.get(file[0], KIND.FILE_REPLACED)} - {None}
    assert {k for v, k in found if v == "text"} == ({KIND.FILE_REPLACED} if text[0] != "none" else set())
    assert not {v for v, _ in found} - {"files", "text"}


VALUES = st.none() | st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf])
COLUMN = st.lists(st.tuples(VALUES, VALUES), max_size=8)


@settings(max_examples=rounds(40), deadline=None)
@given(
    COLUMN,
    st.sampled_from([pa.float64(), pa.float32(), pa.list_(pa.float64()), pa.string(), pa.list_(pa.float32(), 1)]),
)
def test_values_are_compared_one_by_one(pairs, kind):
    def value(number):
        if number is None or pa.types.is_floating(kind):
            return number
        return [number] if is_list(kind) else str(number)

    def equal(one, other):
        if isinstance(one, list) and isinstance(other, list):
            return equal(one[0], other[0])
        both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
        return both_nan or one == other

    saved, now = ([value(pair[i]) for pair in pairs] for i in (0, 1))
    found = different(pa.array(saved, kind), pa.array(now, kind))
    assert found.tolist() == [not equal(one, other) for one, other in zip(saved, now, strict=True)]


def test_rounding_is_told_from_a_change():
    saved, now = pa.array([1.0, 1.0, None, 0.0]), pa.array([1.0 + 1e-12, 1.001, 1.0, 1e-300])
    rows = different(saved, now)
    assert rows.all() and close(saved, now, rows).tolist() == [True, False, False, False]


def test_files_added_removed_and_moved(tmp_path):
    folder = tmp_path / "p"
    (folder / "parts").mkdir(parents=True)
    view = hw.FeatureView(
        "files",
        entity=THING,
        source=hw.ParquetSource("parts", event_time="at", created_time="seen"),
        features=FILES.features,
    )
    write_files(folder, FILE_ROWS)
    write_text(folder, TEXT_ROWS)
    write_files(folder, FILE_ROWS[:20], "parts/one.parquet")
    write_files(folder, FILE_ROWS[20:], "parts/two.parquet")
    project = Project(folder, [view])
    with project.store:
        saved = project.save(features=["files:x"])
        write_files(folder, [("nobody", 1, 1.0, 1, 0)], "parts/three.parquet")
        report = saved.verify()
        assert changes(report) == {("files", KIND.FILE_ADDED)} and not report.same
        (folder / "parts/three.parquet").unlink()
        (folder / "parts/two.parquet").rename(folder / "parts/zwei.parquet")
        assert saved.verify().same and not saved.verify().changes
        (folder / "parts/zwei.parquet").rename(tmp_path / "two.parquet")
        report = saved.verify()
        assert changes(report) == {("files", KIND.FILE_GONE)} and report.verdict is VERDICT.DIFFERENT
        (folder / "parts/one.parquet").unlink()
        report = saved.verify()
        assert report.verdict is VERDICT.NOT_REBUILT and changes(report) == {("files", KIND.FILE_GONE)}
        assert set(report.not_rebuilt) == {"x"} and "no file" in str(report)


def test_a_file_written_again_with_the_same_values_is_the_same(project):
    saved = project.save()
    write_files(project.folder, FILE_ROWS, compression="none")
    report = saved.verify()
    assert report.same and changes(report) == {("files", KIND.FILE_REPLACED)}


def test_on_another_machine_the_registry_says_where_sources_are(tmp_path):
    project = Project(tmp_path / "here" / "p").filled()
    saved = project.save()
    project.store.close()
    # there everything has another path, time and inode
    there = tmp_path / "there"
    shutil.copytree(project.folder, there)
    (there / "data").mkdir()
    (there / "files.parquet").rename(there / "data" / "other.parquet")
    moved = hw.FeatureView(
        "files",
        entity=THING,
        source=hw.ParquetSource("data/other.parquet", event_time="at", created_time="seen"),
        features=FILES.features,
    )
    with hw.FeatureStore(there, online="memory:", clock=lambda: project.now) as store:
        copied = store.training_set("things")
        before = copied.verify()
        assert before.verdict is VERDICT.NOT_REBUILT and changes(before) == {("files", KIND.FILE_GONE)}
        store.apply([moved])
        assert copied.manifest == saved.manifest
        report = copied.verify()
        assert report.same and not report.changes
        write_files(there / "data", FILE_ROWS[:-1], "other.parquet")
        after = copied.verify()
        assert not after.same and changes(after) == {("files", KIND.FILE_REPLACED)}


def test_another_log_is_named(tmp_path):
    project = Project(tmp_path / "p").filled()
    saved = project.save()
    project.store.close()
    other = Project(tmp_path / "other").filled()
    shutil.copytree(saved.path.parent.parent, other.folder / ".headwater" / "training_sets")
    with other.store as store:
        report = store.training_set("things").verify()
    assert not report.same and changes(report) == {("", KIND.OTHER_LOG)}
    assert {column.name for column in report.columns} == {"p", "amount_sum_6h", "seen"}


def test_a_definition_that_is_gone_or_another(tmp_path):
    project = Project(tmp_path / "p").filled()
    saved = project.save()
    project.store.close()
    fresh = Project(tmp_path / "fresh", [PUSHED, *VIEWS[2:]])
    shutil.copytree(saved.path.parent.parent, fresh.folder / ".headwater" / "training_sets")
    with fresh.store as store:
        report = store.training_set("things").verify()
        assert report.verdict is VERDICT.DIFFERENT  # its log rows are not here
        assert {("files", KIND.DEFINITION_GONE), ("text", KIND.DEFINITION_GONE)} <= changes(report)
        assert set(report.not_rebuilt) == {"x", "n", "word"}
        ttl = hw.FeatureView("files", entity=THING, source=FILES.source, features=FILES.features, ttl="1h")
        store.apply([ttl, VIEWS[1]])
        report = store.training_set("things").verify()
        assert {("files", KIND.DEFINITION)} == {c for c in changes(report) if c[0] == "files"}
        assert not report.not_rebuilt and "x" in {column.name for column in report.columns}


def test_a_retired_version_is_rebuilt(project):
    saved = project.save()
    more = hw.FeatureView(
        "files", entity=THING, source=FILES.source, features=[*FILES.features, hw.Feature("m", hw.Int64, column="n")]
    )
    for name in ("m", "m2", "m3"):
        project.store.apply(
            [
                hw.FeatureView(
                    "files", entity=THING, source=FILES.source, features=[hw.Feature(name, hw.Int64, column="n")]
                )
            ]
        )
        project.store.materialize()
    project.store.apply([more])
    assert saved.verify().same and "files@1.0.0:x" in {c.reference for c in saved.manifest.columns}


def test_deletes_and_writes_behind_the_position_change_nothing(project):
    project.store.delete("pushed", ["a"])
    saved = project.save()
    assert {view.label: view.deletes for view in saved.manifest.views}["pushed"] == 1
    project.store.delete("pushed", ["b"])
    project.push("pushed", [("c", 1, 5.0)])
    project.store.context.log.roll()
    report = saved.verify()
    assert report.same and not report.changes


def test_rows_of_the_log_that_are_lost(project):
    project.store.context.log.roll()
    saved = project.save()
    files = [p for p in (project.folder / ".headwater" / "log").rglob("*.parquet") if "pushed" in p.name]
    for file in files:
        file.unlink()
    report = saved.verify()
    assert report.verdict is VERDICT.NOT_REBUILT and "incomplete" in str(report)
    project.store.verify(forget=[file.name for file in files])
    report = saved.verify()
    assert report.verdict is VERDICT.DIFFERENT and changes(report) == {("pushed", KIND.LOG_LOST)}
    assert {column.name for column in report.columns} == {"p"}


def test_a_damaged_set_is_told_from_a_changed_source(project):
    saved = project.save()
    whole = saved.file.read_bytes()
    table = saved.to_arrow()
    changed = table.set_column(table.schema.get_field_index("x"), "x", pa.array(np.zeros(40)))
    pq.write_table(changed, saved.file)
    report = saved.verify()
    assert report.verdict is VERDICT.DAMAGED and "SHA-256" in report.damage
    saved.file.write_bytes(whole[: len(whole) // 2])
    assert saved.verify().verdict is VERDICT.DAMAGED
    with pytest.raises(hw.FormatError, match="damaged"):
        project.store.training_set("things").to_arrow()
    saved.file.unlink()
    assert saved.verify().verdict is VERDICT.DAMAGED
    with pytest.raises(hw.StoreError, match="does not exist"):
        saved.to_pandas()


def test_a_file_without_a_column_is_damaged(project):
    saved = project.save()
    pq.write_table(saved.to_arrow().drop_columns(["x"]), saved.file)
    for read in (saved.to_arrow, saved.to_pandas, saved.to_numpy, lambda: list(saved.to_batches())):
        with pytest.raises(hw.FormatError, match="damaged: it has no column 'x'"):
            read()
    assert saved.verify().verdict is VERDICT.DAMAGED


@pytest.mark.parametrize("rows", [39, 41])
def test_a_file_of_another_number_of_rows_is_damaged(project, rows):
    saved = project.save()
    pq.write_table(saved.to_arrow().take([i % 40 for i in range(rows)]), saved.file)
    for read in (saved.to_arrow, saved.to_numpy, lambda: list(saved.to_batches()), lambda: saved.split(test_size=0.2)):
        with pytest.raises(hw.FormatError, match=f"damaged: it has {rows} rows, 40 were saved"):
            read()


def test_manifests_that_cannot_be_read(project):
    saved = project.save()
    manifest = saved.path / "manifest.json"
    text = json.loads(manifest.read_text())
    for content, words in (
        (json.dumps(text | {"format": 99}), "upgrade headwater"),
        ("{}", "damaged"),
        ("", "damaged"),
        (json.dumps(text | {"columns": 5}), "damaged"),
        (json.dumps(text | {"columns": []}), "0 columns of features for 6 selections"),
        (json.dumps(text | {"labels": ["tomorrow"]}), "has no column 'tomorrow'"),
        (json.dumps(text | {"rows": text["rows"] | {"file": "../1/rows-1.parquet"}}), "is not a name such as"),
        (json.dumps(text | {"rows": text["rows"] | {"rows": -1}}), "rows.rows is -1"),
        (json.dumps(text | {"log": text["log"] | {"position": 10**30}}), "log.position is 1000"),
    ):
        manifest.write_text(content)
        with pytest.raises(hw.FormatError, match=words):
            project.store.training_set("things")
    manifest.write_text(json.dumps(text | {"of_a_later_release": 1}))
    assert project.store.training_set("things").verify().same
    manifest.unlink()
    with pytest.raises(hw.FormatError, match="does not exist: restore the training set"):
        project.store.training_set("things")


def test_reports_are_shown(project):
    saved = project.save()
    write_files(project.folder, [(k, h, -1.0, n, d) for k, h, _, n, d in FILE_ROWS])
    report = saved.verify()
    assert "different when rebuilt" in str(report) and "x: " in str(report) and "file replaced" in str(report)
    assert "<table" in report._repr_html_() and "TrainingSetReport things 1" in repr(report)
    assert json.dumps(report.to_dict(), default=str)
    assert report.columns[0].view == "files"


def test_entities_that_became_known(tmp_path):
    project = Project(tmp_path / "p")
    with project.store as store:
        saved = store.save_training_set("batch", None, ["files:x"], at=project.now - timedelta(days=1))
        assert saved.verify().same
        write_files(project.folder, [*FILE_ROWS, ("new", 1, 1.0, 1, 0)])
        report = saved.verify()
        assert not report.same and changes(report) == {("files", KIND.ROWS_ADDED), ("", KIND.ENTITIES)}


def test_what_a_query_over_views_reads_is_named(tmp_path):
    derived = hw.FeatureView(
        "derived",
        entity=THING,
        source=hw.SQLSource(
            "SELECT w.thing, w.event_time, w.p + 1 AS more, w.known_at FROM w",
            tables={"w": PUSHED},
            event_time="event_time",
            created_time="known_at",
        ),
        features=[hw.Feature("more", hw.Float64)],
    )
    project = Project(tmp_path / "p").filled()
    with project.store as store:
        store.apply([derived])
        saved = store.save_training_set("things", spine(), ["derived:more"])
        (view,) = saved.manifest.views
        assert [(read.name, read.log_rows) for read in view.reads] == [("pushed", 24)]
        project.push("pushed", [("a", 1, 99.0)])
        assert saved.verify().same and not saved.verify().changes
        store.delete("pushed", ["a"], purge=True)
        project.now += timedelta(minutes=30)
        store.materialize()
        report = saved.verify()
        assert not report.same and changes(report) == {("pushed", KIND.LOG_ERASED)}
        assert {column.name for column in report.columns} == {"more"}


def test_what_several_views_read_is_named_once(tmp_path):
    query = "SELECT w.thing, w.event_time, w.x + {} AS more, w.known_at FROM w"
    derived = [
        hw.FeatureView(
            f"derived_{i}",
            entity=THING,
            source=hw.SQLSource(
                query.format(i), tables={"w": VIEWS[0]}, event_time="event_time", created_time="known_at"
            ),
            features=[hw.Feature("more", hw.Float64)],
        )
        for i in range(2)
    ]
    project = Project(tmp_path / "p")
    with project.store as store:
        store.apply(derived)
        features = ["files:x", *(view.rename({"more": view.name}) for view in derived)]
        saved = store.save_training_set("things", spine(), features)
        write_files(project.folder, FILE_ROWS[:-1])
        found = saved.verify().changes
        assert sorted(change.view for change in found) == ["derived_0", "derived_1", "files"]
