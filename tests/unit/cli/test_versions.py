"""`promote`, `rollback`, `retire` and `apply --promote`."""


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
    assert "1.0.0 → 1.1.0 (minor), live once materialized" in command(project, "plan")
    command(project, "apply")
    assert states(command, project) == {"1.0.0": "live", "1.1.0": "waiting"}
    assert "weather: 1.1.0 is live" in command(project, "materialize")
    assert states(command, project) == {"1.0.0": "previous", "1.1.0": "live"}


def test_promote_rollback_and_retire(command, project):
    add_feature(project, '    version="2.0.0",\n')
    command(project, "apply")
    assert states(command, project) == {"1.0.0": "live", "2.0.0": "beside"}
    error = command.error(project, "promote", "weather", "2.0.0")
    assert error["type"] == "ChangeRefused" and "2.0.0" in error["message"]
    command(project, "materialize")
    assert "weather: 2.0.0 is live" in command(project, "promote", "weather", "2.0.0")
    assert states(command, project)["2.0.0"] == "live"
    assert command.json(project, "rollback", "weather") == {"name": "weather", "live": "1.0.0"}
    assert command.error(project, "retire", "weather", "1.0.0")["type"] == "ChangeRefused"
    assert "pinned by delay_model@2.0.0" in command.error(project, "retire", "weather", "2.0.0")["message"]
    assert command.json(project, "rollback", "delay_model") == {"name": "delay_model", "live": "1.0.0"}
    command(project, "retire", "delay_model", "2.0.0")
    assert command.json(project, "retire", "weather", "2.0.0") == {"name": "weather", "retired": "2.0.0"}
    assert states(command, project) == {"1.0.0": "live", "2.0.0": "retired"}


def test_apply_promote_promotes_versions_of_one_s_own_numbering(command, project):
    add_feature(project, '    version="2.0.0",\n')
    out, err = command.both(project, "apply", "--promote", code=1)
    assert "applied" in out and "2.0.0" in err
    command(project, "materialize")
    assert command.json(project, "apply", "--promote")["promoted"] == [{"name": "weather", "version": "2.0.0"}]
    assert states(command, project)["2.0.0"] == "live"
    assert command.json(project, "apply", "--promote")["promoted"] == []


def test_unknown_names_and_versions(command, filled):
    assert "did you mean 'weather'" in command.error(filled, "promote", "wether", "1.0.0")["message"]
    assert command.error(filled, "promote", "weather", "7.0.0")["type"] == "VersionNotFound"
    assert command.error(filled, "rollback", "weather")["type"] == "ChangeRefused"
