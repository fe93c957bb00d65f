"""`headwater keys` and the notes of `headwater serve`."""

from __future__ import annotations

import json
import socket
from datetime import datetime, timedelta

import pytest


def test_a_key_says_what_it_covers(project, command):
    for name, options in {
        "everything": [],
        "some": ["--views", "weather*"],
        "service": ["--services", "delay_model"],
    }.items():
        command(project, "keys", "create", name, "--scope", "read", *options)
    rows = {row["name"]: (row["views"], row["services"]) for row in command.json(project, "keys", "list")}
    assert rows == {
        "everything": ("all", "all"),
        "some": (["weather*"], []),
        "service": ([], ["delay_model"]),
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scope", "read", "--views", "nope*,weather"], "no view fits 'nope*' now"),
        (["--scope", "read", "--services", "nope"], "no service fits 'nope' now"),
        (["--scope", "write", "--services", "*"], "the key allows nothing"),
        (["--scope", "admin", "--views", "weather"], "admin also sees the status"),
        (["--scope", "read", "--views", "weather"], ""),
    ],
)
def test_patterns_that_may_not_be_meant_are_noted(project, command, options, says):
    out, err = command.both(project, "keys", "create", "k", *options)
    assert says in err and bool(err.strip()) == bool(says) and out.startswith("hw_")


def test_a_key_expires_after_it_was_made(project, command):
    made = json.loads(command(project, "keys", "create", "k", "--scope", "read", "--expires", "1h", "--json"))
    created, expires = (datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at"))
    assert timedelta(minutes=59) < expires - created < timedelta(minutes=61)


def test_a_port_that_is_taken_is_answered_with_the_option(project, command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _, err = command.both(project, "serve", "--port", str(taken.getsockname()[1]), code=1)
    assert "cannot listen on 127.0.0.1" in err and "--port" in err


def test_a_project_that_cannot_be_opened_is_refused_before_any_worker_begins(project, command, tmp_path):
    (project / "headwater.toml").write_text('[onlin]\nurl = "x"\n')
    _, err = command.both(project, "serve", "--port", "0", code=1)
    assert "onlin" in err
    empty = tmp_path / "empty"
    empty.mkdir()
    _, err = command.both(empty, "serve", "--port", "0", code=1)
    assert "no project" in err


def test_keys_in_clear_text_are_warned_of(project, command, monkeypatch):
    monkeypatch.setattr("headwater.serving.supervisor.Supervisor.run", lambda self: self.listening.close() or 0)
    for options, says in (
        (["--host", "0.0.0.0"], "API keys and values travel in clear text"),
        (["--host", "0.0.0.0", "--insecure"], "without TLS, values travel"),
        ([], None),
    ):
        _, err = command.both(project, "serve", "--port", "0", *options)
        assert ("clear text" in err) == (says is not None) and (says or "") in err
