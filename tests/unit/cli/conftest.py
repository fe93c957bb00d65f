"""The sample project, applied and materialized once, and copied for each test that changes it."""

import json
import shutil
from datetime import UTC, datetime

import pytest

from headwater.cli import main
from headwater.cli.init import write_project


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The project as `init` writes it."""
    folder = tmp_path_factory.mktemp("cli") / "flights"
    write_project(folder, datetime.now(UTC))
    return folder


@pytest.fixture(scope="session")
def filled(written, tmp_path_factory):
    """The project applied and materialized: to be read only."""
    folder = tmp_path_factory.mktemp("cli") / "filled"
    shutil.copytree(written, folder)
    assert main(["apply", "--project", str(folder), "--json"]) == 0
    assert main(["materialize", "--project", str(folder), "--json"]) == 0
    return folder


@pytest.fixture
def fresh(written, tmp_path):
    """A copy of the project as `init` writes it."""
    return shutil.copytree(written, tmp_path / "flights")


@pytest.fixture
def project(filled, tmp_path):
    """A copy of the project that was applied and materialized."""
    return shutil.copytree(filled, tmp_path / "flights")


class Command:
    """Runs the command in this process, in one project."""

    def __init__(self, capsys):
        self.capsys = capsys

    def __call__(self, folder, *arguments, code=0):
        """What it prints on standard output."""
        out, _ = self.both(folder, *arguments, code=code)
        return out

    def both(self, folder, *arguments, code=0):
        """What it prints on standard output and standard error."""
        self.capsys.readouterr()
        left = main([*map(str, arguments), "--project", str(folder)])
        found = self.capsys.readouterr()
        assert left == code, found.out + found.err
        return found.out, found.err

    def json(self, folder, *arguments):
        """What it answers in JSON."""
        return json.loads(self(folder, *arguments, "--json"))

    def error(self, folder, *arguments, code=1):
        """The error, in JSON; nothing is printed on standard output."""
        out, err = self.both(folder, *arguments, "--json", code=code)
        assert out == ""
        return json.loads(err)["error"]


@pytest.fixture
def command(capsys):
    return Command(capsys)
