"""Settings: the order of their places, and errors that name the place and the nearest key."""

from datetime import timedelta

import pytest

from headwater.config import Settings, load_settings
from headwater.errors import ConfigError

FULL = """
project = "flights"
definitions = ["features.py", "more/*.py"]
[registry]
url = "sqlite:///elsewhere.db"
[online]
url = "memory:"
gone_files = "keep"
[offline]
engine = "duckdb"
memory_limit = "2GB"
threads = 2
log = "log"
[materialize]
lookback = "2d"
[freshness]
function = "exponential"
half_life = "30m"
refresh = true
"""


def project(tmp_path, text):
    (tmp_path / "headwater.toml").write_text(text, encoding="utf-8")
    return tmp_path


def refused(tmp_path, text, environ=None):
    with pytest.raises(ConfigError) as caught:
        load_settings(project(tmp_path, text), environ or {})
    return str(caught.value)


def test_without_a_file_everything_is_embedded(tmp_path):
    settings = load_settings(tmp_path, {})
    assert settings == Settings(tmp_path.resolve())
    assert settings.registry_url == "sqlite:///.headwater/registry.db"
    assert settings.online_url == "lmdb:.headwater/online"
    assert settings.offline_log == ".headwater/log"
    assert settings.offline_engine == "duckdb"


def test_every_key_of_the_file_is_read(tmp_path):
    settings = load_settings(project(tmp_path, FULL), {})
    assert settings.project == "flights"
    assert settings.definitions == ("features.py", "more/*.py")
    assert settings.registry_url == "sqlite:///elsewhere.db"
    assert settings.online_url == "memory:" and settings.online_gone_files == "keep"
    assert (settings.offline_memory_limit, settings.offline_threads, settings.offline_log) == ("2GB", 2, "log")
    assert settings.materialize_lookback == timedelta(days=2)
    assert (settings.freshness_function, settings.freshness_half_life) == ("exponential", timedelta(minutes=30))
    assert settings.freshness_refresh is True


def test_the_file_itself_names_its_folder(tmp_path):
    assert load_settings(project(tmp_path, FULL) / "headwater.toml", {}).folder == tmp_path.resolve()


def test_an_argument_wins_over_the_environment_over_the_file_over_the_default(tmp_path):
    folder = project(tmp_path, FULL)
    environ = {"HEADWATER_ONLINE_URL": "lmdb:from-environment", "HEADWATER_OFFLINE_THREADS": "4"}
    settings = load_settings(folder, environ, online_url="lmdb:from-argument", registry_url=None)
    assert settings.online_url == "lmdb:from-argument"
    assert settings.offline_threads == 4
    assert settings.registry_url == "sqlite:///elsewhere.db"
    assert load_settings(folder, environ).online_url == "lmdb:from-environment"


def test_an_empty_environment_variable_is_not_set(tmp_path):
    assert load_settings(project(tmp_path, FULL), {"HEADWATER_ONLINE_URL": ""}).online_url == "memory:"


def test_an_engine_has_a_table_of_its_own(tmp_path):
    folder = project(tmp_path, "[offline]\nengine = 'sqlite'\n[offline.sqlite]\ndatabase = 'a.db'\nsize = 3")
    assert load_settings(folder, {}).offline_settings == {"sqlite": {"database": "a.db", "size": 3}}
    environ = {"HEADWATER_OFFLINE_SQLITE_DATABASE": "b.db"}
    assert load_settings(folder, environ).offline_settings == {"sqlite": {"database": "b.db", "size": 3}}
    environ = {"HEADWATER_OFFLINE_ENGINE": "spark", "HEADWATER_OFFLINE_SPARK_REMOTE": "sc://host"}
    assert load_settings(folder, environ).offline_settings["spark"] == {"remote": "sc://host"}


def test_what_an_engine_is_told_is_not_shown(tmp_path):
    folder = project(tmp_path, "[offline.snowflake]\npassword = 'secret'")
    assert "secret" not in repr(load_settings(folder, {}))


def test_texts_of_the_environment_become_values(tmp_path):
    environ = {
        "HEADWATER_DEFINITIONS": "a.py, b.py",
        "HEADWATER_FRESHNESS_REFRESH": "yes",
        "HEADWATER_MATERIALIZE_LOOKBACK": "6h",
    }
    settings = load_settings(tmp_path, environ)
    assert settings.definitions == ("a.py", "b.py")
    assert settings.freshness_refresh is True
    assert settings.materialize_lookback == timedelta(hours=6)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("projet = 'x'", ["'projet'", "did you mean 'project'"]),
        ("[online]\nurll = 'x'", ["'[online] urll'", "did you mean 'online.url'"]),
        ("[onlin]\nurl = 'x'", ["'[onlin] url'", "did you mean 'online.url'"]),
        ("[online.more]\nurl = 'x'", ["'[online] more'"]),
        ("online = 'lmdb:x'", ["'online'", "section", "[online]"]),
        ("[offline]\nremote = 'x'", ["'[offline] remote'", "[offline.ENGINE]"]),
        ("[project]\nname = 'x'", ["'[project] name'"]),
        ("[onlin]", ["'onlin'", "did you mean"]),
        ("[project]", ["project"]),
        ("[registry.url]\nhost = 'x'", ["registry.url", "text"]),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest(tmp_path, text, parts):
    message = refused(tmp_path, text)
    for part in ["headwater.toml", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("project = ''", ["project", "empty"]),
        ("project = 3", ["project", "3", "text"]),
        ("definitions = [1]", ["definitions", "list of file names"]),
        ("definitions = []", ["definitions", "list of file names"]),
        ("[offline]\nthreads = 0", ["offline.threads", "at least 1"]),
        ("[offline]\nthreads = true", ["offline.threads", "at least 1"]),
        ("[materialize]\nlookback = '1 fortnight'", ["materialize.lookback", "'7d'"]),
        ("[materialize]\nlookback = 7", ["materialize.lookback", "7", "'7d'"]),
        ("[freshness]\nfunction = 'cubic'", ["freshness.function", "'linear' or 'exponential'"]),
        ("[freshness]\nhalf_life = '0s'", ["freshness.half_life", "more than"]),
        ("[freshness]\nrefresh = 'perhaps'", ["freshness.refresh", "true or false"]),
        ("[offline]\nmemory_limit = 'lots'", ["offline.memory_limit", "2GB"]),
    ],
)
def test_a_bad_value_is_an_error_with_its_place(tmp_path, text, parts):
    message = refused(tmp_path, text)
    for part in ["headwater.toml", *parts]:
        assert part in message


def test_a_bad_value_of_the_environment_names_the_variable(tmp_path):
    message = refused(tmp_path, "", {"HEADWATER_OFFLINE_THREADS": "many"})
    assert "HEADWATER_OFFLINE_THREADS" in message and "'many'" in message


def test_what_is_not_toml_is_an_error_with_its_line(tmp_path):
    message = refused(tmp_path, "project = flights")
    assert "headwater.toml" in message and "line 1" in message


def test_a_file_of_another_encoding_is_an_error(tmp_path):
    (tmp_path / "headwater.toml").write_bytes(b'project = "\xff"')
    with pytest.raises(ConfigError, match=r"headwater\.toml"):
        load_settings(tmp_path, {})


def test_a_folder_that_is_not_there_says_how_to_make_a_project(tmp_path):
    with pytest.raises(ConfigError, match="headwater init"):
        load_settings(tmp_path / "nowhere", {})
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no such folder"):
        load_settings(tmp_path / "file", {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path, encoding):
    (tmp_path / "headwater.toml").write_text('project = "Ålesund "\n', encoding=encoding)
    assert load_settings(tmp_path, {}).project == "Ålesund "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('project = "p"\u2028[online]\n', "U+2028, which does not end a line in TOML"),
        ('project = "p"\x85', "U+0085, which does not end a line in TOML"),
        ('a = 1\nproject\xa0= "p"\n', "at line 2, column 8); the line has U+00A0, a space that TOML does not accept"),
        ("project = \u201cp\u201d\n", "U+201C, a typographic quote: write a plain one"),
    ],
)
def test_a_character_that_looks_like_one_of_toml_is_named(tmp_path, text, said):
    assert said in refused(tmp_path, text)
