"""`plan`, `apply`, `list` and `show`, on the sample project."""

import re

import headwater as hw
from headwater.registry.registry import FeatureRegistry


def edit(folder, old, new):
    path = folder / "features.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_plan_shows_what_apply_would_do_and_changes_nothing(command, fresh):
    out = command(fresh, "plan")
    for line in ("+ entity airport: added", "+ feature view weather: added 1.0.0, live"):
        assert line in out
    assert command.json(fresh, "list") == {"views": [], "entities": [], "services": []}
    assert "nothing is registered" in command(fresh, "list")
    command.both(fresh, "show", "weather", code=1)
    assert not (fresh / ".headwater").exists()


def test_plan_in_json_holds_the_stages(command, fresh):
    data = command.json(fresh, "plan")
    assert {(stage["action"], stage["kind"], stage["name"]) for stage in data["stages"]} == {
        ("add", "entity", "airport"),
        ("add", "view", "weather"),
        ("add", "view", "airport_facts"),
        ("add", "service", "delay_model"),
    }
    assert data["revision"] == 0 and data["unchanged"] == []


def test_an_apply_that_another_host_did_first_has_nothing_left_to_do(command, fresh, monkeypatch):
    before, others = FeatureRegistry.apply, [True]

    def meanwhile(self, plan, **options):
        if others.pop():
            with hw.FeatureStore(fresh) as other:
                others.append(False)
                other.apply()
        others.append(False)
        return before(self, plan, **options)

    monkeypatch.setattr(FeatureRegistry, "apply", meanwhile)
    out = command(fresh, "apply")
    assert "added 1.0.0, live" in out and "nothing left to apply: another process applied it" in out


def test_apply_shows_the_plan_then_registers(command, fresh):
    out = command(fresh, "apply")
    assert "+ feature view weather: added 1.0.0, live" in out and "applied" in out
    out = command(fresh, "apply")
    assert "no changes, 4 unchanged" in out and "nothing to apply" in out
    assert command.json(fresh, "apply")["stages"] == []


def test_a_wrong_definition_lists_every_problem_and_changes_nothing(command, fresh):
    edit(fresh, 'ttl="12h"', 'ttl="12 hours or so"')
    edit(fresh, '"city", hw.String', '"city", hw.String, column="cty"')
    for name in ("plan", "apply"):
        error = command.error(fresh, name)
        assert error["type"] == "DefinitionError" and len(error["problems"]) >= 2
        text = "\n".join(error["problems"])
        assert "features.py:" in text and "ttl" in text and "'cty'" in text and "'city'" in text
    assert command.json(fresh, "list")["views"] == []
    (fresh / "features.py").write_text("x = = 1\n", encoding="utf-8")
    assert "features.py:1" in command.error(fresh, "plan")["message"]


def test_list_shows_each_kind(command, filled):
    data = command.json(filled, "list")
    assert [(v["name"], v["version"], v["state"]) for v in data["views"]] == [
        ("airport_facts", "1.0.0", "live"),
        ("weather", "1.0.0", "live"),
    ]
    assert data["entities"][0] == {
        "name": "airport",
        "join_keys": {"airport": "string"},
        "description": "an airport, by its IATA code",
    }
    assert data["services"][0]["views"] == ["weather@1.0.0", "airport_facts@1.0.0"]
    features = command.json(filled, "list", "features")["features"]
    assert [f["name"] for f in features][2:] == ["weather:temp", "weather:wind_speed", "weather:reports"]
    assert features[4]["default"] == 0
    out = command(filled, "list")
    assert re.search(r"weather +1\.0\.0 +live +airport +3 +parquet +12h +2h", out)


def test_show_a_view_a_service_an_entity_and_a_feature(command, filled):
    view = command.json(filled, "show", "weather")
    assert view["join_keys"] == {"airport": "string"} and view["ttl"] == 12 * 3600
    assert [f["name"] for f in view["features"]] == ["temp", "wind_speed", "reports"]
    assert [v["version"] for v in view["versions"]] == ["1.0.0"]
    assert command.json(filled, "show", "weather@1.0.0") == view
    service = command.json(filled, "show", "delay_model")
    assert service["features"][0]["feature"] == "weather@1.0.0:temp"
    assert command.json(filled, "show", "airport")["views"] == ["airport_facts", "weather"]
    feature = command.json(filled, "show", "weather:temp")
    assert (feature["feature_name"], feature["data_type"]) == ("weather:temp", "float64")
    assert (feature["freshness_sla_minutes"], feature["version"]) == (120, "1.0.0")
    for name in ("weather", "delay_model", "airport", "weather:temp"):
        assert command(filled, "show", name)


def test_show_of_an_unknown_name_gives_the_nearest(command, filled):
    assert "did you mean 'weather'" in command.error(filled, "show", "wether")["message"]
    error = command.error(filled, "show", "weather:tmp")
    assert error["type"] == "FeatureNotFound" and "temp" in error["message"]
    assert command.error(filled, "show", "weather@9.0.0")["type"] == "VersionNotFound"
