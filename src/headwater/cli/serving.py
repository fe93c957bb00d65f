"""`headwater serve`: the HTTP server of a project; `headwater keys`: its API keys."""

from __future__ import annotations

import enum
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli import later
from headwater.cli.run import Run, command
from headwater.cli.sheet import Line, Sheet
from headwater.clock import parse_duration, system_clock
from headwater.errors import UsageError, needs_package


class LogFormat(enum.StrEnum):
    """The form of a server's log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """What a server logs."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    command(app)(serve)
    keys = typer.Typer(help="API keys of the HTTP server.", rich_markup_mode=None, no_args_is_help=True)
    command(keys, name="create")(create)
    command(keys, name="list")(list_keys)
    command(keys, name="revoke")(revoke)
    command(keys, name="rotate-sessions")(rotate_sessions)
    app.add_typer(keys, name="keys")


def serve(
    run: Run,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="The port; 0: a free one.")] = 8080,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes that answer.")] = 1,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Ask for no API keys on an address that others can reach.")
    ] = False,
    require_keys: Annotated[
        bool, typer.Option("--require-keys", help="Ask for API keys on a loopback address too, as behind a proxy.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="The certificate chain (PEM) for HTTPS.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key (PEM).")
    ] = None,
    log_format: Annotated[LogFormat, typer.Option("--log-format", help="The form of the log.")] = LogFormat.TEXT,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="What is logged; info: a line for each request.")
    ] = LogLevel.WARNING,
) -> None:
    """Serve features over HTTP until Ctrl-C or SIGTERM.

    Requests need no API key on a loopback address; on any other they do, unless --insecure is given.
    """
    if insecure and require_keys:
        raise UsageError("--insecure and --require-keys say the opposite: give one of them")
    later.tls.check_certificate(certificate, private_key)
    with needs_package("uvicorn", "server"):
        # all that workers import
        supervisor = import_module("headwater.serving.supervisor")
        import_module("headwater.serving.exposition")
    # a broken project is refused here, before any worker begins
    with run.store() as store:
        store.registry.snapshot()
        settings = later.settings
        keys = require_keys or (not insecure and not later.access.is_loopback(host))
        given = replace(
            settings.server_settings(store.settings, host),
            port=port,
            workers=workers,
            keys=keys,
            log_form=log_format.value,
            log_level=log_level.value,
            certificate="" if certificate is None else str(certificate.resolve()),
            private_key="" if private_key is None else str(private_key.resolve()),
        )
        listening = supervisor.listen(given)
        folder, project = store.settings.folder, store.settings.project
        if keys and not any(key.holds(system_clock()) for key in store.registry.api_keys.all()):
            run.warn(["there is no API key, so that every request is refused: 'headwater keys create' makes one"])
        if certificate is None and not later.access.is_loopback(host):
            sent = "API keys and values" if keys else "values"
            run.warn([f"without TLS, {sent} travel in clear text: give --tls-cert and --tls-key"])
    name, number = listening.getsockname()[:2]
    address = f"{given.scheme}://{f'[{name}]' if ':' in name else name}:{number}"
    what = f"{workers} worker{'s' if workers > 1 else ''}, API keys {'needed' if keys else 'not needed'}"
    run.say(Line(f"{project or folder} on {address}, {what}; Ctrl-C ends it", "green"))
    log = later.logs.Log(given.log_form, given.log_level)
    code = supervisor.Supervisor(str(folder), given, listening, log).run()
    raise typer.Exit(code)


def create(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, write (and delete) or admin (all); repeat it.")],
    views: Annotated[
        list[str] | None, typer.Option("--views", metavar="PATTERN,…", help="Only these views, such as 'weather*'.")
    ] = None,
    services: Annotated[
        list[str] | None, typer.Option("--services", metavar="PATTERN,…", help="Only these services.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DURATION", help="When it ends, such as 90d; never unless given.")
    ] = None,
) -> None:
    """Make an API key; it is shown once."""
    lasts = None
    if expires is not None:
        lasts = parse_duration(expires)
        if lasts <= timedelta(0):
            raise UsageError(f"--expires {expires}: must be more than 0")
    with run.store() as store:
        notes = _notes(store.registry.snapshot(), scope, _patterns(views), _patterns(services))
        # from when it is made: to open the store takes a while
        ends = None if lasts is None else system_clock() + lasts
        key, made = store.registry.api_keys.create(
            name, scope, views=_patterns(views), services=_patterns(services), expires_at=ends
        )
    run.warn(notes)
    run.answer(
        {"key": key, **_row(made)}, Line(key), Line("the key is shown only this once; store it as a secret", "dim")
    )


def list_keys(run: Run) -> None:
    """List API keys, without their secrets."""
    with run.store() as store:
        rows = [_row(key) for key in store.registry.api_keys.all()]
    columns = ["name", "id", "scopes", "views", "services", "created_at", "expires_at", "revoked_at"]
    run.answer(rows, Sheet(columns, [[row[column] for column in columns] for row in rows]) if rows else Line("no keys"))


def revoke(run: Run, name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")]) -> None:
    """Revoke an API key; running servers refuse it within a second."""
    with run.store() as store:
        revoked = store.registry.api_keys.revoke(name)
    run.answer(_row(revoked), Line(f"{revoked.name} ({revoked.id}) is revoked", "green"))


def rotate_sessions(run: Run) -> None:
    """Sign session tokens with a new secret.

    Tokens signed with the one before remain valid; older ones are refused, and the answer brings a fresh token.
    """
    with run.store() as store:
        store.context.session_secrets.rotate()
    run.answer({"rotated": True}, Line("session tokens are signed with a new secret", "green"))


def _patterns(given: list[str] | None) -> list[str]:
    return [part.strip() for text in given or () for part in text.split(",")]


def _notes(snapshot: Any, scopes: list[str], views: list[str], services: list[str]) -> list[str]:
    """What may not be meant by the patterns of a new key."""
    notes = [
        f"no {kind} fits {pattern!r} now"
        for kind, patterns, known in (("view", views, snapshot.views), ("service", services, snapshot.services))
        for pattern in patterns
        if not any(fnmatchcase(name, pattern) for name in known)
    ]
    if "admin" in scopes and (views or services):
        notes.append("patterns limit what is read and written: admin also sees the status and metrics of all views")
    elif services and not views and "read" not in scopes:
        notes.append("services are only read: with these scopes and without --views the key allows nothing")
    return notes


def _row(key: Any) -> dict[str, Any]:
    return {
        "name": key.name,
        "id": key.id,
        "scopes": sorted(key.scopes),
        "views": "all" if key.unlimited else list(key.views),
        "services": "all" if key.unlimited else list(key.services),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
