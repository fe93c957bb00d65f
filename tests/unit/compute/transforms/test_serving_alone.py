"""On-demand features where the project's files are not: from the registry alone, versions side by side, in threads."""

import shutil
import sys
import textwrap
import threading
import warnings
from datetime import UTC, datetime

import pyarrow as pa
import pytest

import headwater as hw
from tests.children import run_program

WHEN = datetime(2024, 1, 1, 12, tzinfo=UTC)
FEATURES = """
import math
import headwater as hw

thing = hw.Entity("thing", join_keys={"id": hw.Int64})
v = hw.FeatureView("v", entity=thing, source=hw.PushSource(event_time="ts"), features=[hw.Feature("x", hw.Float64)])

@hw.on_demand(inputs=[v["x"], hw.RequestField("k", hw.Int64)], features=[hw.Feature("y", hw.Float64)], mode="rows")
def scaled(row):
    return {"y": math.floor(row["x"]) * row["k"]}

model = hw.FeatureService("model", [v["x"], scaled])
"""
SETTINGS = """project = "p"
[registry]
url = "sqlite:///state/registry.db"
[online]
url = "lmdb:state/online?map_size=16777216"
[offline]
log = "state/log"
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "headwater.toml").write_text(SETTINGS)
    (folder / "features.py").write_text(FEATURES)
    with hw.FeatureStore(folder) as store:
        store.apply()
        store.write("v", [{"id": 1, "ts": WHEN, "x": 2.5}])
    return folder


def test_a_process_that_only_serves_needs_no_files_of_the_project(project):
    (project / "features.py").unlink()
    text = f"""
    import sys
    import headwater as hw
    with hw.FeatureStore({str(project)!r}) as store:
        reader = store.prepare("model")
        assert list(reader.request_fields) == ["k"], reader.request_fields
        print(reader.read([1], request={{"k": 3}}).to_dict())
    print([name for name in ("duckdb", "sqlglot", "sqlalchemy") if name in sys.modules])
    """
    assert list(run_program(textwrap.dedent(text), project, new=True)) == ["{'id': [1], 'x': [2.5], 'y': [6.0]}", "[]"]


def test_two_versions_are_run_side_by_side(project):
    text = FEATURES.replace('row["k"]}', 'row["k"] + 100}')
    (project / "features.py").write_text(text)
    with hw.FeatureStore(project) as store:
        store.apply()
        read = store.get_online_features(["scaled@1.0.0:y"], [1], request={"k": 3})
        assert read.to_dict()["y"] == [6.0]
        assert store.get_online_features(["scaled:y"], [1], request={"k": 3}).to_dict()["y"] == [106.0]
        both = store.get_online_features(
            ["scaled@1.0.0:y", "scaled@2.0.0:y"], [1], request={"k": 3}, full_names=True
        ).to_dict()
        assert (both["scaled__1.0.0__y"], both["scaled__2.0.0__y"]) == ([6.0], [106.0])
        # a model goes on with the function that it was trained with
        assert store.get_online_features("model", [1], request={"k": 3}).to_dict()["y"] == [6.0]
        assert store.get_online_features("model@2.0.0", [1], request={"k": 3}).to_dict()["y"] == [106.0]


def test_a_prepared_reader_keeps_its_function_and_says_so(project):
    with hw.FeatureStore(project) as store:
        reader, service = store.prepare(["scaled:y"]), store.prepare("model")
        (project / "features.py").write_text(FEATURES.replace('row["k"]}', 'row["k"] + 100}'))
        store.apply()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reader.refresh()
            service.refresh()
        assert reader.read([1], request={"k": 3}).to_dict()["y"] == [6.0]
        assert service.read([1], request={"k": 3}).to_dict()["y"] == [6.0]
        assert any("scaled 2.0.0 have different values" in str(warning.message) for warning in caught)
        # a description alone changes nothing
        more = FEATURES.replace('row["k"]}', 'row["k"] + 100}').replace('mode="rows")', 'mode="rows", description="d")')
        (project / "features.py").write_text(more)
        plan = store.apply()
        assert [str(stage.action) for stage in plan.stages] == ["update"]


def test_code_from_the_registry_is_refused_where_settings_say_so(project):
    (project / "headwater.toml").write_text(SETTINGS + "run_code = false\n[serving]\nrun_code = false\n")
    with hw.FeatureStore(project) as store:
        with pytest.raises(hw.ConfigError, match=r"scaled 1\.0\.0: .* \[serving\] run_code = false"):
            store.prepare("model")
        assert store.get_online_features(["v:x"], [1]).to_dict() == {"id": [1], "x": [2.5]}
        spine = pa.table({"id": [1], "timestamp": [WHEN], "k": [1]})
        with pytest.raises(hw.ConfigError, match=r"scaled 1\.0\.0: .* \[offline\] run_code = false"):
            store.get_historical_features(spine, "model")


def test_a_package_that_is_not_installed_here_is_named(project):
    shutil.copy(project / "features.py", project / "before.py")
    with hw.FeatureStore(project) as store:
        source = "def gone(k):\n    return {'y': not_there.f(k)}\n"
        view = hw.OnDemandFeatureView(
            "gone", inputs=[hw.RequestField("k", hw.Float64)], features=[hw.Feature("y", hw.Float64)], source=source,
            imports=("import not_there",),
        )  # fmt: skip
        store.apply([view])
        with pytest.raises(
            hw.MissingExtra, match=r"'gone' 1\.0\.0: its function needs not_there, which is not installed"
        ):
            store.prepare(["gone:y"])


def test_threads_read_at_the_same_time(project):
    with hw.FeatureStore(project) as store:
        store.write("v", [{"id": i, "ts": WHEN, "x": float(i)} for i in range(50)])
        reader = store.prepare("model")
        wrong = []

        def reads(k):
            for _ in range(60):
                found = reader.read(list(range(50)), request={"k": k}).to_dict()["y"]
                if found != [float(i * k) for i in range(50)]:
                    wrong.append((k, found))

        threads = [threading.Thread(target=reads, args=(k,)) for k in range(4)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        assert not wrong


def test_nothing_is_kept_from_one_call_to_the_next(project):
    text = """def counted(k):
    counted.calls = getattr(counted, "calls", 0) + 1
    return {"y": k}
"""
    from headwater.definitions.function_source import name_problems

    # its own name would be a place to keep something
    assert any("'counted'" in problem for problem in name_problems(text, ()))
