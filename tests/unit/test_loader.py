"""What is found at run time: definitions in a project's files, stores and engines through entry points."""

import shutil
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from headwater import loader
from headwater.errors import ConfigError, DefinitionError, MissingExtra, needs_package
from headwater.loader import OFFLINE_ENGINES, ONLINE_STORES, find_plugin, load_definitions, load_plugin

ENTITY = 'import headwater as hw\n{name} = hw.Entity("{name}", join_keys={{"{name}": hw.String}})\n'
VIEW = (
    "import headwater as hw\nfrom things import airport\n"
    'weather = hw.FeatureView("weather", entity=airport, source=hw.PushSource(event_time="t"), '
    'features=[hw.Feature("temp", hw.Float64)])\n'
)
SERVICE = 'import headwater as hw\nfrom weather import weather\nmodel = hw.FeatureService("model", [weather["temp"]])\n'


def write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def names(definitions):
    return [definition.name for definition in definitions]


def failure(folder, *files):
    with pytest.raises(DefinitionError) as caught:
        load_definitions(folder, files)
    return str(caught.value)


def test_definitions_come_in_the_order_of_files_and_lines(tmp_path):
    write(tmp_path, b=ENTITY.format(name="two"), a=ENTITY.format(name="one") + ENTITY.format(name="three"))
    assert names(load_definitions(tmp_path, ["b.py", "a.py"])) == ["two", "one", "three"]


def test_globs_and_folders(tmp_path):
    write(tmp_path, defs__b=ENTITY.format(name="two"), defs__a=ENTITY.format(name="one"))
    assert names(load_definitions(tmp_path, ["defs/*.py"])) == ["one", "two"]


def test_definitions_inside_lists_and_dicts_are_found(tmp_path):
    text = 'import headwater as hw\nmany = [hw.Entity(n, join_keys={n: hw.String}) for n in ("a", "b")]\n'
    write(tmp_path, features=text + 'named = {"c": hw.Entity("c", join_keys={"c": hw.Int64})}\n')
    assert names(load_definitions(tmp_path, ["features.py"])) == ["a", "b", "c"]


@pytest.mark.parametrize("order", [["things.py", "weather.py", "model.py"], ["model.py", "weather.py", "things.py"]])
def test_files_that_import_each_other_give_each_definition_once(tmp_path, order):
    write(tmp_path, things=ENTITY.format(name="airport"), weather=VIEW, model=SERVICE)
    found = load_definitions(tmp_path, order)
    assert sorted(names(found)) == ["airport", "model", "weather"]


def test_a_file_changed_within_the_second_is_read_anew(tmp_path):
    write(tmp_path, things=ENTITY.format(name="aaa"), features="from things import *\n")
    assert names(load_definitions(tmp_path, ["features.py"])) == ["aaa"]
    write(tmp_path, things=ENTITY.format(name="bbb"))
    assert names(load_definitions(tmp_path, ["features.py"])) == ["bbb"]
    assert names(load_definitions(tmp_path, ["things.py"])) == ["bbb"]
    assert not list(tmp_path.rglob("__pycache__"))


def test_the_process_is_as_it_was_afterwards(tmp_path, monkeypatch):
    write(tmp_path, things=ENTITY.format(name="airport"), weather=VIEW)
    monkeypatch.syspath_prepend(str(tmp_path))
    import things  # type: ignore[import-not-found]

    before = (list(sys.path), set(sys.modules), sys.dont_write_bytecode)
    load_definitions(tmp_path, ["weather.py"])
    assert (list(sys.path), set(sys.modules), sys.dont_write_bytecode) == before
    assert sys.modules["things"] is things
    del sys.modules["things"]


def test_a_file_named_like_a_module_of_python_loads(tmp_path):
    write(tmp_path, types=ENTITY.format(name="airport"))
    import types

    assert names(load_definitions(tmp_path, ["types.py"])) == ["airport"]
    assert sys.modules["types"] is types


def test_a_missing_file_is_named(tmp_path):
    message = failure(tmp_path, "features.py")
    assert str(tmp_path / "features.py") in message and "headwater.toml" in message
    assert "no such file" in failure(tmp_path, "*.nothing")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x = 1\nimport headwater as hw\nhw.Entty('a')\n", ["features.py:3", "AttributeError", "Entty"]),
        ("x = 1\nx = = 2\n", ["features.py:2", "SyntaxError"]),
        ("import no_such_module\n", ["features.py:1", "ModuleNotFoundError", "no_such_module"]),
        ("import sys\nsys.exit(3)\n", ["features.py:2", "SystemExit"]),
        ("def f():\n    return 1 / 0\nf()\n", ["features.py:2", "ZeroDivisionError"]),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(tmp_path, text, parts):
    message = failure(write(tmp_path, features=text), "features.py")
    for part in parts:
        assert part in message


def test_headwaters_own_stores_are_found_through_entry_points():
    assert load_plugin(OFFLINE_ENGINES, "duckdb").__name__ == "DuckDBEngine"
    assert load_plugin(ONLINE_STORES, "lmdb").__name__ == "LMDBOnlineStore"
    assert load_plugin(ONLINE_STORES, "memory").__name__ == "MemoryOnlineStore"


def test_what_is_installed_or_removed_meanwhile_is_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no online store 'late'"):
            find_plugin(ONLINE_STORES, "late")
        metadata = tmp_path / "late-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[headwater.online_stores]\nlate = late.store:Store\n")
        assert find_plugin(ONLINE_STORES, "late").value == "late.store:Store"
        shutil.rmtree(metadata)


def test_headwaters_own_names_are_read_from_its_own_metadata_alone():
    for group in (ONLINE_STORES, OFFLINE_ENGINES):
        own = loader._own_points(group, tuple((place, 0) for place in sys.path))
        installed = {p.name: p.value for p in entry_points(group=group) if p.value.startswith("headwater.")}
        assert {name: point.value for name, point in own.items()} == installed


def test_what_another_package_registers_under_an_own_name_is_left_alone(tmp_path, monkeypatch):
    metadata = tmp_path / "another-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[headwater.online_stores]\nlmdb = another.store:Store\nredis+other = another.store:Other\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_plugin(ONLINE_STORES, "lmdb").module.startswith("headwater.")
    assert find_plugin(ONLINE_STORES, "redis+sentinel").module.startswith("headwater.")
    assert find_plugin(ONLINE_STORES, "redis+other").value == "another.store:Other"


def test_where_headwater_has_no_metadata_of_its_own_all_is_read(monkeypatch):
    monkeypatch.setattr(loader, "_own_points", lambda group, places: {})
    assert load_plugin(OFFLINE_ENGINES, "duckdb").__name__ == "DuckDBEngine"


def test_an_unknown_store_names_the_nearest_and_those_there_are():
    with pytest.raises(ConfigError, match=r"no online store 'lmbd'; did you mean 'lmdb'\?.*lmdb.*memory"):
        load_plugin(ONLINE_STORES, "lmbd")
    with pytest.raises(ConfigError, match=r"no offline engine 'duck'.*duckdb"):
        load_plugin(OFFLINE_ENGINES, "duck")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("redis", "pip install 'headwater[redis]'"),
        ("botocore", "'headwater[dynamodb]'"),
        ("some.thing", "pip install some"),
    ],
)
def test_a_missing_extra_is_the_line_that_installs_it(module, line):
    with pytest.raises(MissingExtra, match="is not installed") as missing, needs_package(module):
        raise ModuleNotFoundError(name=module.partition(".")[0])
    assert line in str(missing.value)


def test_what_definitions_print_goes_to_standard_error(tmp_path, capsys):
    (tmp_path / "features.py").write_text('print("loading")\n')
    load_definitions(tmp_path, ["features.py"])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "loading\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "raise ImportError('cannot import name x')",
            "installed, but cannot be imported (ImportError: cannot import",
        ),
        ("import no_such_thing_at_all", "no_such_thing_at_all is not installed: pip install no_such_thing_at_all"),
        (
            "raise OSError('libhiredis.so: no such file')",
            "installed, but cannot be imported (OSError: libhiredis.so",
        ),
        ("", "redis is installed, but cannot be imported (ModuleNotFoundError: No module named 'redis."),
    ],
)
def test_a_half_installed_extra_says_what_to_type(tmp_path, content, said):
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "__init__.py").write_text(content)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import headwater as hw\n"
        "try:\n    hw.FeatureStore(online='redis://127.0.0.1:1')\n"
        "except hw.errors.MissingExtra as missing:\n    print(missing)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert said in done.stdout, done.stderr
    assert "no_such" in said or "pip install --force-reinstall 'headwater[redis]'" in done.stdout
