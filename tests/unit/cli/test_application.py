"""The command itself: shared options, exit codes, errors without tracebacks."""

import json

import pytest
import typer

import headwater as hw
from headwater.cli import application, main
from headwater.cli.run import Run, command
from headwater.errors import DefinitionError, FeatureNotFound, UsageError

COMMANDS = ["init", "plan", "apply", "list", "show", "promote", "rollback", "retire", "rename-project"]
COMMANDS += ["materialize", "write", "delete", "erase", "repair-clock", "claim-store"]
COMMANDS += ["get", "history", "status", "verify", "worker", "serve", "demo", "compare", "training-set"]
COMMANDS += ["model", "keys"]


@pytest.fixture
def failing(monkeypatch):
    """A command that fails as it is told, in place of the application."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    errors = {
        "definition": DefinitionError("2 problems", ["features.py:3 weather: bad", "features.py:4 x: worse"]),
        "notfound": FeatureNotFound("'weather:tmp': view 'weather' (1.0.0) has temp"),
        "usage": UsageError("--force with --start"),
        "bug": ZeroDivisionError("division by zero"),
        "os": PermissionError(13, "Permission denied", "x.db"),
        "interrupt": KeyboardInterrupt(),
    }

    @app.callback()
    def options(context: typer.Context, json: bool = False, debug: bool = False) -> None:
        context.obj = Run(json=json, debug=debug)

    def fail(run: Run, how: str) -> None:
        """Fail."""
        raise errors[how]

    command(app)(fail)
    monkeypatch.setattr(application, "app", app)


def run(capsys, *arguments):
    code = main(list(arguments))
    found = capsys.readouterr()
    return code, found.out, found.err


def test_help_lists_every_command_in_plain_text(capsys):
    code, out, err = run(capsys, "--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert code == 0 and err == "" and listed == COMMANDS
    assert "..." not in out.partition("Commands:")[2]
    assert run(capsys) == (0, out, "")


@pytest.mark.parametrize(
    "name", [*COMMANDS[:-3], "keys create", "keys list", "keys revoke", "training-set create", "model list"]
)
def test_every_command_has_help_and_the_shared_options(capsys, name):
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0
    for option in ("--json", "--project PATH", "--debug"):
        assert option in out


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"headwater {hw.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["aply"], "'aply'"),
        (["plan", "--nothing"], "--nothing"),
        (["show"], "NAME"),
        (["get", "--features", "a:b", "--now", "noon"], "'noon' is not a time"),
        (["get", "--features", "a:b", "--max-age", "soon"], "'soon' is not a duration"),
        (["get", "--key", "a=b"], "--features"),
        (["delete", "weather"], "--key"),
        (["list", "vews"], "vews"),
    ],
)
def test_wrong_use_exits_with_2(capsys, arguments, part):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Usage: headwater" in err and part in err
    code, out, err = run(capsys, *arguments, "--json")
    error = json.loads(err)["error"]
    assert (code, out, error["type"], error["problems"]) == (2, "", "UsageError", [])
    assert part in error["message"]


def test_a_folder_without_a_project_is_refused_and_left_alone(capsys, tmp_path):
    for name in ("plan", "apply", "list", "status"):
        code, out, err = run(capsys, name, "--project", str(tmp_path))
        assert (code, out) == (1, "")
        assert err.startswith("error: ") and "headwater init" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    code, _, err = run(capsys, "plan", "--project", str(tmp_path / "nowhere"))
    assert code == 1 and "no such folder" in err


def test_errors_are_one_message_without_a_traceback(capsys, failing):
    code, out, err = run(capsys, "fail", "notfound")
    assert (code, out, err) == (1, "", "error: 'weather:tmp': view 'weather' (1.0.0) has temp\n")
    code, out, err = run(capsys, "fail", "definition")
    assert (code, err.splitlines()) == (
        1,
        ["error: 2 problems", "  features.py:3 weather: bad", "  features.py:4 x: worse"],
    )
    code, _, err = run(capsys, "fail", "usage")
    assert (code, err) == (2, "error: --force with --start\n")
    code, _, err = run(capsys, "fail", "os")
    assert code == 1 and "Permission denied" in err and "x.db" in err and "Traceback" not in err
    code, _, err = run(capsys, "fail", "bug")
    assert code == 1 and "ZeroDivisionError: division by zero" in err and "--debug" in err and "Traceback" not in err


def test_errors_in_json(capsys, failing):
    code, out, err = run(capsys, "fail", "definition", "--json")
    assert (code, out) == (1, "")
    assert json.loads(err) == {
        "error": {
            "type": "DefinitionError",
            "message": "2 problems",
            "problems": ["features.py:3 weather: bad", "features.py:4 x: worse"],
        }
    }
    assert json.loads(run(capsys, "--json", "fail", "usage")[2])["error"]["type"] == "UsageError"


@pytest.mark.parametrize("arguments", [["fail", "notfound", "--debug"], ["--debug", "fail", "notfound"]])
def test_debug_shows_the_traceback(capsys, failing, arguments):
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "Traceback" in err and "FeatureNotFound" in err


def test_an_interrupt_exits_with_130_and_a_line(capsys, failing):
    assert run(capsys, "fail", "interrupt") == (130, "", "interrupted\n")


def test_shared_options_stand_before_or_after_the_command(tmp_path, monkeypatch):
    seen = []
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(application._options)

    def look(run: Run) -> None:
        """Look."""
        seen.append(run)

    command(app)(look)
    monkeypatch.setattr(application, "app", app)
    options = ["--json", "--debug", "--project", str(tmp_path)]
    assert main([*options, "look"]) == main(["look", *options]) == 0
    assert seen[0] == seen[1] == Run(tmp_path, True, True)
    assert main(["--project", "elsewhere", "look", "--project", str(tmp_path)]) == 0
    assert seen[2] == Run(tmp_path)
