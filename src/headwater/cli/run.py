"""What every command shares: the options, the store it opens, how it answers, and its exit code."""

from __future__ import annotations

import contextlib
import inspect
import json as jsons
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, get_type_hints

import typer

import headwater as hw
from headwater.cli.piped import text_of
from headwater.cli.plain import dumps
from headwater.cli.sheet import Drawable
from headwater.config import FILE
from headwater.deferred import deferred
from headwater.errors import ConfigError, printable
from headwater.observer import silent

if TYPE_CHECKING:
    from headwater.cli import draw
    from headwater.store import FeatureStore
else:
    draw = deferred("headwater.cli.draw")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProjectPath = Annotated[
    Path | None,
    typer.Option("--project", metavar="PATH", help="The project's folder.", show_default="the current folder"),
]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

INTERRUPTED = 130
_SIGNS_OF_A_PROJECT = (FILE, "features.py", ".headwater")


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Attributes:
        folder: the project's folder.
        json: whether the answer is JSON.
        debug: whether an error shows its traceback.
    """

    folder: Path = Path()
    json: bool = False
    debug: bool = False

    @contextlib.contextmanager
    def store(self) -> Iterator[FeatureStore]:
        """The project's store, closed in the end; long work is drawn where standard error is a terminal.

        Raises:
            ConfigError: no project is there.
        """
        check_project(self.folder)
        with contextlib.ExitStack() as stack:
            bars = sys.stderr.isatty() and not self.json
            observer = stack.enter_context(draw.ProgressBars()) if bars else silent
            yield stack.enter_context(hw.FeatureStore(self.folder, observer=observer))

    def answer(self, data: Any, *drawables: Drawable) -> None:
        """Print `data` as JSON, or draw the rest."""
        if self.json:
            print_json(data)
        else:
            _show(*drawables)

    def say(self, *drawables: Drawable) -> None:
        """Draw something on the way, which JSON leaves out."""
        if not self.json:
            _show(*drawables)

    def confirm(self, question: str) -> bool:
        """Ask a person at the terminal; without one, or in JSON, the answer is no."""
        if self.json or not sys.stdin.isatty():
            return False
        return typer.confirm(printable(question))

    def warn(self, messages: Iterable[str]) -> None:
        """Warnings for people, on standard error; in JSON they stand in the answer."""
        if not self.json:
            for message in messages:
                print(f"warning: {printable(message)}", file=sys.stderr)


def _show(*drawables: Drawable) -> None:
    """Draw on standard output; Rich is imported where that is a terminal."""
    text = None if sys.stdout.isatty() else text_of(drawables)
    if text is None:
        draw.show(*drawables)
    else:
        print(text, end="", flush=True)


def print_json(data: Any, indent: int | None = 2, file: TextIO | None = None) -> None:
    """Print a value as JSON, in ASCII where the stream takes no other characters."""
    stream, text = file or sys.stdout, dumps(data, indent)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = jsons.dumps(jsons.loads(text), indent=indent)
    print(text, file=stream, flush=True)


def check_project(folder: Path) -> None:
    """Refuse a folder that holds no project, so that a command in the wrong place leaves nothing there.

    Raises:
        ConfigError: saying what to do.
    """
    place = "this folder" if folder == Path() else str(folder)
    if not folder.exists():
        raise ConfigError(f"{place}: no such folder; 'headwater init {folder}' creates a project there")
    named = folder.name == FILE and folder.is_file()
    if (
        named
        or any((folder / sign).exists() for sign in _SIGNS_OF_A_PROJECT)
        or os.environ.get("HEADWATER_REGISTRY_URL")
    ):
        return
    raise ConfigError(
        f"{place} holds no project (no {FILE}); go to its folder, name it with --project, "
        "or create one with 'headwater init'"
    )


Body = Callable[..., None]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Body], Body]:
    """Register a function as a command whose first argument is the `Run`; --json, --project and --debug are added."""

    def register(body: Body) -> Body:
        hints = get_type_hints(body, include_extras=True)
        _, *own = inspect.signature(body).parameters.values()

        def call(context: typer.Context, **given: Any) -> None:
            before: Run = context.obj if isinstance(context.obj, Run) else Run()
            json, project, debug = (given.pop(option) for option in ("json", "project", "debug"))
            run = Run(before.folder if project is None else project, before.json or json, before.debug or debug)
            try:
                with _warnings_as_lines(shown=not run.json):
                    body(run, **given)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                raise typer.Exit(INTERRUPTED) from None

        parameters = [
            inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
            *(p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own),
            *(
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                for option, default, annotation in (
                    ("json", False, JsonFlag),
                    ("project", None, ProjectPath),
                    ("debug", False, DebugFlag),
                )
            ),
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__doc__ = body.__doc__
        app.command(name or body.__name__)(call)
        return body

    return register


@contextlib.contextmanager
def _warnings_as_lines(*, shown: bool) -> Iterator[None]:
    """Python's warnings as one line each, without their place in the code; none beside JSON."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning if shown else _leave_out
        yield


def _leave_out(message: Warning | str, *place: Any, **more: Any) -> None:
    pass


def _show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    print(f"warning: {printable(str(message))}", file=sys.stderr)
