"""`promote`, `rollback`, `retire`, `apply --promote`, `rename-project`."""

import shutil


def states(command, folder):
    return {v["version"]: v["state"] for v in command.json(folder, "list")["views"] if v["name"] == "weather"}


def add_feature(folder, version=""):
    path = folder / "features.py"
    text = path.read_text(encoding="utf-8")
    new = '        hw.Feature("observed_at", hw.Timestamp, column="observed_at"),\n    ],\n    ttl='
    text = text.replace("    ],\n    ttl=", new, 1)
    path.write_text(text.replace('    "weather",\n', f'    "weather",\n{version}', 1), encoding="utf-8")


def test_a_version_that_apply_numbers_goes_live_when_materialized(command, project):
    add_feature(project)
    assert "1.0.0 → 1.1.0 (minor), live after the next 'headwater materialize'" in command(project, "plan")
    command(project, "apply")
    assert states(command, project) == {"1.0.0": "live", "1.1.0": "pending"}
    assert "weather: 1.1.0 is live" in command(project, "materialize")
    assert states(command, project) == {"1.0.0": "previous", "1.1.0": "live"}


def test_promote_rollback_and_retire(command, project):
    add_feature(project, '    version="2.0.0",\n')
    command(project, "apply")
    assert states(command, project) == {"1.0.0": "live", "2.0.0": "inactive"}
    error = command.error(project, "promote", "weather", "2.0.0")
    assert error["type"] == "ChangeRefused" and "headwater promote weather 2.0.0 --force" in error["message"]
    command(project, "materialize")
    assert "weather: 2.0.0 is live" in command(project, "promote", "weather", "2.0.0")
    assert states(command, project)["2.0.0"] == "live"
    assert command.json(project, "rollback", "weather") == {"name": "weather", "live": "1.0.0", "still_reading": []}
    assert command.error(project, "retire", "weather", "1.0.0")["type"] == "ChangeRefused"
    assert command.json(project, "retire", "weather", "2.0.0") == {"name": "weather", "retired": "2.0.0"}
    assert states(command, project) == {"1.0.0": "live", "2.0.0": "retired"}


def test_promote_names_who_goes_on_reading_what_was_left(command, project):
    path = project / "features.py"
    text = path.read_text(encoding="utf-8").replace('ttl="12h"', 'ttl="5h"', 1)
    path.write_text(text.replace('    "weather",\n', '    "weather",\n    version="2.0.0",\n', 1), encoding="utf-8")
    command(project, "apply")
    command(project, "materialize")
    told = command.json(project, "promote", "weather", "2.0.0")["still_reading"]
    assert told == [
        "delay_model 1.0.0 still reads weather 1.0.0. To read the live 2.0.0: 'headwater promote delay_model 2.0.0' "
        "(2.0.0 reads weather 2.0.0)"
    ]
    assert "read by delay_model@1.0.0" in command.error(project, "retire", "weather", "1.0.0")["message"]
    assert "delay_model: 2.0.0 is live" in command(project, "promote", "delay_model", "2.0.0")
    (told,) = command.json(project, "rollback", "weather")["still_reading"]
    assert told == (
        "delay_model 2.0.0 still reads weather 2.0.0. To go back there too: 'headwater rollback delay_model' "
        "(1.0.0 reads weather 1.0.0)"
    )
    command(project, "rollback", "delay_model")
    rows = {row["version"]: row["views"] for row in command.json(project, "list", "services")["services"]}
    assert "weather@1.0.0" in rows["1.0.0"] and "weather@2.0.0" in rows["2.0.0"]


def test_apply_promote_lets_everything_go_live_once_it_has_caught_up(command, project):
    add_feature(project, '    version="2.0.0",\n')
    assert "2.0.0" in command(project, "apply", "--promote")
    assert states(command, project) == {"1.0.0": "live", "2.0.0": "pending"}
    command(project, "apply")
    command(project, "materialize")
    assert states(command, project)["2.0.0"] == "live"
    assert command.json(project, "apply", "--promote")["promoted"] == []


def test_apply_promote_of_what_has_caught_up_is_live_at_once(command, project):
    add_feature(project, '    version="2.0.0",\n')
    command(project, "apply")
    command(project, "materialize")
    assert command.json(project, "apply", "--promote")["promoted"] == [{"name": "weather", "version": "2.0.0"}]


def test_what_is_live_is_not_retired_without_a_yes(command, project):
    path = project / "features.py"
    text = path.read_text(encoding="utf-8")
    path.write_text("import headwater as hw\n", encoding="utf-8")
    assert "live and to be retired: airport_facts, weather, delay_model" in command(project, "plan")
    error = command.error(project, "apply")
    assert error["type"] == "RemovalsRefused" and "--allow-removals" in error["message"]
    assert states(command, project) == {"1.0.0": "live"}
    command(project, "apply", "--allow-removals")
    assert states(command, project) == {"1.0.0": "retired"}
    path.write_text(text, encoding="utf-8")
    command(project, "apply")
    assert states(command, project) == {"1.0.0": "retired", "1.0.1": "live"}


def test_unknown_names_and_versions(command, filled):
    assert "did you mean 'weather'" in command.error(filled, "promote", "wether", "1.0.0")["message"]
    assert command.error(filled, "promote", "weather", "7.0.0")["type"] == "VersionNotFound"
    assert command.error(filled, "rollback", "weather")["type"] == "ChangeRefused"


def test_two_projects_of_one_name_on_one_store_get_on_by_the_commands_that_are_named(command, project, tmp_path):
    other = shutil.copytree(project, tmp_path / "other" / "flights", ignore=shutil.ignore_patterns(".headwater"))
    shared = f'[online]\nurl = "lmdb:{tmp_path}/shared"\n'
    for folder in (project, other):
        settings = folder / "headwater.toml"
        settings.write_text(f'project = "flights"\n{shared}', encoding="utf-8")
        command(folder, "apply")
    command(project, "materialize")
    message = command.error(other, "materialize")["message"]
    assert "headwater rename-project NAME" in message
    told = command(other, "rename-project", "departures")
    assert "set project = 'departures' in headwater.toml, which says 'flights'" in told
    assert "headwater rename-project flights" in command.error(other, "materialize")["message"]
    settings.write_text(f'project = "departures"\n{shared}', encoding="utf-8")
    command(other, "materialize")
    for folder in (project, other):
        assert command.json(folder, "get", "--features", "weather:temp", "--key", "airport=JFK")["rows"][0]["features"]
    assert command.error(other, "rename-project", " ", code=2)["type"] == "UsageError"
