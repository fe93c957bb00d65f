"""The application: its commands, and what becomes of an error."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import headwater as hw
from headwater.cli import (
    compare,
    definitions,
    demo,
    init,
    models,
    reading,
    serving,
    status,
    training_sets,
    verify,
    versions,
    worker,
    writing,
)
from headwater.cli.complete_bash import completing
from headwater.cli.run import INTERRUPTED, DebugFlag, JsonFlag, ProjectPath, Run, print_json
from headwater.cli.words import in_the_commands_words
from headwater.errors import HeadwaterError, UsageError, printable

FAILED, WRONG_USE = 1, 2

app = typer.Typer(
    name="headwater",
    help="A feature store: features defined once, joined point-in-time correct, served fresh.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    *(init, definitions, versions, writing, reading, training_sets, models),
    *(status, verify, worker, serving, demo, compare),
):
    group.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"headwater {hw.__version__}")
        raise typer.Exit


VersionFlag = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def _options(
    context: typer.Context,
    json: JsonFlag = False,
    project: ProjectPath = None,
    debug: DebugFlag = False,
    version: VersionFlag = False,
) -> None:
    context.obj = Run(project or Path(), json, debug)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: what follows `headwater`; the process's own unless given.

    Returns:
        The exit code: 0, 1 (failed), 2 (wrong use), 130 (interrupted).
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        # a terminal of another encoding gets what it cannot show as escapes, and no error
        if isinstance(stream, io.TextIOWrapper) and (stream.encoding or "").lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with completing():
            code = typer.main.get_command(app).main(given, prog_name="headwater", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else FAILED
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more on its way out; there is nobody to read it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _report(error, json="--json" in given, debug="--debug" in given)


def _report(error: Exception, *, json: bool, debug: bool) -> int:
    """Say on standard error what was wrong; the traceback only where it is asked for."""
    kind, message, problems, code = _described(error)
    notes = list(getattr(error, "__notes__", ()))
    if debug:
        for line in "".join(traceback.format_exception(error)).split("\n"):
            print(printable(line), file=sys.stderr)
    if json:
        message = message.partition("\n")[0] if problems else message
        more = {"notes": notes} if notes else {}
        print_json({"error": {"type": kind, "message": message, "problems": problems, **more}}, file=sys.stderr)
        return code
    if code == WRONG_USE and _from_the_parser(error):
        usage = getattr(error, "ctx", None)
        print(usage.get_usage() + "\n" if usage is not None else "", end="", file=sys.stderr)
    head = message.partition("\n")[0] if problems else message
    print("\n  ".join(printable(line) for line in [f"error: {head}", *problems]), file=sys.stderr)
    for note in notes:
        print(printable(note), file=sys.stderr)
    return code


def _from_the_parser(error: Exception) -> bool:
    """Whether the command line itself was wrong (click's errors, wherever Typer keeps its click)."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _described(error: Exception) -> tuple[str, str, list[str], int]:
    """Type, message, problems and exit code of an error."""
    if _from_the_parser(error):
        parser: Any = error
        return "UsageError", str(parser.format_message()), [], int(parser.exit_code)
    if isinstance(error, HeadwaterError):
        code = WRONG_USE if isinstance(error, UsageError) and error.report is None else FAILED
        problems = [in_the_commands_words(problem) for problem in getattr(error, "problems", ())]
        return type(error).__name__, in_the_commands_words(str(error)), problems, code
    if isinstance(error, OSError):
        return type(error).__name__, str(error), [], FAILED
    message = (
        f"{type(error).__name__}: {error}; this is a bug in headwater, please report it: --debug shows the traceback"
    )
    return type(error).__name__, message, [], FAILED
