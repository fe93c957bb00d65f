"""Messages of the command that end somewhere: what is in the way, and what to type."""

import headwater as hw

VIEW = (
    "import headwater as hw\n"
    'user = hw.Entity("user", join_keys={"id": hw.Int64})\n'
    'source = hw.CSVSource("w.csv", event_time="at")\n'
    'w = hw.FeatureView("w", entity=user, source=source, features=[hw.Feature("x", hw.Float64)])\n'
)
PUSH = VIEW.replace('hw.CSVSource("w.csv", event_time="at")', 'hw.PushSource(event_time="at")')


def test_plan_names_a_column_that_a_header_has_twice(command, tmp_path):
    (tmp_path / "features.py").write_text(VIEW)
    (tmp_path / "w.csv").write_text("id,at,x,x\n1,2026-01-01,1,2\n")
    for name in ("plan", "apply"):
        said = "\n".join(command.error(tmp_path, name, code=1)["problems"])
        assert "w.csv: two columns are named 'x'; rename one in the file" in said and "values of sources" not in said


def test_plan_says_that_apply_reads_values_of_new_text(command, tmp_path):
    (tmp_path / "features.py").write_text(VIEW)
    (tmp_path / "w.csv").write_text("id,at,x\n1,2026-01-01,one\n")
    assert "apply also reads the first 10,000 rows of each file of w, as plan --check does" in command(tmp_path, "plan")
    assert "'one' is not float64" in str(command.error(tmp_path, "plan", "--check", code=1))
    (tmp_path / "w.csv").write_text("id,at,x\n1,2026-01-01,1\n")
    assert "apply also reads" not in command(tmp_path, "plan", "--check")
    command(tmp_path, "apply")
    assert "apply also reads" not in command(tmp_path, "plan")


def test_options_that_write_names_read_the_file(command, tmp_path):
    (tmp_path / "features.py").write_text(PUSH)
    command(tmp_path, "apply")
    (tmp_path / "rows.csv").write_text("id;at;x\n1;28.11.2025 12:00;1,5\n")
    said = command.error(tmp_path, "write", "w", tmp_path / "rows.csv", code=1)["message"]
    assert "--csv 'delimiter=;'" in said
    rows = ["write", "w", tmp_path / "rows.csv", "--csv", "delimiter=;"]
    said = str(command.error(tmp_path, *rows, code=1))
    assert "--csv 'timestamp_format=%d.%m.%Y %H:%M'" in said and "--csv decimal=," in said and "pandas" not in said
    command(tmp_path, *rows, "--csv", "timestamp_format=%d.%m.%Y %H:%M", "--csv", "decimal=,")
    with hw.FeatureStore(tmp_path) as store:
        assert store.get_online_features(["w:x"], [1]).to_dict()["x"] == [1.5]


def test_what_is_not_there_is_named(command, tmp_path):
    (tmp_path / "features.py").write_text(PUSH)
    command(tmp_path, "apply")
    said = command.error(tmp_path, "erase", "w", "--key", "id=1", code=1)["message"]
    assert "'w' is" not in said and "it is a feature view ('headwater delete w'" in said
    for name in ("out.csv", "out.parquet"):
        out = tmp_path / "nowhere" / name
        asked = ("history", "--at", "now", "--features", "w:x", "-o", out)
        said = command.error(tmp_path, *asked, code=1)["message"]
        assert f"folder {out.parent} does not exist" in said and "partial" not in said


def test_a_set_of_keys_is_refused_with_a_list():
    user = hw.Entity("user", join_keys={"id": hw.Int64})
    view = hw.FeatureView("w", entity=user, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)])
    with hw.FeatureStore.in_memory([user, view]) as store:
        for keys in ({1}, frozenset({1})):
            try:
                store.get_online_features(["w:x"], keys)
            except hw.EntityKeyError as bad:
                assert "has no order; give a list: [1]" in str(bad)
            else:
                raise AssertionError
